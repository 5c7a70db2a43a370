"""The gallery's filters: what each leaves, chips, history, counts, and saved searches."""

import datetime as dt

import pytest
from django.utils import timezone

from gallery import grids
from gallery.models import SavedSearch
from gallery.views import searches as search_views
from generation.engine.request.fields import ImageRequest, Picture, Start
from generation.engine.request.options import to_options
from generation.models import GeneratedImage

GALLERY, SEARCHES = "/gallery/", "/gallery/searches/"


def shown(response) -> set[int]:
    return {image.number for day in response.context["days"] for image in day["images"]}


@pytest.fixture
def five(pro_user, make_image):
    """Of each kind one, and a plain one."""
    start = Start(Picture("x", 8, 8, "", lambda: None), strength=0.5)
    plain = {"negative_prompt": "", "guidance_scale": 4.0, "sampler": "Euler", "seed": 1}
    request = ImageRequest(
        model="dreamsketch-tiny", prompt="a boat", width=64, height=64, steps=4, start=start, **plain
    )
    from_picture = {"width": 64, "height": 64, "mode": "img2img", "options": to_options(request)}
    made = {
        "plain": make_image(pro_user),
        "anime": make_image(pro_user, generation_fields={"style": "anime", "model": "sdxl-base"}, favourite=True),
        "wide": make_image(pro_user, visibility="public", generation_fields={"width": 640, "height": 320}),
        "old": make_image(pro_user, generation_fields={"width": 48, "height": 64}),
        "square": make_image(pro_user, generation_fields=from_picture),
    }
    GeneratedImage.objects.filter(pk=made["old"].pk).update(created_at=timezone.now() - dt.timedelta(days=100))
    return made


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"model": "sdxl-base"}, {"anime"}),
        ({"style": "anime"}, {"anime"}),
        ({"style": "none"}, {"plain", "wide", "old", "square"}),
        ({"mode": "img2img"}, {"square"}),
        ({"source": "yes"}, {"square"}),
        ({"source": "no"}, {"plain", "anime", "wide", "old"}),
        ({"shape": "landscape"}, {"plain", "anime", "wide"}),
        ({"shape": "portrait"}, {"old"}),
        ({"shape": "square"}, {"square"}),
        ({"size": "medium"}, {"wide"}),
        ({"visibility": "public"}, {"wide"}),
        ({"favourite": "yes"}, {"anime"}),
        ({"favourite": "no", "shape": "landscape"}, {"plain", "wide"}),
        ({"days": "30"}, {"plain", "anime", "wide", "square"}),
        ({"until": "2026-01-01"}, set()),
        ({"q": "boat", "style": "anime"}, {"anime"}),
        ({"shape": "triangle"}, {"plain", "anime", "wide", "old", "square"}),
    ],
)
def test_each_leaves_what_it_says(anna, five, query, expected):
    page = anna.get(GALLERY, query)
    assert shown(page) == {five[name].number for name in expected}
    assert page.context["count"].number == len(expected)


def test_days_are_whole_and_both_ends_count(anna, five):
    day = (timezone.now() - dt.timedelta(days=100)).date()
    assert shown(anna.get(GALLERY, {"since": day, "until": day})) == {five["old"].number}
    assert shown(anna.get(GALLERY, {"until": day - dt.timedelta(days=1)})) == set()


def test_dated_pages_go_on_by_date(anna, five, monkeypatch):
    monkeypatch.setattr(grids, "PAGE_IMAGES", 2)
    query, walked, cursor = {"until": f"{timezone.now():%Y-%m-%d}"}, [], None
    while cursor != "":
        page = anna.get(GALLERY, query | ({"before": cursor} if cursor else {}))
        walked += [image.number for day in page.context["days"] for image in day["images"]]
        cursor = page.context["page"].older
    assert len(walked) == 5 and walked[-1] == five["old"].number


def test_chips_take_away_one_filter_each(anna, five):
    page = anna.get(GALLERY, {"style": "anime", "shape": "landscape", "q": "boat"})
    without = {chip.name: chip.without for chip in page.context["filters"].chips()}
    assert without == {
        "q": "style=anime&shape=landscape",
        "style": "q=boat&shape=landscape",
        "shape": "q=boat&style=anime",
    }
    assert shown(anna.get(f"{GALLERY}?{without['style']}")) == {
        five[name].number for name in ("plain", "anime", "wide")
    }


def test_a_change_of_filters_is_a_step_of_history_but_a_letter_is_not(anna, five, htmx):
    def answer(query, before):
        headers = htmx | {"HX-Current-URL": f"http://testserver{before}"}
        return anna.get(GALLERY, query, headers=headers)

    assert answer({"shape": "square", "model": ""}, "/gallery/")["HX-Push-Url"] == "/gallery/?shape=square"
    assert answer({"q": "boa"}, "/gallery/?shape=square")["HX-Push-Url"] == "/gallery/?q=boa"
    assert answer({"q": "boat"}, "/gallery/?q=boa")["HX-Replace-Url"] == "/gallery/?q=boat"
    anew = answer({"q": "boat"}, "/gallery/?q=boat&upto=3")
    assert not anew.has_header("HX-Push-Url") and not anew.has_header("HX-Trigger")


def test_more_than_can_be_counted_is_said_truly(anna, pro_user, make_image, monkeypatch):
    monkeypatch.setattr(grids, "MOST_COUNTED", 2)
    for _ in range(3):
        make_image(pro_user)
    page = anna.get(GALLERY, {"q": "boat"})
    assert "More than 2 images" in page.content.decode() and "all images, more than 2" in page.content.decode()
    assert str(anna.get(GALLERY).context["count"]) == "3 images"


def test_a_search_is_saved_renamed_deleted_and_brought_back(anna, five, stranger):
    saved = anna.post(SEARCHES, {"name": " Anime  boats ", "query": "q=boat&style=anime&junk=1"})
    assert saved["Location"] == "/gallery/?q=boat&style=anime"
    search = SavedSearch.objects.get(name="Anime boats")
    assert "Anime boats" in anna.get(GALLERY).content.decode()
    assert stranger.post(f"{SEARCHES}{search.pk}/delete/").status_code == 404
    anna.post(f"{SEARCHES}{search.pk}/rename/", {"name": "Ships"})
    page = anna.post(f"{SEARCHES}{search.pk}/delete/", follow=True).content.decode()
    assert "“Ships” deleted." in page and not SavedSearch.objects.exists()
    anna.post("/gallery/undo/" + page.partition('action="/gallery/undo/')[2].partition('"')[0])
    assert SavedSearch.objects.get().query == "q=boat&style=anime"


@pytest.mark.parametrize(
    "sent", [{"name": "", "query": "q=a"}, {"name": "x" * 61, "query": "q=a"}, {"name": "x", "query": "junk=1"}]
)
def test_a_search_that_cannot_be_saved_says_why(anna, five, sent):
    answer = anna.post(SEARCHES, sent)
    assert answer.status_code == 422 and 'role="alert"' in answer.content.decode()


def test_saved_searches_have_a_limit_and_one_name_each(anna, five, monkeypatch):
    anna.post(SEARCHES, {"name": "a", "query": "q=a"})
    anna.post(SEARCHES, {"name": "b", "query": "q=b"})
    first = SavedSearch.objects.get(name="a")
    page = anna.post(f"{SEARCHES}{first.pk}/rename/", {"name": "b"}, follow=True)
    assert "another search called" in page.content.decode()
    monkeypatch.setattr(search_views, "MOST_SEARCHES", 2)
    assert anna.post(SEARCHES, {"name": "c", "query": "q=c"}).status_code == 422
    assert anna.post(SEARCHES, {"name": "a", "query": "q=new"}).status_code == 302
    assert SavedSearch.objects.get(name="a").query == "q=new"

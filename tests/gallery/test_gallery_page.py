"""The gallery: days, filters, paging, and many images at once."""

import io
import zipfile

import pytest
from django.urls import reverse
from PIL import Image

from gallery import grids
from gallery.views import gallery as views
from generation.models import GeneratedImage

GALLERY, FAVOURITES, TRASH = "/gallery/", "/gallery/favourites/", "/gallery/trash/"
BULK, ZIP = "/gallery/bulk/", "/gallery/zip/"


def shown(response) -> list[int]:
    return [image.number for day in response.context["days"] for image in day["images"]]


@pytest.fixture
def three(pro_user, make_image):
    return [
        make_image(pro_user, generation_fields={"prompt": prompt})
        for prompt in ("a red boat at sea", "a blue bird in the forest", "a red car")
    ]


def test_it_shows_ones_own_images_newest_first(anna, three, other_user, make_image):
    make_image(other_user)
    assert shown(anna.get(GALLERY)) == [image.number for image in reversed(three)]


def test_the_whole_gallery_is_not_counted_to_tell_its_size(anna, three):
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    anna.post(BULK, {"action": "trash", "ids": [three[0].number]})
    counted = {}
    for address, query in ((GALLERY, {}), (GALLERY, {"q": "boat"}), (FAVOURITES, {}), (TRASH, {})):
        with CaptureQueriesContext(connection) as queries:
            page = anna.get(address, query)
        was_counted = any("COUNT(" in query["sql"] and "generatedimage" in query["sql"] for query in queries)
        counted[address, query.get("q")] = (page.context["count"].number, was_counted)
    assert counted == {
        (GALLERY, None): (2, False),
        (GALLERY, "boat"): (0, True),
        (FAVOURITES, None): (0, True),
        (TRASH, None): (1, True),
    }


def test_an_empty_gallery_leads_to_create(anna):
    page = anna.get(GALLERY).content.decode()
    assert "The walls are still bare" in page and reverse("create") in page


def test_images_are_found_by_their_words(anna, three):
    assert shown(anna.get(GALLERY, {"q": "RED"})) == [three[2].number, three[0].number]
    assert shown(anna.get(GALLERY, {"q": "red sea"})) == [three[0].number]
    nothing = anna.get(GALLERY, {"q": "elephant"})
    assert shown(nothing) == [] and "Clear filters" in nothing.content.decode()


def test_images_are_found_by_model(anna, three, pro_user, make_image):
    other = make_image(pro_user, generation_fields={"model": "sdxl-base"})
    assert shown(anna.get(GALLERY, {"model": "sdxl-base"})) == [other.number]


@pytest.mark.parametrize(
    "query",
    [
        {"q": "\x00"},
        {"before": "x"},
        {"before": "9" * 30},
        {"upto": "-1"},
        {"sort": "largest", "before": "99999999999.5"},
        {"days": "7", "before": "999999999999999999.5"},
        {"since": "2026-13-40", "until": "0001-01-01", "days": "x", "sort": "x", "shape": "x", "favourite": "2"},
        {"loads": "²", "more": "1", "after": "٣"},
        {"model": "\x00"},
        {"day": "<b>"},
        {"q": "%_\\'\""},
    ],
)
def test_strange_addresses_are_no_error(anna, three, query):
    assert anna.get(GALLERY, query).status_code == 200


def test_filters_answer_htmx_with_the_results_and_the_count(anna, three, htmx):
    response = anna.get(GALLERY, {"q": "red"}, headers=htmx)
    assert response.content.decode().lstrip().startswith('<div id="results"')
    assert "2 images." in response["HX-Trigger"]


@pytest.fixture
def pages_of_two(monkeypatch):
    monkeypatch.setattr(grids, "PAGE_IMAGES", 2)
    monkeypatch.setattr(grids, "MAX_PAGE_IMAGES", 4)


def test_more_is_loaded_from_where_the_page_ended(anna, pro_user, make_image, pages_of_two, htmx):
    images = [make_image(pro_user) for _ in range(5)]
    numbers = [image.number for image in reversed(images)]
    first = anna.get(GALLERY)
    assert shown(first) == numbers[:2] and first.context["page"].older == str(numbers[1])
    # A picture that arrives meanwhile moves nothing.
    make_image(pro_user)
    second = anna.get(first.context["more_url"], headers=htmx)
    assert shown(second) == numbers[2:4] and "<html" not in second.content.decode()
    assert "<h2" not in second.content.decode(), "the day goes on without a second heading"
    last = anna.get(GALLERY, {"before": numbers[3]})
    assert shown(last) == numbers[4:] and not last.context["page"].older


def test_a_reload_shows_what_was_loaded(anna, pro_user, make_image, pages_of_two, htmx):
    numbers = [make_image(pro_user).number for _ in range(7)][::-1]
    more = anna.get(GALLERY, {"before": numbers[1], "more": 1}, headers=htmx)
    address = more["HX-Replace-Url"]
    assert shown(anna.get(address)) == numbers[:4], "the first page and what was loaded below"
    deep = anna.get(GALLERY, {"upto": numbers[5]})
    assert shown(deep) == numbers[2:6], "of very many the last that were loaded"
    newer = deep.content.decode().partition("after=")[2].partition('"')[0]
    assert shown(anna.get(GALLERY, {"after": newer})) == numbers[:2], "and a way to those before"


@pytest.mark.parametrize("sort", ["", "oldest", "largest", "smallest"])
def test_pages_go_on_in_every_order(anna, pro_user, make_image, pages_of_two, sort):
    sizes = [(64, 48), (128, 96), (64, 48), (96, 96), (64, 64)]
    images = [make_image(pro_user, generation_fields={"width": w, "height": h}) for w, h in sizes]
    newest = [image.number for image in reversed(images)]
    expected = {
        "": newest,
        "oldest": newest[::-1],
        "largest": [images[n].number for n in (1, 3, 4, 2, 0)],
        "smallest": [images[n].number for n in (0, 2, 4, 3, 1)],
    }[sort]
    walked, cursor = [], None
    while cursor != "":
        page = anna.get(GALLERY, {"sort": sort} | ({"before": cursor} if cursor else {}))
        walked += shown(page)
        cursor = page.context["page"].older
    assert walked == expected


def test_deleting_many_can_be_undone(anna, three, pro_user):
    numbers = [image.number for image in three[:2]]
    page = anna.post(BULK, {"action": "trash", "ids": numbers}, follow=True)
    assert shown(page) == [three[2].number]
    assert "2 images moved to trash." in page.content.decode()
    assert set(shown(anna.get(TRASH))) == set(numbers)
    undo = page.content.decode().partition('action="/gallery/undo/')[2].partition('"')[0]
    back = anna.post(f"/gallery/undo/{undo}", follow=True)
    assert len(shown(back)) == 3 and "2 images restored." in back.content.decode()


def test_htmx_is_told_to_show_the_grid_anew_and_offers_undo(anna, three, htmx):
    answer = anna.post(BULK, {"action": "trash", "ids": [three[0].number]}, headers=htmx)
    assert "gallery-refresh" in answer["HX-Trigger"]
    text = answer.content.decode()
    assert 'hx-target="#toasts"' in text and "/gallery/undo/" in text


def test_everything_that_matches_is_changed_at_once(anna, three, pro_user, make_image):
    red = [three[0].number, three[2].number]
    page = anna.post(BULK, {"action": "trash", "scope": "all", "next": "/gallery/?q=red"}, follow=True)
    assert "2 images moved to trash." in page.content.decode()
    assert set(shown(anna.get(TRASH))) == set(red) and shown(anna.get(GALLERY)) == [three[1].number]
    undo = page.content.decode().partition('action="/gallery/undo/')[2].partition('"')[0]
    anna.post(f"/gallery/undo/{undo}")
    assert len(shown(anna.get(GALLERY))) == 3
    anna.post(BULK, {"action": "favourite", "scope": "all", "next": "/gallery/?q=red"})
    assert shown(anna.get(FAVOURITES)) == [three[2].number, three[0].number]


def test_too_many_at_once_are_refused_and_nothing_changes(anna, three, monkeypatch):
    monkeypatch.setattr(views, "MOST_AT_ONCE", 2)
    page = anna.post(BULK, {"action": "trash", "scope": "all", "next": GALLERY}, follow=True)
    assert "more than 2 images" in page.content.decode() and len(shown(page)) == 3


def test_an_undo_brings_back_only_what_it_is_about(anna, three):
    first = anna.post(BULK, {"action": "trash", "ids": [three[0].number]}, follow=True).content.decode()
    anna.post(BULK, {"action": "trash", "ids": [three[1].number]})
    anna.post("/gallery/undo/" + first.partition('action="/gallery/undo/')[2].partition('"')[0])
    assert shown(anna.get(TRASH)) == [three[1].number]


def test_many_are_published_but_what_was_taken_down_stays_private(anna, three):
    from generation.services.images import take_down

    take_down(GeneratedImage.objects.filter(pk=three[0].pk), "no", root="https://example.com")
    page = anna.post(BULK, {"action": "publish", "ids": [image.number for image in three]}, follow=True)
    assert "2 images now public" in page.content.decode() and "1 image stayed private" in page.content.decode()
    assert set(shown(anna.get(GALLERY, {"visibility": "public"}))) == {three[1].number, three[2].number}
    anna.post(BULK, {"action": "unpublish", "ids": [three[1].number]})
    assert shown(anna.get(GALLERY, {"visibility": "public"})) == [three[2].number]


def test_an_undo_is_its_owners_and_ends_after_an_hour(anna, stranger, three, monkeypatch):
    page = anna.post(BULK, {"action": "trash", "ids": [three[0].number]}, follow=True).content.decode()
    undo = "/gallery/undo/" + page.partition('action="/gallery/undo/')[2].partition('"')[0]
    stranger.post(undo)
    assert GeneratedImage.objects.get(pk=three[0].pk).deleted_at
    monkeypatch.setattr(views, "UNDO_SECONDS", -1)
    assert anna.post(undo)["Location"] == TRASH
    assert GeneratedImage.objects.get(pk=three[0].pk).deleted_at
    assert anna.post("/gallery/undo/made-up/").status_code == 404


def test_the_trash_restores(anna, three):
    anna.post(BULK, {"action": "trash", "ids": [three[0].number]})
    anna.post(BULK, {"action": "restore", "ids": [three[0].number], "next": TRASH})
    assert len(shown(anna.get(GALLERY))) == 3 and shown(anna.get(TRASH)) == []


def test_deleting_for_good_asks_once_more_and_takes_the_files(
    anna, three, media_folder, django_capture_on_commit_callbacks
):
    anna.post(BULK, {"action": "trash", "ids": [three[0].number, three[1].number]})
    question = anna.post(BULK, {"action": "delete", "ids": [three[0].number]})
    assert "Delete 1 image for good?" in question.content.decode()
    assert GeneratedImage.objects.filter(pk=three[0].pk).exists()
    with django_capture_on_commit_callbacks(execute=True):
        anna.post(BULK, {"action": "delete", "ids": [three[0].number], "sure": "yes"})
    assert not GeneratedImage.objects.filter(pk=three[0].pk).exists()
    assert not (media_folder / three[0].file).exists() and not (media_folder / three[0].thumbnail).exists()
    assert (media_folder / three[1].file).exists()
    anna.post(BULK, {"action": "empty", "sure": "yes"})
    assert shown(anna.get(TRASH)) == [] and len(shown(anna.get(GALLERY))) == 1


def test_what_is_not_in_the_trash_cannot_be_deleted_for_good(anna, three):
    anna.post(BULK, {"action": "delete", "ids": [three[0].number], "sure": "yes"})
    assert GeneratedImage.objects.filter(pk=three[0].pk, deleted_at=None).exists()


def test_favourites_are_marked_and_shown(anna, three):
    anna.post(BULK, {"action": "favourite", "ids": [three[0].number, three[2].number]})
    assert shown(anna.get(FAVOURITES)) == [three[2].number, three[0].number]
    anna.post(BULK, {"action": "unfavourite", "ids": [three[0].number], "next": FAVOURITES})
    assert shown(anna.get(FAVOURITES)) == [three[2].number]


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning")
def test_a_zip_holds_the_chosen_pictures(anna, three):
    response = anna.post(ZIP, {"ids": [three[0].number, three[1].number]})
    assert response["Content-Disposition"].startswith('attachment; filename="dreamsketch-')
    archive = zipfile.ZipFile(io.BytesIO(b"".join(response)))
    assert archive.testzip() is None and len(archive.namelist()) == 2
    assert Image.open(archive.open(archive.namelist()[0])).size == (64, 48)


def test_a_zip_of_too_many_is_refused_in_words(anna, three, monkeypatch):
    monkeypatch.setattr(views, "ZIP_IMAGES", 2)
    page = anna.post(ZIP, {"scope": "all", "next": GALLERY}, follow=True)
    assert "A zip holds up to 2 images" in page.content.decode()


@pytest.mark.parametrize("action", ["trash", "restore", "delete", "favourite", "publish", "collect:"])
def test_nobody_changes_another_users_images(stranger, three, action):
    for sure in ("", "yes"):
        stranger.post(BULK, {"action": action, "ids": [image.number for image in three], "sure": sure})
    assert GeneratedImage.objects.filter(deleted_at=None, favourite=False).count() == 3
    assert stranger.post(ZIP, {"ids": [three[0].number]}).status_code == 302


@pytest.mark.parametrize(
    "sent",
    [
        {"action": "explode", "ids": [1]},
        {"action": "trash", "ids": ["x"]},
        {"action": "trash", "ids": ["9" * 40]},
        {"action": "trash", "ids": ["1"] * 501},
        {"action": "trash", "scope": "all", "next": "https://example.com/gallery/"},
        {"action": "trash", "scope": "all", "next": "/settings/"},
        {},
    ],
)
def test_malformed_selections_are_400(anna, sent):
    assert anna.post(BULK, sent).status_code == 400


def test_an_empty_selection_is_said(anna, three):
    assert "Select at least one image" in anna.post(BULK, {"action": "trash"}, follow=True).content.decode()
    assert "Select at least one image" in anna.post(ZIP, {}, follow=True).content.decode()

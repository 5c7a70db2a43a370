"""What is made of a finished picture: Vary, Upscale, its menu, Compare; who may, what it costs, what refuses it."""

import datetime as dt
import io
import json
import re

import pytest
from django.contrib.messages import get_messages
from django.urls import reverse
from PIL import Image

from accounts.models import DailyUsage
from generation.models import GeneratedImage, Generation
from generation.storage.uploads import read_picture, store_upload

TOKEN = {"client_token": "one-press"}


def url(name, image):
    return reverse(name, args=[image.short_id])


def png(size=(256, 256), colour=(10, 120, 200)):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def image(pro_user, make_image):
    return make_image(pro_user, generation_fields={"width": 256, "height": 192, "seed": 40})


@pytest.fixture
def newest():
    """The generation made last, beside that of the picture."""
    return lambda: Generation.objects.exclude(status="completed").get()


# --- Vary -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strength", ["subtle", "strong"])
def test_vary_draws_the_same_with_some_other_noise(anna, image, newest, strength):
    answer = anna.post(url("image-vary", image), TOKEN | {"strength": strength})
    made = newest()
    assert answer.status_code == 303 and answer["Location"] == f"/jobs/{made.pk}/"
    for name in ("prompt", "model", "width", "height", "steps", "sampler", "guidance_scale"):
        assert getattr(made, name) == getattr(image.generation, name)
    assert (made.seed, made.num_images, made.visibility) == (40, 1, "private")
    assert 0 < made.options["variation"]["strength"] < 1


def test_strong_changes_more_than_subtle(anna, image):
    for strength in ("subtle", "strong"):
        anna.post(url("image-vary", image), TOKEN | {"strength": strength})
    subtle, strong = Generation.objects.filter(status="queued").order_by("created_at")
    assert subtle.options["variation"]["strength"] < strong.options["variation"]["strength"]


def test_one_press_sent_twice_is_one_job_and_the_next_press_another(anna, image):
    for _ in range(2):
        answer = anna.post(url("image-vary", image), TOKEN | {"strength": "subtle"})
        assert answer.status_code == 303
    assert Generation.objects.filter(status="queued").count() == 1
    anna.post(url("image-vary", image), {"client_token": "next-press", "strength": "subtle"})
    assert Generation.objects.filter(status="queued").count() == 2


def test_a_variation_is_varied_as_a_picture_because_its_noise_is_mixed_already(anna, pro_user, make_image, newest):
    fields = {"width": 256, "height": 192, "options": {"variation": {"seed": 3, "strength": 0.2}}}
    image = make_image(pro_user, generation_fields=fields)
    anna.post(url("image-vary", image), TOKEN | {"strength": "strong"})
    made = newest()
    assert made.mode == "img2img" and "variation" not in made.options
    assert (made.width, made.height) == (256, 192)


def test_a_published_picture_is_varied_without_its_owners_private_pictures(
    stranger, other_user, pro_user, make_image, newest
):
    upload = store_upload(pro_user, png(), param="image")
    picture = {"name": str(upload.pk), "width": 256, "height": 256, "digest": upload.sha256}
    start = {"image": picture, "strength": 0.5, "fit": "stretch", "mask": None, "mask_blur": 4, "fill": "original"}
    start |= {"padding": None, "expand": None}
    fields = {"width": 256, "height": 256, "mode": "img2img", "options": {"start": start}}
    image = make_image(pro_user, visibility="public", generation_fields=fields)
    stranger.post(url("image-vary", image), TOKEN | {"strength": "subtle"})
    made = newest()
    assert made.owner == other_user and made.visibility == "private"
    assert str(upload.pk) not in json.dumps(made.options)


@pytest.mark.parametrize("name, sent", [("image-vary", {"strength": "subtle"}), ("image-upscale", {"factor": "2"})])
def test_private_and_deleted_pictures_are_404(anna, stranger, client, image, name, sent):
    assert stranger.post(url(name, image), sent).status_code == 404
    assert client.post(url(name, image), sent).status_code == 302, "to the sign-in page"
    anna.post(url("image-trash", image))
    assert anna.post(url(name, image), sent).status_code == 404
    assert not Generation.objects.filter(status="queued").exists()


@pytest.mark.parametrize(
    "name, sent",
    [
        ("image-vary", {"strength": "huge"}),
        ("image-vary", {}),
        ("image-upscale", {"factor": "3"}),
        ("image-upscale", {"factor": "²"}),
        ("image-upscale", {"factor": "2", "client_token": "\x00" * 100_0}),
        ("image-vary", {"strength": "subtle", "client_token": "x" * 5000, "look": "<b>", "next": "//evil.example"}),
    ],
)
def test_whatever_is_sent_never_breaks_it(anna, image, name, sent):
    assert anna.post(url(name, image), sent).status_code in (303, 400)


# --- Upscale --------------------------------------------------------------------------------------------


def test_upscale_enlarges_and_keeps_the_words(anna, image, newest):
    answer = anna.post(url("image-upscale", image), TOKEN | {"factor": "4"})
    made = newest()
    assert answer.status_code == 303
    assert (made.mode, made.width, made.height) == ("upscale", 1024, 768)
    assert made.prompt == image.generation.prompt and made.visibility == "private"


def test_upscale_is_offered_as_far_as_it_goes(anna, image):
    page = anna.get(url("image", image)).content.decode()
    assert 'name="factor" value="2"' in " ".join(page.split()) and 'value="4"' in page
    GeneratedImage.objects.filter(pk=image.pk).update(width=2048, height=1536)
    page = " ".join(anna.get(url("image", image)).content.decode().split())
    assert 'name="factor" value="2"' in page and 'name="factor" value="4"' not in page
    GeneratedImage.objects.filter(pk=image.pk).update(width=4096, height=3072)
    assert url("image-upscale", image) not in anna.get(url("image", image)).content.decode()


def test_an_enlarged_picture_has_words_everywhere_without_a_prompt(anna, pro_user, make_image):
    upload = store_upload(pro_user, png(), param="image")
    picture = {"name": str(upload.pk), "width": 256, "height": 256, "digest": upload.sha256}
    fields = {
        "prompt": "",
        "composed_prompt": "",
        "mode": "upscale",
        "width": 512,
        "height": 512,
        "steps": 1,
        "options": {"upscale": {"image": picture, "factor": 2, "upscaler": "lanczos"}},
    }
    image = make_image(pro_user, generation_fields=fields)
    page = anna.get(url("image", image)).content.decode()
    assert "Enlarged 2×" in page and "2× by lanczos" in page
    heading = re.search(r"<h1[^>]*>(.*?)</h1>", page, re.S)[1]
    assert heading.strip() == "Enlarged picture"
    for path in (url("image", image), "/gallery/", f"/jobs/{image.generation_id}/", "/create/"):
        text = anna.get(path).content.decode()
        alts = re.findall(r'<img[^>]*alt="([^"]*)"', text, re.S)
        assert alts and all(alt.removeprefix("AI-generated image:").strip() for alt in alts), path
    assert url("image-vary", image) not in page, "there are no words to vary it by"


# --- what the buttons answer ------------------------------------------------------------------------------


def test_with_htmx_the_buttons_come_back_with_a_new_token_beside_the_job(anna, image, newest, htmx):
    answer = anna.post(url("image-vary", image), TOKEN | {"strength": "subtle", "look": "full"}, headers=htmx)
    text = answer.content.decode()
    made = newest()
    assert answer.status_code == 200 and url("image-vary", image) in text and "one-press" not in text
    assert 'hx-target="#jobs"' in text and f'id="job-{made.pk}"' in text
    assert "See the job" in text, "a message, for pages that have no place for jobs"
    assert json.loads(answer["HX-Trigger"])["announce"]["text"].startswith("Queued.")


@pytest.mark.parametrize("name, sent", [("image-vary", {"strength": "subtle"}), ("image-upscale", {"factor": "2"})])
def test_a_refusal_is_said_where_the_click_was(anna, pro_user, image, htmx, name, sent):
    today = dt.datetime.now(dt.UTC).date()
    DailyUsage.objects.create(user=pro_user, day=today, used=10_000)
    answer = anna.post(url(name, image), sent, headers=htmx)
    assert answer.status_code == 429 and int(answer["Retry-After"]) > 0
    alert = re.search(r'role="alert">(.*?)</p>', answer.content.decode(), re.S)[1]
    assert "left today" in alert or "today" in alert
    plain = anna.post(url(name, image), sent | {"next": url("image", image)})
    assert plain.status_code == 303 and plain["Location"] == url("image", image)
    assert "today" in str(list(get_messages(plain.wsgi_request))[0])
    assert not Generation.objects.filter(status="queued").exists()


def test_the_menu_has_the_actions_and_is_the_owners(anna, stranger, image, htmx):
    text = anna.get(url("image-menu", image), headers=htmx).content.decode()
    for name in ("image-vary", "image-upscale", "image-trash", "image-favourite", "image-download"):
        assert url(name, image) in text, name
    assert f"/create/?from={image.short_id}" in text
    assert f"/create/?image={image.short_id}&amp;role=start" in text
    assert stranger.get(url("image-menu", image), headers=htmx).status_code == 404
    plain = anna.get(url("image-menu", image))
    assert plain.status_code == 302 and plain["Location"] == url("image", image) + "#actions"


def test_strangers_are_not_offered_what_is_the_owners(stranger, client, image):
    GeneratedImage.objects.filter(pk=image.pk).update(visibility="public")
    text = stranger.get(url("image", image)).content.decode()
    assert url("image-vary", image) in text and url("image-compare", image) not in text
    text = client.get(url("image", image)).content.decode()
    for name in ("image-vary", "image-upscale", "image-menu"):
        assert url(name, image) not in text, "who is not signed in cannot draw"


def test_a_finished_job_keeps_its_pictures_and_their_actions_on_create(anna, image):
    page = anna.get("/create/").content.decode()
    assert f'id="job-{image.generation_id}"' in page
    assert url("image-vary", image) in page and url("image-menu", image) in page
    assert page.count(f'data-view="{image.short_id}"') == 1, "each picture once"
    anna.post(url("image-trash", image))
    assert f'id="job-{image.generation_id}"' not in anna.get("/create/").content.decode()


# --- trash ------------------------------------------------------------------------------------------------


def test_deleting_leads_to_the_neighbour_and_undo_back(anna, pro_user, make_image):
    oldest, middle, newest = (make_image(pro_user) for _ in range(3))
    assert anna.post(url("image-trash", middle))["Location"] == url("image", oldest)
    page = anna.get(url("image", oldest)).content.decode()
    undo = "/gallery/undo/" + page.partition('action="/gallery/undo/')[2].partition('"')[0]
    back = anna.post(undo, headers={"Referer": f"http://testserver{url('image', oldest)}"})
    assert back["Location"] == url("image", middle)
    assert anna.post(url("image-trash", oldest))["Location"] == url("image", middle), "the newer one, at the end"


def test_in_a_grid_only_the_card_goes(anna, image, htmx):
    answer = anna.post(url("image-trash", image), {"stay": "1"}, headers=htmx)
    text = answer.content.decode()
    assert f'hx-target="#image-{image.short_id}" hx-swap="delete"' in text and "Undo" in text
    assert json.loads(answer["HX-Trigger"])["announce"]["text"] == "Moved to trash. Undo available."
    undo = "/gallery/undo/" + text.partition('action="/gallery/undo/')[2].partition('"')[0]
    restored = anna.post(undo, {"stay": "1"}, headers=htmx)
    assert restored.status_code == 200 and "1 image restored." in restored.content.decode()


# --- Compare ----------------------------------------------------------------------------------------------


@pytest.fixture
def drawn_over(pro_user, make_image, image):
    """A picture made from `image`."""
    upload = read_picture(pro_user, str(image.id), "image")
    picture = {"name": str(upload.pk), "width": upload.width, "height": upload.height, "digest": upload.sha256}
    start = {"image": picture, "strength": 0.5, "fit": "stretch", "mask": None, "mask_blur": 4, "fill": "original"}
    start |= {"padding": None, "expand": {"left": 64, "right": 0, "top": 0, "bottom": 0}}
    fields = {"width": 320, "height": 192, "mode": "outpaint", "options": {"start": start}}
    return make_image(pro_user, generation_fields=fields)


def test_a_picture_is_compared_with_its_source(anna, stranger, drawn_over):
    page = anna.get(url("image-compare", drawn_over)).content.decode()
    assert "<ds-compare" in page and url("image-source", drawn_over) in page
    assert "--left: 20.0%;" in page and "--across: 80.0%;" in page
    source = anna.get(url("image-source", drawn_over))
    assert source["Content-Type"] == "image/png" and source["Cache-Control"] == "private, no-cache"
    assert Image.open(io.BytesIO(source.content)).size == (256, 192)
    assert anna.get(url("image-source", drawn_over), headers={"If-None-Match": source["ETag"]}).status_code == 304
    GeneratedImage.objects.filter(pk=drawn_over.pk).update(visibility="public")
    assert stranger.get(url("image-source", drawn_over)).status_code == 404, "uploads are private for ever"


def test_a_picture_is_compared_with_another(anna, stranger, other_user, make_image, image, drawn_over):
    page = anna.get(url("image-compare", image) + f"?with={drawn_over.short_id}").content.decode()
    assert reverse("image-file", args=[drawn_over.id]) in page
    theirs = make_image(other_user)
    assert anna.get(url("image-compare", image) + f"?with={theirs.short_id}").status_code == 404
    assert anna.get(url("image-compare", image) + "?with=%00").status_code == 200
    assert stranger.get(url("image-compare", image)).status_code == 404


def test_compare_is_offered_where_there_is_something_to_compare(anna, pro_user, make_image, image):
    assert url("image-compare", image) not in anna.get(url("image", image)).content.decode()
    assert "nothing to compare" in anna.get(url("image-compare", image)).content.decode()
    make_image(pro_user)
    assert url("image-compare", image) in anna.get(url("image", image)).content.decode()


# --- what the viewer asks for -------------------------------------------------------------------------------


def test_the_viewer_gets_the_details_and_the_neighbours(anna, pro_user, make_image, image, htmx):
    newer = make_image(pro_user)
    text = anna.get(url("image", image), headers=htmx).content.decode()
    assert "<html" not in text and "<h1" not in text and "<h2" in text
    assert f'data-view="{newer.short_id}"' in text and 'data-neighbour="newer"' in text


def test_times_are_written_in_utc_and_marked_for_the_readers_own(anna, image):
    moment = dt.datetime(2026, 3, 1, 23, 30, tzinfo=dt.UTC)
    GeneratedImage.objects.filter(pk=image.pk).update(created_at=moment)
    page = anna.get(url("image", image)).content.decode()
    time = re.search(r'<time datetime="2026-03-01T23:30:00\+00:00" data-moment="datetime">(.*?)</time>', page)
    assert time[1] == "1 March 2026, 23:30 UTC"

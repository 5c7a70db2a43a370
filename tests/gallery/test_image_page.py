"""An image's page: what it shows to whom, and what its owner may do."""

import io

import pytest
from django.urls import reverse
from PIL import Image

from generation.models import GeneratedImage


def url(name, image):
    return reverse(name, args=[image.short_id])


@pytest.fixture
def image(pro_user, make_image):
    return make_image(pro_user, generation_fields={"prompt": "a red boat at sea", "negative_prompt": "fog"})


def test_the_owner_sees_the_picture_and_how_it_was_made(anna, image):
    page = anna.get(url("image", image)).content.decode()
    for text in (
        "a red boat at sea",
        "fog",
        "DreamSketch Tiny",
        "64 × 48",
        "Euler",
        "AI-generated",
        "Delete",
        f"/create/?from={image.short_id}",
        reverse("image-file", args=[image.id]),
    ):
        assert text in page, text


def test_a_private_image_is_404_for_others(client, stranger, image):
    for visitor in (client, stranger):
        for name in ("image", "image-download"):
            assert visitor.get(url(name, image)).status_code == 404
        assert visitor.get(reverse("image-file", args=[image.id])).status_code == 404


@pytest.mark.parametrize("visibility", ["unlisted", "public"])
def test_a_published_image_is_shown_without_the_owners_actions(client, stranger, anna, image, visibility):
    anna.post(url("image-visibility", image), {"visibility": visibility})
    for visitor in (client, stranger):
        page = visitor.get(url("image", image))
        assert page.status_code == 200
        for owners in ("image-trash", "image-visibility", "image-favourite"):
            assert url(owners, image) not in page.content.decode()
    anna.post(url("image-trash", image))
    assert client.get(url("image", image)).status_code == 404


@pytest.mark.parametrize(
    "name", ["image-favourite", "image-visibility", "image-trash", "image-restore", "image-delete"]
)
def test_only_the_owner_changes_it(client, stranger, anna, image, name):
    anna.post(url("image-visibility", image), {"visibility": "public"})
    sent = {"favourite": "1", "visibility": "private", "sure": "yes"}
    assert stranger.post(url(name, image), sent).status_code == 404
    assert client.post(url(name, image), sent).status_code == 302
    image.refresh_from_db()
    assert (image.favourite, image.visibility, image.deleted_at) == (False, "public", None)


def test_the_download_is_the_png_with_a_friendly_name(anna, image):
    response = anna.get(url("image-download", image))
    assert response["Content-Type"] == "image/png"
    assert response["Content-Disposition"] == f'attachment; filename="a-red-boat-at-sea-{image.number}.png"'
    png = Image.open(io.BytesIO(response.content))
    assert png.size == (64, 48) and "a red boat at sea" in png.text["parameters"]


def test_deleting_leads_to_the_gallery_with_an_undo(anna, image):
    page = anna.post(url("image-trash", image), follow=True)
    assert page.redirect_chain[-1][0] == "/gallery/"
    undo = "/gallery/undo/" + page.content.decode().partition('action="/gallery/undo/')[2].partition('"')[0]
    assert GeneratedImage.objects.get(pk=image.pk).deleted_at
    anna.post(undo)
    assert GeneratedImage.objects.get(pk=image.pk).deleted_at is None


def test_in_the_trash_it_is_restored_or_deleted_for_good(anna, image, media_folder, django_capture_on_commit_callbacks):
    refused = anna.post(url("image-delete", image), {"sure": "yes"}, follow=True)
    assert refused.context["image"] == image, "not from outside the trash"
    anna.post(url("image-trash", image))
    assert "In the trash" in anna.get(url("image", image)).content.decode()
    anna.post(url("image-restore", image))
    assert GeneratedImage.objects.get(pk=image.pk).deleted_at is None
    anna.post(url("image-trash", image))
    assert "Delete 1 image for good?" in anna.get(url("image-delete", image)).content.decode()
    assert "Delete 1 image for good?" in anna.post(url("image-delete", image)).content.decode()
    with django_capture_on_commit_callbacks(execute=True):
        anna.post(url("image-delete", image), {"sure": "yes"})
    assert not GeneratedImage.objects.filter(pk=image.pk).exists() and not (media_folder / image.file).exists()


def test_the_favourite_button_answers_with_itself(anna, image, htmx):
    on = anna.post(url("image-favourite", image), {"favourite": "1"}, headers=htmx).content.decode()
    assert 'aria-pressed="true"' in on and 'name="favourite" value="0"' in on
    again = anna.post(url("image-favourite", image), {"favourite": "1"}, headers=htmx).content.decode()
    assert 'aria-pressed="true"' in again, "pressing twice at once does not turn it off"


def test_an_unknown_visibility_is_refused(anna, image, htmx):
    assert anna.post(url("image-visibility", image), {"visibility": "all"}, headers=htmx).status_code == 422
    image.refresh_from_db()
    assert image.visibility == "private"


def test_neighbours_and_old_addresses_lead_on(anna, stranger, pro_user, make_image, image):
    newer = make_image(pro_user)
    page = anna.get(url("image", image))
    assert page.context["newer"] == newer and page.context["older"] is None
    assert anna.get(f"/images/{image.id}")["Location"] == url("image", image)
    assert stranger.get(f"/images/{image.id}").status_code == 404
    assert anna.get("/images")["Location"] == "/gallery/"

"""The edit page of one's own image: what it sends, what it refuses, and the chain of versions that comes of it."""

import io

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse
from PIL import Image, ImageDraw

from gallery.chain import earlier_versions
from generation.models import GeneratedImage, Generation, Upload
from generation.services.generations import retry_generation
from generation.services.images import delete_images
from generation.storage.image_requests import load_upload

LARGE = {"width": 256, "height": 192}
BOX = (64, 48, 128, 96)


def mask_file(box=BOX, size=(256, 192)):
    mask = Image.new("L", size, 0)
    if box:
        ImageDraw.Draw(mask).rectangle(box, fill=255)
    stream = io.BytesIO()
    mask.save(stream, "PNG")
    return SimpleUploadedFile("mask.png", stream.getvalue(), "image/png")


@pytest.fixture
def picture(make_image, pro_user):
    return make_image(pro_user, generation_fields=LARGE)


@pytest.fixture
def address(picture):
    return reverse("image-edit", args=[picture.short_id])


def fields(**more):
    return {"prompt": "a tree instead", "model": "dreamsketch-tiny", "num_images": "1"} | more


def only_edit(user):
    return Generation.objects.get(owner=user, parent__isnull=False)


def test_the_page_has_a_control_for_everything_that_an_edit_takes(anna, address):
    page = anna.get(address).content.decode()
    names = (
        "prompt negative_prompt strength model num_images mask mask_blur fill padding area left right top bottom seed"
    )
    for name in names.split():
        assert f'name="{name}"' in page, name
    assert "a red boat at sea" in page, "it starts with the words of the image"
    assert "uses 1 of" in page


def test_it_belongs_to_the_owner(anna, stranger, client, picture, address):
    picture.visibility = "public"
    picture.save()
    assert stranger.get(address).status_code == 404
    assert stranger.post(address, fields(left="64")).status_code == 404
    assert client.get(address)["Location"].startswith(reverse("account_login"))
    for name in ("image-edit-cost", "image-edit-outcome"):
        assert stranger.get(reverse(name, args=[picture.short_id])).status_code == 404
    assert stranger.post(reverse("image-edit-discard", args=[picture.short_id])).status_code == 404
    assert not Generation.objects.filter(parent=picture.id).exists()


def test_an_image_in_the_trash_is_restored_first(anna, picture, address):
    anna.post(reverse("image-trash", args=[picture.short_id]))
    response = anna.get(address, follow=True)
    assert response.redirect_chain == [(reverse("image", args=[picture.short_id]), 302)]
    assert "Restore it to edit it" in response.content.decode()


def test_a_mask_file_makes_an_inpainting_job_that_knows_its_parent(anna, pro_user, picture, address):
    response = anna.post(
        address,
        fields(
            mask=mask_file(),
            negative_prompt="fog",
            strength="0.6",
            mask_blur="8",
            fill="noise",
            area="part",
            padding="40",
            num_images="2",
            seed="5",
        ),
    )
    job = only_edit(pro_user)
    assert response["Location"] == reverse("job", args=[job.pk])
    assert (job.mode, job.parent_id, job.source, job.num_images, job.seed) == ("inpaint", picture.id, "page", 2, 5)
    start = job.options["start"]
    assert (start["strength"], start["mask_blur"], start["fill"], start["padding"]) == (0.6, 8, "noise", 40)
    assert (job.width, job.height) == (256, 192), "the size of the picture"
    mask = load_upload(start["mask"]["name"])
    assert mask.getbbox() == (64, 48, 129, 97), "what was white in the file is white in the request"


def test_left_to_itself_the_whole_picture_is_drawn(anna, pro_user, address):
    anna.post(address, fields(mask=mask_file(), area="whole", padding="40"))
    assert only_edit(pro_user).options["start"]["padding"] is None
    assert only_edit(pro_user).options["start"]["strength"] == 0.75


def test_numbers_extend_the_picture(anna, pro_user, address):
    anna.post(address, fields(left="64", bottom="32", top="0", right=""))
    job = only_edit(pro_user)
    assert job.mode == "outpaint" and job.options["start"]["strength"] == 1.0
    assert job.options["start"]["expand"] == {"left": 64, "right": 0, "top": 0, "bottom": 32}
    assert job.width / job.height == pytest.approx(320 / 224, rel=0.05)


def test_the_style_of_the_image_is_kept_if_wanted(anna, pro_user, make_image):
    image = make_image(pro_user, generation_fields=LARGE | {"style": "watercolour"})
    address = reverse("image-edit", args=[image.short_id])
    assert "Keep the style: Watercolour" in anna.get(address).content.decode()
    anna.post(address, fields(left="64", keep_style="on"))
    anna.post(address, fields(left="64"))
    assert {job.style for job in Generation.objects.filter(parent=image.id)} == {"watercolour", ""}


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({}, "Paint over what shall change"),
        ({"left": "2000"}, "1024"),
        ({"left": "-8"}, "between 0 and 1024"),
        ({"left": "64", "prompt": ""}, "Describe your image"),
        ({"left": "64", "strength": "3"}, "between 0 and 1"),
        ({"left": "64", "num_images": "9"}, "between 1 and 4"),
        ({"left": "64", "model": "no-such-model"}, "no-such-model"),
        ({"left": "64", "area": "nothing"}, "valid choice"),
        ({"left": "many"}, "whole number"),
    ],
)
def test_what_is_wrong_is_said_at_its_field_and_what_was_typed_stays(anna, address, wrong, message):
    response = anna.post(address, fields() | wrong)
    page = response.content.decode()
    assert response.status_code == 422 and message in page
    assert wrong.get("prompt", "a tree instead") in page
    assert not Generation.objects.filter(parent__isnull=False).exists()


def test_a_mask_that_changes_nothing_is_refused_and_not_kept(anna, address):
    response = anna.post(address, fields(mask=mask_file(box=None)))
    assert response.status_code == 422 and "black everywhere" in response.content.decode()
    assert not Upload.objects.exists()


def test_a_file_that_is_no_picture_is_refused(anna, address):
    response = anna.post(address, fields(mask=SimpleUploadedFile("mask.png", b"no picture at all" * 9, "image/png")))
    assert response.status_code == 422 and "not a picture" in response.content.decode()


def test_without_images_left_it_says_when_there_are_more(page_client, free_user, make_image, htmx):
    image = make_image(free_user, generation_fields=LARGE)
    browser, address = page_client(free_user), reverse("image-edit", args=[image.short_id])
    for _ in range(2):
        browser.post(address, fields(left="64", num_images="4"))
        Generation.objects.filter(parent=image.id).update(status="completed")
    response = browser.post(address, fields(left="64", num_images="4"), headers=htmx)
    page = response.content.decode()
    assert response.status_code == 429 and "Your mask and words are kept" in page
    assert 'id="edit-fields"' in page and "<canvas" not in page, "the canvas stays as it is"


def test_htmx_gets_the_panel_and_an_address_that_survives_a_reload(anna, pro_user, picture, address, htmx):
    response = anna.post(address, fields(mask=mask_file(), client_token="one"), headers=htmx)
    job = only_edit(pro_user)
    text = response.content.decode()
    assert f'id="job-{job.pk}"' in text and "<html" not in text and 'value="one"' not in text
    assert response["HX-Replace-Url"] == f"{address}?job={job.pk}"
    assert f'id="job-{job.pk}"' in anna.get(response["HX-Replace-Url"]).content.decode()
    assert f'id="job-{job.pk}"' in anna.get(address).content.decode(), "what is at work is shown in any case"


def test_the_same_form_sent_twice_is_one_job(anna, pro_user, address):
    for _ in range(2):
        anna.post(address, fields(mask=mask_file(), client_token="one"))
    assert only_edit(pro_user)
    anna.post(address, fields(mask=mask_file(), client_token="one", prompt="another tree"))
    assert Generation.objects.filter(parent__isnull=False).count() == 2


def test_the_cost_follows_what_stands_in_the_form(anna, picture, htmx):
    address = reverse("image-edit-cost", args=[picture.short_id])
    line = anna.get(address, {"num_images": "3", "left": "128", "strength": ""}, headers=htmx).content.decode()
    assert "uses 3 of" in line and "384 × 192" in line and "smaller" not in line
    line = anna.get(address, {"left": "256", "model": "dreamsketch-tiny"}, headers=htmx).content.decode()
    assert "draws at most 384 pixels" in line
    assert anna.get(address, {"left": "x", "strength": "y", "num_images": ""}).status_code == 200


# --- versions ---


@pytest.fixture
def version(make_image, pro_user):
    """A finished image that was made from another."""

    def make(parent, **more):
        start = {"name": "x", "width": 256, "height": 192, "digest": ""}
        options = {"start": {"image": start, "expand": {"left": 64, "right": 0, "top": 0, "bottom": 0}}}
        image = make_image(pro_user, generation_fields=LARGE, **more)
        Generation.objects.filter(pk=image.generation_id).update(parent=parent.id, options=options)
        image.generation.refresh_from_db()
        return image

    return make


def test_the_result_stands_beside_the_original_in_its_place(anna, picture, version, address):
    result = version(picture)
    page = anna.get(address, {"job": result.generation_id}).content.decode()
    assert "<ds-compare" in page and str(result.id) in page
    assert "--left: 20.0%; --top: 0.0%; --across: 80.0%; --down: 100.0%" in page
    assert reverse("image-edit", args=[result.short_id]) in page, "to go on with it"


def test_the_chain_leads_back_to_every_step(anna, pro_user, picture, version):
    first = version(picture)
    second, third = version(first), version(first)
    assert earlier_versions(pro_user, second) == [picture, first]
    page = anna.get(reverse("image-edit", args=[first.short_id])).content.decode()
    for step in (picture, second, third):
        assert reverse("image-edit", args=[step.short_id]) in page
    assert page.count("Back to here") == 1
    anna.post(reverse("image-trash", args=[first.short_id]))
    assert earlier_versions(pro_user, second) == [picture], "what is in the trash is passed over"


def test_discarding_moves_to_the_trash_and_can_be_undone(anna, picture, version, htmx):
    result = version(picture)
    address = reverse("image-edit-discard", args=[result.short_id])
    text = anna.post(address, headers=htmx).content.decode()
    assert "in the trash" in text and "Undo" in text
    assert GeneratedImage.objects.trashed().get() == result
    text = anna.post(address, {"back": "1"}, headers=htmx).content.decode()
    assert "<ds-compare" in text and not GeneratedImage.objects.trashed().exists()
    response = anna.post(address)
    assert response["Location"].startswith(reverse("image-edit", args=[picture.short_id]))
    assert "in the trash" in anna.get(response["Location"]).content.decode()


def test_a_failure_says_what_to_do_next(anna, pro_user, picture, address, make_generation):
    job = make_generation(
        pro_user, parent=picture, status="failed", error_code="engine_error", error_message="The engine stopped."
    )
    page = anna.get(address, {"job": job.pk}).content.decode()
    assert "The engine stopped." in page and "Your mask and words are still here" in page


def test_the_job_of_somebody_else_is_none(anna, other_user, picture, address, make_generation):
    job = make_generation(other_user, parent=picture, status="failed", error_message="Not yours.")
    for value in (job.pk, "no-id", ""):
        response = anna.get(address, {"job": value})
        assert response.status_code == 200 and "Not yours." not in response.content.decode()


# --- the parent, by whichever door ---


def test_a_program_that_names_its_own_image_is_told_the_parent(api_client, pro_user, other_user, picture):
    program = api_client(pro_user)
    body = {"prompt": "a red boat", "model": "dreamsketch-tiny", "image": str(picture.id)}
    job = program.post("/api/generate", body, content_type="application/json").json()
    assert program.get(f"/api/status/{job['id']}").json()["parent"] == str(picture.id)
    upscale = {"model": "dreamsketch-tiny", "upscale": 2, "image": str(picture.id)}
    job = program.post("/api/generate", upscale, content_type="application/json").json()
    assert Generation.objects.get(pk=job["id"]).parent_id == picture.id
    plain = program.post("/api/generate", {"prompt": "a red boat"}, content_type="application/json").json()
    assert program.get(f"/api/status/{plain['id']}").json()["parent"] is None


def test_somebody_elses_image_is_no_parent(api_client, other_user, picture):
    picture.visibility = "public"
    picture.save()
    body = {"prompt": "a red boat", "model": "dreamsketch-tiny", "image": str(picture.id)}
    job = api_client(other_user).post("/api/generate", body, content_type="application/json").json()
    assert Generation.objects.get(pk=job["id"]).parent_id is None


def test_only_the_owner_learns_the_parent_of_an_image(api_client, pro_user, other_user, picture, version):
    result = version(picture, visibility="public")
    path = f"/api/images/{result.id}"
    assert api_client(pro_user).get(path).json()["parent"] == str(picture.id)
    assert api_client(other_user).get(path).json()["parent"] is None


def test_a_retry_has_the_same_parent(pro_user, picture, make_generation):
    failed = make_generation(pro_user, parent=picture, status="failed", **LARGE)
    assert retry_generation(failed, source="page").parent == picture


def test_an_edit_outlives_its_parent(anna, pro_user, picture, version):
    result = version(picture)
    delete_images(pro_user, [picture])
    result.generation.refresh_from_db()
    assert result.generation.parent_id is None and result.generation.status == "completed"
    assert anna.get(reverse("image-edit", args=[result.short_id])).status_code == 200


def test_an_own_image_may_be_larger_than_what_is_taken_from_outside(anna, pro_user, address, settings):
    settings.MAX_IMAGE_FILE_SIZE = 100
    assert anna.post(address, fields(left="64")).status_code == 302
    response = anna.post(address, fields(mask=mask_file()))
    assert response.status_code == 422 and "too large" in response.content.decode()

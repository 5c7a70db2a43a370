"""The composer: what a model can do has its controls, everything wrong is said at once, and pictures have roles."""

import io
import re

import pytest
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse
from django.utils import timezone
from PIL import Image

from gallery.composer_fields import COMPOSER_FIELDS, form_values, request_body
from generation.engine.request.schema import Kind
from generation.fields import FIELDS
from generation.models import Generation, Upload
from tests.installed import install

pytestmark = pytest.mark.django_db
CREATE = "/create/"
GOOD = {"prompt": "a red boat at sea", "model": "dreamsketch-tiny", "shape": "1:1", "num_images": "1"}
TINY, LIGHTNING, FLUX = "dreamsketch-tiny", "sdxl-lightning", "flux-schnell"


@pytest.fixture
def models_dir(settings, tmp_path):
    settings.MODELS_DIR = install(tmp_path / "models")
    return settings.MODELS_DIR


def png(colour=(200, 60, 40), size=(96, 64)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def file(colour=(200, 60, 40)) -> SimpleUploadedFile:
    return SimpleUploadedFile("picture.png", png(colour), "image/png")


def options_of(page: str, select: str) -> list[str]:
    found = re.search(rf'<select[^>]*name="{re.escape(select)}".*?</select>', page, re.S)
    return re.findall(r'<option\s+value="([^"]*)"', found[0]) if found else []


def test_every_field_of_a_request_has_a_control_or_a_place():
    apart = {"prompt", "style", "aspect_ratio", "loras"}
    plain = {name for name, field in FIELDS.items() if field.kind not in (Kind.OBJECT, Kind.PICTURE)}
    assert plain - apart <= COMPOSER_FIELDS.keys()
    inner = {"control.scale", "reference.scale", "upscale.factor", "hires_fix.scale", "variation.seed", "expand.left"}
    assert inner <= COMPOSER_FIELDS.keys()


def test_a_request_and_the_form_say_the_same():
    body = {
        "prompt": "a boat",
        "image": "id-1",
        "mask": "id-2",
        "strength": 0.5,
        "padding": 8,
        "hires_fix": {"scale": 1.5},
        "control": {"key": "canny", "image": "id-3", "preprocess": False},
        "loras": [{"key": "ink-wash", "weight": 0.7}],
    }
    assert request_body(form_values(body)) == body


def test_everything_is_drawn_as_it_was_chosen(anna, pro_user, models_dir):
    sent = GOOD | {
        "hires_fix": "on",
        "hires_fix.scale": "1.5",
        "variation": "on",
        "variation.seed": "3",
        "variation.strength": "0.2",
        "tiling": "on",
        "clip_skip": "1",
        "guidance_rescale": "0.3",
        "lora": ["ink-wash"],
        "lora_weight.ink-wash": "0.7",
        "lora_weight.soft-light": "0.5",
    }
    assert anna.post(CREATE, sent).status_code == 302
    job = Generation.objects.get(owner=pro_user)
    assert job.options["hires"]["scale"] == 1.5
    assert job.options["variation"] == {"seed": 3, "strength": 0.2}
    assert job.options["loras"] == [{"key": "ink-wash", "weight": 0.7}]
    assert (job.options["tiling"], job.options["clip_skip"], job.options["guidance_rescale"]) == (True, 1, 0.3)


def test_everything_that_is_wrong_is_said_at_once(anna, pro_user):
    sent = GOOD | {
        "prompt": "",
        "steps": "lots",
        "guidance_scale": "99",
        "seed": "-2",
        "clip_skip": "50",
        "hires_fix": "on",
        "hires_fix.scale": "9",
        "variation": "on",
        "variation.strength": "7",
    }
    response = anna.post(CREATE, sent)
    assert response.status_code == 422
    wrong = {"prompt", "steps", "guidance_scale", "seed", "clip_skip", "hires_fix.scale", "variation"}
    assert set(response.context["form"].errors) == wrong
    page = response.content.decode()
    for name in ("prompt", "steps", "guidance", "seed", "clip_skip", "hires_fix-scale", "variation"):
        assert f'<a href="#{name}">' in page and f'id="{name}"' in page, name
    assert not Generation.objects.filter(owner=pro_user).exists()


def test_a_model_offers_its_own_samplers_only(anna):
    page = anna.get(CREATE, {"model": LIGHTNING}).content.decode()
    assert options_of(page, "sampler") == ["Euler"]
    assert len(options_of(anna.get(CREATE).content.decode(), "sampler")) > 5


def test_models_that_are_not_here_are_last_and_say_what_they_cost(anna):
    page = anna.get(CREATE).content.decode()
    assert options_of(page, "model")[0] == TINY
    assert re.search(r"SDXL Base \(7 GB download\)", page)


def test_another_model_keeps_what_fits_and_says_what_does_not(anna, models_dir, htmx):
    sent = GOOD | {
        "for_model": TINY,
        "model": LIGHTNING,
        "steps": "50",
        "guidance_scale": "7",
        "sampler": "DDIM",
        "seed": "11",
        "tiling": "on",
        "lora": ["ink-wash"],
    }
    text = anna.get(reverse("create-controls"), sent, headers=htmx).content.decode()
    for said in ("“Detail passes” is now 4 instead of 50", "“Sampler” is now Euler", "do not fit", "ink-wash"):
        assert said in text, said
    assert options_of(text, "sampler") == ["Euler"] and 'value="11"' in text
    assert re.search(r'id="tiling"[^>]*checked', text)
    assert 'hx-target="#cost"' in text and "1024 × 1024" in text
    assert "<html" not in text


def test_a_usual_value_becomes_the_other_models_usual_value(anna, htmx):
    sent = GOOD | {"for_model": TINY, "model": "stable-diffusion-v1-5", "steps": "20", "guidance_scale": "4"}
    text = anna.get(reverse("create-controls"), sent, headers=htmx).content.decode()
    assert "instead of 20" in text
    sent = GOOD | {"for_model": TINY, "model": "stable-diffusion-v1-5", "steps": "33"}
    text = anna.get(reverse("create-controls"), sent, headers=htmx).content.decode()
    assert 'id="model-changes"' not in text and 'value="33"' in text


def test_what_a_model_cannot_do_is_not_shown(anna):
    page = anna.get(CREATE, {"model": FLUX}).content.decode()
    for name in ("negative_prompt", "tiling", "clip_skip", "hires_fix", "variation", "quality"):
        assert f'name="{name}"' not in page, name
    assert 'name="control.key"' not in page


def test_without_scripts_a_button_brings_the_controls(anna):
    page = anna.post(reverse("create-controls"), GOOD | {"for_model": TINY, "model": LIGHTNING, "steps": "50"})
    text = page.content.decode()
    assert page.status_code == 200 and "<html" in text
    assert options_of(text, "sampler") == ["Euler"] and "a red boat at sea</textarea>" in text


def test_a_model_that_cannot_be_fetched_is_refused_at_once(anna, pro_user, settings):
    settings.MODEL_DOWNLOADS = False
    settings.DREAMSKETCH_ENGINE = "torch"
    page = anna.get(CREATE).content.decode()
    assert re.search(r'value="sdxl-base"\s+disabled', page)
    response = anna.post(CREATE, GOOD | {"model": "sdxl-base"})
    assert response.status_code == 422 and list(response.context["form"].errors) == ["model"]
    assert "does not download models" in response.content.decode()
    assert not Generation.objects.filter(owner=pro_user).exists()


def test_a_download_that_failed_is_not_tried_again_at_once(anna, pro_user, make_generation, settings):
    settings.DREAMSKETCH_ENGINE = "torch"
    make_generation(
        pro_user,
        model="sdxl-base",
        status="failed",
        error_code="model_unavailable",
        finished_at=timezone.now(),
        width=1024,
        height=1024,
    )
    cache.clear()
    response = anna.post(CREATE, GOOD | {"model": "sdxl-base"})
    assert response.status_code == 422 and "could not be downloaded a few minutes ago" in response.content.decode()


def test_pictures_get_roles_and_are_drawn_from(anna, pro_user, models_dir):
    text = anna.post(reverse("create-pictures"), GOOD | {"picture": [file(), file((0, 90, 0))]}).content.decode()
    assert re.findall(r'data-picture-card="([\w.]+)"', text) == ["image", "control"]
    ids = {name: re.search(rf'name="{name}"\s+value="([^"]+)"', text)[1] for name in ("image", "control.image")}
    assert 'name="control.key"' in text and "/canny.webp" in text
    sent = GOOD | ids | {"strength": "0.6", "control.key": "canny", "control.preprocess": "on", "control.scale": "0.8"}
    assert anna.post(CREATE, sent).status_code == 302
    job = Generation.objects.get(owner=pro_user)
    assert job.mode == "img2img" and job.options["start"]["strength"] == 0.6
    assert job.options["control"]["key"] == "canny" and job.options["control"]["scale"] == 0.8
    assert job.options["control"]["preprocess"] is True


def test_a_picture_changes_its_role_and_goes(anna, htmx, models_dir):
    text = anna.post(reverse("create-pictures"), GOOD | {"picture": file()}, headers=htmx).content.decode()
    picture = re.search(r'name="image"\s+value="([^"]+)"', text)[1]
    moved = anna.post(
        reverse("create-pictures"), GOOD | {"image": picture, "role_of.image": "reference"}, headers=htmx
    ).content.decode()
    assert re.search(rf'name="reference.image"\s+value="{picture}"', moved) and 'data-picture-card="image"' not in moved
    gone = anna.post(
        reverse("create-pictures"), GOOD | {"reference.image": picture, "remove_picture": "reference"}, headers=htmx
    ).content.decode()
    assert "data-picture-card" not in gone


def test_a_file_in_the_form_is_the_start_of_the_picture(anna, pro_user):
    assert anna.post(CREATE, GOOD | {"picture": file()}).status_code == 302
    job = Generation.objects.get(owner=pro_user)
    assert job.mode == "img2img" and job.options["start"]["image"]["name"] == str(Upload.objects.get().pk)
    assert job.width > job.height, "it has the picture's shape"


def test_what_is_no_picture_is_refused_and_the_rest_kept(anna):
    wrong = SimpleUploadedFile("a.png", b"x" * 200, "image/png")
    response = anna.post(CREATE, GOOD | {"picture": wrong, "seed": "12"})
    assert response.status_code == 422 and 'value="12"' in response.content.decode()


def test_an_address_brings_an_image_in_a_role(anna, stranger, pro_user, make_image, models_dir):
    image = make_image(pro_user)
    for word, field in (("start", "image"), ("reference", "reference.image"), ("control", "control.image")):
        page = anna.get(CREATE, {"image": image.short_id, "role": word}).content.decode()
        assert re.search(rf'name="{field}"\s+value="{image.id}"', page), word
    assert anna.get(CREATE, {"image": image.short_id, "role": "king"}).status_code == 404
    assert stranger.get(CREATE, {"image": image.short_id, "role": "start"}).status_code == 404


def test_a_model_without_pictures_says_so(anna, pro_user, make_image):
    image = make_image(pro_user)
    page = anna.get(CREATE, {"image": image.short_id, "role": "reference"}).content.decode()
    assert "“Looks like a picture” is left out" in page


def test_nobody_sees_or_draws_from_a_strangers_upload(anna, stranger, other_user, models_dir):
    anna.post(CREATE, GOOD | {"picture": file()})
    upload = Upload.objects.get()
    for address in (
        reverse("create-picture", args=[upload.pk]),
        reverse("create-picture-map", args=[upload.pk, "canny"]),
    ):
        shown = anna.get(address)
        assert shown.status_code == 200 and shown["Content-Type"] == "image/webp"
        assert stranger.get(address).status_code == 404
    response = stranger.post(CREATE, GOOD | {"image": str(upload.pk)})
    assert response.status_code == 422 and not Generation.objects.filter(owner=other_user).exists()


def test_one_of_ones_own_images_can_be_chosen(anna, stranger, pro_user, make_image):
    image = make_image(pro_user, generation_fields={"prompt": "a green tree"})
    choices = anna.get(reverse("create-pictures-choose"), {"q": "green"}).content.decode()
    assert f"?image={image.short_id}&amp;role=image" in choices
    assert image.short_id not in anna.get(reverse("create-pictures-choose"), {"q": "blue"}).content.decode()
    assert image.short_id not in stranger.get(reverse("create-pictures-choose")).content.decode()
    # Without scripts the form is kept on the way there.
    assert anna.post(reverse("create-pictures-choose"), GOOD | {"seed": "77"}).status_code == 302
    page = anna.get(CREATE, {"image": image.short_id, "role": "start"}).content.decode()
    assert 'value="77"' in page and re.search(rf'name="image"\s+value="{image.id}"', page)


def test_loras_that_fit_are_offered_with_words_and_picture(anna, models_dir):
    page = anna.get(CREATE).content.decode()
    assert 'value="ink-wash"' in page and "Words: inkwash style" in page and 'value="for-sdxl"' not in page
    preview = anna.get(reverse("create-lora-preview", args=["ink-wash"]))
    assert preview.status_code == 200 and preview["Content-Type"] == "image/png"
    assert anna.get(reverse("create-lora-preview", args=["soft-light"])).status_code == 404
    assert anna.get(reverse("create-lora-preview", args=["..%2F..%2Fsecret"])).status_code == 404


def test_a_weight_that_is_no_number_is_refused(anna, models_dir):
    response = anna.post(CREATE, GOOD | {"lora": ["ink-wash"], "lora_weight.ink-wash": "much"})
    assert response.status_code == 422 and list(response.context["form"].errors) == ["loras"]


@pytest.mark.parametrize("name", ["create-controls", "create-estimate"])
def test_unfinished_input_is_no_error(anna, name):
    junk = {
        "model": "x",
        "for_model": "\x00",
        "steps": "-",
        "shape": "?",
        "width": "1e99",
        "image": "x",
        "hires_fix": "on",
    }
    assert anna.get(reverse(name), junk).status_code == 200

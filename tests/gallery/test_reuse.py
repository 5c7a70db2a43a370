"""Reuse settings: everything that an image was drawn with comes back, and what cannot is said."""

import io
import re

import pytest
from django.urls import reverse
from PIL import Image

from generation.models import Generation, Upload
from generation.services.generations import create_generation
from generation.storage.uploads import store_upload

pytestmark = pytest.mark.django_db
OPTIONS = {
    "hires": {"scale": 1.5, "strength": 0.4, "upscaler": "lanczos"},
    "variation": {"seed": 3, "strength": 0.2},
    "tiling": True,
    "clip_skip": 1,
}


@pytest.fixture
def upload(pro_user):
    buffer = io.BytesIO()
    Image.new("RGB", (128, 128), (200, 60, 40)).save(buffer, "PNG")
    return store_upload(pro_user, buffer.getvalue(), param="image")


@pytest.fixture
def finished(make_image):
    """The image of a generation that was submitted with these fields."""

    def make(user, **fields):
        generation, _ = create_generation(user=user, **fields)
        columns = {name.attname: getattr(generation, name.attname) for name in Generation._meta.concrete_fields}
        unique = {name: columns.pop(name) for name in ("id", "status", "image_count", "started_at", "finished_at")}
        assert unique["status"] == "queued"
        columns |= {"width": generation.width, "height": generation.height}
        return make_image(user, generation_fields={k: v for k, v in columns.items() if k != "owner_id"})

    return make


def form_of(page: str) -> dict:
    """What a browser would send of the composer as it stands."""
    composer = page[page.index('id="composer"') : page.index('class="generate-bar"')]
    fields: dict = {}
    for tag in re.findall(r"<input\b[^>]*>", composer):
        attributes = dict(re.findall(r'([\w-]+)="([^"]*)"', tag))
        name, kind = attributes.get("name"), attributes.get("type", "text")
        if name and kind != "file" and (kind not in ("radio", "checkbox") or re.search(r"\bchecked\b", tag)):
            fields[name] = attributes.get("value", "on").replace("&quot;", '"').replace("&#x27;", "'")
    for name, options in re.findall(r'<select\b[^>]*name="([\w.]+)"[^>]*>(.*?)</select>', composer, re.S):
        chosen = re.search(r"<option\b([^>]*\bselected\b[^>]*)>([^<]*)", options)
        if chosen:
            value = re.search(r'value="([^"]*)"', chosen[1])
            fields[name] = value[1] if value else chosen[2].strip()
    prompt = re.search(r'<textarea\b[^>]*name="prompt"[^>]*>\n?(.*?)</textarea>', composer, re.S)
    return fields | {"prompt": prompt[1]}


@pytest.mark.parametrize("started", [False, True])
def test_every_setting_comes_back(anna, pro_user, finished, upload, started):
    more = {"image": upload, "mask": upload, "strength": 0.6, "fill": "noise", "padding": 32} if started else {}
    image = finished(
        pro_user,
        prompt="a red boat at sea",
        negative_prompt="fog",
        style="watercolour",
        steps=12,
        guidance_scale=4.5,
        sampler="Euler a",
        width=192,
        height=256,
        seed=11,
        **OPTIONS,
        **more,
    )
    page = anna.get(f"/create/?from={image.short_id}").content.decode()
    Generation.objects.exclude(pk=image.generation_id).delete()
    assert anna.post(reverse("create"), form_of(page)).status_code == 302
    again = Generation.objects.exclude(pk=image.generation_id).get()
    for name in (
        "prompt",
        "negative_prompt",
        "style",
        "model",
        "width",
        "height",
        "steps",
        "guidance_scale",
        "sampler",
    ):
        assert getattr(again, name) == getattr(image.generation, name), name
    assert again.options == image.generation.options
    assert (again.seed, again.mode) == (image.seed, image.generation.mode)


def test_a_setting_can_be_left_out(anna, pro_user, finished, upload):
    image = finished(pro_user, prompt="a red boat", image=upload, strength=0.6, **OPTIONS)
    form = form_of(anna.get(f"/create/?from={image.short_id}").content.decode())
    assert form["image"] == str(upload.pk) and form["hires_fix.scale"] == "1.5" and form["variation"] == "on"
    del form["image"], form["variation"]
    Generation.objects.exclude(pk=image.generation_id).delete()
    anna.post(reverse("create"), form)
    again = Generation.objects.exclude(pk=image.generation_id).get()
    assert again.mode == "txt2img" and set(again.options) == {"hires", "tiling", "clip_skip"}


def test_a_picture_that_is_gone_is_said(anna, pro_user, finished, upload):
    image = finished(pro_user, prompt="a red boat", image=upload, hires=True)
    Upload.objects.all().delete()
    page = anna.get(f"/create/?from={image.short_id}").content.decode()
    assert "“Starting picture” was left out: its picture is no longer kept." in page
    assert "image" not in form_of(page) and form_of(page)["hires_fix"] == "on"


def test_nobody_gets_at_somebody_elses_picture(stranger, other_user, pro_user, finished, upload):
    image = finished(pro_user, prompt="a red boat", image=upload, visibility="public")
    type(image).objects.filter(pk=image.pk).update(visibility="public")
    page = stranger.get(f"/create/?from={image.short_id}").content.decode()
    assert str(upload.pk) not in page
    form = form_of(page) | {"image": str(upload.pk)}
    refused = stranger.post(reverse("create"), form)
    assert refused.status_code == 422 and not Generation.objects.filter(owner=other_user).exists()

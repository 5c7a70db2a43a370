"""OpenAI's fields as ours, and hostile values of every one: 4xx in their shape, and nothing has changed."""

import base64
import io
import json

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from PIL import Image

from accounts.models import QuotaHold
from generation.api.http import results
from generation.api.openai import views
from generation.models import Generation, Upload
from generation.services import generations

pytestmark = pytest.mark.django_db
JSON = "application/json"


def picture(colour=(200, 60, 40), mode="RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (64, 64), colour).save(buffer, "PNG")
    return buffer.getvalue()


PNG = base64.b64encode(picture()).decode()
HOLE = base64.b64encode(picture((9, 9, 9, 0), "RGBA")).decode()


@pytest.fixture
def drawn(monkeypatch):
    """Nobody draws here, so that a call that waits would never end: it is answered as if all were done."""
    monkeypatch.setattr(views, "wait_for", lambda generation, seconds: Generation(pk=generation.pk, status="failed"))
    monkeypatch.setattr(results, "TRY_AGAIN_SECONDS", 1)


@pytest.fixture
def create(pro_user, api_client, drawn):
    """Posts, and returns the generation that came of it."""
    client = api_client(pro_user)

    def send(path, fields):
        response = client.post(f"/v1/images/{path}", fields, JSON)
        assert response.status_code == 503 and response["x-should-retry"] == "false", response.content
        return Generation.objects.get()

    return send


@pytest.fixture
def refused(pro_user, api_client, drawn, media_folder):
    client = api_client(pro_user)

    def check(path, fields, status=400, param=None, code=None):
        body = fields if isinstance(fields, (str, bytes)) else json.dumps(fields)
        response = client.post(f"/v1/images/{path}", body, JSON)
        assert response.status_code == status, response.content[:500]
        assert set(response.json()) == {"error"}
        error = response.json()["error"]
        assert set(error) == {"message", "type", "param", "code"} and error["message"] and error["type"]
        assert param is None or error["param"] == param, error
        assert code is None or error["code"] == code
        assert not Generation.objects.exists() and not QuotaHold.objects.exists() and not Upload.objects.exists()
        assert not [file for file in media_folder.rglob("*") if file.is_file()]

    return check


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"width": 256, "height": 256, "num_images": 1, "source": "openai"}),
        ({"size": "1024x1024"}, {"width": 256, "height": 256}),
        ({"size": "128x192"}, {"width": 128, "height": 192}),
        ({"size": "auto", "n": 3}, {"num_images": 3}),
        ({"n": 2, "num_images": 3}, {"num_images": 2}),
        ({"num_images": 3}, {"num_images": 3}),
        ({"quality": "hd", "style": "vivid", "moderation": "low", "background": "opaque", "user": "me"}, {"style": ""}),
        ({"style": "anime"}, {"style": "anime"}),
        (
            {"cfg_scale": 3, "seed": 5, "steps": 4, "sampler": "DDIM"},
            {"guidance_scale": 3.0, "seed": 5, "steps": 4, "sampler": "DDIM"},
        ),
        ({"width": 128, "height": 128, "size": "1024x1024"}, {"width": 128, "height": 128}),
        ({"model": "gpt-image-1-mini"}, {"model": "dreamsketch-tiny"}),
        ({"model": "stable-diffusion-v1-5", "size": "512x512"}, {"model": "stable-diffusion-v1-5", "width": 512}),
        ({"prompt": "x" * 5000}, {"prompt": "x" * 2000}),
    ],
)
def test_fields(create, fields, expected):
    generation = create("generations", {"prompt": "a boat"} | fields)
    assert {name: getattr(generation, name) for name in expected} == expected


def test_the_model_that_public_names_stand_for(create, settings):
    settings.OPENAI_MODEL = "stable-diffusion-v1-5"
    assert create("generations", {"prompt": "a boat", "model": "dall-e-2"}).model == "stable-diffusion-v1-5"


@pytest.mark.parametrize(
    ("fields", "mode", "strength"),
    [
        ({"images": [{"image_url": f"data:image/png;base64,{PNG}"}]}, "img2img", 0.75),
        ({"image": PNG, "strength": 0.3}, "img2img", 0.3),
        ({"image": PNG, "mask": HOLE}, "inpaint", 1.0),
        ({"image": PNG, "mask": {"image_url": HOLE}}, "inpaint", 1.0),
        ({"image": HOLE}, "inpaint", 1.0),
        ({"image": HOLE, "model": "gpt-image-1"}, "img2img", 0.75),
    ],
)
def test_edits(create, fields, mode, strength):
    generation = create("edits", {"prompt": "a boat"} | fields)
    assert (generation.mode, generation.options["start"]["strength"]) == (mode, strength)


def test_variations(create):
    generation = create("variations", {"image": PNG})
    assert (generation.mode, generation.prompt, generation.options["start"]["strength"]) == (
        "img2img",
        "a picture",
        0.65,
    )


NOT_TEXT = [True, 7, [], {}, ["x"]]
NOT_NUMBERS = [True, "seven", [], {}, float("nan"), float("inf"), 10**400]
HOSTILE = {
    "prompt": [None, "", "  ", "x" * 32_001, "a\x00b", "\ud800", *NOT_TEXT],
    "model": ["nothing", "../../x", "x" * 10_000, "dall-e-3; DROP", *NOT_TEXT],
    "n": [0, 11, 5, 1.5, -1, *NOT_NUMBERS],
    "size": ["1x", "x", "99999x99999", "100x100", "1024", *NOT_TEXT],
    "quality": ["best", *NOT_TEXT],
    "style": ["loud", *NOT_TEXT],
    "response_format": ["gif", "", *NOT_TEXT],
    "output_format": ["gif", "PNG", *NOT_TEXT],
    "output_compression": [-1, 101, 1.5, *NOT_NUMBERS],
    "background": ["transparent", "red", *NOT_TEXT],
    "moderation": ["none", *NOT_TEXT],
    "stream": ["perhaps", 2, [], {}],
    "partial_images": [-1, 4, 0.5, *NOT_NUMBERS],
    "user": [5, [], "x" * 1001, "a\x00"],
    "seed": [-2, 2**32, *NOT_NUMBERS],
    "steps": [0, 1000, *NOT_NUMBERS],
    "image": ["x", 7, {}],
}


@pytest.mark.parametrize("field", HOSTILE)
def test_hostile_values(field, refused):
    for value in HOSTILE[field]:
        refused("generations", {"prompt": "a boat"} | {field: value}, param=field)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        "x",
        7,
        True,
        [PNG, PNG],
        [{"file_id": "file-1"}],
        [{"image_url": "https://example.com/a.png"}],
        [[]],
        [{"image_url": {"url": 7}}],
        "data:image/png;base64,AAAA",
    ],
    ids=range(12),
)
@pytest.mark.parametrize("path", ["edits", "variations"])
def test_pictures_that_are_none(path, value, refused):
    for name in ("image", "images", "image[]"):
        refused(path, {"prompt": "a boat", name: value})


def test_hostile_masks(refused):
    for value in ("x", 7, [], {}, [HOLE, HOLE]):
        refused("edits", {"prompt": "a boat", "image": PNG, "mask": value})
    refused("edits", {"prompt": "a boat", "image": PNG, "mask": PNG}, param="mask")


def test_bodies_that_are_no_request(refused):
    for body in ("", "[]", "null", "{", b"\xff", "[" * 100_000, '{"prompt": "a", "prompt": "b"}'):
        refused("generations", body)


def test_refusals_in_their_words(refused, settings):
    settings.PROMPT_BLOCKLIST = ["gorgon"]
    refused("generations", {"prompt": "a gorgon"}, code="content_policy_violation", param="prompt")
    refused("edits", {"prompt": "a gorgon", "image": PNG}, code="content_policy_violation")


def test_a_form_with_files(pro_user, api_client, drawn):
    file = SimpleUploadedFile("a.png", picture())
    response = api_client(pro_user).post("/v1/images/edits/", {"prompt": "a boat", "image[]": [file], "n": "2"})
    assert response.status_code == 503
    assert (Generation.objects.get().num_images, Generation.objects.get().mode) == (2, "img2img")


def test_nobody_is_let_in_without_a_key(pro_user, page_client):
    for client in (Client(), page_client(pro_user)):
        for path in ("images/generations", "images/edits", "images/variations"):
            response = client.post(f"/v1/{path}", {"prompt": "a boat"}, JSON)
            assert response.status_code == 401 and response.json()["error"]["type"] == "authentication_error"
        assert client.get("/v1/models").status_code == 401
    assert client.get("/v1/nothing").status_code == 404
    assert not Generation.objects.exists()


def test_wrong_methods(pro_user, api_client):
    client = api_client(pro_user)
    for path in ("images/generations", "models", "models/dreamsketch-tiny"):
        assert client.delete(f"/v1/{path}").json()["error"]["code"] == "method_not_allowed"


def test_a_wait_that_takes_too_long_is_given_up(pro_user, api_client, monkeypatch):
    monkeypatch.setattr(views, "wait_for", lambda generation, seconds: generation)
    response = api_client(pro_user).post("/v1/images/generations", {"prompt": "a boat"}, JSON)
    assert (response.status_code, response.json()["error"]["code"]) == (503, "too_late")
    assert Generation.objects.get().status == "cancelled"


def test_who_waits_is_told_that_it_was_cancelled(pro_user, api_client, monkeypatch):
    """By the same person, on the page or by another call."""

    def cancelled(generation, seconds):
        generations.cancel_generation(generation)
        generation.refresh_from_db()
        return generation

    monkeypatch.setattr(views, "wait_for", cancelled)
    response = api_client(pro_user).post("/v1/images/generations", {"prompt": "a boat"}, JSON)
    assert (response.status_code, response.json()["error"]["code"]) == (422, "cancelled")
    assert response.json()["error"]["type"] == "invalid_request_error"

"""Asking for images: every field under every name, hostile values, repeats, quotes and refusals."""

import base64
import io
import json
import uuid

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from PIL import Image

from accounts import quotas
from accounts.models import DailyUsage, QuotaHold
from generation.models import Generation, Upload

pytestmark = pytest.mark.django_db

JSON = "application/json"


def png(colour=(200, 60, 40), mode="RGB", size=(64, 48)) -> str:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def file(text: str) -> SimpleUploadedFile:
    return SimpleUploadedFile("picture.png", base64.b64decode(text), "image/png")


PNG, MASK = png(), png(255, "L")


@pytest.fixture
def post(pro_user, api_client):
    client = api_client(pro_user)

    def send(fields, **headers):
        body = fields if isinstance(fields, (str, bytes)) else json.dumps(fields)
        return client.post("/api/generate", body, JSON, headers=headers)

    return send


@pytest.fixture
def nothing_happened(pro_user, media_folder):
    """Asserts that no generation or hold was made and no picture kept."""

    def check():
        assert not Generation.objects.exists()
        assert not QuotaHold.objects.exists()
        assert not DailyUsage.objects.filter(held__gt=0).exists()
        assert not Upload.objects.exists()
        assert not [path for path in media_folder.rglob("*") if path.is_file()]

    return check


def made(response) -> Generation:
    assert response.status_code == 202, response.content
    return Generation.objects.get(pk=response.json()["id"])


def test_the_shortest_request(post, documented, pro_user):
    response = post({"prompt": " a red boat at sea "})
    answer = documented(response, "post", "/api/generate")
    assert answer["job_id"] == answer["jobId"] == answer["id"]
    assert (answer["status"], answer["queue_position"]) == ("queued", 1)
    assert answer["status_url"] == response["Location"] == f"http://testserver/api/status/{answer['id']}"
    generation = made(response)
    assert (generation.owner, generation.source, generation.prompt) == (pro_user, "api", "a red boat at sea")
    assert (generation.width, generation.height, generation.num_images) == (256, 256, 1)
    assert generation.api_key.user == pro_user


@pytest.mark.parametrize("slash", ["", "/"])
def test_both_addresses_take_a_body(pro_user, api_client, slash):
    assert made(api_client(pro_user).post(f"/api/generate{slash}", {"prompt": "a boat"}, JSON)).prompt == "a boat"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"negative_prompt": "people"}, {"negative_prompt": "people"}),
        ({"negativePrompt": "people"}, {"negative_prompt": "people"}),
        ({"steps": 7}, {"steps": 7}),
        ({"num_inference_steps": 7}, {"steps": 7}),
        ({"guidance_scale": 2.5}, {"guidance_scale": 2.5}),
        ({"cfg_scale": 2}, {"guidance_scale": 2.0}),
        ({"cfgScale": "2"}, {"guidance_scale": 2.0}),
        ({"seed": 0}, {"seed": 0}),
        ({"seed": 2**32 - 1}, {"seed": 2**32 - 1}),
        ({"width": 128, "height": 192}, {"width": 128, "height": 192}),
        ({"size": "128x192"}, {"width": 128, "height": 192}),
        ({"size": "128×192", "width": 256, "height": 256}, {"width": 256, "height": 256}),
        ({"size": "auto"}, {"width": 256, "height": 256}),
        ({"aspect_ratio": "1:1"}, {"width": 256, "height": 256}),
        ({"aspectRatio": "1:1"}, {"width": 256, "height": 256}),
        ({"model": "tiny"}, {"model": "dreamsketch-tiny"}),
        ({"model_id": "runwayml/stable-diffusion-v1-5"}, {"model": "stable-diffusion-v1-5", "width": 512}),
        ({"sampler": "k_euler_a"}, {"sampler": "Euler a"}),
        ({"sampler_name": "DPM++ 2M Karras"}, {"sampler": "DPM++ 2M Karras"}),
        ({"num_images": 3}, {"num_images": 3}),
        ({"n": 3}, {"num_images": 3}),
        ({"style": "Line Art"}, {"style": "line-art"}),
        ({"visibility": "unlisted"}, {"visibility": "unlisted"}),
        ({"quality": "exact"}, {}),
        (
            {"steps": None, "seed": None, "model": None, "negative_prompt": None, "style": None},
            {"steps": 20, "style": ""},
        ),
        ({"hires_fix": False, "loras": [], "image": None}, {"mode": "txt2img", "options": {}}),
        ({"image": PNG}, {"mode": "img2img", "width": 176, "height": 128}),
        ({"image": PNG, "width": 128, "height": 128, "fit": "crop"}, {"width": 128, "height": 128}),
        ({"image": f"data:image/png;base64,{PNG}", "mask": MASK}, {"mode": "inpaint"}),
        ({"image": PNG, "expand": 64}, {"mode": "outpaint"}),
        ({"image": PNG, "expand": {"left": 64}}, {"mode": "outpaint"}),
        ({"image": PNG, "upscale": 2}, {"mode": "upscale", "width": 128, "height": 96}),
        ({"upscale": {"image": PNG, "factor": 4, "upscaler": "lanczos"}}, {"mode": "upscale", "width": 256}),
    ],
)
def test_names_of_fields(post, fields, expected):
    generation = made(post({"prompt": "a boat"} | fields))
    assert {name: getattr(generation, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("fields", "part", "expected"),
    [
        ({"image": PNG, "strength": 0.4}, "start", {"strength": 0.4}),
        ({"image": PNG, "denoising_strength": "0.4"}, "start", {"strength": 0.4}),
        (
            {"image": PNG, "mask": MASK, "mask_blur": 7, "fill": "noise", "padding": 16},
            "start",
            {"mask_blur": 7, "fill": "noise", "padding": 16},
        ),
        ({"image": PNG, "maskBlur": 7, "fit": "pad"}, "start", {"mask_blur": 7, "fit": "pad"}),
        (
            {"image": PNG, "expand": {"left": 8, "top": 16}},
            "start",
            {"expand": {"left": 8, "right": 0, "top": 16, "bottom": 0}},
        ),
        ({"hires_fix": True}, "hires", {"scale": 2.0, "strength": 0.5, "steps": None, "upscaler": "latent"}),
        (
            {
                "hiresFix": "true",
                "hires_scale": 1.5,
                "hires_strength": 0.3,
                "hires_steps": 4,
                "hires_upscaler": "lanczos",
            },
            "hires",
            {"scale": 1.5, "strength": 0.3, "steps": 4, "upscaler": "lanczos"},
        ),
        ({"hires_scale": "1.5"}, "hires", {"scale": 1.5}),
        ({"hires_fix": {"scale": 1.5, "steps": 3}}, "hires", {"scale": 1.5, "steps": 3}),
        ({"variation": {"seed": 5, "strength": 0.2}}, "variation", {"seed": 5, "strength": 0.2}),
    ],
)
def test_what_is_said_about_starts_and_second_passes(post, fields, part, expected):
    options = made(post({"prompt": "a boat"} | fields)).options[part]
    assert {name: options[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [({"tiling": True}, {"tiling": True}), ({"clip_skip": 1}, {"clip_skip": 1}), ({"clipSkip": "1"}, {"clip_skip": 1})],
)
def test_what_is_said_about_the_model(post, fields, expected):
    assert made(post({"prompt": "a boat"} | fields)).options == expected


def test_a_form_with_files(pro_user, api_client):
    fields = {
        "prompt": "a boat",
        "image": file(PNG),
        "mask": file(MASK),
        "strength": "0.5",
        "expand": '{"left": 8}',
        "hires_fix": '{"scale": 1.5}',
        "tiling": "on",
    }
    generation = made(api_client(pro_user).post("/api/generate", fields))
    assert (generation.mode, generation.options["start"]["strength"]) == ("outpaint", 0.5)
    assert generation.options["hires"]["scale"] == 1.5 and generation.options["tiling"] is True
    kept = Upload.objects.get(pk=generation.options["start"]["image"]["name"])
    assert (kept.owner, kept.width, kept.height) == (pro_user, 64, 48)


def test_a_picture_is_kept_as_long_as_its_generation_may_need_it(post, settings):
    import datetime as dt

    settings.UPLOAD_HOURS = 2
    generation = made(post({"prompt": "a boat", "image": PNG}))
    assert Upload.objects.get().expires_at >= generation.deadline_at + dt.timedelta(hours=23)


def test_the_same_pictures_again_with_the_same_key_is_the_same_job(post, refused):
    first, again = (post({"prompt": "a boat", "image": PNG}, **{"Idempotency-Key": "k"}) for _ in range(2))
    assert first.json()["id"] == again.json()["id"]
    other = {"prompt": "a boat", "image": png((0, 0, 0))}
    refused(post(other, **{"Idempotency-Key": "k"}), 409, "idempotency_conflict")


@pytest.mark.parametrize("form", ["application/x-www-form-urlencoded", "multipart/form-data"])
def test_forms(pro_user, api_client, form):
    client = api_client(pro_user)
    fields = {"prompt": "a böat", "steps": "7", "cfgScale": "3.5", "seed": "", "n": "2", "dry_run": "false"}
    if form.startswith("multipart"):
        generation = made(client.post("/api/generate", fields))
    else:
        from urllib.parse import urlencode

        generation = made(client.post("/api/generate", urlencode(fields), form))
    assert (generation.prompt, generation.steps) == ("a böat", 7)
    assert (generation.guidance_scale, generation.num_images) == (3.5, 2)


def test_minus_nothing_is_nothing(post):
    quote = post('{"prompt": "a boat", "guidance_scale": -0.0, "seed": -0.0, "dry_run": true}').json()["request"]
    assert (str(quote["guidance_scale"]), str(quote["seed"])) == ("0.0", "0")


def test_a_random_seed_is_reported_and_differs(post):
    assert made(post({"prompt": "a boat"})).seed != made(post({"prompt": "a boat", "seed": -1})).seed


NOT_NUMBERS = [
    True,
    "seven",
    [],
    {},
    [7],
    {"a": 7},
    "",
    "NaN",
    "Infinity",
    float("nan"),
    float("inf"),
    -float("inf"),
    1e308,
    10**400,
    -(10**30),
    "1" * 41,
    "0x10",
    "1_0",
    "١٢",
    "1e",
    "1 0",
    "+-1",
]
NOT_TEXT = [True, 7, 0, 1.5, [], {}, ["x"], {"a": "b"}]
UNSTORABLE = ["a\x00b", "\ud800", "x\udfff"]

HOSTILE = {
    "prompt": [None, "", "   ", "x" * 2001, "x" * 1_000_000, *NOT_TEXT, *UNSTORABLE],
    "negative_prompt": ["x" * 2001, "x" * 1_000_000, *NOT_TEXT, *UNSTORABLE],
    "negativePrompt": ["x" * 2001, *NOT_TEXT, *UNSTORABLE],
    "model": ["no-such-model", "../../etc/passwd", "https://example.com/x", "x" * 10_000, *NOT_TEXT, *UNSTORABLE],
    "model_id": ["no-such-model", *NOT_TEXT],
    "style": ["no such style", "x" * 1000, *NOT_TEXT, *UNSTORABLE],
    "sampler": ["no such sampler", "\U0001f600", *NOT_TEXT, *UNSTORABLE],
    "sampler_name": ["no such sampler", *NOT_TEXT],
    "aspect_ratio": ["5:4", "1:0", "wide", *NOT_TEXT, *UNSTORABLE],
    "aspectRatio": ["5:4", *NOT_TEXT],
    "size": ["512", "512x", "x512", "512x512x512", "-1x5", "99999x99999", "100x100", *NOT_TEXT, *UNSTORABLE],
    "visibility": ["secret", "PUBLIC", "", *NOT_TEXT, *UNSTORABLE],
    "width": [0, -8, 100, 257, 392, 100_000, 256.5, *NOT_NUMBERS],
    "height": [0, -8, 100, 257, 392, 100_000, 256.5, *NOT_NUMBERS],
    "steps": [0, -1, 101, 2.5, *NOT_NUMBERS],
    "num_inference_steps": [0, 101, *NOT_NUMBERS],
    "guidance_scale": [-0.1, 20.1, *NOT_NUMBERS],
    "cfg_scale": [-0.1, 20.1, *NOT_NUMBERS],
    "cfgScale": [-0.1, 20.1, *NOT_NUMBERS],
    "seed": [-2, 2**32, 1.5, *NOT_NUMBERS],
    "num_images": [0, -1, 5, 1.5, *NOT_NUMBERS],
    "n": [0, 5, *NOT_NUMBERS],
    "dry_run": ["perhaps", 1, 0, 2.5, [], {}, "\x00"],
    "quality": ["hd", "FAST", *NOT_TEXT],
    "hires_fix": ["perhaps", 1, 2.5, [], {"scale": 9}, {"nothing": 1}, {"upscaler": "x"}, {"steps": 1000}, "{", "[1]"],
    "hiresFix": ["perhaps", {"scale": 0.5}],
    "hires_scale": [0.5, 9, *NOT_NUMBERS],
    "hires_strength": [-0.1, 1.1, *NOT_NUMBERS],
    "hires_steps": [1000, 1.5, -1, *NOT_NUMBERS],
    "hires_upscaler": ["no such upscaler", *NOT_TEXT],
    "loras": [
        {"key": "x"},
        "x",
        1,
        True,
        ["no-such-lora"],
        [{"weight": 1}],
        [{"key": 5}],
        [{"key": []}],
        [{"key": {}}],
        [{"key": "a", "weight": "b"}],
        [{"key": "a", "weight": 99}],
        [{"key": "a", "other": 1}],
        [[]],
        [None],
        "[",
        '{"a": 1}',
        ["x"] * 1000,
    ],
    "control": ["canny", 1, [], True, {}, {"key": "canny"}, {"key": "canny", "image": 7}, "{", [{"key": "canny"}]],
    "reference": [1, [], True, {}, {"scale": 1}, "nothing", {"image": {}}],
    "variation": ["x", 1, [], {"strength": 2}, {"seed": -1, "strength": 0.5}, {"seed": 1, "x": 2}, {"seed": "a"}],
    "tiling": ["perhaps", 1, 0, 2.5, [], {}],
    "clip_skip": [-1, 99, 1.5, *NOT_NUMBERS],
    "clipSkip": [-1, *NOT_NUMBERS],
    "image": [
        "data:image/png;base64,",
        "x",
        "http://example.com/a.png",
        "/etc/passwd",
        1,
        True,
        [1],
        {"a": 1},
        "",
        "0b5f6c1e-6f0e-4b5e-9d53-1a52d0a7c1e7",
        "\x00",
        "\ud800",
    ],
    "mask": ["x", 7, [], {"image": "x"}],
    "upscale": ["x", 3, 5, 2, [], True, {}, {"factor": 2}, {"factor": 3}, {"image": 1}, float("nan")],
}
WITHOUT_AN_IMAGE = {"mask": PNG, "strength": 0.5, "expand": 64}
WITH_AN_IMAGE = {
    "strength": [-0.1, 1.1, *NOT_NUMBERS],
    "denoising_strength": [2, *NOT_NUMBERS],
    "mask_blur": [-1, 65, 1.5, *NOT_NUMBERS],
    "maskBlur": [-1],
    "fill": ["green", *NOT_TEXT],
    "fit": ["somehow", *NOT_TEXT],
    "padding": [-1, 513, 1.5, *NOT_NUMBERS],
    "expand": [-1, 2000, 1.5, True, [], "x", {"left": -1}, {"left": "a"}, {"up": 1}, {"left": 1e400}, "{"],
    "mask": ["data:image/png;base64,", 1, [], {}],
    "upscale": [3, {"factor": 8}, {"upscaler": "no such"}, {"x": 1}],
}


@pytest.mark.parametrize("field", HOSTILE)
def test_hostile_values_are_refused_by_name(field, post, refused, nothing_happened):
    for value in HOSTILE[field]:
        refused(post({"prompt": "a boat"} | {field: value}), 400, param=field)
    nothing_happened()


@pytest.mark.parametrize("field", WITHOUT_AN_IMAGE)
def test_what_needs_an_image_is_refused_without(field, post, refused, nothing_happened):
    refused(post({"prompt": "a boat", field: WITHOUT_AN_IMAGE[field]}), 400, param=field)
    nothing_happened()


@pytest.mark.parametrize("field", WITH_AN_IMAGE)
def test_hostile_values_beside_an_image(field, post, refused, nothing_happened):
    for value in WITH_AN_IMAGE[field]:
        refused(post({"prompt": "a boat", "image": PNG} | {field: value}), 400, param=field)
    nothing_happened()


def test_pictures_that_are_none(post, pro_user, api_client, refused, settings, nothing_happened):
    gif = "data:image/png;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
    refused(post({"prompt": "a boat", "image": gif}), 415, "unsupported_media_type", "image")
    refused(post({"prompt": "a boat", "control": {"key": "canny", "image": gif}}), 415, param="control")
    settings.MAX_IMAGE_FILE_SIZE = 50
    refused(post({"prompt": "a boat", "image": PNG}), 413, "too_large", "image")
    refused(api_client(pro_user).post("/api/generate", {"prompt": "a boat", "image": file(PNG)}), 413, param="image")
    refused(api_client(pro_user).post("/api/generate", {"prompt": "a boat", "style": file(PNG)}), 400, param="style")
    nothing_happened()


def test_a_refusal_keeps_no_picture(post, refused, settings, nothing_happened):
    settings.PROMPT_BLOCKLIST = ["gorgon"]
    refused(post({"prompt": "a gorgon", "image": PNG, "mask": PNG}), 422, "prompt_rejected")
    assert post({"prompt": "a boat", "image": PNG, "dry_run": True}).json()["request"]["mode"] == "img2img"
    nothing_happened()


@pytest.mark.parametrize(
    "body",
    [
        "",
        "   ",
        "null",
        "[]",
        '["prompt"]',
        '"prompt"',
        "7",
        "true",
        "{",
        "{'prompt': 1}",
        '{"prompt": "x",}',
        "\x00",
        '{"prompt": "a boat"} extra',
        b"\xff\xfe\x00",
        b'{"prompt": "\xff"}',
        '{"prompt": ' + "9" * 5000 + "}",
        "[" * 100_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        '{"prompt":"a boat","x":' + "[" * 50_000 + "]" * 50_000 + "}",
    ],
    ids=range(19),
)
def test_bodies_that_are_no_request(body, post, refused, nothing_happened):
    refused(post(body), 400)
    nothing_happened()


def test_a_field_given_twice(post, pro_user, api_client, refused, nothing_happened):
    refused(post('{"prompt": "a boat", "seed": 1, "seed": 2}'), 400, param="seed")
    form = "application/x-www-form-urlencoded"
    refused(api_client(pro_user).post("/api/generate", "prompt=a&prompt=b", form), 400, param="prompt")
    refused(post(r'{"prompt": "a boat", "\ud800": 1, "\ud800": 2}'), 400, param="?")
    inside = {"prompt": "a boat", "hires_fix": '{"scale": 1.5, "scale": 2}'}
    refused(api_client(pro_user).post("/api/generate", inside), 400, param="scale")
    nothing_happened()


@pytest.mark.parametrize("body", [b"prompt=\xff\xfe", b"prompt=a%FFboat", b"prompt=a%ED%A0%80boat", b"prompt=a&%C3=1"])
def test_forms_that_are_not_in_utf8(body, pro_user, api_client, refused, nothing_happened):
    client = api_client(pro_user)
    refused(client.generic("POST", "/api/generate", body, "application/x-www-form-urlencoded"), 400, "malformed")
    parts = b'--B\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na boat\xff\r\n--B--\r\n'
    refused(client.generic("POST", "/api/generate", parts, "multipart/form-data; boundary=B"), 400, "malformed")
    nothing_happened()


def test_other_kinds_of_body(pro_user, api_client, refused, settings, nothing_happened):
    client = api_client(pro_user)
    for kind in ("text/plain", "application/xml", "application/pickle", ""):
        refused(client.post("/api/generate", "prompt=x", kind), 415, "unsupported_media_type")
    refused(client.post("/api/generate", "--x\r\n\r\n", "multipart/form-data"), 400, "malformed")
    for boundary in ("x" * 300, "é", '"', "\x00"):
        response = client.post("/api/generate", "--x\r\n\r\n", f"multipart/form-data; boundary={boundary}")
        refused(response, response.status_code if response.status_code in (400, 415) else 400)
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    large = json.dumps({"prompt": "a boat", "junk": "x" * 2000})
    refused(client.post("/api/generate", large, JSON), 413, "too_large")
    refused(client.post("/api/generate", {"prompt": "a boat", "junk": "x" * 2000}), 413, "too_large")
    nothing_happened()


@pytest.mark.parametrize("charset", ["utf-16", "rot13", "zlib", "no-such-charset", "latin-1"])
def test_the_charset_cannot_change_how_a_body_is_read(charset, pro_user, api_client):
    client = api_client(pro_user)
    body = json.dumps({"prompt": "a böat"}, ensure_ascii=False).encode()
    parts = '--B\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na böat\r\n--B--\r\n'.encode()
    bodies = {
        "application/json": body,
        "application/x-www-form-urlencoded": b"prompt=a+b%C3%B6at",
        "multipart/form-data; boundary=B": parts,
    }
    for kind, content in bodies.items():
        # `generic`: the test client's own `post` would encode the body anew.
        response = client.generic("POST", "/api/generate", content, f"{kind}; charset={charset}")
        assert made(response).prompt == "a böat"


def test_unicode_prompts_are_kept(post):
    prompt = "船 на море 🚤 \u202eחוף e\u0301"
    assert made(post({"prompt": prompt})).prompt == prompt


def test_unknown_fields_assign_nothing(post, pro_user, other_user):
    sent = {
        "prompt": "a boat",
        "id": "0b5f6c1e-6f0e-4b5e-9d53-1a52d0a7c1e7",
        "owner": other_user.pk,
        "owner_id": other_user.pk,
        "user": other_user.pk,
        "status": "completed",
        "priority": -5,
        "epoch": 9,
        "attempt": 9,
        "image_count": 4,
        "created_at": "2001-01-01",
        "deadline_at": "2999-01-01",
        "source": "page",
        "api_key": 1,
        "composed_prompt": "something else",
        "owner_slots": 1000,
        "retry_of": 1,
        "idempotency_key": "k",
        "fingerprint": "f",
        "__class__": "x",
        "": 1,
        "x" * 5000: float("nan"),
    }
    generation = made(post(json.dumps(sent)))
    assert str(generation.pk) != sent["id"]
    assert (generation.owner, generation.status, generation.priority) == (pro_user, "queued", 10)
    assert (generation.epoch, generation.attempt, generation.image_count, generation.source) == (0, 0, 0, "api")
    assert (generation.composed_prompt, generation.idempotency_key, generation.owner_slots) == ("a boat", None, 2)
    assert generation.created_at.year > 2001 and generation.deadline_at.year < 2999


# --- repeats --------------------------------------------------------------------------------------------


def test_a_repeat_with_the_same_key_is_the_same_job(post, refused, other_user, api_client):
    first = post({"prompt": "a boat", "n": 2}, **{"Idempotency-Key": "k1"})
    again = post({"prompt": "a boat", "num_images": 2}, **{"Idempotency-Key": "k1"})
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert QuotaHold.objects.get().images == 2
    other = post({"prompt": "a ship", "n": 2}, **{"Idempotency-Key": "k1"})
    refused(other, 409, "idempotency_conflict", "Idempotency-Key")
    assert made(post({"prompt": "a boat", "n": 2}, **{"Idempotency-Key": "k2"})).pk != first.json()["id"]
    theirs = api_client(other_user).post("/api/generate", {"prompt": "a boat"}, JSON, headers={"Idempotency-Key": "k1"})
    assert made(theirs).owner == other_user


@pytest.mark.parametrize("key", ["", "x" * 256, "a\x00b", "schlüssel", "a\tb"])
def test_bad_idempotency_keys(key, post, refused, nothing_happened):
    refused(post({"prompt": "a boat"}, **{"Idempotency-Key": key}), 400, param="Idempotency-Key")
    nothing_happened()


# --- quotes ---------------------------------------------------------------------------------------------


def test_a_quote_changes_nothing(post, documented, nothing_happened):
    answer = documented(post({"prompt": "a boat", "n": 3, "style": "anime", "dry_run": True}), "post", "/api/generate")
    assert (answer["dry_run"], answer["images"], answer["remaining"]) == (True, 3, 100)
    assert answer["request"]["prompt"].startswith("a boat, anime style")
    assert answer["request"]["seed"] is None
    nothing_happened()


def test_a_quote_knows_how_long_it_took_before(post, pro_user, make_generation):
    import datetime as dt

    from django.utils import timezone

    now = timezone.now()
    make_generation(
        pro_user,
        status="completed",
        width=256,
        height=256,
        steps=10,
        finished_at=now,
        started_at=now - dt.timedelta(seconds=5),
    )
    assert post({"prompt": "a boat", "steps": 20, "dry_run": True}).json()["eta_seconds"] == pytest.approx(10)


def test_a_quote_refuses_what_would_be_refused(post, refused, settings, free_user, api_client, nothing_happened):
    settings.PROMPT_BLOCKLIST = ["gorgon"]
    refused(post({"prompt": "a Gorgon", "dry_run": True}), 422, "prompt_rejected", "prompt")
    refused(post({"prompt": "a boat", "steps": 1000, "dry_run": True}), 400, "invalid_request", "steps")
    DailyUsage.objects.create(user=free_user, day=today(), used=9)
    client = api_client(free_user)
    answer = client.post("/api/generate", {"prompt": "a boat", "n": 2, "dry_run": True}, JSON)
    refused(answer, 429, "quota_exceeded")
    assert client.post("/api/generate", {"prompt": "a boat", "dry_run": True}, JSON).json()["remaining"] == 1
    nothing_happened()


# --- refusals -------------------------------------------------------------------------------------------


def today():
    import datetime as dt

    return dt.datetime.now(dt.UTC).date()


def test_the_eleventh_image_of_a_day(free_user, api_client, refused):
    DailyUsage.objects.create(user=free_user, day=today(), used=8)
    client = api_client(free_user)
    for _ in range(2):
        assert client.post("/api/generate", {"prompt": "a boat"}, JSON).status_code == 202
    response = client.post("/api/generate", {"prompt": "a boat"}, JSON)
    error = refused(response, 429, "quota_exceeded")
    assert "10 images" in error["message"]
    assert int(response["Retry-After"]) <= 86_401


def test_too_many_waiting(free_user, api_client, make_generation, refused):
    for _ in range(4):
        make_generation(free_user)
    refused(api_client(free_user).post("/api/generate", {"prompt": "a boat"}, JSON), 429, "too_many_running")


def test_too_many_in_an_hour(pro_user, post, refused):
    for _ in range(50):
        quotas.hold(user=pro_user, generation_id=uuid.uuid4(), images=1)
    refused(post({"prompt": "a boat"}), 429, "rate_limited")


def test_a_refused_prompt_counts_for_nothing(post, settings, refused, nothing_happened):
    settings.PROMPT_BLOCKLIST = ["gorgon"]
    refused(post({"prompt": "a gorgon"}), 422, "prompt_rejected", "prompt")
    refused(post({"prompt": "a boat", "negativePrompt": "a gorgon"}), 422, "prompt_rejected", "negativePrompt")
    nothing_happened()


def test_a_locked_account(pro_user, post, refused, nothing_happened):
    pro_user.locked_reason = "Please write to us."
    pro_user.save()
    assert refused(post({"prompt": "a boat"}), 403, "account_locked")["message"] == "Please write to us."
    nothing_happened()

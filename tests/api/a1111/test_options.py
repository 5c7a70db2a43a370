"""Options of each key, the lists, who may call, and that nothing breaks on bad input."""

import base64
import hashlib
import json

import pytest
from django.test import Client

from accounts.models import ApiKey
from generation.api.a1111 import weights
from generation.engine.catalog.models import WEIGHTS
from generation.engine.catalog.samplers import SAMPLERS

from .conftest import JSON, Caller, picture

pytestmark = pytest.mark.django_db

LISTS = [
    "sd-models",
    "samplers",
    "schedulers",
    "upscalers",
    "latent-upscale-modes",
    "face-restorers",
    "realesrgan-models",
    "hypernetworks",
    "prompt-styles",
    "embeddings",
    "loras",
    "sd-vae",
    "sd-modules",
    "scripts",
    "script-info",
    "extensions",
    "cmd-flags",
    "memory",
]


def built_in_hash() -> str:
    return hashlib.sha256((WEIGHTS / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()).hexdigest()


# --- options --------------------------------------------------------------------------------------------


def test_options_are_kept_for_each_key(caller, api_client, pro_user, documented):
    options = documented(caller.get("options"), "get", "/sdapi/v1/options")
    assert options == {
        "sd_model_checkpoint": "dreamsketch-tiny",
        "sd_vae": "Automatic",
        "send_seed": True,
        "CLIP_stop_at_last_layers": 1,
        "samples_format": "png",
        "sd_checkpoint_hash": built_in_hash(),
    }
    assert "forge_preset" not in options
    changed = options | {"sd_model_checkpoint": "stable-diffusion-v1-5", "CLIP_stop_at_last_layers": 2, "unknown": 1}
    assert documented(caller.post("options", changed), "post", "/sdapi/v1/options") == {}
    assert caller.get("options").json() == options | {
        "sd_model_checkpoint": "stable-diffusion-v1-5",
        "CLIP_stop_at_last_layers": 2,
        "sd_checkpoint_hash": "",
    }
    second = Caller(api_client(pro_user).token)
    assert second.get("options").json() == options
    assert "unknown" not in json.dumps(ApiKey.objects.order_by("pk").first().options)


@pytest.mark.parametrize(
    "name",
    [
        "stable-diffusion-v1-5",
        "Stable Diffusion 1.5",
        "SD15",
        "stable-diffusion-v1-5.safetensors [abc123def0]",
        "runwayml/stable-diffusion-v1-5",
    ],
)
def test_checkpoints_are_known_by_many_names(caller, name):
    assert caller.post("options", {"sd_model_checkpoint": name}).status_code == 200
    assert caller.get("options").json()["sd_model_checkpoint"] == "stable-diffusion-v1-5"


def test_hashes_of_checkpoints(caller, documented, settings, tmp_path, monkeypatch):
    """Of files that are small or named by it; of larger ones as soon as a picture has told."""
    settings.MODELS_DIR = tmp_path
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    models = documented(caller.get("sd-models"), "get", "/sdapi/v1/sd-models")
    by_name = {model["model_name"]: (model["hash"], model["sha256"]) for model in models}
    digest = built_in_hash()
    assert by_name["dreamsketch-tiny"] == (digest[:10], digest)
    assert by_name["stable-diffusion-v1-5"] == (None, None)
    caller.post("options", {"sd_model_checkpoint": "stable-diffusion-v1-5"})
    for name in (digest, digest[:10], digest[:10].upper(), f"renamed.safetensors [{digest[:10]}]"):
        caller.post("options", {"sd_model_checkpoint": "stable-diffusion-v1-5"})
        assert caller.post("options", {"sd_model_checkpoint": name}).status_code == 200
        assert caller.get("options").json()["sd_model_checkpoint"] == "dreamsketch-tiny"

    monkeypatch.setattr(weights, "SMALL_BYTES", 0)
    caller.post("options", {"sd_model_checkpoint": "stable-diffusion-v1-5"})
    assert {model["sha256"] for model in caller.get("sd-models").json()} == {None}
    weights.remember("stable-diffusion-v1-5", "ab" * 32)
    weights.remember("dreamsketch-tiny", "cd" * 32)
    weights.remember("no such model", "ef" * 32)
    weights.remember("flux-schnell", "no hash")
    known = {model["title"]: model["hash"] for model in caller.get("sd-models").json() if model["hash"]}
    assert known == {"stable-diffusion-v1-5": "ab" * 5, "dreamsketch-tiny": "cd" * 5}
    assert caller.get("options").json()["sd_checkpoint_hash"] == "ab" * 32


@pytest.mark.parametrize("name", ["abcdef", "0123456789", "renamed.safetensors [0123456789]", "f" * 64])
def test_hashes_of_nothing(caller, refused, name):
    refused(caller.post("options", {"sd_model_checkpoint": name}), 404, "unknown_model", "sd_model_checkpoint")


def test_a_checkpoint_that_is_offered_no_longer(caller):
    ApiKey.objects.update(options={"a1111": {"sd_model_checkpoint": "gone"}})
    assert caller.get("options").json()["sd_model_checkpoint"] == "dreamsketch-tiny"


def test_options_of_a_signed_in_person(page_client, pro_user, other_user):
    browser, other = page_client(pro_user), page_client(other_user)
    assert browser.post("/sdapi/v1/options", {"CLIP_stop_at_last_layers": 3}, JSON).status_code == 200
    assert browser.get("/sdapi/v1/options").json()["CLIP_stop_at_last_layers"] == 3
    assert other.get("/sdapi/v1/options").json()["CLIP_stop_at_last_layers"] == 1


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"sd_model_checkpoint": "no such model"}, 404, "sd_model_checkpoint"),
        ({"sd_model_checkpoint": 7}, 400, "sd_model_checkpoint"),
        ({"CLIP_stop_at_last_layers": 0}, 400, "CLIP_stop_at_last_layers"),
        ({"CLIP_stop_at_last_layers": "x"}, 400, "CLIP_stop_at_last_layers"),
        ({"samples_format": "x\x00"}, 400, "samples_format"),
        ({"send_seed": "yes"}, 400, "send_seed"),
    ],
)
def test_options_that_cannot_be(caller, refused, change, status, param):
    before = caller.get("options").json()
    refused(
        caller.post("options", change | {"samples_format": change.get("samples_format", "webp")}), status, param=param
    )
    assert caller.get("options").json() == before


# --- lists ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("slash", ["", "/"])
def test_lists(caller, documented, name, slash):
    documented(caller.get(f"{name}{slash}"), "get", f"/sdapi/v1/{name}")


def test_what_the_lists_say(caller):
    models = caller.get("sd-models").json()
    assert models[0].keys() == {"title", "model_name", "hash", "sha256", "filename", "config"}
    for model in models:
        assert caller.post("options", {"sd_model_checkpoint": model["title"]}).status_code == 200
    samplers = {sampler["name"]: sampler for sampler in caller.get("samplers").json()}
    assert list(samplers) == [sampler.name for sampler in SAMPLERS]
    assert samplers["DPM++ 2M"]["options"] == {"scheduler": "karras"} and samplers["Euler"]["options"] == {}
    assert [scheduler["label"] for scheduler in caller.get("schedulers").json()] == ["Automatic", "Uniform", "Karras"]
    assert [upscaler["name"] for upscaler in caller.get("upscalers").json()][:3] == ["None", "Lanczos", "Nearest"]
    assert [upscaler["name"] for upscaler in caller.get("latent-upscale-modes").json()] == ["Latent"]
    assert caller.get("scripts").json()["img2img"] == ["sd upscale"]
    assert {"Anime", "Line art"} <= {style["name"] for style in caller.get("prompt-styles").json()}


@pytest.mark.parametrize("name", ["refresh-checkpoints", "unload-checkpoint", "reload-checkpoint", "interrupt", "skip"])
def test_what_is_accepted_and_does_nothing(caller, documented, name):
    assert documented(caller.post(name), "post", f"/sdapi/v1/{name}") == {}
    assert caller.client.post(f"/sdapi/v1/{name}/").json() == {}


@pytest.mark.parametrize("name", ["interrogate", "train/embedding", "server-kill", "nonsense"])
def test_what_is_not_here(caller, refused, name):
    refused(caller.post(name, {"image": picture()}), 404, "not_found")
    refused(caller.get(name), 404, "not_found")


# --- who may call ---------------------------------------------------------------------------------------


def basic(text: str) -> Client:
    return Client(headers={"Authorization": "Basic " + base64.b64encode(text.encode()).decode()})


@pytest.mark.parametrize("name", ["user", "pro@example.com", "", "x y"])
def test_a_key_as_the_basic_password(caller, name):
    assert basic(f"{name}:{caller.token}").get("/sdapi/v1/options").status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic ",
        "Basic !!!",
        "Basic dXNlcg==",
        "Basic " + base64.b64encode(b"user:wrong").decode(),
        "Basic " + base64.b64encode(b"\xff\x00:\xff\x00").decode(),
        "Bearer x",
        "Token x",
        "Basic é",
    ],
)
def test_without_a_valid_key(refused, header):
    response = Client(headers={"Authorization": header}).get("/sdapi/v1/options")
    refused(response, 401)
    assert response["WWW-Authenticate"].startswith("Basic ")


def test_a_basic_password_counts_here_only(caller):
    assert basic(f"user:{caller.token}").get("/api/usage").status_code == 401


def test_what_a_key_may_do(pro_user, refused):
    key, token = ApiKey.issue(user=pro_user, name="reader")
    ApiKey.objects.filter(pk=key.pk).update(scopes=["read"])
    reader = Caller(token)
    assert reader.get("options").status_code == reader.get("progress").status_code == 200
    assert reader.post("png-info", {"image": picture()}).status_code == 200
    for path in ("txt2img", "options", "interrupt", "extra-single-image"):
        refused(reader.post(path, {"prompt": "a boat"}), 403, "insufficient_scope")
    ApiKey.objects.filter(pk=key.pk).update(scopes=["generate"])
    refused(reader.get("options"), 403, "insufficient_scope")
    assert reader.post("interrupt").status_code == 200


def test_a_session_needs_its_csrf_token(page_client, pro_user, refused):
    browser = page_client(pro_user, enforce_csrf_checks=True)
    assert browser.get("/sdapi/v1/options").status_code == 200
    refused(browser.post("/sdapi/v1/txt2img", {"prompt": "a boat"}, JSON), 403, "csrf_failed")


# --- bad input ------------------------------------------------------------------------------------------

NOT_NUMBERS = [True, "seven", "7", [], {}, [7], "", float("nan"), float("inf"), -float("inf"), 1e308, 10**400]
NOT_TEXT = [True, 7, 0, 1.5, [], {}, ["x"], {"a": "b"}]
NOT_FLAGS = ["true", "perhaps", 2, -1, 0.5, [], {}, "\x00"]
UNSTORABLE = ["a\x00b", "\ud800", "x\udfff"]
NOT_PICTURES = [
    "nonsense",
    "AAAA",
    "data:image/png;base64,AAAA",
    "data:text/html,<p>",
    "http://127.0.0.1/x.png",
    "file:///etc/passwd",
    "\ud800",
    "é",
    "x" * 1000,
    7,
    {},
    [],
    True,
    {"image": "x"},
]

HOSTILE = {
    "prompt": ["", "   ", "x" * 2001, "x" * 1_000_000, *NOT_TEXT, *UNSTORABLE],
    "negative_prompt": ["x" * 2001, *NOT_TEXT, *UNSTORABLE],
    "styles": ["anime", 7, {}, [7], [None], [["x"]], ["\x00"], ["x"] * 101, ["x" * 201], ["\ud800"]],
    "seed": [-2, 2**32, 1.5, *NOT_NUMBERS],
    "subseed": [-2, 2**32, 1.5, *NOT_NUMBERS],
    "subseed_strength": [-0.1, 1.1, *NOT_NUMBERS],
    "sampler_name": ["no such sampler", "\U0001f600", "x" * 201, *NOT_TEXT, *UNSTORABLE],
    "scheduler": ["x" * 201, *NOT_TEXT, *UNSTORABLE],
    "steps": [0, -1, 101, 2.5, *NOT_NUMBERS],
    "cfg_scale": [-0.1, 20.1, *NOT_NUMBERS],
    "width": [0, 63, 2049, -8, 256.5, *NOT_NUMBERS],
    "height": [0, 63, 2049, -8, 256.5, *NOT_NUMBERS],
    "batch_size": [0, 9, -1, 1.5, *NOT_NUMBERS],
    "n_iter": [0, 17, -1, 1.5, *NOT_NUMBERS],
    "restore_faces": NOT_FLAGS,
    "tiling": NOT_FLAGS,
    "clip_skip": [0, 13, 1.5, *NOT_NUMBERS],
    "override_settings": ["x", 7, [], True],
    "override_settings_restore_afterwards": NOT_FLAGS,
    "script_name": ["no such script", "x" * 201, *NOT_TEXT, *UNSTORABLE],
    "script_args": ["x", 7, {}, [0] * 101],
    "alwayson_scripts": [
        "x",
        7,
        [],
        {"ControlNet": {"args": "x"}},
        {"ControlNet": {"args": [1]}},
        {"controlnet": {"args": [{"model": 7}]}},
        {"ControlNet": {"args": [{"model": "x"}]}},
        {"ControlNet": {"args": [{"model": "x", "image": "nonsense"}]}},
        {"ControlNet": {"args": [{"model": "x", "image": {"image": 7}}]}},
        {"ControlNet": {"args": [{"model": "x\x00", "image": "x"}]}},
    ],
    "send_images": NOT_FLAGS,
    "force_task_id": ["x" * 201, *NOT_TEXT, *UNSTORABLE],
    "enable_hr": NOT_FLAGS,
    "hr_scale": [0.9, 4.1, *NOT_NUMBERS],
    "hr_upscaler": ["R-ESRGAN 99x+", *NOT_TEXT, *UNSTORABLE],
    "hr_second_pass_steps": [-1, 101, 1.5, *NOT_NUMBERS],
    "denoising_strength": [-0.1, 1.1, *NOT_NUMBERS],
}
NAMES = ("sampler_name", "script_name", "hr_upscaler")


@pytest.mark.parametrize("field", HOSTILE)
def test_hostile_values_of_txt2img(field, caller, refused, nothing_happened):
    for value in HOSTILE[field]:
        sent = {"prompt": "a boat", "enable_hr": field.startswith("hr_") or field == "denoising_strength"}
        response = caller.post("txt2img", sent | {field: value})
        unknown = field in NAMES and response.json()["error"] == "unknown_name"
        refused(response, 404 if unknown else 400, param=field)
    nothing_happened()


@pytest.mark.parametrize("field", NAMES)
def test_names_that_are_in_no_list(field, caller, refused, nothing_happened):
    refused(
        caller.post("txt2img", {"prompt": "a boat", "enable_hr": True, field: "nobody knows this"}),
        404,
        "unknown_name",
        param=field,
    )
    nothing_happened()


HOSTILE_PICTURES = {
    "init_images": [[value] for value in NOT_PICTURES]
    + ["x", 7, {}, [None], [picture(4, 4)], [picture()] * 9, [picture(8, 128)], [picture()] * 101],
    "mask": [value for value in NOT_PICTURES if value],
    "mask_blur": [-1, 65, 1.5, *NOT_NUMBERS],
    "inpainting_fill": [-1, 4, 1.5, *NOT_NUMBERS],
    "inpaint_full_res": NOT_FLAGS,
    "inpaint_full_res_padding": [-1, 513, 1.5, *NOT_NUMBERS],
    "inpainting_mask_invert": NOT_FLAGS,
    "resize_mode": [-1, 4, 1.5, *NOT_NUMBERS],
    "include_init_images": NOT_FLAGS,
}


@pytest.mark.parametrize("field", HOSTILE_PICTURES)
def test_hostile_values_of_img2img(field, caller, nothing_happened, refused):
    for value in HOSTILE_PICTURES[field]:
        response = caller.post("img2img", {"prompt": "a boat", "init_images": [picture()]} | {field: value})
        refused(response, 415 if response.status_code == 415 else 400, param=field)
    nothing_happened()


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("extra-single-image", {"image": "nonsense"}, "image"),
        ("extra-single-image", {}, "image"),
        ("extra-single-image", {"image": 7}, "image"),
        ("extra-single-image", {"upscaling_resize": 5}, "upscaling_resize"),
        ("extra-single-image", {"upscaling_resize": 0}, "upscaling_resize"),
        ("extra-single-image", {"upscaler_1": "SwinIR 4x"}, "upscaler_1"),
        ("extra-single-image", {"resize_mode": 2}, "resize_mode"),
        ("extra-single-image", {"resize_mode": 1, "upscaling_resize_w": 0}, "upscaling_resize_w"),
        ("extra-single-image", {"resize_mode": 1, "upscaling_resize_w": 4096}, "image"),
        ("extra-batch-images", {"imageList": []}, "imageList"),
        ("extra-batch-images", {"imageList": "x"}, "imageList"),
        ("extra-batch-images", {"imageList": ["x"]}, "imageList"),
        ("extra-batch-images", {"imageList": [{}]}, "imageList"),
        ("extra-batch-images", {"imageList": [{"data": "x", "name": 7}]}, "imageList"),
        ("extra-batch-images", {"imageList": [{"data": "x"}] * 9}, "imageList"),
        ("png-info", {}, "image"),
        ("png-info", {"image": 7}, "image"),
        ("png-info", {"image": "nonsense"}, "image"),
        ("png-info", {"image": "AAAA"}, "image"),
        ("png-info", {"image": "\ud800"}, "image"),
    ],
)
def test_hostile_pictures(path, fields, param, caller, refused, nothing_happened):
    whole = {"image": picture(64, 64)} if fields and "image" not in fields and path == "extra-single-image" else {}
    response = caller.post(path, whole | fields)
    refused(response, response.status_code if response.status_code in (404, 415) else 400, param=param)
    nothing_happened()


@pytest.mark.parametrize(
    "body",
    [
        "null",
        "[]",
        '"x"',
        "7",
        "{",
        "\x00",
        b"\xff\xfe",
        "[" * 100_000,
        '{"prompt": "a", "prompt": "b"}',
        '{"seed": ' + "9" * 5000 + "}",
    ],
)
@pytest.mark.parametrize("path", ["txt2img", "img2img", "options", "png-info", "extra-single-image"])
def test_bodies_that_are_no_request(path, body, caller, refused, nothing_happened):
    response = caller.post(path, body)
    refused(response, 404 if response.status_code == 404 and path == "img2img" else 400)
    nothing_happened()


def test_other_kinds_of_body_and_method(caller, refused, settings, nothing_happened):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        refused(caller.client.post("/sdapi/v1/txt2img", "prompt=x", kind), 415, "unsupported_media_type")
    refused(caller.get("txt2img"), 405, "method_not_allowed")
    refused(caller.client.delete("/sdapi/v1/options"), 405, "method_not_allowed")
    refused(caller.get("progress", skip_current_image="perhaps"), 400, param="skip_current_image")
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    refused(caller.post("txt2img", {"prompt": "a boat", "junk": "x" * 2000}), 413, "too_large")
    nothing_happened()


@pytest.mark.parametrize("task", [None, 7, "", "x" * 201, [], {}, "\x00"])
def test_hostile_tasks(task, caller):
    response = caller.client.post("/internal/progress", {"id_task": task}, JSON)
    assert response.status_code == (200 if task == "" else 400)

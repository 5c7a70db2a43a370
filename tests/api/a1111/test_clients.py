"""Programs made for the web UI, unmodified, against a running site: a client library, and the calls that Open WebUI
and SillyTavern make (in their order, with their fields)."""

import base64
import io
import json
import threading

import httpx
import pytest
import webuiapi
from PIL import Image

from generation.engine.request.metadata import parse_parameters
from tests.site import wait_for

from .conftest import opened, picture

SMALL = {"width": 128, "height": 128, "steps": 2}


@pytest.fixture
def token(site):
    return site.user().headers["Authorization"].removeprefix("Bearer ")


def basic(text: str) -> dict:
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


# --- the library ----------------------------------------------------------------------------------------


@pytest.fixture
def api(site, token):
    return webuiapi.WebUIApi(host="127.0.0.1", port=site.port, username="user", password=token)


def test_the_library_draws(api):
    result = api.txt2img(prompt="a red boat at sea", negative_prompt="people", seed=7, batch_size=2, **SMALL)
    assert [image.size for image in result.images] == [(128, 128)] * 2
    assert result.info["all_seeds"] == [7, 8]
    assert result.info["infotexts"] == [image.info["parameters"] for image in result.images]
    parameters = parse_parameters(result.info["infotexts"][1])
    assert (parameters["Seed"], parameters["Sampler"]) == ("8", "Euler a")
    assert result.info["sd_model_hash"] == parameters["Model hash"] != ""
    assert result.parameters["prompt"] == "a red boat at sea"
    again = api.png_info(result.image)
    assert again.info == result.info["infotexts"][0]

    redrawn = api.img2img(
        images=[result.image],
        prompt="a blue boat",
        seed=7,
        denoising_strength=0.5,
        mask_image=Image.new("L", (128, 128), 255),
        inpainting_fill=1,
        **SMALL,
    )
    assert redrawn.image.size == (128, 128)
    larger = api.extra_single_image(result.image, upscaler_1=webuiapi.Upscaler.Lanczos, upscaling_resize=1.5)
    assert larger.image.size == (192, 192)
    two = api.extra_batch_images(result.images, upscaler_1="Nearest")
    assert [image.size for image in two.images] == [(256, 256)] * 2
    second_pass = api.txt2img(
        prompt="a boat",
        enable_hr=True,
        hr_scale=1.5,
        hr_upscaler=webuiapi.HiResUpscaler.Latent,
        denoising_strength=0.5,
        **SMALL,
    )
    assert second_pass.image.size == (192, 192)


def test_the_library_looks_around(api):
    models = api.util_get_model_names()
    assert "dreamsketch-tiny" in models
    api.util_set_model("stable-diffusion-v1-5")
    assert api.util_get_current_model() == "stable-diffusion-v1-5"
    api.set_options(api.get_options() | {"sd_model_checkpoint": "dreamsketch-tiny"})
    assert api.util_get_current_model() == "dreamsketch-tiny"
    assert "Euler a" in api.util_get_sampler_names() and "karras" in api.util_get_scheduler_names()
    for method in (
        "get_cmd_flags",
        "get_upscalers",
        "get_latent_upscale_modes",
        "get_loras",
        "get_hypernetworks",
        "get_face_restorers",
        "get_realesrgan_models",
        "get_prompt_styles",
        "get_scripts",
        "get_embeddings",
        "get_memory",
        "get_sd_vae",
        "refresh_checkpoints",
        "interrupt",
        "skip",
    ):
        assert getattr(api, method)() is not None, method
    api.util_wait_for_ready()


def test_the_library_is_told_what_is_wrong(api):
    with pytest.raises(RuntimeError) as refused:
        api.txt2img(prompt="a boat", sampler_name="no such sampler", **SMALL)
    status, text = refused.value.args
    assert status == 404 and json.loads(text)["errors"].startswith("sampler_name: Sampler not found")


# --- Open WebUI -----------------------------------------------------------------------------------------


def test_open_webui(site, token):
    with httpx.Client(base_url=site.url, headers=basic(f"me:{token}"), timeout=60) as client:
        assert client.get("/sdapi/v1/options").raise_for_status()
        models = [
            {"id": checkpoint["title"], "name": checkpoint["model_name"]}
            for checkpoint in client.get("/sdapi/v1/sd-models").json()
        ]
        options = client.get("/sdapi/v1/options").json()
        chosen = next(model["id"] for model in models if model["id"] != options["sd_model_checkpoint"])
        for model in (chosen, "dreamsketch-tiny"):
            options["sd_model_checkpoint"] = model
            client.post("/sdapi/v1/options", json=options).raise_for_status()
            assert client.get("/sdapi/v1/options").json()["sd_model_checkpoint"] == model
        data = {
            "prompt": "a red boat at sea",
            "batch_size": 1,
            "width": 512,
            "height": 512,
            "steps": 3,
            "negative_prompt": "people",
            "sampler_name": "DPM++ 2M",
            "cfg_scale": 7,
            "scheduler": "Karras",
        }
        answer = client.post("/sdapi/v1/txt2img", json=data).json()
    assert opened(answer["images"][0]).size == (384, 384), "the nearest size that the built-in model draws"
    assert json.loads(answer["info"])["sampler_name"] == "DPM++ 2M Karras"


# --- LibreChat and GIMP ---------------------------------------------------------------------------------


def test_librechat(site, token):
    """It knows an address only, so the key is in it."""
    url = site.url.replace("http://", f"http://me:{token}@")
    answer = (
        httpx.post(
            f"{url}/sdapi/v1/txt2img",
            timeout=60,
            json={
                "prompt": "a red boat at sea",
                "negative_prompt": "people",
                "cfg_scale": 4.5,
                "steps": 2,
                "width": 1024,
                "height": 1024,
            },
        )
        .raise_for_status()
        .json()
    )
    info = json.loads(answer["info"])
    assert opened(answer["images"][0]).size == (info["width"], info["height"])
    assert info["infotexts"][0].split("\n")[-1].startswith("Steps: 2, ") and isinstance(info["seed"], int)


def test_gimp(site, token):
    """Its addresses end in a question mark; it sends the older name of the sampler and 0 for false."""
    mask = Image.new("L", (256, 192), 0)
    mask.paste(255, (0, 0, 128, 192))
    buffer = io.BytesIO()
    mask.save(buffer, "PNG")
    common = {
        "prompt": "a boat ",
        "negative_prompt": " ",
        "denoising_strength": 0.8,
        "steps": 2,
        "cfg_scale": 7.5,
        "width": 256,
        "height": 192,
        "sampler_index": "Euler a",
        "seed": -1,
    }
    start = {"init_images": [picture(256, 192, (1, 2, 3, 255), "RGBA")], "resize_mode": 1}
    inpainted = start | {
        "mask": base64.b64encode(buffer.getvalue()).decode(),
        "resize_mode": 0,
        "image_cfg_scale": 5,
        "inpaint_full_res": True,
        "inpaint_full_res_padding": 10,
        "inpainting_mask_invert": 0,
    }
    with httpx.Client(base_url=site.url, headers=basic(f"me:{token}"), timeout=60) as client:
        titles = [checkpoint["title"] for checkpoint in client.get("/sdapi/v1/sd-models?").json()]
        assert client.get("/sdapi/v1/options?").json()["sd_model_checkpoint"] in titles
        for path, fields in (("txt2img", {}), ("img2img", start), ("img2img", inpainted)):
            answer = client.post(f"/sdapi/v1/{path}?", json=common | fields).raise_for_status().json()
            assert [opened(encoded).size for encoded in answer["images"]] == [(256, 192)]
            assert json.loads(answer["info"])["sampler_name"] == "Euler a"


# --- SillyTavern ----------------------------------------------------------------------------------------


def silly_body(site, token, **more):
    return {
        "url": site.url,
        "auth": f"me:{token}",
        "prompt": "a red boat at sea",
        "negative_prompt": "people",
        "sampler_name": "DDIM",
        "scheduler": "normal",
        "steps": 20,
        "cfg_scale": 7,
        "width": 512,
        "height": 512,
        "restore_faces": False,
        "enable_hr": False,
        "hr_upscaler": "Latent",
        "hr_scale": 1,
        "denoising_strength": 0.7,
        "hr_additional_modules": [],
        "hr_second_pass_steps": 0,
        "override_settings": {"CLIP_stop_at_last_layers": 1, "sd_vae": "", "forge_additional_modules": []},
        "override_settings_restore_afterwards": True,
        "clip_skip": 1,
        "save_images": True,
        "send_images": True,
        "do_not_save_grid": False,
        "do_not_save_samples": False,
    } | more


def test_sillytavern(site, token):
    with httpx.Client(base_url=site.url, headers=basic(f"me:{token}"), timeout=60) as client:
        assert client.get("/sdapi/v1/options").status_code == 200
        names = [upscaler["name"] for upscaler in client.get("/sdapi/v1/upscalers").json()]
        names[1:1] = [upscaler["name"] for upscaler in client.get("/sdapi/v1/latent-upscale-modes").json()]
        assert names[:3] == ["None", "Latent", "Lanczos"]
        for path in ("samplers", "schedulers"):
            assert all(entry["name"] for entry in client.get(f"/sdapi/v1/{path}").json())
        assert isinstance(client.get("/sdapi/v1/sd-vae").json(), list)
        model = client.get("/sdapi/v1/sd-models").json()[0]["title"]
        assert client.post("/sdapi/v1/options", json={"sd_model_checkpoint": model}).is_success
        now = client.get("/sdapi/v1/progress").json()
        assert (now["progress"], now["state"]["job_count"]) == (0.0, 0)
        assert "forge_preset" not in client.get("/sdapi/v1/options").json()
        faces = {"ADetailer": {"args": [True, True, {"ad_model": "face_yolov8n.pt"}]}}
        body = silly_body(site, token, steps=3, enable_hr=True, alwayson_scripts=faces)
        answer = client.post("/sdapi/v1/txt2img", json=body).raise_for_status().json()
    assert opened(answer["images"][0]).size == (384, 384)


def test_sillytavern_gives_up(fault_site):
    """Its stop button closes the connection and asks for an interrupt."""
    token = fault_site.user().headers["Authorization"].removeprefix("Bearer ")
    with httpx.Client(base_url=fault_site.url, headers=basic(f"me:{token}"), timeout=60) as client:

        def generate():
            with pytest.raises(httpx.ReadTimeout):
                client.post("/sdapi/v1/txt2img", json=silly_body(fault_site, token, steps=100), timeout=2)

        generating = threading.Thread(target=generate)
        generating.start()

        def now():
            return client.get("/sdapi/v1/progress").json()

        seen = wait_for(lambda: (progress := now())["state"]["sampling_step"] and progress, what="steps")
        assert 0 < seen["progress"] < 0.5 and seen["state"]["job_count"] == 1
        generating.join(30)
        assert now()["state"]["job_count"] == 1, "closing the connection alone stops nothing"
        client.post("/sdapi/v1/interrupt").raise_for_status()
        wait_for(lambda: now()["state"]["job_count"] == 0, what="the end")
        assert client.get("/api/usage").status_code == 401, "a password counts in the dialect only"
    own = httpx.get(f"{fault_site.url}/api/images/history", headers={"Authorization": f"Bearer {token}"})
    assert own.json()["total"] == 0


def test_many_wait_at_once(site):
    """Each waits in a thread of its own without a database connection, and all are answered."""
    clients = [site.user() for _ in range(3)]
    answers = []

    def draw(client):
        body = {"prompt": "a boat", "init_images": [picture()], "denoising_strength": 0.5} | SMALL
        answers.append(client.post("/sdapi/v1/img2img", json=body).status_code)

    threads = [threading.Thread(target=draw, args=(client,)) for client in clients for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [200] * 6

"""LoRAs, ControlNets, IP-Adapters and upscaler models that are installed, under the names of the dialect."""

import json

import numpy
import pytest
from safetensors.numpy import save_file

from generation import catalog
from generation.engine.catalog.addons import text_width
from generation.models import Generation
from generation.storage.image_requests import load_upload

from .conftest import picture

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def installed(tmp_path, settings):
    """One of each kind, with just enough in it to be listed."""
    settings.MODELS_DIR = tmp_path / "models"
    width = text_width(catalog.model_named(None), settings.MODELS_DIR)

    def put(name, tensors, **config):
        file = settings.MODELS_DIR / name
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({key: numpy.zeros(shape, numpy.float32) for key, shape in tensors.items()}, file)
        if config:
            (file.parent / "config.json").write_text(json.dumps(config))

    layer = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    put("loras/ink.safetensors", {f"{layer}.lora_down.weight": (4, width)})
    put("controlnet/control_v11p_sd15_canny/model.safetensors", {"x": (1,)}, cross_attention_dim=width)
    put(
        "ip_adapter/plain/ip_adapter.safetensors",
        {
            "image_proj.proj.weight": (4 * width, 8),
            "image_proj.proj.bias": (4 * width,),
            "image_proj.norm.weight": (width,),
            "image_proj.norm.bias": (width,),
            "ip_adapter.1.to_k_ip.weight": (8, width),
        },
    )
    put("ip_adapter/plain/image_encoder/model.safetensors", {"x": (1,)}, projection_dim=8)
    put("upscalers/4x-Crisp.safetensors", {"x": (1,)})


@pytest.fixture(autouse=True)
def _worker(start_worker):
    start_worker()


def options():
    return Generation.objects.get().options


def unit(**more):
    return {
        "ControlNet": {
            "args": [
                {
                    "enabled": True,
                    "model": "control_v11p_sd15_canny [d14c016b]",
                    "weight": 0.7,
                    "guidance_start": 0.1,
                    "guidance_end": 0.9,
                }
                | more
            ]
        }
    }


@pytest.mark.parametrize(("module", "preprocess"), [("canny", True), ("none", False), (None, False)])
@pytest.mark.parametrize("field", ["image", "input_image"])
def test_a_controlnet_unit(caller, module, preprocess, field):
    caller.drawn(alwayson_scripts=unit(module=module, **{field: picture(128, 128)}))
    control = options()["control"]
    assert load_upload(control.pop("image")["name"]).size == (128, 128)
    assert control == {
        "key": "control_v11p_sd15_canny",
        "scale": 0.7,
        "preprocess": preprocess,
        "begin": 0.1,
        "end": 0.9,
    }


def test_a_unit_without_a_picture_takes_the_start(caller):
    caller.drawn("img2img", init_images=[picture()], alwayson_scripts=unit(module="canny", image={"image": None}))
    assert options()["control"]["image"] == options()["start"]["image"]


@pytest.mark.parametrize("more", [{"enabled": False}, {"model": "None"}, {"model": None}])
def test_units_that_are_off(caller, more):
    caller.drawn(alwayson_scripts=unit(**more))
    assert options() == {}


def test_an_ip_adapter(caller):
    caller.drawn(alwayson_scripts=unit(model="ip-adapter_sd15", module="ip-adapter-auto", image=picture()))
    assert options()["reference"]["scale"] == 0.7 and "control" not in options()


def test_what_cannot_be(caller, refused, nothing_happened):
    two = unit(image=picture())
    two["ControlNet"]["args"] *= 2
    for scripts in (
        two,
        unit(image=picture(), model="control_v11p_sd15_depth"),
        unit(),
        unit(image=picture(), weight=3),
        unit(image=picture(), guidance_start=0.95),
    ):
        refused(
            caller.post("txt2img", {"prompt": "a boat", "alwayson_scripts": scripts}), 400, param="alwayson_scripts"
        )
    refused(caller.post("txt2img", {"prompt": "a boat <lora:nobody:1>"}), 400, param="prompt")
    nothing_happened()


def test_loras(caller):
    assert [lora["name"] for lora in caller.get("loras").json()] == ["ink"]
    answer = caller.drawn(prompt="a boat <lora:ink:0.5>")
    assert options()["loras"] == [{"key": "ink", "weight": 0.5}]
    assert answer["info"]["prompt"] == "a boat"


def test_the_lists(caller):
    models = ["sketch-2x", "4x-Crisp"]
    assert [upscaler["name"] for upscaler in caller.get("upscalers").json()] == ["None", "Lanczos", "Nearest", *models]
    assert [upscaler["name"] for upscaler in caller.get("realesrgan-models").json()] == models
    assert caller.get("scripts").json() == {"txt2img": ["controlnet"], "img2img": ["controlnet", "sd upscale"]}
    caller.post("extra-single-image", {"image": picture(32, 32), "upscaler_1": "4x-crisp"})
    assert options()["upscale"]["upscaler"] == "4x-Crisp"

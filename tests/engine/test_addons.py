"""Which add-ons an installation has: told from files, without torch, and safe from what strangers name."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from generation.engine.catalog.addons import Addons, text_width
from generation.engine.catalog.models import Catalog
from generation.engine.errors import InvalidRequest
from generation.engine.request.complete import complete_request
from generation.engine.request.fields import Picture
from generation.engine.request.request import build_request


def save(file, names, metadata=None):
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: np.zeros(shape, np.float16) for name, shape in names.items()}, file, metadata=metadata)


KOHYA = "lora_unet_{}_transformer_blocks_0_attn2_to_k.lora_down.weight"


@pytest.fixture
def root(tmp_path):
    save(
        tmp_path / "loras" / "one.safetensors",
        {KOHYA.format("down_blocks_0_attentions_0"): (4, 768)},
        {"ss_output_name": "Inky one"},
    )
    save(
        tmp_path / "loras" / "two.safetensors",
        {"unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_v.lora_A.weight": (8, 1024)},
    )
    save(tmp_path / "loras" / "xl.safetensors", {KOHYA.format("input_blocks_4_1"): (4, 2048)})
    save(
        tmp_path / "loras" / "words.safetensors",
        {"lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight": (4, 768)},
    )
    (tmp_path / "loras" / "pickle.pt").write_bytes(b"anything")
    (tmp_path / "loras" / "broken.safetensors").write_bytes(b"not safetensors at all")
    for name, width in (("control_v11p_sd15_canny", 768), ("openpose-sdxl", 2048), ("my-own", 768)):
        save(tmp_path / "controlnet" / name / "diffusion_pytorch_model.safetensors", {"x": (1,)})
        (tmp_path / "controlnet" / name / "config.json").write_text(json.dumps({"cross_attention_dim": width}))
    (tmp_path / "controlnet" / "empty").mkdir()
    return tmp_path


def test_families_are_told_from_the_tensors(root):
    loras = Addons(root).loras
    assert {key: lora.family for key, lora in loras.items()} == {"one": "sd", "two": "sd2", "xl": "sdxl", "words": "sd"}
    assert loras["one"].title == "Inky one" and loras["two"].title == "two"
    assert len(loras["one"].digest()) == 64 and loras["one"].digest() != loras["two"].digest()


def test_control_nets_tell_what_map_they_want(root):
    controls = Addons(root).controlnets
    assert {key: (net.family, net.kind) for key, net in controls.items()} == {
        "control_v11p_sd15_canny": ("sd", "canny"),
        "openpose-sdxl": ("sdxl", "pose"),
        "my-own": ("sd", ""),
    }


@pytest.mark.parametrize("folder", [None, "/nowhere/at/all"])
def test_without_a_folder_there_are_none(folder):
    addons = Addons(folder)
    assert (addons.loras, addons.controlnets, addons.ip_adapters) == ({}, {}, {})


def test_files_may_come_and_go(root):
    addons = Addons(root)
    save(root / "loras" / "new.safetensors", {KOHYA.format("mid_block_attentions_0"): (4, 768)})
    assert "new" in addons.loras
    (root / "loras" / "new.safetensors").unlink()
    assert "new" not in addons.loras


@pytest.mark.parametrize(
    "fields,param",
    [
        ({"loras": ["absent"]}, "loras"),
        ({"loras": ["xl"]}, "loras"),
        ({"loras": ["../loras/one"]}, "loras"),
        ({"control": {"key": "openpose-sdxl"}}, "control"),
        ({"control": {"key": "empty"}}, "control"),
        ({"reference": {}}, "reference"),
    ],
)
def test_what_a_model_cannot_use_is_refused(root, fields, param):
    from PIL import Image

    picture = Picture.of(Image.new("RGB", (64, 64)))
    fields = {name: {**value, "image": picture} if isinstance(value, dict) else value for name, value in fields.items()}
    spec = Catalog().get("stable-diffusion-v1-5")
    request = build_request(spec, prompt="a cat", **fields)
    with pytest.raises(InvalidRequest) as refusal:
        complete_request(request, spec, Addons(root))
    assert refusal.value.param == param
    suitable = build_request(
        spec, prompt="a cat", loras=["one", "words"], control={"key": "control_v11p_sd15_canny", "image": picture}
    )
    assert complete_request(suitable, spec, Addons(root)) == suitable


def test_the_width_of_a_models_text_is_read_from_its_files(models, catalog, tmp_path):
    from .original import save_original

    assert {key: text_width(catalog.get(key)) for key in ("sd1", "sdxl")} == {"sd1": 32, "sdxl": 64}
    file = save_original(models["sd1"], tmp_path / "single.safetensors")
    from dataclasses import replace

    assert text_width(replace(catalog.get("sd1"), sources=(str(file),))) == 32

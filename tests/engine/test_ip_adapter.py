"""Reference pictures (IP-Adapter): diffusers' pictures, for single rows of a batch, and nothing left behind."""

import json
import shutil

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from generation.engine.catalog.addons import Addons
from generation.engine.errors import InvalidRequest
from generation.engine.loop.engine import DiffusionEngine
from generation.engine.request.complete import complete_request
from generation.engine.request.fields import Picture
from generation.engine.request.request import build_request

from .models import save_adapter, save_lora
from .test_batching import together

PIPELINES = {"sd1": diffusers.StableDiffusionPipeline, "sdxl": diffusers.StableDiffusionXLPipeline}


@pytest.fixture(scope="module")
def files(models, tmp_path_factory):
    root = tmp_path_factory.mktemp("site")
    for key in PIPELINES:
        save_adapter(root / "ip_adapter" / key, models[key])
    (root / "loras").mkdir()
    save_lora(root / "loras" / "one.safetensors", models["sd1"], form="peft")
    return root


def start_engine(catalog, files):
    engine = DiffusionEngine(
        catalog, device="cpu", allow_download=False, threads=1, preview_interval=0, max_rows=16, models_dir=files
    )
    engine.start()
    return engine


@pytest.fixture(scope="module")
def engine(catalog, files):
    engine = start_engine(catalog, files)
    yield engine
    engine.stop()


def photograph(seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8))


def make(catalog, key="sd1", scale=0.7, picture=None, **fields):
    if scale is not None:
        fields["reference"] = {"image": Picture.of(picture or photograph()), "scale": scale}
    usual = {"prompt": "a red cat", "negative_prompt": "grey", "steps": 3, "seed": 5, "guidance_scale": 4}
    return build_request(catalog.get(key), **usual | fields)


def draw(engine, request):
    return np.asarray(engine.submit(request).result(60)[0].pixels, int)


def assert_same(ours, right):
    assert np.abs(ours - right).max() <= 1


def theirs(folder, adapter, request, lora=None):
    pipeline = PIPELINES[request.model].from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = diffusers.EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
    if lora:
        pipeline.load_lora_weights(str(lora))
    pipeline.load_ip_adapter(str(adapter), subfolder="", weight_name="ip_adapter.safetensors")
    pipeline.set_ip_adapter_scale(request.reference.scale)
    picture = pipeline(
        request.prompt,
        negative_prompt=request.negative_prompt,
        width=32,
        height=32,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance_scale,
        # Of the size that CLIP sees: each version of its library shrinks pictures in its own way.
        ip_adapter_image=request.reference.image.load(),
        generator=torch.Generator().manual_seed(5),
    ).images[0]
    return np.asarray(picture, int)


@pytest.mark.parametrize("guidance", [1, 4])
@pytest.mark.parametrize("key", ["sd1", "sdxl"])
def test_it_draws_what_diffusers_draws(engine, catalog, models, files, key, guidance):
    request = make(catalog, key, guidance_scale=guidance)
    ours = draw(engine, request)
    assert_same(ours, theirs(models[key], files / "ip_adapter" / key, request))
    assert np.abs(ours - draw(engine, make(catalog, key, None, guidance_scale=guidance))).max() > 5


@pytest.mark.parametrize("kind", ["plus", "full"])
@pytest.mark.parametrize("key", ["sd1", "sdxl"])
def test_every_kind_draws_what_diffusers_draws(catalog, models, tmp_path, key, kind):
    adapter = save_adapter(tmp_path / "ip_adapter" / "own", models[key], kind=kind)
    assert Addons(tmp_path).ip_adapters["own"].kind == kind
    engine = start_engine(catalog, tmp_path)
    request = make(catalog, key)
    ours, plain = draw(engine, request), draw(engine, make(catalog, key, None))
    engine.stop()
    assert_same(ours, theirs(models[key], adapter, request))
    assert np.abs(ours - plain).max() > 5


def test_beside_a_lora_of_the_same_layers(engine, catalog, models, files):
    request = make(catalog, loras=["one"])
    right = theirs(models["sd1"], files / "ip_adapter" / "sd1", request, files / "loras" / "one.safetensors")
    assert_same(draw(engine, request), right)


def test_rows_with_and_without_share_every_pass(engine, catalog, monkeypatch):
    requests = [
        make(catalog, **{"steps": 9} | fields)
        for fields in [
            {"scale": None},
            {},
            {"scale": 0.2, "seed": 6},
            {"picture": photograph(1), "guidance_scale": 1},
            {"scale": None, "steps": 11},
        ]
    ]
    alone = [draw(engine, request) for request in requests]
    unet = engine.models.get(catalog.get("sd1")).unet
    forward, sizes = unet.forward, []
    monkeypatch.setattr(unet, "forward", lambda sample, *a, **k: sizes.append(len(sample)) or forward(sample, *a, **k))
    for job, right in zip(together(engine, requests), alone, strict=True):
        assert_same(np.asarray(job.result(60)[0].pixels, int), right)
    assert 9 in sizes and len(sizes) <= 20
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in unet.modules())


def test_the_middle_of_a_larger_picture_is_looked_at(engine, catalog):
    wide = Image.new("RGB", (96, 32))
    wide.paste(photograph(), (32, 0))
    assert np.array_equal(draw(engine, make(catalog, picture=wide)), draw(engine, make(catalog)))


def test_without_an_adapter_it_is_refused_and_the_next_request_is_clean(catalog, models, tmp_path):
    save_adapter(tmp_path / "ip_adapter" / "sdxl", models["sdxl"])
    engine = start_engine(catalog, tmp_path)
    plain = draw(engine, make(catalog, scale=None))
    with pytest.raises(InvalidRequest) as caught:
        draw(engine, make(catalog))
    assert caught.value.param == "reference"
    assert np.array_equal(draw(engine, make(catalog, scale=None)), plain)
    engine.stop()


def test_one_whose_layers_are_others_is_named(catalog, models, tmp_path):
    file = save_adapter(tmp_path / "ip_adapter" / "own", models["sd1"]) / "ip_adapter.safetensors"
    tensors = load_file(file)
    engine = start_engine(catalog, tmp_path)
    save_file({name.replace("ip_adapter.3", "ip_adapter.99"): tensor for name, tensor in tensors.items()}, file)
    with pytest.raises(InvalidRequest, match="own.*not made for"):
        draw(engine, make(catalog))
    save_file(tensors, file)
    recipe = engine.submit(make(catalog)).result(60)[0].recipe["reference"]
    assert recipe["key"] == "own" and recipe["scale"] == 0.7 and len(recipe["hash"]) == 64
    engine.stop()


@pytest.mark.parametrize(
    "kind,change,message",
    [
        ("plain", {"proj.": "face."}, "not known"),
        ("plus", {"latents": "perceiver_resampler.latents"}, "face"),
        ("full", {"proj.3.": "norm."}, "face"),
        ("plus", {"layers.3": "layers.4"}, "not known|four"),
        ("plus", {"proj_out.weight": "proj_out.other"}, "its kind"),
        ("full", {"proj.0.weight": "proj.0.other"}, "its kind"),
    ],
)
def test_a_kind_that_cannot_be_used_is_refused_when_it_is_asked_for(catalog, models, tmp_path, kind, change, message):
    file = save_adapter(tmp_path / "ip_adapter" / "own", models["sd1"], kind=kind) / "ip_adapter.safetensors"
    tensors = load_file(file)
    for old, new in change.items():
        tensors = {name.replace(f"image_proj.{old}", f"image_proj.{new}"): tensor for name, tensor in tensors.items()}
    save_file(tensors, file)
    assert Addons(tmp_path).ip_adapters == {}
    assert_refused(catalog, tmp_path, f"own.*({message})")


def assert_refused(catalog, root, message):
    with pytest.raises(InvalidRequest, match=message) as caught:
        complete_request(make(catalog), catalog.get("sd1"), Addons(root))
    assert caught.value.param == "reference"


def test_an_image_encoder_of_another_kind_is_refused_and_a_sound_adapter_goes_before(catalog, models, tmp_path):
    folder = save_adapter(tmp_path / "ip_adapter" / "first", models["sd1"], kind="plus") / "image_encoder"
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"hidden_size": 48}))
    assert_refused(catalog, tmp_path, "first.*32 numbers and not 48")
    (folder / "model.safetensors").rename(folder / "elsewhere.bin")
    assert_refused(catalog, tmp_path, "first.*no weights")
    save_adapter(tmp_path / "ip_adapter" / "second", models["sd1"])
    assert Addons(tmp_path).ip_adapter_for(32).key == "second"
    shutil.rmtree(tmp_path / "ip_adapter" / "second")
    assert_refused(catalog, tmp_path, "first")

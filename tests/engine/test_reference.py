"""Reference pictures (IP-Adapter): diffusers' pictures, for single rows of a batch, and nothing left behind."""

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from generation.engine.engine import DiffusionEngine
from generation.engine.errors import InvalidRequest
from generation.engine.modes import Picture
from generation.engine.reference import _as_clip_sees
from generation.engine.request import build_request

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
        catalog, device="cpu", allow_download=False, threads=1, preview_interval=0, max_rows=16, models_dir=files)
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
    tensors = load_file(adapter / "ip_adapter.safetensors")
    state = {part: {name.removeprefix(f"{part}."): tensor for name, tensor in tensors.items()
                    if name.startswith(f"{part}.")} for part in ("image_proj", "ip_adapter")}
    from transformers import CLIPVisionModelWithProjection

    if lora:
        pipeline.load_lora_weights(str(lora))
    encoder = CLIPVisionModelWithProjection.from_pretrained(adapter / "image_encoder")
    pipeline.unet._load_ip_adapter_weights([state])
    pipeline.set_ip_adapter_scale(request.reference.scale)
    # Pictures for CLIP are prepared in a different way by each version of its library: the same numbers for both.
    with torch.inference_mode():
        seen = encoder(_as_clip_sees(request.reference.image.load(), 32)).image_embeds[:, None]
    if request.guidance_scale > 1:
        seen = torch.cat([torch.zeros_like(seen), seen])
    picture = pipeline(
        request.prompt, negative_prompt=request.negative_prompt, width=32, height=32,
        num_inference_steps=request.steps, guidance_scale=request.guidance_scale, ip_adapter_image_embeds=[seen],
        generator=torch.Generator().manual_seed(5)).images[0]
    return np.asarray(picture, int)


@pytest.mark.parametrize("guidance", [1, 4])
@pytest.mark.parametrize("key", ["sd1", "sdxl"])
def test_it_draws_what_diffusers_draws(engine, catalog, models, files, key, guidance):
    request = make(catalog, key, guidance_scale=guidance)
    ours = draw(engine, request)
    assert_same(ours, theirs(models[key], files / "ip_adapter" / key, request))
    assert np.abs(ours - draw(engine, make(catalog, key, None, guidance_scale=guidance))).max() > 5


def test_beside_a_lora_of_the_same_layers(engine, catalog, models, files):
    request = make(catalog, loras=["one"])
    right = theirs(models["sd1"], files / "ip_adapter" / "sd1", request, files / "loras" / "one.safetensors")
    assert_same(draw(engine, request), right)


def test_rows_with_and_without_share_every_pass(engine, catalog, monkeypatch):
    requests = [make(catalog, **{"steps": 9} | fields) for fields in [
        {"scale": None}, {}, {"scale": 0.2, "seed": 6}, {"picture": photograph(1), "guidance_scale": 1},
        {"scale": None, "steps": 11}]]
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


def test_one_that_is_damaged_or_made_otherwise_is_named(catalog, models, tmp_path):
    from safetensors.torch import save_file

    file = save_adapter(tmp_path / "ip_adapter" / "own", models["sd1"]) / "ip_adapter.safetensors"
    tensors = load_file(file)
    engine = start_engine(catalog, tmp_path)
    for change, words in ((lambda name: name.replace("image_proj.proj", "image_proj.face"), "not made for"),
                          (lambda name: name.replace("ip_adapter.3", "ip_adapter.99"), "not made for")):
        save_file({change(name): tensor for name, tensor in tensors.items()}, file)
        with pytest.raises(InvalidRequest, match=f"own.*{words}"):
            draw(engine, make(catalog))
    save_file(tensors, file)
    told = engine.submit(make(catalog)).result(60)[0].recipe["reference"]
    assert told["key"] == "own" and told["scale"] == 0.7 and len(told["hash"]) == 64
    engine.stop()

"""Enlarging: by arithmetic, with models from safetensors files, and as jobs beside others on one engine."""

import pickle
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from generation.engine.catalog.upscalers import upscaler_names
from generation.engine.errors import Cancelled, InvalidRequest, ModelUnavailable
from generation.engine.factory import make_engine
from generation.engine.pictures import upscale
from generation.engine.request.fields import Picture
from generation.engine.request.request import build_request


def picture(width=40, height=24, seed=0) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 255, (6, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def numbers(pixels) -> np.ndarray:
    return np.asarray(pixels.convert("RGB"), int)


def rrdb(doublings=2, shrink=1, seed=0):
    torch.manual_seed(seed)
    net = upscale.RRDBNet(width=8, growth=4, blocks=2, doublings=doublings, shrink=shrink)
    # Near the identity, as trained ones are: else the result is one colour.
    net.conv_last.bias.data.fill_(0.5)
    net.conv_last.weight.data.mul_(4)
    return net


def as_published(net) -> dict:
    """Real-ESRGAN's names."""
    return {
        name.replace("ups.0", "conv_up1").replace("ups.1", "conv_up2"): tensor.contiguous()
        for name, tensor in net.state_dict().items()
    }


def as_trained(net) -> dict:
    """The names of ESRGAN's training code, by place in a sequence."""
    ups = len(net.ups)
    places = {
        "conv_first": 0,
        **{f"ups.{n}": 3 * (n + 1) for n in range(ups)},
        "conv_hr": 3 * ups + 2,
        "conv_last": 3 * ups + 4,
    }
    named = {}
    for name, tensor in net.state_dict().items():
        module, _, kind = name.rpartition(".")
        if module in places:
            name = f"model.{places[module]}.{kind}"
        elif module == "conv_body":
            name = f"model.1.sub.{len(net.body)}.{kind}"
        else:
            _, block, dense, conv = module.split(".")
            name = f"model.1.sub.{block}.{dense.upper()}.{conv}.0.{kind}"
        named[name] = tensor.contiguous()
    return named


def as_first_released(net) -> dict:
    """The names of ESRGAN's first release."""
    renamed = {
        "conv_body": "trunk_conv",
        "body.": "RRDB_trunk.",
        ".rdb": ".RDB",
        "ups.0": "upconv1",
        "ups.1": "upconv2",
        "conv_hr": "HRconv",
    }
    named = {}
    for name, tensor in net.state_dict().items():
        for ours, theirs in renamed.items():
            name = name.replace(ours, theirs)
        named[name] = tensor.contiguous()
    return named


@pytest.fixture
def models_dir(tmp_path):
    folder = tmp_path / "models"
    (folder / "upscalers").mkdir(parents=True)
    save_file(as_published(rrdb()), folder / "upscalers" / "tiny-4x.safetensors")
    yield folder
    upscale.forget_upscalers()


@pytest.fixture
def engine(catalog, models_dir):
    engine = make_engine(
        "torch", catalog, device="cpu", models_dir=models_dir, allow_download=False, threads=1, preview_interval=0
    )
    engine.start()
    yield engine
    engine.stop()


def make_request(catalog, pixels, models_dir=None, **upscale_fields):
    return build_request(
        catalog.get("sd1"),
        upscale={"image": Picture.of(pixels), **upscale_fields},
        upscalers=upscaler_names(models_dir),
    )


@pytest.mark.parametrize("how, filter", [("lanczos", Image.Resampling.LANCZOS), ("nearest", Image.Resampling.NEAREST)])
def test_plain_upscalers_are_pillows(how, filter):
    original = picture()
    assert (numbers(upscale.enlarge(original, (80, 48), how)) == numbers(original.resize((80, 48), filter))).all()


@pytest.mark.parametrize("named", [as_published, as_trained, as_first_released])
@pytest.mark.parametrize("doublings, shrink", [(2, 1), (1, 1), (2, 2)])
def test_a_network_is_told_from_its_tensors(tmp_path, named, doublings, shrink):
    net = rrdb(doublings, shrink)
    save_file(named(net), tmp_path / "net.safetensors")
    upscaler = upscale.load_upscaler(tmp_path / "net.safetensors")
    assert upscaler.scale == 2**doublings // shrink
    values = torch.rand(1, 3, 9, 12, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.equal(upscaler(values), net(values))


def test_the_small_network_too(tmp_path):
    torch.manual_seed(0)
    net = upscale.SRVGGNet(width=8, layers=3, scale=4)
    save_file(
        {f"params.{name}": tensor.contiguous() for name, tensor in net.state_dict().items()},
        tmp_path / "net.safetensors",
    )
    upscaler = upscale.load_upscaler(tmp_path / "net.safetensors")
    values = torch.rand(1, 3, 9, 12)
    with torch.inference_mode():
        assert upscaler.scale == 4 and torch.equal(upscaler(values), net(values))


def test_tiles_show_no_seams(models_dir, monkeypatch):
    original = picture(100, 70)
    whole = upscale.enlarge(original, (400, 280), "tiny-4x", models_dir=models_dir)
    upscale.forget_upscalers()
    monkeypatch.setattr(upscale, "TILE_BYTES", {"cpu": 0})
    reports = []
    tiled = upscale.enlarge(
        original, (400, 280), "tiny-4x", models_dir=models_dir, between=lambda *progress: reports.append(progress)
    )
    assert reports == [(done, 12) for done in range(1, 13)], "32 pixels a tile"
    assert np.abs(numbers(whole) - numbers(tiled)).max() <= 1


@pytest.mark.parametrize("size", [(80, 48), (160, 96), (320, 192), (100, 60), (40, 24)])
def test_any_size_comes_out_whatever_the_models_factor(models_dir, size):
    enlarged = upscale.enlarge(picture(), size, "tiny-4x", models_dir=models_dir)
    assert enlarged.size == size
    assert enlarged.convert("L").getextrema()[0] != enlarged.convert("L").getextrema()[1]


@pytest.mark.parametrize("harm", ["cut", "other model", "pickle", "too deep"])
def test_a_wrong_file_is_said_plainly_and_never_run(models_dir, models, tmp_path, harm):
    file = models_dir / "upscalers" / "bad.safetensors"
    good = (models_dir / "upscalers" / "tiny-4x.safetensors").read_bytes()
    if harm == "other model":
        shutil.copy(models["sd1"] / "unet" / "diffusion_pytorch_model.safetensors", file)
    elif harm == "too deep":
        save_file(
            {"conv_first.weight": torch.zeros(8, 3, 3, 3), "body.0.rdb1.conv1.weight": torch.zeros(4, 8, 3, 3)}, file
        )
    else:
        file.write_bytes(good[:-5] if harm == "cut" else pickle.dumps(Path("x")))
    with pytest.raises(ModelUnavailable) as caught:
        upscale.enlarge(picture(), (80, 48), "bad", models_dir=models_dir)
    assert str(models_dir) not in str(caught.value)


def test_only_installed_upscalers_can_be_asked_for(catalog, models_dir):
    (models_dir / "upscalers" / "old.pth").write_bytes(b"")
    assert upscaler_names(models_dir) == ("lanczos", "nearest", "sketch-2x", "tiny-4x")
    assert make_request(catalog, picture(), models_dir, upscaler="tiny-4x").upscale.upscaler == "tiny-4x"
    for name in ("old", "../tiny-4x", "tiny-4x.safetensors"):
        with pytest.raises(InvalidRequest) as caught:
            make_request(catalog, picture(), models_dir, upscaler=name)
        assert caught.value.param == "upscaler"
    with pytest.raises(InvalidRequest):
        upscale.enlarge(picture(), (80, 48), "../upscalers/tiny-4x", models_dir=models_dir)


@pytest.mark.parametrize("upscaler", ["lanczos", "tiny-4x"])
def test_an_upscale_is_a_job_like_any_other(engine, catalog, models_dir, upscaler):
    reports = []
    request = make_request(catalog, picture(), models_dir, upscaler=upscaler, factor=4)
    job = engine.submit(request, on_progress=reports.append, wants_preview=lambda: True)
    [image] = job.result(60)
    expected = upscale.enlarge(picture(), (160, 96), upscaler, models_dir=models_dir)
    assert (numbers(image.pixels) == numbers(expected)).all()
    assert image.recipe["upscaler"] == upscaler
    assert (reports[-1].step, reports[-1].steps) == (1, 1) and reports[-1].preview


def test_others_are_drawn_between_the_tiles_and_a_cancel_acts_there(engine, catalog, models_dir, monkeypatch):
    monkeypatch.setattr(upscale, "TILE_BYTES", {"cpu": 0})
    plain = build_request(catalog.get("sd1"), prompt="a red cat", steps=2, seed=3)
    alone = engine.submit(plain).result(60)[0]
    fractions, overtaken = [], threading.Event()
    other = []

    def after_tile(report):
        fractions.append(report.fraction)
        if len(fractions) == 2:
            other.append(engine.submit(plain))
        if other and other[0].done():
            overtaken.set()
            engine.cancel(job)

    job = engine.submit(
        make_request(catalog, picture(400, 400), models_dir, upscaler="tiny-4x"), on_progress=after_tile
    )
    with pytest.raises(Cancelled):
        job.result(120)
    assert overtaken.is_set(), "the whole upscale went before"
    assert (numbers(other[0].result(0)[0].pixels) == numbers(alone.pixels)).all()


def test_the_engine_is_well_after_an_upscaler_that_fails(engine, catalog, models_dir):
    (models_dir / "upscalers" / "bad.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(ModelUnavailable):
        engine.submit(make_request(catalog, picture(), models_dir, upscaler="bad")).result(60)
    assert engine.submit(make_request(catalog, picture())).result(60)[0].pixels.size == (80, 48)

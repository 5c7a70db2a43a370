"""Running out of memory: one retry with less, then a clear end, and the next request is right."""

import gc
import weakref

import numpy as np
import pytest
import torch

from generation.engine.errors import BadOutput, OutOfMemory
from generation.engine.request.request import build_request


class Failing:
    """Stands in for a UNet's forward: `times` calls fill the memory and raise, later ones go through."""

    def __init__(self, unet, times, error, at_call=1):
        self.forward, self.times, self.error, self.at_call = unet.forward, times, error, at_call
        self.calls, self.ballast = 0, []

    def __call__(self, *args, **kwargs):
        self.calls += 1
        if self.calls >= self.at_call and self.times:
            self.times -= 1
            ballast = torch.zeros(1000)
            self.ballast.append(weakref.ref(ballast))
            raise self.error
        return self.forward(*args, **kwargs)


@pytest.fixture
def request_(catalog):
    return build_request(catalog.get("sd1"), prompt="a red cat", seed=5, steps=3, num_images=2)


@pytest.fixture
def expected(narrow_engine, request_):
    return [np.asarray(image.pixels) for image in narrow_engine.submit(request_).result(60)]


def unet_of(engine, catalog):
    return engine.models.get(catalog.get("sd1")).unet


ERRORS = [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("DefaultCPUAllocator: can't allocate memory")]


@pytest.mark.parametrize("error", ERRORS, ids=["cuda", "cpu"])
def test_one_failure_is_retried_with_less(narrow_engine, catalog, request_, expected, monkeypatch, error):
    unet = unet_of(narrow_engine, catalog)
    monkeypatch.setattr(unet, "forward", Failing(unet, times=1, error=error, at_call=5))
    reports = []
    images = narrow_engine.submit(request_, on_progress=reports.append).result(60)
    assert [image.recipe["low_memory"] for image in images] == [False, True], "what was finished is kept"
    for image, right in zip(images, expected, strict=True):
        assert np.abs(np.asarray(image.pixels, int) - right.astype(int)).max() <= 1
    steps = [report.step for report in reports]
    assert steps == sorted(steps) and steps[-1] == 6

    monkeypatch.undo()
    following = narrow_engine.submit(request_).result(60)
    assert [image.recipe["low_memory"] for image in following] == [False, False]
    assert all(np.array_equal(image.pixels, right) for image, right in zip(following, expected, strict=True))


def test_a_second_failure_ends_the_job(narrow_engine, catalog, request_, expected, monkeypatch):
    failing = Failing(unet_of(narrow_engine, catalog), times=2, error=ERRORS[0])
    monkeypatch.setattr(unet_of(narrow_engine, catalog), "forward", failing)
    job = narrow_engine.submit(request_)
    with pytest.raises(OutOfMemory) as caught:
        job.result(60)
    assert caught.value.code == "out_of_memory" and not caught.value.transient
    assert failing.calls == 2
    gc.collect()
    assert [ref() for ref in failing.ballast] == [None, None], "tensors of the failed attempts are gone"
    images = narrow_engine.submit(request_).result(60)
    assert all(np.array_equal(image.pixels, right) for image, right in zip(images, expected, strict=True))


def test_other_models_leave_before_the_retry(torch_engine, catalog, request_, monkeypatch):
    torch_engine.submit(build_request(catalog.get("other"), prompt="a boat", steps=1)).result(60)
    torch_engine.submit(request_).result(60)
    assert torch_engine.status()["models"] == ["other", "sd1"]
    unet = unet_of(torch_engine, catalog)
    monkeypatch.setattr(unet, "forward", Failing(unet, times=1, error=ERRORS[0]))
    torch_engine.submit(request_).result(60)
    assert torch_engine.status()["models"] == ["sd1"]


def test_numbers_that_are_not_finite_are_a_failure(narrow_engine, catalog, request_, expected, monkeypatch):
    unet = unet_of(narrow_engine, catalog)
    forward = unet.forward
    nan = float("nan")
    monkeypatch.setattr(unet, "forward", lambda *args, **kwargs: (forward(*args, **kwargs)[0] * nan,))
    with pytest.raises(BadOutput):
        narrow_engine.submit(request_, wants_preview=lambda: True).result(60)
    monkeypatch.undo()
    assert np.array_equal(narrow_engine.submit(request_).result(60)[0].pixels, expected[0])


def test_a_decoder_that_overflows_in_half_precision_goes_on_in_full(catalog, monkeypatch):
    from generation.engine.loop.engine import DiffusionEngine

    engine = DiffusionEngine(catalog, device="cpu", dtype="bf16", allow_download=False)
    vae = engine.models.get(catalog.get("sd1")).vae
    decode = vae.decode

    def overflowing(latents, **options):
        image = decode(latents, **options)[0]
        return (image if latents.dtype == torch.float32 else image * float("inf"),)

    monkeypatch.setattr(vae, "decode", overflowing)
    engine.start()
    request = build_request(catalog.get("sd1"), prompt="a red cat", steps=2)
    assert len(engine.submit(request).result(60)) == 1
    assert vae.dtype == torch.float32
    engine.stop()

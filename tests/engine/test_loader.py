"""Models on the device and beside it: they leave when unused or in the way, and come back without their files."""

import gc
import shutil
import time
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from generation.engine.catalog.models import Catalog
from generation.engine.errors import ModelUnavailable
from generation.engine.loop.engine import DiffusionEngine
from generation.engine.networks import loader, precision
from generation.engine.networks.loader import ModelManager, NoRoom
from generation.engine.request.request import build_request

HOST = 10**9


@pytest.fixture
def specs(catalog, models, tmp_path):
    """Two models in folders of their own, which a test may take away."""
    return [
        replace(catalog.get(key), sources=(str(shutil.copytree(models[key], tmp_path / key)),))
        for key in ("sd1", "sd2")
    ]


@pytest.fixture
def manager():
    def make(**options):
        managers.append(ModelManager(device="cpu", allow_download=False, **options))
        return managers[-1]

    managers = []
    yield make
    for each in managers:
        each.close()


@pytest.fixture
def clock(monkeypatch):
    """Sets the loader's clock."""
    now = [1000.0]
    monkeypatch.setattr(loader.time, "monotonic", lambda: now[0])
    return lambda value: now.__setitem__(0, 1000.0 + value)


def vanish(spec):
    shutil.rmtree(spec.sources[0])


def one_fits(manager, specs):
    return max(manager.get(spec).nbytes for spec in specs) + 1000


def test_what_is_in_the_way_is_kept_beside_the_device(manager, specs):
    room = one_fits(manager(), specs)
    small = manager(memory_budget=room, host_memory=HOST)
    first = small.get(specs[0])
    weights = first.unet.conv_in.weight.clone()
    small.get(specs[1])
    assert small.resident() == ["sd2"]
    vanish(specs[0])
    again = small.get(specs[0])
    assert again is first and torch.equal(again.unet.conv_in.weight, weights)
    assert small.resident() == ["sd1"], "the other one had to make room"


def test_a_swap_searches_for_what_is_lost_only_where_memory_is_short(manager, specs, monkeypatch):
    searches = []
    monkeypatch.setattr(loader, "free_memory", searches.append)
    small = manager(memory_budget=one_fits(manager(), specs))
    weights = weakref.ref(small.get(specs[0]).unet.conv_in.weight)
    gc.collect()
    gc.disable()
    try:
        small.get(specs[1])
        assert weights() is None and not searches, "it leaves without a search"
    finally:
        gc.enable()
    monkeypatch.setattr(loader, "_free_memory", lambda: 0)
    small.get(specs[0])
    assert searches


def test_without_room_beside_it_the_model_is_gone(manager, specs):
    small = manager(memory_budget=one_fits(manager(), specs))
    small.get(specs[0])
    small.get(specs[1])
    vanish(specs[0])
    with pytest.raises(ModelUnavailable):
        small.get(specs[0])


def test_the_host_has_a_limit_too(manager, specs):
    room = one_fits(manager(), specs)
    small = manager(memory_budget=room, host_memory=room)
    small.get(specs[0]), small.get(specs[1])
    small.unload()
    assert small.resident() == []
    vanish(specs[0]), vanish(specs[1])
    small.get(specs[1])
    with pytest.raises(ModelUnavailable):
        small.get(specs[0])


def test_models_in_use_stay(manager, specs):
    small = manager(memory_budget=one_fits(manager(), specs), host_memory=HOST, idle_unload=10)
    small.get(specs[0])
    with pytest.raises(NoRoom):
        small.get(specs[1], in_use={"sd1"})
    assert small.resident() == ["sd1"]


def test_unused_models_leave_after_a_while(manager, specs, clock):
    both = manager(idle_unload=60, host_memory=HOST)
    clock(0)
    both.get(specs[0])
    clock(30)
    both.get(specs[1])
    assert both.next_idle() == 30
    clock(59)
    both.unload_idle()
    assert both.resident() == ["sd1", "sd2"]
    clock(70)
    both.unload_idle(in_use={"sd2"})
    assert both.resident() == ["sd2"]
    clock(129)
    both.unload_idle()
    assert both.resident() == ["sd2"], "its time begins when it was last in use"
    clock(130)
    both.unload_idle()
    assert both.resident() == [] and both.next_idle() is None


def test_on_a_cpu_and_with_nought_they_stay(manager, specs, clock):
    for options in ({}, {"idle_unload": 0}):
        staying = manager(**options)
        clock(0)
        staying.get(specs[0])
        clock(10**6)
        staying.unload_idle()
        assert staying.resident() == ["sd1"] and staying.next_idle() is None


def test_an_engine_with_nothing_to_do_lets_them_go_and_draws_the_same_afterwards(catalog):
    engine = DiffusionEngine(catalog, device="cpu", allow_download=False, threads=1, idle_unload=0.05, host_memory=HOST)
    engine.start()
    request = build_request(catalog.get("sd1"), prompt="a red cat", seed=5, steps=2)
    first = np.asarray(engine.submit(request).result(60)[0].pixels)
    deadline = time.monotonic() + 60
    while engine.status()["models"]:
        assert time.monotonic() < deadline, "it never left"
        time.sleep(0.01)
    assert np.array_equal(engine.submit(request).result(60)[0].pixels, first)
    engine.stop()


def test_the_cpu_draws_in_what_was_measured_to_be_faster(manager, catalog, monkeypatch):
    built_in = next(spec for spec in Catalog() if spec.built_in)
    for gain, expected in ((1.29, torch.float32), (1.31, torch.bfloat16)):
        monkeypatch.setattr(precision, "bf16_gain", lambda gain=gain: gain)
        assert manager().dtype_for(catalog.get("sd1")) is expected
        assert manager().dtype_for(built_in) is torch.float32
        assert manager(dtype="fp32").dtype_for(catalog.get("sd1")) is torch.float32


def test_the_measurement_ends_with_a_number():
    assert 0 <= precision.measure_bf16_gain() < 100


def test_a_picture_in_bf16_is_nearly_the_same(catalog):
    pictures = []
    for dtype in ("fp32", "bf16"):
        engine = DiffusionEngine(catalog, device="cpu", dtype=dtype, allow_download=False, threads=1)
        engine.start()
        request = build_request(catalog.get("sd1"), prompt="a red cat", seed=5, steps=3)
        pictures.append(np.asarray(engine.submit(request).result(60)[0].pixels, float))
        engine.stop()
    assert 0 < np.sqrt(np.mean((pictures[0] - pictures[1]) ** 2)) < 8


def test_a_translated_unet_draws_the_same_and_loras_go_round_it(catalog, models, tmp_path):
    from .models import save_lora

    (tmp_path / "loras").mkdir()
    save_lora(tmp_path / "loras" / "one.safetensors", models["sd1"], form="peft")
    pictures = {}
    for compile in (False, "eager"):
        engine = DiffusionEngine(
            catalog, device="cpu", allow_download=False, threads=1, models_dir=tmp_path, compile=compile
        )
        engine.start()
        pictures[compile] = [
            np.asarray(
                engine.submit(build_request(catalog.get("sd1"), prompt="a red cat", seed=5, steps=2, loras=loras))
                .result(120)[0]
                .pixels,
                int,
            )
            for loras in ([], ["one"], [])
        ]
        engine.stop()
    for ours, right in zip(pictures["eager"], pictures[False], strict=True):
        assert np.abs(ours - right).max() <= 1

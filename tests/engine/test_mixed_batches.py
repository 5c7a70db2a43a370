"""Companies by chance: requests of all kinds that come and go at any step, and nobody's picture changes."""

import gc
import random
import threading

import numpy as np
import pytest
from PIL import Image

from generation.engine.errors import Cancelled, EngineError, InvalidRequest
from generation.engine.loop.engine import DiffusionEngine
from generation.engine.loop.rows import Row
from generation.engine.networks.ip_adapter import ImagePromptTokens
from generation.engine.networks.vae import Encoded
from generation.engine.request.fields import Picture
from generation.engine.request.request import build_request

from .models import save_adapter, save_control, save_lora
from .pictures import hole, scene

SIZE = 9
"""Requests drawn together."""


@pytest.fixture(scope="module")
def files(models, tmp_path_factory):
    """Add-ons for the models that have some here."""
    root = tmp_path_factory.mktemp("site")
    (root / "loras").mkdir()
    for number, key in enumerate(("sd1", "sdxl")):
        for name in ("one", "two"):
            save_lora(root / "loras" / f"{key}-{name}.safetensors", models[key], form="peft", seed=number + len(name))
        save_control(root / "controlnet" / f"{key}-canny", models[key])
        save_adapter(root / "ip_adapter" / key, models[key])
    (root / "loras" / "broken.safetensors").write_bytes(b"nothing")
    return root


def start_engine(catalog, files, **options):
    engine = DiffusionEngine(
        catalog, device="cpu", allow_download=False, threads=1, preview_interval=0, models_dir=files, **options
    )
    engine.start()
    return engine


@pytest.fixture(scope="module")
def alone(catalog, files):
    engine = start_engine(catalog, files)
    yield lambda request: engine.submit(request).result(60)
    engine.stop()


def anyone(chance: random.Random, spec):
    """A request for that model."""
    fields = {
        "prompt": chance.choice(["a red cat", "a (boat:1.3)", "two cats in a boat " * 30]),
        "negative_prompt": chance.choice(["", "grey"]),
        "seed": chance.randrange(1000),
        "steps": chance.randint(1, 7),
        "sampler": chance.choice(spec.samplers),
        "guidance_scale": chance.choice([1.0, 3.0, 7.5]),
        "num_images": chance.choice([1, 1, 1, 3]),
        "width": chance.choice([32, 32, 48]),
        "tiling": chance.random() < 0.15,
        "clip_skip": chance.choice([0, 0, 1]),
    }
    for odds, kind in ((0.4, _start), (0.25, _hires), (0.15, _variation), (0.15, _fast)):
        if chance.random() < odds:
            fields |= kind(chance)
    if spec.key in ("sd1", "sdxl"):
        for odds, kind in ((0.4, _loras), (0.3, _control), (0.3, _reference)):
            if chance.random() < odds:
                fields |= kind(chance, spec.key)
    return build_request(spec, **fields)


def _start(chance):
    fields = {"image": Picture.of(scene(seed=chance.randrange(3))), "strength": chance.choice([0.2, 0.5, 0.9, 1.0])}
    if chance.random() < 0.6:
        fields |= {
            "mask": Picture.of(hole()),
            "fill": chance.choice(["original", "blur", "noise", "zero"]),
            "padding": chance.choice([None, None, 2]),
        }
    elif chance.random() < 0.3:
        fields |= {"expand": {"right": 16}}
    return fields


def _hires(chance):
    return {
        "hires": {
            "scale": 1.5,
            "strength": chance.choice([0.0, 0.5, 1.0]),
            "upscaler": chance.choice(["latent", "lanczos"]),
        }
    }


def _variation(chance):
    return {"variation": {"seed": chance.randrange(9), "strength": chance.choice([0.0, 0.3, 1.0])}}


def _fast(chance):
    return {"quality": "fast"}


def _loras(chance, key):
    names = chance.choice([("one",), ("two",), ("one", "two")])
    return {"loras": [{"key": f"{key}-{name}", "weight": chance.choice([0.5, 1.0, -0.7])} for name in names]}


def _control(chance, key):
    return {
        "control": {
            "key": f"{key}-canny",
            "image": Picture.of(scene(seed=4)),
            "scale": chance.choice([0.5, 1.0]),
            "preprocess": chance.random() < 0.5,
            "begin": chance.choice([0.0, 0.3]),
            "end": chance.choice([0.6, 1.0]),
        }
    }


def _reference(chance, key):
    return {"reference": {"image": Picture.of(scene(seed=5)), "scale": chance.choice([0.3, 0.8])}}


def one_that_fails(chance, spec):
    """Somebody whose job ends with an error on the way."""

    def unreadable() -> Image.Image:
        raise OSError("the upload is gone")

    if chance.random() < 0.5:
        return build_request(spec, prompt="a red cat", image=Picture("gone", 32, 32, "gone", unreadable))
    return build_request(spec, prompt="a red cat", loras=["broken"])


class RequestTraffic:
    """Requests that come at step borders, and of which some are cancelled at others. A border is a report of anybody's
    progress, so that the same chance always does the same at the same place."""

    def __init__(self, engine, chance, requests, cancelled):
        self.engine, self.requests, self.jobs = engine, requests, {}
        self.borders = 0
        self.ready = threading.Event()
        self.arrivals = sorted((chance.choice([0, 0, chance.randrange(40)]), place) for place in range(len(requests)))
        self.departures = {place: chance.randrange(1, 12) for place in cancelled}

    def border(self, _progress=None):
        """On the engine's thread."""
        self.ready.wait(60)
        self.borders += 1
        while self.arrivals and (self.arrivals[0][0] <= self.borders or not self.going):
            self.arrive(self.arrivals.pop(0)[1])
        for place, wait in list(self.departures.items()):
            if place in self.jobs:
                self.departures[place] = wait - 1
                if wait <= 0:
                    del self.departures[place]
                    self.engine.cancel(self.jobs[place])

    @property
    def going(self):
        return [job for job in self.jobs.values() if not job.future.done()]

    def arrive(self, place):
        job = self.engine.submit(self.requests[place], on_progress=self.border, wants_preview=lambda: place % 2 == 0)
        self.jobs[place] = job
        job.future.add_done_callback(self.border)

    def run(self):
        self.arrive(self.arrivals.pop(0)[1])
        self.ready.set()
        for place in range(len(self.requests)):
            while place not in self.jobs:
                min(self.going or self.jobs.values(), key=id).future.exception(60)
            self.jobs[place].future.exception(60)


def in_memory():
    gc.collect()
    return [each for each in gc.get_objects() if isinstance(each, (Row, Encoded, ImagePromptTokens))]


def left_behind(model, before):
    """What should be gone when nobody is drawn any more. `before`: what lay in memory when all began."""
    known = {id(each) for each in before}
    remains = [each for each in in_memory() if id(each) not in known]
    for part in (model.unet, model.vae):  # the encoders keep hooks of transformers' own
        for name, layer in part.named_modules():
            if layer._forward_hooks or layer._forward_pre_hooks or getattr(layer, "padding_mode", "") == "circular":
                remains.append(name)
    return remains


@pytest.mark.parametrize("key, seed", [("sd1", 1), ("sdxl", 3), ("sd2", 4), ("inpaint", 5), ("lcm", 6)])
def test_everybody_who_stays_gets_the_picture_they_would_get_alone(catalog, files, alone, key, seed):
    chance, spec = random.Random(seed), catalog.get(key)
    requests = [anyone(chance, spec) for _ in range(SIZE)]
    requests[failing := chance.randrange(SIZE)] = one_that_fails(chance, spec)
    cancelled = set(chance.sample(range(SIZE), 2)) - {failing}
    before = in_memory()
    engine = start_engine(catalog, files, max_rows=chance.choice([4, 8, 16]))
    model = engine.models.get(spec)
    traffic = RequestTraffic(engine, chance, requests, cancelled)
    try:
        traffic.run()
    finally:
        engine.stop()
    jobs = traffic.jobs
    assert not left_behind(model, before)
    for place, request in enumerate(requests):
        error = jobs[place].future.exception()
        if place == failing:
            assert isinstance(error, EngineError) and not isinstance(error, Cancelled), f"{request}: {error!r}"
        elif isinstance(error, (Cancelled, InvalidRequest)) and (place in cancelled or _refused_alone(alone, request)):
            pass
        else:
            assert error is None, f"{request}: {error!r}"
            for ours, right in zip(jobs[place].future.result(), alone(request), strict=True):
                worst = np.abs(np.asarray(ours.pixels, int) - np.asarray(right.pixels, int)).max()
                assert worst <= 1, f"{request}, image {ours.index}: {worst}"


def _refused_alone(alone, request) -> bool:
    """Whether the request itself is wrong."""
    try:
        alone(request)
    except InvalidRequest:
        return True
    return False

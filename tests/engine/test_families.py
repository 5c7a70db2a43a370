"""Flux, SD3 and Qwen-Image: drawn as diffusers draws them, under the same contract as the step loop's models."""

import json
import shutil
import threading

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from generation.engine import pipelines, sources
from generation.engine.catalog import MODELS, PIPELINE_FAMILIES, Catalog
from generation.engine.eight_bits import EightBitLinear, to_eight_bits
from generation.engine.errors import BadOutput, Cancelled, EngineStopped, InvalidRequest, ModelUnavailable, OutOfMemory
from generation.engine.factory import make_engine
from generation.engine.loader import ModelManager
from generation.engine.modes import Picture
from generation.engine.request import build_request

from .families import SAVERS, family_spec

REFERENCE = {"flux": (diffusers.FluxPipeline, diffusers.FluxImg2ImgPipeline),
             "sd3": (diffusers.StableDiffusion3Pipeline, diffusers.StableDiffusion3Img2ImgPipeline),
             "qwen-image": (diffusers.QwenImagePipeline, diffusers.QwenImageImg2ImgPipeline)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("families")
    return {family: save(root / family) for family, save in SAVERS.items()}


@pytest.fixture(scope="module")
def mixed(folders, catalog):
    """The families and the step loop's models in one catalogue."""
    return Catalog((*(family_spec(family, folder) for family, folder in folders.items()), *catalog))


@pytest.fixture(scope="module")
def engine(mixed):
    engine = make_engine("torch", mixed, device="cpu", allow_download=False, threads=1, preview_interval=0)
    engine.start()
    yield engine
    engine.stop()


def start_picture(width=64, height=64) -> Picture:
    pixels = np.random.default_rng(1).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return Picture.of(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def draw(engine, spec, **asked):
    return engine.submit(build_request(spec, **{"prompt": "a red cat", "seed": 5, "steps": 3} | asked)).result(120)


def difference(one, other) -> int:
    return np.abs(np.asarray(one, int) - np.asarray(other, int)).max()


def reference(folder, family, request, picture=None):
    kind = REFERENCE[family][picture is not None]
    pipeline = kind.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    words = {"flux": {"guidance_scale": request.guidance_scale, "max_sequence_length": 256},
             "sd3": {"guidance_scale": request.guidance_scale, "negative_prompt": request.negative_prompt},
             "qwen-image": {"true_cfg_scale": request.guidance_scale,
                            "negative_prompt": request.negative_prompt or " "}}[family]
    if picture is not None:
        words |= {"image": picture.load(), "strength": request.start.strength}
    return pipeline(prompt=request.prompt, width=request.width, height=request.height,
                    num_inference_steps=request.steps, generator=torch.Generator().manual_seed(request.seed),
                    **words).images[0]


@pytest.mark.parametrize("family", SAVERS)
class TestEveryFamily:
    def test_pictures_are_diffusers_own(self, engine, mixed, folders, family):
        request = build_request(mixed.get(family), prompt="a red cat", negative_prompt="a dog", seed=5, steps=3,
                                width=96, height=64)
        [image] = engine.submit(request).result(120)
        assert image.pixels.size == (96, 64)
        assert difference(image.pixels, reference(folders[family], family, request)) <= 1
        assert image.recipe["weights"] == sources.weights_hash(
            [folders[family] / "transformer" / "diffusion_pytorch_model.safetensors"])
        assert str(folders[family].parent) not in json.dumps(image.recipe)

    def test_from_a_picture_too(self, engine, mixed, folders, family):
        request = build_request(mixed.get(family), prompt="a red cat", seed=5, steps=4, image=start_picture(),
                                strength=0.5, width=64, height=64)
        [image] = engine.submit(request).result(120)
        assert difference(image.pixels, reference(folders[family], family, request, start_picture())) <= 1

    def test_strength_zero_is_the_picture_itself(self, engine, mixed, family):
        [image] = draw(engine, mixed.get(family), image=start_picture(), strength=0)
        assert difference(image.pixels, start_picture().load()) == 0

    @pytest.mark.parametrize("strength", [0.01, 0.34, 0.6, 0.99, 1.0])
    def test_a_strength_draws_as_many_steps_as_the_request_counts(self, engine, mixed, family, strength):
        told = []
        request = build_request(mixed.get(family), prompt="a red cat", steps=3, image=start_picture(),
                                strength=strength)
        engine.submit(request, on_progress=told.append).result(120)
        steps = [report.step for report in told if report.phase == "generating" and report.step]
        assert steps == list(range(1, request.total_steps + 1))

    def test_several_images_have_their_own_seeds_and_progress_never_goes_back(self, engine, mixed, family):
        told = []
        request = build_request(mixed.get(family), prompt="a red cat", seed=9, steps=2, num_images=2)
        images = engine.submit(request, on_progress=told.append, wants_preview=lambda: True).result(120)
        assert [image.seed for image in images] == [9, 10]
        [second] = draw(engine, mixed.get(family), seed=10, steps=2)
        assert difference(images[1].pixels, second.pixels) == 0
        steps = [report.step for report in told]
        assert steps == sorted(steps) and steps[-1] == request.total_steps == 4
        assert told[-1].preview, "the first picture has taught the colours"

    def test_a_cancel_acts_at_the_next_step_and_keeps_what_was_finished(self, engine, mixed, family):
        reached = []

        def on_progress(report):
            reached.append(report.step)
            if report.step == 4:
                engine.cancel(job)

        job = engine.submit(build_request(mixed.get(family), prompt="a cat", steps=3, num_images=3),
                            on_progress=on_progress)
        with pytest.raises(Cancelled) as caught:
            job.result(120)
        assert len(caught.value.images) == 1 and max(reached) == 4
        assert draw(engine, mixed.get(family), steps=1)

    def test_what_it_cannot_do_is_refused_when_it_is_asked_for(self, mixed, family):
        spec = mixed.get(family)
        asked = {
            "mask": {"image": start_picture(), "mask": start_picture()},
            "expand": {"image": start_picture(), "expand": {"left": 8}},
            "loras": {"loras": ["x"]},
            "tiling": {"tiling": True},
            "hires_fix": {"hires": True},
            "quality": {"quality": "fast"},
            "clip_skip": {"clip_skip": 1},
            "sampler": {"sampler": "DDIM"},
        }
        for param, words in asked.items():
            with pytest.raises(InvalidRequest) as caught:
                build_request(spec, prompt="a cat", **words)
            assert caught.value.param == param, words

    def test_nothing_that_a_folder_names_is_imported_and_no_pickle_is_read(self, folders, family, tmp_path):
        folder = tmp_path / family
        shutil.copytree(folders[family], folder)
        index = json.loads((folder / "model_index.json").read_text())
        evil = index | {"_class_name": ["evil", "Evil"], "transformer": ["evil", "Evil"]}
        (folder / "model_index.json").write_text(json.dumps(evil))
        canary = tmp_path / "canary"
        code = f"import pathlib; pathlib.Path({str(canary)!r}).touch()\nclass Evil: pass\n"
        for part in ("", "transformer", "text_encoder", "tokenizer"):
            (folder / part / "evil.py").write_text(code)
            for name in ("config.json", "tokenizer_config.json"):
                file = folder / part / name
                if part and file.exists():
                    content = {"auto_map": {"AutoModel": "evil.Evil", "AutoTokenizer": ["evil.Evil", "evil.Evil"]}}
                    file.write_text(json.dumps(json.loads(file.read_text()) | content))
        manager = ModelManager(device="cpu", allow_download=False)
        assert manager.get(family_spec(family, folder)).nbytes
        assert not canary.exists()
        weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
        weights.rename(weights.with_suffix(".bin"))
        with pytest.raises(ModelUnavailable):
            ModelManager(device="cpu", allow_download=False).get(family_spec(family, folder))

    def test_a_folder_that_is_wrong_is_unavailable_and_the_next_request_is_right(
            self, engine, mixed, folders, family, tmp_path):
        shutil.copytree(folders[family], tmp_path / "broken")
        (tmp_path / "broken" / "transformer" / "config.json").write_text('{"num_layers": "x"}')
        broken = family_spec(family, tmp_path / "broken", key="broken")
        engine.catalog = mixed.adding(broken)
        with pytest.raises(ModelUnavailable):
            draw(engine, broken)
        assert draw(engine, mixed.get(family), steps=1)


def test_every_family_of_the_catalogue_has_its_classes():
    assert set(pipelines.FAMILIES) == set(PIPELINE_FAMILIES) == set(SAVERS)
    assert {spec.family for spec in MODELS} <= {"sd", "sdxl", *PIPELINE_FAMILIES}
    for family, described in pipelines.FAMILIES.items():
        assert set(described.parts) == set(sources.WEIGHTED_PARTS[family])
        assert {*described.tokenizers, "scheduler"} == set(sources.PLAIN_PARTS[family])


def test_guidance_that_was_distilled_into_flux_is_an_input(engine, mixed, tmp_path):
    spec = family_spec("flux", SAVERS["flux"](tmp_path / "dev", guidance=True), key="dev")
    engine.catalog = mixed.adding(spec)
    weak, strong = (draw(engine, spec, guidance_scale=scale)[0].pixels for scale in (1.5, 15))
    assert difference(weak, strong) > 1


def test_sd3_draws_without_its_largest_text_encoder(engine, mixed, folders, tmp_path):
    shutil.copytree(folders["sd3"], tmp_path / "small", ignore=shutil.ignore_patterns("text_encoder_3", "tokenizer_3"))
    spec = family_spec("sd3", tmp_path / "small", key="sd3-small")
    assert sources.is_ready(spec)
    engine.catalog = mixed.adding(spec)
    one, other = (draw(engine, each)[0].pixels for each in (spec, mixed.get("sd3")))
    assert difference(one, other) > 1


def test_rows_of_the_step_loop_go_on_between_the_steps(engine, mixed):
    spec, plain = mixed.get("qwen-image"), mixed.get("sd1")
    [alone] = draw(engine, plain, steps=4)
    overtaken, others = threading.Event(), []

    def on_progress(report):
        if report.step == 2 and not others:
            others.append(engine.submit(build_request(plain, prompt="a red cat", seed=5, steps=4)))
        if others and others[0].done():
            overtaken.set()

    engine.submit(build_request(spec, prompt="a cat", steps=16), on_progress=on_progress).result(120)
    assert overtaken.is_set()
    assert difference(others[0].result(0)[0].pixels, alone.pixels) <= 1


def test_models_leave_for_each_other_within_the_budget(mixed):
    engine = make_engine("torch", mixed, device="cpu", allow_download=False, threads=1, memory_budget=1)
    engine.start()
    jobs = [engine.submit(build_request(mixed.get(key), prompt="a cat", steps=steps, seed=1))
            for key, steps in (("sd1", 6), ("flux", 2), ("sd1", 2), ("sd3", 2))]
    try:
        for job in jobs:
            assert job.result(120)
        assert len(engine.status()["models"]) == 1
    finally:
        engine.stop()


@pytest.mark.parametrize("times, ends", [(1, "drawn"), (2, OutOfMemory)])
def test_out_of_memory_is_tried_once_more_with_less(engine, mixed, monkeypatch, times, ends):
    spec, failures = mixed.get("flux"), []
    real = pipelines.LoadedPipeline.draw

    def scarce(self, request, index, on_step):
        if len(failures) < times:
            failures.append(self.low_memory)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, request, index, on_step)

    monkeypatch.setattr(pipelines.LoadedPipeline, "draw", scarce)
    if ends == "drawn":
        assert draw(engine, spec)[0].recipe["low_memory"]
    else:
        with pytest.raises(ends):
            draw(engine, spec)
    assert failures == [False, True][:times]
    assert not draw(engine, spec)[0].recipe["low_memory"], "the next one is drawn as ever"


def test_a_black_picture_is_no_picture(engine, mixed, monkeypatch):
    monkeypatch.setattr(pipelines.LoadedPipeline, "draw", lambda *args: Image.new("RGB", (64, 64)))
    with pytest.raises(BadOutput):
        draw(engine, mixed.get("flux"))


def test_a_stop_ends_a_picture_between_its_steps(mixed):
    engine = make_engine("torch", mixed, device="cpu", allow_download=False, threads=1)
    engine.start()
    begun = threading.Event()
    job = engine.submit(build_request(mixed.get("flux"), prompt="a cat", steps=50, num_images=4),
                        on_progress=lambda report: report.step and begun.set())
    waiting = engine.submit(build_request(mixed.get("sd3"), prompt="a cat"))
    assert begun.wait(60)
    engine.stop()
    for each in (job, waiting):
        with pytest.raises(EngineStopped):
            each.result(0)


class TestEightBits:
    def test_a_layer_differs_by_the_rounding_alone(self):
        torch.manual_seed(0)
        linear = torch.nn.Linear(64, 32)
        inside = torch.nn.Sequential(linear, torch.nn.ReLU())
        values = torch.randn(5, 64)
        before = inside(values)
        assert to_eight_bits(inside, smallest=1) == 1
        assert isinstance(inside[0], EightBitLinear) and inside[0].weight.dtype is torch.int8
        assert (inside(values) - before).abs().max() < 0.05
        rounded = inside[0].weight.float() * inside[0].scale[:, None]
        assert (rounded - linear.weight).abs().max() <= linear.weight.abs().max() / 127 / 2 + 1e-6

    def test_a_zero_row_stays_zero(self):
        linear = torch.nn.Linear(8, 2, bias=False)
        linear.weight.data.zero_()
        assert (EightBitLinear(linear)(torch.ones(1, 8)) == 0).all()

    @pytest.mark.parametrize("family", SAVERS)
    def test_a_model_in_eight_bits_draws_nearly_the_same(self, engine, mixed, folders, family, monkeypatch):
        monkeypatch.setattr(to_eight_bits, "__defaults__", (64,))
        spec = family_spec(family, folders[family], key=f"{family}-int8", eight_bits=True)
        engine.catalog = mixed.adding(spec)
        [small], [whole] = draw(engine, spec), draw(engine, mixed.get(family))
        assert small.recipe["dtype"] == "int8"
        apart = np.abs(np.asarray(small.pixels, float) - np.asarray(whole.pixels, float)).mean()
        assert 0 < apart < 8
        models = engine.models
        assert models.get(spec).nbytes < models.get(mixed.get(family)).nbytes

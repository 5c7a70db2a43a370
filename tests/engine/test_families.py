"""Flux, SD3 and Qwen-Image: drawn as diffusers draws them, under the same contract as the step loop's models."""

import json
import shutil
import threading
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from generation.engine.catalog import model_files
from generation.engine.catalog.addons import Addons
from generation.engine.catalog.families import FAMILIES
from generation.engine.catalog.models import MODELS, Catalog
from generation.engine.errors import BadOutput, Cancelled, EngineStopped, InvalidRequest, ModelUnavailable, OutOfMemory
from generation.engine.factory import make_engine
from generation.engine.networks import pipelines
from generation.engine.networks.components import component_class
from generation.engine.networks.int8 import Int8Linear, quantize_int8
from generation.engine.networks.loader import ModelManager
from generation.engine.pictures.canvas import lay_out
from generation.engine.request.complete import check_addons
from generation.engine.request.fields import Picture
from generation.engine.request.request import build_request

from .families import CLASSES, SAVERS, family_spec, save_family_lora
from .models import extended, save_lora

FROM_PICTURE = {
    "flux": diffusers.FluxImg2ImgPipeline,
    "sd3": diffusers.StableDiffusion3Img2ImgPipeline,
    "qwen-image": diffusers.QwenImageImg2ImgPipeline,
}
INPAINTING = {
    "flux": diffusers.FluxInpaintPipeline,
    "sd3": diffusers.StableDiffusion3InpaintPipeline,
    "qwen-image": diffusers.QwenImageInpaintPipeline,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("families")
    return {family: save(root / family) for family, save in SAVERS.items()}


@pytest.fixture(scope="module")
def mixed(folders, catalog):
    """The families and the step loop's models in one catalogue."""
    return Catalog((*(family_spec(family, folder) for family, folder in folders.items()), *catalog))


@pytest.fixture(scope="module")
def site(folders, models, tmp_path_factory):
    """A MODELS_DIR with two LoRAs for each family, and one for Stable Diffusion."""
    root = tmp_path_factory.mktemp("site")
    (root / "loras").mkdir()
    for family, folder in folders.items():
        for seed in (1, 2):
            save_family_lora(root / "loras" / f"{family}-{seed}.safetensors", family, folder, seed=seed)
    save_lora(root / "loras" / "sd1.safetensors", models["sd1"], form="kohya")
    return root


@pytest.fixture(scope="module")
def engine(mixed, site):
    engine = make_engine(
        "torch", mixed, device="cpu", allow_download=False, threads=1, preview_interval=0, models_dir=site
    )
    engine.start()
    yield engine
    engine.stop()


def start_picture(width=64, height=64) -> Picture:
    pixels = np.random.default_rng(1).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return Picture.of(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def draw(engine, spec, **fields):
    return engine.submit(build_request(spec, **{"prompt": "a red cat", "seed": 5, "steps": 3} | fields)).result(120)


def difference(image, other) -> int:
    return np.abs(np.asarray(image, int) - np.asarray(other, int)).max()


MASK = Image.new("L", (64, 64))
MASK.paste(255, (16, 16, 40, 48))


def masked(**changes) -> dict:
    """What asks for inpainting with a hard edge, so that what is drawn can be told from what is given."""
    return {"image": start_picture(), "mask": Picture.of(MASK), "mask_blur": 0, "strength": 0.6, "steps": 4} | changes


def outside(picture, mask=MASK):
    """The pixels that were to stay."""
    return np.asarray(picture)[np.asarray(mask) == 0]


def hooks(model) -> list[int]:
    """How many there are on each layer."""
    parts = [part for part in model.text2img.components.values() if isinstance(part, torch.nn.Module)]
    return [len(module._forward_hooks) for part in parts for module in part.modules()]


def reference(folder, family, request, picture=None, mask=None, loras=()):
    """What diffusers draws. `loras`: files and weights."""
    kind = CLASSES[family] if picture is None else INPAINTING[family] if mask else FROM_PICTURE[family]
    pipeline = kind.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    for number, (file, _) in enumerate(loras):
        pipeline.load_lora_weights(str(file), adapter_name=f"l{number}")
    if loras:
        pipeline.set_adapters([f"l{number}" for number in range(len(loras))], [weight for _, weight in loras])
    kwargs = {
        "flux": {"guidance_scale": request.guidance_scale, "max_sequence_length": 256},
        "sd3": {"guidance_scale": request.guidance_scale, "negative_prompt": request.negative_prompt},
        "qwen-image": {"true_cfg_scale": request.guidance_scale, "negative_prompt": request.negative_prompt or " "},
    }[family]
    if picture is not None:
        kwargs |= {"image": picture.load(), "strength": request.start.strength}
    if mask is not None:
        kwargs["mask_image"] = mask
    unshifted = mask is not None and family == "sd3"  # diffusers' pipeline forgets that when it decodes
    drawn = pipeline(
        prompt=request.prompt,
        width=request.width,
        height=request.height,
        num_inference_steps=request.steps,
        generator=torch.Generator().manual_seed(request.seed),
        output_type="latent" if unshifted else "pil",
        **kwargs,
    ).images
    if unshifted:
        with torch.no_grad():
            config = pipeline.vae.config
            drawn = pipeline.vae.decode(drawn / config.scaling_factor + config.shift_factor).sample
        drawn = pipeline.image_processor.postprocess(drawn)
    return drawn[0]


@pytest.mark.parametrize("family", SAVERS)
class TestEveryFamily:
    def test_pictures_are_diffusers_own(self, engine, mixed, folders, family):
        request = build_request(
            mixed.get(family), prompt="a red cat", negative_prompt="a dog", seed=5, steps=3, width=96, height=64
        )
        [image] = engine.submit(request).result(120)
        assert image.pixels.size == (96, 64)
        assert difference(image.pixels, reference(folders[family], family, request)) <= 1
        assert image.recipe["weights"] == model_files.weights_hash(
            [folders[family] / "transformer" / "diffusion_pytorch_model.safetensors"]
        )
        assert str(folders[family].parent) not in json.dumps(image.recipe)

    def test_from_a_picture_too(self, engine, mixed, folders, family):
        request = build_request(
            mixed.get(family),
            prompt="a red cat",
            seed=5,
            steps=4,
            image=start_picture(),
            strength=0.5,
            width=64,
            height=64,
        )
        [image] = engine.submit(request).result(120)
        assert difference(image.pixels, reference(folders[family], family, request, start_picture())) <= 1

    def test_strength_zero_is_the_picture_itself(self, engine, mixed, family):
        [image] = draw(engine, mixed.get(family), image=start_picture(), strength=0)
        assert difference(image.pixels, start_picture().load()) == 0

    @pytest.mark.parametrize("strength", [0.01, 0.34, 0.6, 0.99, 1.0])
    def test_a_strength_draws_as_many_steps_as_the_request_counts(self, engine, mixed, family, strength):
        reports = []
        request = build_request(
            mixed.get(family), prompt="a red cat", steps=3, image=start_picture(), strength=strength
        )
        engine.submit(request, on_progress=reports.append).result(120)
        steps = [report.step for report in reports if report.phase == "generating" and report.step]
        assert steps == list(range(1, request.total_steps + 1))

    def test_several_images_have_their_own_seeds_and_progress_never_goes_back(self, engine, mixed, family):
        reports = []
        request = build_request(mixed.get(family), prompt="a red cat", seed=9, steps=2, num_images=2)
        images = engine.submit(request, on_progress=reports.append, wants_preview=lambda: True).result(120)
        assert [image.seed for image in images] == [9, 10]
        [second] = draw(engine, mixed.get(family), seed=10, steps=2)
        assert difference(images[1].pixels, second.pixels) == 0
        steps = [report.step for report in reports]
        assert steps == sorted(steps) and steps[-1] == request.total_steps == 4
        assert reports[-1].preview, "the first picture has taught the colours"

    def test_a_cancel_acts_at_the_next_step_and_keeps_what_was_finished(self, engine, mixed, family):
        reached = []

        def on_progress(report):
            reached.append(report.step)
            if report.step == 4:
                engine.cancel(job)

        job = engine.submit(
            build_request(mixed.get(family), prompt="a cat", steps=3, num_images=3), on_progress=on_progress
        )
        with pytest.raises(Cancelled) as caught:
            job.result(120)
        assert len(caught.value.images) == 1 and max(reached) == 4
        assert draw(engine, mixed.get(family), steps=1)

    @pytest.mark.parametrize("strength", [0.5, 1.0])
    def test_a_part_of_a_picture_is_drawn_as_diffusers_draws_it(self, engine, mixed, folders, family, strength):
        request = build_request(mixed.get(family), prompt="a red cat", seed=5, **masked(strength=strength))
        [image] = engine.submit(request).result(120)
        theirs = reference(folders[family], family, request, start_picture(), MASK)
        assert difference(image.pixels, Image.composite(theirs, start_picture().load(), MASK)) <= 1
        assert difference(image.pixels, start_picture().load()) > 20, "it must change something to prove anything"

    @pytest.mark.parametrize(
        "changes",
        [{}, {"mask_blur": 6}, {"padding": 4}, {"fill": "noise"}, {"fill": "zero"}, {"fill": "blur"}, {"strength": 0}],
    )
    def test_what_is_not_masked_stays_pixel_for_pixel(self, engine, mixed, family, changes):
        [plain] = draw(engine, mixed.get(family), **masked())
        [image] = draw(engine, mixed.get(family), **masked(**changes))
        assert difference(outside(image.pixels), outside(start_picture().load())) == 0
        assert (difference(image.pixels, plain.pixels) > 0) == bool(changes)
        assert [image.pixels.tobytes() for image in draw(engine, mixed.get(family), **masked())] == [
            plain.pixels.tobytes()
        ], "what one asked for is gone with it"

    def test_only_the_masked_area_is_drawn_at_the_full_size(self, engine, mixed, folders, family):
        request = build_request(mixed.get(family), prompt="a red cat", seed=5, **masked(padding=0, strength=0.5))
        [image] = engine.submit(request).result(120)
        canvas = lay_out(request.start, (64, 64))
        theirs = reference(folders[family], family, request, Picture.of(canvas.picture), canvas.mask)
        assert canvas.box == (12, 16, 44, 48)
        assert difference(image.pixels, canvas.put_back(theirs)) <= 1

    def test_a_picture_grows_around_what_it_was(self, engine, mixed, family):
        [image] = draw(
            engine, mixed.get(family), image=start_picture(), expand={"left": 32}, width=96, height=64, mask_blur=0
        )
        kept = image.pixels.crop((32, 0, 96, 64))
        assert image.pixels.size == (96, 64) and difference(kept, start_picture().load()) == 0

    def test_masked_pictures_have_their_own_seeds_and_can_be_cancelled(self, engine, mixed, family):
        reports = []
        request = build_request(mixed.get(family), prompt="a red cat", seed=9, num_images=2, **masked())
        images = engine.submit(request, on_progress=reports.append).result(120)
        [second] = draw(engine, mixed.get(family), seed=10, **masked())
        assert difference(images[1].pixels, second.pixels) == 0
        assert max(report.step for report in reports) == request.total_steps == 4
        assert difference(images[0].pixels, images[1].pixels) > 0
        reached = []

        def on_progress(report):
            reached.append(report.step)
            if report.step == 3:
                engine.cancel(job)

        job = engine.submit(request, on_progress=on_progress)
        with pytest.raises(Cancelled) as caught:
            job.result(120)
        assert len(caught.value.images) == 1 and max(reached) == 3

    def test_loras_draw_what_diffusers_draws_with_them_and_are_gone_afterwards(
        self, engine, mixed, folders, site, family
    ):
        spec, fields = mixed.get(family), {"prompt": "a red cat", "seed": 5, "steps": 3, "width": 64, "height": 64}
        [plain] = draw(engine, spec, **fields)
        before = hooks(engine.models.get(spec))
        files = [
            (site / "loras" / f"{family}-{number}.safetensors", weight) for number, weight in ((1, 0.8), (2, -0.5))
        ]
        for chosen in (files[:1], files):
            loras = [{"key": file.stem, "weight": weight} for file, weight in chosen]
            request = build_request(spec, loras=loras, **fields)
            [image] = engine.submit(request).result(120)
            assert difference(image.pixels, reference(folders[family], family, request, loras=chosen)) <= 1
            assert difference(image.pixels, plain.pixels) > 5, "it must change something to prove anything"
            assert [lora["key"] for lora in image.recipe["loras"]] == [file.stem for file, _ in chosen]
            assert all(len(lora["hash"]) == 64 for lora in image.recipe["loras"])
            [again] = draw(engine, spec, **fields)
            assert difference(again.pixels, plain.pixels) == 0 and "loras" not in again.recipe
            assert hooks(engine.models.get(spec)) == before

    def test_a_lora_acts_on_a_part_of_a_picture_too(self, engine, mixed, folders, site, family):
        request = build_request(
            mixed.get(family), prompt="a red cat", seed=5, loras=[f"{family}-1"], **masked(strength=0.5)
        )
        [image] = engine.submit(request).result(120)
        files = [(site / "loras" / f"{family}-1.safetensors", 1.0)]
        theirs = reference(folders[family], family, request, start_picture(), MASK, files)
        assert difference(image.pixels, Image.composite(theirs, start_picture().load(), MASK)) <= 1

    def test_a_lora_that_does_not_fit_is_named_and_the_next_request_is_clean(self, engine, mixed, family):
        spec = mixed.get(family)
        [plain] = draw(engine, spec)
        for key in ("sd1", "absent", *(f"{other}-1" for other in SAVERS if other != family)):
            with pytest.raises(InvalidRequest, match=f"“{key}”") as caught:
                draw(engine, spec, loras=[key])
            assert caught.value.param == "loras"
        assert difference(draw(engine, spec)[0].pixels, plain.pixels) == 0

    def test_what_it_cannot_do_is_refused_when_it_is_asked_for(self, mixed, family):
        spec = mixed.get(family)
        unsupported = {
            "control": {"control": {"key": "canny", "image": start_picture()}},
            "reference": {"reference": {"image": start_picture()}},
            "variation": {"variation": {"seed": 1, "strength": 0.5}},
            "tiling": {"tiling": True},
            "hires_fix": {"hires": True},
            "quality": {"quality": "fast"},
            "clip_skip": {"clip_skip": 1},
            "sampler": {"sampler": "DDIM"},
        }
        for param, fields in unsupported.items():
            with pytest.raises(InvalidRequest) as caught:
                build_request(spec, prompt="a cat", **fields)
            assert caught.value.param == param, fields

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
        self, engine, mixed, folders, family, tmp_path
    ):
        shutil.copytree(folders[family], tmp_path / "broken")
        (tmp_path / "broken" / "transformer" / "config.json").write_text('{"num_layers": "x"}')
        broken = family_spec(family, tmp_path / "broken", key="broken")
        engine.catalog = extended(mixed, broken)
        with pytest.raises(ModelUnavailable):
            draw(engine, broken)
        assert draw(engine, mixed.get(family), steps=1)


def test_every_family_of_the_catalogue_has_its_classes():
    assert {key for key, family in FAMILIES.items() if not family.step_loop} == set(SAVERS)
    assert {spec.family for spec in MODELS} == set(FAMILIES)
    for family in FAMILIES.values():
        assert all(isinstance(component_class(part), type) for part in family.parts if part.class_name)
        names = (family.pipeline, family.img2img_pipeline, family.inpaint_pipeline)
        assert all(issubclass(getattr(diffusers, name), diffusers.DiffusionPipeline) for name in names if name)
        assert {part.tokenizer for part in family.text_encoders} | {"scheduler"} == set(family.plain_parts)
        assert set(family.lora_encoders) <= {part.name for part in family.text_encoders}


def test_guidance_that_was_distilled_into_flux_is_an_input(engine, mixed, tmp_path):
    spec = family_spec("flux", SAVERS["flux"](tmp_path / "dev", guidance=True), key="dev")
    engine.catalog = extended(mixed, spec)
    weak, strong = (draw(engine, spec, guidance_scale=scale)[0].pixels for scale in (1.5, 15))
    assert difference(weak, strong) > 1


@pytest.mark.parametrize(
    "family, halves, layers",
    [
        (
            "flux",
            ("lora_down", "lora_up"),
            {"lora_unet_double_blocks_0_img_attn_qkv": (32, 96), "lora_unet_double_blocks_0_txt_mlp_0": (32, 128)},
        ),
        (
            "qwen-image",
            ("lora_down", "lora_up"),
            {
                "lora_unet_transformer_blocks_0_attn_to_q": (48, 48),
                "lora_unet_transformer_blocks_1_img_mlp_net_2": (192, 48),
            },
        ),
        ("qwen-image", ("lora_A", "lora_B"), {"diffusion_model.transformer_blocks.0.attn.to_out.0": (48, 48)}),
    ],
)
def test_loras_of_other_tools_draw_what_diffusers_draws_with_them(engine, mixed, folders, site, family, halves, layers):
    spec, generator = mixed.get(family), torch.Generator().manual_seed(3)
    tensors = {}
    for name, (inner, outer) in layers.items():
        for half, shape in zip(halves, ((2, inner), (outer, 2)), strict=True):
            tensors[f"{name}.{half}.weight"] = torch.randn(shape, generator=generator)
        tensors[f"{name}.alpha"] = torch.tensor(1.0)
    file = site / "loras" / "other.safetensors"
    save_file(tensors, file)
    request = build_request(spec, prompt="a red cat", seed=5, steps=3, loras=[{"key": "other", "weight": 0.9}])
    check_addons(request, spec, Addons(site))
    [image] = engine.submit(request).result(120)
    assert difference(image.pixels, reference(folders[family], family, request, loras=[(file, 0.9)])) <= 1
    assert difference(image.pixels, draw(engine, spec)[0].pixels) > 5


def test_loras_for_transformers_and_those_for_unets_are_told_apart_when_they_are_asked_for(mixed, site):
    addons = Addons(site)
    assert {key: addons.loras[key].family for key in ("flux-1", "sd3-1", "qwen-image-1")} == {
        "flux-1": "flux",
        "sd3-1": "transformer",
        "qwen-image-1": "qwen-image",
    }
    wrong = {
        "sd1": ("flux-1", "sd3-1", "qwen-image-1"),
        "flux": ("sd1", "qwen-image-1"),
        "sd3": ("sd1", "flux-1"),
        "qwen-image": ("sd1", "flux-1"),
    }
    for spec, key in ((mixed.get(model), key) for model, keys in wrong.items() for key in keys):
        with pytest.raises(InvalidRequest, match=f"“{key}” was not made for"):
            check_addons(build_request(spec, prompt="a cat", loras=[key]), spec, addons)
    for family in SAVERS:
        request = build_request(mixed.get(family), prompt="a cat", loras=[f"{family}-1"])
        check_addons(request, mixed.get(family), addons)


def test_a_dora_is_refused(engine, mixed, site):
    tensors = load_file(site / "loras" / "flux-1.safetensors")
    tensors["transformer.transformer_blocks.0.attn.to_q.dora_scale"] = torch.ones(32, 1)
    save_file(tensors, site / "loras" / "dora.safetensors")
    with pytest.raises(InvalidRequest, match="DoRA") as caught:
        draw(engine, mixed.get("flux"), loras=["dora"])
    assert caught.value.param == "loras"


def test_sd3_draws_without_its_largest_text_encoder(engine, mixed, folders, tmp_path):
    shutil.copytree(folders["sd3"], tmp_path / "small", ignore=shutil.ignore_patterns("text_encoder_3", "tokenizer_3"))
    spec = family_spec("sd3", tmp_path / "small", key="sd3-small")
    assert model_files.is_ready(spec)
    engine.catalog = extended(mixed, spec)
    reduced, complete = (draw(engine, sd3)[0].pixels for sd3 in (spec, mixed.get("sd3")))
    assert difference(reduced, complete) > 1


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
    jobs = [
        engine.submit(build_request(mixed.get(key), prompt="a cat", steps=steps, seed=1))
        for key, steps in (("sd1", 6), ("flux", 2), ("sd1", 2), ("sd3", 2))
    ]
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


@pytest.mark.parametrize("family", SAVERS)
def test_in_half_precision_with_little_memory_masks_fills_and_loras_work_as_well(mixed, site, family, monkeypatch):
    engine = make_engine("torch", mixed, device="cpu", dtype="bf16", allow_download=False, threads=1, models_dir=site)
    real, failed = pipelines.LoadedPipeline.draw, []

    def scarce(self, *args):
        if not failed:
            failed.append(True)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, *args)

    monkeypatch.setattr(pipelines.LoadedPipeline, "draw", scarce)
    engine.start()
    try:
        for fill in ("noise", "zero"):
            [image] = draw(engine, mixed.get(family), loras=[f"{family}-1"], **masked(fill=fill))
            assert image.recipe["dtype"] == "bf16" and image.recipe["low_memory"] == (fill == "noise")
            assert difference(outside(image.pixels), outside(start_picture().load())) == 0
            assert difference(image.pixels, start_picture().load()) > 20
    finally:
        engine.stop()


def test_a_black_picture_is_no_picture(engine, mixed, monkeypatch):
    black = SimpleNamespace(images=[Image.new("RGB", (64, 64))])
    for kind in (diffusers.FluxPipeline, pipelines._inpaint_class("FluxInpaintPipeline")):
        monkeypatch.setattr(kind, "__call__", lambda *args, **kwargs: black)
    with pytest.raises(BadOutput):
        draw(engine, mixed.get("flux"), **masked())
    with pytest.raises(BadOutput):
        draw(engine, mixed.get("flux"))


def test_a_stop_ends_a_picture_between_its_steps(mixed):
    engine = make_engine("torch", mixed, device="cpu", allow_download=False, threads=1)
    engine.start()
    begun = threading.Event()
    job = engine.submit(
        build_request(mixed.get("flux"), prompt="a cat", steps=50, num_images=4),
        on_progress=lambda report: report.step and begun.set(),
    )
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
        assert quantize_int8(inside, smallest=1) == 1
        assert isinstance(inside[0], Int8Linear) and inside[0].weight.dtype is torch.int8
        assert (inside(values) - before).abs().max() < 0.05
        rounded = inside[0].weight.float() * inside[0].scale[:, None]
        assert (rounded - linear.weight).abs().max() <= linear.weight.abs().max() / 127 / 2 + 1e-6

    def test_a_zero_row_stays_zero(self):
        linear = torch.nn.Linear(8, 2, bias=False)
        linear.weight.data.zero_()
        assert (Int8Linear(linear)(torch.ones(1, 8)) == 0).all()

    @pytest.mark.parametrize("family", SAVERS)
    def test_a_model_in_eight_bits_draws_nearly_the_same(self, engine, mixed, folders, family, monkeypatch):
        monkeypatch.setattr(quantize_int8, "__defaults__", (64,))
        spec = family_spec(family, folders[family], key=f"{family}-int8", int8=True)
        engine.catalog = extended(mixed, spec)
        [small], [whole] = draw(engine, spec), draw(engine, mixed.get(family))
        assert small.recipe["dtype"] == "int8"
        apart = np.abs(np.asarray(small.pixels, float) - np.asarray(whole.pixels, float)).mean()
        assert 0 < apart < 8
        [styled] = draw(engine, spec, loras=[f"{family}-1"])
        assert difference(styled.pixels, small.pixels) > 5
        models = engine.models
        assert models.get(spec).nbytes < models.get(mixed.get(family)).nbytes

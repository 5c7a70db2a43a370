"""From nothing to a folder that diffusers loads, with a recipe far too small to learn anything."""

import json

import numpy as np
import pytest

from generation.engine.sketch.recipe import PRESETS
from generation.engine.sketch.train import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    base = tmp_path_factory.mktemp("sketch")
    lines = []
    run("smoke", base / "weights", base / "work", device="cpu", say=lines.append)
    assert any("autoencoder 4/4" in line and "it/s" in line for line in lines)
    return base


def test_the_folder_loads_and_draws(folder):
    import torch
    from diffusers import AutoPipelineForText2Image, StableDiffusionPipeline

    path = folder / "weights"
    pipe = StableDiffusionPipeline.from_pretrained(path, torch_dtype=torch.float32, use_safetensors=True)
    assert pipe.vae_scale_factor == 16 and pipe.safety_checker is None
    assert isinstance(AutoPipelineForText2Image.from_pretrained(path), StableDiffusionPipeline)
    pipe.set_progress_bar_config(disable=True)
    image = pipe("a red boat", num_inference_steps=2, generator=torch.Generator().manual_seed(1)).images[0]
    assert image.size == (256, 256)
    assert not list(path.rglob("*.bin"))


def test_training_goes_on_where_it_stopped(folder):
    import torch

    before = torch.load(folder / "work" / "denoiser.pt", weights_only=True)
    lines = []
    run("smoke", folder / "again", folder / "work", device="cpu", say=lines.append)
    after = torch.load(folder / "work" / "denoiser.pt", weights_only=True)
    assert after["step"] == before["step"] == PRESETS["smoke"].denoiser_steps
    assert not any("data:" in line for line in lines)


def test_the_preview_is_a_linear_map_of_latents(folder):
    preview = json.loads((folder / "weights" / "preview.json").read_text())
    assert np.array(preview["matrix"]).shape == (PRESETS["smoke"].latent_channels, 3)
    assert np.array(preview["bias"]).shape == (3,)


@pytest.mark.parametrize(
    "text", ["", "a red boat", "日本語 😀 é", "\x00\x07 \n\t", "<|endoftext|> x", "zqxj " * 400, "🏳️‍🌈" * 50]
)
def test_any_text_is_legal(folder, text):
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(folder / "weights" / "tokenizer")
    ids = tokenizer(text, padding="max_length", truncation=True).input_ids
    assert len(ids) == tokenizer.model_max_length == PRESETS["smoke"].tokens
    assert max(ids) < len(tokenizer)
    assert ids[0] == tokenizer.bos_token_id and tokenizer.eos_token_id in ids


def test_byte_fallback_loses_nothing(folder):
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(folder / "weights" / "tokenizer")
    ids = tokenizer("zebra 日本 😀", add_special_tokens=False).input_ids
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == "zebra 日本 😀"

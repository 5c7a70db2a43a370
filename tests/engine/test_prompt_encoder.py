"""Prompts: emphasis, long ones, the cache, and SDXL without a negative one."""

import json
import shutil
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch

from generation.engine.networks.loader import ModelManager
from generation.engine.networks.prompt_encoder import MAX_WINDOWS, PromptEncoder, parse_emphasis
from generation.engine.request.request import build_request

from .models import extended, tiny_spec

CASES = {
    "a red cat": [("a red cat", 1.0)],
    "": [("", 1.0)],
    "a (red:1.3) cat": [("a ", 1.0), ("red", 1.3), (" cat", 1.0)],
    "(cat)": [("cat", 1.1)],
    "((cat))": [("cat", 1.21)],
    "[cat]": [("cat", 1 / 1.1)],
    "(a (b:2) c:0.5)": [("a ", 0.5), ("b", 1.0), (" c", 0.5)],
    "(cat:.5)": [("cat", 0.5)],
    "(cat : 1.5 )": [("cat ", 1.5)],
    r"a \(red\) cat": [("a (red) cat", 1.0)],
    "half open (cat": [("half open (cat", 1.0)],
    "closed) cat": [("closed) cat", 1.0)],
    "(a] b)": [("a] b", 1.1)],
    "ratio 16:9) and (x:y)": [("ratio 16:9) and ", 1.0), ("x:y", 1.1)],
    "[a:1.5]": [("a:1.5", 1 / 1.1)],
    "(cat:9999)": [("cat", 10.0)],
    ":) smile (:": [(":) smile (:", 1.0)],
}


@pytest.mark.parametrize(("prompt", "expected"), CASES.items())
def test_emphasis_as_a1111_users_write_it(prompt, expected):
    pieces = parse_emphasis(prompt)
    assert [text for text, _ in pieces] == [text for text, _ in expected]
    assert [weight for _, weight in pieces] == pytest.approx([weight for _, weight in expected])


@pytest.mark.parametrize(
    "prompt",
    ["(" * 2000, ")" * 2000, "(" * 1000 + ")" * 1000, "[(" * 500 + ")]" * 500, "(x" * 400 + ":9)" * 400, "\\" * 2000],
)
def test_any_brackets_are_survived(prompt):
    assert all(0 <= weight <= 10 for _, weight in parse_emphasis(prompt))


@pytest.fixture(scope="module")
def manager(catalog):
    return ModelManager(device="cpu", allow_download=False)


@pytest.fixture(params=["sd1", "sdxl"])
def encoder(request, manager, catalog):
    model = manager.get(catalog.get(request.param))
    return PromptEncoder(model.text._encoders, model.device, model.dtype)


@torch.inference_mode()
def test_a_plain_prompt_is_encoded_as_it_stands(encoder):
    plain = encoder.encode("a red cat").tokens
    assert plain.shape[1] == 77
    assert torch.equal(plain, encoder.encode("a \\red cat".replace("\\", "")).tokens)
    assert torch.equal(encoder.encode("a (red:1.0) cat").tokens, plain)


@torch.inference_mode()
def test_weights_change_their_words_and_keep_the_mean(encoder):
    plain, heavy = (encoder.encode(prompt).tokens for prompt in ("a red cat", "a (red:1.5) cat"))
    assert plain.shape == heavy.shape and not torch.allclose(plain, heavy)
    assert heavy.mean() == pytest.approx(plain.mean().item(), abs=1e-5)
    ratio = (heavy / plain)[0].median(dim=-1).values
    assert ratio[2] / ratio[1] == pytest.approx(1.5, rel=1e-3), "the token after the start and “a”"


@torch.inference_mode()
def test_a_long_prompt_takes_more_windows_and_every_word_counts(encoder):
    letters = ["x"] * 100
    long = encoder.encode(" ".join(letters)).tokens
    assert long.shape[1] == 2 * 77
    assert not torch.allclose(long, encoder.encode(" ".join([*letters[:-1], "y"])).tokens)
    pair = encoder.encode_pair(" ".join(letters), "grey")
    assert pair[0].tokens.shape == pair[1].tokens.shape == long.shape
    assert torch.equal(pair[0].tokens, long)


@torch.inference_mode()
def test_what_does_not_fit_is_counted(encoder):
    result = encoder.encode("x " * 1000)
    assert result.tokens.shape[1] == MAX_WINDOWS * 77
    assert result.dropped == 1000 - MAX_WINDOWS * 75


@torch.inference_mode()
def test_a_prompt_is_encoded_once(encoder, monkeypatch):
    first = encoder.encode("a red cat")
    monkeypatch.setattr(encoder, "_encode", lambda *args: pytest.fail("encoded again"))
    assert encoder.encode("a red cat") is first
    encoder.forget()
    with pytest.raises(pytest.fail.Exception):
        encoder.encode("a red cat")


SETTING = "force_zeros_for_empty_prompt"


@pytest.fixture
def sdxl(models, tmp_path):
    """Make a copy whose index says `setting` of it; None: says nothing."""

    def make(setting) -> Path:
        folder = Path(shutil.copytree(models["sdxl"], tmp_path / "xl"))
        index = json.loads((folder / "model_index.json").read_text())
        index.pop(SETTING, None)
        (folder / "model_index.json").write_text(json.dumps(index | ({} if setting is None else {SETTING: setting})))
        return folder

    return make


def without_negative(torch_engine, catalog, path):
    """What we and diffusers draw when nobody gives a negative prompt."""
    spec = tiny_spec("xl", path, family="sdxl")
    torch_engine.catalog = extended(catalog, spec)
    request = build_request(spec, prompt="a red cat", seed=5, steps=3, guidance_scale=6)
    folder = path.with_suffix("") if path.is_file() else path
    theirs = diffusers.StableDiffusionXLPipeline.from_pretrained(folder)
    theirs.set_progress_bar_config(disable=True)
    picture = theirs(
        request.prompt,
        width=request.width,
        height=request.height,
        num_inference_steps=3,
        guidance_scale=6,
        generator=torch.Generator().manual_seed(5),
    ).images[0]
    return [np.asarray(pixels, int) for pixels in (torch_engine.submit(request).result(60)[0].pixels, picture)]


@pytest.mark.parametrize("setting", [True, False, None])
def test_sdxl_takes_no_negative_prompt_as_its_model_says(torch_engine, catalog, sdxl, setting):
    ours, theirs = without_negative(torch_engine, catalog, sdxl(setting))
    assert np.abs(ours - theirs).max() <= 1


def test_the_setting_changes_the_picture(torch_engine, catalog, sdxl):
    folder = sdxl(True)
    zeros, _ = without_negative(torch_engine, catalog, folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {SETTING: False}))
    torch_engine.models.unload()
    encoded, _ = without_negative(torch_engine, catalog, folder)
    assert np.abs(zeros - encoded).max() > 1


@pytest.mark.parametrize("setting", [False, None])
def test_a_single_file_takes_no_negative_prompt_as_diffusers_does(torch_engine, catalog, sdxl, setting, monkeypatch):
    folder = sdxl(setting)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file = Path(shutil.copy(weights, folder.with_suffix(".safetensors")))
    # How diffusers takes a checkpoint to pieces is its own affair; the configuration is what is asked here.
    kind = diffusers.StableDiffusionXLPipeline
    monkeypatch.setattr(kind, "from_single_file", lambda file, **options: kind.from_pretrained(folder))
    ours, theirs = without_negative(torch_engine, catalog, file)
    assert np.abs(ours - theirs).max() <= 1


@torch.inference_mode()
def test_zeros_stand_for_an_empty_negative_prompt_alone_and_are_as_long_as_the_other(manager, catalog):
    encoders = manager.get(catalog.get("sdxl")).text._encoders
    zeros, encoded = (
        PromptEncoder(encoders, torch.device("cpu"), torch.float32, zero_empty=on) for on in (True, False)
    )
    for prompt in ("a red cat", "x " * 100):
        positive, empty = zeros.encode_pair(prompt, "")
        assert empty.tokens.shape == positive.tokens.shape and empty.pooled.shape == positive.pooled.shape
        assert not empty.tokens.any() and not empty.pooled.any()
        assert encoded.encode_pair(prompt, "")[1].tokens.any()
        for own, other in zip(zeros.encode_pair(prompt, "grey"), encoded.encode_pair(prompt, "grey"), strict=True):
            assert torch.equal(own.tokens, other.tokens) and torch.equal(own.pooled, other.pooled)


def test_long_weighted_and_odd_prompts_are_drawn(torch_engine, catalog):
    prompts = ["(red:1.4) [cat] " * 60, "🐱" * 300, "((((", "<|endoftext|> x <|startoftext|>", "a " * 999]
    for prompt in prompts:
        for key in ("sd1", "sdxl"):
            request = build_request(catalog.get(key), prompt=prompt, negative_prompt="(grey:1.2)", steps=1)
            image = torch_engine.submit(request).result(60)[0]
            assert image.pixels.size == (32, 32)
    assert image.recipe["prompt_tokens_dropped"] == 999 - MAX_WINDOWS * 75

"""From nothing to a folder that diffusers loads, with a recipe far too small to learn anything."""

import json
from dataclasses import replace

import numpy as np
import pytest

from generation.training import dataset
from generation.training.denoiser import build_text
from generation.training.drawing import draw
from generation.training.judge import Judge, patches
from generation.training.recipe import PRESETS
from generation.training.train import run, train_enlarger, train_judge
from generation.training.vocabulary import PLACE, STYLE, THING


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    base = tmp_path_factory.mktemp("sketch")
    lines = []
    run("smoke", base / "weights", base / "work", device="cpu", processes=1, say=lines.append)
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
    assert "data: drew 0 pictures" in lines and not any("latents " in line and "it/s" in line for line in lines)


def test_a_larger_recipe_adds_to_the_data_it_finds(folder):
    recipe = replace(PRESETS["smoke"], pictures=56)
    before = dataset.pictures(folder / "work", 256, 256).read().copy()
    lines = []
    run(recipe, folder / "again", folder / "work", until="latents", device="cpu", say=lines.append)
    after = dataset.pictures(folder / "work", 256, 256).read()
    assert "data: drew 8 pictures" in lines
    assert len(after) == 42 and np.array_equal(after[: len(before)], before)
    assert [len(shelf.latents) for shelf in dataset.shelves(recipe, folder / "work")] == [42, 14]


def test_half_a_row_is_written_again(tmp_path):
    rows = dataset.Rows(tmp_path / "rows", (2, 3), np.uint8)
    rows.append([np.full((2, 3), 1), np.full((2, 3), 2)])
    with open(rows.path, "ab") as file:
        file.write(b"xxx")
    assert len(rows) == 2
    rows.append([np.full((2, 3), 3)])
    assert rows.read()[:, 0, 0].tolist() == [1, 2, 3] and rows.read(2).shape == (2, 2, 3)


def test_rows_show_their_scenes_and_no_other_size_has_them(folder):
    recipe = PRESETS["smoke"]
    scenes = [dataset.scene_of(recipe, size, row) for size in (0, 1) for row in range(12)]
    assert len({scene.seed for scene in scenes}) == 24
    wide = dataset.pictures(folder / "work", 320, 192).read()
    assert np.array_equal(wide[3], np.asarray(draw(dataset.scene_of(recipe, 1, 3))))


def test_pictures_of_two_things_are_seen_more_often(folder):
    recipe = replace(PRESETS["smoke"], two_things=3.0)
    shelf = dataset.with_latents(recipe, folder / "work")[0]
    chances = dataset.odds(recipe, shelf)
    two = np.array([dataset.scene_of(recipe, 0, row).relation in ("beside", "above") for row in range(len(chances))])
    assert two.any() and not two.all()
    assert chances.sum() == pytest.approx(1) and chances[two] == pytest.approx(3 * chances[~two][0])
    assert chances[~two] == pytest.approx(chances[~two][0])


def test_training_begins_from_a_finished_model(folder, tmp_path):
    import torch
    from transformers import CLIPTextModel, CLIPTokenizer

    lines = []
    run(
        "smoke",
        tmp_path / "weights",
        tmp_path / "work",
        start_from=folder / "weights",
        until="text",
        device="cpu",
        processes=1,
        say=lines.append,
    )
    vocab_size = len(CLIPTokenizer.from_pretrained(folder / "weights" / "tokenizer"))
    assert f"text: knows {vocab_size} of {vocab_size} words already" in lines
    known = CLIPTextModel.from_pretrained(folder / "weights" / "text_encoder", dtype=torch.float32).state_dict()
    taken = torch.load(tmp_path / "work" / "text.pt", weights_only=True)["model"]
    random = build_text(PRESETS["smoke"], CLIPTokenizer.from_pretrained(tmp_path / "work" / "tokenizer")).state_dict()
    name = "embeddings.token_embedding.weight"
    # Four steps at a small rate move weights a little; other random weights would be far away.
    assert (taken[name] - known[name]).abs().mean() < 0.5 * (random[name] - known[name]).abs().mean()
    latents = torch.load(tmp_path / "work" / "latents.pt", weights_only=True)
    assert latents["deviation"].eq(1).all() and latents["mean"].eq(0).all()


def test_the_judge_is_trained_and_tells_how_good_it_is(folder, tmp_path):
    lines = []
    figures = train_judge(
        "smoke", folder / "work", out=tmp_path / "judge.safetensors", device="cpu", processes=1, say=lines.append
    )
    judge = Judge(tmp_path / "judge.safetensors")
    assert judge.figures == figures and set(figures) == {"thing", "absent", "place", "style"}
    seen = judge.look(dataset.pictures(folder / "work", 256, 256).read()[:3])
    assert len(seen) == 3 and seen[0].place in PLACE and seen[0].style in STYLE
    assert {detected.thing for each in seen for detected in each.objects} <= set(THING)


def test_the_upscaler_is_trained_and_can_be_used(tmp_path):
    from generation.engine.pictures.upscale import load_upscaler

    lines, file = [], tmp_path / "enlarger.safetensors"
    figures = train_enlarger("smoke", out=file, device="cpu", processes=1, say=lines.append)
    assert any("enlarger 3/3" in line for line in lines) and set(figures) == {"psnr", "psnr of Lanczos"}
    net = load_upscaler(file)
    assert (net.scale, net.width) == (2, PRESETS["smoke"].enlarger_width)


def test_the_judge_tells_separate_spots_apart():
    on = np.zeros((64, 64), bool)
    on[5:25, 5:25] = on[40:50, 30:60] = on[0, 60] = True
    first, second = patches(on)
    assert first.sum() == 400 and second.sum() == 300 and not (first & second).any()
    assert patches(np.zeros((64, 64), bool)) == []


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

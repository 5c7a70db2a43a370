"""Previews show where the picture is going, and cost next to nothing."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from generation.engine.catalog.samplers import SAMPLERS
from generation.engine.job_queue import ProgressReporter
from generation.engine.loop.denoise import advance, predict_x0
from generation.engine.loop.rows import start_row
from generation.engine.networks.loader import ModelManager
from generation.engine.networks.vae import LatentColours
from generation.engine.protocol import Job
from generation.engine.request.request import build_request


@pytest.fixture(scope="module")
def manager():
    return ModelManager(device="cpu", allow_download=False)


@pytest.mark.parametrize("sampler", [sampler.name for sampler in SAMPLERS])
@pytest.mark.parametrize("key", ["sd1", "sd2"])
@torch.inference_mode()
def test_the_last_step_predicts_the_finished_latents(manager, catalog, key, sampler):
    model = manager.get(catalog.get(key))
    request = build_request(catalog.get(key), prompt="a cat", sampler=sampler, steps=8, seed=1)
    row = start_row(model, request, 0)
    while not row.finished:
        advance(model, [row])
    difference = (predict_x0(row) - row.latents).abs().mean() / row.latents.abs().mean()
    assert difference < (0.2 if sampler == "PLMS" else 0.1), "PLMS mixes in what it foresaw before"


def test_a_model_may_bring_its_own_colours(manager, catalog, models, tmp_path):
    spec = catalog.get("sd1")
    folder = shutil.copytree(models["sd1"], tmp_path / "own")
    matrix = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    (folder / "preview.json").write_text(json.dumps({"matrix": matrix, "bias": [0, -1, 0.5]}))
    colours = manager.get(replace(spec, key="own", sources=(str(folder),))).colours
    latents = torch.zeros(1, 4, 2, 3)
    latents[0, 0] = 1
    pixels = np.asarray(colours.picture(latents))
    assert pixels.shape == (2, 3, 3) and pixels[0, 0].tolist() == [255, 0, 191]


@pytest.mark.parametrize("text", ["", "[]", '{"matrix": [[1]], "bias": [0, 0, 0]}', '{"matrix": "x", "bias": 0}'])
def test_colours_that_do_not_fit_are_left_aside(catalog, tmp_path, text):
    (tmp_path / "preview.json").write_text(text)
    colours = LatentColours.of(catalog.get("sd1"), tmp_path, 4)
    assert torch.equal(colours.matrix, LatentColours.of(catalog.get("sd1"), tmp_path / "none", 4).matrix)


@pytest.mark.parametrize("channels", [1, 3, 4, 16])
def test_any_number_of_channels_makes_a_picture(catalog, tmp_path, channels):
    colours = LatentColours.of(catalog.get("sd1"), tmp_path, channels)
    latents = torch.linspace(-2, 2, channels * 64).reshape(1, channels, 8, 8)
    latents[0, 0, 0, 0] = float("nan")
    assert len(set(colours.picture(latents).convert("RGB").getdata())) > 8


def test_previews_keep_their_distance(catalog, monkeypatch):
    from PIL import Image

    now = [0.0]
    monkeypatch.setattr("generation.engine.job_queue.time.monotonic", lambda: now[0])
    request = build_request(catalog.get("sd1"), prompt="a cat", steps=100)
    seen, made = [], []
    report = ProgressReporter(Job(request, seen.append, lambda: True), preview_interval=0.25)
    for step in range(1, 101):
        now[0] += 0.02
        report.step(step, lambda: made.append(1) or Image.new("RGB", (8, 8), "red"))
    assert len(seen) == 100 and len(made) == sum(bool(progress.preview) for progress in seen) == 8

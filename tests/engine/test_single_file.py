"""A single .safetensors checkpoint draws what the folder it was made from draws."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from generation.engine.errors import ModelUnavailable
from generation.engine.request.request import build_request

from .models import extended
from .original import save_original


@pytest.fixture
def file(models, tmp_path):
    """The checkpoint, with its configuration in a folder of the same name; no weights lie there."""
    shutil.copytree(models["sd1"], tmp_path / "anime-v3", ignore=shutil.ignore_patterns("*.safetensors"))
    return save_original(models["sd1"], tmp_path / "anime-v3.safetensors")


def test_it_draws_the_same_picture(torch_engine, catalog, file):
    single = replace(catalog.get("sd1"), key="single", sources=(str(file),))
    torch_engine.catalog = extended(catalog, single)
    images = [
        torch_engine.submit(build_request(spec, prompt="a red cat", seed=5, steps=3)).result(60)[0]
        for spec in (catalog.get("sd1"), single)
    ]
    assert np.abs(np.subtract(*(np.asarray(image.pixels, int) for image in images))).max() <= 1
    assert images[0].recipe["weights"] != images[1].recipe["weights"]


def test_a_class_from_elsewhere_is_refused(torch_engine, catalog, file):
    index = file.with_suffix("") / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"unet": ["subprocess", "Popen"]}))
    single = replace(catalog.get("sd1"), key="single", sources=(str(file),))
    torch_engine.catalog = extended(catalog, single)
    with pytest.raises(ModelUnavailable):
        torch_engine.submit(build_request(single, prompt="a red cat")).result(60)


def test_a_file_that_is_no_checkpoint_is_unavailable(torch_engine, catalog, file, models):
    shutil.copy(models["sd1"] / "text_encoder" / "model.safetensors", file)
    single = replace(catalog.get("sd1"), key="single", sources=(str(file),))
    torch_engine.catalog = extended(catalog, single)
    with pytest.raises(ModelUnavailable):
        torch_engine.submit(build_request(single, prompt="a red cat")).result(60)

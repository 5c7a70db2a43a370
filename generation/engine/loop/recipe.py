"""The recipe of a finished image: model, weight hashes, versions, device and add-ons, enough to draw it again."""

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generation.engine.catalog.samplers import find_sampler
from generation.engine.networks import deepcache
from generation.engine.networks.loader import LoadedModel, dtype_name
from generation.engine.networks.lora import recipe_entries
from generation.engine.request.fields import ImageRequest

from .rows import Row

if TYPE_CHECKING:  # a heavy import that most workers never need
    from generation.engine.networks.pipelines import LoadedPipeline

Recipe = dict[str, Any]
"""JSON."""


def row_recipe(model: LoadedModel, row: Row) -> Recipe:
    """Of an image that the step loop drew."""
    sampler = find_sampler(row.request.sampler)
    recipe = _model_recipe(model, sampler.scheduler if sampler else "", dtype_name(model.dtype)) | _addons(row)
    if row.dropped_tokens:
        recipe["prompt_tokens_dropped"] = row.dropped_tokens
    return recipe


def pipeline_recipe(pipeline: "LoadedPipeline", request: ImageRequest) -> Recipe:
    """Of an image that one of diffusers' pipelines drew."""
    dtype = "int8" if pipeline.spec.int8 else dtype_name(pipeline.dtype)
    recipe = _model_recipe(pipeline, _scheduler_name(pipeline.text2img), dtype)
    if request.loras:
        recipe["loras"] = recipe_entries(pipeline.loras.activate(request.loras))
    return recipe


def _model_recipe(model: "LoadedModel | LoadedPipeline", scheduler: str, dtype: str) -> Recipe:
    source = model.source.name
    return {
        "engine": "diffusers",
        "model": model.spec.key,
        "weights": model.weights_hash,
        "source": Path(source).name if Path(source).is_absolute() else source,  # no paths of ours go out
        "scheduler": scheduler,
        "dtype": dtype,
        "device": model.device.type,
        "low_memory": model.low_memory,
        "versions": {name: version(name) for name in ("torch", "diffusers", "transformers")},
    }


def _scheduler_name(pipeline: Any) -> str:
    return type(pipeline.scheduler).__name__


def _addons(row: Row) -> Recipe:
    """The add-ons that drew with it, by key and SHA-256."""
    recipe: Recipe = {}
    if row.loras:
        recipe["loras"] = recipe_entries(row.loras)
    if row.controlnet:
        control = row.controlnet.control
        recipe["control"] = {
            "key": control.key,
            "scale": control.scale,
            "begin": control.begin,
            "end": control.end,
            "hash": row.controlnet.controlnet.digest.result(),
        }
    if row.image_prompt:
        adapter = row.image_prompt.adapter
        recipe["reference"] = {"key": adapter.key, "scale": row.image_prompt.scale, "hash": adapter.digest.result()}
    if deepcache.uses_deepcache(row):
        recipe["lossy"] = deepcache.RECIPE_NOTE
    return recipe

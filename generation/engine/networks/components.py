"""Loading one component of a diffusers pipeline (UNet, VAE, text encoder …) by the class in our family table."""

import os
from pathlib import Path

import diffusers
import torch
import transformers

from generation.engine.catalog.families import Part
from generation.engine.catalog.model_files import choose_weights


def component_class(part: Part) -> type:
    """The class of that name in diffusers or transformers."""
    return getattr(diffusers, part.class_name, None) or getattr(transformers, part.class_name)


def load_component(part: Part, folder: Path, variant: str | None, dtype: torch.dtype) -> torch.nn.Module:
    """The network in its subfolder of `folder`, from safetensors; the plain files where `variant` has none."""
    _, variant = choose_weights(os.listdir(folder / part.name), part.stem, variant)
    return component_class(part).from_pretrained(
        folder / part.name, variant=variant, dtype=dtype, use_safetensors=True, local_files_only=True
    )

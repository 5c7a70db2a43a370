"""Depth maps for ControlNets: DPT (Ranftl et al. 2021) or Depth Anything (Yang et al. 2024), as transformers has them,
installed in MODELS_DIR/preprocessors/depth.

It runs on the CPU in fp32, beside the engine's thread, which alone uses the device.
"""

import json
import logging
import threading
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import DepthAnythingForDepthEstimation, DPTForDepthEstimation

from generation.engine.errors import InvalidRequest

log = logging.getLogger(__name__)

CLASSES = {"dpt": DPTForDepthEstimation, "depth_anything": DepthAnythingForDepthEstimation}
"""By the `model_type` of their config. Both say how near things are, and not how far."""
DEFAULTS = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 384, "width": 384}}

_lock = threading.Lock()
_kept: dict[Path, tuple] = {}


def depth_map(picture: Image.Image, folder: Path) -> Image.Image:
    """An RGB map of the picture's size, the nearest white and the farthest black. Raises InvalidRequest if the
    estimator cannot be used."""
    with _lock:
        network, settings = _load(folder)
    size = settings["size"]["width"], settings["size"]["height"]
    pixels = np.asarray(picture.convert("RGB").resize(size, Image.Resampling.BICUBIC), np.float32) / 255
    pixels = (pixels - np.float32(settings["image_mean"])) / np.float32(settings["image_std"])
    with torch.inference_mode():
        nearness = network(torch.from_numpy(pixels).movedim(-1, 0)[None]).predicted_depth
        nearness = torch.nn.functional.interpolate(nearness[None], picture.size[::-1], mode="bicubic")[0, 0]
    low, high = nearness.min(), nearness.max()
    scaled = (nearness - low) / (high - low).clamp(min=1e-12)
    return Image.fromarray((scaled.numpy() * 255).round().astype(np.uint8), "L").convert("RGB")


def _load(folder: Path) -> tuple:
    if folder not in _kept:
        try:
            config = json.loads((folder / "config.json").read_text())
            network = CLASSES[config["model_type"]].from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, local_files_only=True
            )
            file = folder / "preprocessor_config.json"
            settings = DEFAULTS | (json.loads(file.read_text()) if file.is_file() else {})
        except Exception:  # what a wrong file makes the library raise is anything
            log.exception("Cannot load %s", folder)
            raise InvalidRequest("Depth maps cannot be made here at present. Send one.", "control") from None
        _kept.clear()
        _kept[folder] = network.requires_grad_(False).eval(), settings
    return _kept[folder]

"""Kinds of ControlNet control map (canny, depth, pose …): their names, and which can be made here. No torch.

`pictures.control_maps` makes the maps; here is only what a request can be checked against.
"""

import re
from pathlib import Path

from generation.engine.errors import InvalidRequest

CONTROL_KINDS = (
    "canny",
    "scribble",
    "depth",
    "pose",
    "lineart",
    "softedge",
    "segmentation",
    "normal",
    "tile",
    "inpaint",
)
_SYNONYMS = {"openpose": "pose", "hed": "softedge", "seg": "segmentation", "normalbae": "normal"}

ALWAYS_MADE = ("canny", "scribble", "tile", "")
"""Kinds of map that can always be made; `tile` and unknown ones are the picture itself."""
NEED_ESTIMATOR = ("depth", "pose")
"""Those for which an estimator must be installed in MODELS_DIR/preprocessors/<kind>."""
PREPROCESSOR_FOLDER = "preprocessors"


def control_kind(name: str) -> str:
    """The kind that a ControlNet's name tells, `control_v11p_sd15_openpose` for one: of CONTROL_KINDS, or ""."""
    parts = [_SYNONYMS.get(part, part) for part in re.findall("[a-z]+", name.casefold())]
    return next((part for part in parts if part in CONTROL_KINDS), "")


def check_preprocessor(kind: str, models_dir: str | Path | None = None) -> None:
    """Raises InvalidRequest for a kind of map that cannot be made with what is installed."""
    if kind in NEED_ESTIMATOR and models_dir and (preprocessor_folder(models_dir) / kind / "config.json").is_file():
        return
    if kind not in ALWAYS_MADE:
        raise InvalidRequest(f"Maps for {kind} cannot be made here. Send one, with preprocess set to false.", "control")


def preprocessor_folder(models_dir: str | Path | None) -> Path:
    """Where the estimators of depth and pose lie; `check_preprocessor` has said that they do."""
    return Path(models_dir or "", PREPROCESSOR_FOLDER)

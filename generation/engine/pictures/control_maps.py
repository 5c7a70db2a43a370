"""ControlNet preprocessors: pictures to control maps. Depth and poses need torch, lines do not.

make_map("canny", picture)      lines, as `edges` draws them; "scribble" likewise
make_map("depth", picture, models_dir)      near things white, by an estimator that is installed there
make_map("pose", picture, models_dir)       coloured skeletons on black, likewise
"""

from pathlib import Path

from PIL import Image

from generation.engine.catalog.control_kinds import check_preprocessor, preprocessor_folder

from .edges import edge_map


def make_map(kind: str, picture: Image.Image, models_dir: str | Path | None = None) -> Image.Image:
    """An RGB control map of the picture's size. Raises InvalidRequest for a kind that is not made here."""
    check_preprocessor(kind, models_dir)
    picture = picture.convert("RGB")
    if kind in ("canny", "scribble"):
        return edge_map(kind, picture)
    if kind == "depth":
        from .depth import depth_map

        return depth_map(picture, preprocessor_folder(models_dir) / "depth")
    if kind == "pose":
        from .pose import pose_map

        return pose_map(picture, preprocessor_folder(models_dir))
    return picture

"""Pose maps (OpenPose skeletons) for ControlNets: ViTPose (Xu et al. 2022), as transformers has it, installed in
MODELS_DIR/preprocessors/pose.

Beside it in MODELS_DIR/preprocessors/people may lie a detector of the RT-DETR kind (Zhao et al. 2024) that finds
where people are. Without one the whole picture is taken for one person.

Both run on the CPU in fp32, beside the engine's thread, which alone uses the device.
"""

import colorsys
import json
import logging
import threading
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from transformers import RTDetrForObjectDetection, RTDetrV2ForObjectDetection, VitPoseForPoseEstimation

from generation.engine.errors import InvalidRequest

log = logging.getLogger(__name__)

ESTIMATORS = {"vitpose": VitPoseForPoseEstimation}
DETECTORS = {"rt_detr": RTDetrForObjectDetection, "rt_detr_v2": RTDetrV2ForObjectDetection}
"""By the `model_type` of their config."""
DEFAULTS = {
    "vitpose": {
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "do_normalize": True,
        "size": {"height": 256, "width": 192},
    },
    "rt_detr": {"do_normalize": False, "size": {"height": 640, "width": 640}},
}
DEFAULTS["rt_detr_v2"] = DEFAULTS["rt_detr"]

MAX_PEOPLE = 10
MIN_PERSON_SCORE = 0.5
MIN_POINT_SCORE = 0.3
"""Below these a person or a point is left out; both 0…1."""
_MARGIN = 1.25
"""How much larger than a person's box ViTPose was trained to see it."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels."""
Person = np.ndarray
"""17 x 3: COCO's keypoints as x and y in pixels, and their scores, 0…1."""

_COCO_INDICES = (0, None, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
"""Which of COCO's points each of OpenPose's is; its second one, the neck, lies between the shoulders."""
_SHOULDERS = (5, 6)
_LIMBS = (
    (1, 2),
    (1, 5),
    (2, 3),
    (3, 4),
    (5, 6),
    (6, 7),
    (1, 8),
    (8, 9),
    (9, 10),
    (1, 11),
    (11, 12),
    (12, 13),
    (1, 0),
    (0, 14),
    (14, 16),
    (0, 15),
    (15, 17),
)
"""Pairs of OpenPose's points, in the order of their colours."""
_COLOURS = [tuple(int(255 * part + 1e-6) for part in colorsys.hsv_to_rgb(number / 18, 1, 1)) for number in range(18)]
_DIMMED = 0.6
"""How bright limbs are, so that the points show on them."""
_RADIUS = 4 / 512
"""Of points, and half the width of limbs, as a part of the picture's shorter side: what ControlNets were shown
(Zhang et al. 2023), at the size at which they were."""

_lock = threading.Lock()
_kept: dict[Path, tuple] = {}


def pose_map(picture: Image.Image, folder: Path) -> Image.Image:
    """An RGB map of the picture's size: the coloured skeleton of everybody in it, on black. `folder`: that of the
    estimators. Raises InvalidRequest if they cannot be used."""
    return skeletons(find_people(picture, folder), picture.size)


def find_people(picture: Image.Image, folder: Path) -> list[Person]:
    """The points of everybody in the picture. Raises as `pose_map` does."""
    estimator = _get(folder / "pose", ESTIMATORS)
    detector = _get(folder / "people", DETECTORS) if (folder / "people" / "config.json").is_file() else None
    picture = picture.convert("RGB")
    boxes = _boxes(picture, *detector) if detector else [(0.0, 0.0, float(picture.width), float(picture.height))]
    return [_points(picture, box, *estimator) for box in boxes]


def skeletons(people: list[Person], size: tuple[int, int]) -> Image.Image:
    """What OpenPose (Cao et al. 2017) draws of these people: limbs first, then the points that they join."""
    canvas = Image.new("RGB", size)
    pen = ImageDraw.Draw(canvas)
    radius = max(1.0, min(size) * _RADIUS)
    bodies = [_as_openpose(person) for person in people]
    for (start, end), colour in zip(_LIMBS, _COLOURS, strict=False):
        dimmed = tuple(int(part * _DIMMED) for part in colour)
        for body in bodies:
            if body[start] is not None and body[end] is not None:
                pen.polygon(_limb(body[start], body[end], radius), fill=dimmed)
    for number, colour in enumerate(_COLOURS):
        for x, y in (body[number] for body in bodies if body[number] is not None):
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return canvas


def _as_openpose(person: Person) -> list[tuple[float, float] | None]:
    """OpenPose's 18 points, None for those with too low a score."""
    points = [(float(x), float(y)) if score >= MIN_POINT_SCORE else None for x, y, score in person]
    left, right = (points[number] for number in _SHOULDERS)
    neck = ((left[0] + right[0]) / 2, (left[1] + right[1]) / 2) if left and right else None
    return [neck if number is None else points[number] for number in _COCO_INDICES]


def _limb(start, end, radius: float) -> list[tuple[float, float]]:
    """An ellipse as long as the limb."""
    along = (np.array(end) - start) / 2
    length = max(float(np.hypot(*along)), 1e-6)
    across = np.array([-along[1], along[0]]) / length * radius
    turns = np.linspace(0, 2 * np.pi, 36, endpoint=False)[:, None]
    outline = (np.array(start) + end) / 2 + np.cos(turns) * along + np.sin(turns) * across
    return [tuple(point) for point in outline.tolist()]


def _boxes(picture: Image.Image, network, settings) -> list[Box]:
    """Where people are, the surest first."""
    size = settings["size"]
    pixels = _normalised(picture.resize((size["width"], size["height"]), Image.Resampling.BILINEAR), settings)
    person = next((int(number) for number, word in network.config.id2label.items() if word == "person"), 0)
    with torch.inference_mode():
        output = network(pixels)
    scores, order = output.logits[0, :, person].sigmoid().sort(descending=True)
    centres = output.pred_boxes[0, order[scores >= MIN_PERSON_SCORE][:MAX_PEOPLE]] * torch.tensor(picture.size * 2)
    return [(x - width / 2, y - height / 2, x + width / 2, y + height / 2) for x, y, width, height in centres.tolist()]


def _points(picture: Image.Image, box: Box, network, settings) -> Person:
    width, height = settings["size"]["width"], settings["size"]["height"]
    origin, extent = _input_region(box, width / height)
    # The corners of the region are the middles of the outermost pixels, as the network was trained.
    across, down = extent[0] / (width - 1), extent[1] / (height - 1)
    cut = picture.transform(
        (width, height),
        Image.Transform.AFFINE,
        (across, 0, origin[0] + (1 - across) / 2, 0, down, origin[1] + (1 - down) / 2),
        Image.Resampling.BILINEAR,
    )
    pixels = _normalised(cut, settings)
    experts = getattr(network.config.backbone_config, "num_experts", 1)
    expert = {"dataset_index": torch.zeros(1, dtype=torch.long)} if experts > 1 else {}  # COCO's is the first
    with torch.inference_mode():
        heatmaps = network(pixels, **expert).heatmaps[0, :17].numpy()
    rows, columns = heatmaps.shape[1:]
    points = np.array([_peak(heatmap) for heatmap in heatmaps])
    points[:, 0] = points[:, 0] * extent[0] / (columns - 1) + origin[0]
    points[:, 1] = points[:, 1] * extent[1] / (rows - 1) + origin[1]
    return points


def _input_region(box: Box, shape: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Left upper corner and size of the estimator's input for a box: larger, of that width to height, same middle."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    width, height = max(width, height * shape) * _MARGIN, max(height, width / shape) * _MARGIN
    return ((left + right - width) / 2, (top + bottom - height) / 2), (width, height)


def _peak(heatmap: np.ndarray) -> tuple[float, float, float]:
    """Where the heatmap (rows x columns) is highest, between its places, and how high. The logarithm of a Gaussian is a
    parabola, of which three places tell the top (as in Zhang et al. 2020, along each axis)."""
    row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
    logs = np.log(np.maximum(heatmap, 1e-6))
    return (_top(logs[row], int(column)), _top(logs[:, column], int(row)), float(np.clip(heatmap[row, column], 0, 1)))


def _top(values: np.ndarray, place: int) -> float:
    if not 0 < place < len(values) - 1:
        return float(place)
    before, here, after = (float(value) for value in values[place - 1 : place + 2])
    bend = before - 2 * here + after
    return place + (float(np.clip((before - after) / (2 * bend), -0.5, 0.5)) if bend < 0 else 0.0)


def _normalised(picture: Image.Image, settings: dict) -> torch.Tensor:
    pixels = np.asarray(picture, np.float32) / 255
    if settings["do_normalize"]:
        pixels = (pixels - np.float32(settings["image_mean"])) / np.float32(settings["image_std"])
    return torch.from_numpy(pixels).movedim(-1, 0)[None]


def _get(folder: Path, classes: dict) -> tuple:
    with _lock:
        if folder not in _kept:
            try:
                kind = json.loads((folder / "config.json").read_text())["model_type"]
                network = classes[kind].from_pretrained(
                    folder, dtype=torch.float32, use_safetensors=True, local_files_only=True
                )
                file = folder / "preprocessor_config.json"
                settings = DEFAULTS[kind] | (json.loads(file.read_text()) if file.is_file() else {})
            except Exception:  # what a wrong file makes the library raise is anything
                log.exception("Cannot load %s", folder)
                raise InvalidRequest("Poses cannot be found here at present. Send the map.", "control") from None
            _kept[folder] = network.requires_grad_(False).eval(), settings
        return _kept[folder]

"""Starting pictures for img2img, inpainting and outpainting: fitted, grown, masked, and composited again. No torch.

canvas = lay_out(request.start, (512, 512))
drawn = ...over canvas.picture, where canvas.mask is white...
finished = canvas.put_back(drawn)
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from generation.engine.request.fields import Expand, Start

Box = tuple[int, int, int, int]
"""Left, top, right, bottom."""

_WIDEST_BLUR = 64
_LANCZOS = Image.Resampling.LANCZOS


@dataclass(frozen=True, slots=True)
class Canvas:
    """What one pass draws over."""

    picture: Image.Image
    """RGB of the pass's size: what the latents are made from."""
    mask: Image.Image | None
    """L of that size, 255 where something is to change and 0 elsewhere; None: everywhere."""
    whole: Image.Image
    """RGB of that size: the given picture, fitted to it."""
    cover: Image.Image | None
    """L of that size: how much of what is drawn shows. 0 wherever the given mask is black."""
    box: Box | None
    """The part of `whole` that `picture` is, if it is not all of it."""

    def put_back(self, drawn: Image.Image) -> Image.Image:
        """The finished picture: outside of the mask it is `whole`, bit by bit."""
        if self.cover is None:
            return drawn
        if self.box is not None:
            left, top, right, bottom = self.box
            part, drawn = drawn.resize((right - left, bottom - top), _LANCZOS), self.whole.copy()
            drawn.paste(part, (left, top))
        return Image.composite(drawn, self.whole, self.cover)


def lay_out(start: Start, size: tuple[int, int]) -> Canvas:
    """The canvas of a pass that draws at `size` (width, height)."""
    picture = start.image.load().convert("RGB")
    mask = start.mask.load().convert("L") if start.mask else None
    if mask is not None and mask.size != picture.size:
        mask = mask.resize(picture.size, Image.Resampling.BILINEAR)
    if start.expand:
        picture, mask = _expand(picture, mask, start.expand)
    whole = _fit(picture, size, start.fit)
    if mask is None:
        return Canvas(whole, None, whole, None, None)
    mask = _fit(mask, size, start.fit)
    cover = _soften(mask, start.mask_blur)
    hard = mask.point(lambda value: 255 if value >= 128 else 0)
    filled = _fill_in(whole, hard) if start.fill == "blur" else whole
    box = None if start.padding is None else _surroundings(hard, start.padding)
    if box is None:
        return Canvas(filled, hard, whole, cover, None)
    part = filled.resize(size, _LANCZOS, box=box)
    part_mask = hard.resize(size, _LANCZOS, box=box).point(lambda value: 255 if value >= 128 else 0)
    return Canvas(part, part_mask, whole, cover, box)


def _expand(picture, mask, by: Expand):
    """The picture with its edges drawn out over the new parts, which are added to the mask."""
    sides = (by.top, by.bottom), (by.left, by.right)
    grown = Image.fromarray(np.pad(np.asarray(picture), (*sides, (0, 0)), mode="edge"))
    kept = Image.new("L", picture.size, 0) if mask is None else mask
    return grown, Image.fromarray(np.pad(np.asarray(kept), sides, constant_values=255))


def _fit(image: Image.Image, size: tuple[int, int], fit: str) -> Image.Image:
    if fit == "stretch":
        return image.resize(size, _LANCZOS)
    scales = [target / side for target, side in zip(size, image.size, strict=True)]
    if fit == "crop":
        width, height = (target / max(scales) for target in size)
        left, top = (image.width - width) / 2, (image.height - height) / 2
        return image.resize(size, _LANCZOS, box=(left, top, left + width, top + height))
    inner = [max(1, min(round(side * min(scales)), target)) for side, target in zip(image.size, size, strict=True)]
    small = np.asarray(image.resize(tuple(inner), _LANCZOS))
    before = [(target - side) // 2 for target, side in zip(size, inner, strict=True)]
    sides = [(first, target - side - first) for first, target, side in zip(before, size, inner, strict=True)]
    return Image.fromarray(np.pad(small, (sides[1], sides[0], *[(0, 0)] * (small.ndim - 2)), mode="edge"))


def _soften(mask: Image.Image, radius: float) -> Image.Image:
    """The mask with an edge blurred inwards, so that what is black stays untouched."""
    if not radius:
        return mask
    return ImageChops.darker(mask, mask.filter(ImageFilter.GaussianBlur(radius)))


def _surroundings(mask: Image.Image, padding: int) -> Box | None:
    """The mask's bounds and so many pixels around them, grown to the mask picture's own shape.

    None where there is nothing to change.
    """
    bounds = mask.getbbox()
    if bounds is None:
        return None
    left, top, right, bottom = bounds
    left, top = max(left - padding, 0), max(top - padding, 0)
    right, bottom = min(right + padding, mask.width), min(bottom + padding, mask.height)
    scale = max((right - left) / mask.width, (bottom - top) / mask.height)
    spans = [
        _grow(low, high, min(round(side * scale), side), side)
        for low, high, side in ((left, right, mask.width), (top, bottom, mask.height))
    ]
    return spans[0][0], spans[1][0], spans[0][1], spans[1][1]


def _grow(low: int, high: int, length: int, side: int) -> tuple[int, int]:
    """At least `length` long, about the same middle, within 0…side."""
    length = max(length, high - low)
    low = min(max((low + high - length) // 2, 0), side - length)
    return low, low + length


def _fill_in(picture: Image.Image, mask: Image.Image) -> Image.Image:
    """The picture with what the mask covers taken from its surroundings, the further in the softer."""
    colours = np.asarray(picture, np.float32)
    known = 255 - np.asarray(mask)
    outside = Image.fromarray(known, "L")
    result = np.full_like(colours, colours[known > 0].mean(axis=0) if known.any() else 127.0)
    hidden = Image.fromarray((colours * (known[..., None] > 0)).astype(np.uint8))
    radius = _WIDEST_BLUR
    while radius >= 1:
        blur = ImageFilter.GaussianBlur(radius)
        weight = np.asarray(outside.filter(blur), np.float32)[..., None] / 255
        near = np.asarray(hidden.filter(blur), np.float32) / np.maximum(weight, 1 / 255)
        # Where little of what is known lies within this radius, the wider one's result still counts.
        trust = np.clip(weight * 4 - 0.1, 0, 1)
        result += trust * (np.clip(near, 0, 255) - result)
        radius //= 2
    result[known > 0] = colours[known > 0]
    return Image.fromarray(result.round().astype(np.uint8))

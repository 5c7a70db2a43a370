"""Response bodies of txt2img and img2img: images as base64, and `info`, a text of JSON that programs parse."""

import base64
import io
import json
from dataclasses import dataclass

from django.conf import settings
from django.core.files.storage import default_storage
from PIL import Image, PngImagePlugin

from generation.engine.catalog.upscalers import upscaler_title
from generation.engine.request.metadata import PNG_LEVEL, convert, read_png
from generation.models import GeneratedImage, Generation

from . import names
from .parse import ParsedRequest
from .weights import SHORT, remember

VERSION = f"DreamSketch {settings.VERSION}"


@dataclass(frozen=True)
class FinishedImage:
    """A finished picture: its row, the bytes of its PNG and what they say."""

    image: GeneratedImage
    data: bytes
    text: str
    recipe: dict

    @property
    def weights(self) -> str:
        """SHA-256 of the model's weights, or empty."""
        digest = self.recipe.get("weights")
        return digest if isinstance(digest, str) else ""


def finished_images(generations: list[Generation]) -> list[FinishedImage]:
    """The pictures of these generations in order, without those that were deleted meanwhile."""
    rows = GeneratedImage.objects.kept().filter(generation__in=generations)
    places = {generation.pk: place for place, generation in enumerate(generations)}
    images = []
    for row in sorted(rows, key=lambda row: (places[row.generation_id], row.index)):
        try:
            with default_storage.open(row.file) as stored:
                data = stored.read()
        except FileNotFoundError:
            continue
        metadata = read_png(data)
        images.append(FinishedImage(row, data, metadata["text"], metadata["recipe"]))
    return images


def to_base64(data: bytes, picture_format: str = "png") -> str:
    """A PNG as base64 in another format, with all its metadata."""
    return base64.b64encode(convert(data, picture_format)).decode()


def images_body(parsed: ParsedRequest, generations: list[Generation]) -> dict:
    """The body of txt2img and img2img."""
    pictures = finished_images(generations)
    first = generations[0]
    if pictures:
        remember(first.model, pictures[0].weights)
    parameters = {
        "prompt": first.prompt,
        "negative_prompt": first.negative_prompt,
        "seed": parsed.seed,
        "steps": first.steps,
        "cfg_scale": first.guidance_scale,
        "width": first.width,
        "height": first.height,
        "sampler_name": first.sampler,
        "batch_size": parsed.batch_size,
        "n_iter": parsed.batches,
        "denoising_strength": _strength(parsed),
    }
    return {
        "images": [to_base64(picture.data, parsed.picture_format) for picture in pictures]
        if parsed.send_images
        else [],
        "parameters": parameters | parsed.echo,
        "info": json.dumps(info(parsed, first, pictures)),
    }


def info(parsed: ParsedRequest, first: Generation, pictures: list[FinishedImage]) -> dict:
    """What was drawn, by the web UI's names. Seeds are those of the pictures that there are."""
    count = len(pictures)
    seeds = [parsed.seeds_of(index) for index in range(max(count, 1))]
    return {
        "prompt": first.composed_prompt,
        "all_prompts": [first.composed_prompt] * count,
        "negative_prompt": first.composed_negative_prompt,
        "all_negative_prompts": [first.composed_negative_prompt] * count,
        "seed": seeds[0][0],
        "all_seeds": [picture.image.seed for picture in pictures],
        "subseed": seeds[0][1],
        "all_subseeds": [subseed for _, subseed in seeds[:count]],
        "subseed_strength": parsed.subseed_strength,
        "width": pictures[0].image.width if pictures else first.width,
        "height": pictures[0].image.height if pictures else first.height,
        "sampler_name": first.sampler,
        "cfg_scale": first.guidance_scale,
        "steps": first.steps,
        "batch_size": parsed.batch_size,
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": first.model,
        "sd_model_hash": pictures[0].weights[:SHORT] if pictures else "",
        "sd_vae_name": None,
        "sd_vae_hash": None,
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": _strength(parsed),
        "extra_generation_params": _extras(parsed, first),
        "index_of_first_image": 0,
        "infotexts": [picture.text for picture in pictures],
        "styles": parsed.echo.get("styles", []),
        "job_timestamp": timestamp(first),
        "clip_skip": parsed.kwargs["clip_skip"] + 1,
        "is_using_inpainting_conditioning": False,
        "version": VERSION,
    }


def timestamp(generation: Generation) -> str:
    """When it was parsed for, as the web UI writes it, in UTC."""
    return generation.created_at.strftime("%Y%m%d%H%M%S")


def _strength(parsed: ParsedRequest) -> float | None:
    hires = parsed.kwargs.get("hires")
    return hires["strength"] if hires else parsed.kwargs.get("strength")


def _extras(parsed: ParsedRequest, first: Generation) -> dict:
    extras: dict = {"Schedule type": names.schedule_type(first.sampler)}
    if hires := parsed.kwargs.get("hires"):
        extras |= {"Hires upscale": hires["scale"], "Hires upscaler": upscaler_title(hires["upscaler"])}
        if hires.get("steps"):
            extras["Hires steps"] = hires["steps"]
    if parsed.kwargs.get("mask"):
        extras["Mask blur"] = parsed.kwargs["mask_blur"]
    return extras


def resized(data: bytes, size: tuple[int, int], *, crop: bool = False) -> bytes:
    """The PNG at that size (Lanczos), with all its metadata. `crop`: scaled to fill it, the rest cut off."""
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        metadata = PngImagePlugin.PngInfo()
        for name, value in image.info.items():
            if isinstance(name, str) and isinstance(value, str):
                metadata.add_itxt(name, value)
        pixels = image.convert("RGB")
    if pixels.size != size:
        box = _middle(pixels.size, size) if crop else None
        pixels = pixels.resize(size, Image.Resampling.LANCZOS, box=box)
    buffer = io.BytesIO()
    pixels.save(buffer, "PNG", pnginfo=metadata, compress_level=PNG_LEVEL)
    return buffer.getvalue()


def _middle(size: tuple[int, int], target: tuple[int, int]) -> tuple[float, float, float, float]:
    """The largest box of the target's aspect ratio in the middle: left, top, right, bottom."""
    scale = min(size[0] / target[0], size[1] / target[1])
    across, down = target[0] * scale, target[1] * scale
    left, top = (size[0] - across) / 2, (size[1] - down) / 2
    return left, top, left + across, top + down

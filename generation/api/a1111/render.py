"""What a call answers: pictures as base64, and `info`, a text of JSON that programs parse."""

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
from .parse import Asked
from .weights import SHORT, remember

VERSION = f"DreamSketch {settings.VERSION}"


@dataclass(frozen=True)
class Drawn:
    """A finished picture: its row, the bytes of its PNG and what they say."""

    image: GeneratedImage
    data: bytes
    text: str
    recipe: dict

    @property
    def weights(self) -> str:
        """SHA-256 of the model's weights, or empty."""
        found = self.recipe.get("weights")
        return found if isinstance(found, str) else ""


def drawn(generations: list[Generation]) -> list[Drawn]:
    """The pictures of these generations in order, without those that were deleted meanwhile."""
    rows = GeneratedImage.objects.kept().filter(generation__in=generations)
    places = {generation.pk: place for place, generation in enumerate(generations)}
    found = []
    for row in sorted(rows, key=lambda row: (places[row.generation_id], row.index)):
        try:
            with default_storage.open(row.file) as stored:
                data = stored.read()
        except FileNotFoundError:
            continue
        said = read_png(data)
        found.append(Drawn(row, data, said["text"], said["recipe"]))
    return found


def encoded(data: bytes, picture_format: str = "png") -> str:
    """A PNG as base64 in the wanted format, with all it says about itself."""
    return base64.b64encode(convert(data, picture_format)).decode()


def answer(asked: Asked, generations: list[Generation]) -> dict:
    """The body of txt2img and img2img."""
    pictures = drawn(generations)
    first = generations[0]
    if pictures:
        remember(first.model, pictures[0].weights)
    drawn_with = {
        "prompt": first.prompt,
        "negative_prompt": first.negative_prompt,
        "seed": asked.seed,
        "steps": first.steps,
        "cfg_scale": first.guidance_scale,
        "width": first.width,
        "height": first.height,
        "sampler_name": first.sampler,
        "batch_size": asked.batch_size,
        "n_iter": asked.batches,
        "denoising_strength": _strength(asked),
    }
    return {
        "images": [encoded(one.data, asked.picture_format) for one in pictures] if asked.send_images else [],
        "parameters": drawn_with | asked.echo,
        "info": json.dumps(info(asked, first, pictures)),
    }


def info(asked: Asked, first: Generation, pictures: list[Drawn]) -> dict:
    """What was drawn, by the web UI's names. Seeds are those of the pictures that there are."""
    count = len(pictures)
    seeds = [asked.seeds_of(index) for index in range(max(count, 1))]
    return {
        "prompt": first.composed_prompt,
        "all_prompts": [first.composed_prompt] * count,
        "negative_prompt": first.composed_negative_prompt,
        "all_negative_prompts": [first.composed_negative_prompt] * count,
        "seed": seeds[0][0],
        "all_seeds": [one.image.seed for one in pictures],
        "subseed": seeds[0][1],
        "all_subseeds": [subseed for _, subseed in seeds[:count]],
        "subseed_strength": asked.subseed_strength,
        "width": pictures[0].image.width if pictures else first.width,
        "height": pictures[0].image.height if pictures else first.height,
        "sampler_name": first.sampler,
        "cfg_scale": first.guidance_scale,
        "steps": first.steps,
        "batch_size": asked.batch_size,
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": first.model,
        "sd_model_hash": pictures[0].weights[:SHORT] if pictures else "",
        "sd_vae_name": None,
        "sd_vae_hash": None,
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": _strength(asked),
        "extra_generation_params": _extras(asked, first),
        "index_of_first_image": 0,
        "infotexts": [one.text for one in pictures],
        "styles": asked.echo.get("styles", []),
        "job_timestamp": timestamp(first),
        "clip_skip": asked.words["clip_skip"] + 1,
        "is_using_inpainting_conditioning": False,
        "version": VERSION,
    }


def timestamp(generation: Generation) -> str:
    """When it was asked for, as the web UI writes it, in UTC."""
    return generation.created_at.strftime("%Y%m%d%H%M%S")


def _strength(asked: Asked) -> float | None:
    hires = asked.words.get("hires")
    return hires["strength"] if hires else asked.words.get("strength")


def _extras(asked: Asked, first: Generation) -> dict:
    extras: dict = {"Schedule type": names.schedule_type(first.sampler)}
    if hires := asked.words.get("hires"):
        extras |= {"Hires upscale": hires["scale"], "Hires upscaler": upscaler_title(hires["upscaler"])}
        if hires.get("steps"):
            extras["Hires steps"] = hires["steps"]
    if asked.words.get("mask"):
        extras["Mask blur"] = asked.words["mask_blur"]
    return extras


def resized(data: bytes, size: tuple[int, int], *, crop: bool = False) -> bytes:
    """The PNG at that size (Lanczos), with all it says about itself. `crop`: scaled to fill it, the rest cut off."""
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        said = PngImagePlugin.PngInfo()
        for name, value in image.info.items():
            if isinstance(value, str):
                said.add_itxt(name, value)
        pixels = image.convert("RGB")
    if pixels.size != size:
        box = _middle(pixels.size, size) if crop else None
        pixels = pixels.resize(size, Image.Resampling.LANCZOS, box=box)
    buffer = io.BytesIO()
    pixels.save(buffer, "PNG", pnginfo=said, compress_level=PNG_LEVEL)
    return buffer.getvalue()


def _middle(have: tuple[int, int], want: tuple[int, int]) -> tuple[float, float, float, float]:
    """The largest box of the wanted shape in the middle."""
    scale = min(have[0] / want[0], have[1] / want[1])
    across, down = want[0] * scale, want[1] * scale
    left, top = (have[0] - across) / 2, (have[1] - down) / 2
    return left, top, left + across, top + down

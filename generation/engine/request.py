"""The request to the engine, what it reports, and what it returns. No torch here.

    spec = Catalog().get("dreamsketch-tiny")
    request = build_request(spec, prompt="a red boat at sea", seed=7)
    job = engine.submit(request, on_progress=print)
    images = job.result()
"""

import math
import secrets
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from PIL import Image

from .catalog import ModelSpec
from .errors import InvalidRequest
from .samplers import Sampler, find_sampler

MAX_SEED = 2**32 - 1
MAX_PROMPT_CHARACTERS = 2000
MAX_IMAGES = 4

ASPECT_RATIOS = {
    "1:1": (1, 1), "4:3": (4, 3), "3:4": (3, 4), "3:2": (3, 2), "2:3": (2, 3),
    "16:9": (16, 9), "9:16": (9, 16), "21:9": (21, 9),
}


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """One complete, valid request: everything is decided, nothing is left to a default.

    `prompt` and `negative_prompt` are what the text encoder sees (style and prefixes already joined);
    sizes in pixels; `guidance_scale` as in classifier-free guidance (Ho & Salimans 2022), 0 and 1 both
    mean "without"; image `i` of `num_images` is drawn from `(seed + i) mod 2**32`.
    """

    model: str
    prompt: str
    negative_prompt: str
    width: int
    height: int
    steps: int
    guidance_scale: float
    sampler: str
    seed: int
    num_images: int = 1

    def seed_of(self, index: int) -> int:
        return (self.seed + index) % (MAX_SEED + 1)


def build_request(
    spec: ModelSpec,
    *,
    prompt: str,
    negative_prompt: str | None = None,
    width: int | None = None,
    height: int | None = None,
    aspect_ratio: str | None = None,
    steps: int | None = None,
    guidance_scale: float | None = None,
    sampler: str | None = None,
    seed: int | None = None,
    num_images: int | None = None,
    max_prompt_characters: int = MAX_PROMPT_CHARACTERS,
) -> ImageRequest:
    """Fill in the model's defaults, check every field against `spec`, and return the request.

    None (and -1 for the seed) means "your choice". Raises InvalidRequest, naming the field in `param`.
    """
    width, height = _size(spec, width, height, aspect_ratio)
    sampler = _sampler(spec, sampler)
    most_steps = min(spec.max_steps, sampler.max_steps)
    return ImageRequest(
        model=spec.key,
        prompt=_text(prompt, "prompt", max_prompt_characters, required=True),
        negative_prompt=_text(
            "" if negative_prompt is None else negative_prompt, "negative_prompt", max_prompt_characters
        ),
        width=width,
        height=height,
        steps=_number(
            steps, "steps", spec.min_steps, most_steps, min(spec.default_steps, most_steps), whole=True
        ),
        guidance_scale=_number(
            guidance_scale, "guidance_scale", 0.0, spec.max_guidance, spec.default_guidance
        ),
        sampler=sampler.name,
        seed=_seed(seed),
        num_images=_number(num_images, "num_images", 1, MAX_IMAGES, 1, whole=True),
    )


def _text(value, param, limit, required=False) -> str:
    if not isinstance(value, str):
        raise InvalidRequest("This must be text.", param)
    value = value.strip()
    if "\x00" in value or any(0xD800 <= ord(c) <= 0xDFFF for c in value):
        raise InvalidRequest("This text contains characters that cannot be stored.", param)
    if required and not value:
        raise InvalidRequest("Describe your image in a few words.", param)
    if len(value) > limit:
        raise InvalidRequest(f"This may have at most {limit} characters; it has {len(value)}.", param)
    return value


def _number(value, param, low, high, default, whole=False):
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise InvalidRequest("This must be a number.", param)
    if not low <= value <= high:  # before int(), which an infinite value would break
        raise InvalidRequest(f"This must be between {low:.10g} and {high:.10g}.", param)
    if whole and value != int(value):
        raise InvalidRequest("This must be a whole number.", param)
    return int(value) if whole else float(value)


def _seed(value) -> int:
    if value is None or value == -1:
        return secrets.randbelow(MAX_SEED + 1)
    return _number(value, "seed", 0, MAX_SEED, 0, whole=True)


def _sampler(spec, name) -> Sampler:
    if name is None or name == "":
        name = spec.default_sampler
    sampler = find_sampler(name) if isinstance(name, str) else None
    if sampler is None or sampler.name not in spec.samplers:
        known = ", ".join(spec.samplers)
        raise InvalidRequest(f"{spec.title} has no such sampler. It has: {known}.", "sampler")
    return sampler


def _size(spec, width, height, aspect_ratio) -> tuple[int, int]:
    if aspect_ratio is not None and aspect_ratio != "":
        shaped = size_for(spec, aspect_ratio)
        if width is None and height is None:
            return shaped
    sides = []
    for value, param, native in ((width, "width", spec.native_width), (height, "height", spec.native_height)):
        side = _number(value, param, spec.min_side, spec.max_side, native, whole=True)
        if side % spec.size_multiple:
            raise InvalidRequest(f"This must be a multiple of {spec.size_multiple} for {spec.title}.", param)
        sides.append(side)
    return sides[0], sides[1]


def size_for(spec: ModelSpec, aspect_ratio: str) -> tuple[int, int]:
    """Width and height of that shape with about the model's native number of pixels."""
    if not isinstance(aspect_ratio, str) or aspect_ratio not in ASPECT_RATIOS:
        raise InvalidRequest(f"This must be one of {', '.join(ASPECT_RATIOS)}.", "aspect_ratio")
    across, down = ASPECT_RATIOS[aspect_ratio]
    area = spec.native_width * spec.native_height
    unit = math.sqrt(area / (across * down))
    step = max(spec.size_multiple, 16)
    return tuple(min(max(round(unit * part / step) * step, spec.min_side), spec.max_side // step * step)
                 for part in (across, down))


@dataclass(frozen=True, slots=True)
class Progress:
    """A live report on one job.

    `phase` is one of queued, downloading, loading, generating, saving; `step` of `steps` counts denoising
    steps over all images of the request; `preview` is a small WebP of what the latents look like now,
    present only when it is new.
    """

    phase: str
    step: int = 0
    steps: int = 0
    preview: bytes | None = None
    fraction: float | None = None
    """How much of the files has arrived, 0 to 1; only while downloading."""


@dataclass(frozen=True, slots=True)
class EngineImage:
    """One finished image: RGB pixels of the requested size and what made them."""

    index: int
    seed: int
    pixels: Image.Image
    recipe: dict
    """Model key and weight hash, library versions, dtype and device: enough to draw it again."""
    seconds: float
    flagged: bool = False


@dataclass(eq=False)
class Job:
    """A submitted request. `result()` waits and returns the images or raises an EngineError."""

    request: ImageRequest
    on_progress: Callable[[Progress], None]
    wants_preview: Callable[[], bool]
    future: Future = field(default_factory=Future)
    images: list[EngineImage] = field(default_factory=list)
    cancelled: bool = False

    def result(self, timeout: float | None = None) -> list[EngineImage]:
        return self.future.result(timeout)

    def done(self) -> bool:
        return self.future.done()


def no_report(progress: Progress) -> None:
    """For who does not care how it goes."""


def no_preview() -> bool:
    """For who does not watch."""
    return False


class Engine(Protocol):
    """Turns requests into images. One engine owns one device; many threads may wait on it."""

    def start(self) -> None:
        """Make ready to accept work. Models load on first use."""

    def submit(
        self,
        request: ImageRequest,
        *,
        on_progress: Callable[[Progress], None] = no_report,
        wants_preview: Callable[[], bool] = no_preview,
    ) -> Job:
        """Accept the request and return at once. Callbacks run on the engine's thread and must not block."""

    def cancel(self, job: Job) -> None:
        """Stop at the next step border; `job.result()` raises Cancelled with the images finished so far."""

    def stop(self) -> None:
        """Stop now: jobs in flight end with EngineStopped."""

    def status(self) -> dict:
        """`device`, `device_name`, `dtype`, `memory` (bytes: used, total or None), `models` (loaded keys)."""

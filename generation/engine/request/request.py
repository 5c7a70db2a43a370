"""The request to the engine, what it reports, and what it returns. No torch here.

spec = Catalog().get("dreamsketch-tiny")
request = build_request(spec, prompt="a red boat at sea", seed=7)
job = engine.submit(request, on_progress=print)
images = job.result()
"""

import math
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from PIL import Image

from generation.engine.catalog.models import FEATURES, ModelSpec
from generation.engine.catalog.samplers import Sampler, find_sampler
from generation.engine.catalog.upscalers import BUILT_IN, UPSCALERS
from generation.engine.errors import InvalidRequest

from . import options
from .options import Control, Hires, Lora, Picture, Reference, Start, Upscale, Variation, canvas_size
from .parse import read_control, read_hires, read_loras, read_reference, read_start, read_upscale, read_variation
from .validate import flag, number, one_of, text

MAX_SEED = 2**32 - 1
MAX_PROMPT_CHARACTERS = 2000
MAX_IMAGES = 4
MAX_HIRES_SIDE = 2048
MAX_UPSCALED_SIDE = 4096

ASPECT_RATIOS = {
    "1:1": (1, 1),
    "4:3": (4, 3),
    "3:4": (3, 4),
    "3:2": (3, 2),
    "2:3": (2, 3),
    "16:9": (16, 9),
    "9:16": (9, 16),
    "21:9": (21, 9),
}


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """One complete, valid request: everything is decided, nothing is left to a default.

    `prompt` and `negative_prompt` are what the text encoder sees (style and prefixes already joined);
    sizes in pixels; `guidance_scale` as in classifier-free guidance (Ho & Salimans 2022), 0 and 1 both
    mean "without"; image `i` of `num_images` is drawn from `(seed + i) mod 2**32`. What stands after
    `num_images` is described in `modes`. `clip_skip`: how many of the text encoder's last layers are left
    out (diffusers' count: A1111's "Clip skip 2" is 1 here). `tiling`: the edges fit together.
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
    start: Start | None = None
    hires: Hires | None = None
    variation: Variation | None = None
    loras: tuple[Lora, ...] = ()
    control: Control | None = None
    reference: Reference | None = None
    upscale: Upscale | None = None
    tiling: bool = False
    clip_skip: int = 0
    quality: str = "exact"

    def seed_of(self, index: int) -> int:
        return (self.seed + index) % (MAX_SEED + 1)

    @property
    def mode(self) -> str:
        """`txt2img`, `img2img`, `inpaint`, `outpaint` or `upscale`."""
        if self.upscale:
            return "upscale"
        if self.start is None:
            return "txt2img"
        return "outpaint" if self.start.expand else "inpaint" if self.start.mask else "img2img"

    @property
    def final_size(self) -> tuple[int, int]:
        """Width and height of what comes out: larger than asked for after a second pass."""
        size = self.width, self.height
        return options.enlarged(*size, self.hires.scale) if self.hires else size

    @property
    def steps_each(self) -> int:
        """Denoising steps of one image, second pass included; an upscale counts as one."""
        if self.upscale:
            return 1
        first = options.drawn_steps(self.steps, self.start.strength) if self.start else self.steps
        if self.hires is None:
            return first
        return first + options.drawn_steps(self.hires.steps or self.steps, self.hires.strength)

    @property
    def total_steps(self) -> int:
        """Denoising steps of all images."""
        return self.steps_each * self.num_images


def build_request(
    spec: ModelSpec,
    *,
    prompt: str = "",
    negative_prompt: str | None = None,
    width: int | None = None,
    height: int | None = None,
    aspect_ratio: str | None = None,
    steps: int | None = None,
    guidance_scale: float | None = None,
    sampler: str | None = None,
    seed: int | None = None,
    num_images: int | None = None,
    image: Picture | None = None,
    mask: Picture | None = None,
    strength: float | None = None,
    mask_blur: float | None = None,
    fill: str | None = None,
    padding: float | None = None,
    fit: str | None = None,
    expand: dict | None = None,
    hires: dict | bool | None = None,
    variation: dict | None = None,
    loras: list[dict] | None = None,
    control: dict | None = None,
    reference: dict | None = None,
    upscale: dict | None = None,
    tiling: bool | None = None,
    clip_skip: int | None = None,
    quality: str | None = None,
    max_prompt_characters: int = MAX_PROMPT_CHARACTERS,
    upscalers: Sequence[str] = (*UPSCALERS, *BUILT_IN),
) -> ImageRequest:
    """Fill in the model's defaults, check every field against `spec`, and return the request.

    None (and -1 for the seed) means "your choice". `image` to `expand` make a `modes.Start`; the dicts
    hold the fields of the `modes` class of their name, pictures as `Picture`. Without a size a request
    with a picture takes that picture's shape. `upscalers` are those that can be named (see `upscalers`).
    Raises InvalidRequest, naming the field in `param`.
    """
    if upscale is not None:
        return _upscale_request(spec, upscale, prompt, seed, upscalers)
    start = read_start(
        image, mask, strength=strength, mask_blur=mask_blur, fill=fill, padding=padding, fit=fit, expand=expand
    )
    if start and (width, height) == (None, None) and not aspect_ratio:
        width, height = size_like(spec, *canvas_size(start))
    width, height = _size(spec, width, height, aspect_ratio)
    sampler = _sampler(spec, sampler)
    most_steps = min(spec.max_steps, sampler.max_steps)
    hires = read_hires(hires, most_steps, upscalers)
    for side in options.enlarged(width, height, hires.scale if hires else 1.0):
        if side > MAX_HIRES_SIDE:
            raise InvalidRequest(f"The second pass may reach {MAX_HIRES_SIDE} pixels a side.", "hires_fix")
    request = ImageRequest(
        model=spec.key,
        prompt=_prompt(prompt, "prompt", max_prompt_characters, required=True),
        negative_prompt=_prompt(
            "" if negative_prompt is None else negative_prompt, "negative_prompt", max_prompt_characters
        ),
        width=width,
        height=height,
        steps=number(steps, "steps", spec.min_steps, most_steps, min(spec.default_steps, most_steps), whole=True),
        guidance_scale=number(guidance_scale, "guidance_scale", 0.0, spec.max_guidance, spec.default_guidance),
        sampler=sampler.name,
        seed=_seed(seed),
        num_images=number(num_images, "num_images", 1, MAX_IMAGES, 1, whole=True),
        start=start,
        hires=hires,
        variation=read_variation(variation, MAX_SEED),
        loras=read_loras(loras),
        control=read_control(control),
        reference=read_reference(reference),
        tiling=flag(tiling, "tiling"),
        clip_skip=number(clip_skip, "clip_skip", 0, options.MAX_CLIP_SKIP, 0, whole=True),
        quality=one_of(quality, "quality", options.QUALITIES, "exact"),
    )
    _refuse_unsupported(spec, request)
    return request


_MODE_WORDS = {
    "txt2img": ("image", "needs a picture to start from"),
    "img2img": ("image", "cannot start from a picture"),
    "inpaint": ("mask", "cannot change a part of a picture"),
    "outpaint": ("expand", "cannot make a picture larger than it was"),
}
FEATURE_PARAMS = {"hires": "hires_fix"}
"""Features whose field has another name."""


def _refuse_unsupported(spec, request) -> None:
    if request.mode not in spec.modes:
        param, words = _MODE_WORDS[request.mode]
        raise InvalidRequest(f"{spec.title} {words}.", param)
    for feature in FEATURES:
        asked = request.quality != "exact" if feature == "quality" else getattr(request, feature)
        if asked and feature not in spec.features:
            param = FEATURE_PARAMS.get(feature, feature)
            raise InvalidRequest(f"{spec.title} has no “{param}”.", param)


def _upscale_request(spec, asked, prompt, seed, upscalers) -> ImageRequest:
    upscale = read_upscale(asked, upscalers)
    width, height = (side * upscale.factor for side in (upscale.image.width, upscale.image.height))
    if max(width, height) > MAX_UPSCALED_SIDE:
        raise InvalidRequest(f"The result may have at most {MAX_UPSCALED_SIDE} pixels a side.", "upscale")
    return ImageRequest(
        model=spec.key,
        prompt=_prompt(prompt or "", "prompt", MAX_PROMPT_CHARACTERS),
        negative_prompt="",
        width=width,
        height=height,
        steps=1,
        guidance_scale=0.0,
        sampler=spec.default_sampler,
        seed=_seed(seed),
        upscale=upscale,
    )


def _prompt(value, param, limit, required=False) -> str:
    value = text(value, param, limit).strip()
    if required and not value:
        raise InvalidRequest("Describe your image in a few words.", param)
    return value


def _seed(value) -> int:
    if value is None or value == -1:
        return secrets.randbelow(MAX_SEED + 1)
    return number(value, "seed", 0, MAX_SEED, 0, whole=True)


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
        side = number(value, param, spec.min_side, spec.max_side, native, whole=True)
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
    return tuple(
        min(max(round(unit * part / step) * step, spec.min_side), spec.max_side // step * step)
        for part in (across, down)
    )


def size_like(spec: ModelSpec, width: int, height: int) -> tuple[int, int]:
    """The nearest size that the model can draw, in the shape of a picture of that size."""
    step = max(spec.size_multiple, 8)
    down = min(1.0, spec.max_side / max(width, height))
    up = max(1.0, spec.min_side / min(width, height))
    return tuple(
        min(max(round(side * down * up / step) * step, -(-spec.min_side // step) * step), spec.max_side // step * step)
        for side in (width, height)
    )


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
    """One finished image: RGB pixels of the request's `final_size` and what made them."""

    index: int
    seed: int
    pixels: Image.Image
    recipe: dict
    """Model key and weight hash, library versions, dtype and device: enough to draw it again."""
    seconds: float
    flagged: bool = False


@dataclass(eq=False)
class Job:
    """A submitted request. `result()` waits and returns the images or raises an EngineError.

    `ticket` is the caller's name for it, which an engine elsewhere is told too. Past its `deadline`
    (by `time.monotonic()`) it ends with TimedOut.
    """

    request: ImageRequest
    on_progress: Callable[[Progress], None]
    wants_preview: Callable[[], bool]
    future: Future = field(default_factory=Future)
    images: list[EngineImage] = field(default_factory=list)
    cancelled: bool = False
    ticket: str = ""
    deadline: float | None = None

    @property
    def late(self) -> bool:
        return self.deadline is not None and time.monotonic() > self.deadline

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
        ticket: str = "",
        deadline: float | None = None,
    ) -> Job:
        """Accept the request and return at once. Callbacks run on the engine's thread and must not block.

        `deadline`: by `time.monotonic()`; those that would miss theirs are drawn first, and then given up.
        """

    def cancel(self, job: Job) -> None:
        """Stop at the next step border; `job.result()` raises Cancelled with the images finished so far."""

    def stop(self) -> None:
        """Stop now: jobs in flight end with EngineStopped."""

    def status(self) -> dict:
        """`device`, `device_name`, `dtype`, `memory` (bytes: used, total or None), `models` (loaded keys)."""

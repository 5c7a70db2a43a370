"""The table of request fields: every parameter of a picture once, with its type, bounds, default, names and words.

Each attribute of `ImageRequest` and of its parts is declared with all that anybody needs to know of it. Parsing,
bounds, the OpenAPI document, page controls, quotes, statuses, image details, Reuse settings, retries, PNG text and
its reader, `manage.py generate` and the OpenAI and A1111 dialects read the declarations (`FIELDS`), so that a
new plain parameter is one attribute here and the code of the engine that obeys it.

No torch here. Sizes in pixels; strengths and scales as the field's tools mean them. Whoever makes one of these by hand
(and not through `request.build_request`) answers for its ranges.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from PIL import Image

from generation.engine.catalog.upscalers import BUILT_IN, LATENT, UPSCALERS
from generation.engine.errors import InvalidRequest

from .geometry import drawn_steps, enlarged
from .schema import Field, Kind, Limits, declare, fields_of

MAX_SEED = 2**32 - 1
MAX_PROMPT_CHARACTERS = 2000
MAX_IMAGES = 4
MAX_LORAS = 8
MAX_KEY = 120
MAX_EXPAND = 1024
PICTURE = "The picture as base64 text or a data URI, or the id of one of your images; in a form also the file itself."

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
class Picture:
    """A picture given with a request, read only when it is needed.

    `name` is what its keeper calls it (an upload's id); `digest` the SHA-256 of its pixels or file, so that
    equal requests can be told; `load()` gives the pixels: RGB, or L for a mask.
    """

    name: str
    width: int
    height: int
    digest: str
    load: Callable[[], Image.Image] = field(compare=False, repr=False)

    @classmethod
    def of(cls, pixels: Image.Image) -> "Picture":
        """A picture that is in memory already."""
        digest = hashlib.sha256(f"{pixels.mode}{pixels.size}".encode() + pixels.tobytes()).hexdigest()
        return cls(digest[:16], pixels.width, pixels.height, digest, lambda: pixels)


@dataclass(frozen=True, slots=True)
class Expand:
    """Outpainting: how many pixels the starting picture grows by at each side before it is fitted."""

    left: int = declare(Kind.INTEGER, default=0, low=0, high=MAX_EXPAND, label="Left")
    right: int = declare(Kind.INTEGER, default=0, low=0, high=MAX_EXPAND, label="Right")
    top: int = declare(Kind.INTEGER, default=0, low=0, high=MAX_EXPAND, label="Top")
    bottom: int = declare(Kind.INTEGER, default=0, low=0, high=MAX_EXPAND, label="Bottom")

    def settled(self) -> Self | None:
        """None where nothing grows."""
        return self if (self.left, self.right, self.top, self.bottom) != (0, 0, 0, 0) else None


@dataclass(frozen=True, slots=True)
class Start:
    """Where drawing begins if not at pure noise (SDEdit, Meng et al. 2021).

    As in diffusers, of `steps` only the last `int(steps * strength)` run. With `mask` (white = change) only that part
    changes, and the rest stays as given, pixel for pixel. `padding`: None draws over the whole picture; a number cuts
    out the mask's surroundings with so many pixels around it, draws them at the full size and puts them back
    ("only masked"). `expand` makes the canvas larger and adds the new part to the mask.
    """

    image: Picture = declare(Kind.PICTURE, label="Starting picture", help=f"Where drawing begins (img2img). {PICTURE}")
    strength: float = declare(
        Kind.NUMBER,
        default=0.75,
        low=0.0,
        high=1.0,
        aliases=("denoising_strength",),
        a1111="denoising_strength",
        infotext="Denoising strength",
        label="How much changes",
        technical="strength",
        help="How much of the picture is drawn anew; 0.75 where left out.",
        hint="low keeps the picture, 1 draws it anew",
        step=0.05,
    )
    fit: str = declare(
        Kind.CHOICE,
        default="stretch",
        choices=("stretch", "crop", "pad"),
        infotext="Resize mode",
        infotext_values={"stretch": "Just resize", "crop": "Crop and resize", "pad": "Resize and fill"},
        label="How the picture meets the size",
        technical="fit",
        help="How a picture of another shape meets the size.",
    )
    mask: Picture | None = declare(
        Kind.PICTURE, default=None, label="Mask", help=f"White is drawn anew, black is kept (inpainting). {PICTURE}"
    )
    mask_blur: int = declare(
        Kind.INTEGER,
        default=4,
        low=0,
        high=64,
        aliases=("maskBlur",),
        a1111="mask_blur",
        infotext="Mask blur",
        label="Mask blur",
        help="Pixels.",
    )
    fill: str = declare(
        Kind.CHOICE,
        default="original",
        choices=("original", "blur", "noise", "zero"),
        infotext="Masked content",
        infotext_values={"blur": "fill", "original": "original", "noise": "latent noise", "zero": "latent nothing"},
        label="Under the mask",
        technical="fill",
        help="What stands under the mask at the beginning.",
    )
    padding: int | None = declare(
        Kind.INTEGER,
        default=None,
        low=0,
        high=512,
        infotext="Masked area padding",
        label="Only the masked part, with a rim of",
        technical="padding",
        help="Draw only the masked part and so many pixels around it, at full size.",
    )
    expand: Expand | None = declare(
        Kind.OBJECT,
        default=None,
        of=Expand,
        shorthand=Kind.NUMBER,
        label="Extended by",
        technical="expand",
        help="Outpainting: pixels that the picture grows by, at all sides or as {left, right, top, bottom}.",
    )

    @property
    def inpaints(self) -> bool:
        return self.mask is not None or self.expand is not None

    @property
    def canvas_size(self) -> tuple[int, int]:
        """Width and height of the picture with what `expand` adds, before it is fitted to the size of the request."""
        expand = self.expand or Expand()
        return self.image.width + expand.left + expand.right, self.image.height + expand.top + expand.bottom


@dataclass(frozen=True, slots=True)
class Hires:
    """A second pass at a larger size, over what the first one drew, enlarged by `upscaler` (latents by `latent`)."""

    scale: float = declare(
        Kind.NUMBER,
        default=2.0,
        low=1.0,
        high=4.0,
        aliases=("hiresScale",),
        a1111="hr_scale",
        infotext="Hires upscale",
        label="Times larger",
        help="2 where left out.",
        step=0.25,
    )
    strength: float = declare(
        Kind.NUMBER,
        default=0.5,
        low=0.0,
        high=1.0,
        aliases=("hiresStrength",),
        infotext="Hires strength",
        label="How much changes",
        help="How much is drawn anew; 0.5 where left out.",
        step=0.05,
    )
    steps: int | None = declare(
        Kind.INTEGER,
        default=None,
        low=0,
        limits=lambda offer: Limits(1, offer.max_steps, None),
        aliases=("hiresSteps",),
        infotext="Hires steps",
        label="Passes",
        technical="steps",
        help="0 or left out: as many as the first pass.",
    )
    upscaler: str = declare(
        Kind.CHOICE,
        default=LATENT,
        choices=lambda offer: (LATENT, *offer.upscalers),
        aliases=("hiresUpscaler",),
        infotext="Hires upscaler",
        label="Enlarged by",
        help="`latent`, or one of `upscalers` of `/api/models`.",
    )


@dataclass(frozen=True, slots=True)
class Variation:
    """The noise of `seed + index` mixed into each image's own by spherical interpolation (A1111's subseed)."""

    seed: int = declare(Kind.INTEGER, default=0, low=0, high=MAX_SEED, infotext="Variation seed", label="Seed")
    strength: float = declare(
        Kind.NUMBER,
        default=0.1,
        low=0.0,
        high=1.0,
        infotext="Variation seed strength",
        label="Strength",
        help="0.1 where left out.",
        step=0.05,
    )

    def settled(self) -> Self | None:
        """None also where the strength is 0, which changes nothing."""
        return self if self.strength else None


@dataclass(frozen=True, slots=True)
class Lora:
    """An installed LoRA and how strongly it counts (usually 0…1; negative turns it round)."""

    key: str = declare(Kind.TEXT, high=MAX_KEY, label="LoRA")
    weight: float = declare(
        Kind.NUMBER, default=1.0, low=-4.0, high=4.0, label="Weight", help="1 where left out.", step=0.1
    )


@dataclass(frozen=True, slots=True)
class Control:
    """A ControlNet's guidance by a picture (Zhang et al. 2023).

    `image` is a control map, or with `preprocess` an ordinary picture from which the map is made. It acts
    from `begin` to `end`, in parts of the steps.
    """

    key: str = declare(
        Kind.TEXT,
        high=MAX_KEY,
        label="What is followed",
        technical="ControlNet",
        help="Of an installed ControlNet: see `controls` of `/api/models`.",
    )
    image: Picture = declare(Kind.PICTURE, label="Picture", help=PICTURE)
    scale: float = declare(
        Kind.NUMBER,
        default=1.0,
        low=0.0,
        high=2.0,
        label="How strongly",
        technical="weight",
        help="1 where left out.",
        step=0.1,
    )
    preprocess: bool = declare(
        Kind.BOOLEAN,
        default=True,
        label="Make the map from this picture",
        technical="preprocess",
        help="False: `image` is a control map already. Otherwise one is made of it.",
        hint="off: the picture is such a map already",
    )
    begin: float = declare(
        Kind.NUMBER, default=0.0, low=0.0, high=1.0, label="From", help="In parts of the steps; 0.", step=0.1
    )
    end: float = declare(
        Kind.NUMBER, default=1.0, low=0.0, high=1.0, label="Until", help="In parts of the steps; 1.", step=0.1
    )

    def settled(self) -> Self:
        if self.begin >= self.end:
            raise InvalidRequest("Control must begin before it ends.", "control")
        return self


@dataclass(frozen=True, slots=True)
class Reference:
    """A picture whose look is followed (IP-Adapter, Ye et al. 2023), where one is installed."""

    image: Picture = declare(Kind.PICTURE, label="Picture", help=PICTURE)
    scale: float = declare(
        Kind.NUMBER,
        default=0.6,
        low=0.0,
        high=1.0,
        label="How strongly",
        technical="weight",
        help="0.6 where left out.",
        step=0.1,
    )


@dataclass(frozen=True, slots=True)
class Upscale:
    """Only enlarge `image`, by 2 or 4; nothing is drawn anew."""

    image: Picture = declare(Kind.PICTURE, label="Picture", help=PICTURE)
    factor: int = declare(
        Kind.INTEGER, default=2, low=2, high=4, choices=(2, 4), label="Times larger", help="2 where left out."
    )
    upscaler: str = declare(
        Kind.CHOICE,
        default=UPSCALERS[0],
        choices=lambda offer: offer.upscalers,
        param="upscaler",
        label="Enlarged by",
        help="One of `upscalers` of `/api/models`.",
    )

    def settled(self) -> Self:
        if self.factor not in (2, 4):
            raise InvalidRequest("Pictures are enlarged 2 or 4 times.", "upscale")
        return self


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """One complete, valid request: everything is decided, nothing is left to a default.

    `prompt` and `negative_prompt` are what the text encoder sees (style and prefixes already joined);
    `guidance_scale` as in classifier-free guidance (Ho & Salimans 2022), 0 and 1 both mean "without";
    `guidance_rescale` the share of the answer that is scaled back to the contrast it has without guidance (phi of
    Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed", section 3.4); image `i` of
    `num_images` is drawn from `(seed + i) mod 2**32`. `clip_skip`: how many of the text encoder's last layers are left
    out (diffusers' count: A1111's "Clip skip 2" is 1 here). `tiling`: the edges fit together.
    """

    model: str = declare(
        Kind.TEXT,
        aliases=("model_id",),
        column=True,
        infotext="Model",
        label="Model",
        help="Key or alias of a model, see `/api/models`.",
    )
    prompt: str = declare(
        Kind.TEXT,
        column=True,
        high=MAX_PROMPT_CHARACTERS,
        a1111="prompt",
        label="Describe your image",
        help="What to draw.",
    )
    negative_prompt: str = declare(
        Kind.TEXT,
        column=True,
        high=MAX_PROMPT_CHARACTERS,
        aliases=("negativePrompt",),
        a1111="negative_prompt",
        label="Leave out",
        technical="negative prompt",
        help="What to avoid.",
    )
    width: int = declare(
        Kind.INTEGER,
        column=True,
        limits=lambda offer: Limits(offer.spec.min_side, offer.spec.max_side, offer.spec.native_width),
        label="Width",
        help="Pixels; within the model's limits.",
    )
    height: int = declare(
        Kind.INTEGER,
        column=True,
        limits=lambda offer: Limits(offer.spec.min_side, offer.spec.max_side, offer.spec.native_height),
        label="Height",
        help="Pixels; within the model's limits.",
    )
    steps: int = declare(
        Kind.INTEGER,
        column=True,
        low=1,
        high=100,
        limits=lambda offer: Limits(
            offer.spec.min_steps, offer.max_steps, min(offer.spec.default_steps, offer.max_steps)
        ),
        aliases=("num_inference_steps",),
        a1111="steps",
        infotext="Steps",
        label="Detail passes",
        technical="steps",
        help="Denoising steps.",
        hint="20–50 is usual",
        step=1,
    )
    guidance_scale: float = declare(
        Kind.NUMBER,
        column=True,
        low=0.0,
        high=20.0,
        limits=lambda offer: Limits(0.0, offer.spec.max_guidance, offer.spec.default_guidance),
        aliases=("cfg_scale", "cfgScale"),
        a1111="cfg_scale",
        infotext="CFG scale",
        label="How closely to follow",
        technical="guidance",
        help="How closely to follow the prompt, from 0.",
        hint="low is loose, 7–12 literal",
        step=0.5,
    )
    sampler: str = declare(
        Kind.CHOICE,
        column=True,
        choices=lambda offer: offer.spec.samplers,
        aliases=("sampler_name",),
        infotext="Sampler",
        label="Sampler",
        help="As A1111 or diffusers name it, such as `Euler a`.",
    )
    seed: int = declare(
        Kind.INTEGER,
        column=True,
        low=-1,
        high=MAX_SEED,
        infotext="Seed",
        label="Starting point",
        technical="seed",
        help="The same seed draws the same image. -1 or absent: random. Image i is drawn from seed + i.",
        hint="the same number, the same picture",
    )
    num_images: int = declare(
        Kind.INTEGER, default=1, column=True, low=1, high=MAX_IMAGES, aliases=("n",), label="Images", step=1
    )
    start: Start | None = declare(Kind.OBJECT, default=None, of=Start, prefix="")
    hires: Hires | None = declare(
        Kind.OBJECT,
        name="hires_fix",
        default=None,
        of=Hires,
        shorthand=Kind.BOOLEAN,
        prefix="hires_",
        aliases=("hiresFix",),
        label="Second pass",
        technical="hires fix",
        help="A second pass at a larger size: true, or an object with scale, strength, steps, upscaler.",
    )
    variation: Variation | None = declare(
        Kind.OBJECT,
        default=None,
        of=Variation,
        label="Variation",
        technical="subseed",
        help="A little of another seed's picture: {seed, strength}.",
    )
    loras: tuple[Lora, ...] = declare(
        Kind.LIST,
        default=(),
        of=Lora,
        shorthand=Kind.TEXT,
        high=MAX_LORAS,
        label="LoRAs",
        help="Installed LoRAs: keys, or objects with key and weight.",
    )
    control: Control | None = declare(
        Kind.OBJECT,
        default=None,
        of=Control,
        label="Guided by a picture",
        technical="ControlNet",
        help=(
            "Guidance by a picture: {key, image, scale, preprocess, begin, end}. In a form the picture may be the file"
            " `control_image`."
        ),
    )
    reference: Reference | None = declare(
        Kind.OBJECT,
        default=None,
        of=Reference,
        shorthand=Kind.PICTURE,
        label="Looks like a picture",
        technical="IP-Adapter",
        help="A picture whose look is followed: {image, scale}, or the picture alone. In a form: `reference_image`.",
    )
    upscale: Upscale | None = declare(
        Kind.OBJECT,
        default=None,
        of=Upscale,
        shorthand=Kind.NUMBER,
        label="Only enlarge",
        technical="upscale",
        help="Only enlarge `image`, or its own image, by 2 or 4: {factor, upscaler, image}. No prompt is needed then.",
    )
    guidance_rescale: float = declare(
        Kind.NUMBER,
        default=0.0,
        low=0.0,
        high=1.0,
        limits=lambda offer: Limits(0.0, 1.0, 0.7 if offer.spec.zero_snr else 0.0),
        aliases=("guidanceRescale", "cfg_rescale"),
        a1111="guidance_rescale",
        infotext="CFG rescale",
        infotext_aliases=("CFG Rescale", "CFG rescale phi", "CFG Rescale Phi"),
        label="Softer contrast",
        technical="guidance rescale",
        help="How far strong guidance is kept from overexposing, from 0 to 1 (Lin et al. 2023).",
        hint="0.7 helps where strong guidance looks burnt",
        step=0.1,
    )
    tiling: bool = declare(
        Kind.BOOLEAN,
        default=False,
        a1111="tiling",
        infotext="Tiling",
        label="Tiles without a seam",
        technical="tiling",
        help="The edges fit together.",
    )
    clip_skip: int = declare(
        Kind.INTEGER,
        default=0,
        low=0,
        high=11,
        aliases=("clipSkip",),
        a1111="clip_skip",
        infotext="Clip skip",
        a1111_offset=1,
        label="Layers left out",
        technical="clip skip",
        help="How many of the text encoder's last layers are left out.",
        hint="of the text encoder; 1 for most anime models",
        step=1,
    )
    quality: str = declare(
        Kind.CHOICE,
        default="exact",
        choices=("exact", "fast"),
        label="Quality",
        help="`fast` draws in a few steps, where the model can, and shows it.",
    )

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
        """Width and height of what comes out: larger than the first pass after a second one."""
        size = self.width, self.height
        return enlarged(*size, self.hires.scale) if self.hires else size

    @property
    def steps_each(self) -> int:
        """Denoising steps of one image, second pass included; an upscale counts as one."""
        if self.upscale:
            return 1
        first = drawn_steps(self.steps, self.start.strength) if self.start else self.steps
        if self.hires is None:
            return first
        return first + drawn_steps(self.hires.steps or self.steps, self.hires.strength)

    @property
    def total_steps(self) -> int:
        """Denoising steps of all images."""
        return self.steps_each * self.num_images


ASPECT_RATIO = Field(
    kind=Kind.CHOICE,
    name="aspect_ratio",
    attribute="aspect_ratio",
    param="aspect_ratio",
    choices=tuple(ASPECT_RATIOS),
    aliases=("aspectRatio",),
    label="Shape",
    help=f"Instead of width and height: {', '.join(ASPECT_RATIOS)}.",
)
"""Decides width and height, and is not kept."""

OWN_FIELDS = fields_of(ImageRequest)
"""The attributes of ImageRequest, those that hold a part included."""
_BY_ATTRIBUTE = {field.attribute: field for field in OWN_FIELDS}
PARTS = {field.attribute: field for field in OWN_FIELDS if field.of}
START_FIELDS = fields_of(Start, PARTS["start"])
HIRES_FIELDS = fields_of(Hires, PARTS["hires"])
COLUMNS = tuple(field for field in OWN_FIELDS if field.column)
OPTIONS = tuple(field for field in OWN_FIELDS if field.is_scalar and not field.column)
"""Scalars that are written down only where they differ from their default."""

FIELDS: dict[str, Field] = {
    field.name: field
    for own in OWN_FIELDS
    for field in (START_FIELDS if own.attribute == "start" else (own, ASPECT_RATIO) if own.name == "height" else (own,))
}
"""Every field at the top of a request in our JSON, by name. The fields of `hires_fix` may stand there too."""

DEFAULT_UPSCALERS = (*UPSCALERS, *BUILT_IN)

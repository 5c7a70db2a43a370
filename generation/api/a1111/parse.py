"""Parsing of txt2img and img2img bodies into keyword arguments of `create_generation`, one set per generation."""

import secrets
from dataclasses import dataclass, field

from rest_framework.exceptions import APIException

from generation.api.http.requests import ApiRequest
from generation.engine.catalog.models import ModelSpec
from generation.engine.errors import InvalidRequest
from generation.engine.request.fields import MAX_SEED
from generation.engine.request.request import size_like
from generation.models import Upload
from generation.storage.uploads import read_picture

from . import names
from .fields import IMG2IMG, MAX_BATCH_SIZE, MAX_IMAGES_A_CALL, TXT2IMG, own_values, read_fields
from .masks import read_mask
from .options import FORMATS, checkpoint, options_of, read_settings
from .scripts import SD_UPSCALE, control_fields, upscale_script

STRENGTH = 0.75
"""The web UI's own, for starts from a picture and for second passes alike."""
FILLS = ("blur", "original", "noise", "zero")
FITS = ("stretch", "crop", "pad", "stretch")
SEEDS = MAX_SEED + 1
NO_SCRIPT = ("", "none")


class InitImageMissing(APIException):
    """img2img without a picture."""

    status_code = 404
    default_code = "not_found"
    default_detail = "Init image not found"


@dataclass
class ParsedRequest:
    """One call: `kwargs` for `create_generation` that all its images share, and what differs between them.

    `echo` is what the answer repeats of the request; `picture_format` one of ours; `options_to_keep` outlive the call.
    """

    kind: str
    kwargs: dict
    seed: int
    subseed: int
    subseed_strength: float
    batch_size: int
    batches: int
    starts: list[Upload] = field(default_factory=list)
    task: str = ""
    send_images: bool = True
    picture_format: str = "png"
    echo: dict = field(default_factory=dict)
    options_to_keep: dict = field(default_factory=dict)

    @property
    def total(self) -> int:
        return self.batch_size * self.batches

    def seeds_of(self, index: int) -> tuple[int, int]:
        """Seed and subseed of an image, as the web UI counts them."""
        if self.subseed_strength:
            return self.seed, (self.subseed + index) % SEEDS
        return (self.seed + index) % SEEDS, (self.subseed + index) % SEEDS

    def parts(self, max_images: int) -> list[dict]:
        """Keyword arguments of each generation, in the order of drawing; `max_images` fit into one."""
        if len(self.starts) < 2 and not self.subseed_strength:
            starts = {"image": self.starts[0]} if self.starts else {}
            return [
                self.kwargs
                | starts
                | {"seed": self.seeds_of(done)[0], "num_images": min(max_images, self.total - done)}
                for done in range(0, self.total, max_images)
            ]
        return [self._part_of(index) for index in range(self.total)]

    def _part_of(self, index: int) -> dict:
        """The keyword arguments of a generation of this image alone."""
        seed, subseed = self.seeds_of(index)
        kwargs = self.kwargs | {"seed": seed, "num_images": 1}
        if self.starts:
            kwargs["image"] = self.starts[index % len(self.starts)]
        if self.subseed_strength:
            kwargs["variation"] = {"seed": subseed, "strength": self.subseed_strength}
        return kwargs


def parse_txt2img(request: ApiRequest) -> ParsedRequest:
    fields = read_fields(request.data, TXT2IMG)
    parsed = _parse_common(request, fields, "txt2img")
    if fields.get("script_name", "").strip().casefold() not in NO_SCRIPT:
        raise _unknown_script(fields["script_name"])
    _add_control(request, fields, parsed, None)
    if fields.get("enable_hr"):
        parsed.kwargs["hires"] = {
            "scale": _hires_scale(fields, parsed.kwargs),
            "strength": fields.get("denoising_strength", STRENGTH),
            "steps": fields.get("hr_second_pass_steps") or None,
            "upscaler": names.hires_upscaler_of(fields.get("hr_upscaler")),
        }
    return parsed


def parse_img2img(request: ApiRequest) -> ParsedRequest:
    """The pictures are stored as uploads; the caller removes them again if nothing comes of the request."""
    fields = read_fields(request.data, IMG2IMG)
    if not fields.get("init_images"):
        raise InitImageMissing()
    parsed = _parse_common(request, fields, "img2img")
    if len(fields["init_images"]) > 1:
        # One batch of as many images, each drawn from its own.
        if len(fields["init_images"]) > MAX_BATCH_SIZE:
            raise InvalidRequest(f"At most {MAX_BATCH_SIZE} pictures are taken.", "init_images")
        parsed.batch_size = len(fields["init_images"])
        _check_total(parsed)
    script = fields.get("script_name", "").strip().casefold()
    if script not in (*NO_SCRIPT, SD_UPSCALE):
        raise _unknown_script(fields["script_name"])
    strength = fields.get("denoising_strength", STRENGTH)
    parsed.kwargs |= {"strength": strength, "fit": FITS[fields.get("resize_mode", 0)]}
    if script == SD_UPSCALE:
        parsed.kwargs |= upscale_script(fields.get("script_args") or [], strength)
    parsed.starts = [read_picture(request.user, picture, "init_images") for picture in fields["init_images"]]
    if fields.get("mask"):
        parsed.kwargs |= {
            "mask": read_mask(request.user, fields["mask"], inverted=fields.get("inpainting_mask_invert", False)),
            "mask_blur": fields.get("mask_blur", 4),
            "fill": FILLS[fields.get("inpainting_fill", 0)],
            "padding": fields.get("inpaint_full_res_padding", 0) if fields.get("inpaint_full_res", True) else None,
        }
    _add_control(request, fields, parsed, parsed.starts[0])
    if not fields.get("include_init_images"):
        parsed.echo.pop("init_images", None)
        parsed.echo.pop("mask", None)
    return parsed


def _parse_common(request: ApiRequest, fields: dict, kind: str) -> ParsedRequest:
    """What both have in common."""
    overrides = read_settings(fields.get("override_settings", {}))
    settings = options_of(request) | overrides
    spec = checkpoint(settings)
    kwargs = {
        "model": spec.key,
        "clip_skip": settings["CLIP_stop_at_last_layers"] - 1,
        **own_values(fields),
        "sampler": names.sampler_of(fields.get("sampler_name") or fields.get("sampler_index"), fields.get("scheduler")),
        **_composed(fields),
        **_size(fields, spec),
    }
    random_seeds = [secrets.randbelow(SEEDS), secrets.randbelow(SEEDS)]
    seed, subseed = (
        value if value >= 0 else random_seeds.pop() for value in (fields.get("seed", -1), fields.get("subseed", -1))
    )
    parsed = ParsedRequest(
        kind=kind,
        kwargs=kwargs,
        seed=seed,
        subseed=subseed,
        subseed_strength=fields.get("subseed_strength", 0.0),
        batch_size=fields.get("batch_size", 1),
        batches=fields.get("n_iter", 1),
        task=fields.get("force_task_id", ""),
        send_images=fields.get("send_images", True),
        picture_format=FORMATS[settings["samples_format"]],
        options_to_keep={} if fields.get("override_settings_restore_afterwards", True) else overrides,
        # What was not looked into is not repeated: it may hold anything.
        echo=fields | {"override_settings": overrides, "script_args": [], "alwayson_scripts": {}},
    )
    _check_total(parsed)
    return parsed


def _check_total(parsed: ParsedRequest) -> None:
    if parsed.total > MAX_IMAGES_A_CALL:
        raise InvalidRequest(f"At most {MAX_IMAGES_A_CALL} images are drawn for one call.", "n_iter")


def _composed(fields: dict) -> dict:
    """Prompts with styles. Ours take one style; the words of others are joined to the prompt here."""
    prompt, negative = fields.get("prompt", ""), fields.get("negative_prompt", "")
    styles = names.known_styles(fields.get("styles", []))
    for style in styles[:-1]:
        prompt, negative = style.compose(prompt, negative)
    return {"prompt": prompt, "negative_prompt": negative, "style": styles[-1].key if styles else ""}


def _size(fields: dict, spec: ModelSpec) -> dict:
    """The nearest size that the model draws: these programs ask for 512 x 512 whatever the model is."""
    if "width" not in fields and "height" not in fields:
        return {}
    width, height = size_like(spec, fields.get("width", spec.native_width), fields.get("height", spec.native_height))
    return {"width": width, "height": height}


def _hires_scale(fields: dict, size: dict) -> float:
    scales = [
        fields[name] / size[side]
        for name, side in (("hr_resize_x", "width"), ("hr_resize_y", "height"))
        if fields.get(name) and size.get(side)
    ]
    return max(scales) if scales else fields.get("hr_scale", 2.0)


def _add_control(request: ApiRequest, fields: dict, parsed: ParsedRequest, start: Upload | None) -> None:
    parsed.kwargs |= control_fields(request.user, fields.get("alwayson_scripts", {}), start)


def _unknown_script(name: str) -> names.UnknownName:
    return names.UnknownName(f"Script '{name[:80]}' not found.", "script_name")

"""From a body of txt2img or img2img to the words of `services.create_generation`, one set for each generation."""

import secrets
from dataclasses import dataclass, field

from rest_framework.exceptions import APIException

from generation.engine.errors import InvalidRequest
from generation.engine.request.fields import MAX_SEED
from generation.engine.request.request import size_like
from generation.models import Upload
from generation.storage.uploads import read_picture

from . import names
from .fields import IMG2IMG, MAX_BATCH_SIZE, MAX_IMAGES_A_CALL, TXT2IMG, own_values, read_fields
from .masks import read_mask
from .options import FORMATS, checkpoint, options_of, read_settings
from .scripts import SD_UPSCALE, guided_by, upscale_script

STRENGTH = 0.75
"""The web UI's own, for starts from a picture and for second passes alike."""
FILLS = ("blur", "original", "noise", "zero")
FITS = ("stretch", "crop", "pad", "stretch")
SEEDS = MAX_SEED + 1
NO_SCRIPT = ("", "none")


class NoStart(APIException):
    """img2img without a picture."""

    status_code = 404
    default_code = "not_found"
    default_detail = "Init image not found"


@dataclass
class Asked:
    """One call: `words` for `create_generation` that all its images share, and what differs between them.

    `echo` is what the answer repeats of the request; `picture_format` one of ours; `lasting` are settings that the
    caller wants to keep afterwards.
    """

    kind: str
    words: dict
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
    lasting: dict = field(default_factory=dict)

    @property
    def total(self) -> int:
        return self.batch_size * self.batches

    def seeds_of(self, index: int) -> tuple[int, int]:
        """Seed and subseed of an image, as the web UI counts them."""
        if self.subseed_strength:
            return self.seed, (self.subseed + index) % SEEDS
        return (self.seed + index) % SEEDS, (self.subseed + index) % SEEDS

    def parts(self, most: int) -> list[dict]:
        """The words of each generation to ask for, one after the other; `most` images fit into one."""
        if len(self.starts) < 2 and not self.subseed_strength:
            starts = {"image": self.starts[0]} if self.starts else {}
            return [
                self.words | starts | {"seed": self.seeds_of(done)[0], "num_images": min(most, self.total - done)}
                for done in range(0, self.total, most)
            ]
        return [self._alone(index) for index in range(self.total)]

    def _alone(self, index: int) -> dict:
        seed, subseed = self.seeds_of(index)
        words = self.words | {"seed": seed, "num_images": 1}
        if self.starts:
            words["image"] = self.starts[index % len(self.starts)]
        if self.subseed_strength:
            words["variation"] = {"seed": subseed, "strength": self.subseed_strength}
        return words


def read_txt2img(request) -> Asked:
    given = read_fields(request.data, TXT2IMG)
    asked = _read(request, given, "txt2img")
    if given.get("script_name", "").strip().casefold() not in NO_SCRIPT:
        raise _no_script(given["script_name"])
    _guide(request, given, asked, None)
    if given.get("enable_hr"):
        asked.words["hires"] = {
            "scale": _hires_scale(given, asked.words),
            "strength": given.get("denoising_strength", STRENGTH),
            "steps": given.get("hr_second_pass_steps") or None,
            "upscaler": names.hires_upscaler_of(given.get("hr_upscaler")),
        }
    return asked


def read_img2img(request) -> Asked:
    """The pictures are stored as uploads; the caller removes them again if nothing comes of the request."""
    given = read_fields(request.data, IMG2IMG)
    if not given.get("init_images"):
        raise NoStart()
    asked = _read(request, given, "img2img")
    if len(given["init_images"]) > 1:
        # One batch of as many images, each drawn from its own.
        if len(given["init_images"]) > MAX_BATCH_SIZE:
            raise InvalidRequest(f"At most {MAX_BATCH_SIZE} pictures are taken.", "init_images")
        asked.batch_size = len(given["init_images"])
        _check_total(asked)
    script = given.get("script_name", "").strip().casefold()
    if script not in (*NO_SCRIPT, SD_UPSCALE):
        raise _no_script(given["script_name"])
    strength = given.get("denoising_strength", STRENGTH)
    asked.words |= {"strength": strength, "fit": FITS[given.get("resize_mode", 0)]}
    if script == SD_UPSCALE:
        asked.words |= upscale_script(given.get("script_args") or [], strength)
    asked.starts = [read_picture(request.user, one, "init_images") for one in given["init_images"]]
    if given.get("mask"):
        asked.words |= {
            "mask": read_mask(request.user, given["mask"], inverted=given.get("inpainting_mask_invert", False)),
            "mask_blur": given.get("mask_blur", 4),
            "fill": FILLS[given.get("inpainting_fill", 0)],
            "padding": given.get("inpaint_full_res_padding", 0) if given.get("inpaint_full_res", True) else None,
        }
    _guide(request, given, asked, asked.starts[0])
    if not given.get("include_init_images"):
        asked.echo.pop("init_images", None)
        asked.echo.pop("mask", None)
    return asked


def _read(request, given: dict, kind: str) -> Asked:
    """What both have in common."""
    overriding = read_settings(given.get("override_settings", {}))
    settings = options_of(request) | overriding
    spec = checkpoint(settings)
    words = {
        "model": spec.key,
        "clip_skip": settings["CLIP_stop_at_last_layers"] - 1,
        **own_values(given),
        "sampler": names.sampler_of(given.get("sampler_name") or given.get("sampler_index"), given.get("scheduler")),
        **_composed(given),
        **_size(given, spec),
    }
    random_seeds = [secrets.randbelow(SEEDS), secrets.randbelow(SEEDS)]
    seed, subseed = (
        value if value >= 0 else random_seeds.pop() for value in (given.get("seed", -1), given.get("subseed", -1))
    )
    asked = Asked(
        kind=kind,
        words=words,
        seed=seed,
        subseed=subseed,
        subseed_strength=given.get("subseed_strength", 0.0),
        batch_size=given.get("batch_size", 1),
        batches=given.get("n_iter", 1),
        task=given.get("force_task_id", ""),
        send_images=given.get("send_images", True),
        picture_format=FORMATS[settings["samples_format"]],
        lasting={} if given.get("override_settings_restore_afterwards", True) else overriding,
        # What was not looked into is not repeated: it may hold anything.
        echo=given | {"override_settings": overriding, "script_args": [], "alwayson_scripts": {}},
    )
    _check_total(asked)
    return asked


def _check_total(asked: Asked) -> None:
    if asked.total > MAX_IMAGES_A_CALL:
        raise InvalidRequest(f"At most {MAX_IMAGES_A_CALL} images are drawn for one call.", "n_iter")


def _composed(given: dict) -> dict:
    """Prompts with styles. Ours take one style; the words of others are joined to the prompt here."""
    prompt, negative = given.get("prompt", ""), given.get("negative_prompt", "")
    styles = names.known_styles(given.get("styles", []))
    for style in styles[:-1]:
        prompt, negative = style.compose(prompt, negative)
    return {"prompt": prompt, "negative_prompt": negative, "style": styles[-1].key if styles else ""}


def _size(given: dict, spec) -> dict:
    """The nearest size that the model draws: these programs ask for 512 x 512 whatever the model is."""
    if "width" not in given and "height" not in given:
        return {}
    width, height = size_like(spec, given.get("width", spec.native_width), given.get("height", spec.native_height))
    return {"width": width, "height": height}


def _hires_scale(given: dict, words: dict) -> float:
    scales = [
        given[wanted] / words[side]
        for wanted, side in (("hr_resize_x", "width"), ("hr_resize_y", "height"))
        if given.get(wanted) and words.get(side)
    ]
    return max(scales) if scales else given.get("hr_scale", 2.0)


def _guide(request, given: dict, asked: Asked, start: Upload | None) -> None:
    asked.words |= guided_by(request.user, given.get("alwayson_scripts", {}), start)


def _no_script(name: str) -> names.UnknownName:
    return names.UnknownName(f"Script '{name[:80]}' not found.", "script_name")

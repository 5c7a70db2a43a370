"""From what somebody sent to the objects of `modes`: shapes, ranges, defaults. They raise InvalidRequest."""

from generation.engine.errors import InvalidRequest

from . import options
from .options import (
    LATENT,
    MAX_HIRES_SCALE,
    MAX_LORAS,
    MAX_MASK_BLUR,
    Control,
    Expand,
    Hires,
    Lora,
    Picture,
    Reference,
    Start,
    Upscale,
    Variation,
)
from .validate import fields, flag, number, one_of, text

MAX_EXPAND = 1024
MAX_KEY = 120


def read_start(image, mask, *, strength, mask_blur, fill, padding, fit, expand) -> Start | None:
    if image is None:
        for value, param in ((mask, "mask"), (expand, "expand"), (strength, "strength")):
            if value is not None:
                raise InvalidRequest("This needs an image to work on.", param)
        return None
    expand = read_expand(expand)
    return Start(
        image=picture(image, "image"),
        # An edge painted anew has nothing of its own to keep, so it defaults to everything.
        strength=number(strength, "strength", 0.0, 1.0, 1.0 if expand else options.DEFAULT_STRENGTH),
        mask=None if mask is None else picture(mask, "mask"),
        mask_blur=number(mask_blur, "mask_blur", 0, MAX_MASK_BLUR, 4, whole=True),
        fill=one_of(fill, "fill", options.FILLS, "blur" if expand else "original"),
        padding=number(padding, "padding", 0, 512, None, whole=True),
        fit=one_of(fit, "fit", options.FITS, "stretch"),
        expand=expand,
    )


def read_expand(value) -> Expand | None:
    """A number for all sides, or an object with left, right, top and bottom."""
    if value is None:
        return None
    if not isinstance(value, dict):
        side = number(value, "expand", 0, MAX_EXPAND, 0, whole=True)
        value = {"left": side, "right": side, "top": side, "bottom": side}
    sides = ("left", "right", "top", "bottom")
    given = fields(value, "expand", sides)
    expand = Expand(*(number(given.get(side), "expand", 0, MAX_EXPAND, 0, whole=True) for side in sides))
    return None if expand == Expand() else expand


def read_hires(value, most_steps: int, upscalers) -> Hires | None:
    """True, or an object with scale, strength, steps and upscaler."""
    if value is None or value is False:
        return None
    given = {} if value is True else fields(value, "hires_fix", ("scale", "strength", "steps", "upscaler"))
    return Hires(
        scale=number(given.get("scale"), "hires_scale", 1.0, MAX_HIRES_SCALE, 2.0),
        strength=number(given.get("strength"), "hires_strength", 0.0, 1.0, 0.5),
        steps=number(given.get("steps") or None, "hires_steps", 1, most_steps, None, whole=True),
        upscaler=one_of(given.get("upscaler"), "hires_upscaler", (LATENT, *upscalers), LATENT),
    )


def read_variation(value, max_seed: int) -> Variation | None:
    """None also where the strength is 0, which changes nothing."""
    if value is None:
        return None
    given = fields(value, "variation", ("seed", "strength"))
    strength = number(given.get("strength"), "variation", 0.0, 1.0, 0.1)
    seed = number(given.get("seed"), "variation", 0, max_seed, 0, whole=True)
    return Variation(seed, strength) if strength else None


def read_loras(value) -> tuple[Lora, ...]:
    """A list of keys, or of objects with key and weight. The same one twice counts twice."""
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise InvalidRequest("This must be a list.", "loras")
    weights: dict[str, float] = {}
    for each in value:
        given = {"key": each} if isinstance(each, str) else fields(each, "loras", ("key", "weight"))
        key = text(given.get("key"), "loras", MAX_KEY).strip()
        weights[key] = weights.get(key, 0.0) + number(given.get("weight"), "loras", -4.0, 4.0, 1.0)
    if len(weights) > MAX_LORAS:
        raise InvalidRequest(f"At most {MAX_LORAS} LoRAs work together.", "loras")
    return tuple(Lora(key, weight) for key, weight in weights.items() if weight)


def read_control(value) -> Control | None:
    if value is None:
        return None
    given = fields(value, "control", ("key", "image", "scale", "preprocess", "begin", "end"))
    preprocess = given.get("preprocess")
    control = Control(
        key=text(given.get("key"), "control", MAX_KEY).strip(),
        image=picture(given.get("image"), "control"),
        scale=number(given.get("scale"), "control", 0.0, 2.0, 1.0),
        preprocess=True if preprocess is None else flag(preprocess, "control"),
        begin=number(given.get("begin"), "control", 0.0, 1.0, 0.0),
        end=number(given.get("end"), "control", 0.0, 1.0, 1.0),
    )
    if control.begin >= control.end:
        raise InvalidRequest("Control must begin before it ends.", "control")
    return control


def read_reference(value) -> Reference | None:
    if value is None:
        return None
    given = fields(value, "reference", ("image", "scale"))
    return Reference(picture(given.get("image"), "reference"), number(given.get("scale"), "reference", 0.0, 1.0, 0.6))


def read_upscale(value, upscalers) -> Upscale:
    given = fields(value, "upscale", ("image", "factor", "upscaler"))
    factor = number(given.get("factor"), "upscale", 2, 4, 2, whole=True)
    if factor == 3:
        raise InvalidRequest("Pictures are enlarged 2 or 4 times.", "upscale")
    return Upscale(
        picture(given.get("image"), "upscale"),
        factor,
        one_of(given.get("upscaler"), "upscaler", upscalers, upscalers[0]),
    )


def picture(value, param: str) -> Picture:
    if not isinstance(value, Picture):
        raise InvalidRequest("This must be a picture.", param)
    return value

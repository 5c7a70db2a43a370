"""The web UI's scripts that mean something here: ControlNet, IP-Adapter as a unit of it, and SD upscale."""

from generation import catalog
from generation.engine.catalog.upscalers import upscaler_title
from generation.engine.errors import InvalidRequest
from generation.engine.request import validate
from generation.engine.request.fields import HIRES_FIELDS
from generation.models import Upload
from generation.storage.uploads import read_picture

from . import names
from .fields import MAX_NAME

PARAM = "alwayson_scripts"
NOTHING = ("", "none")
SD_UPSCALE = "sd upscale"
CONTROLNET = "controlnet"
IP_ADAPTER = "ip-adapter"
SCALE = next(field for field in HIRES_FIELDS if field.attribute == "scale")


def guided_by(user, scripts: dict, start: Upload | None) -> dict:
    """`control` and `reference` for `create_generation`. A unit without a picture takes the one to start from."""
    units = [unit for name, script in scripts.items() if name.casefold() == CONTROLNET for unit in _units(script)]
    words: dict = {}
    for unit in units:
        kind, value = _read_unit(user, unit, start)
        if kind in words:
            raise InvalidRequest("One ControlNet unit and one IP-Adapter unit at a time are drawn here.", PARAM)
        words[kind] = value
    return words


def _units(script) -> list[dict]:
    """The units that are switched on and name a model."""
    units = script.get("args") if isinstance(script, dict) else None
    if units is None:
        return []
    if not isinstance(units, list) or not all(isinstance(unit, dict) for unit in units):
        raise InvalidRequest("The args of ControlNet must be a list of units.", PARAM)
    return [unit for unit in units if unit.get("enabled", True) and not _is_nothing(unit.get("model"))]


def _is_nothing(value) -> bool:
    return value is None or (isinstance(value, str) and value.strip().casefold() in NOTHING)


def _read_unit(user, unit: dict, start: Upload | None) -> tuple[str, dict]:
    model = validate.text(unit["model"], PARAM, MAX_NAME)
    module = unit.get("module")
    module = "" if _is_nothing(module) else validate.text(module, PARAM, MAX_NAME)
    given = unit.get("image") or unit.get("input_image")
    if isinstance(given, dict):
        given = given.get("image")
    if not given and start is None:
        raise InvalidRequest("The ControlNet unit needs a picture.", PARAM)
    picture = read_picture(user, given, PARAM) if given else start
    weight = validate.number(unit.get("weight"), PARAM, 0.0, 2.0, 1.0)
    if IP_ADAPTER in (module + model).casefold().replace("_", "-"):
        return "reference", {"image": picture, "scale": min(1.0, weight)}
    return "control", {
        "key": names.FILE.sub("", names.HASH.sub("", model.strip())),
        "image": picture,
        "scale": weight,
        "preprocess": bool(module),
        "begin": validate.number(unit.get("guidance_start"), PARAM, 0.0, 1.0, 0.0),
        "end": validate.number(unit.get("guidance_end"), PARAM, 0.0, 1.0, 1.0),
    }


def upscale_script(arguments: list, strength: float) -> dict:
    """SD upscale: the picture as it is, enlarged and drawn over at `strength`.

    `arguments`: unused, overlap of tiles (there are none here), upscaler by name or place in the list, scale.
    """
    _, _, upscaler, scale = (arguments + [None] * 4)[:4]
    if isinstance(upscaler, int) and not isinstance(upscaler, bool):
        titles = [names.NO_UPSCALER, *map(upscaler_title, catalog.upscalers())]
        if not 0 <= upscaler < len(titles):
            raise names.UnknownName("There is no upscaler with that number.", "script_args")
        upscaler = titles[upscaler]
    if upscaler is not None:
        upscaler = validate.text(upscaler, "script_args", MAX_NAME)
    return {
        "strength": 0.0,
        "hires": {
            "scale": validate.number(scale, "script_args", SCALE.low, SCALE.high, SCALE.default),
            "strength": strength,
            "upscaler": names.upscaler_of(upscaler, "script_args"),
        },
    }

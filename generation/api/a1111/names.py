"""The names that users of the dialect know, and ours: samplers with schedulers, upscalers, checkpoints, styles."""

import re

from generation import catalog
from generation.engine.catalog.models import ModelSpec
from generation.engine.catalog.samplers import SAMPLERS, Sampler, find_sampler
from generation.engine.catalog.upscalers import LATENT, upscaler_title
from generation.engine.errors import InvalidRequest, UnknownModel
from generation.prompts.styles import STYLES, Style

from .weights import known_hash

KARRAS = "karras"
SCHEDULERS = {"automatic": "Automatic", "uniform": "Uniform", KARRAS: "Karras"}
AUTOMATIC = "automatic"
SPACED = re.compile(r"(.+) (karras|(?:poly)?exponential|(?:sgm )?uniform|automatic|simple|normal|beta)", re.IGNORECASE)
"""Names of samplers with their scheduler behind them, as the web UI had them once and still takes them."""
NO_UPSCALER = "None"
LATENT_MODES = ("Latent",)
HASH = re.compile(r" \[([0-9a-fA-F]{4,64})\]$")
HASH_ALONE = re.compile(r"[0-9a-fA-F]{10,64}")
FILE = re.compile(r"\.(safetensors|ckpt)$", re.IGNORECASE)


class UnknownName(InvalidRequest):
    """A name from one of the lists that is not in it. The web UI answers that with 404."""

    code = "unknown_name"


def sampler_of(name: str | None, scheduler: str | None) -> str | None:
    """Our sampler for one of the dialect's with its scheduler; None for the model's default."""
    if not name:
        return None
    sampler = find_sampler(name)
    if sampler is None and (parts := SPACED.fullmatch(name.strip())):
        sampler, scheduler = find_sampler(parts[1]), parts[2]
    if sampler is None:
        raise UnknownName(f"Sampler not found. There are: {', '.join(one.name for one in SAMPLERS)}.", "sampler_name")
    wanted = (scheduler or AUTOMATIC).strip().casefold()
    if wanted == KARRAS or (wanted == AUTOMATIC and _karras_by_itself(sampler)):
        with_karras = find_sampler(f"{sampler.name} Karras")
        return (with_karras or sampler).name
    return sampler.name


def _karras_by_itself(sampler: Sampler) -> bool:
    """Left to choose, the web UI draws this one with Karras' spacing."""
    return sampler.name == "DPM++ 2M"


def schedule_type(sampler: str) -> str:
    """What the dialect calls the spacing of our sampler."""
    return SCHEDULERS[KARRAS] if sampler.endswith("Karras") else SCHEDULERS[AUTOMATIC]


def upscaler_of(name: str | None, param: str) -> str:
    """Our upscaler. `None` is the plain one, which is what the web UI resizes with then."""
    if not name or name == NO_UPSCALER:
        return catalog.upscalers()[0]
    known = {upscaler_title(one).casefold(): one for one in catalog.upscalers()}
    if name.casefold() not in known:
        titles = ", ".join(upscaler_title(one) for one in catalog.upscalers())
        raise UnknownName(f"There is no such upscaler here. There are: {titles}.", param)
    return known[name.casefold()]


def hires_upscaler_of(name: str | None) -> str:
    """As `upscaler_of`, and all of the `Latent (…)` modes, which are one here."""
    if not name or name.casefold().startswith(LATENT):
        return LATENT
    return upscaler_of(name, "hr_upscaler")


def checkpoint_of(name: str) -> ModelSpec:
    """The model of that title, key, alias or file name, with or without ` [hash]`, or of that hash.

    Raises UnknownModel.
    """
    plain = HASH.sub("", name.strip())
    for candidate in (plain, FILE.sub("", plain)):
        try:
            return catalog.model_named(candidate)
        except UnknownModel:
            continue
    for spec in catalog.catalog():
        if spec.title.casefold() == plain.casefold():
            return spec
    return _model_of_hash(name)


def _model_of_hash(name: str) -> ModelSpec:
    shown = HASH.search(name.strip())
    wanted = (shown[1] if shown else name.strip()).casefold()
    if HASH_ALONE.fullmatch(wanted):
        for spec in catalog.catalog():
            if (known_hash(spec) or "").startswith(wanted):
                return spec
    raise UnknownModel(name)


def checkpoint_title(spec: ModelSpec) -> str:
    """What `sd-models` and the option `sd_model_checkpoint` call it."""
    return spec.key


def known_styles(names: list[str]) -> list[Style]:
    """Those of our styles that are named, by key or title."""
    by_name = {name.casefold(): style for style in STYLES.values() for name in (style.key, style.title)}
    return [by_name[name.strip().casefold()] for name in names if name.strip().casefold() in by_name]

"""Bodies of the listing endpoints: sd-models, samplers, schedulers, upscalers, loras, scripts and so on."""

from generation import catalog
from generation.engine.catalog.models import ModelSpec
from generation.engine.catalog.samplers import SAMPLERS, find_sampler
from generation.engine.catalog.upscalers import UPSCALERS, upscaler_title
from generation.prompts.styles import STYLES
from generation.queue import presence

from . import names
from .scripts import CONTROLNET, SD_UPSCALE
from .weights import SHORT, known_hash


def checkpoints() -> list[dict]:
    return [_checkpoint(spec) for spec in catalog.catalog()]


def _checkpoint(spec: ModelSpec) -> dict:
    title, digest = names.checkpoint_title(spec), known_hash(spec)
    return {
        "title": title,
        "model_name": title,
        "hash": digest and digest[:SHORT],
        "sha256": digest,
        "filename": f"{spec.key}.safetensors",
        "config": None,
    }


def samplers() -> list[dict]:
    return [
        {"name": sampler.name, "aliases": list(sampler.aliases), "options": _scheduler_option(sampler.name)}
        for sampler in SAMPLERS
    ]


def _scheduler_option(name: str) -> dict:
    """The scheduler that a sampler gets when the choice is left to it."""
    chosen = names.sampler_of(name, names.AUTOMATIC)
    return {"scheduler": names.KARRAS} if find_sampler(chosen).name.endswith("Karras") else {}


def schedulers() -> list[dict]:
    return [
        {
            "name": name,
            "label": label,
            "aliases": None,
            "default_rho": 7.0 if name == names.KARRAS else -1.0,
            "need_inner_model": False,
        }
        for name, label in names.SCHEDULERS.items()
    ]


def upscalers() -> list[dict]:
    """Without and with a model. `None` comes first, where these programs expect it."""
    none = {"name": names.NO_UPSCALER, "model_name": None, "model_path": None, "model_url": None, "scale": 4.0}
    return [none] + [
        {
            "name": upscaler_title(upscaler),
            "model_name": None if upscaler in UPSCALERS else upscaler,
            "model_path": None,
            "model_url": None,
            "scale": 4.0,
        }
        for upscaler in catalog.upscalers()
    ]


def upscaler_models() -> list[dict]:
    return [{"name": key, "path": None, "scale": 4} for key in catalog.upscalers() if key not in UPSCALERS]


def latent_modes() -> list[dict]:
    return [{"name": mode} for mode in names.LATENT_MODES]


def styles() -> list[dict]:
    return [
        {"name": style.title, "prompt": style.prompt, "negative_prompt": style.negative} for style in STYLES.values()
    ]


def loras() -> list[dict]:
    return [
        {"name": key, "alias": lora.title, "path": f"{key}.safetensors", "metadata": {}}
        for key, lora in catalog.addons().loras.items()
    ]


def scripts() -> dict:
    always = [CONTROLNET] if catalog.addons().controlnets else []
    return {"txt2img": always, "img2img": [*always, SD_UPSCALE]}


def script_info() -> list[dict]:
    listed = scripts()
    return [
        {"name": name, "is_alwayson": name == CONTROLNET, "is_img2img": kind == "img2img", "args": []}
        for kind in ("txt2img", "img2img")
        for name in listed[kind]
    ]


def flags() -> dict:
    """The few that programs look at; nothing of this machine."""
    return {"api": True, "nowebui": True, "share": False, "allow_code": False, "disable_safe_unpickle": False}


def memory() -> dict:
    """Of the workers' devices, in bytes; the web UI says `error` for what it cannot tell."""
    reports = [report["memory"] for report in presence.workers() if report.get("memory")]
    reports = [report for report in reports if report.get("total")]
    if not reports:
        return {"ram": {"error": "unavailable"}, "cuda": {"error": "unavailable"}}
    used, total = sum(report.get("used") or 0 for report in reports), sum(report["total"] for report in reports)
    return {"ram": {"error": "unavailable"}, "cuda": {"system": {"free": total - used, "used": used, "total": total}}}

"""Trains the built-in model from nothing to a Stable Diffusion folder, stage by stage.

Every stage leaves its result in the work folder and is skipped, or taken up where it stopped, when
run again on the same folder. `manage.py train_sketch` is a thin face of `run`.
"""

from pathlib import Path

from generation.engine.sketch import JUDGE, UPSCALER

from .recipe import PRESETS, Recipe

STAGES = ("data", "tokenizer", "autoencoder", "latents", "text", "denoiser", "decoder", "export")


def stage(name: str, recipe: Recipe, work: Path, device: str, out: Path, processes: int, say) -> None:
    """Runs one stage, or what is left of it. Torch is imported by the stages that need it."""
    if name == "data":
        from . import dataset

        dataset.draw_missing(recipe, work, processes, say)
    elif name == "tokenizer":
        from . import tokenizer

        if not (work / "tokenizer").exists():
            tokenizer.train(recipe, work / "tokenizer")
    elif name == "autoencoder":
        from . import autoencoder

        autoencoder.train(recipe, work, device, say)
    elif name == "latents":
        from . import autoencoder

        autoencoder.encode_all(recipe, work, device, say)
    elif name == "text":
        from . import denoiser

        if not (work / "text.pt").exists():
            denoiser.train_text(recipe, work, device, say)
    elif name == "denoiser":
        from . import denoiser

        denoiser.train(recipe, work, device, say)
    elif name == "decoder":
        from . import autoencoder

        autoencoder.train_decoder(recipe, work, device, say)
    elif name == "export":
        from . import export

        export.export(recipe, work, out, say)


def run(
    preset: str | Recipe,
    out: Path,
    work: Path,
    *,
    until: str = "export",
    only: str = "",
    start_from: Path | None = None,
    device: str = "",
    processes: int = 0,
    say=print,
) -> None:
    """Runs the stages up to `until` (or `only` one), each from where an earlier run left it.

    `start_from`: the folder of a finished model to go on from, read once.
    `processes` draw (0: one a core).
    """
    device = device or best_device()
    recipe = PRESETS[preset] if isinstance(preset, str) else preset
    work.mkdir(parents=True, exist_ok=True)
    if start_from and not (work / "start.pt").exists():
        from . import start

        start.take(start_from, work)
    for name in STAGES:
        if not only or name == only:
            stage(name, recipe, work, device, Path(out), processes, say)
        if name == until:
            return


def train_judge(
    preset: str | Recipe, work: Path, *, out: Path | None = None, device: str = "", processes: int = 0, say=print
) -> dict[str, float]:
    """Trains the judge on the data in `work`, drawing what is missing; its figures, in percent."""
    from . import dataset, judge

    recipe = PRESETS[preset] if isinstance(preset, str) else preset
    work.mkdir(parents=True, exist_ok=True)
    dataset.draw_missing(recipe, work, processes, say)
    return judge.train(recipe, work, out or JUDGE, device or best_device(), say)


def train_enlarger(
    preset: str | Recipe, *, out: Path | None = None, device: str = "", processes: int = 0, say=print
) -> dict[str, float]:
    """Trains the upscaler; its figures in dB."""
    from . import enlarger

    recipe = PRESETS[preset] if isinstance(preset, str) else preset
    return enlarger.train(recipe, out or UPSCALER, device or best_device(), processes, say)


def best_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"

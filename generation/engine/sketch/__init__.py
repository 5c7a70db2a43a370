"""Where the files of the built-in model `dreamsketch-tiny` lie; `generation.training` makes them."""

from pathlib import Path

FOLDER = Path(__file__).parent
WEIGHTS = FOLDER / "weights"
"""A diffusers pipeline folder."""
UPSCALER = FOLDER / "enlarger.safetensors"
"""The upscaler `sketch-2x` (SRVGGNet)."""
JUDGE = FOLDER / "judge.safetensors"
"""The classifier that measures the model; `generation.training.judge` reads it."""

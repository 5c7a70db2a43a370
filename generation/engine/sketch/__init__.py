"""The built-in model `dreamsketch-tiny`: drawing data, training and weights.

Importing this package loads nothing heavy; torch lives in `autoencoder` and `train` only.
"""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"

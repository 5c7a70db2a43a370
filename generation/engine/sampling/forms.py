"""Linear forms: how the matrices of a sampler are written down.

A form is a vector of coefficients over (slots, UNet output, noise). The names below are the unit forms, so that
a sampler's published formula can be typed as it stands: `FIRST + 0.5 * OUTPUT` is a form too.
"""

from collections.abc import Sequence

import numpy as np

SLOTS = 4
"""Latents that a picture keeps. UniPC of order 2 and PLMS of order 4 need four, Euler one."""

FIRST, SECOND, THIRD, FOURTH, OUTPUT, NOISE = np.eye(SLOTS + 2)
"""The slots as they were before the step; `FIRST` always holds the sample. Then what comes in."""


def matrix(*slots: np.ndarray) -> np.ndarray:
    """SLOTS x (SLOTS + 2): the forms of the slots after the step; missing ones become zero."""
    result = np.zeros((SLOTS, SLOTS + 2))
    result[: len(slots)] = slots
    return result


def level_of_sigma(sigma: float) -> tuple[float, float]:
    """(signal, noise) amplitudes of the variance-preserving sample whose noise-to-signal ratio is `sigma`."""
    signal = 1 / np.sqrt(sigma**2 + 1)
    return signal, sigma * signal


def level_of_alpha(alpha: float) -> tuple[float, float]:
    """The same of a cumulated alpha (Song et al. 2021, DDIM)."""
    return np.sqrt(alpha), np.sqrt(1 - alpha)


def convert_output(
    prediction_type: str, sample: np.ndarray, output: np.ndarray, level: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """The forms of the clean picture (x0) and of the noise (epsilon) which the UNet's `output` implies for `sample` at
    `level`, as diffusers' `convert_model_output` does.

    `sample` is variance-preserving. `prediction_type`: epsilon, sample, or v_prediction (Salimans & Ho 2022). Raises
    ValueError for another.
    """
    signal, noise = level
    match prediction_type:
        case "epsilon":
            return (sample - noise * output) / signal, output
        case "v_prediction":
            return signal * sample - noise * output, signal * output + noise * sample
        case "sample":
            return output, (sample - signal * output) / noise
    raise ValueError(f"no sampler knows what a prediction of {prediction_type!r} is")

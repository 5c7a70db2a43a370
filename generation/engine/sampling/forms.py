"""Linear forms: how the matrices of a sampler are written down.

A form is a vector of coefficients over (slots, answer, noise). The names below are the unit forms, so that
a sampler's published formula can be typed as it stands: `FIRST + 0.5 * ANSWER` is a form too.
"""

from collections.abc import Sequence

import numpy as np

SLOTS = 4
"""Latents that a picture keeps. UniPC of order 2 and PLMS of order 4 need four, Euler one."""

FIRST, SECOND, THIRD, FOURTH, ANSWER, NOISE = np.eye(SLOTS + 2)
"""The slots as they were before the step; `FIRST` always holds the sample. Then what comes in."""


def matrix(*slots: np.ndarray) -> np.ndarray:
    """SLOTS x (SLOTS + 2): the forms of the slots after the step; those not given become zero."""
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


def read_answer(kind: str, sample: np.ndarray, answer: np.ndarray, level: Sequence[float]):
    """The forms of the clean picture and of the noise which `answer` implies for `sample` at `level`.

    `sample` is variance-preserving. `kind` is what the UNet predicts: epsilon, sample, or v_prediction
    (Salimans & Ho 2022).
    """
    signal, noise = level
    match kind:
        case "epsilon":
            return (sample - noise * answer) / signal, answer
        case "v_prediction":
            return signal * sample - noise * answer, signal * answer + noise * sample
        case "sample":
            return answer, (sample - signal * answer) / noise
    raise ValueError(f"no sampler knows what a prediction of {kind!r} is")

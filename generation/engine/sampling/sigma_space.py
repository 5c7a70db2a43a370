"""Samplers that follow dx/dsigma = (x - clean) / sigma (Karras et al. 2022, equation 1 with s = 1).

Their sample is clean + sigma * noise; the UNet sees it divided by sqrt(sigma^2 + 1).
"""

import numpy as np

from .forms import ANSWER, FIRST, NOISE, SECOND, THIRD, level_of_sigma, matrix, read_answer


def levels(scheduler) -> list[tuple[float, float]]:
    return [level_of_sigma(sigma) for sigma in _sigmas(scheduler)[:-1]]


def euler(scheduler) -> list[np.ndarray]:
    """Karras et al. 2022, algorithm 1 without churn and without the second evaluation."""
    sigmas = _sigmas(scheduler)
    return [
        matrix(FIRST + (after - sigma) * _slope(scheduler, sigma))
        for sigma, after in zip(sigmas[:-1], sigmas[1:], strict=True)
    ]


def euler_ancestral(scheduler) -> list[np.ndarray]:
    """Euler to a lower sigma than the next one, and fresh noise to make up for it (K. Crowson, k-diffusion)."""
    sigmas = _sigmas(scheduler)
    moves = []
    for sigma, after in zip(sigmas[:-1], sigmas[1:], strict=True):
        fresh = np.sqrt(after**2 * (sigma**2 - after**2) / sigma**2)
        down = np.sqrt(after**2 - fresh**2)
        moves.append(matrix(FIRST + (down - sigma) * _slope(scheduler, sigma) + fresh * NOISE))
    return moves


def heun(scheduler) -> list[np.ndarray]:
    """Karras et al. 2022, algorithm 1 without churn: two evaluations for a step, one for the last.

    Between the two, the second slot keeps the sample and the third its slope.
    """
    sigmas = _sigmas(scheduler)  # each sigma between the first and the last stands twice
    moves = []
    for position in range(len(sigmas) - 1):
        if position % 2 == 0:
            sigma, after = sigmas[position], sigmas[position + 1]
            slope = _slope(scheduler, sigma)
            moves.append(matrix(FIRST + (after - sigma) * slope, FIRST, slope))
        else:
            sigma, after = sigmas[position - 1], sigmas[position]
            mean_slope = (THIRD + _slope(scheduler, after)) / 2
            moves.append(matrix(SECOND + (after - sigma) * mean_slope))
    return moves


def _slope(scheduler, sigma) -> np.ndarray:
    level = level_of_sigma(sigma)
    clean, _ = read_answer(scheduler.config.prediction_type, FIRST * level[0], ANSWER, level)
    return (FIRST - clean) / sigma


def _sigmas(scheduler) -> np.ndarray:
    return scheduler.sigmas.double().numpy()

"""Euler, Euler a, Heun and DPM++ SDE: samplers that follow dx/dsigma = (x - clean) / sigma (Karras et al. 2022,
equation 1 with s = 1).

Their sample is clean + sigma * noise; the UNet sees it divided by sqrt(sigma^2 + 1).
"""

import numpy as np
import torch

from .forms import FIRST, NOISE, OUTPUT, SECOND, THIRD, convert_output, level_of_sigma, matrix


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
    matrices = []
    for sigma, after in zip(sigmas[:-1], sigmas[1:], strict=True):
        fresh = np.sqrt(after**2 * (sigma**2 - after**2) / sigma**2)
        down = np.sqrt(after**2 - fresh**2)
        matrices.append(matrix(FIRST + (down - sigma) * _slope(scheduler, sigma) + fresh * NOISE))
    return matrices


def heun(scheduler) -> list[np.ndarray]:
    """Karras et al. 2022, algorithm 1 without churn: two evaluations for a step, one for the last.

    Between the two, the second slot keeps the sample and the third its slope.
    """
    sigmas = _sigmas(scheduler)  # each sigma between the first and the last stands twice
    matrices = []
    for position in range(len(sigmas) - 1):
        if position % 2 == 0:
            sigma, after = sigmas[position], sigmas[position + 1]
            slope = _slope(scheduler, sigma)
            matrices.append(matrix(FIRST + (after - sigma) * slope, FIRST, slope))
        else:
            sigma, after = sigmas[position - 1], sigmas[position]
            mean_slope = (THIRD + _slope(scheduler, after)) / 2
            matrices.append(matrix(SECOND + (after - sigma) * mean_slope))
    return matrices


def dpm_sde(scheduler) -> list[np.ndarray]:
    """Lu et al. 2022 (DPM-Solver++), its SDE of order 2 in one step: to the midpoint, and with the picture seen there
    all the way. As in k-diffusion (K. Crowson), the noise is a Brownian path over sigma: that of the first half is
    a part of the whole.

    Between the two, the second slot keeps the sample and the third the noise of the first half.
    """
    sigmas = _sigmas(scheduler)  # a midpoint after each sigma but the last two
    matrices = []
    for position in range(len(sigmas) - 1):
        if position == len(sigmas) - 2:
            matrices.append(matrix(FIRST + (sigmas[-1] - sigmas[-2]) * _slope(scheduler, sigmas[-2])))
        elif position % 2 == 0:
            sigma, middle = sigmas[position : position + 2]
            clean = _clean(scheduler, sigma)
            matrices.append(matrix(_ancestral(FIRST, clean, NOISE, sigma, middle), FIRST, NOISE))
        else:
            sigma, middle, after = sigmas[position - 1 : position + 2]
            path = np.sqrt(sigma - middle) * THIRD + np.sqrt(middle - after) * NOISE
            path = path / np.sqrt(sigma - after)
            matrices.append(matrix(_ancestral(SECOND, _clean(scheduler, middle), path, sigma, after)))
    return matrices


def insert_midpoints(scheduler) -> None:
    """Put half-way timesteps and sigmas, by the logarithm, between the scheduler's own: those of `dpm_sde`."""
    sigmas = _sigmas(scheduler)
    middles = np.sqrt(sigmas[:-2] * sigmas[1:-1])
    trained = np.sqrt(1 / scheduler.alphas_cumprod.double().numpy() - 1)
    middle_times = np.interp(np.log(middles), np.log(trained), np.arange(len(trained)))
    times = np.empty(2 * len(sigmas) - 3)
    times[::2], times[1::2] = scheduler.timesteps.double().numpy(), middle_times
    path = np.zeros(len(times) + 1)
    path[:-1:2], path[1:-1:2] = sigmas[:-1], middles
    scheduler.timesteps, scheduler.sigmas = torch.from_numpy(times), torch.from_numpy(path)
    scheduler.order = 2


def _ancestral(sample, clean, noise, sigma, after) -> np.ndarray:
    """Order 1 to a lower sigma than the next one, and noise to make up for it."""
    fresh = min(after, np.sqrt(after**2 * (sigma**2 - after**2) / sigma**2))
    down = np.sqrt(after**2 - fresh**2)
    return down / sigma * sample + (1 - down / sigma) * clean + fresh * noise


def _clean(scheduler, sigma) -> np.ndarray:
    level = level_of_sigma(sigma)
    return convert_output(scheduler.config.prediction_type, FIRST * level[0], OUTPUT, level)[0]


def _slope(scheduler, sigma) -> np.ndarray:
    return (FIRST - _clean(scheduler, sigma)) / sigma


def _sigmas(scheduler) -> np.ndarray:
    return scheduler.sigmas.double().numpy()

"""Samplers written in cumulated alphas: DDIM, its linear multistep refinement PLMS, and consistency models.

Their sample is variance-preserving, so that the UNet sees it as it is.
"""

import numpy as np

from .forms import ANSWER, FIRST, FOURTH, NOISE, SECOND, THIRD, level_of_alpha, matrix, read_answer


def levels(scheduler) -> list[tuple[float, float]]:
    return [level_of_alpha(_alpha(scheduler, time)) for time in scheduler.timesteps.tolist()]


def ddim(scheduler) -> list[np.ndarray]:
    """Song et al. 2021, equation 12 with sigma = 0."""
    moves = []
    for time in scheduler.timesteps.tolist():
        before, after = _alpha(scheduler, time), _alpha(scheduler, time - _stride(scheduler))
        moves.append(matrix(_transfer(scheduler, FIRST, ANSWER, before, after)))
    return moves


def plms(scheduler) -> list[np.ndarray]:
    """Liu et al. 2022 (PNDM), the linear multistep part: Adams-Bashforth on the answers, up to order 4.

    The first step is taken twice, the second time with the mean of the answers at both ends. Later the
    second to fourth slots keep the last answers, the newest first.
    """
    stride = _stride(scheduler)
    moves = []
    for position, time in enumerate(scheduler.timesteps.tolist()):
        start, end = (time + stride, time) if position == 1 else (time, time - stride)
        before, after = _alpha(scheduler, start), _alpha(scheduler, end)
        if position == 0:
            moves.append(matrix(_transfer(scheduler, FIRST, ANSWER, before, after), ANSWER, FIRST))
        elif position == 1:
            moves.append(matrix(_transfer(scheduler, THIRD, (ANSWER + SECOND) / 2, before, after), SECOND))
        else:
            known = min(position, 4)
            sample = _transfer(scheduler, FIRST, _adams_bashforth(known), before, after)
            moves.append(matrix(sample, ANSWER, SECOND, THIRD))
    return moves


def lcm(scheduler) -> list[np.ndarray]:
    """Luo et al. 2023, algorithm 3: to the clean picture at once, and back to the next noise level.

    c_skip and c_out with sigma_data = 0.5 (equation 9 there, from Song et al. 2023, appendix C).
    """
    times = scheduler.timesteps.tolist()
    moves = []
    for position, time in enumerate(times):
        clean, _ = read_answer(_kind(scheduler), FIRST, ANSWER, level_of_alpha(_alpha(scheduler, time)))
        scaled = time * scheduler.config.timestep_scaling
        skip = 0.25 / (scaled**2 + 0.25)
        out = scaled / np.sqrt(scaled**2 + 0.25)
        picture = out * clean + skip * FIRST
        if position < len(times) - 1:
            signal, noise = level_of_alpha(_alpha(scheduler, times[position + 1]))
            picture = signal * picture + noise * NOISE
        moves.append(matrix(picture))
    return moves


def _adams_bashforth(known: int) -> np.ndarray:
    """The answer to go on with, from the newest and the `known` - 1 before it."""
    match known:
        case 2:
            return (3 * ANSWER - SECOND) / 2
        case 3:
            return (23 * ANSWER - 16 * SECOND + 5 * THIRD) / 12
        case _:
            return (55 * ANSWER - 59 * SECOND + 37 * THIRD - 9 * FOURTH) / 24


def _transfer(scheduler, sample, answer, before, after) -> np.ndarray:
    """`sample` moved along the direction of `answer` between two noise levels, given as cumulated alphas."""
    clean, noise = read_answer(_kind(scheduler), sample, answer, level_of_alpha(before))
    signal_after, noise_after = level_of_alpha(after)
    return signal_after * clean + noise_after * noise


def _alpha(scheduler, time: int) -> float:
    """Before time 0 lies what `set_alpha_to_one` says: no noise at all, or the least of the training."""
    return float(scheduler.alphas_cumprod[time] if time >= 0 else scheduler.final_alpha_cumprod)


def _stride(scheduler) -> int:
    return scheduler.config.num_train_timesteps // scheduler.num_inference_steps


def _kind(scheduler) -> str:
    return scheduler.config.prediction_type

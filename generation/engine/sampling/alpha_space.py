"""DDIM, PLMS and LCM: samplers written in cumulated alphas.

Their sample is variance-preserving, so that the UNet sees it as it is.
"""

import numpy as np

from .forms import FIRST, FOURTH, NOISE, OUTPUT, SECOND, THIRD, convert_output, level_of_alpha, matrix


def levels(scheduler) -> list[tuple[float, float]]:
    return [level_of_alpha(_alpha(scheduler, time)) for time in scheduler.timesteps.tolist()]


def ddim(scheduler) -> list[np.ndarray]:
    """Song et al. 2021, equation 12 with sigma = 0."""
    matrices = []
    for time in scheduler.timesteps.tolist():
        before, after = _alpha(scheduler, time), _alpha(scheduler, time - _stride(scheduler))
        matrices.append(matrix(_transfer(scheduler, FIRST, OUTPUT, before, after)))
    return matrices


def plms(scheduler) -> list[np.ndarray]:
    """Liu et al. 2022 (PNDM), the linear multistep part: Adams-Bashforth on the UNet's outputs, up to order 4.

    The first step is taken twice, the second time with the mean of the outputs at both ends. Later the
    second to fourth slots keep the last outputs, the newest first.
    """
    stride = _stride(scheduler)
    matrices = []
    for position, time in enumerate(scheduler.timesteps.tolist()):
        start, end = (time + stride, time) if position == 1 else (time, time - stride)
        before, after = _alpha(scheduler, start), _alpha(scheduler, end)
        if position == 0:
            matrices.append(matrix(_transfer(scheduler, FIRST, OUTPUT, before, after), OUTPUT, FIRST))
        elif position == 1:
            matrices.append(matrix(_transfer(scheduler, THIRD, (OUTPUT + SECOND) / 2, before, after), SECOND))
        else:
            known = min(position, 4)
            sample = _transfer(scheduler, FIRST, _adams_bashforth(known), before, after)
            matrices.append(matrix(sample, OUTPUT, SECOND, THIRD))
    return matrices


def lcm(scheduler) -> list[np.ndarray]:
    """Luo et al. 2023, algorithm 3: to the clean picture at once, and back to the next noise level.

    c_skip and c_out with sigma_data = 0.5 (equation 9 there, from Song et al. 2023, appendix C).
    """
    times = scheduler.timesteps.tolist()
    matrices = []
    for position, time in enumerate(times):
        clean, _ = convert_output(_prediction_type(scheduler), FIRST, OUTPUT, level_of_alpha(_alpha(scheduler, time)))
        scaled = time * scheduler.config.timestep_scaling
        skip = 0.25 / (scaled**2 + 0.25)
        out = scaled / np.sqrt(scaled**2 + 0.25)
        picture = out * clean + skip * FIRST
        if position < len(times) - 1:
            signal, noise = level_of_alpha(_alpha(scheduler, times[position + 1]))
            picture = signal * picture + noise * NOISE
        matrices.append(matrix(picture))
    return matrices


def _adams_bashforth(known: int) -> np.ndarray:
    """The extrapolated output, from the newest and the `known` - 1 before it."""
    match known:
        case 2:
            return (3 * OUTPUT - SECOND) / 2
        case 3:
            return (23 * OUTPUT - 16 * SECOND + 5 * THIRD) / 12
        case _:
            return (55 * OUTPUT - 59 * SECOND + 37 * THIRD - 9 * FOURTH) / 24


def _transfer(scheduler, sample, output, before, after) -> np.ndarray:
    """`sample` moved along the direction of `output` between two noise levels, given as cumulated alphas."""
    clean, noise = convert_output(_prediction_type(scheduler), sample, output, level_of_alpha(before))
    signal_after, noise_after = level_of_alpha(after)
    return signal_after * clean + noise_after * noise


def _alpha(scheduler, time: int) -> float:
    """Before time 0 lies what `set_alpha_to_one` says: no noise at all, or the least of the training."""
    return float(scheduler.alphas_cumprod[time] if time >= 0 else scheduler.final_alpha_cumprod)


def _stride(scheduler) -> int:
    return scheduler.config.num_train_timesteps // scheduler.num_inference_steps


def _prediction_type(scheduler) -> str:
    return scheduler.config.prediction_type

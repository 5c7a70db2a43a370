"""DPM-Solver++ 2M, its SDE, and UniPC: exponential integrators in the logarithm of the signal-to-noise ratio.

Their sample is variance-preserving. All are of order 2, in the clean picture ("data prediction"); `lambda_`
is log(signal / noise), infinite at the end of a schedule that goes down to sigma 0.
"""

import numpy as np

from .forms import FIRST, FOURTH, NOISE, OUTPUT, SECOND, THIRD, convert_output, level_of_sigma, matrix

FEW_STEPS = 15
"""Below this many the last step is of order 1, where a step of order 2 overshoots (Lu et al. 2022)."""


def levels(scheduler) -> list[tuple[float, float]]:
    return _levels(scheduler)[:-1]


def dpm_solver(scheduler) -> list[np.ndarray]:
    """Lu et al. 2022 (DPM-Solver++), algorithm 2, and its SDE variant. The second slot keeps the last picture."""
    path, count = _levels(scheduler), len(scheduler.timesteps)
    config = scheduler.config
    ends_low = config.euler_at_final or config.final_sigmas_type == "zero"
    ends_low = ends_low or (config.lower_order_final and _all_steps(scheduler) < FEW_STEPS)
    step = _sde_step if config.algorithm_type == "sde-dpmsolver++" else _ode_step
    matrices = []
    for position in range(count):
        clean, _ = convert_output(config.prediction_type, FIRST, OUTPUT, path[position])
        width = _lambda(path[position + 1]) - _lambda(path[position])
        trend = None
        if position > 0 and not (position == count - 1 and ends_low):
            ratio = (_lambda(path[position]) - _lambda(path[position - 1])) / width
            trend = (clean - SECOND) / ratio
        matrices.append(
            matrix(step(config.solver_type, path[position], path[position + 1], width, clean, trend), clean)
        )
    return matrices


def _ode_step(solver_type, before, after, width, clean, trend) -> np.ndarray:
    signal, noise = after
    gain = -np.expm1(-width)
    sample = noise / before[1] * FIRST + signal * gain * clean
    if trend is not None:
        weight = gain / 2 if solver_type == "midpoint" else 1 - gain / width
        sample = sample + signal * weight * trend
    return sample


def _sde_step(solver_type, before, after, width, clean, trend) -> np.ndarray:
    signal, noise = after
    gain = -np.expm1(-2 * width)
    sample = noise / before[1] * np.exp(-width) * FIRST + signal * gain * clean + noise * np.sqrt(gain) * NOISE
    if trend is not None:
        weight = gain / 2 if solver_type == "midpoint" else 1 - gain / (2 * width)
        sample = sample + signal * weight * trend
    return sample


def unipc(scheduler) -> list[np.ndarray]:
    """Zhao et al. 2023 (UniPC), algorithms 1 and 2: each output first corrects the sample it was computed for.

    Slots: the predicted sample, the corrected one before it, and the last two pictures, the newest first.
    """
    path, count = _levels(scheduler), len(scheduler.timesteps)
    config = scheduler.config
    skipped = _all_steps(scheduler) - count
    matrices, order = [], 1
    for position in range(count):
        clean, _ = convert_output(config.prediction_type, FIRST, OUTPUT, path[position])
        corrected = FIRST
        if position > 0 and skipped + position - 1 not in config.disable_corrector:
            corrected = _correct(config.solver_type, path[: position + 1], order, clean)
        order = min(config.solver_order, position + 1)
        if config.lower_order_final:
            order = min(order, count - position)
        predicted = _predict(config.solver_type, path[: position + 2], order, corrected, clean)
        matrices.append(matrix(predicted, corrected, clean, THIRD))
    return matrices


def _predict(solver_type, path, order, sample, clean) -> np.ndarray:
    """UniP: from the second last level of `path` to its last."""
    width, (signal, _) = _lambda(path[-1]) - _lambda(path[-2]), path[-1]
    result = _first_order(path, sample, clean)
    if order == 2:
        trend = (THIRD - clean) / _ratio(path, width)
        result = result - signal * _growth(solver_type, width) * 0.5 * trend
    return result


def _correct(solver_type, path, order, clean) -> np.ndarray:
    """UniC: the sample at the last level of `path` again, now that the picture there is known."""
    width, (signal, _) = _lambda(path[-1]) - _lambda(path[-2]), path[-1]
    growth = _growth(solver_type, width)
    result = _first_order(path, SECOND, THIRD)
    change = clean - THIRD
    if order == 1:
        return result - signal * growth * 0.5 * change
    ratio = _ratio(path, width)
    first, last = np.linalg.solve([[1, 1], [ratio, 1]], _moments(width) / growth)
    return result - signal * growth * (first * (FOURTH - THIRD) / ratio + last * change)


def _first_order(path, sample, clean) -> np.ndarray:
    (_, noise_before), (signal, noise) = path[-2:]
    width = _lambda(path[-1]) - _lambda(path[-2])
    return noise / noise_before * sample - signal * np.expm1(-width) * clean


def _growth(solver_type, width) -> float:
    """B(h) of the paper, of which it proposes two."""
    return -width if solver_type == "bh1" else np.expm1(-width)


def _moments(width) -> np.ndarray:
    """h phi_2(h) and 2 h phi_3(h) of the paper (equation 5), for -h because we predict pictures."""
    second = np.expm1(-width) / -width - 1
    third = second / -width - 0.5
    return np.array([second, 2 * third])


def _ratio(path, width) -> float:
    """Where the level before lies, in units of this step; negative."""
    return (_lambda(path[-3]) - _lambda(path[-2])) / width


def _lambda(level) -> float:
    signal, noise = level
    return np.log(signal) - np.log(noise)


def _all_steps(scheduler) -> int:
    """Of the whole schedule, also where a picture begins on the way."""
    return scheduler.num_inference_steps


def _levels(scheduler) -> list[tuple[float, float]]:
    return [level_of_sigma(sigma) for sigma in scheduler.sigmas.double().numpy()]

"""One denoising step for a batch of rows: UNet forward pass, classifier-free guidance, sampler update.

Rows of any number of jobs go together, each at its own timestep, as long as they are of one `Row.shape`; what comes out
of a row does not depend on the others. The arithmetic is that of `StableDiffusionPipeline.__call__` and its sisters
(diffusers 0.42).
"""

from collections.abc import Sequence
from typing import Any

import torch

from generation.engine.networks.controlnet import apply_controlnets
from generation.engine.networks.deepcache import evaluate
from generation.engine.networks.device import to_device
from generation.engine.networks.ip_adapter import apply_ip_adapters
from generation.engine.networks.loader import LoadedModel
from generation.engine.networks.lora import active_in_unet
from generation.engine.networks.vae import joined_edges
from generation.engine.sampling import update

from .rows import Row
from .unet_config import unet_of


@torch.inference_mode()
def advance(model: LoadedModel, rows: Sequence[Row]) -> None:
    """One UNet evaluation and one sampler step for each row. If it raises, no row has moved.

    Nothing in here waits for the device or copies to it, but for the noise that some samplers want: what is known
    of a row is in its step tensors.
    """
    states = torch.stack([row.sampler_state for row in rows])
    samples = states[:, 0]
    answers = _evaluate_unet(model, rows, samples)
    matrices = torch.stack([row.step_tensors.matrices[row.position] for row in rows])
    next_states = update(states, answers, _fresh_noise(rows, states.device), matrices)
    for row, sample, answer, state in zip(rows, samples, answers, next_states, strict=True):
        if row.preserved is not None:
            state[0] = row.preserved.restore(state[0], row.table.levels[row.position + 1])
        row.last_evaluation = sample, answer
        row.sampler_state, row.noise = state, None
        row.position += 1


def predict_x0(row: Row) -> torch.Tensor:
    """The finished latents (1 x channels x h x w) as the last evaluation implies them; there must have been one."""
    if row.last_evaluation is None:
        raise ValueError("the row has not been evaluated yet")
    sample, answer = row.last_evaluation
    sample_factor, answer_factor = row.table.x0_factors[row.position - 1]
    return (sample_factor * sample + answer_factor * answer)[None]


def _evaluate_unet(model: LoadedModel, rows: Sequence[Row], samples: torch.Tensor) -> torch.Tensor:
    """The UNet's answers with guidance applied, rows x channels x h x w in fp32.

    The batch is every row with its prompt, then the guided ones again with their negative prompt.
    """
    guided = [number for number, row in enumerate(rows) if row.negative is not None]
    batch_rows = [*range(len(rows)), *guided]
    scales, times, guidance = torch.stack([row.step_tensors.scalars[row.position] for row in rows]).unbind(1)
    inputs = samples * _per_row(scales)
    times = _with_guided(times, guided)
    conditioning = _conditioning(rows, guided)
    batch = _with_guided(inputs, guided).to(model.dtype)
    residuals = apply_controlnets(rows, batch_rows, batch, times, conditioning)
    extra_channels = [channels for row in rows if (channels := row.extra_channels) is not None]
    if extra_channels:
        inputs = torch.cat([inputs, torch.stack(extra_channels)], dim=1)
        batch = _with_guided(inputs, guided).to(model.dtype)
    unet, loras = unet_of(model), active_in_unet([rows[number].loras for number in batch_rows])
    with joined_edges(unet, rows[0].request.tiling), loras, apply_ip_adapters(rows, batch_rows):
        answer = evaluate(unet, rows, batch_rows, batch, times, conditioning, residuals).float()
    if not guided:
        return answer
    conditional = answer[: len(rows)]
    return _rescale(_apply_guidance(conditional, answer[len(rows) :], _per_row(guidance), guided), conditional, rows)


def _with_guided(values: torch.Tensor, guided: list[int]) -> torch.Tensor:
    """One entry for each row, then the guided ones' again. By slices, since a list of places would be copied to the
    device."""
    if not guided:
        return values
    again = [values] if len(guided) == len(values) else [values[number : number + 1] for number in guided]
    return torch.cat([values, *again])


def _apply_guidance(
    conditional: torch.Tensor, unconditional: torch.Tensor, guidance: torch.Tensor, guided: list[int]
) -> torch.Tensor:
    """Every row's answer, with classifier-free guidance (Ho & Salimans 2022) where there is some."""
    if len(guided) == len(conditional):
        return unconditional + guidance * (conditional - unconditional)
    answers = list(conditional.split(1))
    for number, without in zip(guided, unconditional.split(1), strict=True):
        answers[number] = without + guidance[number] * (answers[number] - without)
    return torch.cat(answers)


def _rescale(answers: torch.Tensor, conditional: torch.Tensor, rows: Sequence[Row]) -> torch.Tensor:
    """The answers with `guidance_rescale`: scaled back to the spread that they have without guidance, by that share
    (Lin et al. 2023; diffusers' `rescale_noise_cfg`)."""
    if not any(row.request.guidance_rescale for row in rows):
        return answers
    rescaled = list(answers.split(1))
    for number, row in enumerate(rows):
        if (share := row.request.guidance_rescale) and row.negative is not None:
            spread = conditional[number].std() / rescaled[number].std()
            rescaled[number] = rescaled[number] * (share * spread + (1 - share))
    return torch.cat(rescaled)


def _conditioning(rows: Sequence[Row], guided: list[int]) -> dict[str, Any]:
    """The UNet's keyword arguments for the batch that `_evaluate_unet` makes."""
    texts = [row.prompt for row in rows] + [text for row in rows if (text := row.negative) is not None]
    tokens = torch.cat([text.tokens for text in texts])
    conditioning: dict[str, Any] = {"encoder_hidden_states": tokens}
    time_ids = [ids for row in rows if (ids := row.step_tensors.time_ids) is not None]
    if time_ids:
        pooled = torch.cat([text.pooled for text in texts if text.pooled is not None]).to(tokens.dtype)
        time_ids = _with_guided(torch.cat(time_ids), guided)
        conditioning["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": time_ids}
    timestep_cond = [cond for row in rows if (cond := row.step_tensors.timestep_cond) is not None]
    if timestep_cond:
        conditioning["timestep_cond"] = _with_guided(torch.cat(timestep_cond), guided)
    return conditioning


def _fresh_noise(rows: Sequence[Row], device: torch.device) -> torch.Tensor:
    """rows x channels x h x w: fresh from each row's generator where its sampler wants some, else zero.

    Drawn while the device is still at the UNet.
    """
    shape = rows[0].sampler_state.shape[1:]
    if not any(row.table.draws_noise[row.position] for row in rows):
        return torch.zeros(len(rows), *shape, device=device)
    return to_device(torch.stack([_noise_of(row) for row in rows]), device)


def _noise_of(row: Row) -> torch.Tensor:
    """channels x h x w on the CPU; the same again until the row has moved."""
    shape = row.sampler_state.shape[1:]
    if not row.table.draws_noise[row.position]:
        return torch.zeros(shape)
    if row.noise is None:
        row.noise = torch.randn(shape, generator=row.generator)
    return row.noise


def _per_row(numbers: torch.Tensor) -> torch.Tensor:
    """One number for each row, shaped to multiply latents."""
    return numbers[:, None, None, None]

"""DeepCache (Ma et al. 2023) in a batch: every other UNet evaluation reuses the deep features of the one before.

The fast tier for models without a few-step LoRA. Such an evaluation computes the outermost layers only. Lossy.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from weakref import WeakKeyDictionary

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

RECIPE_NOTE = "deep features reused at every other step"
"""What a picture's recipe says of it."""

_operations: WeakKeyDictionary = WeakKeyDictionary()
"""For each UNet, by latent height, width and whether it was shallow: floating-point operations of an evaluation of one
picture."""


def uses_deepcache(row) -> bool:
    """Whether the row is drawn so. Not with few steps, which are far apart, nor where a ControlNet acts on the deep
    layers."""
    return row.request.quality == "fast" and row.request.sampler != "LCM" and row.controlnet is None


def is_shallow(row) -> bool:
    """Whether its next evaluation is a shallow one. The first and the last of a pass are complete."""
    return row.deep_features is not None and row.position % 2 == 1 and row.evaluations_left > 1


def relative_cost(unet: torch.nn.Module, row) -> float:
    """Operations of the row's next evaluation as a part of a complete one's, 0…1. They are counted when such
    evaluations are first made; 1 until then."""
    if not is_shallow(row):
        return 1.0
    counts = _operations.get(unet, {})
    both = [counts.get((*row.latent_size, depth)) for depth in (True, False)]
    return both[0] / both[1] if all(both) else 1.0


def evaluate(
    unet: torch.nn.Module,
    rows: Sequence,
    batch_rows: list[int],
    sample: torch.Tensor,
    times: torch.Tensor,
    conditioning: dict,
    residuals: dict,
) -> torch.Tensor:
    """The UNet's output, batch x channels x h x w.

    Rows agree in whether they are shallow. `batch_rows`: for each entry of the batch the index of its row.
    `residuals`: keyword arguments with those of ControlNets, used by complete evaluations only.
    """
    key = *sample.shape[-2:], is_shallow(rows[0])
    if not any(map(uses_deepcache, rows)) or key in _operations.setdefault(unet, {}):
        return _evaluate(unet, rows, batch_rows, sample, times, conditioning, residuals)
    with _OperationCounter() as counter:
        output = _evaluate(unet, rows, batch_rows, sample, times, conditioning, residuals)
    _operations[unet][key] = counter.operations / len(batch_rows)
    return output


class _OperationCounter(TorchDispatchMode):
    """Counts what this thread computes; torch's own FlopCounterMode listens to the modules of all threads."""

    operations = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        count = flop_registry.get(function._overloadpacket)
        if count is None:
            with self:
                output = function.decompose(*args, **kwargs)
            if output is not NotImplemented:
                return output
        output = function(*args, **kwargs)
        self.operations += count(*args, **kwargs, out_val=output) if count else 0
        return output


def _evaluate(unet, rows, batch_rows, sample, times, conditioning, residuals) -> torch.Tensor:
    if is_shallow(rows[0]):
        deep = [None] * len(batch_rows)
        for row, entries in zip(rows, _entries(rows, batch_rows), strict=True):
            for entry, features in zip(entries, row.deep_features.split(1), strict=True):
                deep[entry] = features
        return _outermost(unet, sample, times, torch.cat(deep), **conditioning)
    hooked = any(row.loras or row.image_prompt or uses_deepcache(row) for row in rows)
    # torch.compile would translate it anew for every set of hooks, and soon give up.
    eager = torch.compiler.set_stance("force_eager") if hooked and unet._compiled_call_impl else nullcontext()
    with eager:
        return _complete(unet, rows, batch_rows, sample, times, conditioning | residuals)


def _complete(unet, rows, batch_rows, sample, times, kwargs: dict) -> torch.Tensor:
    """All layers; what is to be reused is kept with the rows."""
    if not any(uses_deepcache(row) for row in rows):
        return unet(sample, times, return_dict=False, **kwargs)[0]
    captured = []
    innermost = unet.up_blocks[-1].resnets[-1]
    # What comes from below stands before what the first convolution hands across.
    hook = innermost.register_forward_pre_hook(lambda layer, inputs: captured.append(inputs[0]))
    try:
        output = unet(sample, times, return_dict=False, **kwargs)[0]
    finally:
        hook.remove()
    deep = captured[0][:, : -unet.conv_in.out_channels]
    for row, entries in zip(rows, _entries(rows, batch_rows), strict=True):
        row.deep_features = torch.cat([deep[entry : entry + 1] for entry in entries]) if uses_deepcache(row) else None
    return output


def _entries(rows: Sequence, batch_rows: list[int]) -> list[list[int]]:
    """For each row its entries of the batch."""
    return [[entry for entry, row in enumerate(batch_rows) if row == number] for number in range(len(rows))]


def _outermost(unet, sample, times, deep, *, encoder_hidden_states, added_cond_kwargs=None, timestep_cond=None):
    """As UNet2DConditionModel.forward, with `deep` for all that lies between the first and the last layer."""
    time = unet.time_embedding(unet.get_time_embed(sample=sample, timestep=times), timestep_cond)
    added = unet.get_aug_embed(
        emb=time, encoder_hidden_states=encoder_hidden_states, added_cond_kwargs=added_cond_kwargs
    )
    if added is not None:
        time = time + added
    block = unet.up_blocks[-1]
    hidden = block.resnets[-1](torch.cat([deep, unet.conv_in(sample)], dim=1), time)
    if getattr(block, "has_cross_attention", False):
        hidden = block.attentions[-1](hidden, encoder_hidden_states=encoder_hidden_states, return_dict=False)[0]
    return unet.conv_out(unet.conv_act(unet.conv_norm_out(hidden)))

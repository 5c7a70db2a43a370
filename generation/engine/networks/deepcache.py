"""The fast tier for models without a few-step LoRA: every other evaluation takes the UNet's deep features from the
one before, and computes its outermost layers only. Lossy; the idea is DeepCache's (Ma et al. 2023)."""

from contextlib import nullcontext
from weakref import WeakKeyDictionary

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

SKIPPED = "deep features reused at every other step"
"""What a recipe says of it."""


_counted: WeakKeyDictionary = WeakKeyDictionary()
"""For each UNet, by latent height, width and whether it was shallow: the operations of an evaluation of one picture."""


def wants(row) -> bool:
    """Whether the row is drawn so. Not with few steps, which are far apart, nor where a ControlNet speaks to the
    deep layers."""
    return row.request.quality == "fast" and row.request.sampler != "LCM" and row.guide is None


def is_shallow(row) -> bool:
    """Whether its next evaluation is a shallow one. The first and the last of a pass are complete."""
    return row.deep is not None and row.position % 2 == 1 and row.evaluations_left > 1


def share_of_work(unet, row) -> float:
    """What part of a complete evaluation the row's next one costs, 0…1: in operations, as they were counted when such
    evaluations were made first. 1 until then."""
    if not is_shallow(row):
        return 1.0
    counted = _counted.get(unet, {})
    both = [counted.get((*row.latent_size, depth)) for depth in (True, False)]
    return both[0] / both[1] if all(both) else 1.0


def evaluate(unet, rows, seats: list[int], sample, times, conditioning: dict, steering: dict) -> torch.Tensor:
    """The UNet's answer. Rows agree in whether they are shallow; `seats`: for each place of the batch its row."""
    name = *sample.shape[-2:], is_shallow(rows[0])
    if not any(map(wants, rows)) or name in _counted.setdefault(unet, {}):
        return _evaluate(unet, rows, seats, sample, times, conditioning, steering)
    with _Counter() as counter:
        answer = _evaluate(unet, rows, seats, sample, times, conditioning, steering)
    _counted[unet][name] = counter.operations / len(seats)
    return answer


class _Counter(TorchDispatchMode):
    """Counts what this thread computes; torch's own FlopCounterMode listens to the modules of all threads."""

    operations = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        count = flop_registry.get(function._overloadpacket)
        if count is None:
            with self:
                answer = function.decompose(*args, **kwargs)
            if answer is not NotImplemented:
                return answer
        answer = function(*args, **kwargs)
        self.operations += count(*args, **kwargs, out_val=answer) if count else 0
        return answer


def _evaluate(unet, rows, seats, sample, times, conditioning, steering) -> torch.Tensor:
    if is_shallow(rows[0]):
        deep = [None] * len(seats)
        for row, own in zip(rows, _places(rows, seats), strict=True):
            for place, one in zip(own, row.deep.split(1), strict=True):
                deep[place] = one
        deep = torch.cat(deep)
        return _outermost(unet, sample, times, deep, **conditioning)
    hooked = any(row.worn or row.likeness or wants(row) for row in rows)
    # torch.compile would translate it anew for every set of hooks, and soon give up.
    eager = torch.compiler.set_stance("force_eager") if hooked and unet._compiled_call_impl else nullcontext()
    with eager:
        return _complete(unet, rows, seats, sample, times, conditioning | steering)


def _complete(unet, rows, seats, sample, times, given: dict) -> torch.Tensor:
    """All layers; what is to be reused is kept with the rows."""
    if not any(wants(row) for row in rows):
        return unet(sample, times, return_dict=False, **given)[0]
    caught = []
    innermost = unet.up_blocks[-1].resnets[-1]
    # What comes from below stands before what the first convolution hands across.
    hook = innermost.register_forward_pre_hook(lambda layer, inputs: caught.append(inputs[0]))
    try:
        answer = unet(sample, times, return_dict=False, **given)[0]
    finally:
        hook.remove()
    deep = caught[0][:, : -unet.conv_in.out_channels]
    for row, own in zip(rows, _places(rows, seats), strict=True):
        row.deep = torch.cat([deep[place : place + 1] for place in own]) if wants(row) else None
    return answer


def _places(rows, seats) -> list[list[int]]:
    """For each row its places in the batch."""
    return [[place for place, seat in enumerate(seats) if seat == number] for number in range(len(rows))]


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

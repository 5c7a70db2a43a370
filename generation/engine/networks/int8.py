"""int8 weight-only quantization of linear layers: half the memory of bf16, on any device and with no further library.

Each output of a matrix has its own scale (absolute maximum over 127), as in LLM.int8() (Dettmers et al. 2022)
without its outliers. Activations stay as they are. The rounding changes pictures slightly.
"""

import torch
from torch import nn
from torch.nn import functional

MIN_WEIGHTS = 2**16
"""Matrices with fewer numbers stay as they are: they cost little and matter much."""


class Int8Linear(nn.Module):
    """A linear layer whose weights are whole numbers from -127 to 127, times a scale for each output."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        weight = linear.weight.detach().float()
        scale = weight.abs().amax(1).clamp(min=1e-12) / 127
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.register_buffer("weight", (weight / scale[:, None]).round().to(torch.int8))
        self.register_buffer("scale", scale.to(linear.weight.dtype))
        self.bias = linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Whole numbers up to 127 are exact in bf16 and fp16, so all rounding is in the weights.
        result = functional.linear(x, self.weight.to(x.dtype)) * self.scale.to(x.dtype)
        return result if self.bias is None else result + self.bias.to(x.dtype)


def quantize_int8(module: nn.Module, smallest: int = MIN_WEIGHTS) -> int:
    """Replace the linear layers within `module` of at least `smallest` weights; returns how many there were."""
    replaced = 0
    for name, child in list(module.named_children()):
        if type(child) is nn.Linear and child.weight.numel() >= smallest:
            setattr(module, name, Int8Linear(child))
            replaced += 1
        else:
            replaced += quantize_int8(child, smallest)
    return replaced

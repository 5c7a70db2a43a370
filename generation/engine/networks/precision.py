"""Precision: the best dtype of a device (bf16 on a CPU is measured once), and batch-invariant linear layers."""

import logging
import time
from functools import cache

import torch
from torch import nn

log = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

WORTHWHILE = 1.3
"""How many times faster bf16 must be on a CPU, for what it costs in precision."""
ROUNDS = 5
FEWEST_ROWS = 4
"""With fewer a CPU's matrix products add up in another order (measured with MKL on AVX-512)."""


class BatchInvariantLinear(nn.Linear):
    """A layer whose answer for a row of a matrix has the same bits however few rows there are."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.ndim != 2 or len(x) >= FEWEST_ROWS:
            return super().forward(x)
        return super().forward(nn.functional.pad(x, (0, 0, 0, FEWEST_ROWS - len(x))))[: len(x)]


def make_batch_invariant(unet: nn.Module) -> None:
    """Make the UNet's embeddings of time and the like, which have one row for each picture, independent of the batch
    size. Everything else in it has many rows for each; but for a picture that goes alone, oneDNN computes some
    convolutions in another way."""
    for name, layer in unet.named_modules():
        if type(layer) is nn.Linear and ("time_emb" in name or "add_embedding" in name):
            layer.__class__ = BatchInvariantLinear


def dtype_name(dtype: torch.dtype) -> str:
    """`fp32`, `bf16` or `fp16`."""
    return next(name for name, value in DTYPES.items() if value is dtype)


def best_dtype(device: torch.device) -> torch.dtype:
    """bf16 where it is fast, else fp16 on a GPU and fp32 on a CPU. (The built-in model is small and drawn in fp32.)"""
    if device.type == "cpu":
        return torch.bfloat16 if bf16_gain() >= WORTHWHILE else torch.float32
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float16


@cache
def bf16_gain() -> float:
    """How many times faster this CPU is in bf16 than in fp32, as measured when first asked for."""
    gain = measure_bf16_gain()
    log.info("bf16 is %.1f times as fast as fp32 on this CPU", gain)
    return gain


def measure_bf16_gain() -> float:
    """By what a UNet does: a convolution and a product of matrices. The best of a few rounds in turns counts, since
    the machine may be busy. Takes about a fifth of a second."""
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return 0.0  # torch would compute in fp32 and convert back and forth
    best = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    with torch.inference_mode():
        workloads = {dtype: _workload(dtype) for dtype in best}
        for run in workloads.values():
            run()  # the first call compiles a kernel
        for _ in range(ROUNDS):
            for dtype, run in workloads.items():
                began = time.perf_counter()
                run()
                best[dtype] = min(best[dtype], time.perf_counter() - began)
    return best[torch.float32] / best[torch.bfloat16]


def _workload(dtype: torch.dtype):
    picture, kernel = torch.zeros(1, 160, 32, 32, dtype=dtype), torch.zeros(160, 160, 3, 3, dtype=dtype)
    tokens, matrix = torch.zeros(256, 640, dtype=dtype), torch.zeros(1280, 640, dtype=dtype)

    def run():
        torch.nn.functional.conv2d(picture, kernel, padding=1)
        torch.nn.functional.linear(tokens, matrix)

    return run

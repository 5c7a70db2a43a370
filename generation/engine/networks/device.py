"""Copies from the host to the device that do not wait for it (pinned memory, non_blocking)."""

import torch


def to_device(
    values: torch.Tensor | list | tuple, device: torch.device, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """A tensor in the host's memory, or plain numbers, on the device.

    A copy from ordinary memory to a GPU waits until the GPU has done all that it was given; one from pinned memory
    takes its place behind that, and the caller goes on. (PyTorch keeps the pinned memory until the copy is done.)
    """
    host = values if isinstance(values, torch.Tensor) else torch.tensor(values)
    host = host if dtype is None else host.to(dtype)
    if device.type == "cuda" and host.device.type == "cpu":
        host = host.pin_memory()
    return host.to(device, non_blocking=True)

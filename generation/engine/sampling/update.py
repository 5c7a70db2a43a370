"""The update that takes a whole batch of pictures one evaluation further, whatever their samplers."""

import torch


def update(slots: torch.Tensor, output: torch.Tensor, noise: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
    """The slots after one evaluation.

    slots: rows x SLOTS x channels x h x w; output (the UNet's) and noise: rows x channels x h x w; matrices: rows x
    SLOTS x (SLOTS + 2), each row's own. All fp32 on one device. Rows do not mix, so one that is not finite stays alone.
    """
    known = torch.cat([slots, output[:, None], noise[:, None]], dim=1)
    return torch.bmm(matrices, known.flatten(2)).view_as(slots)

"""Samplers (Euler, DDIM, DPM++, UniPC, LCM …) as tables of coefficients, so that one update serves any mixture.

Every sampler on offer is linear in what it keeps and what the UNet predicts. So a picture in flight keeps
`SLOTS` latents (the sample itself and what its sampler remembers), and one evaluation further is

    slots after = matrix x (slots before, the UNet's output, fresh noise)

with a matrix that depends on the sampler, the step count and the position alone. Pictures with different
samplers, step counts and positions are therefore taken on together by one product (`update`).
"""

from .forms import SLOTS
from .table import Table, make_table, scheduler_for
from .update import update

__all__ = ["SLOTS", "Table", "make_table", "scheduler_for", "update"]

"""The passes of the sampler over one image: first pass and second pass (hires fix), with size and timesteps."""

from dataclasses import dataclass

from .fields import ImageRequest
from .geometry import drawn_steps


@dataclass(frozen=True, slots=True)
class PassSchedule:
    """One run of the sampler over an image: of `steps` steps those from `begin` on, at that size in pixels."""

    width: int
    height: int
    steps: int
    begin: int = 0


def passes_of(request: ImageRequest) -> tuple[PassSchedule, ...]:
    """What one image of the request goes through."""
    begin = _begin(request.steps, request.start.strength) if request.start else 0
    first = PassSchedule(request.width, request.height, request.steps, begin)
    if request.hires is None:
        return (first,)
    steps = request.hires.steps or request.steps
    return first, PassSchedule(*request.final_size, steps, _begin(steps, request.hires.strength))


def _begin(steps: int, strength: float) -> int:
    return steps - drawn_steps(steps, strength) if strength else steps

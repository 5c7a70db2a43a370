"""Training loop helpers: learning rate schedule, running average, checkpoints, progress."""

import os
import time
from pathlib import Path

import torch


def rate(step: int, steps: int, warm: int = 100, fall: float = 0.35) -> float:
    """Learning-rate factor: a short rise, a plateau, a straight fall over the last part to 2 %."""
    start = steps * (1 - fall)
    down = 1.0 if step < start else max(0.02, (steps - step) / (steps - start))
    return min(1.0, (step + 1) / min(warm, max(1, steps // 4))) * down


class Average:
    """An exponential moving average of a module's parameters; young averages forget faster."""

    def __init__(self, module: torch.nn.Module, decay: float):
        self.decay, self.count = decay, 0
        self.shadow = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: torch.nn.Module) -> None:
        self.count += 1
        keep = min(self.decay, (1 + self.count) / (10 + self.count))
        new = {k: v for k, v in module.state_dict().items() if v.dtype.is_floating_point}
        torch._foreach_lerp_([self.shadow[k] for k in new], list(new.values()), 1 - keep)

    def state(self) -> dict:
        return {"shadow": self.shadow, "count": self.count}

    def load(self, state: dict) -> None:
        self.shadow, self.count = state["shadow"], state["count"]


def checkpoint(path: Path, step: int, model, optimiser, average: Average) -> None:
    """Everything that going on needs."""
    save(
        path,
        {"step": step, "model": model.state_dict(), "optimiser": optimiser.state_dict(), "average": average.state()},
    )


def restore(path: Path, model, optimiser, average: Average) -> int:
    """Takes up a checkpoint, if there is one; the number of steps already done."""
    state = load(path)
    if state is None:
        return 0
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    average.load(state["average"])
    return state["step"]


def save(path: Path, state: dict) -> None:
    """Writes a checkpoint whole or not at all."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


def load(path: Path) -> dict | None:
    """A checkpoint of our own, or None. Plain tensors only: `weights_only` keeps pickled code out."""
    return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None


class Progress:
    """One line a while: step, speed, time left and the smoothed loss."""

    def __init__(self, name: str, steps: int, start: int = 0, every: float = 20.0, say=print):
        self.name, self.steps, self.first, self.every, self.say = name, steps, start, every, say
        self.began = self.last = time.monotonic()
        self.values: dict[str, float] = {}

    def step(self, step: int, **values: float) -> None:
        for k, v in values.items():
            self.values[k] = v if k not in self.values else 0.98 * self.values[k] + 0.02 * v
        now = time.monotonic()
        if now - self.last < self.every and step + 1 < self.steps:
            return
        self.last = now
        speed = (step + 1 - self.first) / max(1e-9, now - self.began)
        left = (self.steps - step - 1) / speed
        shown = " ".join(f"{k} {v:.4f}" for k, v in self.values.items())
        done = f"{self.name} {step + 1}/{self.steps}"
        self.say(f"{time.strftime('%H:%M:%S')} {done} {speed:.2f} it/s, {left / 60:.1f} min left, {shown}")

"""The judge, an image classifier for evaluation: says what a picture shows, trained on the drawings alone.

It never sees what the model makes, so it can tell whether that obeys. One net looks at the whole
picture: where objects are, which place, which style. Another looks at each of those spots closely and
names the object. Blur, noise and compression in training keep a picture's softness from fooling them.
"""

import io
import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from generation.engine.sketch import JUDGE

from .dataset import FRESH, scene_of, shelves
from .drawing import draw, mask
from .loop import Progress, rate
from .recipe import Recipe
from .scene import Scene, random_scene
from .vocabulary import PLACES, STYLES, THINGS

SIDE = 96
"""Pixels along each side of the whole picture as it is looked at; other shapes are stretched."""
GRID = 24
"""Cells along each side of the map of objects."""
CLOSE = 48
"""Pixels along each side of a spot as it is looked at."""
REGION = 64
"""Pixels along each side of the regions that are handed out."""
NOTHING = len(THINGS)
MARGINS = (1.0, 1.25, 1.5)
"""How much larger than its region a spot is looked at; the map may miss an object's rim."""
SHIFTS = (0.0, 0.2)
"""And how much further down, in parts of its height: stems and legs are thin, and maps miss them."""
LEVELS = (0.5, 0.25, 0.75)
"""How sure a cell must be to belong to a region; that which explains the picture best is taken."""
SMALLEST = 0.006
"""The part of the picture that an object covers at least."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in parts of the picture."""


class Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)])

    def forward(self, x):
        return x + self.second(F.relu(self.norms[1](self.first(F.relu(self.norms[0](x))))))


class Whole(nn.Module):
    """96x96 pictures to logits: map (n, things + 1, 24, 24), place, style."""

    def __init__(self, things: int, places: int, styles: int):
        super().__init__()
        self.fine = nn.Sequential(
            nn.Conv2d(3, 32, 5, 2, 2, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 64, 3, 2, 1), Residual(64),
        )  # fmt: skip
        self.coarse = nn.Sequential(
            nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 128, 3, 2, 1), Residual(128), Residual(128),
            nn.BatchNorm2d(128), nn.ReLU(),
        )  # fmt: skip
        self.map = nn.Conv2d(64 + 128, things + 1, 1)
        self.place = nn.Linear(256, places)
        self.style = nn.Linear(256, styles)

    def forward(self, x):
        fine = self.fine(x)
        coarse = self.coarse(fine)
        cells = self.map(torch.cat([F.relu(fine), F.interpolate(coarse, scale_factor=2.0)], 1))
        pooled = torch.cat([coarse.mean((2, 3)), coarse.amax((2, 3))], 1)
        return cells, self.place(pooled), self.style(pooled)


def closely(things: int) -> nn.Sequential:
    """48x48 spots to logits: objects, and last nothing."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 5, 2, 2, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 48, 3, 2, 1), Residual(48), nn.BatchNorm2d(48), nn.ReLU(),
        nn.Conv2d(48, 96, 3, 2, 1), Residual(96), nn.BatchNorm2d(96), nn.ReLU(),
        nn.Flatten(), nn.Linear(96 * 36, things + 1),
    )  # fmt: skip


def shrunk(pictures) -> np.ndarray:
    """Pictures, as PIL images or uint8 arrays, at the size that the judge looks at: uint8 (n, 96, 96, 3)."""
    images = (p if isinstance(p, Image.Image) else Image.fromarray(p) for p in pictures)
    return np.stack([np.asarray(i.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)) for i in images])


def tensor(small: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(small).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def cells_of(scene: Scene) -> np.ndarray:
    """Which object each cell shows mostly: uint8 (24, 24), NOTHING where none."""
    numbers = np.asarray(mask(scene))
    out = np.full((GRID, GRID), NOTHING, np.uint8)
    covered = np.full((GRID, GRID), 0.4)
    for number, item in enumerate(scene.items, 1):
        image = Image.fromarray((numbers == number).astype(np.uint8) * 255)
        share = np.asarray(image.resize((GRID, GRID), Image.Resampling.BOX)) / 255
        out[share > covered] = [t.key for t in THINGS].index(item.thing)
        covered = np.maximum(covered, share)
    return out


def boxes_of(scene: Scene) -> list[tuple[Box, int]]:
    """Where each item is, and which object."""
    numbers, out = np.asarray(mask(scene)), []
    for number, item in enumerate(scene.items, 1):
        ys, xs = np.nonzero(numbers == number)
        if len(ys):
            w, h = scene.width, scene.height
            box = xs.min() / w, ys.min() / h, (xs.max() + 1) / w, (ys.max() + 1) / h
            out.append((box, [t.key for t in THINGS].index(item.thing)))
    return out


def spot(picture: Image.Image, box: Box, margin: float = 1.0, shift: float = 0.0) -> np.ndarray:
    """The square around a box, a little larger than it, as uint8 (48, 48, 3). Beyond the picture it is black."""
    left, top, right, bottom = (part * side for part, side in zip(box, picture.size * 2, strict=True))
    half, x, y = max(right - left, bottom - top, 4) * 0.58 * margin, (left + right) / 2, (top + bottom) / 2
    y += shift * (bottom - top)
    square = picture.crop(tuple(round(edge) for edge in (x - half, y - half, x + half, y + half)))
    smaller = square.width > CLOSE
    return np.asarray(square.resize((CLOSE, CLOSE), Image.Resampling.BOX if smaller else Image.Resampling.BILINEAR))


def spoilt(small: np.ndarray, rng: random.Random, most_blur: float = 1.0) -> np.ndarray:
    """A picture as an autoencoder or a camera might hand it on: blurred, noisy, compressed, off in tone."""
    image = Image.fromarray(np.ascontiguousarray(small))
    if rng.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, most_blur)))
    if rng.random() < 0.3:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=rng.randint(25, 80))
        image = Image.open(file)
    pixels = np.asarray(image, np.float32)
    if rng.random() < 0.5:
        pixels = (pixels - 128) * rng.uniform(0.85, 1.12) + 128 + rng.uniform(-10, 10)
    if rng.random() < 0.4:
        pixels = pixels + np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(1, 8), pixels.shape)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def train(recipe: Recipe, work: Path, out: Path, device: str, say=print) -> dict[str, float]:
    """Trains both nets on the drawings of 256x256 in `work` and writes `out`; their figures on drawings
    never seen, in percent."""
    pictures = shelves(recipe, work)[0].pictures
    scenes = [scene_of(recipe, 0, row) for row in range(len(pictures))]
    say(f"judge: {len(pictures)} pictures")
    whole = train_whole(recipe, pictures, scenes, device, say)
    close = train_close(recipe, pictures, scenes, device, say)
    write(whole, close, out, {})
    figures = accuracy(Judge(out), [random_scene(FRESH + i) for i in range(min(1000, 4 * len(pictures)))])
    write(whole, close, out, figures)
    say(f"judge: on drawings never seen {figures}")
    return figures


def train_whole(recipe: Recipe, pictures: np.ndarray, scenes: list[Scene], device: str, say=print) -> Whole:
    small, cells = shrunk(pictures), np.stack([cells_of(scene) for scene in scenes])
    places = torch.tensor([[p.key for p in PLACES].index(s.place) for s in scenes])
    styles = torch.tensor([[y.key for y in STYLES].index(s.style) for s in scenes])
    torch.manual_seed(1)
    net = Whole(len(THINGS), len(PLACES), len(STYLES)).to(device).train()
    optimiser = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=0.02, fused=True)
    progress = Progress("judge, whole", recipe.judge_steps, say=say)
    for step in range(recipe.judge_steps):
        rng = random.Random(step)
        rows = [rng.randrange(len(pictures)) for _ in range(recipe.judge_batch)]
        flips = [rng.choice((1, -1)) for _ in rows]
        seen = np.stack([spoilt(small[r, :, ::f], rng) for r, f in zip(rows, flips, strict=True)])
        where = np.stack([cells[r, :, ::f] for r, f in zip(rows, flips, strict=True)])
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * rate(step, recipe.judge_steps, fall=0.6)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            logits = net(tensor(seen).to(device))
        cell, place, style = (f.float().cpu() for f in logits)
        loss = (
            F.cross_entropy(cell, torch.from_numpy(where).long())
            + F.cross_entropy(place, places[rows])
            + F.cross_entropy(style, styles[rows])
        )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        progress.step(step, loss=loss.item())
    return net.eval()


def train_close(recipe: Recipe, pictures: np.ndarray, scenes: list[Scene], device: str, say=print) -> nn.Sequential:
    """Learns to name what is in a box that is off by a little, and that a box beside all objects is empty."""
    boxes = [boxes_of(scene) for scene in scenes]
    shown = [row for row, some in enumerate(boxes) if some]
    torch.manual_seed(2)
    net = closely(len(THINGS)).to(device).train()
    optimiser = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=0.02, fused=True)
    steps, batch = recipe.judge_steps, recipe.judge_batch * 2
    progress = Progress("judge, close", steps, say=say)
    for step in range(steps):
        rng = random.Random(step)
        seen, right = [], []
        for _ in range(batch):
            row = rng.choice(shown)
            box, thing = rng.choice(boxes[row])
            if rng.random() < 0.12:
                box, thing = elsewhere(boxes[row], rng), NOTHING
            crop = spot(Image.fromarray(pictures[row]), nudged(box, rng))
            seen.append(spoilt(crop[:, :: rng.choice((1, -1))], rng, 0.8))
            right.append(thing)
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * rate(step, steps, fall=0.6)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            logits = net(tensor(np.stack(seen)).to(device)).float().cpu()
        right = torch.tensor(right)
        loss = F.cross_entropy(logits, right)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        progress.step(step, loss=loss.item(), right=(logits.argmax(1) == right).float().mean().item())
    return net.eval()


def nudged(box: Box, rng: random.Random) -> Box:
    """A box as a map of 24 cells might give it: each side off by up to a fifth of its size."""
    left, top, right, bottom = box
    size = max(right - left, bottom - top) / 5
    return tuple(edge + rng.uniform(-size, size) for edge in box)


def elsewhere(taken: list[tuple[Box, int]], rng: random.Random) -> Box:
    """A box beside those taken, or a corner where there is no room."""
    for _ in range(20):
        size, x, y = rng.uniform(0.08, 0.3), rng.random(), rng.random()
        box = x - size / 2, y - size / 2, x + size / 2, y + size / 2
        if all(box[2] < b[0] or box[0] > b[2] or box[3] < b[1] or box[1] > b[3] for b, _ in taken):
            return box
    return rng.choice(((0.0, 0.0, 0.05, 0.05), (0.95, 0.0, 1.0, 0.05)))


def write(whole: Whole, close: nn.Sequential, out: Path, figures: dict[str, float]) -> None:
    """Saves the weights in half precision, with the words they stand for and how well they do."""
    vocabulary = {
        "things": [t.key for t in THINGS],
        "places": [p.key for p in PLACES],
        "styles": [s.key for s in STYLES],
    }
    state = nn.ModuleDict({"whole": whole, "close": close}).state_dict()
    weights = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in state.items()}
    save_file(weights, out, {"words": json.dumps(vocabulary), "figures": json.dumps(figures)})


@dataclass(frozen=True)
class Detection:
    """An object in a picture. `sure`: 0 to 1. `region`: bool (64, 64), where it is."""

    thing: str
    sure: float
    region: np.ndarray

    @property
    def middle(self) -> tuple[float, float]:
        """Its centre (x, y) in parts of the picture."""
        ys, xs = np.nonzero(self.region)
        return (xs.mean() + 0.5) / REGION, (ys.mean() + 0.5) / REGION


@dataclass(frozen=True)
class Seen:
    """What a picture shows; the surest objects first."""

    objects: tuple[Detection, ...]
    place: str
    style: str

    def where(self, thing: str) -> Detection | None:
        """The surest object of that kind, or None."""
        return next((match for match in self.objects if match.thing == thing), None)

    def count(self, thing: str) -> int:
        return sum(match.thing == thing for match in self.objects)


def patches(on: np.ndarray) -> list[np.ndarray]:
    """The connected parts of a bool picture, each as one, the largest first; too small ones are left out."""
    left, out = on.copy(), []
    while left.any():
        part = np.zeros_like(left)
        part[np.unravel_index(left.argmax(), left.shape)] = True
        while True:
            wide = np.pad(part, 1)
            grown = left & (wide[1:-1, 1:-1] | wide[:-2, 1:-1] | wide[2:, 1:-1] | wide[1:-1, :-2] | wide[1:-1, 2:])
            if (grown == part).all():
                break
            part = grown
        left &= ~part
        out.append(part)
    return sorted((p for p in out if p.mean() > SMALLEST), key=np.sum, reverse=True)


class Judge:
    """A trained judge. Raises FileNotFoundError where there is none."""

    def __init__(self, path: Path = JUDGE):
        with safe_open(path, "pt") as file:
            about = file.metadata()
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        vocabulary = json.loads(about["words"])
        self.figures: dict[str, float] = json.loads(about["figures"])
        self.things, self.places, self.styles = vocabulary["things"], vocabulary["places"], vocabulary["styles"]
        self.whole = Whole(len(self.things), len(self.places), len(self.styles))
        self.close = closely(len(self.things))
        nets = nn.ModuleDict({"whole": self.whole, "close": self.close})
        nets.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in weights.items()})
        nets.eval()

    @torch.inference_mode()
    def look(self, pictures) -> list[Seen]:
        """What each picture shows: PIL images, or uint8 arrays (h, w, 3)."""
        out = []
        for i in range(0, len(pictures), 64):
            some = [p if isinstance(p, Image.Image) else Image.fromarray(p) for p in pictures[i : i + 64]]
            cells, places, styles = self.whole(tensor(shrunk(some)))
            there = 1 - cells.softmax(1)[:, -1].numpy()
            for picture, sure, place, style in zip(some, there, places.argmax(1), styles.argmax(1), strict=True):
                out.append(Seen(self.named(picture, sure), self.places[place], self.styles[style]))
        return out

    def named(self, picture: Image.Image, there: np.ndarray) -> tuple[Detection, ...]:
        """The objects at the spots of the map `there`, how sure each cell is to show any."""
        picture = picture.convert("RGB")
        wide = Image.fromarray(there.astype(np.float32)).resize((REGION, REGION), Image.Resampling.BILINEAR)
        views = [self.explained(picture, np.asarray(wide) > level) for level in LEVELS]
        detected = max(views, key=lambda view: view[1])[0]
        return tuple(sorted((match for match in detected if match.thing), key=lambda match: -match.sure))

    def explained(self, picture: Image.Image, on: np.ndarray) -> tuple[list[Detection], float]:
        """What is at the connected spots of `on`, and how well that explains them."""
        detected, well = [], []
        for region in patches(on):
            readings = [[self.read(picture, part) for part in parts] for parts in divisions(region)]
            best = max(readings, key=likelihood)
            detected += best
            well.append(likelihood(best))
        return detected, sum(well) / len(well) if well else 0.0

    def read(self, picture: Image.Image, region: np.ndarray) -> Detection:
        """What is there, looked at with more and less around it; an empty name for nothing."""
        ys, xs = np.nonzero(region)
        box = (xs.min() / REGION, ys.min() / REGION, (xs.max() + 1) / REGION, (ys.max() + 1) / REGION)
        spots = np.stack([spot(picture, box, margin, shift) for margin in MARGINS for shift in SHIFTS])
        sure, which = self.close(tensor(spots)).softmax(1).max(1)
        best = int(sure.argmax())
        return Detection([*self.things, ""][which[best]], float(sure[best]), region)


def divisions(region: np.ndarray) -> list[list[np.ndarray]]:
    """A region as it is and, if it is long, cut into two or three: objects may stand so close that the map
    does not part them."""
    ys, xs = np.nonzero(region)
    width, height = xs.max() + 1 - xs.min(), ys.max() + 1 - ys.min()
    out = [[region]]
    for along, across, axis, most in ((width, height, xs, 3), (height, width, ys, 2)):
        if along > 1.35 * across:
            for n in range(2, most + 1):
                number = np.full(region.shape, -1)
                number[ys, xs] = (axis - axis.min()) * n // along
                out.append([number == k for k in range(n)])
    return [parts for parts in out if all(part.any() for part in parts)]


def likelihood(reading: list[Detection]) -> float:
    """How well a region is explained; a spot that shows nothing explains little, and one object is likelier."""
    return sum(match.sure if match.thing else 0.3 for match in reading) / len(reading) + 0.02 * (len(reading) == 1)


def accuracy(judge: Judge, scenes: list[Scene]) -> dict[str, float]:
    """How often it is right on drawings of `scenes`, in percent.

    `thing`: objects shown that it names; `absent`: objects not shown that it does not name; `place`, `style`.
    A white background may pass for paper, which is white.
    """
    shown, named, absent, kept, place, style = 0, 0, 0, 0, 0, 0
    for i in range(0, len(scenes), 64):
        some = scenes[i : i + 64]
        for scene, seen in zip(some, judge.look([draw(scene) for scene in some]), strict=True):
            there, read = {item.thing for item in scene.items}, {match.thing for match in seen.objects}
            shown += len(there)
            named += len(there & read)
            absent += len(judge.things) - len(there)
            kept += len(judge.things) - len(there | read)
            place += seen.place == ("paper" if scene.backdrop == "white" else scene.place) or seen.place == scene.place
            style += seen.style == scene.style
    n = len(scenes)
    parts = {"thing": (named, shown), "absent": (kept, absent), "place": (place, n), "style": (style, n)}
    return {name: round(100 * right / of, 2) for name, (right, of) in parts.items()}

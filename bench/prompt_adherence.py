"""Does the built-in model draw what it is asked for?

    .venv/bin/python bench/prompt_adherence.py [--prompts 500] [--drawings] >> bench/results.jsonl

Asks the engine, with the model's defaults, for pictures whose object, colour and place were held out of
training as a combination, and for much else (see `MEASURES`). An independent judge, a small classifier trained on
the drawings alone (`generation/training/judge.py`), names objects, places and styles; colours are plain
statistics inside the object's region. `--drawings` measures drawings of the same cases instead of the model:
what the measuring itself gets right. `--folder` measures another model's folder. A table goes to standard
error, one JSON line to standard output.
"""

import argparse
import json
import os
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image

from generation.engine.catalog.models import Catalog
from generation.engine.factory import make_engine
from generation.engine.request.fields import Picture
from generation.engine.request.request import build_request
from generation.training.captions import with_a
from generation.training.drawing import draw
from generation.training.judge import Judge
from generation.training.measure import colour_in
from generation.training.scene import Item, Scene, held_out, rest
from generation.training.vocabulary import COLOURS, PLACES, STYLES, THINGS

MEASURES = {
    "object": "the named object is there",
    "colour": "an object that is there has its colour",
    "place": "the named place or background",
    "pair": "both of two objects are there",
    "pair colours": "both are there in their colours",
    "pair order": "both are there, left, right and above as asked",
    "style": "the named style",
    "styled object": "the named object is there in a named style",
    "negative": "what the picture showed is gone when the negative prompt names it",
    "seed": "another seed gives another picture",
    "img2img": "an object redrawn at half strength stays what and where it was",
    "inpainting": "nothing changes outside the mask, something within",
}
GOALS = {"object": 90, "colour": 95, "place": 90, "pair": 70, "negative": 80}
SIDE = 64


@dataclass(frozen=True)
class Case:
    """A prompt and what its picture must show. Of two items the first is on the left, or above."""

    prompt: str
    items: tuple[tuple[str, str], ...]
    place: str = ""
    backdrop: str = ""
    style: str = ""
    above: bool = False
    seed: int = 0
    options: dict = field(default_factory=dict, hash=False)


def triple(rng: random.Random) -> tuple[str, str, str, str]:
    """Thing, colour, place and backdrop that training never saw together."""
    while True:
        thing, colour, place = rng.choice(THINGS).key, rng.choice(COLOURS).key, rng.choice(PLACES).key
        backdrop = rng.choice([c.key for c in COLOURS if c.key != colour]) if place == "plain" else ""
        if held_out(thing, colour, place):
            return thing, colour, place, backdrop


def where(place: str, backdrop: str) -> str:
    phrase = next(p.phrases[0] for p in PLACES if p.key == place)
    return phrase.replace("a {}", with_a(backdrop)) if backdrop else phrase


def singles(count: int, rng: random.Random, styled: bool = False) -> list[Case]:
    made = []
    for seed in range(count):
        thing, colour, place, backdrop = triple(rng)
        style = STYLES[seed % len(STYLES)] if styled else None
        prompt = f"{with_a(colour)} {thing} {where(place, backdrop)}" + (f", {style.prompt}" if style else "")
        made.append(Case(prompt, ((thing, colour),), place, backdrop, style.key if style else "", seed=seed))
    return made


def pairs(count: int, rng: random.Random) -> list[Case]:
    """Half of them side by side, half above each other, each object's triple held out."""
    made = []
    while len(made) < count:
        (a, ca, place, backdrop), (b, cb, *_) = triple(rng), triple(rng)
        if a == b or cb == backdrop or not held_out(b, cb, place):
            continue
        above = len(made) % 2 == 1
        prompt = f"{with_a(ca)} {a} {'above' if above else 'and'} {with_a(cb)} {b} {where(place, backdrop)}"
        made.append(Case(prompt, ((a, ca), (b, cb)), place, backdrop, above=above, seed=len(made)))
    return made


class Artist:
    """Draws the cases with the model, many at once, and remembers how long that took."""

    def __init__(self, folder: Path | None):
        catalog = Catalog()
        self.spec = catalog.get("dreamsketch-tiny")
        if folder:
            self.spec = replace(self.spec, sources=(str(folder.resolve()),))
            catalog = Catalog([self.spec])
        self.engine = make_engine("torch", catalog)
        self.engine.start()
        self.drawn, self.seconds = 0, 0.0

    def draw(self, cases: list[Case], **same) -> list[Image.Image]:
        began = time.monotonic()
        jobs = [
            self.engine.submit(build_request(self.spec, prompt=w.prompt, seed=w.seed, **w.options, **same))
            for w in cases
        ]
        images = [job.result()[0].pixels for job in jobs]
        self.drawn, self.seconds = self.drawn + len(cases), self.seconds + time.monotonic() - began
        return images

    def close(self):
        self.engine.stop()


class Draughtsman:
    """Draws what the cases name with the drawing code, in the artist's stead."""

    spec, drawn, seconds = Catalog().get("dreamsketch-tiny"), 0, 0.0

    def draw(self, cases: list[Case], **same) -> list[Image.Image]:
        return [draw(self.scene(case)) for case in cases]

    @staticmethod
    def scene(case: Case) -> Scene:
        alone = len(case.items) == 1
        size = 0.33 if alone else 0.2
        spots = [(0.5, None)] if alone else [(0.5, 0.26), (0.5, 0.74)] if case.above else [(0.27, None), (0.73, None)]
        items = tuple(
            Item(thing, colour, True, x, rest(thing, size, 1.0) if y is None else y, size)
            for (thing, colour), (x, y) in zip(case.items, spots, strict=True)
        )
        return Scene(items, case.place, case.backdrop, case.style or "sketch", case.seed)

    def close(self):
        pass


class Tally:
    """Counts what was right of what was asked; `missed` lines show what was not."""

    def __init__(self):
        self.right, self.total, self.missed = Counter(), Counter(), []

    def add(self, case: Case, **shown: bool) -> None:
        for name, good in shown.items():
            name = name.replace("_", " ")
            self.total[name] += 1
            self.right[name] += bool(good)
        if not all(shown.values()):
            wrong = ", ".join(name for name, good in shown.items() if not good)
            self.missed.append(f"{case.prompt} (seed {case.seed}): {wrong}")

    def percent(self) -> dict[str, float]:
        return {name: round(100 * self.right[name] / self.total[name], 1) for name in MEASURES if self.total[name]}


def has_colour(image, detected, colour: str) -> bool:
    return colour_in(image, detected.region) == colour


def measure_singles(artist, judge, tally, cases) -> None:
    images = artist.draw(cases)
    for case, image, seen in zip(cases, images, judge.look(images), strict=True):
        ((thing, colour),) = case.items
        detected = seen.where(thing)
        place = seen.place == case.place
        if case.backdrop:
            place = place and colour_in(image, ~np.pad(np.ones((52, 52), bool), 6)) == case.backdrop
        if case.style:
            tally.add(case, style=seen.style == case.style, styled_object=detected is not None)
        else:
            colour = {"colour": has_colour(image, detected, colour)} if detected else {}
            tally.add(case, object=detected is not None, place=place, **colour)


def measure_pairs(artist, judge, tally, cases) -> None:
    images = artist.draw(cases)
    for case, image, seen in zip(cases, images, judge.look(images), strict=True):
        detected = [seen.where(thing) for thing, _ in case.items]
        there = all(detected)
        colours = there and all(
            has_colour(image, match, colour) for match, (_, colour) in zip(detected, case.items, strict=True)
        )
        axis = 1 if case.above else 0
        order = there and bool(detected[0].middle[axis] < detected[1].middle[axis])
        tally.add(case, pair=there, pair_colours=colours, pair_order=order)


def measure_negatives(artist, judge, tally, count: int) -> None:
    """Open prompts, drawn twice: what the first picture shows by itself is named in the second's negative prompt."""
    open_ones = ("a picture", "a landscape", "scene", "background")
    prompts = open_ones * 3 + tuple(p.phrases[0] for p in PLACES if p.key not in ("plain", "paper"))
    cases = [Case(prompts[i % len(prompts)], (), seed=1000 + i) for i in range(4 * count)]
    again, unwanted = [], []
    for case, seen in zip(cases, judge.look(artist.draw(cases)), strict=True):
        if seen.objects:
            negative_prompt, gone = seen.objects[0].thing, ("thing", seen.objects[0].thing)
        elif case.prompt in open_ones and seen.place not in ("plain", "paper"):
            negative_prompt, gone = where(seen.place, ""), ("place", seen.place)
        else:
            continue
        again.append(replace(case, options={"negative_prompt": negative_prompt}))
        unwanted.append(gone)
    again, unwanted = again[:count], unwanted[:count]
    for case, (kind, key), seen in zip(again, unwanted, judge.look(artist.draw(again)), strict=True):
        case = replace(case, prompt=f"{case.prompt}, not {key}")
        tally.add(case, negative=seen.where(key) is None if kind == "thing" else seen.place != key)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.float32)


def measure_seeds(artist, tally, cases) -> None:
    others = [replace(case, seed=case.seed + 5000) for case in cases]
    for case, a, b in zip(cases, artist.draw(cases), artist.draw(others), strict=True):
        tally.add(case, seed=np.abs(pixels(a) - pixels(b)).mean() > 3)


def measure_changes(artist, judge, tally, cases) -> None:
    """img2img and inpainting over pictures of the model's own."""
    originals = artist.draw(cases)
    seen = judge.look(originals)
    kept = [(w, i, s) for w, i, s in zip(cases, originals, seen, strict=True) if s.where(w.items[0][0])]
    recoloured = []
    for case, image, _ in kept:
        thing, colour = case.items[0]
        new = next(c.key for c in COLOURS if c.key not in (colour, case.backdrop))
        prompt = case.prompt.replace(with_a(colour), with_a(new), 1)
        recoloured.append(Case(prompt, ((thing, new),), seed=case.seed + 1, options={"image": Picture.of(image)}))
    after = artist.draw(recoloured, strength=0.5)
    for new, (case, _, before), now in zip(recoloured, kept, judge.look(after), strict=True):
        (thing, colour), now = new.items[0], now.where(case.items[0][0])
        a, b = before.where(thing).region, now.region if now else np.zeros((SIDE, SIDE), bool)
        tally.add(new, img2img=(a & b).sum() > 0.5 * (a | b).sum())
    mask = Image.new("L", originals[0].size, 0)
    mask.paste(255, (mask.width // 4, mask.height // 4, mask.width * 3 // 4, mask.height * 3 // 4))
    outside = np.asarray(mask) == 0
    part = {"mask": Picture.of(mask)}
    filled = [replace(w, seed=w.seed + 2, options=part | {"image": Picture.of(image)}) for w, image, _ in kept]
    for case, (_, image, _), now in zip(filled, kept, artist.draw(filled, strength=0.9, mask_blur=0), strict=True):
        change = np.abs(pixels(now) - pixels(image)).max(-1)
        tally.add(case, inpainting=change[outside].max() <= 2 and change[~outside].mean() > 2)


def speed(artist, cases) -> tuple[float, float]:
    """Seconds to load the model with the first picture, and for one picture drawn alone (median)."""
    began = time.monotonic()
    artist.draw(cases[:1], steps=1)
    load, took = time.monotonic() - began, []
    for case in cases[:5]:
        began = time.monotonic()
        artist.draw([case])
        took.append(time.monotonic() - began)
    return load, sorted(took)[len(took) // 2]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--drawings", action="store_true", help="measure drawings instead of the model")
    parser.add_argument("--folder", type=Path, help="a model's folder; the built-in one if not given")
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--plain", action="store_true", help="only the held-out triples and pairs, which is quicker")
    options = parser.parse_args()
    rng, n = random.Random(3), options.prompts
    judge, tally = Judge(), Tally()
    artist = Draughtsman() if options.drawings else Artist(options.folder)
    if options.guidance is not None:
        artist.spec = replace(artist.spec, default_guidance=options.guidance)
    alone, two = singles(round(0.6 * n), rng), pairs(round(0.2 * n), rng)
    styled, others = singles(round(0.2 * n), rng, styled=True), singles(max(4, round(0.05 * n)), rng)
    load, single = (0, 0) if options.drawings else speed(artist, alone)
    artist.drawn, artist.seconds = 0, 0.0
    measure_singles(artist, judge, tally, alone)
    measure_pairs(artist, judge, tally, two)
    if not options.plain:
        measure_singles(artist, judge, tally, styled)
        if not options.drawings:
            measure_negatives(artist, judge, tally, round(0.1 * n))
            measure_seeds(artist, tally, others)
            measure_changes(artist, judge, tally, others)
    artist.close()
    for line in tally.missed:
        print("missed:", line, file=sys.stderr)
    print(f"\n| asked | goal | of | right |\n|---|---|---|---|\n{table(tally)}", file=sys.stderr)
    print(
        json.dumps(
            {
                "bench": "prompt_adherence",
                "model": "drawings" if options.drawings else artist.spec.key,
                "prompts": n,
                "steps": artist.spec.default_steps,
                "guidance": artist.spec.default_guidance,
                "percent": tally.percent(),
                "judge": judge.figures,
                "seconds_a_picture_among_many": round(artist.seconds / max(1, artist.drawn), 2),
                "seconds_a_picture_alone": round(single, 2),
                "seconds_loading": round(load, 2),
                "cores": os.cpu_count(),
            }
        )
    )


def table(tally: Tally) -> str:
    return "\n".join(
        f"| {MEASURES[name]} | {f'{GOALS[name]} %' if name in GOALS else ''} | {tally.total[name]} | {percent} % |"
        for name, percent in tally.percent().items()
    )


if __name__ == "__main__":
    main()

"""Does the built-in model draw what it is asked for? Colours and places, by plain colour statistics.

    .venv/bin/python bench/prompt_adherence.py [--prompts 96] >> bench/results.jsonl

Prompts name an object, its colour, and a place or a background, drawn from the model's own vocabulary with a
fixed seed. Counts as shown: the colour when more than 15 % of the middle of the picture is nearest to it, the
background when more than 60 % of the rim is, the place when the rim is nearest to that place's drawings.
`unseen` are object, colour and place triples that were held out of training. Shapes are not judged: that takes
a trained judge. All through the engine with the model's defaults. Prints one JSON line.
"""

import argparse
import json
import os
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from generation.engine.catalog import Catalog
from generation.engine.factory import make_engine
from generation.engine.request import build_request
from generation.engine.sketch.measure import colour_share, place_of
from generation.engine.sketch.scene import held_out
from generation.engine.sketch.vocabulary import COLOURS, PLACES, THINGS

COLOUR_SHARE, BACKGROUND_SHARE = 0.15, 0.6


@dataclass(frozen=True)
class Wish:
    thing: str
    colour: str
    place: str
    background: str
    prompt: str


def wishes(count: int, rng: random.Random) -> list[Wish]:
    places = [place for place in PLACES if place.key != "plain"]
    made = []
    while len(made) < count:
        thing, colour, background = rng.choice(THINGS).key, rng.choice(COLOURS).key, rng.choice(COLOURS).key
        if rng.random() < 0.6:
            place = rng.choice(places)
            made.append(Wish(thing, colour, place.key, "", f"a {colour} {thing} {place.phrases[0]}"))
        elif background != colour:
            made.append(Wish(thing, colour, "plain", background, f"a {colour} {thing} on a {background} background"))
    return made


def judge(wish: Wish, picture) -> dict[str, bool]:
    shown = {"colour": colour_share(picture, wish.colour) > COLOUR_SHARE}
    if wish.background:
        shown["background"] = colour_share(picture, wish.background, middle=False) > BACKGROUND_SHARE
    else:
        shown["place"] = place_of(picture) == wish.place
    if held_out(wish.thing, wish.colour, wish.place):
        shown["unseen"] = all(shown.values())
    return shown


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--prompts", type=int, default=96)
    options = parser.parse_args()
    spec = Catalog().get("dreamsketch-tiny")
    engine = make_engine("torch", Catalog())
    engine.start()
    asked = wishes(options.prompts, random.Random(3))
    began = time.monotonic()
    jobs = [engine.submit(build_request(spec, prompt=wish.prompt, seed=seed)) for seed, wish in enumerate(asked)]
    right, total = Counter(), Counter()
    for wish, job in zip(asked, jobs, strict=True):
        shown = judge(wish, job.result()[0].pixels)
        total.update(shown.keys())
        right.update(name for name, good in shown.items() if good)
        if not all(shown.values()):
            print("missed:", wish.prompt, shown, file=sys.stderr)
    seconds = time.monotonic() - began
    engine.stop()
    print(json.dumps({
        "bench": "prompt_adherence", "model": spec.key, "steps": spec.default_steps, "guidance": spec.default_guidance,
        **{name: f"{right[name]} of {total[name]}" for name in total},
        "seconds_a_picture": round(seconds / len(asked), 2), "cores": os.cpu_count(),
    }))


if __name__ == "__main__":
    main()

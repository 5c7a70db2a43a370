"""Turns a `Scene` into words, in many ways, so that free text works.

Order, synonyms, articles, filler adjectives and quality words vary; what a picture shows is always
named unless the item's colour is unnamed or the place is blank paper.
"""

import random

from .scene import Item, Scene
from .vocabulary import COLOUR, PLACE, STYLE, THING

# fmt: off
FILLERS = (
    "cute", "lovely", "beautiful", "little", "nice", "pretty", "happy", "simple", "old", "charming", "big", "small",
    "bright", "tiny", "funny",
)
# fmt: on
# Words that people and our style presets add and that change nothing here.
QUALITY = (
    """
high quality; masterpiece; detailed; best quality; highly detailed; illustration; art; 4k; soft light; cinematic;
children's book; photo; painting; picture; professional, balanced composition, fine detail;
anime style, vivid colours, detailed shading; line art, clean lines, minimal, vector; abstract, geometric shapes;
vintage, retro, aged texture, faded colours; grunge, distressed texture, urban, gritty
""".replace("\n", " ")
    .strip()
    .split("; ")
)
# What negative prompts are made of. Alone they mean nothing, so they train as an empty prompt does.
FAULTS = (
    """
blurry; low quality; distorted; photograph; dull colours; shading; texture; clutter; gradient; hard edges; 3d render;
realistic; figure; busy; ornate; modern; neon; glossy; clean; polished; pastel; ugly; bad anatomy; deformed; text;
watermark; worst quality; jpeg artifacts; cropped
""".replace("\n", " ")
    .strip()
    .split("; ")
)
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def article(phrase: str, rng: random.Random) -> str:
    if rng.random() < 0.12:
        return phrase
    if rng.random() < 0.15:
        return f"the {phrase}"
    if rng.random() < 0.08:
        return f"one {phrase}"
    return f"an {phrase}" if phrase[0] in "aeiou" else f"a {phrase}"


def name(names: tuple[str, ...], rng: random.Random) -> str:
    """The first name most of the time, a synonym otherwise."""
    return names[0] if rng.random() < 0.6 else rng.choice(names)


def noun(item: Item, rng: random.Random) -> str:
    """ "red car", "cute crimson car", "car that is red" """
    thing = name(THING[item.thing].names, rng)
    if rng.random() < 0.12:
        thing = f"{rng.choice(FILLERS)} {thing}"
    if not item.named:
        return thing
    colour = name(COLOUR[item.colour].names, rng)
    if rng.random() < 0.06:
        return f"{thing} in {colour}"
    if rng.random() < 0.04:
        return f"{thing}, {colour}"
    return f"{rng.choice(FILLERS)} {colour} {thing}" if rng.random() < 0.08 else f"{colour} {thing}"


def place_words(scene: Scene, rng: random.Random) -> str:
    """Where it is; blank paper mostly goes without saying."""
    if scene.place == "paper" and rng.random() < 0.6:
        return ""
    phrase = rng.choice(PLACE[scene.place].phrases)
    if not scene.backdrop:
        return phrase
    colour = name(COLOUR[scene.backdrop].names, rng)
    return phrase.format(colour).replace(" a " + colour, f" an {colour}" if colour[0] in "aeiou" else f" a {colour}")


def things_words(scene: Scene, rng: random.Random) -> str:
    """The items; of two, sometimes with their sides. The first named is on the left."""
    if not scene.items:
        return rng.choice(("", "a picture", "a landscape", "scene", "background"))
    if len(scene.items) == 1:
        return article(noun(scene.items[0], rng), rng)
    a, b = (article(noun(i, rng), rng) for i in scene.items)
    return rng.choice(
        (
            f"{a} and {b}",
            f"{a} and {b}",
            f"{a} next to {b}",
            f"{a} beside {b}",
            f"{a}, {b}",
            f"{a} to the left of {b}",
            f"{b} to the right of {a}",
            f"{a} on the left and {b} on the right",
            f"{b} on the right, {a} on the left",
        )
    )


def caption(scene: Scene, rng: random.Random) -> str:
    """One of the many captions of a scene; `rng` decides which."""
    style = STYLE[scene.style]
    what, where = things_words(scene, rng), place_words(scene, rng)
    before = after = ""
    if rng.random() < 0.5:
        before = rng.choice(style.before)
    else:
        after = rng.choice(style.after)
    if where and not before and rng.random() < 0.15:
        text = f"{where}, {what}" if what else where
    elif rng.random() < 0.12:
        text = ", ".join(x for x in (what, where) if x)
    else:
        text = " ".join(x for x in (what, where) if x)
    text = f"{before} {text}".strip() if text else ""
    tail = [after] if after else []
    if rng.random() < 0.15:
        tail.append(rng.choice(QUALITY))
    if rng.random() < 0.05:
        # A word nobody knows, so that unknown words do little harm.
        tail.append("".join(rng.choices(LETTERS, k=rng.randint(3, 8))))
    rng.shuffle(tail)
    text = ", ".join(x for x in (text, *tail) if x)
    return text.capitalize() + "." if rng.random() < 0.05 else text


def nothing(rng: random.Random) -> str:
    """A prompt that asks for nothing: mostly empty, else faults as a negative prompt lists them."""
    return "" if rng.random() < 0.7 else ", ".join(rng.sample(FAULTS, rng.randint(1, 5)))

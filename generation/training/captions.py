"""Captions for training pictures: a `Scene` as text, in many ways, so that free prompts work.

Order, synonyms, articles, filler adjectives and quality words vary; what a picture shows is always
named unless the item's colour is unnamed, the place is blank paper or the style is the usual one.
"""

import random

from .scene import Item, Scene
from .vocabulary import COLOUR, PLACE, STYLE, THING

# fmt: off
FILLERS = (
    "cute", "lovely", "beautiful", "nice", "pretty", "happy", "simple", "old", "charming", "bright", "funny",
    "sweet", "friendly",
)
# fmt: on
SIZES = {"small": ("small", "small", "tiny", "little"), "big": ("big", "big", "large", "huge")}
# Words that people add and that change nothing here.
QUALITY = (
    """
high quality; masterpiece; detailed; best quality; highly detailed; illustration; art; 4k; soft light; cinematic;
children's book; photo; painting; picture; digital art; trending; colourful
""".replace("\n", " ")
    .strip()
    .split("; ")
)
# What negative prompts are made of. Alone they mean nothing, so they train as an empty prompt does.
FAULTS = (
    """
blurry; low quality; distorted; photograph; dull colours; colour; shading; texture; clutter; gradient; hard edges;
3d render; realistic; figure; busy; ornate; modern; neon; glossy; clean; polished; pastel; ugly; bad anatomy;
deformed; text; watermark; worst quality; jpeg artifacts; cropped
""".replace("\n", " ")
    .strip()
    .split("; ")
)
COUNTS = {2: ("two", "two", "two", "2", "a pair of"), 3: ("three", "three", "three", "3")}
PLURALS = {"fish": "fish", "cactus": "cacti"}
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def plural(noun: str) -> str:
    """The regular English plural, and the irregular ones of the vocabulary."""
    if noun in PLURALS:
        return PLURALS[noun]
    if noun.endswith(("s", "x", "sh", "ch")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def with_a(phrase: str) -> str:
    return f"an {phrase}" if phrase[0] in "aeiou" else f"a {phrase}"


def article(phrase: str, rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.12:
        return phrase
    if kind < 0.25:
        return f"the {phrase}"
    return f"one {phrase}" if kind < 0.30 else with_a(phrase)


def name(names: tuple[str, ...], rng: random.Random) -> str:
    """The first name most of the time, a synonym otherwise."""
    return names[0] if rng.random() < 0.6 else rng.choice(names)


def noun(item: Item, rng: random.Random, many: bool = False) -> str:
    """ "red car", "cute crimson car", "small car in red"; with `many` in the plural."""
    thing = name(THING[item.thing].names, rng)
    if many:
        thing = plural(thing)
    before = [rng.choice(SIZES[item.scale])] if item.scale else []
    if rng.random() < 0.14:
        before.append(rng.choice(FILLERS))
        rng.shuffle(before)
    if not item.named:
        return " ".join((*before, thing))
    colour = name(COLOUR[item.colour].names, rng)
    form = rng.random()
    if form < 0.06:
        return " ".join((*before, thing, "in", colour))
    if form < 0.10:
        return " ".join((*before, thing)) + f", {colour}"
    return " ".join((*before, colour, thing))


def place_words(scene: Scene, rng: random.Random) -> str:
    """Where it is; blank paper mostly goes without saying."""
    if scene.place == "paper" and rng.random() < 0.6:
        return ""
    phrase = rng.choice(PLACE[scene.place].phrases)
    if not scene.backdrop:
        return phrase
    colour = name(COLOUR[scene.backdrop].names, rng)
    return phrase.replace("a {}", with_a(colour)).replace("{}", colour)


def pair_words(scene: Scene, rng: random.Random) -> str:
    """Two things, sometimes with their sides. The first is on the left or on top."""
    a, b = (article(noun(i, rng), rng) for i in scene.items)
    if scene.relation == "above":
        return rng.choice(
            (f"{a} above {b}", f"{a} above {b}", f"{a} over {b}", f"{b} below {a}", f"{b} under {a}", f"{b} under {a}")
        )
    return rng.choice(
        (
            f"{a} and {b}",
            f"{a} and {b}",
            f"{a} next to {b}",
            f"{a} beside {b}",
            f"{a} with {b}",
            f"{a} left of {b}",
            f"{a} to the left of {b}",
            f"{b} right of {a}",
            f"{b} to the right of {a}",
            f"{a} on the left and {b} on the right",
            f"{b} on the right, {a} on the left",
        )
    )


def things_words(scene: Scene, rng: random.Random) -> str:
    if not scene.items:
        return rng.choice(("", "a picture", "a landscape", "scene", "background"))
    if scene.relation == "group":
        return f"{rng.choice(COUNTS[len(scene.items)])} {noun(scene.items[0], rng, many=True)}"
    if len(scene.items) == 2:
        return pair_words(scene, rng)
    return article(noun(scene.items[0], rng), rng)


def style_words(scene: Scene, rng: random.Random) -> tuple[str, str]:
    """Words before and behind; the site's own words for the style often, free ones otherwise."""
    style = STYLE[scene.style]
    if rng.random() < (0.15 if scene.style == "sketch" else 0.4):
        return "", style.prompt
    return (rng.choice(style.before), "") if rng.random() < 0.5 else ("", rng.choice(style.after))


def caption(scene: Scene, rng: random.Random) -> str:
    """One of the many captions of a scene; `rng` decides which."""
    what, where = things_words(scene, rng), place_words(scene, rng)
    before, after = style_words(scene, rng)
    if where and not before and rng.random() < 0.15:
        text = f"{where}, {what}" if what else where
    elif rng.random() < 0.12:
        text = ", ".join(x for x in (what, where) if x)
    else:
        text = " ".join(x for x in (what, where) if x)
    text = f"{before} {text}".strip()
    tail = [after] if after else []
    if rng.random() < 0.15:
        tail.append(rng.choice(QUALITY))
    if rng.random() < 0.05:
        # A word nobody knows, so that unknown words do little harm.
        tail.append("".join(rng.choices(LETTERS, k=rng.randint(3, 8))))
    rng.shuffle(tail)
    parts = [x for x in (text, *tail) if x]
    # Some people put the style first.
    text = ", ".join(parts if rng.random() < 0.9 else parts[::-1])
    return text.capitalize() + "." if rng.random() < 0.05 else text


def nothing(rng: random.Random) -> str:
    """A prompt that asks for nothing: mostly empty, else faults as a negative prompt lists them."""
    return "" if rng.random() < 0.7 else ", ".join(rng.sample(FAULTS, rng.randint(1, 5)))

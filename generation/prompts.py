"""Ideas for prompts, and small improvements by rule. Works offline, knows no model by name.

The built-in model draws one named object in a named colour in a named place, so most short ideas are
of that form; the longer ones show what larger models are good at.
"""

import random
import re

from .engine.request import MAX_PROMPT_CHARACTERS

SUGGESTIONS = {
    "Calm": (
        "a red boat at sea",
        "a yellow house on a meadow",
        "a white moon at night",
        "a grey cat on paper",
        "a white lighthouse at sunset",
        "a pink flower in a garden",
    ),
    "Adventurous": (
        "a blue bird in the forest",
        "a white rocket under the stars",
        "a red balloon in the mountains",
        "a grey castle in the snow",
        "an orange fish in the ocean",
        "a red car in the desert",
    ),
    "Playful": (
        "a purple umbrella in the snow",
        "a red mushroom in the woods",
        "an orange kitten on the grass",
        "a pink heart on a blue background",
        "a yellow star against a purple background",
        "a blue cup on white paper",
    ),
    "Dreamy": (
        "a green tree at night",
        "a golden sun among the dunes",
        "a white cloud under a sunset sky",
        "a watercolour of a teal boat at dusk",
        "a pencil drawing of a brown cottage in winter",
        "a watercolor painting of a violet balloon at sunset",
    ),
    "Bold": (
        "a flat poster of a red rocket at night",
        "a flat logo of a blue bird on a yellow background",
        "a minimal poster of a black cat on an orange background",
        "a green apple against a pink background",
        "a red triangle on a teal background",
        "a white house in front of mountains, flat design",
    ),
}
"""Mood → prompts."""

_THINGS = ("boat", "house", "cat", "bird", "tree", "lighthouse", "balloon", "rocket", "castle", "car", "fish",
           "flower", "mushroom", "umbrella", "star", "moon")
_COLOURS = ("red", "yellow", "green", "teal", "blue", "purple", "pink", "white", "golden", "violet", "emerald",
            "crimson")
_PLACES = ("at sea", "on a meadow", "in the forest", "in the desert", "in the mountains", "at sunset", "at night",
           "in the snow", "on paper", "under the stars")
_OPENINGS = ("a {} {} {}", "a {} {} {}", "a {} {} {}", "a watercolour of a {} {} {}", "a pencil drawing of a {} {} {}",
             "a flat poster of a {} {} {}")


def suggestions(count: int = 6, rng: random.Random | None = None) -> list[str]:
    """`count` different ideas from all moods, in random order."""
    everything = [prompt for prompts in SUGGESTIONS.values() for prompt in prompts]
    return (rng or random.Random()).sample(everything, min(count, len(everything)))


def surprise(rng: random.Random | None = None) -> str:
    """A new short prompt: a thing in a colour in a place. `surprise() == "a teal boat at sunset"`."""
    rng = rng or random.Random()
    prompt = rng.choice(_OPENINGS).format(rng.choice(_COLOURS), rng.choice(_THINGS), rng.choice(_PLACES))
    return re.sub(r"\ba (?=[aeiou])", "an ", prompt)


# Each rule: a word that says the matter is settled already, and what is added when no such word is there.
_DETAILS = (
    (r"\b(light|lit|lighting|sun|sunset|sunrise|dawn|dusk|night|moon|stars|glow\w*|shadow\w*|evening|morning)\b",
     "soft natural light"),
    (r"\b(composition|composed|close-up|closeup|portrait|wide|view|centred|centered|framed)\b",
     "balanced composition"),
    (r"\b(detail|details|detailed|intricate|minimal\w*|simple|flat|logo|sketch|poster)\b", "fine detail"),
    (r"\b(colou?rs?|colou?red|palette|black and white|monochrome|pastel|vivid|muted|line art|ink)\b",
     "harmonious colours"),
)


def improve(prompt: str, limit: int = MAX_PROMPT_CHARACTERS) -> str:
    """`prompt` tidied and with the detail words that it lacks; the same when there is nothing to add.

    Never repeats what the prompt says already, never passes `limit` characters, and improving twice
    changes nothing more. An empty prompt becomes a surprise.
    """
    tidy = re.sub(r"\s+", " ", prompt).strip().rstrip(" ,.;")
    tidy = re.sub(r"(\s*,\s*)+", ", ", tidy)
    if not tidy:
        return surprise()
    for settled, addition in _DETAILS:
        longer = f"{tidy}, {addition}"
        if not re.search(settled, tidy, re.IGNORECASE) and len(longer) <= limit:
            tidy = longer
    return tidy if len(tidy) <= limit else prompt

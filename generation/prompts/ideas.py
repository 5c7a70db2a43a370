"""Ideas for prompts, and small improvements by rule. Works offline, knows no model by name.

The built-in model draws one or two named objects, or the same one several times, in a named colour, place
and style, so the ideas are of that form.
"""

import random
import re

from generation.engine.request.fields import ASPECT_RATIOS, MAX_PROMPT_CHARACTERS

from .styles import STYLES

SUGGESTIONS = {
    "Calm": (
        "a red boat at sea",
        "a yellow house on a meadow",
        "a white lighthouse at sunset",
        "a green palm above a blue boat",
        "a teal whale in the ocean",
        "a pink flower in a garden",
        "a small brown tent in the forest",
    ),
    "Adventurous": (
        "a white rocket under the stars",
        "three red balloons at dawn",
        "a grey castle in the snow",
        "a yellow train in the mountains",
        "a red car in the desert",
        "an orange plane above a green hill",
        "a black ship in the rain",
    ),
    "Playful": (
        "two orange cats on the grass",
        "a brown dog and a red house",
        "a purple umbrella in the rain",
        "a red mushroom in the woods",
        "a big yellow crown on a purple background",
        "a blue cup and a green apple on paper",
        "a teal bicycle in the city",
    ),
    "Dreamy": (
        "a white moon above a brown house at night",
        "a blue butterfly in the early morning",
        "a green tree at night, watercolour",
        "a watercolour of a teal boat at dusk",
        "a pencil drawing of a brown cottage in winter",
        "a yellow lamp in the snow, vintage",
    ),
    "Bold": (
        "a flat logo of a blue bird on a yellow background",
        "a black cat on an orange background, anime style",
        "a red apple, line art",
        "a purple castle at sunset, grunge style",
        "an abstract painting of a red heart",
        "a green cactus on a pink background, minimalist",
    ),
}
"""Mood → prompts."""

_THINGS = (
    "boat",
    "ship",
    "house",
    "castle",
    "lighthouse",
    "tent",
    "bridge",
    "tree",
    "palm",
    "flower",
    "mushroom",
    "cactus",
    "balloon",
    "rocket",
    "plane",
    "car",
    "train",
    "bicycle",
    "cat",
    "dog",
    "fish",
    "bird",
    "butterfly",
    "whale",
    "apple",
    "cup",
    "umbrella",
    "lamp",
    "book",
    "crown",
    "star",
    "moon",
    "heart",
)
_COLOURS = (
    "red",
    "orange",
    "yellow",
    "green",
    "teal",
    "blue",
    "purple",
    "pink",
    "white",
    "golden",
    "violet",
    "emerald",
    "crimson",
)
_PLACES = (
    "at sea",
    "on a meadow",
    "in the forest",
    "in the desert",
    "in the mountains",
    "in a city",
    "at sunset",
    "at night",
    "at dawn",
    "in the rain",
    "in the snow",
    "on paper",
    "under the stars",
)
_OPENINGS = (
    "a {} {} {}",
    "a {} {} {}",
    "a {} {} {}",
    "a watercolour of a {} {} {}",
    "a pencil drawing of a {} {} {}",
    "a flat poster of a {} {} {}",
)


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
    (
        r"\b(light|lit|lighting|sun|sunset|sunrise|dawn|dusk|night|moon|stars|glow\w*|shadow\w*|evening|morning)\b",
        "soft natural light",
    ),
    (r"\b(composition|composed|close-up|closeup|portrait|wide|view|centred|centered|framed)\b", "balanced composition"),
    (r"\b(detail|details|detailed|intricate|minimal\w*|simple|flat|logo|sketch|poster)\b", "fine detail"),
    (
        r"\b(colou?rs?|colou?red|palette|black and white|monochrome|pastel|vivid|muted|line art|ink)\b",
        "harmonious colours",
    ),
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


# --- what a prompt says -----------------------------------------------------------------------------------

# The first that matches is the style; each is a key of `styles.STYLES`.
_STYLE_WORDS = (
    ("watercolour", r"water-?colou?rs?|aquarelle"),
    ("anime", r"anime|manga|chibi"),
    ("flat-logo", r"logos?|icons?|flat (?:design|poster|colou?rs?|illustration)|emblem|badge"),
    ("line-art", r"line[- ]?art|line drawing|pencil drawing|ink drawing|outlines?|sketch|colou?ring book"),
    ("minimalist", r"minimal(?:ist|istic|ism)?|negative space"),
    ("abstract", r"abstract|geometric|cubist|cubism"),
    ("vintage", r"vintage|retro|sepia|old photo(?:graph)?|art deco|19[0-8]0s"),
    ("grunge", r"grunge|graffiti|gritty|distressed|dystopian"),
)
_FORM = re.compile(
    r"^(?:(?:an?|the|one)\s+)?(?:[\w-]+\s+){0,3}?(?:photo(?:graph)?|picture|image|painting|drawing|illustration|"
    r"watercolou?r|sketch|poster|logo|icon|portrait|render(?:ing)?|close-?up|view)\s+(?:of|showing|with)\s+",
    re.IGNORECASE,
)
_AFTER_SUBJECT = re.compile(
    r"\s*(?:[,.;:()\[\]|]|\b(?:at|in|on|under|over|above|among|against|near|beside|behind|by|inside|before|during|with|"
    r"in front of|next to|surrounded by)\b|\bin the style of\b)",
    re.IGNORECASE,
)
_RATIO = re.compile(r"(?:--ar|--aspect|aspect ratio)?\s*\b(\d{1,2})\s*:\s*(\d{1,2})\b", re.IGNORECASE)
_SHAPES = (
    ("9:16", r"phone wallpaper|story|stories|vertical video|reel"),
    ("21:9", r"panoram\w*|ultra-?wide|cinematic"),
    ("16:9", r"wallpaper|landscape|banner|wide|desktop|thumbnail|skyline|scenery"),
    ("2:3", r"portrait|full[- ]body|poster|book cover|standing"),
    ("3:2", r"photo(?:graph)?"),
)
_DEFAULT_NEGATIVE = "blurry, low quality, distorted"


def parse(prompt: str) -> dict:
    """What a prompt says, by rules: `subject`, `style` (a key of STYLES or None), a suggested `negative_prompt`, the
    `aspect_ratio` that suits it and an `improved_prompt`.

    `parse("a watercolour of a red boat at sea")["subject"] == "a red boat"`
    """
    style = next((key for key, words in _STYLE_WORDS if _has(prompt, words)), None)
    return {
        "subject": _subject(prompt),
        "style": style,
        "negative_prompt": STYLES[style].negative if style else _DEFAULT_NEGATIVE,
        "aspect_ratio": _aspect_ratio(prompt),
        "improved_prompt": improve(prompt),
    }


def _has(prompt, words) -> bool:
    return re.search(rf"\b(?:{words})\b", prompt, re.IGNORECASE) is not None


def _subject(prompt) -> str:
    plain = re.sub(r"<[^<>]{0,200}>", " ", prompt[:500]).strip(" ([{,.\n\t\"'")
    plain = _FORM.sub("", re.sub(r"\s+", " ", plain))
    return _AFTER_SUBJECT.split(plain, maxsplit=1)[0].strip() or plain.strip()


def _aspect_ratio(prompt) -> str:
    named = _RATIO.search(prompt)
    if named and f"{named[1]}:{named[2]}" in ASPECT_RATIOS:
        return f"{named[1]}:{named[2]}"
    return next((ratio for ratio, words in _SHAPES if _has(prompt, words)), "1:1")

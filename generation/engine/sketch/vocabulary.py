"""What the built-in model knows: objects, colours, places and styles, as data.

Everything downstream (drawing, captions, the text encoder's warm-up task, the tests) reads these
tables, so a new word is one line here plus, for an object, one function in `objects.py`.
The first name of an entry is its key; the others are synonyms that captions use.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Colour:
    names: tuple[str, ...]
    rgb: tuple[int, int, int]

    @property
    def key(self) -> str:
        return self.names[0]


@dataclass(frozen=True)
class Thing:
    """An object to draw.

    `stands` is where it wants to be: "ground" (its foot on the ground), "sky" (floating high) or
    "any" (centred). `usual` colours are drawn when a caption names no colour.
    """

    names: tuple[str, ...]
    stands: str = "any"
    usual: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return self.names[0]


@dataclass(frozen=True)
class Place:
    """A background. `phrases` complete "a red car …" and each names the place by itself."""

    key: str
    phrases: tuple[str, ...]


@dataclass(frozen=True)
class Style:
    """A way of drawing. Captions put `before` in front or `after` behind; "" means unnamed."""

    key: str
    share: float
    before: tuple[str, ...]
    after: tuple[str, ...]


COLOURS = (
    Colour(("red", "crimson", "scarlet"), (214, 40, 40)),
    Colour(("orange",), (245, 130, 32)),
    Colour(("yellow", "golden", "gold"), (250, 208, 44)),
    Colour(("green", "emerald"), (52, 160, 72)),
    Colour(("teal", "turquoise", "cyan"), (32, 178, 178)),
    Colour(("blue", "azure"), (40, 92, 210)),
    Colour(("purple", "violet"), (128, 62, 176)),
    Colour(("pink", "rose"), (246, 140, 180)),
    Colour(("brown",), (134, 84, 46)),
    Colour(("black",), (38, 36, 42)),
    Colour(("grey", "gray", "silver"), (146, 148, 154)),
    Colour(("white",), (250, 250, 246)),
)

THINGS = (
    Thing(("circle", "ball", "disc"), "any", ("red", "blue", "yellow", "green")),
    Thing(("square", "box", "cube"), "any", ("blue", "red", "green", "orange")),
    Thing(("triangle",), "any", ("green", "red", "blue", "purple")),
    Thing(("heart",), "any", ("red", "pink")),
    Thing(("star",), "sky", ("yellow",)),
    Thing(("sun",), "sky", ("yellow", "orange")),
    Thing(("moon", "crescent moon"), "sky", ("yellow", "white")),
    Thing(("cloud",), "sky", ("white", "grey")),
    Thing(("tree",), "ground", ("green",)),
    Thing(("flower", "daisy"), "ground", ("red", "pink", "yellow", "purple")),
    Thing(("mushroom", "toadstool"), "ground", ("red", "brown")),
    Thing(("house", "cottage", "home"), "ground", ("red", "white", "yellow", "brown")),
    Thing(("castle",), "ground", ("grey", "pink")),
    Thing(("lighthouse",), "ground", ("red", "white")),
    Thing(("boat", "sailboat", "ship"), "ground", ("red", "white", "brown", "blue")),
    Thing(("balloon", "hot air balloon"), "sky", ("red", "orange", "yellow", "purple")),
    Thing(("rocket", "spaceship"), "sky", ("white", "red", "grey")),
    Thing(("car",), "ground", ("red", "blue", "yellow")),
    Thing(("fish",), "any", ("orange", "blue")),
    Thing(("bird",), "sky", ("blue", "red", "yellow")),
    Thing(("cat", "kitten"), "ground", ("orange", "black", "grey")),
    Thing(("apple",), "any", ("red", "green")),
    Thing(("umbrella", "parasol"), "any", ("red", "blue", "yellow")),
    Thing(("cup", "mug"), "any", ("white", "blue", "red")),
)

# "plain" is a wash of one named colour; it takes its words from COLOURS.
PLACES = (
    Place("plain", ("on a {} background", "against a {} background", "{} background")),
    Place("paper", ("on paper", "on white paper", "on blank paper")),
    Place("sea", ("at sea", "on the sea", "on the ocean", "in the ocean", "on the water")),
    Place("meadow", ("on a meadow", "in a meadow", "in a green field", "on the grass", "in a garden")),
    Place("forest", ("in the forest", "in a forest", "in the woods", "among the trees")),
    Place("desert", ("in the desert", "in a desert", "on sand dunes", "among the dunes")),
    Place("mountains", ("in the mountains", "in front of mountains", "with mountains behind")),
    Place("sunset", ("at sunset", "at dusk", "in the evening", "under a sunset sky")),
    Place("night", ("at night", "under the stars", "in the night", "under a night sky")),
    Place("snow", ("in the snow", "in snow", "in winter", "on a snowy day")),
)

STYLES = (
    Style(
        "sketch",
        0.64,
        ("", "", "", "a sketch of", "a drawing of", "a pencil drawing of"),
        ("", "", "sketchbook", "pencil sketch"),
    ),
    Style(
        "watercolour",
        0.18,
        ("a watercolour of", "a watercolor painting of", "a watercolour painting of"),
        ("watercolour", "watercolor", "in watercolour", "watercolour, soft blending, visible brush strokes"),
    ),
    Style(
        "flat",
        0.18,
        ("a flat poster of", "a flat logo of", "a minimal poster of"),
        (
            "flat poster",
            "flat design",
            "flat logo, flat design, bold shapes",
            "minimalist, simple, much negative space",
        ),
    ),
)

COLOUR = {c.key: c for c in COLOURS}
THING = {t.key: t for t in THINGS}
PLACE = {p.key: p for p in PLACES}
STYLE = {s.key: s for s in STYLES}

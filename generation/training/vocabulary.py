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
    share: float = 1.0


@dataclass(frozen=True)
class Style:
    """A way of drawing. Captions put `before` in front or `after` behind; "" means unnamed.

    `prompt` is what the site's preset of this style joins to a prompt; `share` is how often it is drawn.
    """

    key: str
    share: float
    prompt: str
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
    Thing(("mountain", "peak"), "ground", ("grey", "blue", "purple")),
    Thing(("hill", "mound"), "ground", ("green", "brown")),
    Thing(("tree", "oak"), "ground", ("green",)),
    Thing(("palm", "palm tree"), "ground", ("green",)),
    Thing(("cactus",), "ground", ("green",)),
    Thing(("flower", "daisy"), "ground", ("red", "pink", "yellow", "purple")),
    Thing(("mushroom", "toadstool"), "ground", ("red", "brown")),
    Thing(("house", "cottage", "home"), "ground", ("red", "white", "yellow", "brown")),
    Thing(("castle", "fortress"), "ground", ("grey", "pink")),
    Thing(("lighthouse",), "ground", ("red", "white")),
    Thing(("tent",), "ground", ("orange", "green", "red")),
    Thing(("bridge",), "ground", ("grey", "red", "brown")),
    Thing(("boat", "sailboat", "sailing boat"), "ground", ("red", "white", "brown", "blue")),
    Thing(("ship", "steamer", "steamship"), "ground", ("black", "red", "blue")),
    Thing(("balloon", "hot air balloon"), "sky", ("red", "orange", "yellow", "purple")),
    Thing(("rocket", "spaceship"), "sky", ("white", "red", "grey")),
    Thing(("plane", "airplane", "aeroplane"), "sky", ("white", "red", "blue")),
    Thing(("car", "automobile"), "ground", ("red", "blue", "yellow")),
    Thing(("train", "locomotive"), "ground", ("black", "green", "red")),
    Thing(("bicycle", "bike"), "ground", ("red", "blue", "black")),
    Thing(("cat", "kitten"), "ground", ("orange", "black", "grey")),
    Thing(("dog", "puppy"), "ground", ("brown", "black", "white")),
    Thing(("fish",), "any", ("orange", "blue")),
    Thing(("bird",), "sky", ("blue", "red", "yellow")),
    Thing(("butterfly",), "sky", ("orange", "blue", "purple")),
    Thing(("whale",), "any", ("blue", "grey")),
    Thing(("apple",), "any", ("red", "green")),
    Thing(("cup", "mug", "teacup"), "any", ("white", "blue", "red")),
    Thing(("umbrella", "parasol"), "any", ("red", "blue", "yellow")),
    Thing(("lamp",), "ground", ("yellow", "red", "white")),
    Thing(("book",), "any", ("red", "blue", "brown")),
    Thing(("crown",), "any", ("yellow",)),
)

# "plain" is a wash of one named colour; it takes its words from COLOURS, hence its double share.
# "paper" is also what a prompt without a place gets.
PLACES = (
    Place("plain", ("on a {} background", "against a {} background", "{} background"), 2.0),
    Place("paper", ("on paper", "on white paper", "on blank paper"), 1.5),
    Place("sea", ("at sea", "on the sea", "on the ocean", "in the ocean", "on the water")),
    Place("meadow", ("on a meadow", "in a meadow", "in a green field", "on the grass", "in a garden")),
    Place("forest", ("in the forest", "in a forest", "in the woods", "among the trees")),
    Place("desert", ("in the desert", "in a desert", "on sand dunes", "among the dunes")),
    Place("mountains", ("in the mountains", "in front of mountains", "with mountains behind")),
    Place("city", ("in a city", "in the city", "in town", "on a street", "downtown")),
    Place("sunset", ("at sunset", "at dusk", "in the evening", "under a sunset sky")),
    Place("night", ("at night", "under the stars", "in the night", "under a night sky", "at midnight")),
    Place("dawn", ("at dawn", "at sunrise", "in the early morning", "at daybreak")),
    Place("rain", ("in the rain", "in rain", "on a rainy day", "in a rainstorm")),
    Place("snow", ("in the snow", "in snow", "in winter", "on a snowy day")),
)

STYLES = (
    Style(
        "sketch",
        0.36,
        "professional, balanced composition, fine detail",
        ("", "", "", "", "a sketch of", "a drawing of", "a pencil drawing of", "a picture of"),
        ("", "", "", "", "sketchbook", "pencil sketch", "sketch"),
    ),
    Style(
        "anime",
        0.08,
        "anime style, vivid colours, detailed shading",
        ("an anime drawing of", "an anime picture of", "a manga drawing of"),
        ("anime", "anime style", "in anime style", "cartoon"),
    ),
    Style(
        "line-art",
        0.08,
        "line art, clean lines, minimal, vector",
        ("line art of", "a line drawing of", "an outline of"),
        ("line art", "line drawing", "clean lines", "outline"),
    ),
    Style(
        "flat-logo",
        0.08,
        "flat logo, flat design, bold shapes",
        ("a flat logo of", "a logo of", "a flat poster of", "an icon of"),
        ("flat logo", "flat design", "logo", "flat icon", "flat poster"),
    ),
    Style(
        "watercolour",
        0.08,
        "watercolour, soft blending, visible brush strokes",
        ("a watercolour of", "a watercolor painting of", "a watercolour painting of"),
        ("watercolour", "watercolor", "in watercolour", "aquarelle"),
    ),
    Style(
        "abstract",
        0.08,
        "abstract, geometric shapes",
        ("an abstract painting of", "an abstract picture of", "geometric art of"),
        ("abstract", "abstract art", "geometric shapes", "cubist"),
    ),
    Style(
        "minimalist",
        0.08,
        "minimalist, simple, much negative space",
        ("a minimalist picture of", "a minimalist drawing of", "a minimal poster of"),
        ("minimalist", "minimalism", "much negative space", "minimalist art"),
    ),
    Style(
        "vintage",
        0.08,
        "vintage, retro, aged texture, faded colours",
        ("a vintage picture of", "a retro postcard of", "an old photograph of"),
        ("vintage", "retro", "faded colours", "vintage postcard"),
    ),
    Style(
        "grunge",
        0.08,
        "grunge, distressed texture, urban, gritty",
        ("a grunge picture of", "a gritty picture of", "a graffiti of"),
        ("grunge", "gritty", "distressed texture", "grunge style"),
    ),
)

COLOUR = {c.key: c for c in COLOURS}
THING = {t.key: t for t in THINGS}
PLACE = {p.key: p for p in PLACES}
STYLE = {s.key: s for s in STYLES}

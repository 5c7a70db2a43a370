"""The built-in model's drawing data: same seed, same picture; what captions say is what is drawn."""

import random
from collections import Counter

import numpy as np
import pytest

from generation.prompts.styles import STYLES as SITE_STYLES
from generation.training.captions import caption, nothing, plural
from generation.training.drawing import draw, mask
from generation.training.objects import OUTLINES
from generation.training.places import GROUNDS
from generation.training.rendering import LOOKS
from generation.training.scene import Item, Scene, held_out, overview, random_scene
from generation.training.vocabulary import COLOUR, COLOURS, PLACE, PLACES, STYLE, STYLES, THING, THINGS

SIZES = ((192, 320), (256, 256), (384, 256))
PALETTE = np.array([c.rgb for c in COLOURS], np.float32)
# Rough weights of the eye: it is keenest on green, least so on red.
EYE = np.array([2.0, 4.0, 3.0], np.float32)


def simple_scene(thing: str, colour: str, place: str = "paper", style: str = "sketch", seed: int = 1, **kw) -> Scene:
    item = Item(thing, colour, True, 0.5, 0.52, 0.33)
    return Scene((item,), place, "grey" if place == "plain" else "", style, seed, **kw)


def share(scene: Scene) -> float:
    """The part of the first item's pixels that are nearest to its colour."""
    pixels = np.asarray(draw(scene), np.float32)[np.asarray(mask(scene)) == 1][::7]
    nearest = (np.square(pixels[:, None] - PALETTE) @ EYE).argmin(1)
    return float((nearest == [c.key for c in COLOURS].index(scene.items[0].colour)).mean())


def test_every_word_can_be_drawn_and_there_are_enough():
    assert set(OUTLINES) == set(THING) and len(THING) >= 40
    assert set(GROUNDS) == set(PLACE) and len(PLACE) >= 13
    assert set(LOOKS) == set(STYLE) and len(STYLE) == 9
    assert len(COLOUR) == 12 and {c for t in THINGS for c in t.usual} <= set(COLOUR)


def test_the_overview_shows_every_word():
    scenes = overview()
    assert {s.items[0].thing for s in scenes} == set(THING) and {s.items[0].colour for s in scenes} == set(COLOUR)
    assert {s.place for s in scenes} == set(PLACE) and {s.style for s in scenes} == set(STYLE)


def test_styles_are_those_of_the_site_in_its_own_words():
    site = {"sketch" if key == "standard" else key: style.prompt for key, style in SITE_STYLES.items()}
    assert site == {s.key: s.prompt for s in STYLES}


def test_a_seed_always_gives_the_same_picture():
    for seed in range(18):
        scene = random_scene(seed, *SIZES[seed % 3])
        assert scene == random_scene(seed, *SIZES[seed % 3])
        assert np.array_equal(draw(scene), draw(scene)) and np.array_equal(mask(scene), mask(scene))
    assert not np.array_equal(draw(random_scene(1)), draw(random_scene(2)))


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_everything_draws_in_every_size(width, height):
    for i, thing in enumerate(THINGS):
        for k in range(2):
            place, style = PLACES[(i + 5 * k) % len(PLACES)].key, STYLES[(i + k) % len(STYLES)].key
            scene = simple_scene(thing.key, "red", place, style, width=width, height=height)
            picture, where = draw(scene), np.asarray(mask(scene))
            assert picture.size == (width, height) and picture.mode == "RGB"
            assert where.shape == (height, width) and where.max() == 1 and where.mean() > 0.03


def test_shapes_are_not_distorted():
    for width, height in SIZES:
        rows, columns = np.nonzero(np.asarray(mask(simple_scene("circle", "red", width=width, height=height))))
        assert np.ptp(rows) == pytest.approx(np.ptp(columns), rel=0.05)
        assert np.ptp(rows) == pytest.approx(0.33 * 2 * 0.92 * min(width, height), rel=0.06)


@pytest.mark.parametrize("style", list(STYLE))
def test_objects_wear_the_named_colour_in_every_style(style):
    shares = {
        (thing.key, colour.key): share(
            simple_scene(thing.key, colour.key, PLACES[1 + (i + j) % 12].key, style, i * 12 + j)
        )
        for i, thing in enumerate(THINGS)
        for j, colour in enumerate(COLOURS)
        if (i + j) % 4 == 0
    }
    weak = sorted(key for key, value in shares.items() if value < 0.4)
    assert len(weak) <= 0.05 * len(shares), weak


def test_styles_and_places_look_different():
    for keys, make in (
        (STYLE, lambda key: simple_scene("fish", "blue", "meadow", key)),
        (PLACE, lambda key: simple_scene("fish", "blue", key)),
    ):
        pictures = [np.asarray(draw(make(key)).resize((64, 64)), float) for key in keys]
        for i, a in enumerate(pictures):
            for b in pictures[:i]:
                assert np.abs(a - b).mean() > 8


def test_mask_numbers_the_items():
    scenes = [random_scene(seed) for seed in range(200)]
    for scene in scenes:
        if not any(item.scale for item in scene.items):
            assert set(np.unique(np.asarray(mask(scene)))) == set(range(len(scene.items) + 1))


def test_training_leaves_out_what_is_held_out():
    scenes = [random_scene(seed) for seed in range(4000)]
    assert not any(held_out(i.thing, i.colour, s.place) for s in scenes for i in s.items)
    triples = [(t, c, p) for t in THING for c in COLOUR for p in PLACE]
    assert 0.13 < sum(held_out(*t) for t in triples) / len(triples) < 0.17


def test_training_scenes_are_balanced():
    scenes = [random_scene(seed) for seed in range(6000)]
    kinds = Counter(s.relation or len(s.items) for s in scenes)
    assert 0.59 < kinds[1] / 6000 < 0.65 and 0.17 < (kinds["beside"] + kinds["above"]) / 6000 < 0.23
    assert 0.12 < kinds["group"] / 6000 < 0.18 and kinds[0]
    things = Counter(i.thing for s in scenes for i in s.items[:1])
    styles, places = Counter(s.style for s in scenes), Counter(s.place for s in scenes)
    assert set(things) == set(THING) and max(things.values()) < 2 * min(things.values())
    assert 0.33 < styles["sketch"] / 6000 < 0.39 and min(styles.values()) > 0.06 * 6000
    assert set(places) == set(PLACE) and min(places.values()) > 0.05 * 6000


def test_the_vocabulary_can_be_narrowed():
    scenes = [random_scene(s, things=("cat", "boat"), places=("sea",), styles=("anime",)) for s in range(60)]
    assert {i.thing for s in scenes for i in s.items} == {"cat", "boat"}
    assert {(s.place, s.style) for s in scenes} == {("sea", "anime")}
    for wrong in ({"things": ("unicorn",)}, {"places": ()}, {"styles": ("baroque",)}):
        with pytest.raises(ValueError):
            random_scene(1, **wrong)


def test_captions_say_what_is_shown():
    rng = random.Random(0)
    for seed in range(2500):
        scene = random_scene(seed)
        text = caption(scene, rng).lower()
        many = scene.relation == "group"
        for item in scene.items:
            assert any((plural(n) if many else n) in text for n in THING[item.thing].names), text
            assert not item.named or any(n in text for n in COLOUR[item.colour].names), text
            sizes = {"small": ("small", "tiny", "little"), "big": ("big", "large", "huge"), "": ("",)}[item.scale]
            assert any(w in text for w in sizes), text
        if many:
            assert any(w in text for w in ("", "", "two 2 pair", "three 3")[len(scene.items)].split()), text
        if scene.backdrop:
            assert any(n in text for n in COLOUR[scene.backdrop].names), text
        elif scene.place != "paper":
            assert any(p in text for p in PLACE[scene.place].phrases), text
        if scene.style != "sketch":
            style = STYLE[scene.style]
            assert any(w in text for w in (style.prompt, *style.before, *style.after)), text


def test_captions_tell_sides_truly():
    rng = random.Random(3)
    items = (Item("cat", "red", True, 0.27, 0.6, 0.2), Item("dog", "blue", True, 0.73, 0.6, 0.2))
    for relation, true, false in (
        ("beside", ("cat to the left of", "dog to the right of"), ("cat to the right", "dog on the left")),
        ("above", ("cat above", "dog below", "dog under"), ("dog above", "cat below", "cat under", "left")),
    ):
        texts = [
            caption(Scene(items, relation=relation), rng).lower().replace("kitten", "cat").replace("puppy", "dog")
            for _ in range(300)
        ]
        assert all(any(phrase in text for text in texts) for phrase in true)
        assert not any(phrase in text for text in texts for phrase in false)


def test_captions_vary_and_use_synonyms():
    rng = random.Random(0)
    texts = [caption(simple_scene("boat", "red", "sunset"), rng).lower() for _ in range(400)]
    assert len(set(texts)) > 300
    for word in ("sailboat", "crimson", "at dusk", "sunset"):
        assert any(word in text for text in texts)
    unnamed = Scene((Item("apple", "red", False),))
    assert not any(name in caption(unnamed, rng).split() for _ in range(100) for name in COLOUR["red"].names)
    assert "" in {nothing(rng) for _ in range(20)}


def test_counts_have_plurals():
    assert [plural(n) for n in ("cat", "fish", "box", "butterfly", "cactus", "bus")] == [
        "cats", "fish", "boxes", "butterflies", "cacti", "buses",
    ]  # fmt: skip

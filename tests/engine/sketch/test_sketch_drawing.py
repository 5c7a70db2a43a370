"""The drawings: the same every time, and showing what their scene says."""

import random

import numpy as np
import pytest

from generation.training.captions import caption, nothing, plural
from generation.training.drawing import GROUNDS, SIZE, contact_sheet, draw
from generation.training.measure import colour_share, place_of
from generation.training.objects import OUTLINES
from generation.training.scene import Item, Scene, held_out, random_scene, rest
from generation.training.vocabulary import COLOUR, COLOURS, PLACE, PLACES, THING, THINGS


def simple_scene(
    thing: str, colour: str, place: str, backdrop: str = "", style: str = "sketch", seed: int = 1
) -> Scene:
    return Scene((Item(thing, colour, True, 0.5, rest(thing, 0.33, 1.0), 0.33),), place, backdrop, style, seed)


def test_every_word_can_be_drawn():
    assert set(OUTLINES) == {t.key for t in THINGS}
    assert set(GROUNDS) == {p.key for p in PLACES}
    assert {c for t in THINGS for c in t.usual} <= set(COLOUR)


def test_a_scene_always_gives_the_same_picture():
    for seed in (0, 7, 123456):
        scene = random_scene(seed)
        assert scene == random_scene(seed)
        first = draw(scene)
        assert first.size == (SIZE, SIZE) and first.mode == "RGB"
        assert np.array_equal(first, draw(scene))
    assert not np.array_equal(draw(random_scene(1)), draw(random_scene(2)))


def test_seed_changes_details_only():
    a, b = (np.asarray(draw(simple_scene("car", "red", "meadow", seed=s)), float) for s in (1, 2))
    assert not np.array_equal(a, b)
    assert np.abs(a - b).mean() < 45


@pytest.mark.parametrize("thing", [t.key for t in THINGS])
def test_objects_wear_the_named_colour(thing):
    wrong = [
        c.key
        for c in COLOURS
        if colour_share(draw(simple_scene(thing, c.key, "plain", "white" if c.key != "white" else "blue")), c.key)
        < 0.15
    ]
    assert not wrong


@pytest.mark.parametrize("place", [p.key for p in PLACES if p.key != "plain"])
def test_places_look_like_themselves(place):
    assert place_of(draw(simple_scene("fish", "orange", place, seed=99))) == place


def test_backdrops_show():
    for colour in COLOURS:
        assert colour_share(draw(simple_scene("star", "red", "plain", colour.key)), colour.key, middle=False) > 0.9


def test_training_leaves_out_what_is_held_out():
    scenes = [random_scene(seed) for seed in range(3000)]
    assert not any(held_out(i.thing, i.colour, s.place) for s in scenes for i in s.items)
    triples = [(t.key, c.key, p.key) for t in THINGS for c in COLOURS for p in PLACES]
    assert 0.12 < sum(held_out(*t) for t in triples) / len(triples) < 0.18


def test_captions_say_what_is_shown():
    rng = random.Random(0)
    for seed in range(1500):
        scene = random_scene(seed)
        text = caption(scene, rng).lower()
        for item in scene.items:
            assert any(n in text or plural(n) in text for n in THING[item.thing].names), text
            if item.named:
                assert any(n in text for n in COLOUR[item.colour].names), text
        if scene.backdrop:
            assert any(n in text for n in COLOUR[scene.backdrop].names), text
        elif scene.place != "paper":
            assert any(p in text for p in PLACE[scene.place].phrases), text


def test_captions_vary():
    rng = random.Random(0)
    assert len({caption(simple_scene("boat", "red", "sea"), rng) for _ in range(200)}) > 80
    assert "" in {nothing(rng) for _ in range(20)}


def test_contact_sheet_holds_all():
    sheet = contact_sheet([draw(random_scene(s)) for s in range(5)], 3)
    assert sheet.size == (3 * SIZE, 2 * SIZE)

"""What a prompt says, by rules."""

import json
import time

import pytest

from generation.prompts import ideas
from generation.prompts.styles import STYLES

pytestmark = pytest.mark.django_db
JSON = "application/json"


@pytest.fixture
def parse(free_user, api_client):
    client = api_client(free_user)
    return lambda prompt: client.post("/api/parse-prompt/", {"prompt": prompt}, JSON)


def test_the_answer(parse, documented):
    answer = documented(parse("a watercolour of a red boat at sea"), "post", "/api/parse-prompt")
    assert (answer["subject"], answer["style"]) == ("a red boat", "watercolour")
    assert answer["negative_prompt"] == STYLES["watercolour"].negative
    assert answer["improved_prompt"].startswith("a watercolour of a red boat at sea, ")
    assert (answer["aspect_ratio"], answer["loras"]) == ("1:1", [])


@pytest.mark.parametrize(
    ("prompt", "subject", "style", "ratio"),
    [
        ("A Photo of an old man, sharp", "an old man", None, "3:2"),
        ("manga girl in the rain", "manga girl", "anime", "1:1"),
        ("flat logo of a blue bird on yellow", "a blue bird", "flat-logo", "1:1"),
        ("pencil drawing of a house", "a house", "line-art", "1:1"),
        ("panorama of the alps at dawn", "panorama of the alps", None, "21:9"),
        ("portrait of a queen, retro", "a queen", "vintage", "2:3"),
        ("abstract shapes 16:9", "abstract shapes 16", "abstract", "16:9"),
        ("a city wall, graffiti", "a city wall", "grunge", "1:1"),
        ("negative space, one tree", "negative space", "minimalist", "1:1"),
        ("<lora:ink:0.5> a cat under a tree", "a cat", None, "1:1"),
        ("船 на море", "船 на море", None, "1:1"),
    ],
)
def test_rules(parse, prompt, subject, style, ratio):
    answer = parse(prompt).json()
    assert (answer["subject"], answer["style"], answer["aspect_ratio"]) == (subject, style, ratio)


def test_hostile_values(free_user, api_client, refused):
    client = api_client(free_user)
    for value in (None, "", "  ", 5, True, [], {}, "x" * 2001, "a\x00b", "\ud800"):
        refused(client.post("/api/parse-prompt", json.dumps({"prompt": value}), JSON), 400, param="prompt")
    for value in (5, [], "nothing", "\x00"):
        refused(client.post("/api/parse-prompt", json.dumps({"prompt": "a", "model": value}), JSON), 400, param="model")


@pytest.mark.parametrize(
    "prompt", ["a " * 1000, "photo of " * 220, "(" * 2000, "<" * 2000, ", " * 1000, "1:" * 1000, "the one an a " * 150]
)
def test_no_prompt_takes_long(prompt):
    before = time.process_time()
    ideas.parse(prompt[:2000])
    assert time.process_time() - before < 0.5

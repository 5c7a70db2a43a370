"""Searching the gallery's words: beginnings, phrases, accents, every script, and only one's own."""

import pytest

GALLERY = "/gallery/"
PROMPTS = {
    "cafe": "a café at the Ångström straße, crème brûlée",
    "boat": "a red sailing boat, storm at dusk",
    "carpet": "a boat that is red (masterpiece:1.2)",
    "fuji": "富士山の夜景、雪",
    "korean": "빨간 배를 타는 소녀",
    "russian": "Ёлка в СНЕГУ",
    "greek": "ο σοφός ΣΟΦΟΣ",
    "arabic": "قَارِب أحمر",
    "hindi": "लाल नाव",
    "thai": "เรือสีแดง",
    "emoji": "🦊🌲 in the wood",
}


@pytest.fixture
def library(pro_user, make_image):
    return {
        name: make_image(pro_user, generation_fields={"prompt": prompt, "composed_prompt": prompt})
        for name, prompt in PROMPTS.items()
    }


@pytest.fixture
def find(anna, library):
    names = {image.number: name for name, image in library.items()}

    def search(text):
        response = anna.get(GALLERY, {"q": text})
        assert response.status_code == 200
        return {names[image.number] for day in response.context["days"] for image in day["images"]}

    return search


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("boat", {"boat", "carpet"}),
        ("BOAT red", {"boat", "carpet"}),
        ("sail", {"boat"}),  # the beginning of a word
        ("oat", set()),  # but not its middle
        ('"red sailing"', {"boat"}),
        ('"red boat"', set()),  # not side by side
        ('"red sail"', set()),  # a quoted word is whole
        ("“red sailing” dusk", {"boat"}),
        ('"red', {"boat", "carpet"}),  # a quote that is still being typed
        ("cafe angstrom", {"cafe"}),
        ("CAFÉ", {"cafe"}),
        ("cafe\u0301 cre\u0300me", {"cafe"}),  # accents as letters of their own
        ("strasse", {"cafe"}),
        ("brulee", {"cafe"}),
        ("富士", {"fuji"}),
        ("夜景", {"fuji"}),
        ("士富", set()),
        ("소녀", {"korean"}),
        ("елка снегу", {"russian"}),
        ("ЁЛКА", {"russian"}),
        ("σοφος", {"greek"}),
        ("قارب", {"arabic"}),
        ("नाव", {"hindi"}),
        ("สีแดง", {"thai"}),
        ("🦊", {"emoji"}),
        ("masterpiece 1.2", {"carpet"}),
        ("---", set()),
        ("boat ---", {"boat", "carpet"}),
        ("elephant", set()),
    ],
)
def test_words_are_found(find, text, expected):
    assert find(text) == expected


@pytest.mark.parametrize(
    "text", ["'", "''; --", "a:*", "a & b", "!a", "(", "\\", "@1", '"', '""', "<->", "x" * 3000, "%"]
)
def test_no_sign_is_an_operator(find, text):
    assert find(text) is not None


def test_a_title_is_found_and_a_new_one_replaces_it(anna, library, find):
    from generation.services.images import change_images

    change_images(library["boat"].owner, [library["boat"]], title="Kraken rising")
    assert find("kraken") == {"boat"} and find("kraken dusk") == {"boat"}
    assert find('"rising a"') == set(), "no phrase reaches from the title into the prompt"
    change_images(library["boat"].owner, [library["boat"]], title="Calm")
    assert find("kraken") == set() and find("calm") == {"boat"}


def test_only_ones_own_are_found(stranger, library):
    assert stranger.get(GALLERY, {"q": "boat"}).context["count"].number == 0


def test_a_row_that_is_saved_whole_keeps_its_words(library, find):
    image = library["boat"]
    image.model, image.favourite = "", True
    image.save()
    assert find("sailing") == {"boat"}
    image.refresh_from_db()
    assert image.model == "dreamsketch-tiny"

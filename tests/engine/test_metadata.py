"""What a file says about itself, and what is left when its owner wants it silent."""

import io
import struct
import time
import zlib

import pytest
from PIL import Image

from generation.engine.catalog.models import Catalog
from generation.engine.fake import draw
from generation.engine.request.fields import Picture
from generation.engine.request.metadata import (
    SOURCE_TYPE,
    XMP_KEY,
    convert,
    encode_png,
    parse_parameters,
    read_png,
    strip,
)
from generation.engine.request.request import build_request

RECIPE = {"model": "dreamsketch-tiny", "weights": "ab" * 32, "dtype": "fp32", "versions": {"torch": "2.13.0"}}
PROMPTS = {
    "plain": "a red boat",
    "latin": "ein Bär in Köln",
    "emoji": "a 🐱 in 東京, “quoted”, Größe: 5, שלום",
    "lines": "a cat\nSteps: not really\nin two lines",
    "looks like settings": "Steps: 99, Sampler: none",
    "markup": "<script>alert(1)</script> & ]]>",
}


def picture(prompt, negative="grey, dull"):
    request = build_request(
        Catalog().get("dreamsketch-tiny"),
        prompt=prompt,
        negative_prompt=negative,
        seed=7,
        steps=12,
        guidance_scale=5.5,
        sampler="DPM++ 2M Karras",
        aspect_ratio="3:2",
    )
    pixels = draw(request, 7)
    return pixels, encode_png(pixels, request=request, seed=8, recipe=RECIPE)


def metadata_of(**fields):
    request = build_request(Catalog().get("dreamsketch-tiny"), prompt="a boat", seed=7, steps=12, **fields)
    loras = {"loras": [{"key": "ink", "weight": 0.5, "hash": "cd" * 32}]} if fields.get("loras") else {}
    return read_png(encode_png(draw(request, 8), request=request, seed=8, recipe=RECIPE | loras))


def picture_of(size=(256, 256), mode="RGB"):
    return Picture.of(Image.new(mode, size, 200))


@pytest.mark.parametrize(
    ("fields", "parameters", "recipe"),
    [
        ({"image": picture_of(), "strength": 0.4}, {"Denoising strength": "0.4"}, {"mode": "img2img"}),
        (
            {"image": picture_of(), "mask": picture_of(mode="L"), "padding": 16, "fill": "noise", "mask_blur": 8},
            {
                "Denoising strength": "0.75",
                "Mask blur": "8",
                "Masked content": "latent noise",
                "Inpaint area": "Only masked",
                "Masked area padding": "16",
            },
            {"mode": "inpaint"},
        ),
        (
            {"image": picture_of(), "expand": {"left": 64}, "fit": "pad"},
            {"Denoising strength": "1", "Masked content": "fill", "Resize mode": "Resize and fill"},
            {"mode": "outpaint"},
        ),
        (
            {"hires": {"scale": 1.5, "strength": 0.3, "upscaler": "sketch-2x"}},
            {"Denoising strength": "0.3", "Hires upscale": "1.5", "Hires upscaler": "sketch-2x"},
            {"mode": "txt2img"},
        ),
        (
            {"hires": {"scale": 1.5, "strength": 0.3, "steps": 9}},
            {"Denoising strength": "0.3", "Hires upscale": "1.5", "Hires steps": "9", "Hires upscaler": "Latent"},
            {"mode": "txt2img", "hires": {"scale": 1.5, "strength": 0.3, "steps": 9, "upscaler": "latent"}},
        ),
        (
            {"variation": {"seed": 40, "strength": 0.2}},
            {"Variation seed": "41", "Variation seed strength": "0.2"},
            {"variation": {"seed": 40, "strength": 0.2}},
        ),
        ({"clip_skip": 1, "tiling": True}, {"Clip skip": "2", "Tiling": "True"}, {"clip_skip": 1, "tiling": True}),
        ({"loras": ["ink"]}, {"Lora hashes": "ink: cdcdcdcdcdcd"}, {}),
    ],
)
def test_a_png_tells_what_was_asked_for_beyond_words(fields, parameters, recipe):
    metadata = metadata_of(**fields)
    assert metadata["parameters"].items() >= parameters.items()
    assert metadata["recipe"].items() >= recipe.items()
    plain = metadata_of()
    assert set(metadata["parameters"]) - set(plain["parameters"]) == set(parameters) | (
        {"Mask blur"} if metadata["recipe"]["mode"] == "outpaint" else set()
    )


def test_a_png_tells_pictures_by_their_digest_alone():
    picture = picture_of()
    start = metadata_of(image=picture)["recipe"]["start"]
    assert start["image"] == {"width": 256, "height": 256, "digest": picture.digest}


def marked(data):
    """The mark is there in plain bytes, as the tools that look for it will find it."""
    return SOURCE_TYPE.encode() in data


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
def test_a_png_tells_how_it_was_made(prompt):
    pixels, data = picture(prompt)
    metadata = read_png(data)
    assert metadata["machine_made"]
    assert metadata["recipe"] == RECIPE | {
        "version": 1,
        "prompt": prompt,
        "negative_prompt": "grey, dull",
        "width": pixels.width,
        "height": pixels.height,
        "steps": 12,
        "guidance_scale": 5.5,
        "sampler": "DPM++ 2M Karras",
        "seed": 8,
        "mode": "txt2img",
    }
    assert metadata["parameters"] == {
        "Prompt": prompt,
        "Negative prompt": "grey, dull",
        "Steps": "12",
        "Sampler": "DPM++ 2M Karras",
        "CFG scale": "5.5",
        "Seed": "8",
        "Size": f"{pixels.width}x{pixels.height}",
        "Model hash": "ababababab",
        "Model": "dreamsketch-tiny",
        "Version": "DreamSketch",
    }
    assert Image.open(io.BytesIO(data)).tobytes() == pixels.tobytes()


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_strip_takes_the_words_and_leaves_the_mark(format):
    pixels, data = picture(PROMPTS["emoji"])
    bare = strip(data, format, 80)
    image = Image.open(io.BytesIO(bare))
    assert image.format == format.upper() and image.size == pixels.size
    assert marked(bare) and SOURCE_TYPE in str(image.info.get("xmp") or image.info[XMP_KEY])
    # Also as EXIF would hold them, two bytes to a letter, at even and odd places.
    content = bare + b"".join(part.decode("utf-16-be", "ignore").encode() for part in (bare, bare[1:]))
    for word in ("東京".encode(), b"grey", b"DPM++", b"abab", b"dreamsketch", b"parameters"):
        assert word not in content
    if format == "png":
        assert image.tobytes() == pixels.tobytes()
        assert read_png(bare) == {"text": "", "parameters": {}, "recipe": {}, "machine_made": True}


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_convert_keeps_the_words(format):
    _, data = picture(PROMPTS["emoji"])
    kept = convert(data, format)
    image = Image.open(io.BytesIO(kept))
    exif = image.getexif()
    comment = exif.get_ifd(0x8769)[0x9286]
    assert comment.startswith(b"UNICODE\0")
    assert parse_parameters(comment[8:].decode("utf-16-be"))["Prompt"] == PROMPTS["emoji"]
    assert "dreamsketch-tiny" in exif[0x010E]
    assert marked(kept)


def test_convert_leaves_a_png_alone():
    _, data = picture("a cat")
    assert convert(data, "png") is data


def test_the_longest_prompt_fits_into_every_format():
    _, data = picture("🐱" * 2000, "🐶" * 2000)
    assert read_png(data)["recipe"]["prompt"] == "🐱" * 2000
    for format in ("jpeg", "webp"):
        assert Image.open(io.BytesIO(convert(data, format))).size


def test_an_unknown_format_is_refused():
    with pytest.raises(ValueError, match="png, jpeg, webp"):
        strip(picture("a cat")[1], "svg")


def test_what_a1111_writes_is_read():
    text = (
        "masterpiece, (cat:1.2)\nsecond line\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, "
        'CFG scale: 7, Seed: 123, Size: 512x512, Lora hashes: "a: 1, b: 2", Version: v1.10.1'
    )
    assert parse_parameters(text) == {
        "Prompt": "masterpiece, (cat:1.2)\nsecond line",
        "Negative prompt": "blurry",
        "Steps": "20",
        "Sampler": "Euler a",
        "CFG scale": "7",
        "Seed": "123",
        "Size": "512x512",
        "Lora hashes": "a: 1, b: 2",
        "Version": "v1.10.1",
    }


def _chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png(*chunks):
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    pixel = _chunk(b"IDAT", zlib.compress(b"\0\0\0\0"))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixel + _chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"<svg/>",
        picture("a cat")[1][:200],
        _png(_chunk(b"tEXt", b"dreamsketch\0" + b"[" * 100_000)),
        _png(_chunk(b"tEXt", b"dreamsketch\0[1,2]")),
        _png(_chunk(b"tEXt", b"parameters\0" + b"Steps: 1, " + b"a b" * 20_000)),
        _png(_chunk(b"iTXt", b"parameters\0\1\0\0\0" + zlib.compress(b"x" * 80_000_000, 9))),
        _png(_chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"x" * 80_000_000, 9))),
    ],
    ids=range(10),
)
def test_a_strangers_bytes_do_no_harm(data):
    began = time.monotonic()
    metadata = read_png(data)
    assert time.monotonic() - began < 2
    assert metadata["recipe"] == {} and not metadata["machine_made"]

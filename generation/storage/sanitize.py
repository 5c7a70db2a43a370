"""Sanitizer for untrusted pictures: fresh pixels in a plain PNG, nothing else of the file kept.

Run as a program of its own, so that a file that makes a decoder run wild costs one short-lived process:

    python -I sanitize.py picture|mask|alpha MAX_PIXELS PNG,JPEG,WEBP NICENESS < file > clean.png

Exit 3: refused, with one line of JSON on standard error ({"kind", "message"}). No Django and no package of ours here.
`picture` gives RGB, upright, in sRGB, on white where it is transparent. `mask` gives grey (white = change), on black.
`alpha` is a mask whose transparent part is what changes.
"""

import contextlib
import io
import json
import os
import resource
import sys

from PIL import Image, ImageCms, UnidentifiedImageError

MEMORY_BYTES = 512 * 2**20
"""Of address space; a picture of 16 megapixels takes about 250 MiB."""
DECODE_SECONDS, CPU_SECONDS = 2, 6
"""Of processor time until the pixels are there, which takes half a second for the largest photograph, and in all: what
comes after that depends on the number of pixels only. The process is killed after it."""
MAX_PARTS = 2000
"""Chunks of a PNG, or segments before the pixels of a JPEG: a photograph has some dozens, each costs a few lines."""
MAX_SCANS = 64
"""Of a progressive JPEG, each of which goes over all pixels: encoders write about ten, and a few for a thumbnail."""
PNG_HEAD, JPEG_HEAD = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
WITHOUT_LENGTH = {0x01, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)}
"""Markers of a JPEG that Pillow reads nothing after."""
MIN_SIDE, MAX_RATIO = 8, 8
ORIENTATION = 0x0112
"""The EXIF tag."""
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
NO_TRANSPARENCY = (
    "This mask has no transparent part. Save it as a PNG that is transparent where the picture should change."
)


class Refused(Exception):
    """`kind`: `unsupported` (not a format that is taken) or `bad`."""

    def __init__(self, message: str, kind: str = "bad"):
        super().__init__(message)
        self.kind = kind


def sanitize(data: bytes, kind: str, max_pixels: int, formats: list[str]) -> Image.Image:
    """The pixels of `data`: RGB for `picture`, L for `mask` and `alpha`. Raises Refused."""
    refuse_many_parts(data)
    image = _open(data, max_pixels, formats)
    try:
        image.load()
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
    except (OSError, ValueError, SyntaxError, IndexError) as error:
        raise Refused("This picture is damaged.") from error
    profile = image.info.get("icc_profile")
    image = _in_common_mode(_upright(image))
    if kind == "alpha":
        pixels = _mask_from_alpha(image)
    elif kind == "mask":
        pixels = _flattened(image, 0).convert("L")
    else:
        pixels = _flattened(_in_srgb(image, profile), 255).convert("RGB")
    pixels.info.clear()  # what is left here would be written into the new file
    return pixels


def refuse_many_parts(data: bytes) -> None:
    """Raise Refused for a file of so many parts that to walk or decode them takes long, whatever its size."""
    if data.startswith(PNG_HEAD):
        too_many = _has_more_chunks(data)
    elif data.startswith(JPEG_HEAD):
        # Within pixels an FF is always followed by 00, so this finds scans and those of thumbnails only.
        too_many = data.count(b"\xff\xda") > MAX_SCANS or _has_more_segments(data)
    else:
        return
    if too_many:
        raise Refused("This picture is made of too many parts. Save it anew in an ordinary way.")


def _has_more_chunks(png: bytes) -> bool:
    position = len(PNG_HEAD)
    for _ in range(MAX_PARTS):
        if position + 8 > len(png):
            return False
        position += 12 + int.from_bytes(png[position : position + 4])
    return True


def _has_more_segments(jpeg: bytes) -> bool:
    """Whether there are more than MAX_PARTS before the first scan, filling bytes included."""
    position = len(JPEG_HEAD)
    for _ in range(MAX_PARTS):
        marker = jpeg[position : position + 2]
        if len(marker) < 2 or marker == b"\xff\xda":
            return False
        if marker[0] != 0xFF or marker[1] in (0x00, 0xFF):
            position += 1  # Pillow passes over what is no marker, byte by byte
        elif marker[1] in WITHOUT_LENGTH:
            position += 2
        else:
            position += 2 + max(2, int.from_bytes(jpeg[position + 2 : position + 4]))
    return True


def _open(data: bytes, max_pixels: int, formats: list[str]) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=formats)
    except UnidentifiedImageError:
        names = ", ".join(formats)
        raise Refused(f"This is not a picture that can be read. Send one of: {names}.", "unsupported") from None
    except Image.DecompressionBombError:
        raise Refused(_too_many(max_pixels)) from None
    except (OSError, ValueError, SyntaxError) as error:
        raise Refused("This picture is damaged.") from error
    if image.width * image.height > max_pixels:
        raise Refused(_too_many(max_pixels))
    if min(image.size) < MIN_SIDE:
        raise Refused(f"This picture is too small: it needs {MIN_SIDE} pixels a side.")
    if max(image.size) > MAX_RATIO * min(image.size):
        raise Refused(f"This picture is too long: one side may be {MAX_RATIO} times the other.")
    # Phones put a second picture behind their JPEGs (MPO); the first is the photograph.
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise Refused("This picture moves. Send one with a single frame.")
    return image


def _too_many(max_pixels: int) -> str:
    return f"This picture has more than {max_pixels // 2**20} megapixels."


def _upright(image: Image.Image) -> Image.Image:
    """As the camera meant it. A broken note about that counts as none."""
    rotation = None
    with contextlib.suppress(Exception):
        rotation = UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
    return image if rotation is None else image.transpose(rotation)


def _in_common_mode(image: Image.Image) -> Image.Image:
    """In one of the modes RGB, RGBA, L, LA and CMYK."""
    if image.mode.startswith("I"):
        # Sixteen bits; Pillow's own conversion would cut off all that is brighter than 255.
        return image.point(lambda value: value * (1 / 257)).convert("L")
    if image.mode in ("L", "RGB") and "transparency" in image.info:
        return image.convert("RGBA")
    if image.mode in ("RGB", "RGBA", "L", "LA", "CMYK"):
        return image
    if image.mode == "1":
        return image.convert("L")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """With its colours converted, where the file says what they mean and that can be understood."""
    if not profile or image.mode == "LA":
        return image
    with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError):
        converted = ImageCms.profileToProfile(
            image,
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            outputMode="RGBA" if image.mode == "RGBA" else "RGB",
        )
        return converted or image
    return image


def _flattened(image: Image.Image, shade: int) -> Image.Image:
    """Without transparency, on an even ground of grey `shade` (0…255)."""
    if image.mode not in ("RGBA", "LA"):
        return image
    ground = Image.new(image.mode.removesuffix("A"), image.size, shade if image.mode == "LA" else (shade,) * 3)
    ground.paste(image, mask=image.getchannel("A"))
    return ground


def _mask_from_alpha(image: Image.Image) -> Image.Image:
    if image.mode not in ("RGBA", "LA"):
        raise Refused(NO_TRANSPARENCY)
    alpha = image.getchannel("A")
    if alpha.getextrema()[0] == 255:
        raise Refused(NO_TRANSPARENCY)
    return alpha.point(lambda value: 255 - value)


def main(kind: str, max_pixels: str, formats: str, niceness: str) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    # The kernel names the first of the two when it ends the process.
    resource.setrlimit(resource.RLIMIT_CPU, (DECODE_SECONDS, CPU_SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
    os.nice(int(niceness))
    try:
        pixels = sanitize(sys.stdin.buffer.read(), kind, int(max_pixels), formats.split(","))
    except Refused as refusal:
        print(json.dumps({"kind": refusal.kind, "message": str(refusal)}), file=sys.stderr)
        return 3
    # Run lengths alone: for photographs as small as the default and twice as quick.
    pixels.save(sys.stdout.buffer, "PNG", compress_level=1, compress_type=3)
    return 0


if __name__ == "__main__":
    # Larger pictures are refused by their size, in words; Pillow's own warning would come first.
    Image.MAX_IMAGE_PIXELS = None
    sys.exit(main(*sys.argv[1:]))

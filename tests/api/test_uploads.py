"""Pictures from strangers: what is taken, what becomes of it, and what is refused without a trace."""

import base64
import io
import struct
import time
import zlib
from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone
from PIL import Image, ImageCms, PngImagePlugin

from accounts.refusals import Refusal
from generation import refusals
from generation.engine.errors import InvalidRequest
from generation.models import Upload
from generation.operations.pruning import prune
from generation.storage import sanitize, sanitizing, uploads

pytestmark = pytest.mark.django_db

RED = (200, 60, 40)


def encoded(image, format="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def picture(size=(40, 24), colour=RED, mode="RGB") -> Image.Image:
    return Image.new(mode, size, colour)


def half_and_half(mode="RGB", left=(255, 0, 0), right=(0, 0, 255)) -> Image.Image:
    """40 × 20, left and right of different colours."""
    image = Image.new(mode, (40, 20), left)
    image.paste(right, (20, 0, 40, 20))
    return image


@pytest.fixture
def stored(media_folder):
    """The kept file of an upload, as bytes."""
    return lambda upload: (media_folder / upload.file).read_bytes()


@pytest.fixture
def pixels(stored):
    return lambda upload: Image.open(io.BytesIO(stored(upload)))


@pytest.fixture
def nothing_kept(media_folder):
    def check():
        assert not Upload.objects.exists()
        assert not [path for path in media_folder.rglob("*") if path.is_file()]

    return check


def chunks(png: bytes) -> list[bytes]:
    kinds, at = [], 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kinds.append(png[at + 4 : at + 8])
        at += 12 + length
    return kinds


# --- how pictures come ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_the_three_formats(format, free_user, pixels):
    upload = uploads.store_upload(free_user, encoded(picture(), format), param="image")
    image = pixels(upload)
    assert (image.format, image.mode, image.size) == ("PNG", "RGB", (40, 24))
    assert (upload.width, upload.height, upload.owner) == (40, 24, free_user)
    assert all(abs(a - b) < 6 for a, b in zip(image.getpixel((20, 12)), RED, strict=True))
    day = timezone.now()
    assert upload.file == f"uploads/{day:%Y/%m}/{upload.pk}.png"
    assert timedelta(hours=23) < upload.expires_at - day < timedelta(hours=25)


def test_the_ways_to_give_one(free_user, stored):
    data = encoded(picture())
    plain = base64.b64encode(data).decode()
    ways = [
        SimpleUploadedFile("../../etc/passwd.png", data, "text/html"),
        plain,
        plain.rstrip("="),
        f"data:image/png;base64,{plain}",
        f"DATA:;charset=x;base64,{plain}",
        "\n".join(plain),
        base64.urlsafe_b64encode(data).decode(),
    ]
    uploaded = {uploads.read_picture(free_user, way, "image").pk for way in ways}
    assert len(uploaded) == 1, "the same picture is kept once"
    (known,) = uploaded
    assert uploads.read_picture(free_user, str(known), "image").pk == known


def test_an_image_of_the_gallery_by_its_id(free_user, other_user, make_image, stored):
    own = make_image(free_user)
    upload = uploads.read_picture(free_user, str(own.id), "image")
    assert (upload.width, upload.height) == (own.width, own.height)
    assert set(chunks(stored(upload))) == {b"IHDR", b"IDAT", b"IEND"}, "its prompt does not come along"
    with pytest.raises(InvalidRequest) as theirs:
        uploads.read_picture(other_user, str(own.id), "image")
    with pytest.raises(InvalidRequest) as nobodys:
        uploads.read_picture(other_user, "81faf426-0697-4d8f-b82f-649261b8ecfc", "image")
    assert str(theirs.value) == str(nobodys.value)
    published = make_image(free_user, visibility="public")
    assert uploads.read_picture(other_user, str(published.id), "image").owner == other_user


def test_nobody_draws_from_anothers_upload(free_user, other_user):
    upload = uploads.store_upload(free_user, encoded(picture()), param="image")
    with pytest.raises(InvalidRequest):
        uploads.read_picture(other_user, str(upload.pk), "image")
    same = uploads.store_upload(other_user, encoded(picture()), param="image")
    assert same.pk != upload.pk and same.file != upload.file


# --- what becomes of them -----------------------------------------------------------------------------------------


def test_nothing_but_pixels_is_kept(free_user, stored):
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a secret prompt")
    info.add_itxt("XML:com.adobe.xmp", "<x>secret</x>")
    exif = Image.Exif()
    exif[0x010E], exif[0x9286] = "secret", "secret"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for data in (
        encoded(picture(), "PNG", pnginfo=info, exif=exif, icc_profile=profile, dpi=(72, 72)) + b"<script>secret",
        encoded(picture(), "JPEG", exif=exif, icc_profile=profile, comment=b"secret"),
        encoded(picture(), "WEBP", exif=exif, icc_profile=profile, xmp=b"secret"),
    ):
        kept = stored(uploads.store_upload(free_user, data, param="image"))
        assert set(chunks(kept)) == {b"IHDR", b"IDAT", b"IEND"}
        assert b"secret" not in kept


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_stand_upright(orientation, free_user, pixels):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    image = half_and_half()
    image.paste((0, 255, 0), (0, 10, 40, 20))
    data = encoded(image, "PNG", exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    stored_image = pixels(uploads.store_upload(free_user, data, param="image"))
    assert stored_image.size == expected.size and stored_image.tobytes() == expected.convert("RGB").tobytes()


def test_a_broken_note_about_orientation_turns_nothing(free_user, pixels):
    data = encoded(half_and_half(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff", quality=95)
    assert pixels(uploads.store_upload(free_user, data, param="image")).size == (40, 20)


def test_colours_come_out_in_srgb(free_user, pixels):
    """A profile whose red and blue are swapped, so that a picture that is left alone shows it."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = {bytes(profile[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(profile[131])}
    red, blue = tags[b"rXYZ"], tags[b"bXYZ"]
    profile[red + 4 : red + 12], profile[blue + 4 : blue + 12] = (
        profile[blue + 4 : blue + 12],
        profile[red + 4 : red + 12],
    )
    data = encoded(picture(colour=(255, 0, 0)), icc_profile=bytes(profile))
    r, _, b = pixels(uploads.store_upload(free_user, data, param="image")).getpixel((5, 5))
    assert b > 200 > 60 > r
    nonsense = encoded(picture(), icc_profile=b"no profile at all")
    assert pixels(uploads.store_upload(free_user, nonsense, param="image")).getpixel((5, 5)) == RED


@pytest.mark.parametrize(
    ("image", "format", "left", "right"),
    [
        (half_and_half("L", 0, 200), "PNG", (0, 0, 0), (200, 200, 200)),
        (half_and_half("1", 0, 1), "PNG", (0, 0, 0), (255, 255, 255)),
        (half_and_half("P", 0, 255).convert("P"), "PNG", None, None),
        (half_and_half("I;16", 0, 65535), "PNG", (0, 0, 0), (255, 255, 255)),
        (half_and_half("RGBA", (255, 0, 0, 255), (0, 0, 255, 0)), "PNG", (255, 0, 0), (255, 255, 255)),
        (half_and_half("LA", (0, 255), (9, 0)), "PNG", (0, 0, 0), (255, 255, 255)),
        (half_and_half("RGBA", (255, 0, 0, 255), (0, 0, 255, 0)).convert("P"), "PNG", (255, 0, 0), None),
        (half_and_half("CMYK", (0, 0, 0, 0), (0, 0, 0, 255)), "JPEG", (255, 255, 255), (0, 0, 0)),
    ],
    ids=["grey", "bits", "palette", "16bit", "rgba", "grey-alpha", "palette-alpha", "cmyk"],
)
def test_modes_of_pictures(image, format, left, right, free_user, pixels):
    stored_image = pixels(uploads.store_upload(free_user, encoded(image, format), param="image"))
    assert stored_image.mode == "RGB"
    for expected, place in ((left, (4, 4)), (right, (36, 4))):
        assert (
            expected is None or max(abs(a - b) for a, b in zip(stored_image.getpixel(place), expected, strict=True)) < 5
        )


def test_masks(free_user, pixels):
    white_right = encoded(half_and_half("RGB", (0, 0, 0), (255, 255, 255)))
    stored_mask = pixels(uploads.store_upload(free_user, white_right, param="mask", mask=True))
    assert (stored_mask.mode, stored_mask.getpixel((4, 4)), stored_mask.getpixel((36, 4))) == ("L", 0, 255)
    drawn = encoded(half_and_half("RGBA", (255, 255, 255, 0), (255, 255, 255, 255)))
    stored_mask = pixels(uploads.store_upload(free_user, drawn, param="mask", mask=True))
    assert (stored_mask.getpixel((4, 4)), stored_mask.getpixel((36, 4))) == (0, 255), (
        "what is not drawn on is not changed"
    )


def test_masks_whose_transparent_part_changes(free_user, pixels):
    clear_right = encoded(half_and_half("RGBA", (9, 9, 9, 255), (9, 9, 9, 0)))
    stored_mask = pixels(uploads.store_upload(free_user, clear_right, param="mask", mask="alpha"))
    assert (stored_mask.mode, stored_mask.getpixel((4, 4)), stored_mask.getpixel((36, 4))) == ("L", 0, 255)
    for opaque in (picture(), half_and_half("RGBA", (9, 9, 9, 255), (0, 0, 0, 255))):
        with pytest.raises(InvalidRequest, match="transparent"):
            uploads.store_upload(free_user, encoded(opaque), param="mask", mask="alpha")


def test_the_first_of_a_phones_two_pictures(free_user, pixels):
    data = encoded(picture(), "MPO", save_all=True, append_images=[picture(colour=(0, 0, 255))])
    assert pixels(uploads.store_upload(free_user, data, param="image")).getpixel((5, 5))[0] > 150


# --- what is refused ------------------------------------------------------------------------------------------------


def png_of_size(width, height) -> bytes:
    """A PNG that says it is that large and holds nothing."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def text_bomb() -> bytes:
    data = encoded(picture())
    zeros = zlib.compress(b"x" * 100_000_000, 9)
    body = b"zTXt" + b"a\0\0" + zeros
    return data[:33] + struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) + data[33:]


BAD = {
    "truncated": encoded(Image.effect_noise((400, 400), 50))[:3000],
    "damaged": encoded(Image.effect_noise((400, 400), 50), "JPEG")[:2000],
    "bomb": png_of_size(100_000, 100_000),
    "empty pixels": png_of_size(1000, 1000),
    "too many pixels": encoded(Image.new("1", (4097, 4097))),
    "huge side": png_of_size(2**31 - 1, 1),
    "too long": encoded(picture((900, 100))),
    "too small": encoded(picture((7, 7))),
    "moving": encoded(picture(), "WEBP", save_all=True, append_images=[picture(colour=(0, 0, 0))], duration=100),
    "moving png": encoded(picture(), "PNG", save_all=True, append_images=[picture(colour=(0, 0, 0))]),
    "text bomb": text_bomb(),
}
UNSUPPORTED = {
    "empty": b"",
    "text": b"hello",
    "html": b"<html><script>alert(1)</script></html>",
    "zip": b"PK\3\4" + b"\0" * 100,
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>',
    "gif": encoded(picture(), "GIF"),
    "bmp": encoded(picture(), "BMP"),
    "tiff": encoded(picture(), "TIFF"),
    "ico": encoded(picture((32, 32)), "ICO"),
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n",
    "pdf": b"%PDF-1.4",
    "avif": encoded(picture(), "AVIF"),
    "no side": png_of_size(0, 10),
    "head only": b"\x89PNG\r\n\x1a\n",
}


@pytest.mark.parametrize("name", BAD)
def test_bad_pictures(name, free_user, nothing_kept):
    with pytest.raises(InvalidRequest) as refusal:
        uploads.store_upload(free_user, BAD[name], param="image")
    assert refusal.value.param == "image" and str(refusal.value).endswith(".")
    nothing_kept()


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_is_no_picture_of_ours(name, free_user, nothing_kept):
    with pytest.raises(refusals.UnsupportedPicture) as refusal:
        uploads.store_upload(free_user, UNSUPPORTED[name], param="image")
    assert refusal.value.param == "image"
    nothing_kept()


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "   ",
        7,
        True,
        [],
        {},
        ["x"],
        b"bytes",
        "not base64 at all!",
        "AAAA",
        "data:image/png;base64,",
        "é" * 9,
        "data:text/html,<b>",
        "http://169.254.169.254/latest",
        "https://example.com/cat.png",
        "file:///etc/passwd",
        "../../etc/passwd",
        "\x00",
        "x" * 1000,
        "81faf426-0697-4d8f-b82f-649261b8ecfc",
        "0" * 36,
        "{" * 36,
    ],
)
def test_values_that_are_no_picture(value, free_user, nothing_kept):
    with pytest.raises((InvalidRequest, Refusal)) as refusal:
        uploads.read_picture(free_user, value, "control")
    assert refusal.value.param == "control"
    nothing_kept()


def test_too_many_bytes(free_user, settings, nothing_kept):
    settings.MAX_IMAGE_FILE_SIZE = 2000
    large = encoded(Image.effect_noise((100, 100), 90))
    assert len(large) > 3000
    for value in (SimpleUploadedFile("x.png", large), base64.b64encode(large).decode()):
        with pytest.raises(refusals.PictureTooLarge):
            uploads.read_picture(free_user, value, "image")
    nothing_kept()


def test_a_format_that_the_site_does_not_want(free_user, settings):
    settings.ALLOWED_IMAGE_FORMATS = ["PNG"]
    with pytest.raises(refusals.UnsupportedPicture, match="PNG"):
        uploads.store_upload(free_user, encoded(picture(), "JPEG"), param="image")


def test_the_largest_picture_takes_little_memory(tmp_path):
    """The promise of U1: below 300 MiB, decoder and all."""
    import subprocess
    import sys

    source = tmp_path / "large.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.linear_gradient("L").resize((4096, 4096)).convert("RGB").save(source, exif=exif, icc_profile=profile)
    # Through a small process in between: a process counts what its parent used when it was started.
    measure = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
        " print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    program = [sys.executable, "-I", str(sanitizing.PROGRAM), "picture", str(sanitizing.MAX_PIXELS), "JPEG", "0"]
    with source.open("rb") as data:
        measured = subprocess.run(
            [sys.executable, "-c", measure, *program], stdin=data, capture_output=True, check=True
        )
    assert int(measured.stdout) / 1024 < 300


# --- slow ones -------------------------------------------------------------------------------------------------------


def many_scans(count: int, side: int = 4000) -> bytes:
    """A progressive JPEG whose last scan, over all pixels, comes again and again."""
    head, _, last = encoded(picture((side, side), 90, "L"), "JPEG", progressive=True).rpartition(b"\xff\xda")
    return head + (b"\xff\xda" + last.removesuffix(b"\xff\xd9")) * count + b"\xff\xd9"


def many_chunks(count: int) -> bytes:
    png = encoded(picture())
    chunk = struct.pack(">I", 0) + b"teSt" + struct.pack(">I", zlib.crc32(b"teSt"))
    return png[:33] + chunk * count + png[33:]


def many_segments(count: int, segment: bytes) -> bytes:
    jpeg = encoded(picture(), "JPEG")
    return jpeg[:2] + segment * count + jpeg[2:]


SLOW = {
    "scans": lambda: many_scans(6000),
    "chunks": lambda: many_chunks(860_000),
    "segments": lambda: many_segments(2_000_000, b"\xff\xe5\x00\x02"),
    "markers": lambda: many_segments(4_000_000, b"\xff\xd8"),
    "filling": lambda: many_segments(8_000_000, b"\xff"),
}


@pytest.mark.parametrize("kind", SLOW)
def test_a_picture_of_too_many_parts_is_refused_before_it_is_decoded(kind, free_user, nothing_kept):
    data = SLOW[kind]()
    began = time.monotonic()
    with pytest.raises(InvalidRequest, match="too many parts"):
        uploads.store_upload(free_user, data, param="image")
    seconds, began = time.monotonic() - began, time.process_time()
    with pytest.raises(sanitize.Refused):
        sanitize.refuse_many_parts(data)
    counting = time.process_time() - began
    print(f"{kind}: {len(data) / 1e6:.1f} MB refused in {seconds:.2f} s, {counting:.4f} s of it to count")
    assert counting < 0.1
    nothing_kept()


@pytest.mark.parametrize("count", [1, sanitize.MAX_SCANS - 12])
def test_as_many_scans_as_encoders_write_are_taken(count, free_user):
    assert uploads.store_upload(free_user, many_scans(count, 400), param="image").width == 400


def test_an_account_waits_for_itself_only(free_user, other_user, monkeypatch):
    monkeypatch.setattr(sanitizing, "WAIT_SECONDS", 0.2)
    with sanitizing._places.place_of(free_user.pk, "image"):
        assert uploads.store_upload(other_user, encoded(picture()), param="image")
        with pytest.raises(refusals.TooManyUploads) as refusal:
            uploads.store_upload(free_user, encoded(picture()), param="image")
    assert refusal.value.retry_after and refusal.value.param == "image"
    assert uploads.store_upload(free_user, encoded(picture()), param="image")


def test_refused_pictures_are_counted(free_user, other_user, monkeypatch):
    monkeypatch.setattr(sanitizing, "REFUSED_PER_HOUR", 2)
    for _ in range(2):
        with pytest.raises(Refusal):
            uploads.store_upload(free_user, b"no picture at all, but long enough", param="image")
    with pytest.raises(refusals.TooManyUploads) as refusal:
        uploads.store_upload(free_user, encoded(picture()), param="image")
    assert refusal.value.retry_after == 3600
    assert uploads.store_upload(other_user, encoded(picture()), param="image")


# --- how many, how long ---------------------------------------------------------------------------------------------


def test_an_accounts_room_is_limited(free_user, other_user, settings, media_folder):
    settings.UPLOAD_MEGABYTES = 1
    noise = [encoded(Image.effect_noise((700, 700), 200 + i)) for i in range(4)]
    with pytest.raises(refusals.TooManyUploads) as refusal:
        for data in noise:
            uploads.store_upload(free_user, data, param="image")
    assert refusal.value.retry_after
    assert len(list(media_folder.rglob("*.png"))) == Upload.objects.count() < 4
    uploads.store_upload(other_user, noise[0], param="image")


def test_so_many_an_hour(free_user, settings):
    settings.UPLOADS_PER_HOUR = 2
    for shade in (1, 2):
        uploads.store_upload(free_user, encoded(picture(colour=(shade, 0, 0))), param="image")
    with pytest.raises(refusals.TooManyUploads):
        uploads.store_upload(free_user, encoded(picture(colour=(3, 0, 0))), param="image")
    Upload.objects.update(created_at=timezone.now() - timedelta(hours=2))
    uploads.store_upload(free_user, encoded(picture(colour=(3, 0, 0))), param="image")


def test_a_full_disk(free_user, monkeypatch, nothing_kept):
    from generation.storage import files

    def full(name, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_file", full)
    with pytest.raises(refusals.StorageAway):
        uploads.store_upload(free_user, encoded(picture()), param="image")
    nothing_kept()


def test_a_refusal_leaves_nothing_behind(free_user, nothing_kept, media_folder):
    with pytest.raises(ValueError), uploads.undone_on_refusal():
        uploads.store_upload(free_user, encoded(picture()), param="image")
        raise ValueError
    nothing_kept()
    with uploads.undone_on_refusal():
        before = uploads.store_upload(free_user, encoded(picture()), param="image")
    with pytest.raises(ValueError), uploads.undone_on_refusal():
        uploads.store_upload(free_user, encoded(picture()), param="image")
        raise ValueError
    assert Upload.objects.get().pk == before.pk and (media_folder / before.file).exists()


@pytest.mark.django_db(transaction=True)
def test_old_uploads_are_pruned(free_user, media_folder):
    old, young = (uploads.store_upload(free_user, encoded(picture(colour=(i, 0, 0))), param="image") for i in (1, 2))
    Upload.objects.filter(pk=old.pk).update(expires_at=timezone.now() - timedelta(minutes=1))
    with pytest.raises(InvalidRequest):
        uploads.read_picture(free_user, str(old.pk), "image")
    assert prune(dry_run=True)["uploads past their time"] == 1
    assert (media_folder / old.file).exists()
    assert prune()["uploads past their time"] == 1
    assert Upload.objects.get().pk == young.pk
    assert not (media_folder / old.file).exists() and (media_folder / young.file).exists()

"""manage.py generate "a red boat at sea": draw a picture from the shell, without a server or an account.

Every field of a request is an option, as the table of fields has it.
"""

import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError
from PIL import Image

from accounts.refusals import Refusal
from generation.catalog import addons
from generation.engine.errors import EngineError
from generation.engine.request.fields import Picture
from generation.engine.request.metadata import encode_png, read_png, settings_of
from generation.engine.request.schema import Field, Kind
from generation.fields import FIELDS, HIRES_FIELDS, SCALARS, VISIBILITY
from generation.prompts.lora_keywords import matched_rules
from generation.queue.worker import configured_engine
from generation.services.resolve import ResolvedRequest, resolve_request

TYPES = {Kind.INTEGER: int, Kind.NUMBER: float}
SHORT = {"guidance_scale": "--guidance"}
"""Other names of options."""
PICTURES = [field for field in FIELDS.values() if field.kind is Kind.PICTURE]
LEFT_OUT = ("prompt", VISIBILITY.name, "num_images")
"""Fields that are an argument, or mean nothing here."""


class Command(BaseCommand):
    help = "Draw a picture and save it as PNG."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("prompt", nargs="?", help="may be left out with --like")
        for field in (*SCALARS.values(), *HIRES_FIELDS.values()):
            if field.name not in LEFT_OUT:
                add_option(parser, field)
        for field in PICTURES:
            parser.add_argument(option_name(field), type=Path, metavar="FILE", help=field.label)
        parser.add_argument("--expand", type=int, metavar="PIXELS", help="outpainting: at all sides")
        parser.add_argument(
            "--lora",
            action="append",
            default=[],
            metavar="KEY[:WEIGHT]",
            help="an installed LoRA, as <lora:KEY:WEIGHT> in the prompt; may be repeated",
        )
        parser.add_argument("--size", help="WIDTHxHEIGHT, for example 256x256")
        parser.add_argument("--like", type=Path, metavar="FILE", help="draw what this PNG says of itself; options win")
        parser.add_argument("--out", type=Path, default=Path("dreamsketch.png"), metavar="FILE")

    def handle(self, *, out: Path, **options: Any) -> None:
        try:
            request = self.resolve(options).composed
        except (EngineError, Refusal) as error:
            field = f"{error.param}: " if getattr(error, "param", "") else ""
            raise CommandError(f"{field}{error}") from error
        engine = configured_engine()
        engine.start()
        started = time.monotonic()
        try:
            image = engine.submit(request, on_progress=self.show).result()[0]
        except EngineError as error:
            raise CommandError(str(error)) from error
        finally:
            engine.stop()
        out.write_bytes(encode_png(image.pixels, request=request, seed=image.seed, recipe=image.recipe))
        if sys.stderr.isatty():
            self.stderr.write("")
        self.stdout.write(
            f"{out}: {image.pixels.width}×{image.pixels.height}, seed {image.seed}, {time.monotonic() - started:.1f} s"
        )

    def resolve(self, options: dict[str, Any]) -> ResolvedRequest:
        """As `services.create_generation` does, but for limits, which nobody has here."""
        keywords = keywords_of(options)
        if not keywords.get("prompt"):
            raise CommandError('Describe the picture: manage.py generate "a red boat at sea".')
        return resolve_request(**keywords, rules=self.rules)

    def rules(self, prompt, spec):
        """What keyword rules bring along. A picture needs no database, and is drawn without them where it is away."""
        if not addons().loras:
            return []
        try:
            return matched_rules(prompt, spec)
        except DatabaseError:
            self.stderr.write("Keyword rules for LoRAs are left out: the database cannot be asked.")
            return []

    def show(self, progress) -> None:
        if sys.stderr.isatty():
            self.stderr.write(f"\r{progress.phase} {progress.step}/{progress.steps} ", ending="")
            self.stderr.flush()


def add_option(parser: ArgumentParser, field: Field) -> None:
    """One option for a word, number or truth."""
    names = [option_name(field)] + ([SHORT[field.name]] if field.name in SHORT else [])
    about = field.help.replace("%", "%%") or field.label
    if field.kind is Kind.BOOLEAN:
        parser.add_argument(*names, dest=field.name, action="store_true", default=None, help=about)
        return
    choices = None if callable(field.choices) or field.name == "style" else field.choices or None
    parser.add_argument(*names, dest=field.name, type=TYPES.get(field.kind, str), choices=choices, help=about)


def option_name(field: Field) -> str:
    return f"--{field.name.replace('_', '-')}"


def keywords_of(options: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments of `resolve_request`: those of the picture to resemble, and over them the options."""
    keywords = {name: value for name in SCALARS if (value := options.get(name)) is not None}
    hires = {field.attribute: options[field.name] for field in HIRES_FIELDS.values() if options[field.name] is not None}
    keywords |= {"hires": hires} if hires else {}
    keywords |= {field.attribute: picture(options[field.name], field) for field in PICTURES if options[field.name]}
    keywords |= {"expand": options["expand"]} if options["expand"] else {}
    keywords |= {"loras": [lora(text) for text in options["lora"]]} if options["lora"] else {}
    keywords |= size(options["size"])
    return settings_like(options["like"]) | keywords if options["like"] else keywords


def settings_like(file: Path) -> dict[str, Any]:
    """What a PNG of ours, or of A1111, says of itself."""
    try:
        settings = settings_of(read_png(file.read_bytes()))
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror or error}") from error
    if not settings:
        raise CommandError(f"{file} says nothing of how it was drawn.")
    return settings


def picture(file: Path, field: Field) -> Picture:
    """The pixels of a file: RGB, or L for a mask."""
    try:
        with Image.open(file) as opened:
            return Picture.of(opened.convert("L" if field.name == "mask" else "RGB"))
    except (OSError, Image.DecompressionBombError) as error:
        raise CommandError(f"{file} is no picture that can be read: {error}") from error


def lora(text: str) -> dict[str, Any]:
    """What `build_request` takes, of "ink" or "ink:0.8"."""
    key, colon, weight = text.partition(":")
    try:
        return {"key": key.strip(), "weight": float(weight)} if colon else {"key": key.strip()}
    except ValueError:
        raise CommandError("A LoRA looks like ink or ink:0.8.") from None


def size(text: str | None) -> dict[str, int]:
    """Width and height of "256x256"; nothing of nothing."""
    if not text:
        return {}
    try:
        width, height = text.lower().split("x")
        return {"width": int(width), "height": int(height)}
    except ValueError:
        raise CommandError("A size looks like 256x256.") from None

"""manage.py generate "a red boat at sea": the main job from the shell, without a server or an account."""

import sys
import time
from pathlib import Path

from django.core.management.base import BaseCommand, CommandError

from accounts.refusals import Refusal
from generation import moderation
from generation.engine.errors import EngineError
from generation.engine.metadata import encode_png
from generation.engine.request import build_request
from generation.offered import model_named
from generation.styles import find_style


class Command(BaseCommand):
    help = "Draw a picture and save it as PNG."

    def add_arguments(self, parser):
        parser.add_argument("prompt")
        parser.add_argument("--negative-prompt", default="")
        parser.add_argument("--model", help="default: the site's default model")
        parser.add_argument("--style", default="")
        parser.add_argument("--steps", type=int)
        parser.add_argument("--guidance", type=float)
        parser.add_argument("--sampler")
        parser.add_argument("--seed", type=int)
        parser.add_argument("--size", help="WIDTHxHEIGHT, for example 256x256")
        parser.add_argument("--out", type=Path, default=Path("dreamsketch.png"), metavar="FILE")

    def handle(self, *, prompt, out, **options):
        from generation.worker import configured_engine

        try:
            request = self.request(prompt, options)
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
        self.stdout.write(f"{out}: {image.pixels.width}×{image.pixels.height}, seed {image.seed}, "
                          f"{time.monotonic() - started:.1f} s")

    @staticmethod
    def request(prompt, options):
        spec = model_named(options["model"])
        width, height = size(options["size"])
        request_prompt, negative = prompt, options["negative_prompt"]
        moderation.check_prompt(request_prompt, param="prompt")
        moderation.check_prompt(negative, param="negative_prompt")
        style = find_style(options["style"])
        if style and request_prompt.strip():
            request_prompt, negative = style.compose(request_prompt, negative)
        return build_request(spec, prompt=request_prompt, negative_prompt=negative, width=width, height=height,
                             steps=options["steps"], guidance_scale=options["guidance"],
                             sampler=options["sampler"], seed=options["seed"])

    def show(self, progress) -> None:
        if sys.stderr.isatty():
            self.stderr.write(f"\r{progress.phase} {progress.step}/{progress.steps} ", ending="")
            self.stderr.flush()


def size(text):
    """(width, height) of "256x256", or (None, None) for nothing."""
    if not text:
        return None, None
    try:
        width, height = text.lower().split("x")
        return int(width), int(height)
    except ValueError:
        raise CommandError("A size looks like 256x256.") from None

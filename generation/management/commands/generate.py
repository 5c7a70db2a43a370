"""manage.py generate "a red boat at sea": the main job from the shell, without a server or an account."""

import sys
import time
from dataclasses import replace
from pathlib import Path

from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError

from accounts.refusals import Refusal
from generation.catalog import addons, model_named
from generation.engine.errors import EngineError
from generation.engine.request.complete import complete_request
from generation.engine.request.metadata import encode_png
from generation.engine.request.options import QUALITIES
from generation.engine.request.request import build_request
from generation.prompts import moderation
from generation.prompts.lora_keywords import all_loras, matched_rules
from generation.prompts.styles import composed_prompts, find_style


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
        parser.add_argument("--quality", choices=QUALITIES, help="fast: fewer or cheaper steps, a similar picture")
        parser.add_argument(
            "--lora",
            action="append",
            default=[],
            metavar="KEY[:WEIGHT]",
            help="an installed LoRA, as <lora:KEY:WEIGHT> in the prompt; may be repeated",
        )
        parser.add_argument("--size", help="WIDTHxHEIGHT, for example 256x256")
        parser.add_argument("--out", type=Path, default=Path("dreamsketch.png"), metavar="FILE")

    def handle(self, *, prompt, out, **options):
        from generation.queue.worker import configured_engine

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
        self.stdout.write(
            f"{out}: {image.pixels.width}×{image.pixels.height}, seed {image.seed}, {time.monotonic() - started:.1f} s"
        )

    def request(self, prompt, options):
        """As `services.create_generation` makes one of the same words, but for limits, which nobody has here."""
        spec = model_named(options["model"])
        style = find_style(options["style"])
        width, height = size(options["size"])
        words, loras = all_loras(prompt, [lora(each) for each in options["lora"]], spec, self.rules)
        asked = build_request(
            spec,
            prompt=words,
            negative_prompt=options["negative_prompt"],
            width=width,
            height=height,
            loras=loras,
            steps=options["steps"],
            guidance_scale=options["guidance"],
            sampler=options["sampler"],
            seed=options["seed"],
            quality=options["quality"],
        )
        asked = complete_request(asked, spec, addons())
        moderation.check_prompt(asked.prompt, param="prompt")
        moderation.check_prompt(asked.negative_prompt, param="negative_prompt")
        composed, negative = composed_prompts(asked, style, spec)
        return replace(asked, prompt=composed, negative_prompt=negative)

    def rules(self, words, spec):
        """What keyword rules bring along. A picture needs no database, and is drawn without them where it is away."""
        if not addons().loras:
            return []
        try:
            return matched_rules(words, spec)
        except DatabaseError:
            self.stderr.write("Keyword rules for LoRAs are left out: the database cannot be asked.")
            return []

    def show(self, progress) -> None:
        if sys.stderr.isatty():
            self.stderr.write(f"\r{progress.phase} {progress.step}/{progress.steps} ", ending="")
            self.stderr.flush()


def lora(text):
    """What `build_request` takes, of "ink" or "ink:0.8"."""
    key, colon, weight = text.partition(":")
    try:
        return {"key": key.strip(), "weight": float(weight)} if colon else {"key": key.strip()}
    except ValueError:
        raise CommandError("A LoRA looks like ink or ink:0.8.") from None


def size(text):
    """(width, height) of "256x256", or (None, None) for nothing."""
    if not text:
        return None, None
    try:
        width, height = text.lower().split("x")
        return int(width), int(height)
    except ValueError:
        raise CommandError("A size looks like 256x256.") from None

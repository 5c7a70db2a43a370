"""manage.py preload_models: fetch models before anybody asks for them."""

import sys

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from generation.engine.errors import EngineError
from generation.offered import catalog


class Command(BaseCommand):
    help = "Download models and prove that they load. --check stays offline and only says what is there."

    def add_arguments(self, parser):
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--models", nargs="+", metavar="KEY", help=", ".join(spec.key for spec in catalog()))
        which.add_argument("--all", action="store_true")
        parser.add_argument("--check", action="store_true", help="do not download; fail when one is missing")

    def handle(self, *, models, all: bool, check: bool, **options):
        from generation.engine.loader import ModelManager

        try:
            specs = list(catalog()) if all else [catalog().get(key) for key in models]
        except EngineError as error:
            raise CommandError(str(error)) from error
        manager = ModelManager(device=settings.DEVICE, dtype=settings.DTYPE, models_dir=settings.MODELS_DIR,
                               hf_token=settings.HF_TOKEN or None,
                               allow_download=settings.MODEL_DOWNLOADS and not check)
        failed = []
        for spec in specs:
            try:
                source = manager.preload(spec, self.show)
                self.stdout.write(f"{spec.key}: ready, from {source}")
            except EngineError as error:
                failed.append(spec.key)
                for line in (str(error), *getattr(error, "details", ())):
                    self.stderr.write(f"{spec.key}: {line}")
        if failed:
            raise CommandError(f"Not ready: {', '.join(failed)}")

    def show(self, phase: str, fraction: float | None = None) -> None:
        if sys.stderr.isatty():
            share = "" if fraction is None else f" {fraction:4.0%}"
            self.stderr.write(f"\r{phase}{share} ", ending="")
            self.stderr.flush()

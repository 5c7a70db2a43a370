"""manage.py preload_models: download models and add-ons before the first request needs them."""

import sys
import time

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from generation.catalog import catalog
from generation.engine.catalog import model_files
from generation.engine.catalog.models import DOWNLOADS
from generation.engine.errors import EngineError

BAR = 30
REDRAW_SECONDS = 0.1


class Command(BaseCommand):
    help = (
        "Download models, compare their hashes where they are known, and prove that they load. "
        "--check stays offline and only says what is there."
    )

    def add_arguments(self, parser):
        models = parser.add_mutually_exclusive_group()
        models.add_argument(
            "--models", nargs="+", metavar="KEY", default=[], help=", ".join(spec.key for spec in catalog())
        )
        models.add_argument("--all", action="store_true", help="every model on offer")
        parser.add_argument(
            "--addons",
            nargs="+",
            metavar="KEY",
            default=[],
            help=", ".join(f"{addon.key} ({addon.title})" for addon in DOWNLOADS),
        )
        parser.add_argument("--check", action="store_true", help="do not download; fail when one is missing")

    def handle(self, *, models, all: bool, addons, check: bool, **options):
        if not (models or all or addons):
            raise CommandError("Say which: --models KEY…, --all or --addons KEY…")
        self.may_download = settings.MODEL_DOWNLOADS and not check
        self.drawn_at = 0.0
        downloads = [*self.models(models, all), *self.addons(addons)]
        failed = []
        for key, prepare in downloads:
            try:
                result = prepare()
                self.clear()
                self.stdout.write(f"{key}: {result}")
            except EngineError as error:
                self.clear()
                failed.append(key)
                for line in (str(error), *getattr(error, "details", ())):
                    self.stderr.write(f"{key}: {line}")
        if failed:
            raise CommandError(f"Not ready: {', '.join(failed)}")

    def models(self, keys, all):
        if not (keys or all):
            return
        from generation.engine.networks.loader import ModelManager  # brings torch

        try:
            specs = list(catalog()) if all else [catalog().get(key) for key in keys]
        except EngineError as error:
            raise CommandError(str(error)) from error
        manager = ModelManager(
            device=settings.DEVICE,
            dtype=settings.DTYPE,
            models_dir=settings.MODELS_DIR,
            hf_token=settings.HF_TOKEN or None,
            allow_download=self.may_download,
        )
        for spec in specs:
            yield spec.key, lambda spec=spec: self.prepare(manager, spec)

    def prepare(self, manager, spec) -> str:
        source = model_files.fetch(
            spec,
            models_dir=settings.MODELS_DIR,
            allow_download=self.may_download,
            hf_token=settings.HF_TOKEN or None,
            on_fraction=lambda fraction: self.show(spec.key, "downloading", fraction),
        )
        checked = model_files.check_hashes(spec, source, lambda fraction: self.show(spec.key, "checking", fraction))
        manager.preload(spec, lambda phase, fraction=None: self.show(spec.key, phase, fraction))
        manager.unload()
        files = len(model_files.weight_files(spec, source))
        hashes = (
            f"{checked} of {files} weight files have the hash they should" if checked else "no hashes are known for it"
        )
        return f"ready, from {source}; {hashes}"

    def addons(self, keys):
        downloads = {addon.key: addon for addon in DOWNLOADS}
        if unknown := [key for key in keys if key not in downloads]:
            raise CommandError(f"There is no add-on called {unknown[0]}. Known: {', '.join(downloads)}.")
        for key in keys:
            yield key, lambda addon=downloads[key]: self.install(addon)

    def install(self, addon) -> str:
        is_new = model_files.fetch_addon(
            addon,
            settings.MODELS_DIR,
            allow_download=self.may_download,
            hf_token=settings.HF_TOKEN or None,
            on_fraction=lambda fraction: self.show(addon.key, "downloading", fraction),
        )
        return f"installed from {addon.repository} ({addon.licence})" if is_new else "installed already"

    def show(self, key: str, phase: str, fraction: float | None = None) -> None:
        """A progress bar on a terminal; a log gets only the results."""
        if not sys.stderr.isatty():
            return
        now = time.monotonic()
        if fraction not in (None, 1.0) and now - self.drawn_at < REDRAW_SECONDS:
            return
        self.drawn_at = now
        bar = ""
        if fraction is not None:
            filled = round(fraction * BAR)
            bar = f" [{'#' * filled}{'.' * (BAR - filled)}] {fraction:4.0%}"
        self.stderr.write(f"\r\x1b[K{key}: {phase}{bar}", ending="")
        self.stderr.flush()

    def clear(self) -> None:
        if sys.stderr.isatty():
            self.stderr.write("\r\x1b[K", ending="")

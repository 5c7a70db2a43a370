"""manage.py preload_models: fetch models before anybody asks for them."""

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
        which = parser.add_mutually_exclusive_group()
        which.add_argument(
            "--models", nargs="+", metavar="KEY", default=[], help=", ".join(spec.key for spec in catalog())
        )
        which.add_argument("--all", action="store_true", help="every model on offer")
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
        wanted = list(self.models(models, all)) + list(self.addons(addons))
        failed = []
        for key, prepare in wanted:
            try:
                said = prepare()
                self.clear()
                self.stdout.write(f"{key}: {said}")
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
        from generation.engine.networks.loader import ModelManager

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
        known = model_files.check_hashes(spec, source, lambda fraction: self.show(spec.key, "checking", fraction))
        manager.preload(spec, lambda phase, fraction=None: self.show(spec.key, phase, fraction))
        manager.unload()
        files = len(model_files.weight_files(spec, source))
        hashes = f"{known} of {files} weight files have the hash they should" if known else "no hashes are known for it"
        return f"ready, from {source}; {hashes}"

    def addons(self, keys):
        known = {addon.key: addon for addon in DOWNLOADS}
        if unknown := [key for key in keys if key not in known]:
            raise CommandError(f"There is no add-on called {unknown[0]}. Known: {', '.join(known)}.")
        for key in keys:
            yield key, lambda addon=known[key]: self.install(addon)

    def install(self, addon) -> str:
        new = model_files.fetch_addon(
            addon,
            settings.MODELS_DIR,
            allow_download=self.may_download,
            hf_token=settings.HF_TOKEN or None,
            on_fraction=lambda fraction: self.show(addon.key, "downloading", fraction),
        )
        return f"installed from {addon.repository} ({addon.licence})" if new else "installed already"

    def show(self, key: str, phase: str, fraction: float | None = None) -> None:
        """A bar on a terminal; a log gets nothing but the ends."""
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

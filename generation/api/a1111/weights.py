"""SHA-256 hashes of checkpoints as A1111 shows them, as far as they are known without reading gigabytes.

Known are: files that the Hub's cache names by it, small files, and what pictures that were drawn here say of their
model. Where a worker on another machine has the files, only the last.
"""

import hashlib
import re
from contextlib import suppress
from pathlib import Path

from django.conf import settings
from django.core.cache import cache

from generation import catalog
from generation.engine.catalog import model_files
from generation.engine.catalog.models import ModelSpec
from generation.engine.errors import UnknownModel

SHORT = 10
"""Digits of the hash that programs show."""
SMALL_BYTES = 64 * 2**20
KEPT_SECONDS = 90 * 86400
NAMED_BY_HASH = re.compile("[0-9a-f]{64}")


def known_hash(spec: ModelSpec) -> str | None:
    """SHA-256 in hex of the weights that the web UI would hash (the UNet's, or all where they are one file)."""
    try:
        files = _files(spec)
        if files and all(_is_quick(file) for file in files):
            return model_files.weights_hash(files)
        return cache.get(_key(spec, files))
    except OSError:
        return None  # a file is gone since it was found


def remember(model: str, digest: str) -> None:
    """What a picture that was just drawn says of its model. Forgotten when the files change."""
    if not NAMED_BY_HASH.fullmatch(digest):
        return
    with suppress(UnknownModel, OSError):
        spec = catalog.model_named(model)
        if known_hash(spec) != digest:
            cache.set(_key(spec, _files(spec)), digest, KEPT_SECONDS)


def _files(spec: ModelSpec) -> list[Path]:
    if catalog.remote_provider() is not None:
        return []
    source = model_files.locate(spec, models_dir=settings.MODELS_DIR)
    return model_files.weight_files(spec, source, model_files.main_part(spec)) if source else []


def _is_quick(file: Path) -> bool:
    real = file.resolve()
    return bool(NAMED_BY_HASH.fullmatch(real.name)) or real.stat().st_size <= SMALL_BYTES


def _key(spec: ModelSpec, files: list[Path]) -> str:
    stats = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return f"a1111:weights:{hashlib.sha256(repr((spec.key, stats)).encode()).hexdigest()}"

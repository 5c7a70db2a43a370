"""What the web UI keeps for everybody, kept here for each API key; for a signed-in person without one, for the account.

A key's options lie in its row, a session's in the cache, which may forget them.
"""

from django.core.cache import cache
from django.db import transaction

from accounts.models import ApiKey
from generation import catalog
from generation.engine.catalog.models import ModelSpec
from generation.engine.errors import UnknownModel
from generation.engine.request.fields import FIELDS

from . import names
from .fields import Field, read_fields
from .weights import known_hash

DIALECT = "a1111"
SESSION_SECONDS = 30 * 86400
FORMATS = {"png": "png", "jpg": "jpeg", "jpeg": "jpeg", "webp": "webp"}
"""Names of picture formats, and ours."""

TABLE = {
    "sd_model_checkpoint": Field("text", "Title of one of `sd-models`."),
    "CLIP_stop_at_last_layers": Field("whole", "Clip skip, from 1.", 1, int(FIELDS["clip_skip"].high) + 1),
    "send_seed": Field("flag", "Kept and given back."),
    "samples_format": Field("text", "Of the pictures in answers: png, jpg or webp."),
    "sd_vae": Field("text", "Accepted; each model draws with its own."),
}


def read_settings(data: dict) -> dict:
    """Those settings of `data` (an options object or `override_settings`) that mean something here, checked."""
    given = read_fields(data, TABLE)
    given.pop("sd_vae", None)
    if "sd_model_checkpoint" in given:
        given["sd_model_checkpoint"] = names.checkpoint_title(names.checkpoint_of(given["sd_model_checkpoint"]))
    if "samples_format" in given:
        wanted = given["samples_format"].strip().casefold()
        # Formats of the web UI that nothing here writes (avif, for one) leave it at PNG.
        given["samples_format"] = wanted if wanted in FORMATS else "png"
    return given


def options_of(request) -> dict:
    """All options of this caller."""
    return {
        "sd_model_checkpoint": names.checkpoint_title(catalog.model_named(None)),
        "sd_vae": "Automatic",
        "CLIP_stop_at_last_layers": 1,
        "send_seed": True,
        "samples_format": "png",
    } | _still_offered(_kept(request))


def shown_options(request) -> dict:
    """The same, with what cannot be set: programs that do not know the checkpoint's name look for its hash."""
    options = options_of(request)
    return options | {"sd_checkpoint_hash": known_hash(checkpoint(options)) or ""}


def change_options(request, data: dict) -> None:
    """Keep what `data` sets; a whole object that was read before may come back. Raises InvalidRequest."""
    changes = read_settings(data)
    if not request.auth:
        cache.set(_session_key(request), _kept(request) | changes, SESSION_SECONDS)
        return
    with transaction.atomic():
        key = ApiKey.objects.select_for_update().get(pk=request.auth.pk)
        key.options[DIALECT] = key.options.get(DIALECT, {}) | changes
        key.save(update_fields=["options"])


def checkpoint(options: dict) -> ModelSpec:
    """The model that these options draw with."""
    return names.checkpoint_of(options["sd_model_checkpoint"])


def _kept(request) -> dict:
    if request.auth:
        return request.auth.options.get(DIALECT, {})
    return cache.get(_session_key(request)) or {}


def _session_key(request) -> str:
    return f"{DIALECT}:options:{request.user.pk}"


def _still_offered(kept: dict) -> dict:
    """Without a checkpoint that this site offers no longer."""
    try:
        names.checkpoint_of(kept.get("sd_model_checkpoint", ""))
    except UnknownModel:
        return {name: value for name, value in kept.items() if name != "sd_model_checkpoint"}
    return kept

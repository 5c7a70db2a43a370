"""Erasing what an account asked for: words and starting pictures of generations that have nothing left to show.

Ledgers stay as they are: holds and usage name a generation by its id, and need no row.
"""

from collections.abc import Iterable
from uuid import UUID

from django.db import transaction
from django.db.models import TextField
from django.db.models.functions import Cast

from generation.engine.request.options import picture_names
from generation.models import Generation, Upload
from generation.storage.files import delete_files

_BLANK = {
    "prompt": "",
    "negative_prompt": "",
    "composed_prompt": "",
    "composed_negative_prompt": "",
    "style": "",
    "options": {},
    "fingerprint": "",
    "idempotency_key": None,
}


def lock(generation_ids: Iterable[UUID]) -> None:
    """Hold these until the transaction ends, so that of two who delete its pictures one sees the last go."""
    list(Generation.objects.filter(pk__in=generation_ids).order_by("pk").select_for_update(no_key=True))


def erase_requests(generation_ids: Iterable[UUID]) -> None:
    """Blank what those of them asked for that have ended and have no picture left, and delete their uploads.

    Within the transaction that deletes pictures, after `lock`. State, numbers and times stay.
    """
    bare = Generation.objects.filter(pk__in=generation_ids, status__in=Generation.FINAL, images=None)
    for generation in list(bare):
        Generation.objects.filter(pk=generation.pk).update(**_BLANK)
        _delete_uploads(generation.owner_id, picture_names(generation.options))


def _delete_uploads(owner_id: int, upload_ids: set[str]) -> None:
    """Delete those that no other generation of the owner's names."""
    others = Generation.objects.filter(owner_id=owner_id).alias(written=Cast("options", TextField()))
    unused = [upload_id for upload_id in upload_ids if not others.filter(written__contains=upload_id).exists()]
    rows = list(Upload.objects.filter(owner_id=owner_id, pk__in=unused))
    Upload.objects.filter(pk__in=[row.pk for row in rows]).delete()
    transaction.on_commit(lambda: delete_files(row.file for row in rows))

"""Finishing a claimed generation with its pictures: files first, then the one fenced transaction.

For the worker and for results of outside engines alike.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterable

from django.db import Error as DatabaseError
from django.db import close_old_connections

from generation.engine.protocol import EngineImage
from generation.models import Generation
from generation.storage import files
from generation.storage.files import StorageUnavailable, StoredImage
from generation.storage.image_requests import request_of

from . import jobs

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.5


def finish_with_files(
    generation: Generation, images: Iterable[EngineImage], *, cancelled: bool = False, patience: float = 0.0
) -> None:
    """Store those of `images` that no safety check flagged and complete the generation with them.

    All flagged: it ends as blocked. With `cancelled`, or when the owner's cancel came before the finish, it ends as
    cancelled and keeps the pictures. `patience`: for how many seconds a database that is away is tried again.
    Raises jobs.LeaseLost or StorageUnavailable, and then the files are deleted.
    """
    unflagged = [image for image in images if not image.flagged]
    if not unflagged and not cancelled:
        return jobs.block(generation)
    stored: list[StoredImage] = []
    try:
        request = request_of(generation)
        for image in unflagged:
            stored.append(files.store_image(image, request))
        if not cancelled:
            # After a cancel that came first the row is still ours; else the next line raises LeaseLost again.
            with contextlib.suppress(jobs.LeaseLost):
                return _record(jobs.finish, generation, stored, patience)
        _record(jobs.finish_cancelled, generation, stored, patience)
    except (jobs.LeaseLost, StorageUnavailable):
        # Not on any other error: a commit whose answer was lost may have kept them, and orphans are pruned.
        files.delete_image_files(stored)
        raise


def _record(
    end: Callable[[Generation, list[StoredImage]], None],
    generation: Generation,
    stored: list[StoredImage],
    patience: float,
) -> None:
    """Write the end, again and again for `patience` seconds while the database is away.

    A commit whose answer was lost leaves a doubt: when the row is final with our epoch and pictures, it was ours.
    """
    deadline = time.monotonic() + patience
    in_doubt = False
    while True:
        try:
            if in_doubt and _is_recorded(generation, stored):
                return
            return end(generation, stored)
        except DatabaseError as error:
            if time.monotonic() >= deadline:
                raise
            log.warning("The end of %s waits for the database: %s", generation.pk, error)
            in_doubt = True
            close_old_connections()
            time.sleep(RETRY_SECONDS)


def _is_recorded(generation: Generation, stored: list[StoredImage]) -> bool:
    row = Generation.objects.get(pk=generation.pk)
    if not row.is_final or row.epoch != generation.epoch:
        return False
    return row.images.filter(id__in=[image.id for image in stored]).count() == len(stored)

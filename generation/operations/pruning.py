"""Retention: deletes old trash, pictures past their retention, generations with nothing to show, and leftovers."""

import datetime as dt
import logging
from collections.abc import Iterator

from django.conf import settings
from django.contrib.sessions.models import Session
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models.functions import Now

from accounts import sign_in
from accounts.models import User
from accounts.plans import PLANS
from generation.models import GeneratedImage, GeneratedImageQuerySet, Generation, Upload, Visibility
from generation.services.images import delete_images
from generation.storage.files import delete_files, smallest_thumbnail_name
from generation.webhooks.delivery import prune_deliveries

log = logging.getLogger(__name__)

ORPHAN_AGE = dt.timedelta(hours=18)
"""A younger file may belong to a generation that is just being finished, or to a database that is being restored. With
the six hours between two prunings that makes a day."""
BATCH = 1000
FOLDERS = ("generated_images", "thumbnails", "uploads")


def prune(*, older_than: dt.timedelta | None = None, dry_run: bool = False) -> dict[str, int]:
    """Prune and return the counts. `older_than` replaces the plans' retention for unstarred private pictures."""
    trash = GeneratedImage.objects.trashed().filter(deleted_at__lt=Now() - dt.timedelta(days=settings.TRASH_DAYS))
    report = {"in the trash too long": _delete(trash, dry_run), "past their retention": 0}
    for plan in PLANS.values():
        age = older_than or (dt.timedelta(days=plan.retention_days) if plan.retention_days else None)
        if age is not None:
            expired = GeneratedImage.objects.kept().filter(
                owner__plan=plan.key,
                owner__is_staff=False,
                favourite=False,
                visibility=Visibility.PRIVATE,
                created_at__lt=Now() - age,
            )
            report["past their retention"] += _delete(expired, dry_run)
    report["old generations without a picture"] = _delete_generations(dry_run)
    report["uploads past their time"] = _delete_uploads(dry_run)
    report["expired sessions"] = _delete_sessions(dry_run)
    orphans = list(orphan_files())
    if not dry_run:
        delete_files(orphans)
    report["files without a picture"] = len(orphans)
    report["old webhook deliveries"] = prune_deliveries(dry_run=dry_run)
    if not dry_run:
        sign_in.prune()
    log.info("Pruned%s: %s", " (dry run)" if dry_run else "", report)
    return report


def _delete(images: GeneratedImageQuerySet, dry_run: bool) -> int:
    if dry_run:
        return images.count()
    count = 0
    for owner_id in list(images.order_by().values_list("owner_id", flat=True).distinct()):
        count += delete_images(User.objects.get(pk=owner_id), list(images.filter(owner_id=owner_id)))
    return count


def _delete_generations(dry_run: bool) -> int:
    """Those that ended GENERATION_DAYS ago and have nothing to show."""
    if not settings.GENERATION_DAYS:
        return 0
    age = dt.timedelta(days=settings.GENERATION_DAYS)
    old = Generation.objects.filter(status__in=Generation.FINAL, finished_at__lt=Now() - age, images=None)
    if dry_run:
        return old.count()
    count = 0
    while keys := list(old.values_list("pk", flat=True)[:BATCH]):
        Generation.objects.filter(pk__in=keys).delete()
        count += len(keys)
    return count


def _delete_sessions(dry_run: bool) -> int:
    expired = Session.objects.filter(expire_date__lt=Now())
    return expired.count() if dry_run else expired.delete()[0]


def _delete_uploads(dry_run: bool) -> int:
    """Those that a generation may still need expire later (services)."""
    expired = Upload.objects.filter(expires_at__lt=Now())
    if dry_run:
        return expired.count()
    with transaction.atomic():
        rows = list(expired.select_for_update(skip_locked=True))
        Upload.objects.filter(pk__in=[row.pk for row in rows]).delete()
        transaction.on_commit(lambda: delete_files(row.file for row in rows))
    return len(rows)


def orphan_files() -> Iterator[str]:
    """Names of stored files, older than ORPHAN_AGE, that no picture has. Leftover `.part` files too."""
    newest = dt.datetime.now(dt.UTC) - ORPHAN_AGE
    for folder in FOLDERS:
        for name in _walk(folder):
            if not _has_row(name) and default_storage.get_modified_time(name) < newest:
                yield name


def _has_row(name: str) -> bool:
    if name.startswith("uploads/"):
        return Upload.objects.filter(file=name).exists()
    if name.startswith("generated_images/"):
        return GeneratedImage.objects.filter(file=name).exists()
    return GeneratedImage.objects.filter(thumbnail=smallest_thumbnail_name(name)).exists()


def _walk(folder: str) -> Iterator[str]:
    try:
        subfolders, files = default_storage.listdir(folder)
    except FileNotFoundError:
        return
    yield from (f"{folder}/{name}" for name in files)
    for subfolder in subfolders:
        yield from _walk(f"{folder}/{subfolder}")

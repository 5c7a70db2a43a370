"""Changing finished images: trash and restore, delete for good, visibility, favourites, titles.

Every change by people and programs comes through here, and only to images of `user`. Refusals are raised as
`accounts.refusals.Refusal` or `InvalidRequest`; nothing has changed then.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from django.db import transaction
from django.db.models.functions import Now
from django.urls import reverse

from accounts.models import User
from accounts.notices import send_notice
from accounts.refusals import Conflict
from generation.engine.errors import InvalidRequest
from generation.models import GeneratedImage, GeneratedImageQuerySet, Visibility
from generation.storage.files import delete_image_files
from generation.webhooks import events

from . import erasing


def check_visibility(visibility: str) -> None:
    """Raises InvalidRequest where there is no such visibility."""
    if visibility not in Visibility.values:
        raise InvalidRequest(f"This must be one of {', '.join(Visibility.values)}.", "visibility")


def trash_images(user: User, images: Iterable[GeneratedImage]) -> list[GeneratedImage]:
    """Move `images` (a queryset or list of GeneratedImage) to the trash; returns those of `user` that moved."""
    return _move(user, images, from_trash=False)


def restore_images(user: User, images: Iterable[GeneratedImage]) -> list[GeneratedImage]:
    """Bring `images` back from the trash; returns those of `user` that came back."""
    return _move(user, images, from_trash=True)


def _move(user: User, images: Iterable[GeneratedImage], *, from_trash: bool) -> list[GeneratedImage]:
    with transaction.atomic():
        own = GeneratedImage.objects.owned_by(user).filter(pk__in=[image.pk for image in images])
        own = own.trashed() if from_trash else own.kept()
        rows = list(own.select_for_update())
        GeneratedImage.objects.filter(pk__in=[row.pk for row in rows]).update(deleted_at=None if from_trash else Now())
    return rows


def delete_images(user: User, images: Iterable[GeneratedImage]) -> int:
    """Delete `images` of `user` for good, files and thumbnails included; returns how many went.

    With the last picture of a generation goes what it asked for. Row first, file after the commit: a crash between
    leaves a file that `prune` removes, never a row without its file.
    """
    with transaction.atomic():
        own = GeneratedImage.objects.owned_by(user).filter(pk__in=[image.pk for image in images])
        generation_ids = set(own.order_by().values_list("generation_id", flat=True))
        erasing.lock(generation_ids)
        rows = list(own.select_for_update())
        GeneratedImage.objects.filter(pk__in=[row.pk for row in rows]).delete()
        events.images_removed(rows)
        erasing.erase_requests(generation_ids)
        transaction.on_commit(lambda: delete_image_files(rows))
    return len(rows)


def change_images(user: User, images: Iterable[GeneratedImage], **changes: Any) -> int:
    """Set `visibility`, `favourite` or `title` of those of `images` that `user` owns; returns how many there were."""
    visibility = changes.get("visibility", Visibility.PRIVATE)
    check_visibility(visibility)
    own = GeneratedImage.objects.owned_by(user).filter(pk__in=[image.pk for image in images])
    _refuse_taken_down(own, visibility)
    return own.update(**changes) if changes else own.count()


def set_visibility(image: GeneratedImage, visibility: str) -> None:
    """Publish or withdraw an image."""
    check_visibility(visibility)
    _refuse_taken_down(GeneratedImage.objects.filter(pk=image.pk), visibility)
    GeneratedImage.objects.filter(pk=image.pk).update(visibility=visibility)
    image.visibility = visibility


def set_favourite(image: GeneratedImage, favourite: bool) -> None:
    GeneratedImage.objects.filter(pk=image.pk).update(favourite=favourite)
    image.favourite = favourite


def _refuse_taken_down(images: GeneratedImageQuerySet, visibility: str) -> None:
    if visibility != Visibility.PRIVATE and images.exclude(taken_down_at=None).exists():
        raise Conflict("This image was taken down by the people who run this site, so it cannot be published.")


def take_down(images: GeneratedImageQuerySet, reason: str, *, root: str) -> list[GeneratedImage]:
    """Hide `images` from everybody but their owners, at once and everywhere; returns those that it changed.

    For the staff, of any owner's. Nothing is deleted: `put_back` undoes it. `reason` is shown to the owners and mailed,
    with the images' addresses below `root` (`https://host`).
    """
    with transaction.atomic():
        rows = list(images.filter(taken_down_at=None).select_related("owner").select_for_update(of=("self",)))
        changed = GeneratedImage.objects.filter(pk__in=[row.pk for row in rows])
        changed.update(taken_down_at=Now(), taken_down_reason=reason)
        transaction.on_commit(lambda: _tell_owners(rows, reason, root))
    return rows


def _tell_owners(images: Iterable[GeneratedImage], reason: str, root: str) -> None:
    addresses = defaultdict(list)
    for image in images:
        addresses[image.owner.email].append(root + reverse("image", args=[image.short_id]))
    for email, own in addresses.items():
        send_notice("email/taken_down", email, {"count": len(own), "addresses": own, "reason": reason})


def put_back(images: GeneratedImageQuerySet) -> list[GeneratedImage]:
    """Undo `take_down`: each of `images` is as public as its owner has it. Returns those that it changed."""
    with transaction.atomic():
        rows = list(images.exclude(taken_down_at=None).select_for_update(of=("self",)))
        changed = GeneratedImage.objects.filter(pk__in=[row.pk for row in rows])
        changed.update(taken_down_at=None, taken_down_reason="")
    return rows

"""Collections: making, naming, ordering and filling an owner's sets of images. The only place that writes them.

Refusals are raised as `accounts.refusals.Refusal` or `InvalidRequest`; nothing has changed then.
"""

import datetime as dt
from collections.abc import Iterable
from uuid import UUID

from django.db import transaction
from django.db.models import Count, F, Max, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce, Now
from django.utils.text import slugify

from accounts.models import User
from accounts.refusals import Conflict
from generation.engine.errors import InvalidRequest
from generation.models import GeneratedImage

from .models import Collection, CollectionItem

MOST_COLLECTIONS = 200
MOST_IMAGES = 10_000
KEPT_DELETED = dt.timedelta(days=1)
"""For how long a deleted collection can be brought back; the images stay anyway."""
TITLE_LENGTH = 80


def collections_of(user: User) -> QuerySet[Collection]:
    """All of `user`, latest first, each with `size` and `front`, the number of its cover or first image."""
    kept = Q(items__image__deleted_at=None)
    first = CollectionItem.objects.filter(collection=OuterRef("pk"), image__deleted_at=None)
    chosen = first.filter(image=OuterRef("cover"))
    collections = Collection.objects.owned_by(user).annotate(
        size=Count("items", filter=kept),
        front=Coalesce(Subquery(chosen.values("image")[:1]), Subquery(first.order_by("position").values("image")[:1])),
    )
    return collections.order_by("-updated_at")


def fronts_of(collections: Iterable[Collection]) -> dict[UUID, GeneratedImage]:
    """The pictures that stand for `collections_of(user)`, by collection's id."""
    numbers = {collection.pk: collection.front for collection in collections}
    images = GeneratedImage.objects.select_related("generation").in_bulk([n for n in numbers.values() if n])
    return {pk: images[number] for pk, number in numbers.items() if number in images}


def create_collection(user: User, title: str) -> Collection:
    title = _title(title)
    with transaction.atomic():
        # Its row is the lock: two windows at once make no 201st, and no two of one address.
        User.objects.select_for_update(of=("self",), no_key=True).get(pk=user.pk)
        Collection.objects.filter(owner=user, deleted_at__lt=Now() - KEPT_DELETED).delete()
        if Collection.objects.owned_by(user).count() >= MOST_COLLECTIONS:
            raise Conflict(f"You have {MOST_COLLECTIONS} collections, which is the most. Delete one to make another.")
        return Collection.objects.create(owner=user, title=title, slug=_free_slug(user, title))


def rename_collection(collection: Collection, title: str) -> None:
    """Its address stays, so that links to it go on working."""
    collection.title = _title(title)
    collection.save(update_fields=["title", "updated_at"])


def delete_collection(collection: Collection) -> None:
    """The images stay where they are. `restore_collection` brings it back within KEPT_DELETED."""
    Collection.objects.filter(pk=collection.pk).update(deleted_at=Now())


def restore_collection(user: User, pk: str) -> Collection | None:
    """The deleted collection as it was, or None where it is no longer kept."""
    restored = Collection.objects.filter(owner=user, pk=pk).update(deleted_at=None)
    return Collection.objects.get(pk=pk) if restored else None


def set_cover(collection: Collection, image: GeneratedImage) -> None:
    """`image` is one of the collection's."""
    Collection.objects.filter(pk=collection.pk).update(cover=image)


def add_images(collection: Collection, images: Iterable[GeneratedImage]) -> int:
    """Put those of `images` that are not in it yet at the end, in their order; returns how many.

    `images` are the collection's owner's.
    """
    with transaction.atomic():
        _lock(collection)
        there = set(collection.items.values_list("image_id", flat=True))
        new = [image for image in images if image.pk not in there]
        if len(there) + len(new) > MOST_IMAGES:
            raise Conflict(f"A collection holds up to {MOST_IMAGES:,} images, and “{collection}” has {len(there):,}.")
        last = collection.items.aggregate(last=Max("position"))["last"] or 0
        CollectionItem.objects.bulk_create(
            CollectionItem(collection=collection, image=image, position=last + place)
            for place, image in enumerate(new, 1)
        )
        if new:
            collection.save(update_fields=["updated_at"])
    return len(new)


def remove_images(collection: Collection, images: Iterable[GeneratedImage]) -> int:
    """Take `images` out of the collection; returns how many were in it."""
    removed, _ = collection.items.filter(image__in=[image.pk for image in images]).delete()
    Collection.objects.filter(pk=collection.pk, cover__in=[image.pk for image in images]).update(cover=None)
    return removed


def move_before(collection: Collection, image: GeneratedImage, target: GeneratedImage | None) -> None:
    """Put `image` right before `target`, or at the end. What is not in the collection moves nothing."""
    with transaction.atomic():
        _lock(collection)
        places = dict(collection.items.filter(image__in=[image, target]).values_list("image_id", "position"))
        if image.pk not in places or (target and target.pk not in places):
            return
        old = places[image.pk]
        last = collection.items.aggregate(last=Max("position"))["last"]
        new = places[target.pk] if target else last + 1
        if old < new:
            collection.items.filter(position__gt=old, position__lt=new).update(position=F("position") - 1)
            new -= 1
        else:
            collection.items.filter(position__gte=new, position__lt=old).update(position=F("position") + 1)
        collection.items.filter(image=image).update(position=new)


def following(collection: Collection, image: GeneratedImage) -> GeneratedImage | None:
    """The image right behind `image`, None for the last."""
    place = collection.items.filter(image=image).values("position")
    behind = collection.items.filter(position__gt=Subquery(place)).order_by("position")
    item = behind.select_related("image").first()
    return item.image if item else None


def move_by(collection: Collection, image: GeneratedImage, step: str) -> None:
    """`step`: `first`, `earlier`, `later` or `last` among the images that are not in the trash."""
    shown = collection.items.filter(image__deleted_at=None).select_related("image")
    item = shown.filter(image=image).first()
    if item is None:
        return
    match step:
        case "first":
            target = shown.order_by("position").first()
        case "earlier":
            target = shown.filter(position__lt=item.position).order_by("-position").first() or item
        case "later":
            following = list(shown.filter(position__gt=item.position).order_by("position")[:2])
            if not following:
                return
            target = following[1] if len(following) == 2 else None
        case "last":
            target = None
        case _:
            raise InvalidRequest("This must be one of first, earlier, later, last.", "step")
    if target is None or target.pk != item.pk:
        move_before(collection, image, target.image if target else None)


def _lock(collection: Collection) -> None:
    Collection.objects.select_for_update().get(pk=collection.pk)


def _title(title: str) -> str:
    title = " ".join(title.replace("\x00", "").split())
    if not title:
        raise InvalidRequest("Give the collection a name.", "title")
    if len(title) > TITLE_LENGTH:
        raise InvalidRequest(f"A name has at most {TITLE_LENGTH} characters.", "title")
    return title


def _free_slug(user: User, title: str) -> str:
    base = slugify(title)[: TITLE_LENGTH - 10].strip("-") or "collection"
    taken = set(Collection.objects.filter(owner=user, slug__startswith=base).values_list("slug", flat=True))
    return next(slug for n in range(1, len(taken) + 2) if (slug := base if n == 1 else f"{base}-{n}") not in taken)

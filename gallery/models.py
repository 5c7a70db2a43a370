"""Django models of the pages: the composer's draft, saved searches of the gallery, and collections of images."""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q


class OwnedQuerySet(models.QuerySet):
    def owned_by(self, user):
        """Those of `user`; none for anonymous visitors. The only way for a view to reach them."""
        return self.filter(owner=user) if user.is_authenticated else self.none()


class Draft(models.Model):
    """What stands in an account's composer: the whole form, so that another page, device or day finds it again.

    `fields` is a JSON object of form field names to strings or lists of strings, as they were sent.
    """

    owner = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True, related_name="draft")
    owner_id: int
    fields = models.JSONField(default=dict)
    updated_at = models.DateTimeField(auto_now=True)

    objects = OwnedQuerySet.as_manager()

    def __str__(self):
        return f"Draft of {self.owner_id}"


class SavedSearch(models.Model):
    """A search of the gallery under a name: `query` is the address's query string."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="saved_searches")
    name = models.CharField(max_length=60)
    query = models.CharField(max_length=1000)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["owner", "name"], name="saved_search_name_once")]

    def __str__(self):
        return self.name


class CollectionQuerySet(OwnedQuerySet):
    def owned_by(self, user):
        """Those of `user` that are not deleted."""
        return super().owned_by(user).filter(deleted_at=None)


class Collection(models.Model):
    """A named, ordered set of an owner's own images. Written by `gallery.collections` only."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="collections")
    title = models.CharField(max_length=80)
    slug = models.SlugField(max_length=80)
    cover = models.ForeignKey("generation.GeneratedImage", models.SET_NULL, null=True, blank=True, related_name="+")
    cover_id: int | None
    images = models.ManyToManyField("generation.GeneratedImage", through="CollectionItem", related_name="collections")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    deleted_at = models.DateTimeField(null=True, blank=True, help_text="can be brought back for a while")

    front: int | None
    """The number of its cover or first image, where `collections_of` read it."""

    objects = CollectionQuerySet.as_manager()

    class Meta:
        ordering = ["-updated_at"]
        constraints = [
            models.UniqueConstraint(fields=["owner", "slug"], name="collection_slug_once"),
            models.CheckConstraint(condition=~Q(title=""), name="collection_has_title"),
        ]

    def __str__(self):
        return self.title


class CollectionItem(models.Model):
    """An image's place in a collection; `position` grows from the first to the last."""

    collection = models.ForeignKey(Collection, models.CASCADE, related_name="items")
    image = models.ForeignKey("generation.GeneratedImage", models.CASCADE, related_name="collection_items")
    image_id: int
    position = models.PositiveIntegerField()
    added_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["collection", "image"], name="image_once_in_collection")]
        indexes = [models.Index(fields=["collection", "position"])]

    def __str__(self):
        return f"{self.image_id} in {self.collection_id}"

"""The chain of edits of an image: what it was made from, step by step, and what was made from it."""

from django.db import connection

from accounts.models import User
from generation.models import GeneratedImage

LONGEST = 50
LATER = 24


def earlier_versions(user: User, image: GeneratedImage) -> list[GeneratedImage]:
    """The kept images that `image` was made from, the original first."""
    with connection.cursor() as cursor:
        cursor.execute(
            "WITH RECURSIVE chain(parent_id, depth) AS ("
            " SELECT g.parent_id, 1 FROM generation_generation g WHERE g.id = %s"
            " UNION ALL SELECT g.parent_id, c.depth + 1 FROM chain c"
            " JOIN generation_generatedimage i ON i.id = c.parent_id"
            " JOIN generation_generation g ON g.id = i.generation_id WHERE c.depth < %s"
            ") SELECT parent_id FROM chain WHERE parent_id IS NOT NULL ORDER BY depth DESC",
            [image.generation_id, LONGEST],
        )
        ids = [parent_id for (parent_id,) in cursor.fetchall()]
    kept = GeneratedImage.objects.owned_by(user).kept().select_related("generation")
    by_id = {version.id: version for version in kept.filter(id__in=ids)}
    return [by_id[parent_id] for parent_id in ids if parent_id in by_id]


def later_versions(user: User, image: GeneratedImage) -> list[GeneratedImage]:
    """The newest of the kept images that were made from `image`, the oldest first."""
    kept = GeneratedImage.objects.owned_by(user).kept().filter(generation__parent=image.id)
    return list(kept.select_related("generation").order_by("-number")[:LATER])[::-1]

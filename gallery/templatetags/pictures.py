"""The sizes in which an image can be shown, for `srcset` and `sizes`."""

from django import template
from django.conf import settings
from django.urls import reverse

from generation.models import GeneratedImage
from generation.storage.files import wide_thumbnail_sizes

register = template.Library()


@register.filter
def srcset(image: GeneratedImage) -> str:
    """Every thumbnail that there is, with its width. They are named by their longer side."""
    sizes = [size for size in wide_thumbnail_sizes(image.width, image.height) if size <= image.thumbnail_size]
    addresses = [(reverse("image-thumbnail", args=[image.id]), settings.THUMBNAIL_SIZE)]
    addresses += [(reverse("image-thumbnail", args=[image.id, size]), size) for size in sizes]
    return ", ".join(f"{address} {_width(image, size)}w" for address, size in addresses)


def _width(image: GeneratedImage, longer_side: int) -> int:
    return max(1, round(image.width * min(1, longer_side / max(image.width, image.height))))


@register.filter
def grid_width(image: GeneratedImage) -> str:
    """About how wide it stands in a justified grid (`.jgrid`): its shape at the height of a row, and what fills up."""
    return f"calc({image.width / image.height:.3f} * clamp(150px, 18vw, 240px) * 1.3)"

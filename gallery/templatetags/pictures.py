"""An image in the sizes in which it can be shown: the `<img>` of grids, with `srcset` and `sizes`; cards of grids.

Made here and not by a template's tags, since a page has forty of them.
"""

import functools
from uuid import UUID

from django import template
from django.conf import settings
from django.urls import get_script_prefix, reverse
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from generation.models import GeneratedImage
from generation.storage.files import wide_thumbnail_sizes

from ..cards import rendered_card

register = template.Library()
_ANY = UUID(int=0)


@functools.cache
def _address_patterns(script_prefix: str) -> tuple[str, str]:
    """The addresses of the smallest and of wider thumbnails, to be filled in: looking them up costs."""
    smallest = reverse("image-thumbnail", args=[_ANY])
    wide = reverse("image-thumbnail", args=[_ANY, 7])
    return smallest.replace(str(_ANY), "{0}"), wide.replace(f"{_ANY}-7", "{0}-{1}")


@register.simple_tag
def picture(image: GeneratedImage, eager: bool = False, first: bool = False) -> SafeString:
    """`eager`: of the first row, loaded at once; `first`: the very first of a page."""
    smallest, wide = _address_patterns(get_script_prefix())
    width, height = image.width, image.height
    longer = max(width, height)
    source = smallest.format(image.id)
    candidates = [f"{source} {_width(width, longer, settings.THUMBNAIL_SIZE)}w"]
    for size in wide_thumbnail_sizes(width, height):
        if size <= image.thumbnail_size:
            candidates.append(f"{wide.format(image.id, size)} {_width(width, longer, size)}w")
    # About how wide it stands in a justified grid (`.jgrid`): its shape at the height of a row, and what fills up.
    sizes = f"calc({width / height:.3f} * clamp(150px, 18vw, 240px) * 1.3)"
    if not eager:
        loading, sizes = ' loading="lazy"', f"auto, {sizes}"
    else:
        loading = ' fetchpriority="high"' if first else ""
    trashed = " data-trashed" if image.deleted_at else ""
    return mark_safe(
        f'<img src="{source}" srcset="{", ".join(candidates)}" sizes="{sizes}" width="{width}" height="{height}"'
        f' alt="{escape(image.alt_text)}" decoding="async"{loading} data-number="{image.number}"'
        f' data-short-id="{image.short_id}" data-visibility="{image.visibility}"{trashed}>'
    )


def _width(width: int, longer: int, longer_side: int) -> int:
    """Thumbnails are named by their longer side."""
    return max(1, round(width * min(1, longer_side / longer)))


@register.simple_tag(takes_context=True)
def card(context: template.Context, image: GeneratedImage, eager: bool = False, first: bool = False) -> SafeString:
    """The card of an image in a grid of one's own."""
    plain = {name: context.get(name) for name in ("view", "theme")} | {"eager": eager, "first": first}
    values = plain | {"request": context["request"]}
    return mark_safe(rendered_card(image, values, str(context.get("csrf_token", ""))))

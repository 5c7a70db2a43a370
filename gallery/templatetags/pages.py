"""Small things that templates need: icons, the pencil, lookups."""

import datetime as dt
import uuid

from django import template
from django.templatetags.static import static
from django.utils.formats import date_format
from django.utils.html import format_html

register = template.Library()

MOMENTS = {"date": "j F Y", "datetime": "j F Y, H:i", "time": "H:i"}
"""How a moment is written, by the name that `static/js/time.js` knows too."""


@register.simple_tag
def icon(name: str, extra: str = ""):
    """A Lucide icon of the sprite. Always decoration: the control beside it carries the name."""
    return format_html(
        '<svg class="icon {}" aria-hidden="true" focusable="false"><use href="{}#{}"/></svg>',
        extra,
        static("icons/sprite.svg"),
        name,
    )


@register.simple_tag
def moment(value: dt.datetime, shape: str = "datetime"):
    """A moment as `<time>`: in UTC, and said to be; scripts write it in the reader's own time. `shape`: of MOMENTS."""
    utc = value.astimezone(dt.UTC)
    said = date_format(utc, MOMENTS[shape]) + ("" if shape == "date" else " UTC")
    return format_html('<time datetime="{}" data-moment="{}">{}</time>', utc.isoformat(timespec="seconds"), shape, said)


@register.simple_tag
def new_token() -> str:
    """A token for a form, by which the server tells a second press from a repeat of the first."""
    return uuid.uuid4().hex


@register.filter
def get(mapping, key):
    """`mapping[key]`, or nothing."""
    return mapping.get(key, "") if mapping else ""


@register.filter
def share(part, whole) -> int:
    """`part` of `whole` in whole percent, between 0 and 100."""
    return round(100 * min(1, max(0, part / whole))) if whole else 0


@register.filter
def quota_level(quota) -> str:
    """`empty`, `low` (a fifth or less) or nothing."""
    if not quota.limit or share(quota.remaining, quota.limit) > 20:
        return ""
    return "low" if quota.remaining else "empty"


@register.filter
def undo_token(message) -> str:
    """The token of a message that offers to undo, else nothing."""
    tag = message.extra_tags or ""
    return tag.removeprefix("undo=") if tag.startswith("undo=") else ""

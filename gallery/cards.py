"""Rendered cards of images, kept for a minute: a page has forty, and most of them were shown a moment ago."""

import time
from collections import OrderedDict
from threading import Lock
from typing import Any

from django.conf import settings
from django.template.loader import render_to_string

from generation.models import GeneratedImage

MOST_CARDS = 4000
"""About 12 MB in each web process."""
SECONDS = 60
"""A card may tell of what is in no column of its image, such as what a model can; that may lag by so much."""
_TOKEN = "csrf-token-of-this-answer"
_cards: OrderedDict[tuple, tuple[float, str]] = OrderedDict()
_lock = Lock()


def rendered_card(image: GeneratedImage, context: dict[str, Any], csrf_token: str) -> str:
    """`gallery/_card.html` for `image`. `context`: `request`, and plain values that the card may depend on."""
    request = context["request"]
    columns = [getattr(image, field.attname) for field in image._meta.concrete_fields]
    plain = [(name, value) for name, value in context.items() if name != "request"]
    key = (*columns, *plain, request.user.pk, request.path)
    html = None if settings.DEBUG else _kept(key)
    if html is None:
        html = render_to_string("gallery/_card.html", context | {"image": image, "csrf_token": _TOKEN})
        with _lock:
            _cards[key] = (time.monotonic() + SECONDS, html)
            while len(_cards) > MOST_CARDS:
                _cards.popitem(last=False)
    return html.replace(_TOKEN, csrf_token)


def _kept(key: tuple) -> str | None:
    with _lock:
        until, html = _cards.get(key, (0.0, ""))
        if until < time.monotonic():
            return None
        _cards.move_to_end(key)
        return html

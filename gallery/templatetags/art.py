"""Template tag `{% art %}`: an SVG drawing of `static/art/` inside the page.

Inside, not as an `<img>`: the style sheets give the drawings their colours and strokes, and so they follow the theme.
"""

import functools
import re

from django import template
from django.conf import settings
from django.utils.safestring import mark_safe

register = template.Library()

ART = settings.BASE_DIR / "static" / "art"


@register.simple_tag
def art(name: str) -> str:
    """The drawing `static/art/<name>.svg`. Always decoration: hidden from screen readers."""
    return _read(name)


@functools.cache
def _read(name: str) -> str:
    svg = (ART / f"{name}.svg").read_text().strip()
    svg = svg.replace('xmlns="http://www.w3.org/2000/svg"', 'aria-hidden="true" focusable="false"', 1)
    return mark_safe(re.sub(r"\n\s*", "", svg))

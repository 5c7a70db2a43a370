"""Template context processor of all pages. What costs a query is lazy, so that pages without it cost none."""

from typing import cast

from django.conf import settings
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from accounts import quotas
from accounts.models import User
from generation.models import Generation

from .panels import dock_panels

THEMES = ("system", "light", "dark")


def theme_of(request: HttpRequest) -> str:
    theme = request.COOKIES.get("theme", "system")
    return theme if theme in THEMES else "system"


def site(request: HttpRequest) -> dict:
    user = cast(User, getattr(request, "user", None))
    return {
        "version": settings.VERSION,
        "theme": theme_of(request),
        "registration_open": settings.REGISTRATION_OPEN,
        "quota": SimpleLazyObject(lambda: quotas.remaining(user)),
        "active_jobs": SimpleLazyObject(lambda: Generation.objects.visible_to(user).active().count()),
        "dock": SimpleLazyObject(lambda: dock_panels(user)),
    }

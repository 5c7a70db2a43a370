"""Every path answers with and without a slash at its end: a redirect would lose a posted body."""

from django.urls import path
from django.views.decorators.cache import cache_control

from . import schema, views

not_kept = cache_control(private=True, no_cache=True)
"""What one account may see must not come out of a cache for another, or after a sign-out."""


def both(route: str, view, name: str, *, caching=not_kept) -> list:
    """The path without a slash carries the name. `caching` None: the view says itself how long its answers keep."""
    view = caching(view) if caching else view
    return [path(route, view, name=name), path(f"{route}/", view)]


urlpatterns = [
    path("", views.info, name="api-root"),
    *both("health", views.health, "api-health"),
    *both("schema", schema.schema, "api-schema", caching=None),
    *both("status", views.system_status, "api-system-status"),
    *both("status/<uuid:generation_id>", views.generation_status, "api-status"),
    *both("models", views.models, "api-models"),
    *both("generate", views.generate, "api-generate"),
    *both("generate/status/<uuid:generation_id>", views.generation_status_alias, "api-generate-status"),
    *both("generate/<uuid:generation_id>/cancel", views.cancel, "api-cancel"),
    *both("generate/<uuid:generation_id>/retry", views.retry, "api-retry"),
    *both("generate/<uuid:generation_id>/events", views.events, "api-events", caching=None),
    *both("images/history", views.history, "api-history"),
    *both("images/<uuid:image_id>", views.image, "api-image"),
    *both("usage", views.usage, "api-usage"),
    *both("keys", views.keys, "api-keys"),
    *both("keys/<int:key_id>", views.key, "api-key"),
]

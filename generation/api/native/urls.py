"""URLs of the native API. Every path answers with and without a slash at its end: a redirect would lose a body."""

from collections.abc import Callable

from django.urls import URLPattern, path
from django.views.decorators.cache import cache_control
from django.views.decorators.http import conditional_page

from generation.api.http import schema

from . import engine_results, generations, images, keys, models, site, webhooks

private = cache_control(private=True, no_cache=True)
"""What one account may see must not come out of a cache for another, or after a sign-out."""


def revalidated(view: Callable) -> Callable:
    """As `private`, with an ETag, so that a caller who has the answer already is spared its body (304)."""
    return private(conditional_page(view))


def both(route: str, view: Callable, name: str, *, caching: Callable | None = private) -> list[URLPattern]:
    """The path without a slash carries the name. `caching` None: the view says itself how long its answers keep."""
    view = caching(view) if caching else view
    return [path(route, view, name=name), path(f"{route}/", view)]


urlpatterns = [
    path("", site.index, name="api-root"),
    *both("health", site.health, "api-health"),
    *both("schema", schema.schema, "api-schema", caching=None),
    *both("status", site.system_status, "api-system-status"),
    *both("status/<uuid:generation_id>", generations.generation_status, "api-status"),
    *both("models", models.models, "api-models", caching=revalidated),
    *both("parse-prompt", generations.parse_prompt, "api-parse-prompt"),
    *both("txt2img", generations.txt2img, "api-txt2img"),
    *both("img2img", generations.img2img, "api-img2img"),
    *both("results", generations.results, "api-results", caching=revalidated),
    *both("generate", generations.generate, "api-generate"),
    *both("generate/status/<uuid:generation_id>", generations.generation_status_alias, "api-generate-status"),
    *both("generate/<uuid:generation_id>/cancel", generations.cancel, "api-cancel"),
    *both("generate/<uuid:generation_id>/retry", generations.retry, "api-retry"),
    *both("generate/<uuid:generation_id>/events", generations.events, "api-events", caching=None),
    *both("images/history", images.history, "api-history", caching=revalidated),
    *both("images/bulk", images.bulk, "api-images-bulk"),
    *both("images/<uuid:image_id>", images.image, "api-image", caching=revalidated),
    *both("images/<uuid:image_id>/download", images.download, "api-image-download", caching=None),
    *both("usage", site.usage, "api-usage"),
    *both("keys", keys.keys, "api-keys"),
    *both("keys/<int:key_id>", keys.key, "api-key"),
    *both("webhooks", webhooks.endpoints, "api-webhooks"),
    *both("webhooks/<uuid:endpoint_id>", webhooks.endpoint, "api-webhook"),
    *both("webhooks/<uuid:endpoint_id>/test", webhooks.test, "api-webhook-test"),
    *both("webhooks/<uuid:endpoint_id>/rotate", webhooks.rotate, "api-webhook-rotate"),
    *both("webhooks/<uuid:endpoint_id>/deliveries", webhooks.deliveries, "api-webhook-deliveries"),
    *both("webhooks/deliveries/<uuid:delivery_id>/resend", webhooks.resend, "api-webhook-resend"),
    *both("generate/webhook", engine_results.engine_result, "api-engine-result", caching=None),
]

"""Every path answers with and without a slash at its end: a redirect would lose a posted body."""

from django.urls import path
from django.views.decorators.cache import cache_control
from django.views.decorators.http import conditional_page

from generation.api.http import schema

from . import generations, images, keys, models, site, webhooks

not_kept = cache_control(private=True, no_cache=True)
"""What one account may see must not come out of a cache for another, or after a sign-out."""


def checked(view):
    """As `not_kept`, with an ETag, so that a caller who has the answer already is spared its body (304)."""
    return not_kept(conditional_page(view))


def both(route: str, view, name: str, *, caching=not_kept) -> list:
    """The path without a slash carries the name. `caching` None: the view says itself how long its answers keep."""
    view = caching(view) if caching else view
    return [path(route, view, name=name), path(f"{route}/", view)]


urlpatterns = [
    path("", site.info, name="api-root"),
    *both("health", site.health, "api-health"),
    *both("schema", schema.schema, "api-schema", caching=None),
    *both("status", site.system_status, "api-system-status"),
    *both("status/<uuid:generation_id>", generations.generation_status, "api-status"),
    *both("models", models.models, "api-models", caching=checked),
    *both("parse-prompt", generations.parse_prompt, "api-parse-prompt"),
    *both("txt2img", generations.txt2img, "api-txt2img"),
    *both("img2img", generations.img2img, "api-img2img"),
    *both("results", generations.results, "api-results", caching=checked),
    *both("generate", generations.generate, "api-generate"),
    *both("generate/status/<uuid:generation_id>", generations.generation_status_alias, "api-generate-status"),
    *both("generate/<uuid:generation_id>/cancel", generations.cancel, "api-cancel"),
    *both("generate/<uuid:generation_id>/retry", generations.retry, "api-retry"),
    *both("generate/<uuid:generation_id>/events", generations.events, "api-events", caching=None),
    *both("images/history", images.history, "api-history", caching=checked),
    *both("images/bulk", images.bulk, "api-images-bulk"),
    *both("images/<uuid:image_id>", images.image, "api-image", caching=checked),
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
    *both("generate/webhook", webhooks.engine_result, "api-engine-result", caching=None),
]

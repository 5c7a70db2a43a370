"""URLs of the pages, except `/` (see `dreamsketch/urls.py`), the account pages, the admin and the API documentation."""

from django.urls import path, register_converter
from django.views.generic import RedirectView

from .events import events
from .views import (
    collections,
    create,
    drafts,
    edit,
    gallery,
    home,
    image,
    jobs,
    picture_actions,
    references,
    searches,
    settings,
    webhooks,
)


class ShortId:
    """The letters and digits of `GeneratedImage.short_id`; anything else is no address."""

    regex = "[0-9A-Za-z]{6,24}"

    def to_python(self, value):
        return value

    to_url = to_python


register_converter(ShortId, "short")

urlpatterns = [
    path("pricing/", home.pricing, name="pricing"),
    path("docs/", home.docs, name="docs"),
    path("docs/prompts/", home.docs_prompts, name="docs-prompts"),
    path("create/", create.create, name="create"),
    path("create/surprise/", create.surprise_me, name="create-surprise"),
    path("create/improve/", create.improve_prompt, name="create-improve"),
    path("create/suggestions/", create.more_ideas, name="create-suggestions"),
    path("create/controls/", create.controls, name="create-controls"),
    path("create/draft/", drafts.save, name="create-draft"),
    path("create/draft/clear/", drafts.clear, name="create-draft-clear"),
    path("create/draft/restore/", drafts.restore, name="create-draft-restore"),
    path("create/pictures/", references.pictures, name="create-pictures"),
    path("create/pictures/choose/", references.choose, name="create-pictures-choose"),
    path("create/pictures/<uuid:picture_id>.webp", references.picture, name="create-picture"),
    path("create/pictures/<uuid:picture_id>/<slug:kind>.webp", references.control_map, name="create-picture-map"),
    path("create/loras/<str:key>/preview/", references.lora_preview, name="create-lora-preview"),
    path("create/estimate/", create.estimate, name="create-estimate"),
    path("jobs/<uuid:pk>/", jobs.job, name="job"),
    path("jobs/<uuid:pk>/panel/", jobs.job_panel, name="job-panel"),
    path("jobs/<uuid:pk>/cancel/", jobs.job_cancel, name="job-cancel"),
    path("jobs/<uuid:pk>/retry/", jobs.job_retry, name="job-retry"),
    path("jobs/<uuid:pk>/delete/", jobs.job_delete, name="job-delete"),
    path("jobs/<uuid:pk>/preview.webp", jobs.job_preview, name="job-preview"),
    path("events/", events, name="events"),
    path("gallery/", gallery.gallery, name="gallery"),
    path("gallery/favourites/", gallery.favourites, name="gallery-favourites"),
    path("gallery/trash/", gallery.trash, name="trash"),
    path("gallery/bulk/", gallery.bulk, name="gallery-bulk"),
    path("gallery/undo/<str:token>/", gallery.undo, name="gallery-undo"),
    path("gallery/zip/", gallery.download_zip, name="gallery-zip"),
    path("gallery/searches/", searches.searches, name="searches"),
    path("gallery/searches/<int:pk>/rename/", searches.rename, name="search-rename"),
    path("gallery/searches/<int:pk>/delete/", searches.delete, name="search-delete"),
    path("gallery/collections/", collections.collections, name="collections"),
    path("gallery/collections/<slug:slug>/", collections.collection, name="collection"),
    path("gallery/collections/<slug:slug>/rename/", collections.rename, name="collection-rename"),
    path("gallery/collections/<slug:slug>/delete/", collections.delete, name="collection-delete"),
    path("gallery/collections/<slug:slug>/arrange/", collections.arrange, name="collection-arrange"),
    path("gallery/collections/<slug:slug>/move/", collections.move, name="collection-move"),
    path("gallery/collections/<slug:slug>/cover/", collections.cover, name="collection-cover"),
    path("i/<short:short_id>/", image.image_page, name="image"),
    path("i/<short:short_id>/download", image.download, name="image-download"),
    path("i/<short:short_id>/favourite/", image.favourite, name="image-favourite"),
    path("i/<short:short_id>/visibility/", image.visibility, name="image-visibility"),
    path("i/<short:short_id>/trash/", image.trash, name="image-trash"),
    path("i/<short:short_id>/restore/", image.restore, name="image-restore"),
    path("i/<short:short_id>/delete/", image.delete, name="image-delete"),
    path("i/<short:short_id>/menu/", picture_actions.menu, name="image-menu"),
    path("i/<short:short_id>/vary/", picture_actions.vary, name="image-vary"),
    path("i/<short:short_id>/upscale/", picture_actions.upscale, name="image-upscale"),
    path("i/<short:short_id>/compare/", picture_actions.compare, name="image-compare"),
    path("i/<short:short_id>/source.png", picture_actions.source_file, name="image-source"),
    path("i/<short:short_id>/edit/", edit.edit, name="image-edit"),
    path("i/<short:short_id>/edit/cost/", edit.cost, name="image-edit-cost"),
    path("i/<short:short_id>/edit/outcome/", edit.outcome, name="image-edit-outcome"),
    path("i/<short:short_id>/edit/discard/", edit.discard, name="image-edit-discard"),
    path("settings/", settings.overview, name="settings"),
    path("settings/plan/", settings.plan, name="settings-plan"),
    path("settings/keys/", settings.keys, name="settings-keys"),
    path("settings/keys/<int:pk>/revoke/", settings.revoke_key, name="settings-key-revoke"),
    path("settings/webhooks/", webhooks.endpoints, name="settings-webhooks"),
    path("settings/webhooks/<uuid:pk>/", webhooks.endpoint, name="settings-webhook"),
    path("settings/webhooks/<uuid:pk>/deliveries/", webhooks.deliveries, name="settings-webhook-deliveries"),
    path("settings/webhooks/<uuid:pk>/test/", webhooks.test, name="settings-webhook-test"),
    path("settings/webhooks/<uuid:pk>/rotate/", webhooks.rotate, name="settings-webhook-rotate"),
    path("settings/webhooks/<uuid:pk>/switch/", webhooks.switch, name="settings-webhook-switch"),
    path("settings/webhooks/<uuid:pk>/delete/", webhooks.delete, name="settings-webhook-delete"),
    path("settings/webhooks/deliveries/<uuid:pk>/resend/", webhooks.resend, name="settings-webhook-resend"),
    path("settings/appearance/", settings.appearance, name="settings-appearance"),
    path("images", RedirectView.as_view(pattern_name="gallery", permanent=True)),
    path("images/", RedirectView.as_view(pattern_name="gallery", permanent=True)),
    path("images/<uuid:image_id>", image.redirect_from_uuid),
    path("images/<uuid:image_id>/", image.redirect_from_uuid),
]

"""URLs of `/v1/`. Every path answers with and without a slash at its end: a redirect would lose a body."""

from django.urls import path

from generation.api.native.urls import both

from . import links, views

urlpatterns = [
    *both("images/generations", views.generations, "openai-generations"),
    *both("images/edits", views.edits, "openai-edits"),
    *both("images/variations", views.variations, "openai-variations"),
    *(
        path(
            f"images/files/<uuid:image_id>.{ending}", links.picture, {"format": format}, name=f"openai-picture-{format}"
        )
        for ending, format in links.ENDINGS.items()
    ),
    *both("models", views.models, "openai-models"),
    path("models/<path:model_id>", views.model, name="openai-model"),
]

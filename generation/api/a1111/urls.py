"""URLs of `/sdapi/v1/`, each with and without a slash at its end, as everywhere in the API."""

from django.urls import path

from generation.api.native.urls import both

from . import views

urlpatterns = [
    *both("txt2img", views.txt2img, "a1111-txt2img"),
    *both("img2img", views.img2img, "a1111-img2img"),
    *both("extra-single-image", views.extra_single_image, "a1111-extra-single-image"),
    *both("extra-batch-images", views.extra_batch_images, "a1111-extra-batch-images"),
    *both("png-info", views.png_info, "a1111-png-info"),
    *both("progress", views.progress, "a1111-progress"),
    *both("interrupt", views.interrupt, "a1111-interrupt"),
    *both("skip", views.skip, "a1111-skip"),
    *both("options", views.options, "a1111-options"),
    *both("refresh-checkpoints", views.refresh_checkpoints, "a1111-refresh-checkpoints"),
    *both("unload-checkpoint", views.unload_checkpoint, "a1111-unload-checkpoint"),
    *both("reload-checkpoint", views.reload_checkpoint, "a1111-reload-checkpoint"),
    *(pattern for name, view in views.LISTS.items() for pattern in both(name, view, f"a1111-{name}")),
    path("<path:rest>", views.not_found),
]

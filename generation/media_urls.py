from django.urls import path

from . import media

urlpatterns = [
    path("images/<uuid:image_id>.png", media.image_file, name="image-file"),
    path("thumbnails/<uuid:image_id>.webp", media.image_thumbnail, name="image-thumbnail"),
]

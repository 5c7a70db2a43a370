from django.urls import path

from . import serving

urlpatterns = [
    path("images/<uuid:image_id>.png", serving.image_file, name="image-file"),
    path("thumbnails/<uuid:image_id>.webp", serving.image_thumbnail, name="image-thumbnail"),
    path("thumbnails/<uuid:image_id>-<int:size>.webp", serving.image_thumbnail, name="image-thumbnail"),
]

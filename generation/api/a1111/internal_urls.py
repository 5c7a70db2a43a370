"""URLs of `/internal/`: the progress of a named task, as A1111's own page polls it."""

from generation.api.native.urls import both

from . import views

urlpatterns = [*both("progress", views.internal_progress, "a1111-internal-progress")]

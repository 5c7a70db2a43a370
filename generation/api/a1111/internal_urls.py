from generation.api.native.urls import both

from . import views

urlpatterns = [*both("progress", views.internal_progress, "a1111-internal-progress")]

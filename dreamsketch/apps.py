from django.apps import AppConfig
from django.contrib.staticfiles.apps import StaticFilesConfig


class DreamSketchConfig(AppConfig):
    """The project itself, for its commands."""

    name = "dreamsketch"


class StaticFiles(StaticFilesConfig):
    """Leaves out packages whose pages we do not show; hashing and compressing them takes most of the time."""

    ignore_patterns = [*StaticFilesConfig.ignore_patterns, "redoc", "rest_framework", "django_htmx"]

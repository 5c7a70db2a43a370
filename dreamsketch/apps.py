from django.apps import AppConfig
from django.contrib.staticfiles.apps import StaticFilesConfig


class DreamSketchConfig(AppConfig):
    """The project itself, for its commands and checks."""

    name = "dreamsketch"
    default = True  # of the two in this file

    def ready(self):
        from . import checks  # noqa: F401


class StaticFiles(StaticFilesConfig):
    """Leaves out packages whose pages we do not show; hashing and compressing them takes most of the time."""

    ignore_patterns = [*StaticFilesConfig.ignore_patterns, "redoc", "rest_framework", "django_htmx"]

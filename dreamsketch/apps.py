from django.apps import AppConfig


class DreamSketchConfig(AppConfig):
    """The project itself, for its commands."""

    name = "dreamsketch"

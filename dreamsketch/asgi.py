"""The web process (ASGI)."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dreamsketch.settings")

from dreamsketch.limits import BodyLimit

application = BodyLimit(get_asgi_application())

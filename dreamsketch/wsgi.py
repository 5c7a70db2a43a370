"""For hosts that speak only WSGI. Event streams need ASGI; pages fall back to polling here."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dreamsketch.settings")

application = get_wsgi_application()

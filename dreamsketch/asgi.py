"""The web process (ASGI)."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dreamsketch.settings")

django = get_asgi_application()

from dreamsketch.limits import BodyLimit  # noqa: E402
from dreamsketch.turns import InTurn  # noqa: E402

application = BodyLimit(InTurn(django))

"""The web process (ASGI)."""

import os

from django.core.asgi import get_asgi_application
from django.urls import get_resolver

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dreamsketch.settings")

django = get_asgi_application()

from dreamsketch.limits import BodyLimit  # noqa: E402
from dreamsketch.turns import InTurn  # noqa: E402
from dreamsketch.web_process import keep_out_of_collections  # noqa: E402

application = BodyLimit(InTurn(django))
get_resolver().url_patterns  # noqa: B018 - imports all pages now, and not while the first visitor waits
keep_out_of_collections()

"""The beginning of this site's addresses in answers and mail: SITE_URL, or an allowed host without a port of a caller's
choice."""

from django.conf import settings
from django.http import HttpRequest
from django.http.request import split_domain_port


def site_root(request: HttpRequest) -> str:
    """Such as `https://dreamsketch.example`, without a slash.

    Without SITE_URL it is the host that the caller named, which DJANGO_ALLOWED_HOSTS has. Any port could be named with
    it; only the one that this process listens on is believed, and behind a proxy none.
    """
    if settings.SITE_URL:
        return settings.SITE_URL
    host, named_port = split_domain_port(request.get_host())
    port = "" if settings.ALLAUTH_TRUSTED_PROXY_COUNT else request.get_port()
    return f"{request.scheme}://{host}:{port}" if named_port and port else f"{request.scheme}://{host}"

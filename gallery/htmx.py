"""htmx requests: caching rules, redirects, expired sign-ins, messages and announcements for screen readers."""

import json
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import resolve_url
from django.template.loader import render_to_string
from django.utils.cache import patch_vary_headers
from django.utils.deprecation import MiddlewareMixin
from django.utils.http import urlencode
from django_htmx.middleware import HtmxDetails

from accounts.models import User


class PageRequest(HttpRequest):
    """For type hints of views behind `login_required`; the middleware of django-htmx adds `htmx`."""

    user: User  # type: ignore[override]
    htmx: HtmxDetails


def wants_fragment(request: PageRequest) -> bool:
    """Whether htmx asks for a piece of the page, not for the page (as it does to restore history)."""
    return bool(request.htmx) and not request.htmx.history_restore_request


def came_from(request: PageRequest) -> str:
    """The path of the page that sent this request, or nothing where the browser does not say."""
    url = request.htmx.current_url if request.htmx else request.META.get("HTTP_REFERER")
    return urlsplit(url or "").path


def announce(response: HttpResponse, text: str) -> HttpResponse:
    """Have `text` read out by screen readers once the response is shown."""
    # JSON escapes everything beyond ASCII, which headers could not carry.
    response["HX-Trigger"] = json.dumps({"announce": {"text": text}})
    return response


def trigger(response: HttpResponse, event: str) -> HttpResponse:
    """Have `event` happen on the page once the response is shown."""
    response["HX-Trigger"] = json.dumps({event: {}})
    return response


def redirect_htmx(url: str) -> HttpResponse:
    """Have the browser go to `url`."""
    return HttpResponse(status=204, headers={"HX-Redirect": url})


def reload_htmx() -> HttpResponse:
    """Have the page loaded again, where it is."""
    return HttpResponse(status=204, headers={"HX-Refresh": "true"})


class FragmentMiddleware(MiddlewareMixin):
    """Finishes HTML answers; fragments also carry the waiting messages, and never a sign-in page."""

    # The innermost of the middlewares: since it is synchronous, so are all, and a request changes threads once
    # and not at each of them.
    async_capable = False

    def process_response(self, request: PageRequest, response: HttpResponseBase) -> HttpResponseBase:
        if not isinstance(response, HttpResponse) or not hasattr(request, "htmx"):
            return response
        if request.htmx and response.status_code in (301, 302, 303):
            return self._redirect(request, response)
        if not response.get("Content-Type", "").startswith("text/html"):
            return response
        patch_vary_headers(response, ["HX-Request", "HX-History-Restore-Request"])
        fragment = wants_fragment(request)
        if response.status_code < 500 and not response.has_header("Cache-Control"):
            response["Cache-Control"] = "private, no-store" if fragment else "private, no-cache"
        if fragment and response.status_code in (200, 422, 429):
            self._add_messages(request, response)
        return response

    @staticmethod
    def _redirect(request: PageRequest, response: HttpResponse) -> HttpResponse:
        """htmx would follow the redirect and put a whole page into a panel."""
        target = response["Location"]
        login = resolve_url(settings.LOGIN_URL)
        if target.partition("?")[0] == login:
            page = request.htmx.current_url_abs_path or "/"
            target = f"{login}?{urlencode({'next': page})}"
        redirect = redirect_htmx(target)
        for name, cookie in response.cookies.items():
            redirect.cookies[name] = cookie
        return redirect

    @staticmethod
    def _add_messages(request: PageRequest, response: HttpResponse) -> None:
        pending = list(messages.get_messages(request))
        if pending:
            response.content += render_to_string("_toasts_partial.html", {"messages": pending}, request).encode()

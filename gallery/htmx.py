"""What htmx requests need beyond the page: caching rules, expired sign-ins, messages and announcements."""

import json

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import resolve_url
from django.template.loader import render_to_string
from django.utils.cache import patch_vary_headers
from django.utils.deprecation import MiddlewareMixin
from django.utils.http import urlencode


def wants_fragment(request) -> bool:
    """Whether htmx asks for a piece of the page, not for the page (as it does to restore history)."""
    return bool(request.htmx) and not request.htmx.history_restore_request


def announce(response, text: str):
    """Have `text` read out by screen readers once the response is shown."""
    # JSON escapes everything beyond ASCII, which headers could not carry.
    response["HX-Trigger"] = json.dumps({"announce": {"text": text}})
    return response


def redirect_htmx(url: str) -> HttpResponse:
    return HttpResponse(status=204, headers={"HX-Redirect": url})


def reload_htmx() -> HttpResponse:
    """Have the page loaded again, where it is."""
    return HttpResponse(status=204, headers={"HX-Refresh": "true"})


class FragmentMiddleware(MiddlewareMixin):
    """Finishes HTML answers; fragments also carry the waiting messages, and never a sign-in page."""

    # The innermost of the middlewares: since it is synchronous, so are all, and a request changes threads once
    # and not at each of them.
    async_capable = False

    def process_response(self, request, response):
        if response.streaming or not hasattr(request, "htmx"):
            return response
        if request.htmx and response.status_code in (301, 302, 303):
            return self._follow(request, response)
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
    def _follow(request, response):
        """htmx would follow the redirect and put a whole page into a panel."""
        target = response["Location"]
        login = resolve_url(settings.LOGIN_URL)
        if target.partition("?")[0] == login:
            here = request.htmx.current_url_abs_path or "/"
            target = f"{login}?{urlencode({'next': here})}"
        answer = redirect_htmx(target)
        for name, cookie in response.cookies.items():
            answer.cookies[name] = cookie
        return answer

    @staticmethod
    def _add_messages(request, response):
        waiting = list(messages.get_messages(request))
        if waiting:
            response.content += render_to_string("_toasts_partial.html", {"messages": waiting}, request).encode()

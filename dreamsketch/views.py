"""Error pages, and the old addresses that other sites link to.

The ASGI server imports this before Django's apps are ready: no models here, nor what imports them.
"""

from django.http import HttpResponse
from django.shortcuts import redirect
from django.template.loader import get_template

from generation.api.http.errors import Problem, error_response

API_PREFIXES = ("/api/", "/v1/", "/sdapi/", "/internal/", "/inference/")
RETRY_SECONDS = 5


def _answer(request, status: int, code: str, message: str, template: str | None = None) -> HttpResponse:
    """The error as JSON for programs, as a page for people."""
    if request.path.startswith(API_PREFIXES):
        return error_response(request, Problem(status, code, message))
    if status >= 500:
        # No request context: that would ask the database for the user, and the database may be the trouble.
        content = get_template(template or f"errors/{status}.html").render(
            {"request_id": getattr(request, "request_id", "")}
        )
    else:
        content = get_template(template or f"errors/{status}.html").render({"message": message}, request)
    return HttpResponse(content, status=status)


def bad_request(request, exception=None):
    return _answer(request, 400, "bad_request", "The request could not be understood.")


def forbidden(request, exception=None):
    return _answer(request, 403, "forbidden", "You may not do this.")


def not_found(request, exception=None):
    return _answer(request, 404, "not_found", "There is nothing at this address.")


def server_error(request):
    return _answer(request, 500, "server_error", "Something broke on our side. Nothing you saved is lost.")


def unavailable(request):
    response = _answer(request, 503, "unavailable", "The studio is closed for a moment. Please try again shortly.")
    response["Retry-After"] = str(RETRY_SECONDS)
    return response


def csrf_failure(request, reason=""):
    return _answer(
        request,
        403,
        "csrf_failed",
        "This form was open for too long. Go back, reload and send it again.",
        template="errors/csrf.html",
    )


def to_login(request):
    return redirect("account_login", permanent=True)


def to_signup(request):
    return redirect("account_signup", permanent=True)

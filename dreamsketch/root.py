"""The view of `/`: the home page for people, the index of the API for programs."""

from django.http import HttpRequest, HttpResponseBase
from django.views.decorators.http import require_safe
from django.views.decorators.vary import vary_on_headers

from gallery.views.home import home
from generation.api.native import site


@require_safe
@vary_on_headers("Accept")
def root(request: HttpRequest) -> HttpResponseBase:
    """By what the caller accepts."""
    if request.accepts("application/json") and not request.accepts("text/html"):
        return site.index(request)
    return home(request)

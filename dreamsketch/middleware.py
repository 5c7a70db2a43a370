"""Django middleware: a request id on every response, and a clear 503 while Postgres is away."""

import logging
import re
import uuid

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.db import InterfaceError, OperationalError

from generation.live.sse import release_connection
from generation.log import log_context

from . import views

log = logging.getLogger(__name__)
_VALID_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")


def request_id_of(header: str) -> str:
    """The id of a request: its X-Request-Id where that is well-formed, or a new one."""
    return header if _VALID_ID.fullmatch(header) else uuid.uuid4().hex


class Middleware:
    """Base class of middleware that runs under ASGI and WSGI alike."""

    sync_capable = async_capable = True

    def __init__(self, get_response):
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request):
        raise NotImplementedError


class RequestId(Middleware):
    """Sets `request.request_id` (the caller's X-Request-Id where it is well-formed) and answers with it."""

    def __call__(self, request):
        request.request_id = request_id_of(request.headers.get("X-Request-Id", ""))
        if iscoroutinefunction(self):
            return self._acall(request)
        with log_context(request=request.request_id):
            response = self._mark(request, self.get_response(request))
        release_connection()  # as below
        return response

    async def _acall(self, request):
        with log_context(request=request.request_id):
            response = self._mark(request, await self.get_response(request))
        if not response.get("Content-Type", "").startswith("text/event-stream"):
            # Now and not when it has been sent: whoever reads slowly would keep a connection for as long.
            await sync_to_async(release_connection)()
        return response

    @staticmethod
    def _mark(request, response):
        response["X-Request-Id"] = request.request_id
        return response


class DatabaseDown(Middleware):
    """Turns lost database connections into 503 with Retry-After, wherever they come up."""

    def __call__(self, request):
        if iscoroutinefunction(self):
            return self._acall(request)
        try:
            return self.get_response(request)
        except (OperationalError, InterfaceError) as error:
            return unavailable(request, error)

    async def _acall(self, request):
        try:
            return await self.get_response(request)
        except (OperationalError, InterfaceError) as error:
            return unavailable(request, error)

    def process_exception(self, request, exception):
        if isinstance(exception, (OperationalError, InterfaceError)):
            return unavailable(request, exception)
        return None


def unavailable(request, error):
    """The 503 for a request that a lost database connection ended."""
    log.error("The database is away: %s", error)
    return views.unavailable(request)

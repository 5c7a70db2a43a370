"""HTTP client for remote engines: retries with backoff, bounded answers, no secrets in logs. No torch.

response = HttpClient().post("https://gpu.example.com/draw", json={...}, secret="key", sleep=sleep_while_alive)
"""

import email.utils
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests
import urllib3

from generation.engine.errors import EngineError

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10
MAX_RESPONSE_BYTES = 64 * 2**20
MAX_LOGGED_CHARACTERS = 300
RETRIED_STATUSES = (429, 500, 502, 503)
"""Not 504: there somebody may still be drawing, and would be asked to draw it twice."""


class RemoteFailed(EngineError):
    """The outside engine cannot be reached, is busy, or broke. Another attempt may succeed."""

    code = "remote_failed"

    def __init__(self, message: str = "The outside engine did not deliver the picture. It was not counted."):
        super().__init__(message)


class RemoteTimedOut(RemoteFailed):
    """No answer in time; the outside engine may still be working."""

    code = "remote_timed_out"

    def __init__(self):
        super().__init__("The outside engine took too long. The picture was not counted.")


class RemoteRefused(RemoteFailed):
    """The outside engine did not accept the request, and will not the next time."""

    code = "remote_refused"
    transient = False

    def __init__(self, message: str = "The outside engine did not accept this request. It was not counted."):
        super().__init__(message)


class RemoteUnauthorized(RemoteRefused):
    """The outside engine does not know our key: for operators to mend."""

    code = "remote_unauthorized"

    def __init__(self):
        super().__init__("This site may not use its outside engine at present. The picture was not counted.")


class BadResponse(RemoteFailed):
    """What came back is no picture, too large, or not as agreed."""

    code = "remote_bad_answer"

    def __init__(self):
        super().__init__("The outside engine's answer was no picture. It was not counted.")


@dataclass(frozen=True, slots=True)
class Response:
    """A successful response, read to its end."""

    status: int
    media_type: str
    """Without parameters."""
    body: bytes


class _Bearer(requests.auth.AuthBase):
    """Set at the last moment, and so that no `.netrc` of this machine goes out in its place."""

    def __init__(self, secret: str):
        self._secret = secret

    def __call__(self, request):
        if self._secret:
            request.headers["Authorization"] = f"Bearer {self._secret}"
        return request


class HttpClient:
    """`attempts`: how often one request is sent at most. `seconds`: how long each answer may take.
    `first_pause`: seconds before the second attempt; each later one waits twice as long."""

    def __init__(self, *, attempts: int = 4, seconds: float = 120, first_pause: float = 1.0, longest_pause: float = 60):
        self._attempts = attempts
        self._seconds = seconds
        self._first_pause = first_pause
        self._longest_pause = longest_pause

    def post(self, url: str, *, secret: str = "", sleep: Callable[[float], None] = time.sleep, **content) -> Response:
        """Send until an answer is there; 2xx only. `content` is what `requests` takes: json, data, files, headers.

        Sent again after 429, 500, 502 and 503, and where no connection came about; `Retry-After` counts, and
        `X-Should-Retry: false` too. Redirects are not followed. `sleep(seconds)` waits, and may raise to give
        up. Raises one of the errors above.
        """
        host = urlsplit(url).hostname or "?"
        for attempt in range(1, self._attempts + 1):
            try:
                received, pause = self._send(url, host, secret, content)
                if received:
                    return received
            except requests.Timeout as error:
                if not isinstance(error, requests.ConnectTimeout):
                    raise RemoteTimedOut() from None
                pause, problem = None, "no connection in time"
            except requests.ConnectionError as error:
                # Its text may repeat the whole address, and that may hold a secret.
                pause, problem = None, f"no connection ({type(error).__name__})"
            except requests.RequestException as error:
                log.warning("%s cannot be asked: %s", host, type(error).__name__)
                raise RemoteFailed() from None
            else:
                problem = "busy or broken"
            backoff = self._first_pause * 2 ** (attempt - 1) * random.uniform(1.0, 1.3)
            pause = backoff if pause is None else max(pause, backoff)
            if attempt == self._attempts or pause > self._longest_pause:
                log.warning("%s: %s, given up after %d attempts", host, problem, attempt)
                raise RemoteFailed()
            log.info("%s: %s, again in %.1f s", host, problem, pause)
            sleep(pause)
        raise RemoteFailed()

    def _send(self, url: str, host: str, secret: str, content: dict) -> tuple[Response | None, float | None]:
        """The response; or None and the seconds of its Retry-After, where the request should be sent again."""
        deadline = time.monotonic() + self._seconds
        with (
            requests.Session() as session,
            session.post(
                url,
                auth=_Bearer(secret),
                timeout=(CONNECT_SECONDS, self._seconds),
                stream=True,
                allow_redirects=False,
                **content,
            ) as response,
        ):
            body = _read(response, deadline)
            status = response.status_code
            if 200 <= status < 300:
                return Response(
                    status, response.headers.get("Content-Type", "").partition(";")[0].strip().lower(), body
                ), None
            log.warning("%s answered %d: %r", host, status, _excerpt(body, secret))
            may_retry = response.headers.get("X-Should-Retry", "").strip().lower() != "false"
            if status in RETRIED_STATUSES and may_retry:
                return None, _retry_after(response.headers.get("Retry-After"))
            if status in (401, 403):
                raise RemoteUnauthorized()
            if status in (408, 504):
                raise RemoteTimedOut()
            if 400 <= status < 500:
                raise RemoteRefused()
            raise RemoteFailed()


def _read(response, deadline) -> bytes:
    """The body, within bounds of size and time: a server may send a byte a minute for ever."""
    parts, size = [], 0
    try:
        # Not `iter_content`, which waits until a part is full.
        while part := response.raw.read1(64 * 1024, decode_content=True):
            parts.append(part)
            size += len(part)
            if size > MAX_RESPONSE_BYTES:
                raise BadResponse()
            if time.monotonic() > deadline:
                raise RemoteTimedOut()
    except (urllib3.exceptions.HTTPError, OSError):
        # An answer had begun, so the request arrived: it is not sent again. A silence looks like a lost connection.
        raise (RemoteTimedOut if time.monotonic() > deadline else RemoteFailed)() from None
    return b"".join(parts)


def _excerpt(body: bytes, secret: str) -> str:
    """The beginning of a response, for the log, without the secret, which it may repeat."""
    text = body[:4096].decode("utf-8", "replace")
    return (text.replace(secret, "…") if secret else text)[:MAX_LOGGED_CHARACTERS]


def _retry_after(value: str | None) -> float | None:
    """Seconds from a Retry-After header, which holds a number or a date."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None

"""Running the sanitizer: a process for each picture, one at a time per account, with refused pictures counted.

Decoding costs a processor and a few hundred megabytes, so few run at once. An account has one place, and its next
pictures wait for that; so whoever sends slow ones waits for themselves only.
"""

import json
import logging
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.core.cache import cache
from django.db import connection

from generation.engine.errors import InvalidRequest
from generation.refusals import TooManyUploads, UnsupportedPicture
from generation.turn import step_aside

log = logging.getLogger(__name__)

MAX_PIXELS = 16 * 2**20
SECONDS = 10
"""Until a process is given up that waits for a processor; of that it may use less (see `sanitize`)."""
PROCESSES = 2
MOST_WAITING = 8
"""Pictures of one account that may wait for its place."""
WAIT_SECONDS = 20
PAUSE_SECONDS = 2
"""Before one too many is refused, within its sender's own turn, so that who sends it again at once costs little."""
NICENESS, NICENESS_AFTER_REFUSAL = 0, 15
"""Of the process: whoever sent a picture within the hour that could not be read comes after pages and other people."""
REFUSED_PER_HOUR = 60
HOUR = 3600
PROGRAM = Path(__file__).with_name("sanitize.py")


class Places:
    """Who may run a sanitizing process in this web process: `count` accounts, each with one."""

    def __init__(self, count: int):
        self._count = count
        self._taken: set[int] = set()
        self._waiting: Counter[int] = Counter()
        self._changed = threading.Condition()

    @contextmanager
    def place_of(self, owner_id: int, param: str) -> Iterator[None]:
        """Wait for this account's place. Raises TooManyUploads where too many wait, or for too long."""
        if self._waiting[owner_id] >= MOST_WAITING:
            time.sleep(PAUSE_SECONDS)
            raise _too_many_at_once(param)
        step_aside()
        with self._changed:
            self._waiting[owner_id] += 1
            try:
                free = self._changed.wait_for(lambda: self._is_free(owner_id), WAIT_SECONDS)
            finally:
                self._waiting[owner_id] -= 1
                if not self._waiting[owner_id]:
                    del self._waiting[owner_id]
            if not free:
                raise _too_many_at_once(param)
            self._taken.add(owner_id)
        try:
            yield
        finally:
            with self._changed:
                self._taken.remove(owner_id)
                self._changed.notify_all()

    def _is_free(self, owner_id: int) -> bool:
        return owner_id not in self._taken and len(self._taken) < self._count


_places = Places(PROCESSES)


def clean_png(owner_id: int, data: bytes, kind: str, param: str) -> bytes:
    """The PNG that `sanitize.py` makes of `data`; `kind` as it says there.

    Raises InvalidRequest, UnsupportedPicture or TooManyUploads, with `param`.
    """
    if not connection.in_atomic_block:
        connection.close()  # others may have it while this waits
    with _places.place_of(owner_id, param):
        # Read and written in the account's own place, so that no two count at once.
        refused = cache.get(_refused_key(owner_id), 0)
        if refused >= REFUSED_PER_HOUR:
            raise TooManyUploads(
                f"{REFUSED_PER_HOUR} of your pictures could not be read. Please wait an hour before the next.",
                param=param,
                retry_after=HOUR,
            )
        try:
            return _run(data, kind, param, NICENESS_AFTER_REFUSAL if refused else NICENESS)
        except (InvalidRequest, UnsupportedPicture):
            cache.set(_refused_key(owner_id), refused + 1, HOUR)
            raise


def _refused_key(owner_id: int) -> str:
    return f"refused-pictures:{owner_id}"


def _too_many_at_once(param: str) -> TooManyUploads:
    return TooManyUploads(
        "Too many of your pictures are being read. Send them one after the other.", param=param, retry_after=5
    )


def _run(data: bytes, kind: str, param: str, niceness: int) -> bytes:
    formats = ",".join(name.upper() for name in settings.ALLOWED_IMAGE_FORMATS)
    try:
        result = subprocess.run(
            [sys.executable, "-I", str(PROGRAM), kind, str(MAX_PIXELS), formats, str(niceness)],
            input=data,
            capture_output=True,
            timeout=SECONDS,
            check=False,
            cwd="/",
            env={},
        )
    except subprocess.TimeoutExpired:
        raise _takes_too_long(param) from None
    if result.returncode == 0:
        return result.stdout
    if result.returncode == -signal.SIGXCPU:
        raise _takes_too_long(param)
    if result.returncode == 3:
        refusal = json.loads(result.stderr)
        if refusal["kind"] == "unsupported":
            raise UnsupportedPicture(refusal["message"], param=param)
        raise InvalidRequest(refusal["message"], param)
    log.warning(
        "A picture of %s bytes could not be sanitized (%s): %s",
        len(data),
        result.returncode,
        result.stderr[-300:].decode(errors="replace"),
    )
    raise InvalidRequest("This picture could not be read.", param)


def _takes_too_long(param: str) -> InvalidRequest:
    return InvalidRequest("This picture takes too long to read. Save it anew in an ordinary way.", param)

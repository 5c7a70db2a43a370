"""One A1111 call as one generation or several in sequence, with its progress, interrupt and skip in the cache.

Kept in the cache for the time of a run: `run:<generation>` where in its run a generation stands, `task:…` which
generation a named task has come to, `skip:<generation>` that the run goes on after its cancellation, `stop:…` a
token that an interrupt changes, so that runs which began before it start nothing more.
"""

import hashlib
import uuid
from collections.abc import Callable
from typing import TypeVar

from django.conf import settings
from django.core.cache import cache

from accounts import quotas
from accounts.models import User
from accounts.refusals import QuotaExceeded
from generation.api.http.requests import ApiRequest
from generation.api.http.results import REQUEST_FAULTS, NotDrawn, NotNow
from generation.api.http.waiting import wait_for
from generation.models import Generation, GenerationQuerySet
from generation.refusals import REFUSALS
from generation.services.generations import cancel_generation, create_generation
from generation.storage.uploads import undone_on_refusal

T = TypeVar("T")

KEPT_SECONDS = settings.GENERATION_DEADLINE_SECONDS + 300
Status = Generation.Status


def caller_of(request: ApiRequest) -> str:
    """Whose work is whose: a key's, or that of an account signed in without one."""
    return f"key-{request.auth.pk}" if request.auth else f"user-{request.user.pk}"


def own_work(request: ApiRequest) -> GenerationQuerySet:
    """Generations that this caller asked for through this dialect."""
    own = Generation.objects.visible_to(request.user)
    return own.filter(source=Generation.Source.A1111, api_key=request.auth or None)


class Run:
    """The parts of one call."""

    def __init__(self, request, kind: str):
        self.request, self.kind = request, kind
        self.generations: list[Generation] = []
        self._caller = caller_of(request)
        self._stop = cache.get(_stop_key(self._caller))

    def draw(self, parts: list[dict], first: Generation, task: str) -> list[Generation]:
        """Wait for `first`, which was made of the first part, and create the others; returns all at their ends.

        After an interrupt there are fewer. Raises NotDrawn or NotNow when there is no picture at all.
        """
        try:
            generation = first
            for place, kwargs in enumerate(parts):
                if place:
                    generation = create(self.request, kwargs)
                self._note(generation, place, len(parts), task)
                self.generations.append(wait_for(generation, settings.GENERATION_DEADLINE_SECONDS + 60))
                if not self._goes_on():
                    break
        except REFUSALS:
            pass  # what is drawn already is counted, so it is given
        finally:
            self._forget(task)
        _refuse_if_empty(self.generations)
        return self.generations

    def _note(self, generation: Generation, place: int, count: int, task: str) -> None:
        note = {"place": place, "count": count, "task": task, "kind": self.kind}
        cache.set(_run_key(generation.pk), note, KEPT_SECONDS)
        if task:
            cache.set(_task_key(self._caller, task), {"generation": str(generation.pk)}, KEPT_SECONDS)

    def _goes_on(self) -> bool:
        if cache.get(_stop_key(self._caller)) != self._stop:
            return False
        last = self.generations[-1]
        return last.status == Status.COMPLETED or cache.get(_skip_key(last.pk)) is not None

    def _forget(self, task: str) -> None:
        for generation in self.generations:
            cache.delete(_run_key(generation.pk))
        if task:
            cache.set(_task_key(self._caller, task), {"generation": None}, KEPT_SECONDS)


def draw(
    request: ApiRequest, read: Callable[[], tuple[T, list[dict], str]], *, kind: str
) -> tuple[T, list[Generation]]:
    """Create the generations of a call, one after the other, and wait for them.

    `read()` parses the call: it returns what the caller wants back, the keyword arguments of `create_generation` for
    each part, and the name of the task. Returns the first of these, and the generations at their ends (`Run.draw`).

    Raises as `create_generation` does; nothing is left of the pictures that came with the request then.
    """
    run = Run(request, kind)
    with undone_on_refusal():
        parsed, parts, task = read()
        check_quota(request.user, parts)
        first = create(request, parts[0])
    return parsed, run.draw(parts, first, task)


def create(request: ApiRequest, kwargs: dict) -> Generation:
    source = Generation.Source.A1111
    generation, _ = create_generation(user=request.user, source=source, api_key=request.auth, **kwargs)
    return generation


def check_quota(user: User, parts: list[dict]) -> None:
    """Refuse at once what the day's quota could not finish. Each part is still held by itself when it comes."""
    count, quota = sum(part.get("num_images", 1) for part in parts), quotas.remaining(user)
    if len(parts) > 1 and quota.remaining is not None and count > quota.remaining:
        raise QuotaExceeded(
            f"You have {quota.remaining} of {quota.limit} images left today and asked for {count}.",
            retry_after=quotas.seconds_until(quota.resets_at),
        )


def _refuse_if_empty(generations: list[Generation]) -> None:
    last = generations[-1]
    if any(generation.image_count for generation in generations) or last.status in (Status.COMPLETED, Status.CANCELLED):
        return
    message = last.error_message or "No picture came of this."
    if last.status == Status.BLOCKED or last.error_code in REQUEST_FAULTS:
        raise NotDrawn(last.error_code or last.status, message)
    raise NotNow(message)


# --- progress, interrupt and skip -----------------------------------------------------------------------


def position_of(generation: Generation) -> dict:
    """`place` and `count` of a generation in its run, `task` and `kind`."""
    return cache.get(_run_key(generation.pk)) or {"place": 0, "count": 1, "task": "", "kind": "txt2img"}


def goes_on(generation: Generation) -> bool:
    """Whether a generation that has ended was not the last of its run."""
    note = cache.get(_run_key(generation.pk))
    return bool(note) and note["place"] + 1 < note["count"]


def generation_of_task(request: ApiRequest, task: str) -> dict | None:
    """{"generation": id} while the task runs, {"generation": None} when it has ended, None if it is not known."""
    return cache.get(_task_key(caller_of(request), task))


def interrupt(request: ApiRequest) -> None:
    """Stop all that this caller has running or waiting, and what its runs would still start."""
    cache.set(_stop_key(caller_of(request)), uuid.uuid4().hex, KEPT_SECONDS)
    for generation in own_work(request).active():
        cancel_generation(generation)


def skip(request: ApiRequest) -> None:
    """Stop the part that is being drawn; its run goes on with the next."""
    generation = own_work(request).active().order_by("created_at").first()
    if generation is not None:
        cache.set(_skip_key(generation.pk), True, KEPT_SECONDS)
        cancel_generation(generation)


def _run_key(generation_id) -> str:
    return f"a1111:run:{generation_id}"


def _skip_key(generation_id) -> str:
    return f"a1111:skip:{generation_id}"


def _stop_key(caller: str) -> str:
    return f"a1111:stop:{caller}"


def _task_key(caller: str, task: str) -> str:
    return f"a1111:task:{caller}:{hashlib.sha256(task.encode()).hexdigest()}"

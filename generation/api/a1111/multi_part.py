"""One call as one generation or as several in sequence, and what others may know of it meanwhile.

Kept in the cache for the time of a run: `run:<generation>` where in its run a generation stands, `task:…` which
generation a named task has come to, `skip:<generation>` that the run goes on after its cancellation, `stop:…` a
token that an interrupt changes, so that runs which began before it start nothing more.
"""

import hashlib
import uuid
from collections.abc import Callable

from django.conf import settings
from django.core.cache import cache

from accounts import quotas
from accounts.refusals import QuotaExceeded, Refusal
from generation.api.http.results import ASKERS_FAULT, NotDrawn, NotNow
from generation.api.http.waiting import wait_for
from generation.engine.errors import InvalidRequest
from generation.models import Generation
from generation.services import generations as services
from generation.storage.uploads import undone_on_refusal

KEPT_SECONDS = settings.GENERATION_DEADLINE_SECONDS + 300
Status = Generation.Status


def caller_of(request) -> str:
    """Whose work is whose: a key's, or that of an account signed in without one."""
    return f"key-{request.auth.pk}" if request.auth else f"user-{request.user.pk}"


def own_work(request):
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
        """Wait for `first`, which was made of the first part, and ask for the others; returns all at their ends.

        After an interrupt there are fewer. Raises NotDrawn or NotNow when there is no picture at all.
        """
        try:
            generation = first
            for place, part in enumerate(parts):
                if place:
                    generation = create(self.request, part)
                self._note(generation, place, len(parts), task)
                self.generations.append(wait_for(generation, settings.GENERATION_DEADLINE_SECONDS + 60))
                if not self._goes_on():
                    break
        except (Refusal, InvalidRequest):
            pass  # what is drawn already is counted, so it is given
        finally:
            self._forget(task)
        _refuse_nothing(self.generations)
        return self.generations

    def _note(self, generation, place: int, count: int, task: str) -> None:
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


def draw(request, read: Callable[[], tuple], *, kind: str):
    """`read()` gives anything, the parts (words of `create_generation`) and the name of the task. Returns that anything
    and the generations at their ends, see `Run.draw`.

    Raises as `create_generation` does; nothing is left of the pictures that came with the request then.
    """
    run = Run(request, kind)
    with undone_on_refusal():
        asked, parts, task = read()
        check_room(request.user, parts)
        first = create(request, parts[0])
    return asked, run.draw(parts, first, task)


def create(request, words: dict) -> Generation:
    return services.create_generation(user=request.user, source=Generation.Source.A1111, api_key=request.auth, **words)[
        0
    ]


def check_room(user, parts: list[dict]) -> None:
    """Refuse at once what the day's quota could not finish. Each part is still held by itself when it comes."""
    wanted, left = sum(part.get("num_images", 1) for part in parts), quotas.remaining(user)
    if len(parts) > 1 and left.remaining is not None and wanted > left.remaining:
        raise QuotaExceeded(
            f"You have {left.remaining} of {left.limit} images left today and asked for {wanted}.",
            retry_after=quotas.seconds_until(left.resets_at),
        )


def _refuse_nothing(generations: list[Generation]) -> None:
    last = generations[-1]
    if any(one.image_count for one in generations) or last.status in (Status.COMPLETED, Status.CANCELLED):
        return
    message = last.error_message or "No picture came of this."
    if last.status == Status.BLOCKED or last.error_code in ASKERS_FAULT:
        raise NotDrawn(last.error_code or last.status, message)
    raise NotNow(message)


# --- what others ask and want ---------------------------------------------------------------------------


def place_of(generation: Generation) -> dict:
    """`place` and `count` of a generation in its run, `task` and `kind`."""
    return cache.get(_run_key(generation.pk)) or {"place": 0, "count": 1, "task": "", "kind": "txt2img"}


def goes_on(generation: Generation) -> bool:
    """Whether a generation that has ended was not the last of its run."""
    note = cache.get(_run_key(generation.pk))
    return bool(note) and note["place"] + 1 < note["count"]


def generation_of_task(request, task: str) -> dict | None:
    """{"generation": id} while the task runs, {"generation": None} when it has ended, None if it is not known."""
    return cache.get(_task_key(caller_of(request), task))


def interrupt(request) -> None:
    """Stop all that this caller has running or waiting, and what its runs would still start."""
    cache.set(_stop_key(caller_of(request)), uuid.uuid4().hex, KEPT_SECONDS)
    for generation in own_work(request).active():
        services.cancel_generation(generation)


def skip(request) -> None:
    """Stop the part that is being drawn; its run goes on with the next."""
    generation = own_work(request).active().order_by("created_at").first()
    if generation is not None:
        cache.set(_skip_key(generation.pk), True, KEPT_SECONDS)
        services.cancel_generation(generation)


def _run_key(generation_id) -> str:
    return f"a1111:run:{generation_id}"


def _skip_key(generation_id) -> str:
    return f"a1111:skip:{generation_id}"


def _stop_key(caller: str) -> str:
    return f"a1111:stop:{caller}"


def _task_key(caller: str, task: str) -> str:
    return f"a1111:task:{caller}:{hashlib.sha256(task.encode()).hexdigest()}"

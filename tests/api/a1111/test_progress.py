"""progress, interrupt and skip: only the caller's own work, and idle when there is none."""

import time

import pytest
from django.utils import timezone

from accounts.models import ApiKey
from generation.api.a1111 import multi_part
from generation.live import hub, store
from generation.models import Generation

from .conftest import Caller, opened, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

LONG = {"steps": 100, "width": 128, "height": 128}
IDLE = {"progress": 0.0, "eta_relative": 0.0, "current_image": None, "textinfo": None}


def drawing(caller):
    """The progress of a caller whose picture is being drawn."""
    return wait_until(lambda: (now := caller.get("progress").json())["state"]["sampling_step"] and now, "drawing")


def test_idle(caller, documented):
    answer = documented(caller.get("progress"), "get", "/sdapi/v1/progress")
    assert {name: answer[name] for name in IDLE} == IDLE
    assert (answer["state"]["job_count"], answer["state"]["job"]) == (0, "")


def test_progress_and_interrupt(caller, another, start_worker, documented):
    start_worker(seconds_per_step=0.05)
    answer = caller.later(**LONG)
    now = drawing(caller)
    assert 0 < now["progress"] < 1
    assert (now["state"]["job_count"], now["state"]["job_no"], now["state"]["sampling_steps"]) == (1, 0, 100)
    assert now["state"]["job"] == "scripts_txt2img" and len(now["state"]["job_timestamp"]) == 14
    documented(caller.get("progress"), "get", "/sdapi/v1/progress")

    def shown():
        return caller.get("progress").json()["current_image"]

    assert opened(wait_until(shown, "a preview")).format == "PNG"
    assert caller.get("progress", skip_current_image="true").json()["current_image"] is None
    assert another.get("progress").json()["state"]["job_count"] == 0

    documented(caller.post("interrupt"), "post", "/sdapi/v1/interrupt")
    response = answer()
    assert response.status_code == 200
    assert response.json()["images"] == []
    assert Generation.objects.get().status == "cancelled"
    assert caller.get("progress").json()["state"]["job_count"] == 0


def test_an_interrupt_touches_nobody_elses_work(caller, another, pro_user, api_client, make_generation, start_worker):
    """Nor what the same person asked for with another key, or elsewhere."""
    start_worker(seconds_per_step=0.05)
    second = Caller(api_client(pro_user).token)
    elsewhere = make_generation(pro_user, source="page", steps=2)
    answer, theirs = caller.later(**LONG), another.later(steps=5)
    drawing(caller)
    assert second.get("progress").json()["state"]["job_count"] == 0
    second.post("interrupt")
    another.get("options")
    assert drawing(caller)["state"]["interrupted"] is False
    caller.post("interrupt")
    assert answer().json()["images"] == []
    assert len(theirs().json()["images"]) == 1
    wait_until(lambda: Generation.objects.get(pk=elsewhere.pk).status == "completed")


def test_an_interrupt_stops_what_would_follow_and_gives_what_is_finished(caller, start_worker):
    start_worker(seconds_per_step=0.1)
    answer = caller.later(**LONG | {"steps": 10}, batch_size=4, n_iter=2, seed=1)
    wait_until(lambda: Generation.objects.filter(step__gt=10), "the second image")
    caller.post("interrupt")
    info = answer().json()
    assert 1 <= len(info["images"]) < 4
    assert Generation.objects.count() == 1


def test_an_interrupt_between_two_parts(caller, start_worker, monkeypatch):
    real = multi_part.wait_for

    def interrupted_after(generation, seconds):
        ended = real(generation, seconds)
        caller.post("interrupt")
        return ended

    monkeypatch.setattr(multi_part, "wait_for", interrupted_after)
    start_worker()
    assert len(caller.drawn(batch_size=8)["images"]) == 4
    assert Generation.objects.count() == 1


def test_skip_goes_on_with_the_next(caller, start_worker):
    start_worker(seconds_per_step=0.1)
    answer = caller.later(steps=30, width=128, height=128, batch_size=1, n_iter=2, seed=1, subseed_strength=0.5)
    first = wait_until(lambda: Generation.objects.filter(step__gt=2).first(), "the first part")
    now = caller.get("progress").json()
    assert (now["state"]["job_count"], now["state"]["job_no"]) == (2, 0)
    assert caller.post("skip").json() == {}
    wait_until(lambda: Generation.objects.count() == 2, "the second part")
    wait_until(lambda: caller.get("progress").json()["state"]["job_no"] == 1, "the second part in progress")
    assert caller.get("progress").json()["progress"] >= 0.5
    assert len(answer().json()["images"]) == 1
    first.refresh_from_db()
    assert first.status == "cancelled"


def test_between_two_parts_it_is_not_idle(caller, pro_user, make_generation):
    key = ApiKey.objects.get()
    done = make_generation(pro_user, source="a1111", api_key=key, status="completed", finished_at=timezone.now())
    assert caller.get("progress").json()["state"]["job_count"] == 0
    multi_part.cache.set(multi_part._run_key(done.pk), {"place": 0, "count": 2, "task": "", "kind": "txt2img"}, 60)
    now = caller.get("progress").json()
    assert (now["progress"], now["state"]["job_count"]) == (0.5, 2)


def test_a_named_task(caller, another, start_worker, documented):
    def task(name="task(one)", who=caller, **more):
        response = who.client.post("/internal/progress", {"id_task": name} | more, "application/json")
        return documented(response, "post", "/internal/progress")

    assert (task()["active"], task()["completed"]) == (False, False)
    answer = caller.later(**LONG, force_task_id="task(one)")
    wait_until(lambda: task()["queued"], "queued")
    start_worker(seconds_per_step=0.05)
    now = wait_until(lambda: (progress := task())["live_preview"] and progress, "a preview")
    assert now["active"] and 0 < now["progress"] < 1 and now["live_preview"].startswith("data:image/png;base64,")
    assert task(id_live_preview=now["id_live_preview"], live_preview=False)["live_preview"] is None
    assert task(who=another)["active"] is False
    assert task("task(two)")["active"] is False
    caller.post("interrupt")
    assert answer().status_code == 200
    ended = task()
    assert (ended["active"], ended["queued"], ended["completed"]) == (False, False, True)


def test_a_lost_event_costs_a_heartbeat_at_most(caller, start_worker, monkeypatch):
    monkeypatch.setattr(store, "_silent_until", time.monotonic() + 60)
    monkeypatch.setattr(hub, "HEARTBEAT_SECONDS", 0.2)
    start_worker()
    assert len(caller.drawn()["images"]) == 1
    assert caller.get("progress").json()["progress"] == 0

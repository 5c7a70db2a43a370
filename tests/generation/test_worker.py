"""The worker against real rows, with the fake engine: what becomes of each way that drawing can end."""

import datetime as dt
import threading

import pytest
from django.core.files.storage import default_storage
from django.db import OperationalError
from django.utils import timezone

from accounts import quotas
from generation.catalog import catalog
from generation.engine.factory import make_engine
from generation.engine.request.metadata import read_png
from generation.models import GeneratedImage, Generation
from generation.operations import audit
from generation.queue import jobs
from generation.queue.worker import Worker
from generation.services.generations import cancel_generation, create_generation
from generation.storage import files
from tests.site import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def start_worker(tmp_path, settings):
    """Start workers that are stopped after the test."""
    settings.HEARTBEAT_SECONDS, settings.IDLE_POLL_SECONDS = 0.1, 0.2
    workers = []

    def start(*, seconds_per_step=0.005, threads=2):
        engine = make_engine(
            "fake", catalog(), seconds_per_step=seconds_per_step, faults_allowed=True, faults_folder=tmp_path
        )
        worker = Worker(engine, name=f"test-{len(workers)}", threads=threads)
        worker.start()
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        worker.stop(0)


def create(user, prompt="a red boat at sea", **fields):
    return create_generation(user=user, prompt=prompt, **{"steps": 5, "width": 128, "height": 128} | fields)[0]


def ended(generation, seconds=20):
    def final():
        generation.refresh_from_db()
        return generation.is_final

    wait_for(final, seconds=seconds, every=0.02, what="the end")
    return generation.status


def assert_clean():
    assert {name: count for name, count in audit.audit(contents=True).items() if count} == {}


def test_a_queued_generation_is_drawn_without_any_bell(free_user, start_worker):
    generation = create(free_user, num_images=2, seed=40)
    start_worker()
    assert ended(generation) == "completed"
    images = list(generation.images.order_by("index"))
    assert [image.seed for image in images] == [40, 41]
    with default_storage.open(images[1].file) as handle:
        assert read_png(handle.read())["recipe"]["seed"] == 41
    assert quotas.remaining(free_user).used == 2
    assert_clean()


def test_a_worker_whose_clock_is_wrong_gives_nothing_up(free_user, start_worker, monkeypatch):
    generation, real = create(free_user), timezone.now
    monkeypatch.setattr(timezone, "now", lambda: real() + dt.timedelta(hours=5))
    start_worker()
    assert ended(generation) == "completed"


def test_many_generations_of_many_users_are_all_drawn(make_user, start_worker):
    made = [create(make_user(f"u{number}@example.com")) for number in range(8)]
    start_worker(threads=4)
    assert {ended(generation) for generation in made} == {"completed"}
    assert GeneratedImage.objects.count() == 8
    assert_clean()


def test_a_running_one_is_cancelled_and_keeps_what_was_finished(free_user, start_worker):
    generation = create(free_user, num_images=3, steps=20)
    start_worker(seconds_per_step=0.08)

    def second_image_began():
        generation.refresh_from_db()
        return generation.step > 22

    wait_for(second_image_began, seconds=20, every=0.02)
    assert cancel_generation(generation) == "cancelling"
    assert ended(generation) == "cancelled"
    assert generation.images.count() == generation.image_count == 1
    assert quotas.remaining(free_user).used == 1
    assert_clean()


def test_on_stop_it_hands_back_without_burning_the_attempt(free_user, start_worker):
    generation = create(free_user, steps=100)
    worker = start_worker(seconds_per_step=0.2)
    wait_for(lambda: Generation.objects.filter(status="processing", step__gt=0), seconds=20)
    worker.stop(0)
    generation.refresh_from_db()
    assert (generation.status, generation.attempt) == ("queued", 0)
    start_worker(seconds_per_step=0)
    assert ended(generation) == "completed"
    assert_clean()


def test_on_stop_it_finishes_what_fits(free_user, start_worker):
    generation = create(free_user, steps=10)
    worker = start_worker(seconds_per_step=0.05)
    wait_for(lambda: Generation.objects.filter(status="processing"), seconds=20, every=0.02)
    worker.stop(20)
    generation.refresh_from_db()
    assert generation.status == "completed"


@pytest.mark.parametrize(("fault", "code"), [("oom", "out_of_memory"), ("black", "bad_output")])
def test_a_failed_drawing_is_not_charged_and_the_next_one_succeeds(free_user, start_worker, settings, fault, code):
    settings.RETRY_BACKOFF_SECONDS = (0, 0)
    bad = create(free_user, f"a boat [fault:{fault}]")
    start_worker()
    assert ended(bad) == "failed"
    assert bad.error_code == code and bad.error_message
    assert ended(create(free_user)) == "completed"
    assert quotas.remaining(free_user).used == 1
    assert_clean()


def test_pictures_that_cannot_be_stored_are_tried_again(free_user, start_worker, settings, monkeypatch):
    settings.RETRY_BACKOFF_SECONDS = (0, 0)
    real, failures = files.write_file, [OSError(28, "No space left on device")]

    def write(name, content):
        if failures:
            raise failures.pop()
        real(name, content)

    monkeypatch.setattr(files, "write_file", write)
    generation = create(free_user)
    start_worker()
    assert ended(generation) == "completed"
    assert generation.attempt == 2
    assert_clean()


def test_a_result_that_comes_after_the_lease_was_lost_is_discarded(free_user, start_worker, monkeypatch, media_folder):
    generation, lost = create(free_user), threading.Event()
    real = jobs.finish

    def take_away_first(claimed, stored):
        if not lost.is_set():
            lost.set()
            Generation.objects.filter(pk=claimed.pk).update(status="queued", lease_until=None)
        return real(claimed, stored)

    monkeypatch.setattr(jobs, "finish", take_away_first)
    start_worker()
    assert ended(generation) == "completed"
    assert generation.epoch == 2
    assert len(list(media_folder.rglob("*.png"))) == generation.images.count() == 1
    assert_clean()


def test_it_waits_for_a_database_that_is_away_when_a_picture_is_done(free_user, start_worker, monkeypatch):
    real, trouble = jobs.finish, [OperationalError("the connection is lost"), OperationalError("still")]

    def finish(claimed, stored):
        if trouble:
            raise trouble.pop()
        return real(claimed, stored)

    monkeypatch.setattr(jobs, "finish", finish)
    generation = create(free_user)
    start_worker()
    assert ended(generation) == "completed"
    assert generation.attempt == 1
    assert_clean()


def test_a_commit_whose_answer_was_lost_counts(free_user, start_worker, monkeypatch):
    real, once = jobs.finish, []

    def finish(claimed, stored):
        real(claimed, stored)
        if not once:
            once.append(True)
            raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(jobs, "finish", finish)
    generation = create(free_user)
    start_worker()
    assert ended(generation) == "completed"
    worker_is_free = create(free_user)
    assert ended(worker_is_free) == "completed"
    assert generation.images.count() == 1
    assert_clean()

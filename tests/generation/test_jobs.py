"""The fenced life of a row: claims, leases, the end, and repair."""

import datetime as dt
import threading

import pytest
from django.db import connection
from django.utils import timezone
from PIL import Image

from accounts import quotas
from accounts.models import QuotaHold
from generation.engine.protocol import EngineImage
from generation.models import GeneratedImage, Generation
from generation.operations import audit
from generation.queue import jobs
from generation.queue.finishing import finish_with_files
from generation.refusals import IdempotencyConflict
from generation.services.generations import cancel_generation, create_generation, retry_generation
from generation.storage import files
from generation.storage.image_requests import request_of
from tests.accounts.test_quotas import at_once


def create(user, **fields):
    return create_generation(user=user, **{"prompt": "a red boat at sea", "width": 128, "height": 128} | fields)[0]


def draw(generation, count=None):
    """Stored pictures for a claimed generation, as the worker makes them."""
    size = (generation.width, generation.height)
    return [
        files.store_image(
            EngineImage(index, generation.seed + index, Image.new("RGB", size, (index * 40, 90, 200)), {}, 0.5),
            request_of(generation),
        )
        for index in range(count or generation.num_images)
    ]


def expire_lease(generation):
    Generation.objects.filter(pk=generation.pk).update(lease_until=timezone.now() - dt.timedelta(seconds=1))


def state(generation):
    generation.refresh_from_db()
    return generation.status


def assert_clean():
    assert {name: count for name, count in audit.audit(contents=True).items() if count} == {}


def charge(generation):
    hold = QuotaHold.objects.get(generation_id=generation.pk)
    return hold.state, hold.charged


def test_a_claim_takes_the_row_with_a_lease_and_a_new_epoch(free_user):
    created = create(free_user)
    claimed = jobs.claim("w1")
    assert claimed.pk == created.pk
    assert (claimed.status, claimed.epoch, claimed.attempt, claimed.worker) == ("processing", 1, 1, "w1")
    assert claimed.lease_until > timezone.now()
    assert jobs.claim("w2") is None


def test_finishing_makes_the_pictures_and_charges_them(free_user):
    create(free_user, num_images=2)
    claimed = jobs.claim("w1")
    jobs.finish(claimed, draw(claimed))
    assert state(claimed) == "completed"
    assert [image.index for image in claimed.images.order_by("index")] == [0, 1]
    assert charge(claimed) == ("settled", 2)
    assert (quotas.remaining(free_user).used, quotas.remaining(free_user).held) == (2, 0)
    assert_clean()


def test_fewer_pictures_than_asked_are_charged_as_what_came(free_user):
    create(free_user, num_images=3)
    claimed = jobs.claim("w1")
    jobs.finish(claimed, draw(claimed, 2))
    assert charge(claimed) == ("settled", 2)
    assert_clean()


def test_a_second_finish_changes_nothing(free_user):
    create(free_user)
    claimed = jobs.claim("w1")
    jobs.finish(claimed, draw(claimed))
    with pytest.raises(jobs.LeaseLost):
        jobs.finish(claimed, [])
    assert GeneratedImage.objects.count() == 1
    assert quotas.remaining(free_user).used == 1


def test_a_worker_that_lost_its_lease_can_do_nothing_more(free_user):
    create(free_user)
    first = jobs.claim("w1")
    expire_lease(first)
    assert jobs.sweep()["requeued"] == 1
    second = jobs.claim("w2")
    assert second.epoch == first.epoch + 1
    for end in (
        lambda: jobs.finish(first, []),
        lambda: jobs.finish_cancelled(first, []),
        lambda: jobs.hand_back(first),
        lambda: jobs.fail(first, code="x", message="x", transient=False),
        lambda: jobs.block(first),
    ):
        with pytest.raises(jobs.LeaseLost):
            end()
    assert not jobs.heartbeat(first, phase="generating", step=3).alive
    assert jobs.heartbeat(second, phase="generating", step=1).alive
    jobs.finish(second, draw(second))
    assert GeneratedImage.objects.count() == 1
    assert_clean()


def test_a_heartbeat_extends_the_lease(free_user):
    create(free_user)
    claimed = jobs.claim("w1")
    expire_lease(claimed)
    jobs.heartbeat(claimed, phase="generating", step=3)
    claimed.refresh_from_db()
    assert claimed.lease_until > timezone.now() + dt.timedelta(seconds=30) and claimed.step == 3


def test_the_third_loss_ends_it_without_charge(free_user):
    create(free_user)
    for attempt in (1, 2, 3):
        claimed = jobs.claim("w")
        assert claimed.attempt == attempt
        expire_lease(claimed)
        jobs.sweep()
        Generation.objects.filter(pk=claimed.pk, status="queued").update(not_before=timezone.now())
    assert state(claimed) == "failed"
    assert claimed.error_code == "worker_lost" and "lost three times" in claimed.error_message
    assert charge(claimed) == ("released", 0)
    assert_clean()


def test_how_often_it_was_lost_is_what_the_setting_says(free_user, settings):
    settings.MAX_ATTEMPTS = 1
    create(free_user)
    claimed = jobs.claim("w")
    expire_lease(claimed)
    jobs.sweep()
    assert state(claimed) == "failed" and "lost once." in claimed.error_message


def test_a_transient_failure_waits_and_tries_again(free_user):
    create(free_user)
    claimed = jobs.claim("w1")
    jobs.fail(claimed, code="storage_unavailable", message="later", transient=True)
    assert state(claimed) == "queued"
    assert claimed.not_before > timezone.now()
    assert jobs.claim("w1") is None
    assert quotas.remaining(free_user).held == 1


def test_a_permanent_failure_ends_it_at_once_without_charge(free_user):
    create(free_user)
    claimed = jobs.claim("w1")
    jobs.fail(claimed, code="out_of_memory", message="too large", transient=False)
    assert state(claimed) == "failed"
    assert charge(claimed) == ("released", 0)
    assert quotas.remaining(free_user).remaining == 10


def test_handing_back_burns_no_attempt(free_user):
    create(free_user)
    claimed = jobs.claim("w1")
    jobs.hand_back(claimed)
    assert state(claimed) == "queued"
    assert jobs.claim("w2").attempt == 1


def test_an_overdue_generation_expires_and_is_not_charged(free_user):
    waiting, running = create(free_user), create(free_user)
    claimed = jobs.claim("w1")
    Generation.objects.update(deadline_at=timezone.now() - dt.timedelta(seconds=1))
    assert jobs.sweep()["expired"] == 2
    assert (state(waiting), state(running)) == ("expired", "expired")
    with pytest.raises(jobs.LeaseLost):
        jobs.finish(claimed, [])
    assert quotas.remaining(free_user).remaining == 10
    assert_clean()


def test_a_blocked_output_is_not_charged_but_counts_as_a_strike(free_user, settings):
    settings.STRIKES_PER_DAY = 2
    for _ in range(2):
        create(free_user)
        jobs.block(jobs.claim("w1"))
    free_user.refresh_from_db()
    assert "moderator" in free_user.locked_reason
    assert quotas.remaining(free_user).remaining == 10


class TestFinishWithFiles:
    def images(self, generation, flagged=()):
        size = (generation.width, generation.height)
        return [
            EngineImage(index, generation.seed + index, Image.new("RGB", size), {}, 0.5, flagged=index in flagged)
            for index in range(generation.num_images)
        ]

    def files_in(self, folder):
        return sorted(path.suffix for path in folder.rglob("*") if path.is_file())

    def test_flagged_pictures_are_left_out(self, free_user):
        create(free_user, num_images=2)
        claimed = jobs.claim("w1")
        finish_with_files(claimed, self.images(claimed, flagged={0}))
        assert state(claimed) == "completed"
        assert [image.index for image in claimed.images.all()] == [1]
        assert_clean()

    def test_when_all_are_flagged_it_is_blocked(self, free_user):
        create(free_user)
        claimed = jobs.claim("w1")
        finish_with_files(claimed, self.images(claimed, flagged={0}))
        assert state(claimed) == "blocked"
        assert_clean()

    def test_a_cancel_keeps_what_was_drawn_but_nothing_flagged(self, free_user):
        create(free_user, num_images=3)
        claimed = jobs.claim("w1")
        cancel_generation(claimed)
        finish_with_files(claimed, self.images(claimed, flagged={1}), cancelled=True)
        assert state(claimed) == "cancelled"
        assert [image.index for image in claimed.images.order_by("index")] == [0, 2]
        assert_clean()

    def test_a_cancel_that_came_before_the_finish_wins(self, free_user):
        create(free_user)
        claimed = jobs.claim("w1")
        cancel_generation(claimed)
        finish_with_files(claimed, self.images(claimed))
        assert state(claimed) == "cancelled" and claimed.images.count() == 1
        assert_clean()

    @pytest.mark.parametrize("cancelled", [False, True])
    def test_files_are_deleted_when_the_lease_was_lost(self, free_user, media_folder, cancelled):
        create(free_user)
        claimed = jobs.claim("w1")
        expire_lease(claimed)
        jobs.sweep()
        with pytest.raises(jobs.LeaseLost):
            finish_with_files(claimed, self.images(claimed), cancelled=cancelled)
        assert self.files_in(media_folder) == []

    def test_nothing_is_left_when_the_second_picture_cannot_be_stored(self, free_user, media_folder, monkeypatch):
        create(free_user, num_images=2)
        claimed = jobs.claim("w1")
        write, written = files.write_file, []

        def full_after_one_picture(name, content):
            if len(written) == 2:
                raise OSError(28, "No space left on device")
            written.append(name)
            write(name, content)

        monkeypatch.setattr(files, "write_file", full_after_one_picture)
        with pytest.raises(files.StorageUnavailable):
            finish_with_files(claimed, self.images(claimed))
        assert self.files_in(media_folder) == [] and state(claimed) == "processing"


class TestCancel:
    def test_of_a_waiting_one_is_immediate_and_free(self, free_user):
        generation = create(free_user)
        assert cancel_generation(generation) == "cancelled"
        assert state(generation) == "cancelled"
        assert jobs.claim("w1") is None
        assert quotas.remaining(free_user).remaining == 10
        assert cancel_generation(generation) == "cancelled"

    def test_of_a_running_one_reaches_the_worker_with_the_heartbeat(self, free_user):
        create(free_user)
        claimed = jobs.claim("w1")
        assert cancel_generation(claimed) == "cancelling"
        assert jobs.heartbeat(claimed, phase="generating", step=1).cancel_requested
        with pytest.raises(jobs.LeaseLost):
            jobs.finish(claimed, [])  # the cancel came first
        jobs.finish_cancelled(claimed, [])
        assert state(claimed) == "cancelled"

    def test_of_a_finished_one_says_so(self, free_user):
        create(free_user)
        claimed = jobs.claim("w1")
        jobs.finish(claimed, draw(claimed))
        assert cancel_generation(claimed) == "already_finished"
        assert state(claimed) == "completed"

    def test_three_a_day_charge_only_what_was_finished_then_everything(self, pro_user):
        charged = []
        for _ in range(4):
            create(pro_user, num_images=3)
            claimed = jobs.claim("w1")
            cancel_generation(claimed)
            jobs.finish_cancelled(claimed, draw(claimed, 1))
            charged.append(charge(claimed)[1])
        assert charged == [1, 1, 1, 3]
        assert_clean()

    def test_of_a_running_one_whose_worker_is_lost_ends_it(self, free_user):
        create(free_user)
        claimed = jobs.claim("w1")
        cancel_generation(claimed)
        expire_lease(claimed)
        assert jobs.sweep()["cancelled"] == 1
        assert state(claimed) == "cancelled"
        assert_clean()

    @pytest.mark.django_db(transaction=True)
    def test_racing_with_the_finish_has_one_winner(self, pro_user):
        for _ in range(20):
            create(pro_user)
            claimed = jobs.claim("w1")
            stored = draw(claimed)

            def race(number, claimed=claimed, stored=stored):
                if number:
                    return cancel_generation(claimed)
                try:
                    jobs.finish(claimed, stored)
                    return "finished"
                except jobs.LeaseLost:
                    jobs.finish_cancelled(claimed, [])
                    files.delete_image_files(stored)
                    return "stopped"

            outcome = set(at_once(race, 2))
            assert outcome in ({"cancelling", "stopped"}, {"already_finished", "finished"})
            assert state(claimed) == ("cancelled" if "stopped" in outcome else "completed")
        assert_clean()


class TestQueueOrder:
    @pytest.fixture
    def suspect(self, make_user):
        """One that lost its worker and was queued again."""
        create(make_user("suspect@example.com"))
        lost = jobs.claim("lost")
        expire_lease(lost)
        jobs.sweep()
        return lost

    def test_one_that_was_lost_before_runs_alone_on_its_worker(self, make_user, suspect):
        first, second = (create(make_user(f"u{number}@example.com")) for number in range(2))
        assert jobs.claim("w1").pk == first.pk  # it comes after the others …
        assert jobs.claim_suspect("w1") is None  # … and joins none of them
        assert jobs.claim_suspect("w2").pk == suspect.pk
        assert jobs.claim("w2") is None and jobs.claim_suspect("w2") is None  # while it runs, nothing joins it
        assert jobs.claim("w1").pk == second.pk

    def test_an_idle_worker_takes_a_suspect_when_nothing_else_waits(self, suspect):
        assert jobs.claim("w1").pk == suspect.pk

    def test_one_that_could_not_be_stored_is_no_suspect(self, make_user):
        """Its worker lived on: it runs beside others, as before."""
        create(make_user("unlucky@example.com"))
        unlucky = jobs.claim("w1")
        jobs.fail(unlucky, code="storage_unavailable", message="later", transient=True)
        Generation.objects.update(not_before=timezone.now())
        create(make_user("other@example.com"))
        assert not jobs.keep_suspect("w1") and jobs.claim_suspect("w1") is None
        claimed = [jobs.claim("w1", careful=True), jobs.claim("w1", careful=True)]
        assert unlucky.pk in [generation.pk for generation in claimed]
        assert {(generation.pk == unlucky.pk, generation.attempt) for generation in claimed} == {(True, 2), (False, 1)}

    def test_failed_storing_does_not_count_as_a_lost_worker(self, make_user):
        create(make_user("unlucky@example.com"))
        for _ in range(2):
            claimed = jobs.claim("w1")
            jobs.fail(claimed, code="storage_unavailable", message="later", transient=True)
            Generation.objects.update(not_before=timezone.now())
        jobs.claim("w1")
        jobs.take_from("w1")
        assert (state(claimed), claimed.losses) == ("queued", 1)

    def test_one_busy_worker_waits_for_a_suspect_and_an_idle_one_may_take_it(self, make_user, suspect):
        for number in range(2):
            create(make_user(f"u{number}@example.com"))
            assert jobs.claim(f"w{number}")
        assert jobs.keep_suspect("w0") and jobs.keep_suspect("w0")
        assert not jobs.keep_suspect("w1")
        assert jobs.claim_suspect("w1", beside_others=True) is None
        assert jobs.claim_suspect("w0") is None
        assert jobs.claim_suspect("w0", beside_others=True).pk == suspect.pk

    def test_one_that_was_kept_for_a_worker_that_died_soon_waits_for_another(self, make_user, suspect):
        for number in range(2):
            create(make_user(f"u{number}@example.com"))
            assert jobs.claim(f"w{number}")
        assert jobs.keep_suspect("w0")
        suspect.refresh_from_db()
        assert suspect.lease_until < timezone.now() + dt.timedelta(seconds=10)
        expire_lease(suspect)
        assert jobs.keep_suspect("w1") and not jobs.keep_suspect("w0")

    def test_an_idle_worker_need_not_wait_for_the_one_it_was_kept_for(self, make_user, suspect):
        create(make_user("u@example.com"))
        assert jobs.claim("w0") and jobs.keep_suspect("w0")
        assert jobs.claim_suspect("w1").pk == suspect.pk

    def test_a_suspect_keeps_the_place_of_its_owner(self, suspect):
        create(suspect.owner)  # of a plan with one place
        assert jobs.claim("w1").pk == suspect.pk
        assert jobs.claim("w2") is None

    def test_a_careful_worker_takes_one_at_a_time_while_a_suspect_waits(self, make_user, suspect):
        for number in range(2):
            create(make_user(f"u{number}@example.com"))
        assert jobs.claim("w1", careful=True)
        assert jobs.claim("w1", careful=True) is None
        assert jobs.claim("w1") is not None

    def test_what_a_worker_was_at_that_was_seen_to_end_is_queued_at_once(self, make_user):
        gone, alive = (create(make_user(f"u{number}@example.com")) for number in range(2))
        jobs.claim("host-7-abc")
        jobs.claim("host-77-abc")
        assert jobs.take_from("host-7-") == 1
        assert (state(gone), state(alive)) == ("queued", "processing")
        assert (gone.losses, alive.losses) == (1, 0)

    def test_pro_comes_before_free(self, free_user, pro_user):
        create(free_user)
        waiting = create(pro_user)
        assert jobs.claim("w").pk == waiting.pk

    def test_ten_minutes_of_waiting_outweigh_the_plan(self, free_user, pro_user):
        old = create(free_user)
        Generation.objects.filter(pk=old.pk).update(created_at=timezone.now() - dt.timedelta(minutes=11))
        create(pro_user)
        assert jobs.claim("w").pk == old.pk

    def test_one_users_backlog_does_not_hold_up_another(self, make_user):
        busy, late = make_user("busy@example.com", plan="pro"), make_user("late@example.com", plan="pro")
        for _ in range(5):
            create(busy)
        first = create(late)
        claimed = [jobs.claim("w").pk for _ in range(2)]
        assert first.pk in claimed

    def test_no_more_run_at_once_than_the_plan_allows(self, free_user, pro_user):
        for user in (free_user, free_user, pro_user, pro_user, pro_user):
            create(user)
        owners = []
        while claimed := jobs.claim("w"):
            owners.append(claimed.owner_id)
        assert (owners.count(free_user.pk), owners.count(pro_user.pk)) == (1, 2)

    @pytest.mark.django_db(transaction=True)
    def test_simultaneous_claims_take_each_row_once_and_keep_the_limit(self, make_user):
        users = [make_user(f"u{number}@example.com", plan="pro") for number in range(6)]
        for user in users:
            for _ in range(4):
                create(user)
        claimed = list(filter(None, at_once(lambda number: jobs.claim(f"w{number}"), 24)))
        claimed += iter(lambda: jobs.claim("last"), None)
        assert len({generation.pk for generation in claimed}) == len(claimed) == 12
        assert all(Generation.objects.filter(owner=user, status="processing").count() == 2 for user in users)


@pytest.mark.django_db(transaction=True)
def test_two_sweepers_at_once_repair_each_row_once(make_user):
    for number in range(8):
        create(make_user(f"u{number}@example.com"))
    while claimed := jobs.claim("w"):
        expire_lease(claimed)
    reports = at_once(lambda number: jobs.sweep(), 4)
    assert sum(report["requeued"] for report in reports) == 8
    assert Generation.objects.filter(status="queued", attempt=1).count() == 8
    assert_clean()


@pytest.mark.django_db(transaction=True)
def test_a_row_deleted_half_way_stops_its_worker(free_user):
    create(free_user)
    claimed = jobs.claim("w1")
    thread = threading.Thread(target=lambda: (Generation.objects.filter(pk=claimed.pk).delete(), connection.close()))
    thread.start()
    thread.join()
    assert not jobs.heartbeat(claimed, phase="generating", step=1).alive
    with pytest.raises(jobs.LeaseLost):
        jobs.finish(claimed, [])


def test_the_hold_of_a_vanished_generation_is_given_back(free_user):
    generation = create(free_user)
    Generation.objects.filter(pk=generation.pk).delete()
    QuotaHold.objects.update(created_at=timezone.now() - dt.timedelta(minutes=5))
    assert jobs.sweep()["holds_released"] == 1
    assert quotas.remaining(free_user).remaining == 10


def test_a_failed_one_can_be_tried_again_with_the_same_settings(free_user):
    create(free_user, seed=5, style="anime")
    claimed = jobs.claim("w1")
    jobs.fail(claimed, code="out_of_memory", message="too large", transient=False)
    again = retry_generation(claimed, source="api")
    assert (again.seed, again.style, again.composed_prompt) == (5, "anime", claimed.composed_prompt)
    assert again.retry_of_id == claimed.pk


def fail(user):
    create(user)
    claimed = jobs.claim("w1")
    jobs.fail(claimed, code="out_of_memory", message="too large", transient=False)
    return claimed


@pytest.mark.django_db(transaction=True)
def test_twelve_who_try_again_at_once_get_one_and_the_same(pro_user):
    failed = fail(pro_user)
    retries = at_once(lambda number: retry_generation(failed, source="api").pk, 12)
    print(f"12 retries at once made {len(set(retries))} of {Generation.objects.filter(retry_of=failed).count()}")
    assert set(retries) == {Generation.objects.get(retry_of=failed).pk}
    assert quotas.remaining(pro_user).held == 1


def test_after_a_retry_has_ended_another_is_a_new_one_unless_the_key_says_the_same(free_user):
    failed = fail(free_user)
    first = retry_generation(failed, source="api", idempotency_key="again")
    cancel_generation(first)
    assert retry_generation(failed, source="api", idempotency_key="again").pk == first.pk
    assert retry_generation(failed, source="api").pk != first.pk
    with pytest.raises(IdempotencyConflict):
        retry_generation(fail(free_user), source="api", idempotency_key="again")


def test_a_deadline_is_by_the_clock_of_the_database(free_user, settings, monkeypatch):
    real = timezone.now
    for hours in (-5, 5):
        monkeypatch.setattr(timezone, "now", lambda hours=hours: real() + dt.timedelta(hours=hours))
        generation = create(free_user)
        seconds = (generation.deadline_at - generation.created_at).total_seconds()
        print(f"a web process {hours} h off gives {seconds:.0f} s")
        assert seconds == pytest.approx(settings.GENERATION_DEADLINE_SECONDS, abs=1)
        assert jobs.seconds_left(generation) == pytest.approx(settings.GENERATION_DEADLINE_SECONDS, abs=10)

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
from generation.services.generations import cancel_generation, create_generation, retry_generation
from generation.storage import files
from tests.accounts.test_quotas import at_once


def create(user, **fields):
    return create_generation(user=user, **{"prompt": "a red boat at sea", "width": 128, "height": 128} | fields)[0]


def draw(generation, count=None):
    """Stored pictures for a claimed generation, as the worker makes them."""
    size = (generation.width, generation.height)
    return [
        files.store_image(
            generation,
            EngineImage(index, generation.seed + index, Image.new("RGB", size, (index * 40, 90, 200)), {}, 0.5),
        )
        for index in range(count or generation.num_images)
    ]


def expire_lease(generation):
    Generation.objects.filter(pk=generation.pk).update(lease_until=timezone.now() - dt.timedelta(seconds=1))


def state(generation):
    generation.refresh_from_db()
    return generation.status


def assert_clean():
    assert {what: count for what, count in audit.audit(contents=True).items() if count} == {}


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
    assert not jobs.heartbeat(first, phase="generating", step=3, extend=True).alive
    assert jobs.heartbeat(second, phase="generating", step=1, extend=True).alive
    jobs.finish(second, draw(second))
    assert GeneratedImage.objects.count() == 1
    assert_clean()


def test_a_heartbeat_extends_the_lease_only_when_told(free_user):
    create(free_user)
    claimed = jobs.claim("w1")
    expire_lease(claimed)
    jobs.heartbeat(claimed, phase="generating", step=2, extend=False)
    claimed.refresh_from_db()
    assert claimed.lease_until < timezone.now() and claimed.step == 2
    jobs.heartbeat(claimed, phase="generating", step=3, extend=True)
    claimed.refresh_from_db()
    assert claimed.lease_until > timezone.now() + dt.timedelta(seconds=30)


def test_the_third_loss_ends_it_without_charge(free_user):
    create(free_user)
    for attempt in (1, 2, 3):
        claimed = jobs.claim("w")
        assert claimed.attempt == attempt
        expire_lease(claimed)
        jobs.sweep()
        Generation.objects.filter(pk=claimed.pk, status="queued").update(not_before=timezone.now())
    assert state(claimed) == "failed"
    assert claimed.error_code == "worker_lost"
    assert charge(claimed) == ("released", 0)
    assert_clean()


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
        assert jobs.heartbeat(claimed, phase="generating", step=1, extend=True).cancel_requested
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
                    files.delete_files(name for one in stored for name in (one.file, one.thumbnail))
                    return "stopped"

            outcome = set(at_once(race, 2))
            assert outcome in ({"cancelling", "stopped"}, {"already_finished", "finished"})
            assert state(claimed) == ("cancelled" if "stopped" in outcome else "completed")
        assert_clean()


class TestQueueOrder:
    def test_one_that_was_lost_before_runs_alone_on_its_worker(self, make_user):
        suspect, first, second = (create(make_user(f"u{number}@example.com")) for number in range(3))
        lost = jobs.claim("w1")
        assert lost.pk == suspect.pk
        expire_lease(lost)
        jobs.sweep()
        Generation.objects.filter(pk=suspect.pk).update(created_at=timezone.now() - dt.timedelta(minutes=5))
        assert jobs.claim("w2").pk == suspect.pk
        assert jobs.claim("w2") is None  # while the suspect runs, nothing joins it
        assert jobs.claim("w3").pk == first.pk
        jobs.hand_back(Generation.objects.get(pk=suspect.pk))
        Generation.objects.filter(pk=suspect.pk).update(attempt=1)
        assert jobs.claim("w3").pk == second.pk  # nor does a suspect join others
        assert jobs.claim("w3") is None
        assert jobs.claim("w4").pk == suspect.pk

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
        claimed = [one for one in at_once(lambda number: jobs.claim(f"w{number}"), 24) if one]
        claimed += iter(lambda: jobs.claim("last"), None)
        assert len({one.pk for one in claimed}) == len(claimed) == 12
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
    assert not jobs.heartbeat(claimed, phase="generating", step=1, extend=True).alive
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

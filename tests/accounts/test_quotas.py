"""The daily quota under many hands at once, on real Postgres with real threads."""

import threading
import uuid

import pytest
from django.db import connection, transaction

from accounts import quotas
from accounts.models import DailyUsage, QuotaHold
from accounts.refusals import QuotaExceeded

THREADS = 64


def at_once(action, count=THREADS):
    """Run `action(n)` in `count` threads that start together; returns their results."""
    barrier, results = threading.Barrier(count), []

    def run(number):
        try:
            barrier.wait()
            results.append(action(number))
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == count
    return results


def try_to_hold(user, images):
    try:
        with transaction.atomic():
            quotas.hold(user=user, generation_id=uuid.uuid4(), images=images)
        return images
    except QuotaExceeded:
        return 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("images", "admitted"), [(1, 10), (3, 9), (4, 8)])
def test_it_admits_exactly_what_is_left_to_simultaneous_requests(free_user, images, admitted):
    assert sum(at_once(lambda number: try_to_hold(free_user, images))) == admitted
    usage = DailyUsage.objects.get(user=free_user)
    assert (usage.held, usage.used) == (admitted, 0)


@pytest.mark.django_db(transaction=True)
def test_a_hold_is_ended_once_however_many_try(free_user):
    generation_id = uuid.uuid4()
    with transaction.atomic():
        quotas.hold(user=free_user, generation_id=generation_id, images=4)

    def end(number):
        return quotas.settle(generation_id, images=3) if number % 2 else quotas.release(generation_id)

    assert sum(at_once(end, 20)) == 1
    usage, hold = DailyUsage.objects.get(user=free_user), QuotaHold.objects.get(generation_id=generation_id)
    assert usage.held == 0
    assert (usage.used, hold.charged) in ((3, 3), (0, 0))


def test_a_released_hold_can_be_used_again(free_user):
    first = uuid.uuid4()
    quotas.hold(user=free_user, generation_id=first, images=10)
    with pytest.raises(QuotaExceeded):
        quotas.hold(user=free_user, generation_id=uuid.uuid4(), images=1)
    quotas.release(first)
    quotas.hold(user=free_user, generation_id=uuid.uuid4(), images=10)
    assert quotas.remaining(free_user).remaining == 0


def test_more_than_the_whole_limit_is_refused_also_as_the_first_of_the_day(free_user):
    with pytest.raises(QuotaExceeded):
        quotas.hold(user=free_user, generation_id=uuid.uuid4(), images=11)
    assert not DailyUsage.objects.exists()


def test_the_refusal_says_when_to_come_back(free_user):
    quotas.hold(user=free_user, generation_id=uuid.uuid4(), images=8)
    with pytest.raises(QuotaExceeded, match="2 of 10") as refusal:
        quotas.hold(user=free_user, generation_id=uuid.uuid4(), images=3)
    assert 0 < refusal.value.retry_after <= 86401


def test_pro_accounts_have_a_hundred(pro_user):
    quotas.hold(user=pro_user, generation_id=uuid.uuid4(), images=100)
    with pytest.raises(QuotaExceeded):
        quotas.hold(user=pro_user, generation_id=uuid.uuid4(), images=1)


def test_staff_have_no_limit(staff_user):
    quotas.hold(user=staff_user, generation_id=uuid.uuid4(), images=5000)
    assert quotas.remaining(staff_user).remaining is None


def test_a_new_plan_counts_at_once(free_user):
    quotas.hold(user=free_user, generation_id=uuid.uuid4(), images=10)
    free_user.plan = "pro"
    free_user.save()
    assert quotas.remaining(free_user).remaining == 90


def test_the_day_is_utc_by_the_database_clock_whatever_the_session_zone(free_user):
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL TIME ZONE 'Pacific/Kiritimati'")
        hold = quotas.hold(user=free_user, generation_id=uuid.uuid4(), images=1)
        cursor.execute("SELECT (clock_timestamp() AT TIME ZONE 'utc')::date")
        assert hold.day == cursor.fetchone()[0]

"""The one way in: what it accepts, what it refuses, and that a refusal changes nothing."""

import uuid

import pytest
from django.db import connection

from accounts import quotas
from accounts.models import QuotaHold
from accounts.refusals import QuotaExceeded
from generation.engine.errors import InvalidRequest, UnknownModel
from generation.models import Generation
from generation.refusals import AccountLocked, IdempotencyConflict, PromptRejected, RateLimited, TooManyRunning
from generation.services.generations import create_generation
from tests.accounts.test_quotas import at_once


def create(user, **fields):
    return create_generation(user=user, **{"prompt": "a red boat at sea"} | fields)[0]


def test_it_queues_and_holds(free_user):
    generation = create(free_user, num_images=3, seed=7, style="watercolour")
    assert generation.status == "queued"
    assert generation.prompt == "a red boat at sea"
    assert "watercolour" in generation.composed_prompt
    assert generation.seed == 7
    assert (generation.width, generation.height) == (256, 256)
    assert quotas.remaining(free_user).held == 3


def test_the_models_own_defaults_are_used(free_user):
    generation = create(free_user)
    assert (generation.model, generation.steps, generation.sampler) == ("dreamsketch-tiny", 20, "Euler")


def test_a_random_seed_is_stored(free_user, pro_user):
    seeds = {create(pro_user, seed=seed).seed for seed in (None, -1, None)}
    assert len(seeds) == 3


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": "   "}, "prompt"),
        ({"prompt": "x" * 2001}, "prompt"),
        ({"negative_prompt": "x" * 2001}, "negative_prompt"),
        ({"width": 100}, "width"),
        ({"height": 99999}, "height"),
        ({"steps": 0}, "steps"),
        ({"steps": 101}, "steps"),
        ({"guidance_scale": 20.5}, "guidance_scale"),
        ({"guidance_scale": float("nan")}, "guidance_scale"),
        ({"seed": 2**32}, "seed"),
        ({"seed": -2}, "seed"),
        ({"sampler": "magic"}, "sampler"),
        ({"num_images": 5}, "num_images"),
        ({"style": "cubist"}, "style"),
        ({"visibility": "everybody"}, "visibility"),
        ({"aspect_ratio": "5:1"}, "aspect_ratio"),
    ],
)
def test_a_bad_field_is_named_and_nothing_is_made(free_user, fields, param):
    with pytest.raises(InvalidRequest) as refusal:
        create(free_user, **fields)
    assert refusal.value.param == param
    assert not Generation.objects.exists() and not QuotaHold.objects.exists()


def test_an_unknown_model_is_refused(free_user):
    with pytest.raises(UnknownModel):
        create(free_user, model="dall-e-99")


@pytest.mark.parametrize(
    "prompt", ["a nude child", "N U D E   ch1ld", "naked  chіld", "nu\u200bde child", "csam", "a 12 years old, topless"]
)
def test_a_forbidden_prompt_is_refused_before_anything_is_held(free_user, prompt):
    for fields in ({"prompt": prompt}, {"negative_prompt": prompt}):
        with pytest.raises(PromptRejected):
            create(free_user, **fields)
    assert not QuotaHold.objects.exists()


@pytest.mark.parametrize(
    "prompt", ["a child with a red kite", "Essex in autumn", "a nude statue of David", "kidney beans"]
)
def test_an_innocent_prompt_passes(free_user, prompt):
    assert create(free_user, prompt=prompt).status == "queued"


def test_words_of_the_operators_own_are_refused(free_user, settings):
    settings.PROMPT_BLOCKLIST = ["Voldemort"]
    with pytest.raises(PromptRejected):
        create(free_user, prompt="v0ldemort at sea")


def test_a_locked_account_cannot_generate(free_user):
    free_user.locked_reason = "A moderator will have a look."
    with pytest.raises(AccountLocked, match="moderator"):
        create(free_user)


def test_a_free_account_may_run_one_and_queue_three(free_user):
    for _ in range(4):
        create(free_user)
    with pytest.raises(TooManyRunning):
        create(free_user)
    assert quotas.remaining(free_user).held == 4


def test_the_hourly_limit_counts_accepted_requests(pro_user):
    for _ in range(50):
        quotas.hold(user=pro_user, generation_id=uuid.uuid4(), images=1)
    with pytest.raises(RateLimited) as refusal:
        create(pro_user)
    assert 0 < refusal.value.retry_after <= 3601


def test_the_same_key_and_request_give_the_same_generation(free_user):
    first, created = create_generation(user=free_user, prompt="a boat", idempotency_key="k1")
    again, created_again = create_generation(user=free_user, prompt="a boat", idempotency_key="k1")
    assert (created, created_again) == (True, False)
    assert first.pk == again.pk
    assert quotas.remaining(free_user).held == 1


def test_the_same_key_with_another_request_is_a_conflict(free_user):
    create(free_user, prompt="a boat", idempotency_key="k1")
    with pytest.raises(IdempotencyConflict):
        create(free_user, prompt="a house", idempotency_key="k1")


def test_keys_of_different_users_do_not_meet(free_user, pro_user):
    assert create(free_user, idempotency_key="k1").pk != create(pro_user, idempotency_key="k1").pk


def test_a_repeat_is_answered_also_when_the_quota_is_used_up(free_user):
    first = create(free_user, num_images=4, idempotency_key="k1")
    quotas.hold(user=free_user, generation_id="00000000-0000-4000-8000-000000000000", images=6)
    assert create(free_user, num_images=4, idempotency_key="k1").pk == first.pk
    with pytest.raises(QuotaExceeded):
        create(free_user)


@pytest.mark.django_db(transaction=True)
def test_simultaneous_repeats_make_one_generation(free_user):
    made = at_once(lambda number: create(free_user, idempotency_key="k1").pk, 32)
    assert len(set(made)) == 1
    assert QuotaHold.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_simultaneous_requests_keep_the_running_limit(free_user):
    def attempt(number):
        try:
            return bool(create(free_user))
        except TooManyRunning:
            return False

    assert sum(at_once(attempt)) == 4
    assert Generation.objects.count() == QuotaHold.objects.count() == 4


@pytest.mark.django_db(transaction=True)
def test_it_is_accepted_while_redis_is_away(free_user, monkeypatch):
    import redis
    from kombu.exceptions import OperationalError

    def refuse(*args, **kwargs):
        raise OperationalError("connection refused")

    monkeypatch.setattr("celery.current_app.send_task", refuse)
    monkeypatch.setattr("generation.live.store._client", redis.Redis(port=1, socket_connect_timeout=0.2))
    assert create(free_user).status == "queued"


def test_the_final_state_cannot_be_changed_even_by_hand(free_user, make_generation):
    generation = make_generation(free_user, status="failed")
    with pytest.raises(Exception, match="is final"):
        Generation.objects.filter(pk=generation.pk).update(status="queued")
    connection.needs_rollback = False

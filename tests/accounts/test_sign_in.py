"""Signing in: how often one may try, from where, for how long it is paused, and who is told."""

import re

import pytest
from django.core import mail
from django.test import Client

from accounts import sign_in
from accounts.models import SignInTries
from tests.conftest import PASSWORD
from tests.site import wait_for


def try_to_sign_in(email, password, address="203.0.113.7"):
    """`in`, or what the form says."""
    client = Client(REMOTE_ADDR=address)
    page = client.post("/accounts/login/", {"login": email, "password": password})
    if page.status_code == 302:
        return "in"
    return " ".join(page.context["form"].non_field_errors())


@pytest.fixture(params=["Redis answers", "Redis is away"])
def with_and_without_redis(request, settings, monkeypatch):
    if request.param == "Redis is away":
        away = "redis://127.0.0.1:1/0"
        settings.CACHES = {"default": settings.CACHES["default"] | {"LOCATION": away}}


@pytest.mark.usefixtures("with_and_without_redis")
def test_wrong_passwords_are_tried_five_times_and_nobody_else_pays(free_user, other_user, pro_user):
    answers = [try_to_sign_in(free_user.email, f"wrong {number}") for number in range(40)]
    looked_at = sum("wait" not in answer for answer in answers)
    print(f"passwords looked at in 40 tries: {looked_at}; then: {answers[-1]}")
    assert looked_at == sign_in.FROM_ADDRESS.tries
    assert answers[-1] == "Too many tries. Please wait 5 minutes, or set a new password."
    assert try_to_sign_in(free_user.email, PASSWORD) == answers[-1], "the right one too, or it would be told apart"
    assert try_to_sign_in(other_user.email, PASSWORD) == "in", "a bystander at the same address"
    assert try_to_sign_in(free_user.email, PASSWORD, "198.51.100.9") == "in", "the owner, from elsewhere"


def test_an_account_that_does_not_exist_is_locked_alike(free_user):
    def answers(email):
        return [try_to_sign_in(email, f"wrong {number}") for number in range(7)]

    assert answers(free_user.email) == answers("nobody@example.com")


def test_the_owner_is_told_by_mail_once(free_user):
    for number in range(8):
        try_to_sign_in(free_user.email, f"wrong {number}")
        try_to_sign_in("nobody@example.com", f"wrong {number}")
    wait_for(lambda: mail.outbox, seconds=5, what="a mail")
    (message,) = mail.outbox
    assert message.to == [free_user.email] and "5 minutes" in message.subject
    assert "203.0.113.7" in message.body and "/accounts/password/reset/" in message.body


def test_many_addresses_cannot_go_on_guessing_but_a_known_one_gets_in(free_user):
    assert try_to_sign_in(free_user.email, PASSWORD, "198.51.100.1") == "in"
    answers = [try_to_sign_in(free_user.email, "wrong", f"203.0.113.{number}") for number in range(60)]
    assert sum("wait" not in answer for answer in answers) == sign_in.OF_ACCOUNT.tries
    assert "60 minutes" in answers[-1]
    assert try_to_sign_in(free_user.email, PASSWORD, "198.51.100.1") == "in", "signed in from there before"
    assert "wait" in try_to_sign_in(free_user.email, PASSWORD, "198.51.100.2")


def test_one_address_cannot_go_through_all_accounts_but_who_is_known_there_gets_in(free_user, other_user):
    assert try_to_sign_in(free_user.email, PASSWORD) == "in"
    answers = [try_to_sign_in(f"{number}@example.com", "wrong") for number in range(110)]
    assert sum("wait" not in answer for answer in answers) == sign_in.OF_ADDRESS.tries
    assert try_to_sign_in(free_user.email, PASSWORD) == "in"
    assert try_to_sign_in(other_user.email, PASSWORD, "198.51.100.1") == "in"


def test_addresses_of_one_household_count_as_one(free_user):
    answers = [try_to_sign_in(free_user.email, "wrong", f"2001:db8::{number:x}") for number in range(1, 10)]
    assert sum("wait" not in answer for answer in answers) == sign_in.FROM_ADDRESS.tries


def test_right_passwords_are_forgotten_and_time_heals(free_user):
    for _ in range(20):
        assert try_to_sign_in(free_user.email, PASSWORD) == "in"
    for _ in range(6):
        try_to_sign_in(free_user.email, "wrong")
    SignInTries.objects.update(window_ends="2020-01-01T00:00Z")
    assert try_to_sign_in(free_user.email, PASSWORD) == "in"
    sign_in.prune()
    assert SignInTries.objects.exists(), "known addresses are remembered"
    SignInTries.objects.update(window_ends="2020-01-01T00:00Z", succeeded_at="2020-01-01T00:00Z")
    sign_in.prune()
    assert not SignInTries.objects.exists()


def test_a_new_password_by_mail_ends_the_pause(client, free_user):
    for _ in range(6):
        try_to_sign_in(free_user.email, "wrong")
    mail.outbox.clear()
    client.post("/accounts/password/reset/", {"email": free_user.email})
    link = re.search(r"http://\S+", mail.outbox[0].body)[0].partition("testserver")[2]
    form = client.get(link, follow=True).redirect_chain[-1][0]
    client.post(form, {"password1": "another long secret", "password2": "another long secret"})
    assert try_to_sign_in(free_user.email, "another long secret") == "in"


@pytest.mark.usefixtures("with_and_without_redis")
def test_asking_for_mail_is_limited_with_and_without_redis(client, free_user):
    for _ in range(12):
        client.post("/accounts/password/reset/", {"email": free_user.email})
    print(f"mails of 12 requests: {len(mail.outbox)}")
    assert len(mail.outbox) == 5

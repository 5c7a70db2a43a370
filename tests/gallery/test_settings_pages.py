"""Settings: what was used, API keys shown once, the theme."""

import datetime as dt
import re

import pytest
from django.utils import timezone

from accounts.models import ApiKey, DailyUsage

KEYS = "/settings/keys/"


@pytest.mark.parametrize(
    "path",
    [
        "/settings/",
        "/settings/plan/",
        KEYS,
        "/settings/appearance/",
        "/accounts/email/",
        "/accounts/password/change/",
        "/accounts/logout/",
    ],
)
def test_each_page_opens_in_our_frame(anna, path):
    page = anna.get(path)
    assert page.status_code == 200 and 'class="topbar"' in page.content.decode()


def test_the_plan_page_tells_what_is_left(page_client, free_user):
    DailyUsage.objects.create(user=free_user, day=timezone.now().date(), used=3, held=1)
    page = page_client(free_user).get("/settings/plan/").content.decode()
    assert "6 of 10" in page and "3 used, 1 set aside" in page


def test_a_key_is_shown_once_and_works(anna, pro_user, client):
    page = anna.post(KEYS, {"name": "laptop", "days": "30", "scopes": ["read", "generate"]})
    secret = re.search(r"dsk_[0-9a-f]{8}_[\w-]{43}", page.content.decode())[0]
    assert "no-store" in page["Cache-Control"]
    assert ApiKey.find(secret).user == pro_user and ApiKey.find(secret).expires_at
    assert secret not in anna.get(KEYS).content.decode() and "laptop" in anna.get(KEYS).content.decode()


def test_a_revoked_key_is_gone(anna, pro_user, htmx):
    key, secret = ApiKey.issue(user=pro_user, name="old")
    text = anna.post(f"{KEYS}{key.pk}/revoke/", headers=htmx).content.decode()
    assert "revoked" in text and "No keys yet" in text and ApiKey.find(secret) is None
    assert anna.post(f"{KEYS}{key.pk}/revoke/").status_code == 404


def test_nobody_revokes_another_users_key(stranger, pro_user):
    key, secret = ApiKey.issue(user=pro_user, name="mine")
    assert stranger.post(f"{KEYS}{key.pk}/revoke/").status_code == 404
    assert stranger.post(f"{KEYS}{10**30}/revoke/").status_code == 404
    assert ApiKey.find(secret)
    assert "mine" not in stranger.get(KEYS).content.decode()


ALL = {"name": "x", "scopes": ["read", "generate", "manage"]}


@pytest.mark.parametrize(
    "sent",
    [
        {"name": ""},
        {"name": "x" * 61},
        {"days": "7000"},
        {"scopes": []},
        {"scopes": ["admin"]},
        {"daily_images": "0"},
        {"daily_images": "many"},
        {"requests_per_minute": "100000"},
        {"requests_per_minute": "-1"},
        {"name": "a\x00b"},
    ],
)
def test_a_bad_key_form_is_422_with_its_values(anna, pro_user, sent):
    response = anna.post(KEYS, ALL | sent)
    assert response.status_code == 422 and "field-error" in response.content.decode()
    assert not ApiKey.objects.filter(user=pro_user).exists()


def test_keys_have_an_end(anna, pro_user):
    for number in range(20):
        ApiKey.issue(user=pro_user, name=f"key {number}")
    assert "You have 20 keys" in anna.post(KEYS, ALL).content.decode()


def test_a_keys_limits_are_kept_and_shown(anna, pro_user):
    sent = {"name": "robot", "days": "90", "scopes": ["generate"], "daily_images": "5", "requests_per_minute": "60"}
    assert anna.post(KEYS, sent).status_code == 200
    key = ApiKey.objects.get(user=pro_user)
    assert (key.scopes, key.daily_images, key.requests_per_minute) == (["generate"], 5, 60)
    text = anna.get(KEYS).content.decode()
    assert "may generate" in text and "5 images a day" in text and "60 calls a minute" in text and "never used" in text
    ApiKey.objects.update(expires_at=timezone.now() - dt.timedelta(days=1), last_used_at=timezone.now())
    text = anna.get(KEYS).content.decode()
    assert "expired" in text and "used" in text and "never used" not in text


def test_the_theme_is_kept_in_a_cookie_also_when_signed_out(client, db, htmx):
    response = client.post("/settings/appearance/", {"theme": "dark", "next": "/pricing/"})
    assert response["Location"] == "/pricing/"
    assert 'data-theme="dark"' in client.get("/").content.decode()
    assert client.post("/settings/appearance/", {"theme": "light"}, headers=htmx).status_code == 204
    elsewhere = client.post("/settings/appearance/", {"theme": "dark", "next": "https://evil.example/"})
    assert elsewhere["Location"] == "/settings/appearance/"


def test_an_unknown_theme_is_refused(anna):
    assert anna.post("/settings/appearance/", {"theme": "neon"}).status_code == 422
    anna.cookies["theme"] = '"><script>'
    assert 'data-theme="system"' in anna.get("/settings/").content.decode()

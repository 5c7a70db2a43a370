"""Signing up, in and out, through the pages in our look."""

import re
from html import unescape

import pytest
from django.core import mail

from accounts.models import User

PASSWORD = "correct horse battery"


@pytest.mark.parametrize(
    "path",
    [
        "/accounts/login/",
        "/accounts/signup/",
        "/accounts/password/reset/",
        "/accounts/password/reset/done/",
        "/accounts/confirm-email/",
    ],
)
def test_pages_for_visitors_have_our_frame(client, db, path):
    page = client.get(path)
    assert page.status_code == 200 and 'class="topbar"' in page.content.decode()


def test_a_prompt_survives_signing_up(client, db):
    start = client.get("/create/", {"prompt": "a red boat at sea"})
    form = client.get(start["Location"]).content.decode()
    form = form.partition('action="/accounts/signup/"')[2]
    after = unescape(re.search(r'name="next" value="([^"]+)"', form)[1])
    sent = {"email": "new@example.com", "password1": PASSWORD, "next": after}
    sign_in = client.post("/accounts/signup/", sent, follow=True).redirect_chain[-1][0]
    done = client.post(sign_in, {"login": "new@example.com", "password": PASSWORD}, follow=True)
    assert done.redirect_chain[-1][0] == "/create/?prompt=a+red+boat+at+sea"
    assert "a red boat at sea</textarea>" in done.content.decode()
    assert User.objects.get(email="new@example.com").plan == "free"


@pytest.mark.parametrize(
    "sent",
    [
        {"email": "", "password1": PASSWORD},
        {"email": "not-an-address", "password1": PASSWORD},
        {"email": "new@example.com", "password1": "short"},
        {"email": "new@example.com", "password1": "password1"},
    ],
)
def test_a_bad_sign_up_says_why_at_the_field(client, db, sent):
    page = client.post("/accounts/signup/", sent).content.decode()
    assert 'class="field-error"' in page and 'aria-invalid="true"' in page
    assert not User.objects.exists()


def test_signing_in_does_not_tell_whether_an_account_exists(client, free_user):
    known, unknown = (
        client.post("/accounts/login/", {"login": email, "password": "wrong"}).context["form"].errors
        for email in (free_user.email, "nobody@example.com")
    )
    assert known == unknown and known


def test_a_forgotten_password_is_set_anew(client, free_user):
    client.post("/accounts/password/reset/", {"email": free_user.email})
    link = re.search(r"http://\S+", mail.outbox[0].body)[0].partition("testserver")[2]
    form = client.get(link, follow=True)
    client.post(form.redirect_chain[-1][0], {"password1": "another long secret", "password2": "another long secret"})
    assert client.login(email=free_user.email, password="another long secret")


def test_signing_out_takes_a_post(anna):
    assert "Jobs at work go on" in anna.get("/accounts/logout/").content.decode()
    assert anna.post("/accounts/logout/")["Location"] == "/"
    assert anna.get("/create/").status_code == 302


def test_without_registration_there_is_no_way_to_sign_up(client, db, settings):
    settings.REGISTRATION_OPEN = False
    assert "/accounts/signup/" not in client.get("/").content.decode()
    assert client.get("/accounts/signup/").status_code in (200, 403)
    client.post("/accounts/signup/", {"email": "new@example.com", "password1": PASSWORD})
    assert not User.objects.exists()

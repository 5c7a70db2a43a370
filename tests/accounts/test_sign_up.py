"""Signing up: it tells nobody who is here, one mailbox has one account, and an address is confirmed before pictures."""

import re
import stat

import pytest
from allauth.account import app_settings
from django.core import mail
from django.core.mail import EmailMessage, get_connection
from django.test import Client

from accounts.mailboxes import is_throwaway, mailbox_of
from accounts.models import User
from tests.conftest import PASSWORD


@pytest.fixture
def with_mail(settings):
    """A site whose mail reaches people: `EMAIL_URL` is set."""
    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"
    assert app_settings.EMAIL_VERIFICATION == "mandatory"


def sign_up(email, client=None):
    return (client or Client()).post("/accounts/signup/", {"email": email, "password1": PASSWORD})


def look(answer, email):
    """What a visitor sees of an answer, without what they typed."""
    headers = {
        name: value for name, value in answer.items() if name not in ("X-Request-Id", "Expires", "Content-Length")
    }
    body = re.sub(r"(csrfmiddlewaretoken|X-CSRFToken).{0,120}", "", answer.content.decode()).replace(email, "")
    return answer.status_code, headers, body, sorted(answer.cookies)


def test_without_a_mail_server_it_looks_the_same_too(make_user):
    """Whoever signed up signs in next: a taken address, an alias of one and a free one are answered alike."""
    make_user("ann@gmail.com")
    looks = []
    for email in ("nobody@example.com", "ann@gmail.com", "a.nn+art@googlemail.com"):
        client = Client()
        answer = sign_up(email, client)
        looks.append((look(answer, email), look(client.get(answer.url), email)))
        assert f'value="{email}"' in client.get(answer.url).content.decode(), "not to be typed again"
    print(f"{len(looks)} sign-ups, {len({repr(each) for each in looks})} different answers")
    assert looks[0] == looks[1] == looks[2] and looks[0][0][0] == 302 and not mail.outbox
    client = Client()
    sign_up("new@example.com", client)
    client.post("/accounts/login/", {"login": "new@example.com", "password": PASSWORD})
    assert client.get("/create/").status_code == 200


def test_what_was_to_come_after_signing_up_comes_after_signing_in(db):
    answer = Client().post(
        "/accounts/signup/", {"email": "new@example.com", "password1": PASSWORD, "next": "/create/?prompt=a+boat"}
    )
    assert answer.url.startswith("/accounts/login/?next=") and "a%2Bboat" in answer.url


@pytest.mark.usefixtures("with_mail")
def test_signing_up_looks_the_same_with_and_without_an_account(free_user):
    looks = {email: look(sign_up(email), email) for email in ("nobody@example.com", free_user.email)}
    new, old = looks.values()
    print(f"answers for an unknown and a known address: {new[:1]} {old[:1]}, the same: {new == old}")
    assert new == old and new[0] == 302
    assert [message.to for message in mail.outbox] == [["nobody@example.com"], [free_user.email]]
    assert "already" in mail.outbox[1].body or "exists" in mail.outbox[1].body
    assert User.objects.filter(email=free_user.email).count() == 1


def test_asking_for_a_new_password_looks_the_same_with_and_without_an_account(free_user):
    def answer(email):
        return look(Client().post("/accounts/password/reset/", {"email": email}), email)

    assert answer("nobody@example.com") == answer(free_user.email)


@pytest.mark.usefixtures("with_mail")
def test_an_address_is_confirmed_before_the_first_picture(client, db):
    sign_up("new@example.com", client)
    assert client.get("/create/").status_code == 302, "not signed in yet"
    link = re.search(r"http://\S+", mail.outbox[0].body)[0].partition("testserver")[2]
    client.post(link)
    client.post("/accounts/login/", {"login": "new@example.com", "password": PASSWORD})
    assert client.get("/create/").status_code == 200


ALIASES = ["ann@gmail.com", "a.nn@gmail.com", "Ann+art@gmail.com", "ann+1@googlemail.com", "a.n.n+x+y@gmail.com"]


@pytest.mark.parametrize("mail_reaches_people", [True, False])
def test_one_mailbox_gets_one_account(db, request, mail_reaches_people):
    if mail_reaches_people:
        request.getfixturevalue("with_mail")
    answers = [sign_up(email) for email in ALIASES]
    print(f"accounts of {len(ALIASES)} addresses of one mailbox: {User.objects.count()}")
    assert User.objects.get().email == "ann@gmail.com"
    if mail_reaches_people:
        assert {answer.status_code for answer in answers} == {302}
        assert [message.to[0].lower() for message in mail.outbox] == [email.lower() for email in ALIASES]
    sign_up("ann.b@gmail.com"), sign_up("a.nn@example.com"), sign_up("ann@example.com")
    assert User.objects.count() == 4, "others are others"


def test_an_account_made_by_staff_holds_its_mailbox_too(make_user):
    make_user("staff+first@example.com")
    sign_up("staff+second@example.com")
    assert User.objects.count() == 1
    make_user("staff+third@example.com")
    assert User.objects.count() == 2, "the people who run a site may make as many as they like"


def test_addresses_of_throwaway_services_are_not_taken(db, settings):
    settings.THROWAWAY_DOMAINS = ["nuisance.example"]
    for email in (
        "x@mailinator.com",
        "x@sub.mailinator.com",
        "x@guerrillamail.com",
        "x@yopmail.com",
        "x@nuisance.example",
    ):
        page = sign_up(email).content.decode()
        assert "throw-away" in page, email
    assert not User.objects.exists()
    for email in ("x@gmail.com", "x@outlook.com", "x@proton.me", "x@gmx.de", "x@example.com", "x@company.co.uk"):
        assert not is_throwaway(email)


def test_an_open_site_takes_them_all(db, settings):
    settings.SIGNUP_CHECKS = False
    for email in (*ALIASES[:3], "x@mailinator.com"):
        sign_up(email)
    assert User.objects.count() == 4


def test_mailboxes():
    same = [("A.nn+x@GoogleMail.com", "ann@gmail.com"), ("ann+x@example.com", "ann@example.com")]
    same += [
        ("ann-x@yahoo.com", "ann@yahoo.com"),
        ("a.nn@example.com", "a.nn@example.com"),
        ("+x@example.com", "+x@example.com"),
    ]
    for email, mailbox in same:
        assert mailbox_of(email) == mailbox


def test_mail_in_files_is_for_the_sites_own_user_only(settings, tmp_path):
    settings.EMAIL_FILE_PATH = tmp_path / "mail"
    settings.EMAIL_FILE_PATH.mkdir(mode=0o755)
    get_connection("dreamsketch.mail.PrivateFiles").send_messages(
        [EmailMessage("Subject", "A link that opens an account", to=["ann@example.com"])]
    )
    (file,) = settings.EMAIL_FILE_PATH.iterdir()
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (settings.EMAIL_FILE_PATH, file)]
    print(f"modes of the folder and a mail: {[oct(mode) for mode in modes]}")
    assert modes == [0o700, 0o600] and "opens an account" in file.read_text()

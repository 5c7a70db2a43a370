"""manage.py seed_demo: a site that is not empty, the way all pictures go."""

import io

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from accounts.models import User
from generation.management.commands.seed_demo import PASSWORD, PEOPLE
from generation.models import GeneratedImage, Generation
from generation.operations import audit

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quick(settings):
    settings.DREAMSKETCH_ENGINE, settings.FAKE_SECONDS_PER_STEP = "fake", 0.0
    settings.ALLOWED_HOSTS = ["localhost"]


def seed(*arguments):
    out = io.StringIO()
    call_command("seed_demo", *arguments, stdout=out)
    return out.getvalue()


def test_it_makes_people_who_can_sign_in_and_pictures_that_all_can_see():
    client = Client(headers={"host": "localhost"})
    output = seed()
    for email in PEOPLE:
        assert f"Sign in as {email} with the password: {PASSWORD}" in output
        client.logout()
        answer = client.post("/accounts/login/", {"login": email, "password": PASSWORD})
        assert answer.status_code == 302 and client.session["_auth_user_id"]
    client.logout()
    images = GeneratedImage.objects.visible_to(client.get("/").wsgi_request.user)
    assert images.count() == sum(map(len, PEOPLE.values())) == Generation.objects.filter(status="completed").count()
    assert all(client.get(f"/i/{image.short_id}/").status_code == 200 for image in images[:2])
    assert {what: count for what, count in audit.audit(contents=True).items() if count} == {}


def test_again_changes_nothing():
    first = seed()
    before = set(GeneratedImage.objects.values_list("pk", flat=True))
    assert seed() == first
    assert set(GeneratedImage.objects.values_list("pk", flat=True)) == before
    assert User.objects.count() == len(PEOPLE)


def test_a_site_that_others_can_reach_is_left_alone_unless_told(settings):
    settings.ALLOWED_HOSTS = ["pictures.example.com"]
    with pytest.raises(CommandError, match="--yes"):
        seed()
    assert not User.objects.exists() and not Generation.objects.exists()
    seed("--yes")
    assert User.objects.count() == len(PEOPLE)

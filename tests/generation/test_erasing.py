"""Deleting for good: nothing of what a person asked for is left, and the ledger stays."""

import datetime as dt
import json

import pytest
from django.contrib.sessions.models import Session
from django.core.files.storage import default_storage
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from accounts.models import DailyUsage, QuotaHold
from generation.models import GeneratedImage, Generation, Upload
from generation.operations.audit import audit
from generation.services.generations import create_generation
from generation.storage.uploads import store_upload
from tests.api.test_uploads import encoded, picture

CANARY = "a canary in a coal mine"

pytestmark = pytest.mark.django_db(transaction=True)


def everything_stored():
    """The text of every row of every table."""
    texts = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT coalesce(string_agg(t::text, chr(10)), '') FROM \"{table}\" t")
            texts.append(cursor.fetchone()[0])
    return "\n".join(texts)


@pytest.fixture
def drawn(free_user, make_image):
    """Two pictures of one ended generation with a starting picture; the upload too."""
    upload = store_upload(free_user, encoded(picture()), param="image")
    generation, _ = create_generation(
        user=free_user, prompt=CANARY, negative_prompt=f"no {CANARY}", style="watercolour", image=upload, num_images=2
    )
    images = [make_image(free_user, title=CANARY) for _ in range(2)]
    for index, image in enumerate(images):
        other, image.generation, image.index = image.generation, generation, index
        image.save()
        other.delete()
    Generation.objects.filter(pk=generation.pk).update(
        status="completed", image_count=2, finished_at=timezone.now(), idempotency_key=CANARY
    )
    QuotaHold.objects.filter(generation_id=generation.pk).update(state="settled", charged=2)
    DailyUsage.objects.filter(user=free_user).update(held=0, used=2)
    return images, upload


def ledger():
    holds = QuotaHold.objects.values_list("generation_id", "images", "charged", "state")
    return list(holds), list(DailyUsage.objects.values_list("used", "held"))


def test_with_the_last_picture_goes_what_was_asked_for(free_user, api_client, drawn):
    (first, second), upload = drawn
    client, before = api_client(free_user), ledger()
    status = f"/api/status/{first.generation_id}/"
    client.delete(f"/api/images/{first.id}/?permanent=true")
    assert client.get(status).json()["prompt"] == CANARY, "the other picture is still of it"
    client.delete(f"/api/images/{second.id}/")
    assert CANARY in everything_stored(), "the trash gives it back"
    client.delete(f"/api/images/{second.id}/?permanent=true")
    left = everything_stored().count(CANARY)
    print(f"places where the prompt is left: {left}")
    assert left == 0
    after = client.get(status)
    assert after.status_code == 200 and after.json()["prompt"] == "" and after.json()["images"] == []
    assert not Upload.objects.filter(pk=upload.pk).exists() and not default_storage.exists(upload.file)
    assert ledger() == before and set(audit().values()) == {0}
    assert client.get("/api/usage/").json()["used"] == 2


def test_emptying_the_trash_and_retention_erase_as_well(free_user, page_client, drawn):
    images, _ = drawn
    browser = page_client(free_user)
    GeneratedImage.objects.update(deleted_at=timezone.now())
    browser.post("/gallery/bulk/", {"action": "empty", "sure": "yes"})
    assert not GeneratedImage.objects.exists() and CANARY not in everything_stored()
    job = browser.get(f"/jobs/{images[0].generation_id}/").content.decode()
    assert "Deleted" in job and f"/jobs/{images[0].generation_id}/retry" not in job


def test_an_upload_that_another_generation_draws_with_stays(free_user, api_client, drawn):
    (first, second), upload = drawn
    other, _ = create_generation(user=free_user, prompt="another", image=upload)
    for image in (first, second):
        api_client(free_user).delete(f"/api/images/{image.id}/?permanent=true")
    assert Upload.objects.filter(pk=upload.pk).exists() and str(upload.pk) in json.dumps(other.options)


def test_an_ended_generation_is_deleted_with_its_pictures(free_user, other_user, api_client, drawn):
    images, upload = drawn
    client, before = api_client(free_user), ledger()
    address = f"/api/status/{images[0].generation_id}"
    assert api_client(other_user).delete(address).status_code == 404
    assert client.delete(address).status_code == 204
    assert client.get(address).status_code == 404 and client.delete(address).status_code == 404
    assert not Generation.objects.exists() and not GeneratedImage.objects.exists() and CANARY not in everything_stored()
    assert not any(default_storage.exists(image.file) for image in images) and not default_storage.exists(upload.file)
    assert ledger() == before and set(audit().values()) == {0}
    receipt = client.get("/api/usage/").json()["receipts"][0]
    assert receipt["charged"] == 2 and receipt["request"] is None


def test_one_that_waits_is_cancelled_first(free_user, api_client, page_client):
    generation, _ = create_generation(user=free_user, prompt=CANARY)
    client, browser = api_client(free_user), page_client(free_user)
    address = f"/api/generate/status/{generation.pk}"
    answer = client.delete(address)
    assert answer.status_code == 409 and answer.json()["error"]["code"] == "conflict"
    assert browser.post(f"/jobs/{generation.pk}/delete/").url == f"/jobs/{generation.pk}/"
    client.post(f"/api/generate/{generation.pk}/cancel")
    assert "Delete this job" in browser.get(f"/jobs/{generation.pk}/").content.decode()
    assert CANARY in browser.get(f"/jobs/{generation.pk}/delete/").content.decode()
    assert browser.post(f"/jobs/{generation.pk}/delete/").url == "/create/"
    assert CANARY not in everything_stored() and client.delete(address).status_code == 404


def test_deleting_gives_nothing_back(free_user, api_client, settings):
    """Whoever deletes what was accepted in this hour has asked for it all the same."""
    client = api_client(free_user)
    settings.REQUESTS_PER_HOUR = 50
    for _ in range(3):
        job = client.post("/api/generate/", {"prompt": CANARY}, "application/json").json()
        client.post(job["cancel_url"])
        assert client.delete(job["status_url"]).status_code == 204
    assert free_user.holds.count() == 3


def test_pruning_takes_old_generations_without_pictures_and_expired_sessions(
    free_user, make_image, make_generation, settings, client, capsys
):
    old = timezone.now() - dt.timedelta(days=settings.GENERATION_DAYS + 1)
    bare, young, waiting = (make_generation(free_user, prompt=CANARY) for _ in range(3))
    with_picture = make_image(free_user, visibility="public").generation
    Generation.objects.filter(pk=with_picture.pk).update(finished_at=old)
    Generation.objects.filter(pk__in=[bare.pk, young.pk]).update(status="failed", finished_at=old)
    Generation.objects.filter(pk=young.pk).update(finished_at=timezone.now())
    client.force_login(free_user)
    Session.objects.create(session_key="gone", session_data="", expire_date=old)
    call_command("prune", "--dry-run")
    assert Generation.objects.count() == 4 and Session.objects.count() == 2
    call_command("prune")
    print(capsys.readouterr().out)
    assert set(Generation.objects.values_list("pk", flat=True)) == {young.pk, waiting.pk, with_picture.pk}
    assert Session.objects.get().session_key == client.session.session_key
    settings.GENERATION_DAYS = 0
    Generation.objects.filter(pk=young.pk).update(finished_at=old)
    call_command("prune")
    assert Generation.objects.filter(pk=young.pk).exists()

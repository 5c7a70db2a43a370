"""A job's page and panel: what state it is in, cancel, try again, preview."""

import re

import pytest
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from generation.live import store
from generation.models import Generation


def url(name, job):
    return reverse(name, args=[job.pk])


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"status": "queued"}, "in line"),
        ({"status": "processing", "phase": "loading"}, "Warming up DreamSketch Tiny"),
        ({"status": "processing", "phase": "generating", "step": 2}, "Step 2 of 4"),
        ({"status": "processing", "phase": "saving", "step": 4}, "Finishing touches"),
        ({"status": "processing", "phase": "generating", "cancel_requested": True}, "Cancelling…"),
        ({"status": "cancelled"}, "Cancelled before it began"),
        (
            {"status": "failed", "error_code": "out_of_memory", "error_message": "Try another size."},
            "Try another size. Not counted.",
        ),
        ({"status": "blocked", "error_code": "unsafe", "error_message": "The picture was not safe."}, "held back"),
        ({"status": "expired", "error_code": "deadline", "error_message": "It waited too long."}, "given up"),
    ],
)
def test_it_says_how_the_job_fares(anna, pro_user, make_generation, fields, text):
    page = anna.get(url("job", make_generation(pro_user, **fields)))
    assert page.status_code == 200 and text in " ".join(page.content.decode().split())


def test_a_finished_job_shows_its_pictures(anna, pro_user, make_image):
    image = make_image(pro_user)
    page = anna.get(url("job", image.generation)).content.decode()
    assert reverse("image-file", args=[image.id]) in page and reverse("image-download", args=[image.short_id]) in page


def test_without_scripts_an_active_page_reloads_itself(anna, pro_user, make_generation):
    active, ended = make_generation(pro_user), make_generation(pro_user, status="cancelled")
    refresh = '<noscript><meta http-equiv="refresh" content="3"></noscript>'
    for job, reloads in ((active, True), (ended, False)):
        assert (refresh in re.sub(r"\s*\n\s*", "", anna.get(url("job", job)).content.decode())) == reloads


def test_progress_is_shown_and_never_full_before_the_picture_is_there(anna, pro_user, make_generation):
    job = make_generation(pro_user, status="processing", phase="generating")
    store.publish_progress(job.pk, pro_user.pk, phase="saving", step=4, steps=4)
    page = anna.get(url("job", job)).content.decode()
    assert 'aria-valuenow="96"' in page


def test_a_queued_job_is_cancelled(anna, pro_user, make_generation):
    job = make_generation(pro_user)
    response = anna.post(url("job-cancel", job))
    job.refresh_from_db()
    assert job.status == "cancelled" and response["Location"] == url("job", job)


def test_cancel_answers_htmx_with_the_panel(anna, pro_user, make_generation, htmx):
    job = make_generation(pro_user, status="processing", phase="generating")
    response = anna.post(url("job-cancel", job), headers=htmx)
    assert "Cancelling…" in response.content.decode() and "<html" not in response.content.decode()


def test_what_was_finished_before_a_cancel_is_shown(anna, pro_user, make_image):
    image = make_image(pro_user, generation_fields={"num_images": 3})
    # A final state never changes, so this one is made as it would have ended.
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(
            "UPDATE generation_generation SET status = 'cancelled', step = 6 WHERE id = %s", [image.generation_id]
        )
        cursor.execute("SET LOCAL session_replication_role = origin")
    page = anna.get(url("job", image.generation)).content.decode()
    assert "Cancelled at step 6, 1 image kept" in page and reverse("image-file", args=[image.id]) in page


def test_a_job_whose_images_were_deleted_says_so(anna, pro_user, make_image):
    image = make_image(pro_user, deleted_at=timezone.now())
    page = anna.get(url("job", image.generation)).content.decode()
    assert "in the trash or deleted" in page and reverse("image-file", args=[image.id]) not in page


def test_cancel_after_the_end_changes_nothing(anna, pro_user, make_image):
    image = make_image(pro_user)
    response = anna.post(url("job-cancel", image.generation), follow=True)
    assert "already finished" in response.content.decode()
    assert Generation.objects.get(pk=image.generation_id).status == "completed"


def test_a_failed_job_is_tried_again(anna, pro_user, make_generation):
    job = make_generation(pro_user, status="failed", error_code="bad_output", width=128, height=128)
    response = anna.post(url("job-retry", job))
    again = Generation.objects.get(retry_of=job)
    assert response["Location"] == url("job", again) and again.seed == job.seed and again.status == "queued"


def test_trying_again_over_the_quota_is_429_for_htmx(page_client, free_user, make_generation, htmx):
    job = make_generation(free_user, status="failed", num_images=4, width=128, height=128)
    for _ in range(2):
        page_client(free_user).post("/create/", {"prompt": "a boat", "num_images": "4"})
    response = page_client(free_user).post(url("job-retry", job), headers=htmx)
    assert response.status_code == 429 and int(response["Retry-After"]) > 0
    assert "You have 2 of 10 images left" in response.content.decode()


def test_a_finished_job_cannot_be_tried_again(anna, pro_user, make_image):
    job = make_image(pro_user).generation
    page = anna.post(url("job-retry", job), follow=True).content.decode()
    assert "Only a generation that failed" in page
    assert not Generation.objects.filter(retry_of=job).exists()


def test_the_preview_is_the_latest_one(anna, pro_user, make_generation):
    job = make_generation(pro_user, status="processing")
    assert anna.get(url("job-preview", job)).status_code == 204, "none yet"
    store.publish_progress(job.pk, pro_user.pk, phase="generating", step=1, steps=4, preview=b"RIFFwebp")
    response = anna.get(url("job-preview", job), {"s": 1})
    assert response.content == b"RIFFwebp" and response["Content-Type"] == "image/webp"
    assert response["Cache-Control"] == "private, max-age=60"
    assert f"{url('job-preview', job)}?s=1" in anna.get(url("job", job)).content.decode()


def test_the_preview_of_a_job_that_just_ended_is_its_picture(anna, pro_user, make_image):
    response = anna.get(url("job-preview", make_image(pro_user).generation))
    assert response.status_code == 200 and response["Content-Type"] == "image/webp"


def test_the_panel_alone_is_for_htmx(anna, pro_user, make_generation, htmx):
    job = make_generation(pro_user)
    assert anna.get(url("job-panel", job))["Location"] == url("job", job)
    assert "<html" not in anna.get(url("job-panel", job), headers=htmx).content.decode()

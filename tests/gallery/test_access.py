"""Who may open what: one test for each rule over every address."""

import uuid

import pytest
from django.urls import reverse

MEMBERS = [
    "create",
    "create-suggestions",
    "create-estimate",
    "gallery",
    "gallery-favourites",
    "trash",
    "settings",
    "settings-plan",
    "settings-keys",
    "settings-appearance",
]
POSTS = ["create-surprise", "create-improve", "gallery-bulk", "gallery-zip"]
PUBLIC = ["home", "pricing", "docs", "docs-prompts"]
JOB = ["job", "job-panel", "job-preview"]
JOB_POSTS = ["job-cancel", "job-retry"]
JOB_QUESTIONS = ["job-delete"]
IMAGE_POSTS = ["image-favourite", "image-visibility", "image-trash", "image-restore"]


@pytest.mark.parametrize("name", PUBLIC)
def test_public_pages_open_for_everybody(client, db, name):
    assert client.get(reverse(name)).status_code == 200


def test_public_pages_ask_the_database_nothing_about_visitors(client, db, django_assert_num_queries):
    with django_assert_num_queries(0):
        client.get(reverse("pricing"))


@pytest.mark.parametrize("name", MEMBERS)
def test_members_pages_lead_visitors_to_sign_in(client, db, name):
    address = reverse(name)
    response = client.get(address)
    assert response.status_code == 302 and response["Location"] == f"/accounts/login/?next={address}"


@pytest.mark.parametrize("name", POSTS)
def test_actions_lead_visitors_to_sign_in_and_take_no_get(client, anna, name):
    assert client.post(reverse(name)).status_code == 302
    assert anna.get(reverse(name)).status_code == 405


@pytest.mark.parametrize("name", JOB + JOB_POSTS + JOB_QUESTIONS)
def test_another_users_job_looks_like_none(anna, stranger, client, pro_user, make_generation, name, htmx):
    job = make_generation(pro_user)
    for pk in (job.pk, uuid.uuid4()):
        call = stranger.post if name in JOB_POSTS else stranger.get
        assert call(reverse(name, args=[pk])).status_code == 404
    call = client.post if name in JOB_POSTS else client.get
    assert call(reverse(name, args=[job.pk])).status_code == 302
    job.refresh_from_db()
    assert job.status == "queued"


@pytest.mark.parametrize("name", JOB_POSTS)
def test_jobs_change_only_by_post(anna, pro_user, make_generation, name):
    assert anna.get(reverse(name, args=[make_generation(pro_user).pk])).status_code == 405


@pytest.mark.parametrize("name", IMAGE_POSTS)
def test_images_change_only_by_post(anna, pro_user, make_image, name):
    assert anna.get(reverse(name, args=[make_image(pro_user).short_id])).status_code == 405


@pytest.mark.parametrize("name", [*PUBLIC, *MEMBERS])
def test_pages_take_no_put(anna, name):
    assert anna.put(reverse(name)).status_code == 405


@pytest.mark.parametrize(
    "path", ["/i/abc/", "/i/%00%00%00%00%00%00/", "/i/nothinghere/", "/jobs/x/", "/i/" + "a" * 300 + "/"]
)
def test_addresses_of_nothing_are_404(anna, path):
    response = anna.get(path)
    assert response.status_code == 404 and "Nothing is drawn here" in response.content.decode()


def test_writing_needs_the_csrf_token(page_client, pro_user, make_image):
    client = page_client(pro_user, enforce_csrf_checks=True)
    image = make_image(pro_user)
    response = client.post(reverse("image-trash", args=[image.short_id]))
    assert response.status_code == 403 and "open for too long" in response.content.decode()
    image.refresh_from_db()
    assert image.deleted_at is None


def test_members_go_from_home_to_create(anna):
    assert anna.get("/")["Location"] == "/create/"
    assert anna.get("/", {"prompt": "a boat"})["Location"] == "/create/?prompt=a+boat"


def test_home_shows_public_images_only(client, pro_user, make_image):
    public, private = make_image(pro_user, visibility="public"), make_image(pro_user)
    unlisted, gone = make_image(pro_user, visibility="unlisted"), make_image(pro_user, visibility="public")
    from generation.services.images import trash_images

    trash_images(pro_user, [gone])
    page = client.get("/").content.decode()
    assert public.short_id in page
    assert not any(image.short_id in page for image in (private, unlisted, gone))

"""Images: changes to one and to many, downloads, totals that are not counted, answers that need not be sent again."""

import io
import json
import uuid

import pytest
from PIL import Image

from accounts.models import ApiKey
from generation.engine.request.metadata import SOURCE_TYPE, read_png
from generation.models import GeneratedImage, ImageCount

pytestmark = pytest.mark.django_db
JSON = "application/json"


@pytest.fixture
def client(free_user, api_client):
    return api_client(free_user)


# --- one ----------------------------------------------------------------------------------------------------


def test_change(client, free_user, make_image, documented):
    image = make_image(free_user)
    path = f"/api/images/{image.id}"
    changed = client.patch(path, {"title": "  My\n boat ", "favourite": True, "visibility": "unlisted"}, JSON)
    answer = documented(changed, "patch", "/api/images/{image_id}")
    assert (answer["title"], answer["favourite"], answer["visibility"]) == ("My boat", True, "unlisted")
    assert client.patch(path + "/", {"favourite": "false"}, JSON).json()["title"] == "My boat", "the rest stays"
    assert client.patch(path, {"title": "", "favourite": None, "id": 5, "owner": 1, "number": 9}, JSON).json() == (
        client.get(path).json()
    )
    image.refresh_from_db()
    assert (image.title, image.favourite, image.owner) == ("", False, free_user)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("visibility", ["secret", "PUBLIC", "", 1, [], {}, True, "\x00"]),
        ("favourite", ["perhaps", 1, 2.5, [], {}]),
        ("title", ["x" * 121, 5, [], {}, True, "a\x00b", "\ud800"]),
    ],
)
def test_bad_changes(field, values, client, free_user, make_image, refused):
    image = make_image(free_user)
    for value in values:
        body = json.dumps({"title": "new", "favourite": True} | {field: value})
        refused(client.patch(f"/api/images/{image.id}", body, JSON), 400, param=field)
    image.refresh_from_db()
    assert (image.title, image.favourite, image.visibility) == ("", False, "private")


def test_nobody_changes_a_published_image_of_somebody_else(free_user, other_user, api_client, make_image, refused):
    image = make_image(free_user, visibility="public")
    refused(api_client(other_user).patch(f"/api/images/{image.id}", {"title": "mine"}, JSON), 404, "not_found")


# --- many -----------------------------------------------------------------------------------------------------


def bulk(client, action, images):
    return client.post("/api/images/bulk", {"action": action, "ids": [str(image.id) for image in images]}, JSON)


@pytest.mark.django_db(transaction=True)
def test_bulk_actions(client, free_user, other_user, make_image, documented, media_folder):
    own, theirs = [make_image(free_user) for _ in range(3)], make_image(other_user, visibility="public")
    answer = documented(bulk(client, "trash", [*own[:2], theirs]), "post", "/api/images/bulk")
    assert answer == {"action": "trash", "count": 2, "ids": [str(image.id) for image in own[:2]]}
    assert set(GeneratedImage.objects.kept()) == {own[2], theirs}
    assert bulk(client, "restore", own).json()["count"] == 3
    assert GeneratedImage.objects.trashed().count() == 0
    bulk(client, "favourite", own[:1])
    bulk(client, "public", own)
    assert GeneratedImage.objects.get(favourite=True) == own[0]
    assert GeneratedImage.objects.filter(owner=free_user, visibility="public").count() == 3
    bulk(client, "unfavourite", own)
    bulk(client, "private", own)
    bulk(client, "delete", [*own, theirs])
    assert GeneratedImage.objects.get() == theirs
    assert (media_folder / theirs.file).exists() and not (media_folder / own[0].file).exists()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"action": "trash"},
        {"ids": [str(uuid.uuid4())]},
        {"action": "explode", "ids": [str(uuid.uuid4())]},
        {"action": ["trash"], "ids": [str(uuid.uuid4())]},
        {"action": "trash", "ids": []},
        {"action": "trash", "ids": ["x"]},
        {"action": "trash", "ids": [5]},
        {"action": "trash", "ids": {"a": 1}},
        {"action": "trash", "ids": [str(uuid.uuid4())] * 101},
        {"action": "trash", "ids": None},
        {"action": "trash", "ids": "a\x00,b"},
    ],
    ids=range(12),
)
def test_bad_bulk_requests(fields, client, free_user, make_image, refused):
    image = make_image(free_user)
    refused(client.post("/api/images/bulk/", fields, JSON), 400)
    image.refresh_from_db()
    assert image.deleted_at is None


def test_a_key_that_may_not_manage(free_user, make_image, refused):
    from django.test import Client

    image = make_image(free_user)
    _, token = ApiKey.issue(user=free_user, name="narrow", scopes=["read", "generate"])
    narrow = Client(headers={"Authorization": f"Bearer {token}"})
    refused(bulk(narrow, "trash", [image]), 403, "insufficient_scope")
    refused(narrow.patch(f"/api/images/{image.id}", {"title": "x"}, JSON), 403, "insufficient_scope")
    refused(narrow.delete(f"/api/images/{image.id}"), 403, "insufficient_scope")
    assert narrow.get(f"/api/images/{image.id}/download").status_code == 200
    assert narrow.post("/api/parse-prompt", {"prompt": "a boat"}, JSON).status_code == 200


# --- downloads --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "kind", "ending"),
    [("png", "image/png", ".png"), ("jpeg", "image/jpeg", ".jpg"), ("webp", "image/webp", ".webp")],
)
def test_download(format, kind, ending, client, free_user, make_image):
    image = make_image(free_user)
    answers = {
        metadata: client.get(f"/api/images/{image.id}/download?format={format}&metadata={metadata}&quality=80")
        for metadata in ("keep", "strip")
    }
    for answer in answers.values():
        assert answer["Content-Type"] == kind
        assert answer["Content-Disposition"].startswith("attachment;") and ending in answer["Content-Disposition"]
        assert Image.open(io.BytesIO(answer.content)).size == (64, 48)
        assert SOURCE_TYPE.encode() in answer.content, "it always says that a machine made it"
    prompt = "a red boat at sea"
    kept = [answers["keep"].content.find(prompt.encode(code)) >= 0 for code in ("utf-8", "utf-16-be")]
    assert any(kept)
    assert not any(prompt.encode(code) in answers["strip"].content for code in ("utf-8", "utf-16-be", "utf-16-le"))
    if format == "png":
        assert read_png(answers["keep"].content)["recipe"]["prompt"] == prompt


def test_bad_downloads(client, free_user, other_user, make_image, refused):
    path = f"/api/images/{make_image(free_user).id}/download"
    for name, values in {
        "format": ["gif", "", "png\x00", "../x"],
        "quality": ["0", "101", "x", "1.5", ""],
        "metadata": ["some", "", "KEEP"],
    }.items():
        for value in values:
            refused(client.get(path, {name: value}), 400, param=name)
    refused(client.get(f"/api/images/{make_image(other_user).id}/download"), 404, "not_found")


# --- again --------------------------------------------------------------------------------------------------------


def test_what_is_known_is_not_sent_again(client, free_user, make_image):
    image = make_image(free_user)
    for path in (
        f"/api/images/{image.id}",
        "/api/images/history",
        "/api/results",
        "/api/models",
        f"/media/images/{image.id}.png",
        f"/media/thumbnails/{image.id}.webp",
        f"/api/images/{image.id}/download?format=jpeg",
    ):
        first = client.get(path)
        again = client.get(path, headers={"If-None-Match": first["ETag"]})
        assert (again.status_code, again.content) == (304, b""), path
        assert again["ETag"] == first["ETag"] and "private" in again["Cache-Control"]
        assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    etags = {
        client.get(f"/api/images/{image.id}/download?{query}")["ETag"]
        for query in ("", "format=jpeg", "format=jpeg&quality=5", "metadata=strip")
    }
    assert len(etags) == 4
    first = client.get(f"/api/images/{image.id}")
    client.patch(f"/api/images/{image.id}", {"title": "new"}, JSON)
    assert client.get(f"/api/images/{image.id}", headers={"If-None-Match": first["ETag"]}).status_code == 200


def test_a_known_image_is_not_shown_to_who_may_no_longer_see_it(free_user, other_user, api_client, make_image):
    image = make_image(free_user, visibility="public")
    stranger = api_client(other_user)
    etag = stranger.get(f"/media/images/{image.id}.png")["ETag"]
    GeneratedImage.objects.update(visibility="private")
    assert stranger.get(f"/media/images/{image.id}.png", headers={"If-None-Match": etag}).status_code == 404


# --- totals -------------------------------------------------------------------------------------------------------


def total(user) -> int:
    counted = GeneratedImage.objects.filter(owner=user, deleted_at=None).count()
    assert ImageCount.kept_by(user) == counted
    return counted


def test_the_total_is_kept_by_the_database(free_user, other_user, make_image, client):
    assert total(free_user) == 0
    images = [make_image(free_user) for _ in range(4)]
    make_image(other_user)
    assert (total(free_user), total(other_user)) == (4, 1)
    client.delete(f"/api/images/{images[0].id}")
    assert total(free_user) == 3
    client.delete(f"/api/images/{images[1].id}?permanent=true")
    client.delete(f"/api/images/{images[0].id}?permanent=true")
    assert total(free_user) == 2
    client.patch(f"/api/images/{images[2].id}", {"favourite": True}, JSON)
    assert total(free_user) == 2
    GeneratedImage.objects.filter(owner=free_user).update(owner=other_user)
    assert (total(free_user), total(other_user)) == (0, 3)
    other_user.delete()
    assert not ImageCount.objects.filter(owner_id=other_user.pk).exists()


def test_the_total_is_undone_with_its_transaction(free_user, make_image):
    from django.db import transaction

    with pytest.raises(ValueError), transaction.atomic():
        make_image(free_user)
        raise ValueError
    assert total(free_user) == 0


def test_history_never_counts_the_images(client, free_user, make_image):
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    for _ in range(3):
        make_image(free_user)
    with CaptureQueriesContext(connection) as queries:
        assert client.get("/api/images/history?page=2&perPage=1").json()["total"] == 3
    assert not [query for query in queries if "COUNT(" in query["sql"]]

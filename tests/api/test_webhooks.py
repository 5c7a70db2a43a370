"""Webhooks through the API: one's own only, secrets once, hostile values; and results of engines elsewhere."""

import base64
import datetime as dt
import io
import json
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone
from PIL import Image
from standardwebhooks import Webhook

from accounts import quotas
from accounts.models import QuotaHold
from generation.engine.remote.signatures import sign
from generation.models import GeneratedImage, Generation, WebhookDelivery, WebhookEndpoint
from generation.webhooks import events, signatures

pytestmark = pytest.mark.django_db

JSON = "application/json"
URL = "https://hooks.example.com/dreamsketch"


@pytest.fixture
def client(pro_user, api_client):
    return api_client(pro_user)


@pytest.fixture
def made(client, documented):
    """A new webhook, as its creation answered."""
    return documented(client.post("/api/webhooks", {"url": URL}, JSON), "post", "/api/webhooks")


def test_the_whole_life_of_a_webhook(client, made, documented):
    path, where = "/api/webhooks/{endpoint_id}", f"/api/webhooks/{made['id']}"
    assert made["secret"].startswith("whsec_") and made["events"] == list(events.EVENTS) and made["enabled"]
    listed = client.get("/api/webhooks/")
    assert made["secret"] not in listed.content.decode()
    assert [webhook["id"] for webhook in documented(listed, "get", "/api/webhooks")["webhooks"]] == [made["id"]]
    change = {"events": ["quota.exhausted"], "description": "shop", "enabled": False, "url": URL + "?a=1"}
    changed = documented(client.patch(where, change, JSON), "patch", path)
    assert {name: changed[name] for name in change} == change
    assert documented(client.get(where), "get", path) == changed
    assert documented(client.patch(where, {}, JSON), "patch", path) == changed
    client.patch(where, {"enabled": True}, JSON)

    sent = documented(client.post(f"{where}/test"), "post", path + "/test")
    assert (sent["event"], sent["state"], sent["attempts"]) == ("webhook.test", "pending", 0)
    deliveries = documented(client.get(f"{where}/deliveries"), "get", path + "/deliveries")["deliveries"]
    assert deliveries == [sent]

    rotated = client.post(f"{where}/rotate")
    assert "no-store" in rotated["Cache-Control"]
    rotated = documented(rotated, "post", path + "/rotate")
    assert rotated["secret"] != made["secret"] and rotated["previousSecretUntil"]
    endpoint = WebhookEndpoint.objects.get()
    assert (endpoint.secret, endpoint.previous_secret) == (rotated["secret"], made["secret"])
    documented(client.delete(where), "delete", path)
    assert not WebhookEndpoint.objects.exists() and not WebhookDelivery.objects.exists()


def test_sending_again(client, made, documented, refused):
    path, where = "/api/webhooks/deliveries/{delivery_id}/resend", "/api/webhooks/deliveries/{}/resend"
    sent = client.post(f"/api/webhooks/{made['id']}/test").json()
    refused(client.post(where.format(sent["id"])), 409, "conflict")
    WebhookDelivery.objects.update(state="failed", attempts=10, answer_status=500, ended_at=timezone.now())
    again = documented(client.post(where.format(sent["id"])), "post", path)
    assert (again["state"], again["attempts"], again["messageId"]) == ("pending", 0, sent["messageId"])
    client.patch(f"/api/webhooks/{made['id']}", {"enabled": False}, JSON)
    refused(client.post(where.format(sent["id"])), 409, "conflict")
    refused(client.post(f"/api/webhooks/{made['id']}/test"), 409, "conflict")
    refused(client.post(where.format(uuid.uuid4())), 404, "not_found")


def test_the_newest_fifty_deliveries_are_listed(client, made):
    endpoint = WebhookEndpoint.objects.get()
    began = timezone.now()
    WebhookDelivery.objects.bulk_create(
        [
            WebhookDelivery(
                endpoint=endpoint,
                event="webhook.test",
                subject=str(number),
                body="{}",
                created_at=began - dt.timedelta(minutes=number),
            )
            for number in range(55)
        ]
    )
    listed = client.get(f"/api/webhooks/{made['id']}/deliveries").json()["deliveries"]
    newest = WebhookDelivery.objects.order_by("-created_at")[:50]
    assert [delivery["id"] for delivery in listed] == [str(delivery.pk) for delivery in newest]


def test_nobody_reaches_anothers_webhooks(client, made, other_user, api_client, page_client, refused):
    sent = client.post(f"/api/webhooks/{made['id']}/test").json()
    for stranger in (api_client(other_user), page_client(other_user)):
        assert stranger.get("/api/webhooks").json() == {"webhooks": []}
        for of in (made["id"], str(uuid.uuid4())):
            where = f"/api/webhooks/{of}"
            answers = [
                stranger.get(where),
                stranger.delete(where),
                stranger.patch(where, {"enabled": False}, JSON),
                stranger.post(f"{where}/test"),
                stranger.post(f"{where}/rotate"),
                stranger.get(f"{where}/deliveries"),
            ]
            for answer in answers:
                refused(answer, 404, "not_found")
        refused(stranger.post(f"/api/webhooks/deliveries/{sent['id']}/resend"), 404, "not_found")
    for method in ("get", "post", "patch", "delete"):
        refused(getattr(Client(), method)(f"/api/webhooks/{made['id']}"), 401)
    assert WebhookEndpoint.objects.get().enabled and WebhookDelivery.objects.count() == 1


HOSTILE = {
    "url": [
        None,
        "",
        "   ",
        7,
        True,
        [],
        {},
        "http://hooks.example.com/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://localhost/",
        "https://a@hooks.example.com/",
        "file:///etc/passwd",
        "https://hooks.example.com:22/",
        "x" * 100_000,
        "https://hooks.example.com/\x00",
        "https://hooks.example.com/\ud800",
        "javascript:alert(1)",
    ],
    "events": [
        "",
        [],
        {},
        7,
        True,
        ["no.such"],
        [7],
        [None],
        [["generation.failed"]],
        "no.such",
        ["\x00"],
        ["generation.failed"] * 101,
    ],
    "description": [7, True, [], {}, "x" * 101, "a\x00b", "\ud800", "a\nb", "x" * 100_000],
    "enabled": ["perhaps", 7, [], {}],
}


@pytest.mark.parametrize("field", HOSTILE)
def test_hostile_values(field, client, made, refused):
    before = WebhookEndpoint.objects.values().get()
    for value in HOSTILE[field]:
        body = json.dumps({"url": URL} | {field: value})
        if field != "enabled":
            refused(client.post("/api/webhooks", body, JSON), 400, param=field)
        if value is not None:
            refused(client.patch(f"/api/webhooks/{made['id']}", body, JSON), 400, param=field)
    assert WebhookEndpoint.objects.values().get() == before


def test_unknown_fields_assign_nothing(client, other_user):
    sent = {
        "url": URL,
        "id": str(uuid.uuid4()),
        "owner": other_user.pk,
        "owner_id": other_user.pk,
        "secret": "whsec_x",
        "enabled": False,
        "failing_since": None,
        "quick": True,
    }
    answer = client.post("/api/webhooks", sent, JSON).json()
    endpoint = WebhookEndpoint.objects.get()
    assert endpoint.owner != other_user and str(endpoint.pk) != sent["id"]
    assert endpoint.secret == answer["secret"] != "whsec_x" and endpoint.enabled and not endpoint.quick


def test_webhooks_and_tests_have_an_end(client, made, refused):
    for _ in range(9):
        assert client.post("/api/webhooks", {"url": URL, "events": "image.removed"}, JSON).status_code == 201
    assert "10 webhooks" in refused(client.post("/api/webhooks", {"url": URL}, JSON), 409, "conflict")["message"]
    for _ in range(10):
        assert client.post(f"/api/webhooks/{made['id']}/test").status_code == 202
    refused(client.post(f"/api/webhooks/{made['id']}/test"), 429, "rate_limited")


# --- results of engines elsewhere -------------------------------------------------------------------------


SECRET = signatures.new_secret()
RESULT = "/api/generate/webhook"


@pytest.fixture
def outside(settings, free_user, make_generation):
    """A generation that an engine elsewhere draws."""
    settings.INFERENCE_WEBHOOK_SECRET = SECRET

    def make(**fields):
        lease = timezone.now() + dt.timedelta(minutes=1)
        generation = make_generation(
            free_user,
            **{"status": "processing", "epoch": 3, "attempt": 1, "lease_until": lease, "num_images": 2} | fields,
        )
        quotas.hold(user=free_user, generation_id=generation.pk, images=generation.num_images)
        return generation

    return make


def signed(content, *, secret=SECRET, at=None, **headers):
    body = content if isinstance(content, str) else json.dumps(content)
    at = at or dt.datetime.now(dt.UTC)
    signed_headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign("msg_1", at, body),
    } | headers
    return Client().post(RESULT, body, JSON, headers=signed_headers)


def picture(width=64, height=48, kind="PNG", colour=(30, 160, 90)) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, kind)
    return base64.b64encode(buffer.getvalue()).decode()


def result(generation, **fields):
    return {"generation": str(generation.pk), "epoch": generation.epoch, "images": [picture()]} | fields


def stored_files(folder):
    return [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []


def test_a_result_finishes_the_generation_and_repeats_change_nothing(outside, documented, media_folder):
    generation = outside()
    content = result(
        generation,
        images=[picture(), "data:image/webp;base64," + picture(kind="WEBP")],
        seconds=5,
        recipe={"model": "far-away", "steps": 4, "list": [1]},
    )
    answer = documented(signed(content), "post", RESULT)
    assert answer == {"status": "completed"}
    generation.refresh_from_db()
    assert (generation.status, generation.image_count) == ("completed", 2)
    images = list(generation.images.order_by("index"))
    assert [(image.index, image.seed, image.width, image.height, image.generation_time) for image in images] == [
        (0, 7, 64, 48, 2.5),
        (1, 8, 64, 48, 2.5),
    ]
    hold = QuotaHold.objects.get()
    assert (hold.state, hold.charged) == ("settled", 2)
    files = stored_files(media_folder)
    assert signed(content).json() == {"status": "already_finished"}
    assert sorted(stored_files(media_folder)) == sorted(files) and len(files) == 4
    assert GeneratedImage.objects.count() == 2 and QuotaHold.objects.get().charged == 2


@pytest.mark.django_db(transaction=True)
def test_the_same_result_many_times_at_once(outside, media_folder):
    generation = outside(num_images=1)
    barrier = threading.Barrier(8)

    def send(number):
        try:
            barrier.wait()
            return signed(result(generation)).json()["status"]
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(send, range(8)))
    assert statuses == ["already_finished"] * 7 + ["completed"]
    assert GeneratedImage.objects.count() == 1 and len(stored_files(media_folder)) == 2


def test_a_result_of_an_earlier_claim_is_not_wanted(outside, media_folder):
    generation = outside()
    assert signed(result(generation, epoch=2)).json() == {"status": "superseded"}
    Generation.objects.update(status="queued")
    assert signed(result(generation)).json() == {"status": "superseded"}
    assert not GeneratedImage.objects.exists() and not stored_files(media_folder)


def test_a_wish_to_cancel_that_came_first_wins(outside):
    generation = outside(cancel_requested=True)
    assert signed(result(generation)).json() == {"status": "cancelled"}
    generation.refresh_from_db()
    assert (generation.status, generation.image_count) == ("cancelled", 1)


def test_held_back_images_are_neither_kept_nor_charged(outside, media_folder):
    generation = outside()
    assert signed(result(generation, images=[picture(), picture()], flagged=[0])).json()["status"] == "completed"
    assert [image.index for image in generation.images.all()] == [1]
    both = outside()
    assert signed(result(both, images=[picture(), picture()], flagged=[0, 1])).json()["status"] == "blocked"
    assert QuotaHold.objects.get(generation_id=both.pk).charged == 0
    assert len(stored_files(media_folder)) == 2


@pytest.mark.parametrize(
    ("error", "attempt", "status"),
    [
        ("it broke", 1, "queued"),
        ("it broke", 3, "failed"),
        ({"code": "out_of_memory", "message": "no room", "transient": False}, 1, "failed"),
        ({"code": "'; DROP TABLE", "message": "<script>", "transient": False}, 1, "failed"),
    ],
)
def test_errors(error, attempt, status, outside):
    generation = outside(attempt=attempt)
    assert signed({"generation": str(generation.pk), "epoch": 3, "error": error}).json() == {"status": status}
    generation.refresh_from_db()
    assert generation.status == status
    assert "script" not in generation.error_message and "DROP" not in generation.error_code
    assert QuotaHold.objects.get().state == ("held" if status == "queued" else "released")


def test_signatures_that_are_wrong(outside, refused, settings):
    generation = outside()
    content = result(generation)
    now = dt.datetime.now(dt.UTC)
    refused(signed(content, secret=signatures.new_secret()), 401, "invalid_signature")
    refused(signed(content, at=now - dt.timedelta(minutes=6)), 401, "invalid_signature")
    refused(signed(content, at=now + dt.timedelta(minutes=6)), 401, "invalid_signature")
    refused(signed(content, **{"webhook-id": "msg_2"}), 401, "invalid_signature")
    refused(signed(content, **{"webhook-timestamp": "never"}), 401, "invalid_signature")
    refused(Client().post(RESULT, json.dumps(content), JSON), 401, "invalid_signature")
    settings.INFERENCE_WEBHOOK_SECRET = ""
    refused(signed(content), 404, "not_found")
    generation.refresh_from_db()
    assert generation.status == "processing"


def test_a_secret_may_be_any_text(outside, settings):
    settings.INFERENCE_WEBHOOK_SECRET = "correct horse battery staple"
    body, stamp = json.dumps(result(outside())), int(time.time())
    signature = sign(settings.INFERENCE_WEBHOOK_SECRET, "x", stamp, body.encode())
    headers = {"webhook-id": "x", "webhook-timestamp": str(stamp), "webhook-signature": signature}
    assert Client().post(RESULT + "/", body, JSON, headers=headers).json() == {"status": "completed"}


BAD_RESULTS = {
    "generation": [None, "", 7, [], "x", "../../etc/passwd", "\ud800"],
    "epoch": [None, "3", 3.0, True, -1, 2**31, [], 10**30],
    "images": [
        None,
        [],
        {},
        "x",
        [7],
        [None],
        [""],
        ["x"],
        ["AAAA"],
        [picture(64, 64)],
        [picture(4096, 8)],
        [picture(kind="GIF")],
        [picture()] * 3,
        [picture()[:-40]],
        [base64.b64encode(b"<svg/>").decode()],
    ],
    "flagged": ["x", [2], [-1], [True], ["0"], [0.5], 7],
    "seconds": ["x", -1, float("nan"), float("inf"), 10**300, True, []],
    "recipe": ["x", [], {"a": "x" * 201}, {"a\n": 1}, {"a": "b\x00"}, {str(n): n for n in range(21)}, 7],
    "error": [7, [1], {"message": 7}, {"code": [], "message": "x"}, {"transient": "yes"}],
}


@pytest.mark.parametrize("field", BAD_RESULTS)
def test_results_that_are_not_as_agreed(field, outside, refused, media_folder):
    generation = outside()
    for value in BAD_RESULTS[field]:
        refused(signed(result(generation) | {field: value}), 400, param=field)
    generation.refresh_from_db()
    assert generation.status == "processing"
    assert not GeneratedImage.objects.exists() and not stored_files(media_folder)


@pytest.mark.parametrize("body", ["", "null", "[]", "7", "{", "\x00", "[" * 50_000])
def test_bodies_that_are_no_result(body, outside, refused):
    outside()
    refused(signed(body), 400)


def test_unknown_generations(outside, refused):
    outside()
    refused(signed({"generation": str(uuid.uuid4()), "epoch": 1, "images": [picture()]}), 404, "not_found")


def test_nothing_of_the_file_but_its_pixels_is_kept(outside, media_folder):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Comment", "canary quagga")
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), (1, 2, 3)).save(buffer, "PNG", pnginfo=info)
    content = buffer.getvalue() + b"<script>quagga</script>"
    generation = outside(num_images=1)
    assert signed(result(generation, images=[base64.b64encode(content).decode()])).json()["status"] == "completed"
    assert all(b"quagga" not in path.read_bytes() for path in stored_files(media_folder))


def test_a_full_disk_says_send_again(outside, refused, monkeypatch, media_folder):
    from generation.storage import files

    generation, write = outside(), files.write_file
    monkeypatch.setattr(files, "write_file", lambda name, content: (_ for _ in ()).throw(OSError("No space left")))
    refused(signed(result(generation)), 503, "storage_unavailable")
    generation.refresh_from_db()
    assert generation.status == "processing" and not stored_files(media_folder)
    monkeypatch.setattr(files, "write_file", write)
    assert signed(result(generation)).json() == {"status": "completed"}

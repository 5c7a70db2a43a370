"""Each endpoint: what it answers, who may ask, under which address, and what it costs."""

import base64
import io
import uuid

import numpy as np
import pytest
from django.test import Client
from PIL import Image

from generation.models import GeneratedImage, Generation
from generation.queue import presence

pytestmark = pytest.mark.django_db

SIGNED_IN = [
    ("get", "/api/models"),
    ("get", "/api/usage"),
    ("get", "/api/keys"),
    ("post", "/api/keys"),
    ("delete", "/api/keys/{key}"),
    ("post", "/api/generate"),
    ("get", "/api/status/{generation}"),
    ("delete", "/api/status/{generation}"),
    ("get", "/api/generate/status/{generation}"),
    ("delete", "/api/generate/status/{generation}"),
    ("get", "/api/generate/{generation}/events"),
    ("post", "/api/generate/{generation}/cancel"),
    ("post", "/api/generate/{generation}/retry"),
    ("post", "/api/txt2img"),
    ("post", "/api/img2img"),
    ("get", "/api/results"),
    ("post", "/api/parse-prompt"),
    ("get", "/api/images/history"),
    ("post", "/api/images/bulk"),
    ("get", "/api/images/{image}"),
    ("patch", "/api/images/{image}"),
    ("delete", "/api/images/{image}"),
    ("get", "/api/images/{image}/download"),
]
OPEN = [("get", "/api"), ("get", "/api/health"), ("get", "/api/status"), ("get", "/api/schema")]
WITH_ID = [route for route in SIGNED_IN if "{" in route[1]]
METHODS = {"get", "post", "put", "patch", "delete", "options"}


def call(client, method, path, **more):
    return getattr(client, method)(path, **({"content_type": "application/json"} if method != "get" else {}), **more)


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (30, 160, 90)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def ids(free_user, make_image, make_generation):
    """One of each of the first user's things."""
    from accounts.models import ApiKey

    key, _ = ApiKey.issue(user=free_user, name="spare")
    generation = make_generation(free_user, status="completed")
    return {"generation": generation.pk, "image": make_image(free_user).id, "key": key.pk}


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize(("method", "path"), SIGNED_IN)
def test_needs_sign_in(method, path, slash, ids, refused):
    response = call(Client(), method, path.format(**ids) + slash)
    refused(response, 401, "not_authenticated")
    assert response["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path"), WITH_ID)
def test_anothers_and_missing_look_the_same(method, path, ids, other_user, api_client, refused):
    client = api_client(other_user)
    theirs = call(client, method, path.format(**ids))
    missing = {"generation": uuid.uuid4(), "image": uuid.uuid4(), "key": 2**40}
    nobodys = call(client, method, path.format(**missing))
    assert refused(theirs, 404, "not_found") | {"request_id": 0} == refused(nobodys, 404) | {"request_id": 0}
    same = ("Content-Type", "Content-Length", "Cache-Control", "Allow", "Vary")
    assert [theirs.get(name) for name in same] == [nobodys.get(name) for name in same]


@pytest.mark.parametrize("path", sorted({path for _, path in SIGNED_IN + OPEN}))
def test_wrong_methods(path, ids, free_user, api_client, refused):
    allowed = {method for method, known in SIGNED_IN + OPEN if known == path}
    for method in sorted(METHODS - allowed):
        response = call(api_client(free_user), method, path.format(**ids))
        refused(response, 405, "method_not_allowed")
        assert {name.lower() for name in response["Allow"].split(", ")} >= allowed


def test_head_is_answered_as_get_without_a_body(ids, free_user, api_client):
    for method, path in SIGNED_IN + OPEN:
        if method == "get":
            response = api_client(free_user).head(path.format(**ids))
            assert (response.status_code, response.getvalue()) == (200, b""), path


def test_info_tells_where_things_are(documented, client):
    answer = documented(client.get("/api"), "get", "/api")
    assert client.get("/api/").json() == answer
    assert client.get("/", headers={"Accept": "application/json"}).json() == answer
    for accept in ("text/html,application/xhtml+xml,*/*;q=0.8", "*/*"):
        assert client.get("/", headers={"Accept": accept})["Content-Type"].startswith("text/html")
    for url in (answer["documentation"], answer["schema"], answer["endpoints"]["health"]):
        assert url.startswith("http://testserver/")
        assert client.get(url).status_code == 200


def test_health(documented, client, monkeypatch):
    assert documented(client.get("/api/health"), "get", "/api/health") == {
        "status": "ok",
        "database": "ok",
        "redis": "ok",
        "storage": "ok",
        "workers": 0,
    }
    presence.report("one", {"models": []})
    assert client.get("/api/health/").json()["workers"] == 1


def test_health_without_postgres(documented, client, monkeypatch):
    """The connection itself is broken here; the faults tests stop a real server."""
    from django.db import OperationalError
    from django.db.backends.base.base import BaseDatabaseWrapper

    def refuse(self):
        raise OperationalError("connection refused")

    monkeypatch.setattr(BaseDatabaseWrapper, "_cursor", lambda self, name=None: refuse(self))
    response = client.get("/api/health")
    answer = documented(response, "get", "/api/health")
    assert response.status_code == 503 and response["Retry-After"]
    assert (answer["status"], answer["database"]) == ("unavailable", "away")


def test_system_status(documented, client, free_user, api_client, make_generation, make_image):
    make_generation(free_user)
    make_image(free_user)
    presence.report(
        "host-1",
        {
            "device": "cuda",
            "device_name": "H200",
            "memory": {"used": 1, "total": 2},
            "models": ["sdxl-base"],
            "running": 3,
        },
    )
    answer = documented(client.get("/api/status/"), "get", "/api/status")
    assert answer["queue"] == {"queued": 1, "processing": 0}
    assert answer["throughput"]["images"] == 1
    assert answer["models_loaded"] == ["sdxl-base"]
    assert answer["workers"][0]["device_name"] == "H200"
    assert answer["workers"][0]["name"] is None, "a host's name is not for everybody"
    assert api_client(free_user).get("/api/status").json()["workers"][0]["name"] == "host-1"


def test_models(documented, free_user, api_client):
    presence.report("one", {"models": ["dreamsketch-tiny"]})
    models = documented(api_client(free_user).get("/api/models/"), "get", "/api/models")["models"]
    states = {model["key"]: model["state"] for model in models}
    assert states["dreamsketch-tiny"] == "loaded"
    assert states["sdxl-base"] == "not_downloaded"
    assert [model["key"] for model in models if model["is_default"]] == ["dreamsketch-tiny"]
    classic = next(model for model in models if model["key"] == "stable-diffusion-v1-5")
    assert "runwayml/stable-diffusion-v1-5" in classic["aliases"]
    assert classic["native_size"] == {"width": 512, "height": 512}


def test_models_say_what_can_be_asked_of_them(documented, free_user, pro_user, api_client, settings, tmp_path):
    """What is listed is accepted, and what is not listed is refused."""
    from safetensors.numpy import save_file

    settings.MODELS_DIR = tmp_path / "models"
    client = api_client(pro_user)

    def offered():
        answer = documented(client.get("/api/models"), "get", "/api/models")
        return {model["key"]: model for model in answer["models"]}, answer["upscalers"]

    models, upscalers = offered()
    bare, flow = models["stable-diffusion-v1-5"], models["qwen-image"]
    assert bare["modes"] == ["txt2img", "img2img", "inpaint", "outpaint", "upscale"]
    assert bare["features"] == ["hires_fix", "variation", "tiling", "clip_skip", "quality", "guidance_rescale"]
    assert (bare["loras"], bare["controls"], upscalers) == ([], [], ["lanczos", "nearest", "sketch-2x"])
    assert flow["features"] == []

    weights = {
        "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight": np.zeros(
            (4, 768), np.float16
        )
    }
    for name in ("loras/ink", "upscalers/sharp", "controlnet/canny-sd15/model", "controlnet/seg-sd15/model"):
        file = settings.MODELS_DIR / f"{name}.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(weights, file, {"modelspec.title": "Ink"})
        if name.startswith("controlnet"):
            (file.parent / "config.json").write_text('{"cross_attention_dim": 768}')
    models, upscalers = offered()
    full = models["stable-diffusion-v1-5"]
    assert full["loras"] == [{"key": "ink", "title": "Ink"}]
    assert full["controls"] == [
        {"key": "canny-sd15", "kind": "canny", "preprocess": True},
        {"key": "seg-sd15", "kind": "segmentation", "preprocess": False},
    ]
    assert set(full["features"]) - set(bare["features"]) == {"loras", "control"}
    assert upscalers == ["lanczos", "nearest", "sketch-2x", "sharp"]
    # They were made for another width of text.
    assert (models["sdxl-base"]["loras"], models["sdxl-base"]["controls"]) == ([], [])
    assert not {"loras", "control"} & set(models["sdxl-base"]["features"])

    picture = base64.b64encode(png()).decode()
    fields = {
        "hires_fix": True,
        "variation": {"seed": 1, "strength": 0.5},
        "loras": ["ink"],
        "tiling": True,
        "control": {"key": "canny-sd15", "image": picture},
        "reference": picture,
        "clip_skip": 1,
        "quality": "fast",
    }
    for key in ("stable-diffusion-v1-5", "sdxl-base", "qwen-image"):
        for field, value in fields.items():
            body = {"prompt": "a boat", "model": key, "dry_run": True, field: value}
            accepted = client.post("/api/generate", body, "application/json").status_code == 200
            assert accepted == (field in models[key]["features"]), (key, field)


def test_status_of_a_queued_generation(documented, free_user, api_client, make_generation):
    first, second = make_generation(free_user), make_generation(free_user)
    client = api_client(free_user)
    answer = documented(client.get(f"/api/status/{second.pk}"), "get", "/api/status/{generation_id}")
    assert (answer["status"], answer["phase"], answer["queue_position"]) == ("queued", "queued", 2)
    assert client.get(f"/api/generate/status/{second.pk}/").json() == answer
    assert client.get(f"/api/status/{first.pk}").json()["queue_position"] == 1


def test_status_of_a_completed_generation(documented, free_user, api_client, make_image):
    image = make_image(free_user)
    client = api_client(free_user)
    answer = documented(client.get(f"/api/status/{image.generation_id}"), "get", "/api/status/{generation_id}")
    assert (answer["status"], answer["progress"], answer["images"][0]["id"]) == ("completed", 1, str(image.id))
    for url in (answer["result_url"], answer["images"][0]["thumbnailUrl"], answer["status_url"]):
        assert url.startswith("http://testserver/")
        assert client.get(url).status_code == 200


def test_status_of_a_failed_generation(documented, free_user, api_client, make_generation):
    failed = make_generation(free_user, status="failed", error_code="worker_lost", error_message="Lost three times.")
    answer = documented(api_client(free_user).get(f"/api/status/{failed.pk}"), "get", "/api/status/{generation_id}")
    assert answer["error"] == {"code": "worker_lost", "message": "Lost three times."}
    assert answer["error_message"] == "Lost three times."


def test_cancel_a_queued_generation_gives_its_images_back(documented, free_user, api_client):
    client = api_client(free_user)
    job = client.post("/api/generate", {"prompt": "a boat", "n": 3}, "application/json").json()
    assert client.get("/api/usage").json()["held"] == 3
    path = "/api/generate/{generation_id}/cancel"
    assert documented(client.post(job["cancel_url"]), "post", path) == {"id": job["id"], "status": "cancelled"}
    assert client.post(job["cancel_url"]).json()["status"] == "cancelled"
    assert (client.get("/api/usage").json()["held"], client.get("/api/usage").json()["remaining"]) == (0, 10)


def test_cancel_says_what_the_row_says(free_user, api_client, make_generation):
    client = api_client(free_user)
    running = make_generation(free_user, status="processing")
    assert client.post(f"/api/generate/{running.pk}/cancel/").json()["status"] == "cancelling"
    assert client.get(f"/api/status/{running.pk}").json()["cancel_requested"] is True
    done = make_generation(free_user, status="completed")
    assert client.post(f"/api/generate/{done.pk}/cancel").json()["status"] == "already_finished"


def test_retry(documented, refused, free_user, api_client, make_generation):
    client = api_client(free_user)
    failed = make_generation(free_user, status="failed", width=256, height=256)
    answer = documented(client.post(f"/api/generate/{failed.pk}/retry"), "post", "/api/generate/{generation_id}/retry")
    again = Generation.objects.get(pk=answer["id"])
    assert (again.retry_of, again.seed, again.prompt, again.status) == (failed, failed.seed, failed.prompt, "queued")
    done = make_generation(free_user, status="completed")
    refused(client.post(f"/api/generate/{done.pk}/retry/"), 400, "invalid_request")


def test_a_repeated_retry_is_the_same_job(refused, pro_user, api_client, make_generation):
    client = api_client(pro_user)
    failed, other = (make_generation(pro_user, status="failed", width=256, height=256) for _ in range(2))
    path, key = f"/api/generate/{failed.pk}/retry", {"Idempotency-Key": "try-again"}
    first = client.post(path, headers=key).json()["id"]
    assert client.post(path).json()["id"] == first, "it waits already"
    client.post(f"/api/generate/{first}/cancel")
    assert client.post(path, headers=key).json()["id"] == first, "the key remembers it"
    assert client.post(path).json()["id"] != first
    refused(client.post(f"/api/generate/{other.pk}/retry", headers=key), 409, "idempotency_conflict")


def test_history_by_page_and_cursor(documented, refused, free_user, other_user, api_client, make_image):
    images = [make_image(free_user) for _ in range(5)]
    make_image(other_user)
    client = api_client(free_user)
    client.delete(f"/api/images/{images[0].id}")
    newest_first = [str(image.id) for image in reversed(images[1:])]

    def ids(answer):
        return [image["id"] for image in answer["images"]]

    answer = documented(client.get("/api/images/history/"), "get", "/api/images/history")
    assert (ids(answer), answer["total"], answer["page"], answer["perPage"]) == (newest_first, 4, 1, 20)
    assert answer["nextCursor"] is None
    first = client.get("/api/images/history?perPage=3").json()
    assert ids(first) == newest_first[:3]
    assert ids(client.get("/api/images/history?perPage=3&page=2").json()) == newest_first[3:]
    by_cursor = client.get("/api/images/history", {"perPage": 3, "cursor": first["nextCursor"]}).json()
    assert (ids(by_cursor), by_cursor["page"], by_cursor["nextCursor"]) == (newest_first[3:], None, None)
    assert ids(client.get("/api/images/history?page=9999").json()) == []
    for name, values in {
        "page": ["0", "-1", "x", "1e9", "9" * 30, "\x00", "1.5", ""],
        "perPage": ["0", "101", "ten", "9" * 400],
        "cursor": ["-5", "abc", "9" * 19],
    }.items():
        for value in values:
            refused(client.get("/api/images/history", {name: value}), 400, "invalid_request", name)


def test_an_image_and_its_bytes(documented, free_user, api_client, make_image):
    image = make_image(free_user, generation_fields={"negative_prompt": "people", "style": "anime"})
    client = api_client(free_user)
    answer = documented(client.get(f"/api/images/{image.id}"), "get", "/api/images/{image_id}")
    assert (answer["number"], answer["width"], answer["height"]) == (image.number, 64, 48)
    assert (answer["prompt"], answer["negativePrompt"]) == ("a red boat at sea", "people")
    assert answer["modelUsed"] == "dreamsketch-tiny"
    assert answer["parameters"] | {"steps": 4, "cfgScale": 5.0, "seed": 7, "style": "anime"} == answer["parameters"]
    assert answer["createdAt"].endswith("Z")
    stored = client.get(answer["imageUrl"])
    assert stored["Content-Type"] == "image/png" and len(stored.content) == answer["fileSize"]
    assert client.get(answer["thumbnailUrl"])["Content-Type"] == "image/webp"


def test_delete_to_the_trash_and_for_good(documented, refused, free_user, api_client, make_image, media_folder):
    image = make_image(free_user)
    client = api_client(free_user)
    path = f"/api/images/{image.id}"
    documented(client.delete(path), "delete", "/api/images/{image_id}")
    assert client.delete(path + "/").status_code == 204, "asking twice is no mistake"
    assert client.get(path).json()["deletedAt"]
    assert client.get("/api/images/history").json()["total"] == 0
    refused(client.delete(path + "?permanent=perhaps"), 400, "invalid_request", "permanent")


@pytest.mark.django_db(transaction=True)
def test_delete_for_good_removes_row_and_files(refused, free_user, api_client, make_image, media_folder):
    image = make_image(free_user)
    client = api_client(free_user)
    assert [file for file in media_folder.rglob("*") if file.is_file()]
    assert client.delete(f"/api/images/{image.id}?permanent=true").status_code == 204
    refused(client.get(f"/api/images/{image.id}"), 404)
    assert not GeneratedImage.objects.exists()
    assert not [file for file in media_folder.rglob("*") if file.is_file()]


def test_published_image_can_be_seen_and_not_changed(refused, free_user, other_user, api_client, make_image):
    image = make_image(free_user, visibility="public")
    stranger = api_client(other_user)
    assert stranger.get(f"/api/images/{image.id}").status_code == 200
    refused(stranger.delete(f"/api/images/{image.id}?permanent=true"), 404, "not_found")
    assert stranger.get("/api/images/history").json()["total"] == 0


def test_usage_with_receipts(documented, free_user, api_client):
    client = api_client(free_user)
    job = client.post("/api/generate", {"prompt": "a boat", "n": 2}, "application/json").json()
    answer = documented(client.get("/api/usage/"), "get", "/api/usage")
    assert (answer["plan"], answer["limit"], answer["held"], answer["used"]) == ("free", 10, 2, 0)
    assert answer["remaining"] == 8
    assert answer["receipts"][0] | {"generationId": job["id"], "images": 2, "state": "held"} == answer["receipts"][0]


def test_keys(documented, refused, free_user, page_client, api_client):
    page = page_client(free_user)
    issued = documented(page.post("/api/keys", {"name": "laptop"}, "application/json"), "post", "/api/keys")
    bearer = Client(headers={"Authorization": f"Bearer {issued['key']}"})
    listed = documented(bearer.get("/api/keys/"), "get", "/api/keys")["keys"]
    assert [key["name"] for key in listed] == ["laptop"]
    assert issued["key"] not in str(listed)
    refused(bearer.post("/api/keys", {"name": "another"}, "application/json"), 403, "forbidden")
    for name in (None, "", "  ", 5, ["x"], "x" * 61, "a\x00b"):
        refused(page.post("/api/keys", {"name": name}, "application/json"), 400, "invalid_request", "name")
    assert documented(page.delete(f"/api/keys/{issued['id']}"), "delete", "/api/keys/{key_id}") is None
    refused(bearer.get("/api/keys"), 401, "invalid_api_key")


def test_unknown_addresses_answer_in_json(refused, client, free_user, api_client):
    for path in (
        "/api/nothing",
        "/api/status/not-a-uuid",
        "/api/images/1/",
        "/api/generate/x/y/z",
        "/v1/nothing",
        "/inference/nothing",
    ):
        refused(client.get(path), 404, "not_found")
        refused(api_client(free_user).post(path, {}, "application/json"), 404, "not_found")


def test_accept_and_format_do_not_matter(free_user, api_client):
    client = api_client(free_user)
    for accept in ("text/event-stream", "text/html", "image/png", "nonsense"):
        assert client.get("/api/usage?format=xml", headers={"Accept": accept}).json()["plan"] == "free"


@pytest.mark.parametrize(
    ("path", "queries"),
    [
        ("/api", 0),
        ("/api/health", 1),
        ("/api/status", 1),
        ("/api/models", 1),
        ("/api/usage", 2),
        ("/api/keys", 1),
        ("/api/status/{running}", 1),
        ("/api/status/{queued}", 1),
        ("/api/status/{generation}", 2),
        ("/api/generate/status/{running}", 1),
        ("/api/images/history", 2),
        ("/api/images/history?page=2&perPage=2", 2),
        ("/api/results", 1),
        ("/api/images/{image}", 1),
        ("/api/images/{image}/download", 1),
        ("/v1/models", 0),
    ],
)
def test_query_counts(
    path, queries, ids, free_user, api_client, make_image, make_generation, django_assert_num_queries
):
    """Of any amount of images, beside the one that finds the key, and what is read once in some seconds for all."""
    for _ in range(5):
        make_image(free_user)
    ids |= {"running": make_generation(free_user, status="processing").pk, "queued": make_generation(free_user).pk}
    ids["generation"] = make_image(free_user).generation_id
    client = api_client(free_user)
    client.get(path.format(**ids))
    with django_assert_num_queries(queries + (path not in ("/api", "/api/health"))):
        assert client.get(path.format(**ids)).status_code == 200


def test_every_answer_has_the_request_id_it_was_given(client):
    assert client.get("/api", headers={"X-Request-Id": "my-own-id-1"})["X-Request-Id"] == "my-own-id-1"
    error = client.get("/api/usage", headers={"X-Request-Id": "my-own-id-1"}).json()["error"]
    assert error["request_id"] == "my-own-id-1"

"""Calls that answer with the image itself, and the list of results."""

import base64
import io
import time

import httpx
import pytest
from PIL import Image

from generation.api.http.waiting import wait_for
from generation.api.native import generations
from generation.models import Generation

JSON = "application/json"


def png(colour=(200, 60, 40)) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture
def client(fault_site):
    with fault_site.user() as client:
        yield client


def test_txt2img(client, fault_site):
    answer = (
        client.post(
            "/api/txt2img/",
            json={
                "prompt": "a red boat at sea",
                "model_id": "dreamsketch-tiny",
                "width": 128,
                "height": 128,
                "steps": 2,
                "guidance_scale": 5,
                "seed": 7,
            },
        )
        .raise_for_status()
        .json()
    )
    assert answer["status"] == "success"
    result = answer["result"]
    assert isinstance(result["id"], int) and result["prompt"] == "a red boat at sea"
    assert result["url"].startswith(fault_site.url) and result["created_at"].endswith("Z")
    image = client.get(result["url"])
    assert image.headers["Content-Type"] == "image/png"
    assert Image.open(io.BytesIO(image.content)).size == (128, 128)


def test_img2img_with_a_file_and_all_results(client):
    files = {"image": ("../a.png", base64.b64decode(png()), "image/png")}
    answer = (
        client.post("/api/img2img", data={"prompt": "a boat", "n": "2", "steps": "3", "strength": "0.5"}, files=files)
        .raise_for_status()
        .json()
    )
    assert len(answer["results"]) == 2 and answer["result"] == answer["results"][0]
    listed = client.get("/api/results/", params={"limit": 5}).json()
    assert listed["results"][0] == answer["results"][0] and len(listed["results"]) == 1


def test_a_drawing_that_fails_says_why_and_counts_nothing(client):
    answer = client.post("/api/txt2img", json={"prompt": "[fault:oom] a boat", "steps": 2})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "out_of_memory")
    assert client.get("/api/usage").json()["used"] == 0


def test_a_wait_is_ended_by_a_cancel(client, fault_site):
    import threading

    answers = []
    headers = dict(client.headers)
    waiting = threading.Thread(
        target=lambda: answers.append(
            httpx.post(
                f"{fault_site.url}/api/txt2img",
                json={"prompt": "a slow boat", "steps": 100},
                headers=headers,
                timeout=60,
            )
        )
    )
    waiting.start()
    try:
        deadline = time.monotonic() + 30
        while not (
            jobs := [receipt for receipt in client.get("/api/usage").json()["receipts"] if receipt["state"] == "held"]
        ):
            assert time.monotonic() < deadline
        client.post(f"/api/generate/{jobs[0]['generationId']}/cancel")
    finally:
        waiting.join(60)
    assert (answers[0].status_code, answers[0].json()["error"]["code"]) == (422, "cancelled")


@pytest.mark.django_db
class TestWithoutAWorker:
    def test_past_the_bound_it_is_a_job(self, pro_user, api_client, settings, documented):
        settings.BLOCKING_SECONDS = 0
        response = api_client(pro_user).post("/api/txt2img", {"prompt": "a boat"}, JSON)
        answer = documented(response, "post", "/api/txt2img")
        assert (response.status_code, answer["status"]) == (202, "queued")
        assert response["Location"] == answer["status_url"]

    def test_what_it_answers_is_documented(self, pro_user, api_client, make_image, monkeypatch, documented):
        image = make_image(pro_user)
        monkeypatch.setattr(generations, "wait_for", lambda generation, seconds: image.generation)
        client = api_client(pro_user)
        answer = documented(client.post("/api/txt2img", {"prompt": "a boat"}, JSON), "post", "/api/txt2img")
        assert answer["result"]["id"] == image.number
        body = {"prompt": "a boat", "image": png()}
        documented(client.post("/api/img2img", body, JSON), "post", "/api/img2img")
        documented(client.get("/api/results"), "get", "/api/results")

    @pytest.mark.parametrize(
        ("end", "status", "code"),
        [
            ({"status": "failed", "error_code": "worker_lost"}, 503, "not_finished"),
            ({"status": "failed", "error_code": "bad_output", "error_message": "Black."}, 422, "bad_output"),
            ({"status": "blocked", "error_code": "output_blocked"}, 422, "output_blocked"),
            ({"status": "cancelled"}, 422, "cancelled"),
            ({"status": "expired"}, 503, "not_finished"),
        ],
    )
    def test_other_ends(self, end, status, code, pro_user, api_client, monkeypatch, make_generation, refused):
        ended = make_generation(pro_user, **end)
        monkeypatch.setattr(generations, "wait_for", lambda generation, seconds: ended)
        refused(api_client(pro_user).post("/api/txt2img", {"prompt": "a boat"}, JSON), status, code)

    def test_img2img_needs_an_image(self, pro_user, api_client, refused):
        for fields in ({"prompt": "a boat"}, {"prompt": "a boat", "image": None}):
            refused(api_client(pro_user).post("/api/img2img/", fields, JSON), 400, param="image")
        assert not Generation.objects.exists()

    def test_an_ended_generation_is_not_waited_for(self, pro_user, make_generation):
        ended = make_generation(pro_user, status="failed")
        before = time.monotonic()
        assert wait_for(ended, 60).status == "failed"
        assert time.monotonic() - before < 30

    def test_results_are_ones_own_and_limited(self, free_user, other_user, api_client, make_image, refused):
        for owner in (free_user, free_user, other_user):
            make_image(owner)
        client = api_client(free_user)
        assert len(client.get("/api/results").json()["results"]) == 2
        assert len(client.get("/api/results/?limit=1").json()["results"]) == 1
        for limit in ("0", "101", "x", "-1", "9" * 30, "1.5"):
            refused(client.get("/api/results", {"limit": limit}), 400, param="limit")

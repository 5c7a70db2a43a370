"""One DreamSketch as another's engine: the endpoint, and two of them on this machine."""

import io
import threading

import httpx
import pytest
from PIL import Image

from generation.models import GeneratedImage, Generation
from tests.site import Site, wait_for

URL = "/inference/images/generations"


@pytest.fixture
def drawn_at_once(settings, monkeypatch):
    """A worker in this process, with the fake engine."""
    from generation.catalog import catalog
    from generation.engine.factory import make_engine
    from generation.queue.worker import Worker

    settings.IDLE_POLL_SECONDS = 0.1
    worker = Worker(make_engine("fake", catalog(), seconds_per_step=0.001), name="inference", threads=2)
    worker.start()
    yield
    worker.stop(0)


@pytest.mark.django_db(transaction=True)
class TestTheEndpoint:
    body = {"prompt": "a red boat", "steps": 3, "width": 128, "height": 160, "seed": 7}

    def test_it_answers_with_the_picture_itself(self, api_client, pro_user, drawn_at_once):
        response = api_client(pro_user).post(URL, self.body, content_type="application/json")
        assert response.status_code == 200 and response["Content-Type"] == "image/png"
        with Image.open(io.BytesIO(response.content)) as picture:
            assert picture.size == (128, 160)
        image = GeneratedImage.objects.get()
        assert image.owner == pro_user and response["X-Seed"] == "7"

    def test_a_repeat_with_its_key_gives_the_same_picture_and_counts_once(self, api_client, pro_user, drawn_at_once):
        client = api_client(pro_user)
        first, again = (
            client.post(f"{URL}/", self.body, content_type="application/json", headers={"Idempotency-Key": "abc:1:0"})
            for _ in range(2)
        )
        assert first.content == again.content and Generation.objects.count() == 1

    @pytest.mark.parametrize(
        "wrong, param",
        [
            ({"num_images": 2}, "num_images"),
            ({"prompt": ""}, "prompt"),
            ({"steps": 1000}, "steps"),
            ({"model": "nonsense"}, "model"),
        ],
    )
    def test_it_refuses_as_the_api_does_and_nothing_is_kept(self, api_client, pro_user, refused, wrong, param):
        response = api_client(pro_user).post(URL, self.body | wrong, content_type="application/json")
        refused(response, 400, param=param)
        assert not Generation.objects.exists()

    def test_it_needs_a_key(self, client, refused):
        refused(client.post(URL, self.body, content_type="application/json"), 401)

    def test_what_is_not_drawn_in_time_is_cancelled(self, api_client, pro_user, refused, monkeypatch):
        monkeypatch.setattr("generation.api.native.inference.WAIT_SECONDS", 0.05)
        refused(api_client(pro_user).post(URL, self.body, content_type="application/json"), 504, "timed_out")
        assert Generation.objects.get().status == "cancelled"


def test_one_dreamsketch_draws_for_another(fault_site, tmp_path):
    """Two whole sites. The one that is asked has no engine of its own; its worker asks the other one."""
    there = fault_site.user()
    key = there.headers["Authorization"].removeprefix("Bearer ")
    with (
        Site(
            tmp_path,
            INFERENCE_SERVICE_URL=fault_site.url,
            INFERENCE_SERVICE_API_KEY=key,
            IDLE_POLL_SECONDS="1",
            HEARTBEAT_SECONDS="0.5",
        ) as site,
        site.user() as here,
    ):
        assert [worker["device"] for worker in site.workers()] == ["remote"]
        body = {"prompt": "a red boat", "steps": 4, "width": 128, "height": 128, "seed": 40, "num_images": 2}
        status = here.post("/api/generate", json=body).json()["status_url"]
        done = wait_for(lambda: (answer := here.get(status).json())["status"] in ("completed", "failed") and answer)
        assert done["status"] == "completed", done["error"]
        theirs = there.get("/api/images/history/").json()["images"]
        assert len(theirs) == 2 and len(done["images"]) == 2
        pictures = [
            Image.open(io.BytesIO(client.get(image["imageUrl"]).content)).convert("RGB").tobytes()
            for client, images in ((here, done["images"]), (there, theirs))
            for image in images
        ]
        assert set(pictures[:2]) == set(pictures[2:]), "what was drawn there is shown here"
        assert key not in site.output()

        slow = {"prompt": "a slow boat", "steps": 100, "width": 128, "height": 128}
        cancelled = here.post("/api/generate", json=slow).json()
        wait_for(lambda: here.get(cancelled["status_url"]).json()["status"] == "processing")
        threading.Thread(
            target=httpx.post, args=(cancelled["cancel_url"],), kwargs={"headers": dict(here.headers)}, daemon=True
        ).start()
        wait_for(lambda: here.get(cancelled["status_url"]).json()["status"] == "cancelled", seconds=20)
        assert site.audit() == {}

"""Workers that draw nothing themselves: a serverless function that answers by webhook, and the settings for it."""

import base64
import io
import json

import pytest
from django.core.exceptions import ImproperlyConfigured
from PIL import Image

from generation import catalog
from generation.engine.catalog.models import MODELS, Catalog
from generation.engine.factory import make_engine
from generation.engine.remote.http import HttpClient
from generation.engine.remote.providers import WebhookProvider
from generation.engine.remote.signatures import signed_headers
from generation.models import GeneratedImage
from generation.operations import audit
from generation.queue.worker import Worker
from generation.services.generations import create_generation
from tests.engine.test_remote import Elsewhere
from tests.site import wait_for
from tests.test_settings import read_settings  # noqa: F401  a fixture

SECRET = "a-secret-of-24-letters-or-more"


@pytest.fixture
def function(settings):
    """A serverless function that accepts jobs, and a worker whose engine it is."""
    settings.HEARTBEAT_SECONDS, settings.IDLE_POLL_SECONDS = 0.1, 0.2
    settings.INFERENCE_WEBHOOK_SECRET = SECRET
    server = Elsewhere()
    server.answers = [(202, {}, b"")]
    provider = WebhookProvider(server.url, SECRET, "https://site.example/api/generate/webhook")
    engine = make_engine("remote", Catalog(MODELS), provider=provider, client=HttpClient(seconds=10, first_pause=0.01))
    worker = Worker(engine, name="outside", threads=2)
    worker.start()
    yield server
    worker.stop(0)
    server.server.shutdown()
    server.server.server_close()


def answer(client, job, **content):
    body = json.dumps({"generation": job["generation"], "epoch": job["epoch"]} | content).encode()
    return client.post(
        "/api/generate/webhook",
        body,
        content_type="application/json",
        headers=signed_headers(SECRET, "an-answer", body),
    )


@pytest.mark.django_db(transaction=True)
def test_a_job_goes_out_and_its_pictures_come_to_the_webhook(function, client, pro_user):
    generation, _ = create_generation(user=pro_user, prompt="a red boat", width=128, height=128, num_images=2, seed=7)
    wait_for(lambda: function.requests, what="the job")
    job = function.json()
    assert job["generation"] == str(generation.pk) and job["request"]["num_images"] == 2
    buffer = io.BytesIO()
    Image.new("RGB", (128, 128), (9, 99, 199)).save(buffer, "PNG")
    encoded = base64.b64encode(buffer.getvalue()).decode()
    assert answer(client, job, images=[encoded, encoded]).json()["status"] == "completed"
    generation.refresh_from_db()
    assert generation.status == "completed" and GeneratedImage.objects.count() == 2
    assert answer(client, job, images=[encoded, encoded]).json()["status"] == "already_finished"
    # The worker's thread is free again: it takes the next one.
    create_generation(user=pro_user, prompt="a blue boat", width=128, height=128)
    wait_for(lambda: len(function.requests) == 2, what="the next job")
    assert (
        answer(client, function.json(), error={"code": "out_of_memory", "message": "x", "transient": False}).json()[
            "status"
        ]
        == "failed"
    )
    assert {name: count for name, count in audit.audit(contents=True).items() if count} == {}


class TestSettings:
    def choose(self, settings, **changes):
        for name, value in ({"USE_LOCAL_MODELS": False, "DREAMSKETCH_ENGINE": "torch"} | changes).items():
            setattr(settings, name, value)
        return catalog.remote_provider()

    def test_the_address_that_is_set_decides(self, settings):
        url = "https://gpu.example"
        for name in ("INFERENCE_SERVICE_URL", "MODAL_GENERATE_ENDPOINT", "OPENAI_IMAGES_URL"):
            setattr(settings, name, "")
        kind = lambda **changes: type(self.choose(settings, **changes)).__name__  # noqa: E731
        assert kind(HF_TOKEN="hf_x") == "HuggingFaceProvider"
        assert kind(OPENAI_IMAGES_URL=url) == "OpenAIProvider"
        assert kind(MODAL_GENERATE_ENDPOINT=url) == "WebhookProvider"
        assert kind(INFERENCE_SERVICE_URL=url) == "DreamSketchProvider"
        assert self.choose(settings, USE_LOCAL_MODELS=True) is None

    def test_one_machine_draws_here(self, read_settings):  # noqa: F811
        assert read_settings().USE_LOCAL_MODELS is True
        assert read_settings(INFERENCE_SERVICE_URL="https://gpu.example").USE_LOCAL_MODELS is False
        assert read_settings(INFERENCE_SERVICE_URL="https://gpu.example", USE_LOCAL_MODELS="1").USE_LOCAL_MODELS
        assert read_settings(USE_LOCAL_MODELS="0", HF_TOKEN="hf_x").DEFAULT_MODEL == "sdxl-base"

    @pytest.mark.parametrize(
        "environment, message",
        [
            ({"USE_LOCAL_MODELS": "0"}, "needs an engine elsewhere"),
            ({"INFERENCE_SERVICE_URL": "gpu.example"}, "must begin with https"),
            ({"MODAL_GENERATE_ENDPOINT": "https://gpu.example"}, "needs INFERENCE_WEBHOOK_SECRET"),
        ],
    )
    def test_what_cannot_work_refuses_to_start(self, read_settings, environment, message):  # noqa: F811
        with pytest.raises(ImproperlyConfigured, match=message):
            read_settings(**environment)

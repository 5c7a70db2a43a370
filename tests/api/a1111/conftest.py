"""A caller of the dialect, and a worker with the fake engine in this process that draws what is asked for."""

import base64
import io
import json
import threading

import pytest
from django.db import connections
from django.test import Client
from PIL import Image

from accounts.models import DailyUsage, QuotaHold
from generation.catalog import catalog
from generation.engine.factory import make_engine
from generation.models import Generation, Upload
from generation.queue.worker import Worker
from tests.site import wait_for

JSON = "application/json"


@pytest.fixture
def start_worker(tmp_path, settings):
    """Start a worker that is stopped after the test."""
    settings.HEARTBEAT_SECONDS, settings.IDLE_POLL_SECONDS = 0.1, 0.05
    settings.RETRY_BACKOFF_SECONDS = (0, 0)
    workers = []

    def start(*, seconds_per_step=0.0):
        engine = make_engine(
            "fake", catalog(), seconds_per_step=seconds_per_step, faults_allowed=True, faults_folder=tmp_path
        )
        worker = Worker(engine, name="test", threads=1)
        worker.start()
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        worker.stop(0)


class Caller:
    """A program with an API key."""

    def __init__(self, token):
        self.token = token
        self.client = Client(headers={"Authorization": f"Bearer {token}"})

    def post(self, path, fields=None, **more):
        body = fields if isinstance(fields, (str, bytes)) else json.dumps(fields or {})
        return self.client.post(f"/sdapi/v1/{path}", body, JSON, **more)

    def get(self, path, **query):
        return self.client.get(f"/sdapi/v1/{path}", query)

    def drawn(self, path="txt2img", **fields):
        """The answer of a call that succeeds, with `info` parsed."""
        response = self.post(path, {"prompt": "a red boat at sea", "steps": 3} | fields)
        assert response.status_code == 200, response.content[:1000]
        answer = response.json()
        return answer | {"info": json.loads(answer["info"])}

    def later(self, path="txt2img", **fields):
        """The same in a thread; the answer when it is called."""
        responses = []

        def run():
            try:
                responses.append(self.post(path, {"prompt": "a red boat at sea"} | fields))
            finally:
                connections.close_all()

        thread = threading.Thread(target=run)
        thread.start()

        def answer():
            thread.join(30)
            return responses[0]

        return answer


@pytest.fixture
def caller(api_client, pro_user):
    return Caller(api_client(pro_user).token)


@pytest.fixture
def another(api_client, other_user):
    return Caller(api_client(other_user).token)


@pytest.fixture
def nothing_happened(db):
    """Asserts that neither generation nor hold nor upload was left."""

    def check():
        assert not Generation.objects.exists()
        assert not QuotaHold.objects.exists()
        assert not DailyUsage.objects.filter(held__gt=0).exists()
        assert not Upload.objects.exists()

    return check


@pytest.fixture
def refused():
    """Asserts that an answer is a refusal in the dialect's shape, and returns it."""

    def check(response, status, code=None, param=None):
        assert response.status_code == status, response.content[:500]
        assert response["Content-Type"] == JSON
        problem = response.json()
        assert problem.keys() == {"error", "detail", "body", "errors"}
        assert problem["detail"] and problem["error"]
        assert code is None or problem["error"] == code, problem
        assert param is None or problem["errors"].startswith(f"{param}: "), problem
        assert status not in (429, 503) or int(response["Retry-After"]) > 0
        return problem

    return check


def picture(width=128, height=128, colour=(200, 60, 40), mode="RGB", **save) -> str:
    """Base64 of a PNG."""
    buffer = io.BytesIO()
    Image.new(mode, (width, height), colour).save(buffer, "PNG", **save)
    return base64.b64encode(buffer.getvalue()).decode()


def opened(encoded: str) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(encoded, validate=True)))
    image.load()
    return image


def wait_until(condition, what=""):
    return wait_for(condition, seconds=20, every=0.01, what=what)

"""Three people, their clients, their pictures, and whole sites of real processes."""

import pytest
from django.test import Client
from PIL import Image

from accounts.models import ApiKey, User
from generation.engine.protocol import EngineImage
from generation.live import store
from generation.models import GeneratedImage, Generation
from generation.storage import files
from generation.storage.image_requests import request_of
from tests.site import Site

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def media_folder(settings, tmp_path):
    """Pictures of a test lie in a folder of its own."""
    settings.MEDIA_ROOT = tmp_path / "media"
    local = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": settings.MEDIA_ROOT}}
    settings.STORAGES = settings.STORAGES | {"default": local}
    return settings.MEDIA_ROOT


@pytest.fixture(autouse=True)
def empty_redis(monkeypatch):
    monkeypatch.setattr(store, "_silent_until", 0.0)
    store._client.flushdb()


@pytest.fixture
def make_user(db):
    def make(email, **fields):
        return User.objects.create_user(email, PASSWORD, **fields)

    return make


@pytest.fixture
def free_user(make_user):
    return make_user("free@example.com")


@pytest.fixture
def pro_user(make_user):
    return make_user("pro@example.com", plan="pro")


@pytest.fixture
def other_user(make_user):
    """Somebody who must see nothing of the others."""
    return make_user("other@example.com", plan="pro")


@pytest.fixture
def staff_user(make_user):
    return make_user("staff@example.com", is_staff=True, is_superuser=True)


@pytest.fixture
def page_client():
    """A client signed in as the given user, with CSRF checks like a browser's when asked for."""

    def make(user, **options):
        client = Client(**options)
        client.force_login(user, backend="allauth.account.auth_backends.AuthenticationBackend")
        return client

    return make


@pytest.fixture
def api_client():
    """A client that sends a new API key of the given user; the key itself is `client.token`."""

    def make(user):
        _, token = ApiKey.issue(user=user, name="test")
        client = Client(headers={"Authorization": f"Bearer {token}"})
        client.token = token
        return client

    return make


GENERATION_FIELDS = {
    "prompt": "a red boat at sea",
    "composed_prompt": "a red boat at sea",
    "model": "dreamsketch-tiny",
    "width": 64,
    "height": 48,
    "steps": 4,
    "guidance_scale": 5.0,
    "sampler": "Euler",
    "seed": 7,
    "priority": 20,
    "owner_slots": 1,
}


@pytest.fixture
def make_generation(db):
    """A generation row in any state, without going through the service."""
    import datetime as dt

    from django.utils import timezone

    def make(owner, **fields):
        fields = {"deadline_at": timezone.now() + dt.timedelta(hours=1)} | GENERATION_FIELDS | fields
        generation = Generation(owner=owner, **fields)
        generation.total_steps = request_of(generation).total_steps
        generation.save(force_insert=True)
        generation.refresh_from_db()
        return generation

    return make


@pytest.fixture
def make_image(make_generation):
    """A completed generation's picture with its real files. `generation_fields` describe the generation."""

    def make(owner, *, colour=(200, 60, 40), generation_fields=None, **fields):
        from django.utils import timezone

        now = timezone.now()
        generation = make_generation(
            owner, status="completed", image_count=1, started_at=now, finished_at=now, **(generation_fields or {})
        )
        pixels = Image.new("RGB", (generation.width, generation.height), colour)
        drawn = EngineImage(0, generation.seed, pixels, {"model": generation.model}, 1.5)
        stored = files.store_image(drawn, request_of(generation))
        return GeneratedImage.objects.create(
            id=stored.id,
            generation=generation,
            owner=owner,
            index=0,
            seed=stored.seed,
            file=stored.file,
            thumbnail=stored.thumbnail,
            thumbnail_size=stored.thumbnail_size,
            width=stored.width,
            height=stored.height,
            file_size=stored.file_size,
            sha256=stored.sha256,
            colour=stored.colour,
            generation_time=1.5,
            **fields,
        )

    return make


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The whole thing as `bin/serve` runs it, with the real engine and the built-in model."""
    with Site(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture(scope="session")
def fault_site(tmp_path_factory):
    """As `site`, with the fake engine, slow enough to be interrupted, and leases that run out in seconds."""
    with Site(
        tmp_path_factory.mktemp("faults"),
        DREAMSKETCH_ENGINE="fake",
        FAULTS_ALLOWED="1",
        WEBHOOK_ALLOW_PRIVATE="1",
        FAKE_SECONDS_PER_STEP="0.1",
        LEASE_SECONDS="3",
        HEARTBEAT_SECONDS="0.5",
        SWEEP_SECONDS="1",
        IDLE_POLL_SECONDS="2",
        STALL_SECONDS="4",
        RETRY_BACKOFF_FIRST="0.5",
        RETRY_BACKOFF_SECOND="1",
        DRAIN_SECONDS="5",
    ) as running:
        yield running


def pytest_collection_modifyitems(items):
    """Tests that share a site run in one process of a parallel run, and one after another those that open up to 64
    connections (two of them would want more than Postgres has)."""
    for item in items:
        if item.path.name in ("test_quotas.py", "test_limits.py"):
            item.add_marker(pytest.mark.xdist_group("connections"))
        if item.path.name == "test_sketch_training.py":
            item.add_marker(pytest.mark.xdist_group("training"))  # its folder is made once
        for name in ("site", "fault_site"):
            if name in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.xdist_group(name))

"""manage.py doctor finds what is wrong and says what mends it."""

import datetime as dt
import io
import json

import pytest
from django.core.management import call_command
from django.utils import timezone

from generation.catalog import catalog
from generation.operations import doctor
from generation.queue import presence

pytestmark = pytest.mark.django_db


@pytest.fixture
def look(monkeypatch):
    """Findings of the named checks, as (state, said, mend)."""

    def run(*names):
        monkeypatch.setattr(doctor, "CHECKS", {name: check for name, check in doctor.CHECKS.items() if name in names})
        return [(finding.state, finding.said, finding.mend) for finding in doctor.examine()]

    return run


def test_the_servers_and_the_storage_of_a_sound_installation_are_well(look, media_folder):
    findings = look("Python", "Postgres", "Redis", "Storage")
    assert [state for state, _, _ in findings] == ["ok"] * 5, findings
    assert "All migrations are applied" in [message for _, message, _ in findings]
    assert [path for path in media_folder.rglob("*") if path.is_file()] == []  # the probe is gone again


def test_pytorch_is_tried_in_a_process_of_its_own(look):
    (state, message, _), (_, device, _), *_ = look("PyTorch")
    assert state == "ok" and message.startswith("PyTorch 2.13.0")
    assert "threads" in device or "GiB" in device or "mps" in device


def test_a_broken_pytorch_is_told_with_its_last_words(look, monkeypatch):
    monkeypatch.setattr(doctor, "TORCH_PROGRAM", "raise ImportError('libtorch.so: cannot open shared object file')")
    ((state, message, mend),) = look("PyTorch")
    assert state == "wrong" and "libtorch.so" in message and "troubleshooting" in mend


def test_a_device_that_is_not_there_is_wrong(look, settings):
    settings.DEVICE = "mps"
    assert ("wrong", "DEVICE=mps, but PyTorch sees no mps device.") in [finding[:2] for finding in look("PyTorch")]


def test_servers_that_are_away(look, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    settings.EMAIL_URL, settings.EMAIL_BACKEND = "smtp://…", "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    findings = look("Redis", "Mail")
    assert [state for state, _, _ in findings] == ["wrong", "wrong"]
    assert "REDIS_URL" in findings[0][2] and "EMAIL_URL" in findings[1][2]


def test_storage_that_cannot_be_written(look, settings, tmp_path):
    (tmp_path / "a-file").write_text("in the way")
    settings.MEDIA_ROOT = tmp_path / "a-file" / "media"
    settings.STORAGES = settings.STORAGES | {
        "default": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": settings.MEDIA_ROOT},
        }
    }
    ((state, message, mend),) = look("Storage")
    assert state == "wrong" and str(settings.MEDIA_ROOT) in message and "MEDIA_ROOT" in mend


def test_a_full_disk(look, settings):
    settings.MIN_FREE_DISK_BYTES = 2**60
    assert "wrong" in [state for state, _, _ in look("Disk")]


def test_models_that_are_missing(look, settings, tmp_path, monkeypatch):
    settings.MODELS_DIR = tmp_path
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    settings.ENABLED_MODELS, settings.DEFAULT_MODEL = ["sdxl-base"], "sdxl"
    catalog.cache_clear()
    try:
        ((state, message, mend),) = look("Models")
        assert state == "warning" and "not downloaded" in message and "preload_models --models sdxl-base" in mend
        settings.MODEL_DOWNLOADS = False
        assert [state for state, _, _ in look("Models")] == ["wrong"]
        settings.DEFAULT_MODEL = "dreamsketch-tiny"
        ((state, message, mend),) = look("Models")
        assert state == "wrong" and "DEFAULT_MODEL" in mend
    finally:
        catalog.cache_clear()


def test_work_without_a_worker_is_wrong_and_a_worker_is_named(look, free_user, make_generation):
    assert [state for state, _, _ in look("Workers")] == ["warning"]
    make_generation(free_user)
    ((state, message, _),) = look("Workers")
    assert state == "wrong" and "1 wait in the queue" in message
    presence.report("host-17", {"device": "cpu", "device_name": "A processor", "running": 2})
    findings = look("Workers")
    assert ("ok", "Worker host-17 on A processor, drawing 2", "") in findings


def test_leases_that_nobody_sweeps_are_wrong(look, free_user, make_generation):
    presence.report("host-17", {"device": "cpu"})
    make_generation(free_user, status="processing", lease_until=timezone.now() - dt.timedelta(minutes=5))
    assert [mend for state, _, mend in look("Workers") if state == "wrong"] == [
        "Start the maintenance worker. manage.py sweep does its work once."
    ]


@pytest.mark.parametrize(
    ("changes", "state", "text"),
    [
        ({"DEBUG": True}, "warning", "DEBUG"),
        ({"ALLOWED_HOSTS": ["*"]}, "warning", "every name"),
        ({"ALLOWED_HOSTS": ["a.example.com"]}, "warning", "HTTPS is off"),
        ({"ALLOWED_HOSTS": ["a.example.com"], "HTTPS": True}, "wrong", "TRUSTED_PROXY_COUNT"),
        ({"ALLOWED_HOSTS": ["a.example.com"], "HTTPS": True, "ALLAUTH_TRUSTED_PROXY_COUNT": 1}, "ok", "a.example.com"),
    ],
)
def test_what_an_open_site_needs(look, settings, changes, state, text):
    for name, value in changes.items():
        setattr(settings, name, value)
    assert [message for finding_state, message, _ in look("Security") if finding_state == state and text in message]


def test_one_broken_check_hides_no_other(monkeypatch):
    def broken():
        raise KeyError("surprise")
        yield

    monkeypatch.setattr(doctor, "CHECKS", {"First": broken, "Python": doctor.python})
    first, second = doctor.examine()
    assert first.state == "wrong" and "KeyError" in first.said
    assert second.state == "ok"


@pytest.mark.parametrize(
    "check",
    [
        (lambda: iter([("ok", "fine")]), True),
        (lambda: iter([("warning", "hm", "do")]), True),
        (lambda: iter([("wrong", "no", "mend it")]), False),
    ],
)
def test_only_what_is_wrong_fails_the_command(monkeypatch, check):
    monkeypatch.setattr(doctor, "CHECKS", {"Thing": check[0]})
    for arguments in ([], ["--json"]):
        out = io.StringIO()
        try:
            call_command("doctor", *arguments, stdout=out)
            passed = True
        except SystemExit as end:
            passed = end.code == 0
        assert passed is check[1]
    report = json.loads(out.getvalue())
    assert report["ok"] is check[1] and report["findings"][0]["name"] == "Thing"

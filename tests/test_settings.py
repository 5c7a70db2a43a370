"""Settings come from the environment: all of them documented, bad ones refused in words."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured

from generation.catalog import catalog

ROOT = Path(__file__).resolve().parent.parent
LONG_KEY = "4rT-9wq_Zc7KmB2x" * 4
# Set, so that a process that only reads settings starts no servers.
REQUIRED = {
    "DATABASE_URL": "postgres://nobody@127.0.0.1:1/nothing",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "SECRET_KEY": LONG_KEY,
    "IGNORE_ENV_FILE": "1",
}
READERS = {"number", "choice", "flag", "names"}


def settings_read() -> dict[str, str | None]:
    """Each environment variable that settings.py reads, with its default as text where the code states one."""
    variables = {}
    for node in ast.walk(ast.parse((ROOT / "dreamsketch" / "settings.py").read_text())):
        name = default = None
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = ast.unparse(node.func)
            if called in READERS or called == "os.environ.get" or called.startswith("env."):
                name = node.args[0].value
                default = _default(called, node.args[1:])
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
            name = getattr(node.slice, "value", None)
        elif isinstance(node, ast.Tuple) and node.elts and "embedded." in ast.unparse(node):
            name = getattr(node.elts[0], "value", None)  # the loop that starts what no URL is given for
        if isinstance(name, str) and re.fullmatch("[A-Z][A-Z0-9_]+", name):
            variables[name] = variables.get(name) or default
    return variables


def _default(reader, arguments):
    if reader == "names":
        return ",".join(ast.literal_eval(argument) for argument in arguments)
    if not arguments or reader == "os.environ.get":
        return None
    try:
        value = eval(ast.unparse(arguments[0]), {"__builtins__": {}})  # also for 2**29
    except NameError:
        return None  # it depends on another setting
    return str(int(value)) if isinstance(value, bool) else str(value)


def example_sections() -> dict[str, dict[str, tuple[str, str]]]:
    """.env.example: by section heading, each variable's default and meaning."""
    sections, comment = {}, []
    for line in (ROOT / ".env.example").read_text().splitlines():
        if heading := re.fullmatch(r"# --- (.+?) -+", line):
            current = sections.setdefault(heading[1], {})
        elif variable := re.fullmatch(r"#?([A-Z][A-Z0-9_]*)=(.*)", line):
            current[variable[1]] = variable[2], " ".join(comment)
        comment = [*comment, line.removeprefix("# ")] if line.startswith("# ") else []
    return sections


def example() -> dict[str, tuple[str, str]]:
    """All variables of .env.example."""
    return {name: entry for section in example_sections().values() for name, entry in section.items()}


ELSEWHERE = ("Read by docker-compose.yml only", "Read by libraries")


def test_the_example_lists_exactly_what_settings_read():
    listed = {name for heading, section in example_sections().items() if heading not in ELSEWHERE for name in section}
    assert listed == set(settings_read())


def test_the_example_gives_the_defaults_of_the_code_and_a_meaning():
    listed = example()
    assert [name for name, (_, meaning) in listed.items() if not meaning.endswith(".") and "?" not in meaning] == []
    stated = {name: default for name, default in settings_read().items() if default is not None}
    assert len(stated) > 40
    assert {name: listed[name][0] for name in stated} == stated


@pytest.fixture
def read_settings(monkeypatch):
    """Executes settings.py once more, with nothing in the environment but what is given."""

    def read(**environment):
        for name in settings_read():
            monkeypatch.delenv(name, raising=False)
        for name, value in (REQUIRED | environment).items():
            monkeypatch.setenv(name, value)
        # A module of the package, so that its relative imports work, but not the one that Django uses.
        path = ROOT / "dreamsketch" / "settings.py"
        spec = importlib.util.spec_from_file_location("dreamsketch.settings_again", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return read


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"FREE_DAILY_IMAGES": "many"}, "FREE_DAILY_IMAGES='many' is not a number"),
        ({"MAX_BATCH": "0"}, "MAX_BATCH=0 must lie between 1 and 64"),
        ({"LEASE_SECONDS": "nan"}, "LEASE_SECONDS=nan must lie between"),
        ({"DREAMSKETCH_ENGINE": "onnx"}, "DREAMSKETCH_ENGINE='onnx' must be one of: torch, fake"),
        ({"DEVICE": "gpu"}, "DEVICE='gpu' must be one of: auto, cpu, cuda, mps"),
        ({"HTTPS": "maybe"}, "HTTPS='maybe' must be 1 or 0"),
        ({"SECRET_KEY": "short"}, "SECRET_KEY is too short"),
        ({"DATABASE_URL": "sqlite:///db.sqlite3"}, "DATABASE_URL must name a PostgreSQL server"),
        ({"REDIS_URL": "amqp://localhost"}, "REDIS_URL must look like"),
        ({"STORAGE": "s3"}, "STORAGE=s3 needs S3_BUCKET"),
        ({"MEDIA_URL": "https://elsewhere.example/"}, "MEDIA_URL='https://elsewhere.example/' must be a path"),
        ({"MEDIA_ACCEL_REDIRECT": "_media"}, "MEDIA_ACCEL_REDIRECT='_media' must be a path"),
        (
            {"MEDIA_ACCEL_REDIRECT": "/_media/", "STORAGE": "s3", "S3_BUCKET": "b"},
            "MEDIA_ACCEL_REDIRECT needs STORAGE=local",
        ),
        ({"SITE_URL": "dreamsketch.example"}, "SITE_URL='dreamsketch.example' must look like https://"),
        ({"INFERENCE_WEBHOOK_SECRET": "short"}, "INFERENCE_WEBHOOK_SECRET is too short"),
    ],
)
def test_a_bad_value_is_refused_and_named(read_settings, environment, message):
    with pytest.raises(ImproperlyConfigured, match=re.escape(message)):
        read_settings(**environment)


def test_with_a_bad_value_no_command_starts():
    result = manage("migrate", FREE_DAILY_IMAGES="-1")
    assert result.returncode != 0
    assert "FREE_DAILY_IMAGES=-1 must lie between 0 and 1000000." in result.stderr.strip().splitlines()[-1]


def test_empty_values_mean_the_defaults(read_settings):
    """Compose and Kubernetes pass variables that somebody left empty."""
    default = read_settings()
    empty = read_settings(**{name: "" for name in settings_read() if name not in REQUIRED})
    for name in (
        "REGISTRATION_OPEN",
        "ALLOWED_HOSTS",
        "FREE_DAILY_IMAGES",
        "MEDIA_URL",
        "DEFAULT_MODEL",
        "DEBUG",
        "ENABLED_MODELS",
        "ALLOWED_IMAGE_FORMATS",
        "MEDIA_ROOT",
        "DEVICE",
    ):
        assert getattr(empty, name) == getattr(default, name), name


def test_names_may_have_spaces_between_them(read_settings):
    read = read_settings(DJANGO_ALLOWED_HOSTS="a.example.com, b.example.com,")
    assert read.ALLOWED_HOSTS == ["a.example.com", "b.example.com"]


PUBLIC_SITE = {"HTTPS": "1", "TRUSTED_PROXY_COUNT": "1", "DJANGO_ALLOWED_HOSTS": "dreamsketch.example.com"}


def manage(*arguments, **environment):
    inherited = {name: value for name, value in os.environ.items() if name not in settings_read()}
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=inherited | REQUIRED | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_deployment_check_is_content_with_a_public_site():
    result = manage("check", "--deploy", "--fail-level", "WARNING", **PUBLIC_SITE)
    assert result.returncode == 0, result.stderr


def test_the_deployment_check_refuses_what_is_for_tests():
    result = manage("check", "--deploy", **PUBLIC_SITE, DREAMSKETCH_ENGINE="fake", FAULTS_ALLOWED="1")
    assert result.returncode == 1
    assert "dreamsketch.E003" in result.stderr and "dreamsketch.E004" in result.stderr


@pytest.mark.parametrize(
    ("enabled", "default", "wrong"),
    [
        (["no-such-model"], "dreamsketch-tiny", "dreamsketch.E001"),
        (["sdxl-base"], "dreamsketch-tiny", "dreamsketch.E002"),
        (["sdxl-base"], "sdxl", None),
        ([], "dreamsketch-tiny", None),
    ],
)
def test_the_check_finds_models_that_nobody_knows(settings, enabled, default, wrong):
    settings.ENABLED_MODELS, settings.DEFAULT_MODEL = enabled, default
    catalog.cache_clear()
    try:
        assert [message.id for message in run_checks(tags=["dreamsketch"])] == ([wrong] if wrong else [])
    finally:
        catalog.cache_clear()

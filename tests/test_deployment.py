"""The files that a deployment is made of agree with the code and with each other.

There is no container engine in a test run, so they are read, and what they start is started here by hand.
"""

import os
import re
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from django.conf import settings
from django.db import connection
from django.urls import reverse
from uvicorn.main import main as uvicorn

from dreamsketch.management.commands import up
from generation.queue import presence
from tests.site import wait_for
from tests.test_settings import ELSEWHERE, example, example_sections, settings_read

ROOT = Path(__file__).resolve().parent.parent
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
KUBERNETES = ROOT / "deploy" / "kubernetes"
MANIFESTS = [
    manifest
    for file in sorted(KUBERNETES.glob("*.yaml"))
    if file.name != "kustomization.yaml"
    for manifest in yaml.safe_load_all(file.read_text())
]
WORKLOADS = {
    manifest["metadata"]["name"]: manifest["spec"]["template"]["spec"]
    for manifest in MANIFESTS
    if manifest["kind"] in ("Deployment", "Job")
}
DOCKERFILE = (ROOT / "Dockerfile").read_text()
NGINX = (ROOT / "deploy" / "nginx.conf").read_text()
ROLES = ("web", "worker", "maintenance", "scheduler")
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("${DREAMSKETCH_IMAGE")]
LIBRARIES = set(example_sections()["Read by libraries"])


def compose_variables() -> set[str]:
    """What docker compose puts in from .env: `${NAME}`, but not `$${NAME}` nor `$$NAME`."""
    return set(re.findall(r"(?<!\$)\$\{([A-Z_0-9]+)", (ROOT / "docker-compose.yml").read_text()))


# --- what is started ------------------------------------------------------------------------------------------


def essence(command: list[str]) -> tuple[str, dict]:
    """A command without what each place decides for itself: address, log level, belief in proxy headers."""
    arguments = [
        word for word in command if word not in (sys.executable, "-m", "--proxy-headers", "--no-proxy-headers")
    ]
    program, options, key = arguments[0], {}, None
    for word in arguments[1:]:
        name, is_option, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if word.startswith("-"):
            key = name
            options[key] = value if is_option else None
        elif key and options[key] is None:
            options[key] = word
        else:
            options[word] = None
    for own in ("--host", "--port", "--loglevel"):
        options.pop(own, None)
    return program, options


def dockerfile_command() -> list[str]:
    return yaml.safe_load(re.search(r"^CMD (\[.*?\])$", DOCKERFILE.replace("\\\n", ""), re.M | re.S)[1])


STARTED = {child.name: essence(child.command) for child in up.Command.children("127.0.0.1", 8000)}


@pytest.mark.parametrize("role", ROLES)
def test_containers_start_what_bin_serve_starts(role):
    assert set(STARTED) == set(ROLES)
    assert essence(SERVICES[role]["command"]) == STARTED[role]
    assert essence(WORKLOADS[role]["containers"][0]["command"]) == STARTED[role]


def test_the_gpu_worker_and_the_image_itself_start_the_same():
    assert essence(SERVICES["worker-gpu"]["command"]) == STARTED["worker"]
    assert essence(dockerfile_command()) == STARTED["web"]


@pytest.mark.parametrize(
    "command", [SERVICES["web"]["command"], dockerfile_command(), WORKLOADS["web"]["containers"][0]["command"]]
)
def test_uvicorn_understands_the_web_command(command):
    program, *arguments = command
    context = uvicorn.make_context(program, list(arguments))
    assert context.params["app"] == settings.ASGI_APPLICATION.replace(".application", ":application")
    assert context.params["host"] == "0.0.0.0" and context.params["port"] == 8000


def test_the_migration_runs_before_all_others():
    for command in (SERVICES["migrate"]["command"], WORKLOADS["migrate"]["containers"][0]["command"]):
        assert command == ["python", "manage.py", "migrate", "--noinput"]
    for name in (*ROLES, "worker-gpu"):
        assert SERVICES[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


# --- docker compose ----------------------------------------------------------------------------------------------


def test_what_services_wait_for_exists_and_can_be_waited_for():
    for name, service in SERVICES.items():
        for other, dependency in service.get("depends_on", {}).items():
            awaited = SERVICES[other]
            assert not awaited.get("profiles") or awaited["profiles"] == service.get("profiles"), (name, other)
            if dependency["condition"] == "service_healthy":
                assert awaited["healthcheck"].get("test"), (name, other)
            else:
                assert dependency["condition"] == "service_completed_successfully" and awaited["restart"] == "no"


def test_everything_restarts_is_checked_and_keeps_its_data():
    for name, service in SERVICES.items():
        assert service["restart"] == ("no" if name in ("migrate", "bucket") else "unless-stopped"), name
        if name != "proxy":
            assert service["healthcheck"], name
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert source in COMPOSE["volumes"] or source.startswith((".", "${")), (name, volume)
    assert {"postgres", "data", "objects"} == set(COMPOSE["volumes"])


def test_optional_parts_stay_out_of_the_way():
    profiles = {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service}
    assert profiles == {"worker-gpu": ["gpu"], "store": ["s3"], "bucket": ["s3"], "proxy": ["proxy"]}
    assert SERVICES["worker"]["scale"] == "${CPU_WORKERS:-1}"
    device = SERVICES["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"][0]
    assert device["driver"] == "nvidia" and device["capabilities"] == ["gpu"]
    assert SERVICES["worker-gpu"]["environment"]["DEVICE"] == "cuda"


def test_no_secret_stands_in_the_files():
    secret = re.compile("PASSWORD|SECRET|TOKEN|_KEY|AUTH$")
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if secret.search(variable):
                assert re.fullmatch(r"\$\{\w+(:[?-].*)?\}", value), (name, variable)
    assert not [manifest for manifest in MANIFESTS if manifest["kind"] == "Secret"]
    config = next(manifest for manifest in MANIFESTS if manifest["kind"] == "ConfigMap")["data"]
    assert not [name for name in config if secret.search(name)]
    assert [name for name, (default, _) in example().items() if secret.search(name) and default] == []


def test_what_must_be_given_is_asked_for_by_name():
    text = (ROOT / "docker-compose.yml").read_text()
    for name in ("SECRET_KEY", "DJANGO_ALLOWED_HOSTS", "POSTGRES_PASSWORD", "REDIS_PASSWORD"):
        assert re.search(rf"\${{{name}:\?[^}}]*{name}", text), name


def test_every_variable_is_one_that_something_reads():
    assert compose_variables() <= set(example())
    assert set(example_sections()["Read by docker-compose.yml only"]) - {"COMPOSE_PROFILES"} <= compose_variables()
    known = set(settings_read()) | LIBRARIES
    for name in OURS:
        assert set(SERVICES[name]["environment"]) <= known, name
    config = next(manifest for manifest in MANIFESTS if manifest["kind"] == "ConfigMap")["data"]
    assert set(config) <= known
    image = re.findall(r"^(?:ENV)?\s+([A-Z_]+)=/", DOCKERFILE, re.M)
    assert {"VAR_DIR", "STATIC_ROOT"} <= set(image) <= known | {"HOME"}
    assert set(ELSEWHERE) <= set(example_sections())


def test_containers_live_long_enough_to_hand_back_their_work():
    drain = float(settings_read()["DRAIN_SECONDS"])
    for name in ("worker", "worker-gpu"):
        assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) >= drain + 15
    assert WORKLOADS["worker"]["terminationGracePeriodSeconds"] >= drain + 15


# --- the image ----------------------------------------------------------------------------------------------------


def test_the_image_runs_as_nobody_special_and_carries_no_secret():
    instructions = re.findall(r"^([A-Z]+) (.*)$", DOCKERFILE.replace("\\\n", " "), re.M)
    assert ("USER", "10001:10001") in instructions
    assert not [text for name, text in instructions if name in ("ENV", "ARG") and re.search("SECRET|PASSWORD", text)]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {".env", ".git", "var", ".venv"} <= set(ignored)
    # What the image needs must not be ignored.
    needed = {
        "manage.py",
        "requirements.txt",
        "accounts",
        "dreamsketch",
        "gallery",
        "generation",
        "static",
        "templates",
        "deploy",
        "deploy/health.py",
    }
    assert not needed & set(ignored)
    assert [name for name in needed if not (ROOT / name).exists()] == []


def chosen(path: Path) -> dict[str, str]:
    """Versions by package, as an .in file names them; every line of it must."""
    lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines() if not line.startswith("-r ")]
    pins = [re.fullmatch(r"([a-z0-9-]+)(?:\[[a-z,]+\])?==([0-9][0-9.]*)", line) for line in lines if line]
    return {pin[1]: pin[2] for pin in pins if pin or pytest.fail(f"{path} leaves something open")}


def locked(path: Path) -> dict[str, str]:
    """Versions by package, as a .txt file names them; every block of it must have hashes."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith(("#", "-r "))]
    blocks = re.split(r"\n(?=\S)", "\n".join(lines))
    pins = [
        re.match(r"([a-z0-9._-]+)(?:\[[a-z,]+\])?==([^ ]+)(?: ; [^\n]*?)?(?: \\\n    --hash=sha256:[0-9a-f]{64})+$", b)
        for b in blocks
    ]
    assert all(pins), [block for block, pin in zip(blocks, pins, strict=True) if not pin][:3]
    return {pin[1]: pin[2] for pin in pins}


@pytest.mark.parametrize("folder", [".", "tests"])
def test_all_that_is_installed_is_pinned_and_has_hashes(folder):
    names, versions = chosen(ROOT / folder / "requirements.in"), locked(ROOT / folder / "requirements.txt")
    assert names.items() <= versions.items(), "run .venv/bin/python bin/lock"
    texts = [(ROOT / folder / f"requirements.{ending}").read_text() for ending in ("in", "txt")]
    assert not any("://" in text for text in texts)  # where pip looks is for those to say who install


def test_what_runs_here_is_what_is_locked():
    versions = locked(ROOT / "requirements.txt") | locked(ROOT / "tests" / "requirements.txt")
    assert versions["torch"] == "2.13.0"
    installed = {package.name.lower().replace("_", "-"): package.version for package in metadata.distributions()}
    differing = {
        name: (version, installed[name])
        for name, version in versions.items()
        if name in installed and installed[name].partition("+")[0] != version
    }
    assert differing == {}
    assert not locked(ROOT / "requirements.txt").keys() & locked(ROOT / "tests" / "requirements.txt").keys()


def test_all_name_the_same_version():
    tag = f"dreamsketch:{settings.VERSION}"
    assert {SERVICES[name]["image"] for name in OURS} == {f"${{DREAMSKETCH_IMAGE:-{tag}}}"}
    assert example()["DREAMSKETCH_IMAGE"][0] == tag
    image = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["images"][0]
    assert (image["name"], image["newTag"]) == ("dreamsketch", settings.VERSION)
    assert f"## {settings.VERSION}" in (ROOT / "CHANGELOG.md").read_text()


# --- Kubernetes ---------------------------------------------------------------------------------------------------


def test_the_kustomization_names_every_manifest():
    listed = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    assert set(listed) == {file.name for file in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}
    patch = yaml.safe_load((KUBERNETES / "gpu" / "worker.yaml").read_text())
    assert (patch["kind"], patch["metadata"]["name"]) == ("Deployment", "worker")
    assert patch["spec"]["template"]["spec"]["containers"][0]["name"] in {
        container["name"] for container in WORKLOADS["worker"]["containers"]
    }


def test_labels_services_volumes_and_references_fit_together():
    pods = {}
    for manifest in MANIFESTS:
        if manifest["kind"] in ("Deployment", "Job"):
            template = manifest["spec"]["template"]
            pods[manifest["metadata"]["name"]] = template["metadata"]["labels"]
            if manifest["kind"] == "Deployment":
                assert manifest["spec"]["selector"]["matchLabels"] == template["metadata"]["labels"]
    claims = {manifest["metadata"]["name"] for manifest in MANIFESTS if manifest["kind"] == "PersistentVolumeClaim"}
    for name, pod in WORKLOADS.items():
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for volume in volumes.values():
            assert volume.get("persistentVolumeClaim", {}).get("claimName") in claims | {None}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes), name
    for manifest in MANIFESTS:
        if manifest["kind"] == "Service":
            target = next(name for name, labels in pods.items() if labels == manifest["spec"]["selector"])
            ports = {port["containerPort"] for port in WORKLOADS[target]["containers"][0]["ports"]}
            assert {port["port"] for port in manifest["spec"]["ports"]} <= ports
    ingress = next(manifest for manifest in MANIFESTS if manifest["kind"] == "Ingress")
    backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend == {"name": "web", "port": {"number": 8000}}
    config = next(manifest for manifest in MANIFESTS if manifest["kind"] == "ConfigMap")["data"]
    assert config["DJANGO_ALLOWED_HOSTS"] == ingress["spec"]["rules"][0]["host"]


@pytest.mark.parametrize("name", WORKLOADS)
def test_pods_have_no_more_rights_than_they_need(name):
    pod = WORKLOADS[name]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]


# --- the proxy ----------------------------------------------------------------------------------------------------


def test_the_proxy_lets_event_streams_flow_and_nothing_else():
    (pattern, body), _ = re.findall(r"location ~ (\S+) \{(.*?)\}", NGINX, re.S)
    assert "proxy_buffering off;" in body and "gzip off;" in body and NGINX.count("proxy_buffering off;") == 1
    pk = "0b2a6a0e-5f3c-4c53-9f2e-0d6d1c3b8f11"
    for path in (reverse("events"), reverse("api-events", args=[pk])):
        assert re.match(pattern, path), path
    for path in (reverse("gallery"), reverse("api-generate"), reverse("api-status", args=[pk])):
        assert not re.match(pattern, path), path


def test_the_proxy_waits_as_long_as_the_site_does():
    _, (pattern, body) = re.findall(r"location ~ (\S+) \{(.*?)\}", NGINX, re.S)
    seconds = int(re.search(r"proxy_read_timeout (\d+)s;", body)[1])
    assert seconds > settings.GENERATION_DEADLINE_SECONDS + 60  # as the web UI's dialect
    ingress = next(manifest for manifest in MANIFESTS if manifest["kind"] == "Ingress")["metadata"]["annotations"]
    assert int(ingress["nginx.ingress.kubernetes.io/proxy-read-timeout"]) == seconds
    waiting = ("api-generate", "api-txt2img", "openai-generations", "openai-edits", "a1111-txt2img", "a1111-img2img")
    for path in map(reverse, waiting):
        assert re.match(pattern, path), path


def test_the_proxy_hands_pictures_out_for_the_site_only():
    body = re.search(r"location /_media/ \{(.*?)\}", NGINX, re.S)[1]
    assert "internal;" in body and "add_header ETag $upstream_http_etag;" in body
    assert f"alias {SERVICES['web']['environment']['MEDIA_ROOT']}/;" in body


def test_the_proxy_takes_bodies_that_the_site_takes_and_replaces_what_visitors_claim():
    size = f"{settings.DATA_UPLOAD_MAX_MEMORY_SIZE // 2**20}m"
    assert f"client_max_body_size {size};" in NGINX
    ingress = next(manifest for manifest in MANIFESTS if manifest["kind"] == "Ingress")["metadata"]["annotations"]
    assert ingress["nginx.ingress.kubernetes.io/proxy-body-size"] == size
    assert "proxy_set_header X-Forwarded-For $remote_addr;" in NGINX
    assert "proxy_set_header X-Forwarded-Proto $scheme;" in NGINX
    assert NGINX.count("{") == NGINX.count("}")


def test_the_proxy_keeps_away_what_only_it_can():
    """As docs/security.md says: half-sent and slow requests, and too many of one address."""
    zones = set(re.findall(r"^limit_(?:req|conn)_zone \$binary_remote_addr zone=(\w+):", NGINX, re.M))
    used = set(re.findall(r"^    limit_(?:req zone=|conn )(\w+)", NGINX, re.M))
    assert zones == used == {"requests", "connections"}
    for setting in ("client_header_timeout", "client_body_timeout", "send_timeout"):
        assert re.search(rf"^    {setting} \d+s;", NGINX, re.M), setting
    assert not re.search(r"proxy_request_buffering\s+off", NGINX)


# --- by hand ------------------------------------------------------------------------------------------------------


def health(role: str, **environment) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "deploy/health.py", role],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_the_web_command_of_compose_serves_and_its_health_check_notices(free_port, tmp_path, settings):
    public = {
        "DJANGO_ALLOWED_HOSTS": "dreamsketch.example.com",
        "HTTPS": "1",
        "TRUSTED_PROXY_COUNT": "1",
        "SECRET_KEY": "not-a-secret-" * 4,
        "VAR_DIR": str(tmp_path),
        "PORT": free_port,
    }
    assert health("web", **public).returncode == 1
    command = [free_port if word == "8000" else word for word in SERVICES["web"]["command"]]
    web = subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, env=os.environ | public)
    try:
        wait_for(lambda: health("web", **public).returncode == 0, every=0.3, what="a healthy web process")
        stranger = health("web", **public | {"DJANGO_ALLOWED_HOSTS": "another.example.com"})
        assert stranger.returncode == 1 and "400" in stranger.stdout
        # bin/serve waits for its web process in the same way, whatever the hosts and HTTPS.
        settings.ALLOWED_HOSTS = ["dreamsketch.example.com"]
        assert up.web_answers("127.0.0.1", int(free_port))
    finally:
        web.terminate()
        web.wait(30)
    assert not list(tmp_path.iterdir())  # with everything given, nothing of its own was started or made


@pytest.mark.django_db(transaction=True)
def test_the_workers_health_is_its_report():
    database = os.environ["DATABASE_URL"].replace("/dreamsketch", f"/{connection.settings_dict['NAME']}")
    presence.report("another-container-1", {"running": 0})
    assert health("worker", DATABASE_URL=database).returncode == 1
    presence.report(f"{socket.gethostname()}-4711", {"running": 0})
    assert health("worker", DATABASE_URL=database).returncode == 0
    assert health("worker", DATABASE_URL="postgresql://127.0.0.1:1/none").returncode == 1

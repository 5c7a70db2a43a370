"""Health checks of one installation, for `manage.py doctor`: what is wrong, and how to mend it.

Each check asks one part and is shielded from the others, so that one broken part does not hide the rest.
"""

import datetime as dt
import json
import platform
import re
import shutil
import smtplib
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import redis
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.mail import get_connection
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models.functions import Now

from generation.catalog import catalog, model_named, remote_provider
from generation.engine.catalog.model_files import invalid_sources, locate
from generation.engine.errors import UnknownModel
from generation.models import Generation
from generation.queue import presence

OK, WARNING, WRONG = "ok", "warning", "wrong"

MIN_POSTGRES = 140_000
"""As the server numbers itself: Django 5.2 supports 14 and newer."""
COMFORTABLE_DISK_BYTES = 5 * 2**30
TORCH_SECONDS = 120
UNSWEPT = dt.timedelta(minutes=2)
"""A lease that ran out this long ago should have been swept."""
SMTP_SECONDS = 5
LOCAL_HOSTS = {"localhost", "127.0.0.1", "[::1]"}

# In a process of its own: torch is large, slow to load, and may be the very thing that is broken.
TORCH_PROGRAM = """
import json, torch
cuda = torch.cuda.is_available()
print(json.dumps({
    "version": torch.__version__,
    "cuda_build": torch.version.cuda or torch.version.hip,
    "gpus": [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())] if cuda else [],
    "gpu_bf16": cuda and torch.cuda.is_bf16_supported(including_emulation=False),
    "gpu_gib": [torch.cuda.get_device_properties(n).total_memory / 2**30
                for n in range(torch.cuda.device_count())] if cuda else [],
    "mps": torch.backends.mps.is_available(),
    "cpu": torch.backends.cpu.get_cpu_capability(),
    "threads": torch.get_num_threads(),
}))
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check saw. `state` is ok, warning or wrong; `mend` says what to do unless all is well.

    The fields are the keys of `doctor --json`.
    """

    name: str
    state: str
    said: str
    mend: str = ""


def examine() -> Iterator[Finding]:
    """Run every check, in an order in which earlier findings explain later ones."""
    for name, check in CHECKS.items():
        try:
            for state, message, *mend in check():
                yield Finding(name, state, message, *mend)
        except Exception as error:  # a check that breaks is a finding, and the others still count
            yield Finding(
                name,
                WRONG,
                f"The check itself failed: {type(error).__name__}: {error}",
                "Please report this with the lines above.",
            )


Findings = Iterator[tuple[str, str] | tuple[str, str, str]]
"""What a check yields: state, what it saw, and how to mend it."""


def python() -> Findings:
    version = platform.python_version()
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        yield OK, f"Python {version}"
    else:
        yield (
            WRONG,
            f"Python {version} is not supported.",
            "Use Python 3.11, 3.12 or 3.13; remove .venv and start again.",
        )


def torch() -> Findings:
    if remote_provider():
        yield OK, "Not needed: an engine elsewhere draws"
        return
    if settings.DREAMSKETCH_ENGINE == "fake":
        state = WARNING if settings.DEBUG else WRONG
        yield state, "DREAMSKETCH_ENGINE=fake draws test pictures, not what was asked for.", "Set it to torch."
        return
    try:
        report = json.loads(_run_torch())
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        lines = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        yield (
            WRONG,
            f"PyTorch cannot be loaded: {lines[-1] if lines else error}",
            "Install requirements.txt again; see “PyTorch does not load” in docs/troubleshooting.md.",
        )
        return
    build = f"for CUDA {report['cuda_build']}" if report["cuda_build"] else "for CPU"
    pinned = _pinned("torch")
    if pinned and report["version"].partition("+")[0] != pinned:
        yield (
            WARNING,
            f"PyTorch {report['version']} ({build}); requirements.txt names {pinned}.",
            "Install requirements.txt again. Other versions may draw other pictures for the same seed.",
        )
    else:
        yield OK, f"PyTorch {report['version']}, built {build}"
    yield from _device(report)


def _run_torch() -> str:
    process = subprocess.run(
        [sys.executable, "-c", TORCH_PROGRAM], capture_output=True, text=True, check=True, timeout=TORCH_SECONDS
    )
    return process.stdout.strip().splitlines()[-1]


def _pinned(package: str) -> str:
    file = Path(settings.BASE_DIR) / "requirements.txt"
    line = re.search(rf"^{re.escape(package)}==(\S+)", file.read_text(), re.M) if file.exists() else None
    return line[1] if line else ""


def _device(torch_report: dict) -> Findings:
    available = {"cpu": True, "cuda": bool(torch_report["gpus"]), "mps": torch_report["mps"]}
    device = settings.DEVICE
    if device == "auto":
        device = "cuda" if available["cuda"] else "mps" if available["mps"] else "cpu"
    if not available[device]:
        cause = (
            "this build of PyTorch has no CUDA"
            if device == "cuda" and not torch_report["cuda_build"]
            else f"PyTorch sees no {device} device"
        )
        yield (
            WRONG,
            f"DEVICE={device}, but {cause}.",
            "Set DEVICE=auto, or install a CUDA build and the GPU driver (docs/troubleshooting.md).",
        )
        return
    if device == "cuda":
        gpus = ", ".join(
            f"{name} with {gib:.0f} GiB"
            for name, gib in zip(torch_report["gpus"], torch_report["gpu_gib"], strict=True)
        )
        yield OK, f"Draws on {gpus}; {'bf16' if torch_report['gpu_bf16'] else 'fp16'} by default"
        return
    if device == "mps":
        yield OK, "Draws on the Apple GPU (mps)"
        return
    has_bf16 = _cpu_bf16()
    bf16 = {True: "bf16 in hardware", False: "no bf16 in hardware", None: "bf16 not known"}[has_bf16]
    threads, cpu = torch_report["threads"], torch_report["cpu"]
    yield OK, f"Draws on the CPU: {threads} threads, {cpu}, {bf16}; fp32 by default"
    if settings.DTYPE == "fp16" or (settings.DTYPE == "bf16" and has_bf16 is False):
        yield (WARNING, f"DTYPE={settings.DTYPE} is slower than fp32 on this CPU.", "Set DTYPE=auto.")
    if torch_report["cuda_build"] and settings.DEVICE == "auto" and shutil.which("nvidia-smi"):
        yield (
            WARNING,
            "There is an NVIDIA driver, but PyTorch sees no GPU.",
            "Check that nvidia-smi works and that a container was started with its GPU.",
        )


def _cpu_bf16() -> bool | None:
    """Whether the CPU multiplies bf16 in hardware; None where that cannot be read."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return None
    return any(flag in flags for flag in ("avx512_bf16", "amx_bf16", " bf16"))


def postgres() -> Findings:
    try:
        connection.ensure_connection()
    except DatabaseError as error:
        yield (
            WRONG,
            f"Postgres does not answer: {_one_line(error)}",
            "Start it, or correct DATABASE_URL. Empty, DreamSketch starts one of its own.",
        )
        return
    server = connection.connection.info
    major, minor = divmod(server.server_version, 10_000)
    if server.server_version < MIN_POSTGRES:
        yield WRONG, f"PostgreSQL {major} is too old.", f"Use PostgreSQL {MIN_POSTGRES // 10_000} or newer."
    else:
        yield OK, f"PostgreSQL {major}.{minor}, {_where(server.host)}"
    executor = MigrationExecutor(connection)
    missing = [migration for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes())]
    if missing:
        yield (WRONG, f"{len(missing)} migrations are not applied, {missing[0]} first.", "Run manage.py migrate.")
    else:
        yield OK, "All migrations are applied"


def _where(host: str) -> str:
    if str(settings.VAR_DIR) in host:
        return "started by DreamSketch"
    return f"at {host or 'this machine'}"


def redis_server() -> Findings:
    client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=3, socket_connect_timeout=3)
    try:
        with client:
            client.ping()
            version = client.info("server")["redis_version"]
            policy = client.info("memory").get("maxmemory_policy", "")
    except redis.RedisError as error:
        yield (
            WRONG,
            f"Redis does not answer: {_one_line(error)}",
            "Start it, or correct REDIS_URL. Meanwhile work is accepted, but starts late and shows no progress.",
        )
        return
    yield OK, f"Redis {version}"
    if policy and policy != "noeviction":
        yield (
            WARNING,
            f"Redis may throw keys away: maxmemory-policy is {policy}.",
            "Set maxmemory-policy noeviction; live progress and bells get lost otherwise.",
        )


def storage() -> Findings:
    name = f"doctor-{uuid.uuid4().hex}.tmp"
    content = uuid.uuid4().bytes
    where = (
        f"bucket {settings.STORAGES['default']['OPTIONS']['bucket_name']}"
        if settings.STORAGE == "s3"
        else str(settings.MEDIA_ROOT)
    )
    stored = None
    try:
        stored = default_storage.save(name, ContentFile(content))
        with default_storage.open(stored) as file:
            unchanged = file.read() == content
    except Exception as error:  # whatever the store's client raises
        yield (
            WRONG,
            f"Pictures cannot be stored in {where}: {_one_line(error)}",
            "Check S3_BUCKET, S3_ENDPOINT and the keys."
            if settings.STORAGE == "s3"
            else "Let this user write to that folder, or set MEDIA_ROOT.",
        )
        return
    finally:
        if stored:
            default_storage.delete(stored)
    if unchanged:
        yield OK, f"Pictures are stored in {where}: written, read and deleted a probe"
    else:
        yield WRONG, f"{where} gave back other bytes than were written.", "Check the store."


def disk() -> Findings:
    folders = {"VAR_DIR": settings.VAR_DIR, "MODELS_DIR": settings.MODELS_DIR}
    if settings.STORAGE == "local":
        folders["MEDIA_ROOT"] = settings.MEDIA_ROOT
    devices = set()
    for name, folder in folders.items():
        folder = _existing(Path(folder))
        device = folder.stat().st_dev
        if device in devices:
            continue
        devices.add(device)
        free = shutil.disk_usage(folder).free
        room = f"{free / 2**30:.1f} GiB free in {folder}"
        if free < settings.MIN_FREE_DISK_BYTES:
            yield WRONG, f"Only {room}; workers take no work.", f"Make room, or move {name}. manage.py prune helps."
        elif free < COMFORTABLE_DISK_BYTES:
            yield WARNING, f"Only {room}.", "Make room before you download models: each takes 2 to 10 GiB."
        else:
            yield OK, room


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def models() -> Findings:
    try:
        specs, default = catalog(), model_named(None)
    except UnknownModel as error:
        yield WRONG, str(error), "Correct ENABLED_MODELS or DEFAULT_MODEL."
        return
    if provider := remote_provider():
        where = getattr(provider, "url", "")
        yield OK, f"An engine elsewhere draws: {urlsplit(where).hostname} ({type(provider).__name__})"
        return
    for spec in specs:
        source = locate(spec, models_dir=settings.MODELS_DIR)
        role = " (the default)" if spec.key == default.key else ""
        if source:
            yield OK, f"{spec.key}{role} is ready, in {source.path}"
        elif spec.built_in:
            yield (
                WRONG,
                f"{spec.key}{role} is built in, but its weights are missing from {spec.sources[0]}.",
                "Take the complete repository, or train it: manage.py train_sketch.",
            )
        elif sources := invalid_sources(spec):
            yield (
                WRONG,
                f"{spec.key}{role}: “{sources[0]}” is neither an absolute path nor the id of a repository.",
                "Correct its sources, or leave it out with ENABLED_MODELS.",
            )
        elif settings.MODEL_DOWNLOADS:
            state = WARNING if role else OK
            yield (
                state,
                f"{spec.key}{role} is not downloaded; its first use does that",
                f"manage.py preload_models --models {spec.key}" if role else "",
            )
        else:
            yield (
                WRONG if role else WARNING,
                f"{spec.key}{role} is not here, and MODEL_DOWNLOADS=0.",
                f"Put it into {Path(settings.MODELS_DIR) / spec.key}, or leave it out with ENABLED_MODELS.",
            )


def mail() -> Findings:
    if not settings.EMAIL_URL:
        public = is_public()
        yield (
            WARNING if public else OK,
            f"Mail is written to {settings.EMAIL_FILE_PATH}",
            "Set EMAIL_URL, or nobody can reset a password." if public else "",
        )
        return
    backend = settings.EMAIL_BACKEND.rsplit(".", 1)[-1]
    if not settings.EMAIL_BACKEND.endswith(".smtp.EmailBackend"):
        yield OK, f"Mail goes to {backend}"
        return
    server = f"{settings.EMAIL_HOST}:{settings.EMAIL_PORT}"
    client = get_connection(timeout=SMTP_SECONDS)
    try:
        client.open()
    except (OSError, smtplib.SMTPException) as error:
        yield WRONG, f"The mail server {server} refuses us: {_one_line(error)}", "Correct EMAIL_URL."
        return
    finally:
        client.close()
    yield OK, f"Mail goes out through {server}, from {settings.DEFAULT_FROM_EMAIL}"


def workers() -> Findings:
    try:
        queued = Generation.objects.filter(status=Generation.Status.QUEUED).count()
        stray = Generation.objects.filter(status=Generation.Status.PROCESSING, lease_until__lt=Now() - UNSWEPT).count()
        reports = presence.workers()
    except DatabaseError:  # a finding of its own, see `postgres`
        return
    for worker in reports:
        yield (
            OK,
            (
                f"Worker {worker['name']} on {worker.get('device_name') or worker.get('device')},"
                f" drawing {worker.get('running', 0)}"
            ),
        )
    if not reports:
        waiting = f" {queued} wait in the queue." if queued else ""
        yield (
            WRONG if queued else WARNING,
            f"No worker has reported within {presence.WORKER_SECONDS} seconds.{waiting}",
            "Start bin/serve, or a worker; see docs/deployment.md.",
        )
    elif queued:
        yield OK, f"{queued} wait in the queue"
    if stray:
        yield (
            WRONG,
            f"{stray} generations of lost workers were not queued again.",
            "Start the maintenance worker. manage.py sweep does its work once.",
        )


def security() -> Findings:
    if settings.DEBUG:
        yield (
            WARNING,
            "DEBUG is on: error pages show code and settings.",
            "Set DEBUG=0 where others can reach the site.",
        )
        return
    hosts = ", ".join(settings.ALLOWED_HOSTS)
    if "*" in settings.ALLOWED_HOSTS:
        yield (
            WARNING,
            "DJANGO_ALLOWED_HOSTS accepts every name.",
            "Name the hosts, or password mails may carry a false link.",
        )
    else:
        yield OK, f"Answers to {hosts}"
    if is_public() and not settings.HTTPS:
        yield (
            WARNING,
            "HTTPS is off: passwords and cookies travel in the clear.",
            "Put a proxy with TLS in front and set HTTPS=1 and TRUSTED_PROXY_COUNT=1.",
        )
    if settings.HTTPS and not settings.ALLAUTH_TRUSTED_PROXY_COUNT:
        yield (
            WRONG,
            "HTTPS=1 without TRUSTED_PROXY_COUNT: every page redirects to itself behind a proxy.",
            "Set TRUSTED_PROXY_COUNT to the number of proxies in front.",
        )
    key_file = Path(settings.VAR_DIR) / "secret_key"
    from_file = key_file.exists() and key_file.read_text().strip() == settings.SECRET_KEY
    yield OK, f"SECRET_KEY has {len(settings.SECRET_KEY)} characters" + (f", from {key_file}" if from_file else "")


def is_public() -> bool:
    """Whether the site answers to other names than this machine's own."""
    return not LOCAL_HOSTS.issuperset(settings.ALLOWED_HOSTS)


def _one_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


CHECKS = {
    "Python": python,
    "PyTorch": torch,
    "Postgres": postgres,
    "Redis": redis_server,
    "Storage": storage,
    "Disk": disk,
    "Models": models,
    "Mail": mail,
    "Workers": workers,
    "Security": security,
}

"""manage.py up: process supervisor for one machine: starts, restarts and stops web, workers and scheduler."""

import contextlib
import ctypes
import hashlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

import fasteners
from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError
from django.db import connections

from accounts.models import User
from dreamsketch import embedded
from dreamsketch.apps import StaticFiles
from generation.catalog import model_named
from generation.queue import worker

CALM_SECONDS = 30
"""A child that lived this long is restarted at once; one that keeps dying is restarted a little more slowly."""
RESTART_SECONDS = (0, 1, 2)
"""Pauses before a restart, the last one for all further ones: good work waits for a worker that bad work killed."""
READY_SECONDS = 120
SERVER_CHECK_SECONDS = 1
PR_SET_PDEATHSIG = 1
ENVIRONMENT = {
    "PYTHONUNBUFFERED": "1",
    # Celery warns at length when run as root, as in a container; our messages are JSON and carry nothing.
    # Static files reach ASGI through a synchronous iterator; they are small, and read whole.
    "PYTHONWARNINGS": "ignore:You're running the worker,ignore:StreamingHttpResponse must consume",
    # OpenMP threads that wait by spinning take the processor from the web process beside them.
    "OMP_WAIT_POLICY": "passive",
}


@dataclass
class Child:
    """One process of the site."""

    name: str
    command: list[str]
    process: subprocess.Popen | None = None
    started: float = 0.0
    failures: int = 0
    restart_at: float = 0.0

    def start(self) -> None:
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            self.command,
            env=os.environ | ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            # A session of its own: Ctrl-C reaches only us, and we stop the children in order.
            start_new_session=True,
            preexec_fn=die_with_parent,
        )

    def signal(self, number) -> None:
        if self.process and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)


def die_with_parent() -> None:
    """On Linux, have the kernel end a child whose parent was killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def web_answers(host: str, port: int) -> bool:
    """Whether the web process serves. Asks as a proxy does, so that allowed hosts and HTTPS do not refuse it."""
    name = settings.ALLOWED_HOSTS[0].removeprefix(".").replace("*", "localhost")
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    try:
        with contextlib.closing(http.client.HTTPConnection(address, port, timeout=2)) as web:
            web.request("GET", "/api/health/", headers={"Host": name, "X-Forwarded-Proto": "https"})
            return web.getresponse().status < 400
    except (OSError, http.client.HTTPException):
        return False


class Command(BaseCommand):
    help = "Run web, workers and scheduler on this machine. Ctrl-C stops all of it."

    def add_arguments(self, parser):
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, *, host, port, **options):
        self.stopping, self.servers_checked_at = False, 0.0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.on_signal)
        self.check_port(host, port)
        self.prepare()
        children = self.children(host, port)
        try:
            for child in children:
                child.start()
            self.announce(host, port, children)
            while not self.stopping:
                self.look_after(children)
                time.sleep(0.2)
        finally:
            self.stop(children)

    def on_signal(self, number, frame):
        if self.stopping:
            raise KeyboardInterrupt
        self.stopping = True

    @staticmethod
    def check_port(host, port) -> None:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise CommandError(
                    f"Port {port} on {host} cannot be used: {error.strerror}. Choose another one with --port."
                ) from error

    def prepare(self) -> None:
        self.say("preparing the database")
        call_command("migrate", verbosity=0, interactive=False)
        if not settings.DEBUG:
            self.collect_static()
        spec = model_named(None)
        if settings.DREAMSKETCH_ENGINE == "torch" and spec.built_in and not os.path.isdir(spec.sources[0]):
            raise CommandError(f"The built-in model is missing: {spec.sources[0]}. Run manage.py train_sketch.")

    def collect_static(self) -> None:
        """Hash and compress the static files, when one of them changed since the last start."""
        settings.STATIC_ROOT.mkdir(parents=True, exist_ok=True)
        with fasteners.InterProcessLock(settings.STATIC_ROOT / ".lock"):
            self.collect_changed_static()

    def collect_changed_static(self) -> None:
        stamp = settings.STATIC_ROOT / ".collected"
        files = sorted(
            (path, os.stat(storage.path(path)).st_mtime_ns)
            for finder in get_finders()
            for path, storage in finder.list(StaticFiles.ignore_patterns)
        )
        digest = hashlib.sha256(repr(files).encode()).hexdigest()
        if not stamp.exists() or stamp.read_text() != digest:
            self.say("preparing the static files")
            call_command("collectstatic", verbosity=0, interactive=False)
            stamp.write_text(digest)

    @staticmethod
    def children(host, port) -> list[Child]:
        celery = [sys.executable, "-m", "celery", "--quiet", "-A", "dreamsketch"]
        quiet = ["--without-gossip", "--without-mingle", "--loglevel", settings.LOG_LEVEL]
        return [
            Child(
                "web",
                [
                    sys.executable,
                    "-m",
                    "uvicorn",
                    "dreamsketch.asgi:application",
                    "--host",
                    host,
                    "--port",
                    str(port),
                    "--http",
                    "dreamsketch.connections:Protocol",
                    "--ws",
                    "none",
                    "--lifespan",
                    "off",
                    "--no-server-header",
                    "--log-level",
                    "warning",
                    "--timeout-graceful-shutdown",
                    "3",
                    *(["--proxy-headers"] if settings.ALLAUTH_TRUSTED_PROXY_COUNT else ["--no-proxy-headers"]),
                ],
            ),
            Child(
                "worker",
                [*celery, "worker", "-Q", "generation", "-P", "threads", "-c", "1", "-n", "generation@%h", *quiet],
            ),
            Child(
                "maintenance",
                [*celery, "worker", "-Q", "maintenance", "-P", "threads", "-c", "1", "-n", "maintenance@%h", *quiet],
            ),
            Child("scheduler", [*celery, "beat", "--pidfile=", "--loglevel", "WARNING"]),
        ]

    def announce(self, host, port, children) -> None:
        """Wait until the site answers, then say where it is."""
        name = "localhost" if host in ("127.0.0.1", "0.0.0.0", "::") else host
        deadline = time.monotonic() + READY_SECONDS
        while not self.stopping:
            if web_answers(host, port):
                break
            if time.monotonic() > deadline:
                raise CommandError("The web process does not answer. See the lines above.")
            self.look_after(children)
            time.sleep(0.1)
        if self.stopping:
            return
        self.say(f"ready at http://{name}:{port}/")
        if not User.objects.exists():
            self.say(
                "sign up there, or make a staff account: "
                f"{os.path.relpath(sys.executable)} manage.py create_user you@example.com --staff"
            )
        self.say(
            f"data is kept in {settings.VAR_DIR}"
            + ("" if settings.EMAIL_URL else ", e-mail is written to its folder mail")
        )
        self.say("Ctrl-C stops everything")

    def look_after(self, children) -> None:
        """Restart what has ended."""
        now = time.monotonic()
        if now - self.servers_checked_at > SERVER_CHECK_SECONDS:
            self.servers_checked_at = now
            for server in embedded.revive(settings.VAR_DIR):
                self.say(f"the embedded {server} had ended and was started again")
        for child in children:
            if child.process is None:
                if now >= child.restart_at:
                    child.start()
            elif (code := child.process.poll()) is not None and not self.stopping:
                child.failures = 1 if now - child.started > CALM_SECONDS else child.failures + 1
                wait = RESTART_SECONDS[min(child.failures, len(RESTART_SECONDS)) - 1]
                cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
                self.say(f"{child.name} ended with {cause}; restarting {'now' if not wait else f'in {wait} s'}")
                if child.name == "worker":
                    self.sweep_after(child.process.pid)
                child.process, child.restart_at = None, now + wait

    @staticmethod
    def sweep_after(pid: int) -> None:
        """What the worker was at need not wait until its leases run out: it is certainly gone."""
        try:
            worker.process_ended(pid)
        except DatabaseError:
            pass  # then they run out
        finally:
            connections.close_all()

    def stop(self, children) -> None:
        """The worker gets time to finish its pictures; a second Ctrl-C takes it away."""
        self.say("stopping; a second Ctrl-C stops at once")
        for child in children:
            child.signal(signal.SIGTERM)
        try:
            deadline = time.monotonic() + settings.DRAIN_SECONDS + 15
            for child in children:
                if child.process:
                    child.process.wait(max(0.1, deadline - time.monotonic()))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self.say("stopping at once; what is unfinished will be drawn after the next start")
            for child in children:
                child.signal(signal.SIGKILL)
                if child.process:
                    child.process.wait()
        self.say("stopped")

    def say(self, message: str) -> None:
        self.stdout.write(f"dreamsketch: {message}")
        self.stdout.flush()

"""A running DreamSketch of real processes, for tests that look at it from outside."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).resolve().parent.parent


def wait_for(condition, *, seconds: float = 60, every: float = 0.1, what: str = ""):
    """The first truthy value of `condition()`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what or condition}")
        time.sleep(every)


class Site:
    """`manage.py up` on a free port, with servers and data of its own under `var`.

    Use as a context manager. `settings` are environment variables. `root` is the checkout that runs, with a
    `.venv` of its own if it is not this one.
    """

    def __init__(self, var: Path, root: Path = ROOT, **settings: str):
        self.var = Path(var)
        self.root = Path(root)
        self.python = sys.executable if self.root == ROOT else str(self.root / ".venv/bin/python")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._strangers: dict[str, list[str]] = {}
        inherited = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
        self.environment = (
            inherited
            | {
                "VAR_DIR": str(self.var),
                "PYTHONUNBUFFERED": "1",
                "DRAIN_SECONDS": "2",
                "REQUESTS_PER_HOUR": "1000",
                # Hashed and compressed once for all sites of a test run.
                "STATIC_ROOT": str(self.root / "var" / "test" / "site-static"),
            }
            | settings
        )

    def __enter__(self):
        self.log = open(self.var / "up.log", "w+")
        self.process = subprocess.Popen(
            [self.python, "manage.py", "up", "--port", str(self.port)],
            cwd=self.root,
            env=self.environment,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            wait_for(lambda: self.process.poll() is not None or "ready at" in self.output(), seconds=120, what="ready")
            assert self.process.poll() is None, self.output()
            wait_for(self.workers, seconds=60, what="a worker")
        except BaseException:
            print(self.output())
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()

    def output(self) -> str:
        return (self.var / "up.log").read_text()

    def workers(self) -> list:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/api/status/").json()["workers"]
        return []

    def manage(self, *arguments: str, check: bool = True) -> str:
        """Standard output of a management command on this site's data."""
        result = subprocess.run(
            [self.python, "manage.py", *arguments],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert not check or result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def user(self, email: str = "", plan: str = "pro", password: str = "correct horse battery") -> httpx.Client:
        """A client with an API key of a new account; `client.headers` hold the key."""
        if email:
            token = self.manage("create_user", email, "--plan", plan, "--password", password, "--api-key").strip()
        else:
            token = self._stranger(plan)
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=60)

    def _stranger(self, plan: str) -> str:
        """The key of an account that nobody has used. Made ten at a time: starting a command takes seconds."""
        if not self._strangers.get(plan):
            self._strangers[plan] = self.manage(
                "shell",
                "--no-imports",
                "-c",
                f"""
import uuid
from accounts.models import ApiKey, User
for _ in range(10):
    user = User.objects.create_user(f"{{uuid.uuid4().hex}}@example.com", plan={plan!r})
    print(ApiKey.issue(user=user, name="test")[1])
""",
            ).split()
        return self._strangers[plan].pop()

    def audit(self) -> dict:
        """Those counts of `manage.py audit` that are not 0."""
        report = json.loads(self.manage("audit", "--json", "--contents", check=False))
        return {what: count for what, count in report.items() if count}

    def children(self, name: str) -> list[psutil.Process]:
        """The processes that `up` runs under that name: web, worker, maintenance or scheduler."""
        marks = {"web": "uvicorn", "worker": "generation@%h", "maintenance": "maintenance@%h", "scheduler": "beat"}
        processes = []
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):
                if marks[name] in child.cmdline():
                    processes.append(child)
        return processes

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to the process of that name."""
        for child in self.children(name):
            child.send_signal(number)

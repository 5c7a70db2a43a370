"""What one caller of many connections can do, and what a bystander and the machine notice of it.

Each attack is a function of a running site; it returns figures. `tests/faults/test_load.py` holds them against what is
promised, `bench/load.py` prints them. The caller and the bystander come from different addresses of this machine
(127.0.0.1 and 127.0.0.2).
"""

import base64
import contextlib
import http.client
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psycopg
from PIL import Image

from tests.receiver import Receiver
from tests.site import Site, wait_for

MEGABYTE = 1_000_000
HEAD = "Host: localhost\r\nConnection: close\r\n"
BOMB_HEAD, BOMB_PIECE, BOMB_END = b'{"prompt": "a boat", "x": [', b"[],", b"1]}"


# --- what is looked at ----------------------------------------------------------------------------------------


class Visits:
    """A visitor who opens a page again and again while the block runs, on a new connection each time."""

    def __init__(self, site: Site, path: str = "/"):
        self.site, self.path = site, path
        self.seconds: list[float] = []
        self.statuses: list[int | str] = []
        self._over = threading.Event()

    def __enter__(self):
        calm = []
        for _ in range(8):
            began = time.monotonic()
            self._visit()
            calm.append(time.monotonic() - began)
        self.calm = sorted(calm)[len(calm) // 2]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._over.set()
        self._thread.join()

    def _run(self):
        while not self._over.is_set():
            began = time.monotonic()
            self.statuses.append(self._visit())
            self.seconds.append(time.monotonic() - began)
            self._over.wait(0.05)

    def _visit(self) -> int | str:
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.site.port, timeout=30, source_address=("127.0.0.2", 0)
        )
        try:
            connection.request("GET", self.path, headers={"Connection": "close"})
            answer = connection.getresponse()
            answer.read()
            return answer.status
        except (OSError, http.client.HTTPException) as error:
            return repr(error)
        finally:
            connection.close()

    def figures(self) -> dict:
        ordered = sorted(self.seconds)
        return {
            "pages": len(ordered),
            "page_calm": round(self.calm, 3),
            "page_p50": round(ordered[len(ordered) // 2], 3),
            "page_p95": round(ordered[int(0.95 * (len(ordered) - 1))], 3),
            "page_worst": round(ordered[-1], 3),
            "page_statuses": sorted({str(status) for status in self.statuses}),
        }


class Machine:
    """What the site takes of the machine: samples of it while the block runs, the largest of each kept."""

    def __init__(self, site: Site):
        (self.web,), self.var = site.children("web"), site.var
        self.database = psycopg.connect(self.web.environ()["DATABASE_URL"], autocommit=True)
        self.most = dict.fromkeys(("memory", "descriptors", "database", "temporary"), 0)
        self._over = threading.Event()

    def __enter__(self):
        self.memory_before, self.descriptors_before = self.memory(), self.web.num_fds()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._over.set()
        self._thread.join()
        self.database.close()

    def _run(self):
        while not self._over.wait(0.1):
            self.look()

    def look(self) -> None:
        temporary, descriptors = self.temporary()
        count = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
        now = {
            "memory": self.memory(),
            "descriptors": descriptors,
            "temporary": temporary,
            "database": self.database.execute(count).fetchone()[0] - 1,  # without this one
        }
        self.most = {name: max(value, now[name]) for name, value in self.most.items()}

    def memory(self) -> int:
        """Megabytes of the web process."""
        return self.web.memory_info().rss // MEGABYTE

    def temporary(self) -> tuple[float, int]:
        """Megabytes of the temporary files that the web process has open, and the number of its descriptors."""
        size = count = 0
        folder = f"/proc/{self.web.pid}/fd"
        for name in os.listdir(folder):
            count += 1
            with contextlib.suppress(OSError):
                path = f"{folder}/{name}"
                target = os.readlink(path)
                if target.startswith(tempfile.gettempdir() + "/") and not target.startswith(str(self.var)):
                    size += os.stat(path).st_size
        return round(size / MEGABYTE, 1), count

    def figures(self) -> dict:
        return {
            "memory_before": self.memory_before,
            "memory_most": self.most["memory"],
            "memory_after": self.memory(),
            "descriptors_before": self.descriptors_before,
            "descriptors_most": self.most["descriptors"],
            "database_most": self.most["database"],
            "temporary_most": self.most["temporary"],
        }


@contextlib.contextmanager
def observed(site: Site) -> Iterator[dict]:
    """A dictionary that has all figures once the block has ended and memory was given back, or ten seconds later."""
    figures: dict = {}
    with Machine(site) as machine:
        with Visits(site) as visits:
            yield figures
        with contextlib.suppress(AssertionError):
            wait_for(lambda: machine.memory() <= machine.memory_before + 60, seconds=10)
        figures |= visits.figures() | machine.figures()


def flood(site: Site, requests: list[str], connections: int, seconds: float, *options: str) -> dict:
    """What came of it, as `flood.py` says."""
    return json.loads(start_flood(site, requests, connections, seconds, *options).communicate()[0])


def start_flood(site: Site, requests: list[str], connections: int, seconds: float, *options: str) -> subprocess.Popen:
    program = [sys.executable, str(Path(__file__).with_name("flood.py")), str(site.port), str(connections)]
    process = subprocess.Popen(
        [*program, str(seconds), *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin
    process.stdin.write("".join(json.dumps(request) + "\n" for request in requests))
    process.stdin.close()
    process.stdin = None
    return process


def request(method: str, path: str, *headers: str, body: str = "", length: int | None = None) -> str:
    """The text of a request; `length` claims more than there is."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    if body or length:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines) + "\r\n\r\n" + body


def post_json(person: httpx.Client | None, path: str, body: str, length: int | None = None) -> str:
    headers = ["Content-Type: application/json"]
    if person:
        headers.append(f"Authorization: {person.headers['Authorization']}")
    return request("POST", path, *headers, body=body, length=length)


def elsewhere(site: Site, plan: str = "pro") -> httpx.Client:
    """A client with a key of a new account, at the bystander's address."""
    with site.user(plan=plan) as here:
        transport = httpx.HTTPTransport(local_address="127.0.0.2")
        return httpx.Client(base_url=site.url, transport=transport, timeout=90, headers=here.headers)


# --- attacks ----------------------------------------------------------------------------------------------------


def nothing(site: Site, seconds: float, connections: int) -> dict:
    with observed(site) as figures:
        threading.Event().wait(seconds)
    return figures


def bomb(megabytes: int = 30) -> str:
    return (BOMB_HEAD + BOMB_PIECE * (megabytes * MEGABYTE // len(BOMB_PIECE)) + BOMB_END).decode()


def body_bombs(site: Site, seconds: float, connections: int) -> dict:
    """An account sends JSON of millions of empty lists."""
    with site.user(plan="free") as person, observed(site) as figures:
        figures["answers"] = flood(site, [post_json(person, "/api/generate", bomb())], connections, seconds)
    return figures


def strangers_bodies(site: Site, seconds: float, connections: int) -> dict:
    """Nobody sends 30 MB."""
    with observed(site) as figures:
        requests = [post_json(None, "/api/generate", "x" * 30 * MEGABYTE)]
        figures["answers"] = flood(site, requests, connections, seconds)
    return figures


def slow_bodies(site: Site, seconds: float, connections: int) -> dict:
    """Half nobody, half an account, a byte a second."""
    form = request("POST", "/accounts/login/", "Content-Type: application/x-www-form-urlencoded", length=5000)
    with site.user(plan="free") as person, observed(site) as figures:
        submit = post_json(person, "/api/generate", '{"prompt": "', length=MEGABYTE)
        figures["answers"] = flood(site, [form, submit], connections, seconds, "--drip", "1")
    return figures


def half_sent(site: Site, seconds: float, connections: int) -> dict:
    """Six times as many connections: a piece of a head and a byte a second, a piece of a body, nothing."""
    heads = [
        "GET / HTTP/1.1\r\nHost: local",
        "POST /accounts/login/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\nx",
        "",
    ]
    with observed(site) as figures:
        figures["answers"] = flood(site, heads, 6 * connections, seconds, "--drip", "1")
    return figures


def long_heads(site: Site, seconds: float, connections: int) -> dict:
    """Heads of 30 MB, and a thousand requests one after the other that ask for none of the answers first."""
    head = "GET / HTTP/1.1\r\nHost: localhost\r\nX: "
    many = "GET /i/zzzzzz/ HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20000
    with observed(site) as figures:
        figures["answers"] = flood(site, [head + "x" * 30 * MEGABYTE, many], connections, seconds)
    return figures


def deaf(site: Site, seconds: float, connections: int) -> dict:
    """Asks for the largest document eight times on each connection, and reads nothing."""
    ask = "GET /api/schema HTTP/1.1\r\nHost: localhost\r\n\r\n" * 8
    with observed(site) as figures:
        figures["answers"] = flood(site, [ask], connections, seconds, "--deaf")
    return figures


def pages(site: Site, seconds: float, connections: int) -> dict:
    """Nobody reads pages that read the database."""
    with observed(site) as figures:
        requests = [request("GET", path) for path in ("/i/zzzzzz/", "/api/health", "/")]
        figures["answers"] = flood(site, requests, connections, seconds)
    return figures


def wrong_keys(site: Site, seconds: float, connections: int) -> dict:
    """Another wrong key each time, so that no two requests are of one caller."""
    keys = [f"Authorization: Bearer dsk_{number:08x}_wrong" for number in range(5000)]
    with observed(site) as figures:
        figures["answers"] = flood(site, [request("GET", "/api/usage", key) for key in keys], connections, seconds)
    return figures


def refused_submits(site: Site, seconds: float, connections: int) -> dict:
    with site.user(plan="free") as person, observed(site) as figures:
        requests = [post_json(person, "/api/generate", json.dumps({"prompt": "a boat", "steps": -1}))]
        figures["answers"] = flood(site, requests, connections, seconds)
    return figures


def slow_jpeg(scans: int, side: int = 4000) -> bytes:
    """Its last scan, over all pixels, is there again and again."""
    buffer = io.BytesIO()
    Image.new("L", (side, side), 90).save(buffer, "JPEG", progressive=True)
    head, _, last = buffer.getvalue().rpartition(b"\xff\xda")
    last = b"\xff\xda" + last.removesuffix(b"\xff\xd9")
    return head + last * scans + b"\xff\xd9"


def picture(side: int = 512) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((side, side), 50).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def drawing_of(image: bytes) -> str:
    return json.dumps({"prompt": "a boat", "image": base64.b64encode(image).decode(), "steps": 1})


def slow_pictures(site: Site, seconds: float, connections: int) -> dict:
    """An account sends pictures that are slow to read; another one sends a good picture again and again."""
    with site.user(plan="free") as person, elsewhere(site) as other, observed(site) as figures:
        requests = [post_json(person, "/api/img2img", drawing_of(slow_jpeg(scans))) for scans in (50, 6000)]
        attack = start_flood(site, requests, connections, seconds)
        figures |= uploads(other, seconds - 1)
        figures["answers"] = json.loads(attack.communicate()[0])
    return figures


def uploads(person: httpx.Client, seconds: float) -> dict:
    """How long the uploads of this account take while the block runs."""
    body, until, times, statuses = drawing_of(picture()), time.monotonic() + seconds, [], set()
    while time.monotonic() < until:
        began = time.monotonic()
        answer = person.post("/api/img2img", content=body, headers={"Content-Type": "application/json"})
        times.append(time.monotonic() - began)
        statuses.add(answer.status_code)
        time.sleep(0.3)
    times.sort()
    return {
        "uploads": len(times),
        "upload_p50": round(times[len(times) // 2], 3),
        "upload_worst": round(max(times), 3),
        "upload_statuses": sorted(statuses),
    }


def streams(site: Site, seconds: float, connections: int) -> dict:
    """An account opens five times as many event streams of a running job."""
    with site.user(plan="free") as person:
        job = person.post("/api/generate", json={"prompt": "a boat", "steps": 100}).raise_for_status().json()["id"]
        with observed(site) as figures:
            key = f"Authorization: {person.headers['Authorization']}"
            events = request("GET", f"/api/generate/{job}/events", key)
            figures["answers"] = flood(site, [events], 5 * connections, seconds)
        person.post(f"/api/generate/{job}/cancel")
    return figures


def hanging_receivers(site: Site, seconds: float, connections: int) -> dict:
    """An account has ten webhooks at receivers that never answer; another one makes its first."""
    released = threading.Event()
    with (
        Receiver(behave=lambda connection: released.wait(seconds + 60)) as hanging,
        Receiver() as receiver,
        site.user(plan="free") as person,
        elsewhere(site) as other,
        observed(site) as figures,
    ):
        hooks = [person.post("/api/webhooks", json={"url": hanging.url}).raise_for_status().json() for _ in range(10)]
        for hook in hooks * 5:
            person.post(f"/api/webhooks/{hook['id']}/test").raise_for_status()
        wait_for(lambda: hanging.messages, seconds=30, what="the hanging ones")
        figures["webhook_seconds"] = webhook_seconds(other, receiver)
        released.set()
    return figures


def webhook_seconds(person: httpx.Client, receiver: Receiver) -> float:
    """From asking for an account's first message until it is there."""
    hook = person.post("/api/webhooks", json={"url": receiver.url}).raise_for_status().json()
    began = time.monotonic()
    person.post(f"/api/webhooks/{hook['id']}/test").raise_for_status()
    with contextlib.suppress(AssertionError):
        wait_for(lambda: receiver.messages, seconds=60, every=0.01, what="the message")
    return round(time.monotonic() - began, 2)


def all_at_once(site: Site, seconds: float, connections: int) -> dict:
    """One free account and one anonymous address, each with all of these on its connections."""
    released = threading.Event()
    with (
        Receiver(behave=lambda connection: released.wait(seconds + 60)) as hanging,
        Receiver() as receiver,
        site.user(plan="free") as person,
        elsewhere(site) as other,
        elsewhere(site) as third,
        observed(site) as figures,
        ThreadPoolExecutor(1) as pool,
    ):
        for hook in [person.post("/api/webhooks", json={"url": hanging.url}).json() for _ in range(10)]:
            person.post(f"/api/webhooks/{hook['id']}/test").raise_for_status()
        submits = [post_json(person, "/api/generate", json.dumps({"prompt": "a boat", "steps": -1}))]
        pictures = [post_json(person, "/api/img2img", drawing_of(slow_jpeg(scans))) for scans in (50, 6000)]
        nobodys = [request("GET", "/i/zzzzzz/"), "GET / HTTP/1.1\r\nHost: local", request("GET", "/")]
        attacks = [
            start_flood(
                site, submits * 3 + pictures + [post_json(person, "/api/generate", bomb())], connections, seconds
            ),
            start_flood(site, nobodys, connections, seconds, "--drip", "1"),
        ]
        message = pool.submit(webhook_seconds, third, receiver)
        figures |= uploads(other, seconds - 1)
        figures["webhook_seconds"] = message.result()
        released.set()
        figures["answers"] = [json.loads(attack.communicate()[0]) for attack in attacks]
    return figures


ATTACKS = {
    function.__name__.replace("_", "-"): function
    for function in (
        nothing,
        body_bombs,
        strangers_bodies,
        slow_bodies,
        half_sent,
        long_heads,
        deaf,
        pages,
        wrong_keys,
        refused_submits,
        slow_pictures,
        streams,
        hanging_receivers,
        all_at_once,
    )
}

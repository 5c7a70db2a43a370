"""One caller with many connections: bombs, half-sent requests, many at once, slow pictures. Others notice little.

The caller and the others come from different addresses of this machine (127.0.0.1 and 127.0.0.2).
"""

import base64
import contextlib
import io
import json
import resource
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psycopg
import pytest
from PIL import Image

from dreamsketch import connections, limits, turns
from generation.storage import sanitize
from tests.site import wait_for

MEGABYTE = 1_000_000
BOMB = b'{"prompt": "a boat", "x": [' + b"[]," * (10 * MEGABYTE) + b"1]}"


@pytest.fixture(scope="module", autouse=True)
def many_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def bystander(fault_site):
    """Somebody at another address."""
    transport = httpx.HTTPTransport(local_address="127.0.0.2")
    with httpx.Client(base_url=fault_site.url, transport=transport, timeout=30) as client:
        yield client


class Visits:
    """A visitor who opens a page again and again while the block runs, on a new connection each time."""

    def __init__(self, site, path="/"):
        self.site, self.path = site, path
        self.seconds: list[float] = []
        self.statuses: list[int | str] = []
        self._over = threading.Event()

    def __enter__(self):
        httpx.get(self.site.url + self.path, timeout=30)  # the first page of a process takes longer
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._over.set()
        self._thread.join()
        if not exception[0]:
            wait_for(lambda: self.seconds, seconds=1)

    def _run(self):
        while not self._over.is_set():
            began = time.monotonic()
            try:
                transport = httpx.HTTPTransport(local_address="127.0.0.2")
                with httpx.Client(base_url=self.site.url, transport=transport, timeout=30) as client:
                    self.statuses.append(client.get(self.path).status_code)
            except httpx.HTTPError as error:
                self.statuses.append(repr(error))
            self.seconds.append(time.monotonic() - began)
            self._over.wait(0.05)

    @property
    def worst(self) -> float:
        return max(self.seconds)

    @property
    def p95(self) -> float:
        return sorted(self.seconds)[int(0.95 * (len(self.seconds) - 1))]

    def __str__(self):
        return f"{len(self.seconds)} pages, p95 {self.p95:.2f} s, worst {self.worst:.2f} s, {set(self.statuses)}"


def memory(site) -> int:
    """Megabytes of the web process."""
    (web,) = site.children("web")
    return web.memory_info().rss // MEGABYTE


@contextlib.contextmanager
def watched(measure):
    """The largest value of `measure()` while the block runs, as the last item of a list."""
    most, over = [0], threading.Event()

    def run():
        while not over.is_set():
            most.append(max(most[-1], measure()))
            over.wait(0.05)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def half_sent(site, head: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", site.port), timeout=30)
    connection.sendall(head)
    return connection


def first_line(connection: socket.socket) -> bytes:
    return connection.recv(4096).partition(b"\r\n")[0]


def test_seven_json_bombs_take_little_memory_and_give_it_back(fault_site):
    before = memory(fault_site)
    with fault_site.user() as person, watched(lambda: memory(fault_site)) as peak, Visits(fault_site) as visits:

        def throw(_):
            headers = {"Content-Type": "application/json"}
            return person.post("/api/generate", content=BOMB, headers=headers)

        with ThreadPoolExecutor(7) as pool:
            answers = list(pool.map(throw, range(7)))
    statuses = [answer.status_code for answer in answers]
    print(f"web process: {before} MB, at most {peak[-1]} MB, then {memory(fault_site)} MB; {statuses}; {visits}")
    assert set(statuses) <= {413, 429} and 413 in statuses
    assert all(answer.json()["error"]["code"] in ("too_large", "too_many_calls") for answer in answers)
    assert peak[-1] <= 400
    wait_for(lambda: memory(fault_site) < before + 60, seconds=10, what="memory given back")
    assert set(visits.statuses) == {200} and visits.worst < 2


@pytest.mark.parametrize(
    "path", ["/api/generate", "/v1/images/edits", "/sdapi/v1/img2img", "/inference/images/generations"]
)
@pytest.mark.parametrize("shown", ["", "Authorization: Bearer dsk_0a1b2c3d_wrong\r\n", "Cookie: sessionid=abc\r\n"])
def test_a_strangers_large_body_is_refused_by_its_head(fault_site, path, shown):
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{shown}"
    with half_sent(fault_site, f"{head}Content-Length: 30000000\r\n\r\n".encode()) as connection:
        assert first_line(connection).split()[1] in (b"401", b"403")


def test_twelve_hundred_half_sent_requests_leave_room_for_others(fault_site):
    heads = [
        b"GET / HTTP/1.1\r\nHost: local",
        b"POST /accounts/login/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\nx",
        b"",
    ]
    (web,) = fault_site.children("web")
    before = web.num_fds()
    with contextlib.ExitStack() as stack, Visits(fault_site) as visits:
        for number in range(1200):
            stack.enter_context(half_sent(fault_site, heads[number % 3]))
        flooded = web.num_fds()

        def trimmed():
            stack.enter_context(half_sent(fault_site, heads[0]))  # one more, and older ones go
            return web.num_fds() <= before + connections.PER_ADDRESS + 50

        wait_for(trimmed, seconds=8, every=0.5, what="the older ones closed")
        left = web.num_fds()
    print(f"descriptors: {before}, at most {flooded}, then {left}; {visits}")
    assert set(visits.statuses) == {200} and visits.worst < 2


def test_answers_that_nobody_reads_are_not_kept(fault_site):
    """Two hundred callers ask for the largest document and read nothing."""
    before = memory(fault_site)
    (web,) = fault_site.children("web")
    descriptors = web.num_fds()
    request = b"GET /api/schema HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20
    with contextlib.ExitStack() as stack, Visits(fault_site) as visits:

        def ask():
            unread = stack.enter_context(socket.socket())
            unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            unread.connect(("127.0.0.1", fault_site.port))
            unread.sendall(request)

        def few_are_left():
            ask()  # one more, and older ones go
            return web.num_fds() <= descriptors + connections.UNREAD_PER_ADDRESS + 50

        for _ in range(200):
            ask()
        wait_for(few_are_left, seconds=20, every=0.5, what="most of them closed")
        held = memory(fault_site)
    print(f"web process: {before} MB, then {held} MB with {web.num_fds() - descriptors} more descriptors; {visits}")
    assert held <= 400
    assert set(visits.statuses) == {200} and visits.worst < 2


def database_connections(site) -> int:
    (web,) = site.children("web")
    with psycopg.connect(web.environ()["DATABASE_URL"]) as connection:
        count = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
        return connection.execute(count).fetchone()[0]


@pytest.mark.parametrize("who", ["a stranger", "an account"])
def test_two_hundred_requests_at_once_leave_connections_and_turns_for_others(fault_site, who):
    head = "Host: localhost\r\nConnection: close\r\n"
    requests = [f"GET {path} HTTP/1.1\r\n{head}\r\n" for path in ("/i/zzzzzz/", "/api/health")]
    if who == "an account":
        with fault_site.user(plan="free") as person:
            head += f"Authorization: {person.headers['Authorization']}\r\nContent-Type: application/json\r\n"
        refused = json.dumps({"prompt": "a boat", "steps": -1})
        requests = [f"POST /api/generate HTTP/1.1\r\n{head}Content-Length: {len(refused)}\r\n\r\n{refused}"]
    with watched(lambda: database_connections(fault_site)) as database, Visits(fault_site) as visits:
        statuses = flood(fault_site, requests, connections=200, count=600)
    print(f"{who}: {statuses}; database connections at most {database[-1]}; {visits}")
    assert set(statuses) <= {"200", "400", "404", "429"} and sum(statuses.values()) == 600
    assert database[-1] <= 60
    assert set(visits.statuses) == {200} and visits.worst < 2


def flood(site, requests: list[str], *, connections: int, count: int) -> dict[str, int]:
    """Send `count` requests over as many connections at a time, each in turn; returns how many had which status."""
    program = [sys.executable, str(Path(__file__).with_name("flood.py")), str(site.port), str(connections), str(count)]
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    return json.loads(subprocess.run(program, input=lines, capture_output=True, check=True, text=True).stdout)


def slow_jpeg(scans: int, side: int = 4000) -> bytes:
    """Its last scan, over all pixels, is there again and again."""
    buffer = io.BytesIO()
    Image.new("L", (side, side), 90).save(buffer, "JPEG", progressive=True)
    head, _, last = buffer.getvalue().rpartition(b"\xff\xda")
    last = b"\xff\xda" + last.removesuffix(b"\xff\xd9")
    return head + last * scans + b"\xff\xd9"


def test_slow_pictures_of_one_account_do_not_hold_up_another(fault_site):
    slow = base64.b64encode(slow_jpeg(sanitize.MAX_SCANS - 12)).decode()
    many = base64.b64encode(slow_jpeg(6000)).decode()
    good = io.BytesIO()
    Image.effect_noise((512, 512), 50).convert("RGB").save(good, "PNG")
    with fault_site.user() as hostile, fault_site.user() as other, ThreadPoolExecutor(24) as pool:

        def draw(person, image):
            began = time.monotonic()
            answer = person.post("/api/img2img", json={"prompt": "a boat", "image": image, "steps": 1}, timeout=60)
            return answer.status_code, time.monotonic() - began

        bad = [pool.submit(draw, hostile, (slow, many)[number % 2]) for number in range(16)]
        wait_for(lambda: any(future.done() for future in bad), seconds=30, what="the first of the slow ones")
        status, seconds = draw(other, base64.b64encode(good.getvalue()).decode())
        refused = [future.result()[0] for future in bad]
    print(f"another account's picture: {seconds:.2f} s, {status}; the slow ones: {sorted(refused)}")
    assert status == 200 and seconds < 3
    assert set(refused) <= {200, 400, 429} and 400 in refused


def test_bounds_fit_together():
    assert turns.TURNS_PER_CALLER < turns.TURNS_PER_ADDRESS < turns.TURNS < 60
    assert limits.SMALL * connections.PER_ADDRESS < 100 * MEGABYTE

"""The API under load: submits, status polls, a long history, held event streams. Each against a naive design.

    .venv/bin/python bench/api.py [--rows 1000000] [--watchers 1000] [--seconds 15] [--only submit,history]
                                  >> bench/results.jsonl

A site of real processes (`manage.py up`) with the fake engine, so that only the service is measured; the load
comes from this process, on the same cores. The naive sides are what such programs commonly do, in the same
run and on the same data:

submit    `POST /api/generate`, and the same asked one by one with a poll every 2 s until its bytes are there,
          against our event stream: submit to bytes, less the drawing itself (B4)
status    `GET /api/status/{id}` of a running job
gallery   the gallery's results as a browser asks for them, under each filter, order and search, over as many images
history   a page of 50 by cursor at several depths, against OFFSET and COUNT(*) as Django's Paginator asks (B9)
watchers  event streams held by one web process while jobs report progress: memory, Redis connections, delivery
          (B8); naive: one Redis subscription for each stream, in a server of its own
bytes     a thumbnail of 200 kB and a picture of 1.5 MB with the permission check (B12): sent by the site, by nginx when
          the site says so (MEDIA_ACCEL_REDIRECT), and by nginx without asking; needs nginx and wrk on the PATH

Prints one JSON line per part. Latencies in milliseconds.
"""

import argparse
import asyncio
import concurrent.futures
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import httpx
import psutil

from tests.site import ROOT, Site, wait_for

PROMPT = {"prompt": "a red boat at sea", "steps": 2, "width": 128, "height": 128}
STREAMS_EACH = 8
PARTS = ("submit", "status", "history", "gallery", "watchers", "bytes")


def percentiles(seconds: list[float]) -> dict:
    ordered = sorted(seconds)
    return {
        "p50": round(1000 * statistics.median(ordered), 2),
        "p95": round(1000 * ordered[int(0.95 * (len(ordered) - 1))], 2),
    }


def hammer(site, key, call, seconds: float, threads: int = 4) -> dict:
    """`call(client)` again and again from a few threads."""
    deadline = time.monotonic() + seconds

    def work(_):
        times = []
        with httpx.Client(base_url=site.url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
            while time.monotonic() < deadline:
                began = time.perf_counter()
                call(client).raise_for_status()
                times.append(time.perf_counter() - began)
        return times

    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        times = [each for part in pool.map(work, range(threads)) for each in part]
    return {"requests": len(times), "a_second": round(len(times) / (time.monotonic() - began), 1)} | percentiles(times)


def submit(site, key, options) -> dict:
    throughput = hammer(site, key, lambda client: client.post("/api/generate", json=PROMPT), options.seconds)
    with httpx.Client(base_url=site.url, headers={"Authorization": f"Bearer {key}"}, timeout=120) as client:
        wait_until_idle(client)
        overhead = {"streamed": [], "polled_every_2_s": []}
        for turn in range(14):
            name = ("streamed", "polled_every_2_s")[turn % 2]
            began = time.perf_counter()
            job = client.post("/api/generate", json=PROMPT).json()
            status = (follow if turn % 2 == 0 else poll)(client, job)
            client.get(status["images"][0]["imageUrl"]).raise_for_status()
            overhead[name].append(time.perf_counter() - began)
    drawing = 2 * float(site.environment["FAKE_SECONDS_PER_STEP"])
    less = {name: [each - drawing for each in times] for name, times in overhead.items()}
    ratio = statistics.median(less["polled_every_2_s"]) / statistics.median(less["streamed"])
    return {
        "submit": throughput,
        "submit_to_bytes_less_drawing": {n: percentiles(t) for n, t in less.items()},
        "polled_over_streamed": round(ratio, 1),
    }


def wait_until_idle(client) -> None:
    while client.get("/api/status/").json()["queue"]["queued"]:
        time.sleep(0.5)


def follow(client, job) -> dict:
    """The final status, as the event stream tells it."""
    with client.stream("GET", job["events_url"]) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: {") and '"completed"' in line and '"images"' in line:
                return json.loads(line[6:])
    raise RuntimeError("the stream ended before the job")


def poll(client, job) -> dict:
    while True:
        status = client.get(job["status_url"]).json()
        if status["status"] == "completed":
            return status
        time.sleep(2)


def status_part(site, key, options) -> dict:
    job = site.manage("shell", "--no-imports", "-c", RUNNING_JOBS.format(users=1, each=1)).split()[-1]
    owner = job.split(":")
    return {"status": hammer(site, owner[1], lambda client: client.get(f"/api/status/{owner[0]}"), options.seconds)}


SEED = """
import uuid
from django.db import connection
from accounts.models import ApiKey, User
from generation.models import GeneratedImage, Generation
from django.utils import timezone
user = User.objects.create_user("million@example.com", plan="pro")
rows, now = {rows}, timezone.now()
with connection.cursor() as cursor:
    cursor.execute("SET statement_timeout = 0")
    fields = ("id owner_id source prompt negative_prompt style composed_prompt composed_negative_prompt model width"
              " height steps guidance_scale sampler seed num_images mode options visibility status deadline_at priority"
              " epoch attempt worker cancel_requested phase step image_count error_code error_message"
              " fingerprint").split()
    with cursor.copy(f"COPY generation_generation ({{', '.join(fields)}}) FROM STDIN") as copy:
        generations = []
        for _ in range(rows // 4):
            generations.append(uuid.uuid4())
            copy.write_row((generations[-1], user.pk, "api", "a boat", "", "", "a boat", "", "dreamsketch-tiny",
                            256, 256, 20, 4.0, "Euler", 1, 4, "txt2img", "{{}}", "private", "completed", now, 20,
                            1, 1, "", False, "done", 80, 4, "", "", ""))
    fields = ("id short_id generation_id owner_id index seed file thumbnail width height file_size sha256 colour"
              " generation_time title visibility favourite").split()
    with cursor.copy(f"COPY generation_generatedimage ({{', '.join(fields)}}) FROM STDIN") as copy:
        for n in range(rows):
            name = uuid.uuid4()
            copy.write_row((name, f"{{n:012x}}", generations[n // 4] if n // 4 < len(generations) else generations[-1],
                            user.pk, n % 4, 1, f"generated_images/{{name}}.png", f"thumbnails/{{name}}.webp", 256, 256,
                            1000, "", "#888888", 1.0, "", "private", False))
    cursor.execute("ANALYZE")
print(ApiKey.issue(user=user, name="bench")[1])
"""

NAIVE_HISTORY = """
import json, time
from django.core.paginator import Paginator
from accounts.models import User
from generation.models import GeneratedImage
user = User.objects.get(email="million@example.com")
own = GeneratedImage.objects.filter(owner=user, deleted_at=None).select_related("generation").order_by("-number")
report = {{}}
for page in {pages}:
    times = []
    for _ in range(5):
        began = time.perf_counter()
        paginator = Paginator(own, 50)
        list(paginator.page(page).object_list), paginator.count
        times.append(time.perf_counter() - began)
    report[page] = round(1000 * sorted(times)[2], 2)
print(json.dumps(report))
"""


def history(site, _, options) -> dict:
    key = site.manage_slowly(SEED.format(rows=options.rows))
    pages = [page for page in (1, 1000, 20000) if page * 50 <= options.rows]
    with httpx.Client(base_url=site.url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
        newest = int(client.get("/api/images/history?perPage=1").json()["nextCursor"])
        ours, answer = {}, {}
        for page in pages:
            address, times = f"/api/images/history?perPage=50&cursor={newest + 1 - (page - 1) * 50}", []
            for _ in range(60):
                began = time.perf_counter()
                answer = client.get(address).raise_for_status().json()
                times.append(time.perf_counter() - began)
                assert len(answer["images"]) == 50
            ours[page] = percentiles(times[10:])
    naive = json.loads(site.manage_slowly(NAIVE_HISTORY.format(pages=pages)).splitlines()[-1])
    return {
        "rows": options.rows,
        "by_cursor_over_http": ours,
        "paginator_queries_alone": naive,
        "total": answer["total"],
        "ratio_at_the_deepest": round(naive[str(pages[-1])] / ours[pages[-1]]["p50"], 1),
    }


GALLERY_SEED = """
import datetime as dt, json, random, uuid
from django.db import connection
from django.utils import timezone
from accounts.models import User
user = User.objects.create_user("walls@example.com", "correct horse battery", plan="pro")
rows, now, chance = {rows}, timezone.now(), random.Random(1)
words = [f"{{a}}{{b}}{{c}}" for a in ("ka", "lo", "mi", "sta", "ver", "tu") for b in ("ran", "del", "pos", "mur", "ten")
         for c in ("a", "el", "ing", "or", "us", "y", "in", "ett")]
weights = [1 / (n + 1) for n in range(len(words))]
models, styles = ("sdxl-base", "sd-1-5", "dreamsketch-tiny", "seldom"), ("", "", "anime", "vintage", "grunge")
sizes = ((512, 512), (1024, 1024), (832, 1216), (1216, 832), (2048, 2048))
start = json.dumps({{"start": {{"image": {{"name": "x", "width": 8, "height": 8, "digest": ""}}, "strength": 0.5,
                               "fit": "stretch", "mask": None, "mask_blur": 4, "fill": "original", "padding": None,
                               "expand": None}}}})
cjk = "山川海空森月日花鳥風雪星夜光影城"
with connection.cursor() as cursor:
    cursor.execute("SET statement_timeout = 0")
    fields = ("id owner_id source prompt negative_prompt style composed_prompt composed_negative_prompt model width"
              " height steps guidance_scale sampler seed num_images mode options visibility status deadline_at priority"
              " epoch attempt worker cancel_requested phase step image_count error_code error_message"
              " fingerprint").split()
    generations = []
    with cursor.copy(f"COPY generation_generation ({{', '.join(fields)}}) FROM STDIN") as copy:
        for n in range(rows // 2):
            prompt = " ".join(chance.choices(words, weights, k=14)) + f" boat{{n % 997}}"
            if n % 50 == 0:
                prompt += " café " + "".join(chance.choices(cjk, k=6))
            if n % 20000 == 7:
                prompt += " unicorn"
            width, height = sizes[n % 5]
            mode = "inpaint" if n % 100 == 3 else "img2img" if n % 10 == 3 else "txt2img"
            options = "{{}}" if mode == "txt2img" else start
            model = models[3] if n % 5000 == 9 else models[n % 3]
            generations.append((uuid.uuid4(), width, height))
            copy.write_row((generations[-1][0], user.pk, "page", prompt, "", styles[n % 5], prompt, "", model, width,
                            height, 20, 4.0, "Euler", 1, 2, mode, options, "private", "completed", now, 20,
                            1, 1, "", False, "done", 80, 2, "", "", ""))
    fields = ("id short_id generation_id owner_id index seed file thumbnail width height file_size sha256 colour"
              " generation_time title visibility favourite created_at thumbnail_size").split()
    with cursor.copy(f"COPY generation_generatedimage ({{', '.join(fields)}}) FROM STDIN") as copy:
        for n in range(rows // 2 * 2):
            name, (generation, width, height) = uuid.uuid4(), generations[n // 2]
            made = now - dt.timedelta(seconds=40 * (rows - n))
            copy.write_row((name, f"{{n:012x}}", generation, user.pk, n % 2, 1, f"generated_images/{{name}}.png",
                            f"thumbnails/{{name}}.webp", width, height, 1000, "", "#888888", 1.0, "",
                            "public" if n % 200 == 0 else "private", n % 300 == 0, made, 1024))
    cursor.execute("VACUUM ANALYZE generation_generatedimage")
    cursor.execute("VACUUM ANALYZE generation_generation")
"""

GALLERY_QUERIES = {
    "everything": "",
    "model": "model=sdxl-base",
    "a model seldom used": "model=seldom",
    "style": "style=vintage",
    "mode": "mode=inpaint",
    "source": "source=yes",
    "shape": "shape=portrait",
    "size": "size=huge",
    "visibility": "visibility=public",
    "favourite": "favourite=yes",
    "last 7 days": "days=7",
    "two days long ago": "since={old}&until={old2}",
    "oldest first": "sort=oldest",
    "largest first": "sort=largest",
    "three filters": "model=sdxl-base&style=vintage&shape=landscape",
    "search, a word of most": "q=karana",
    "search, a word of some": "q=boat7",
    "search, a word of few": "q=unicorn",
    "search, a beginning": "q=kar",
    "search, two words": "q=karana+tupos",
    "search, a phrase": "q=%22karana+karanel%22",
    "search, accents": "q=cafe",
    "search, Chinese": "q=%E5%B1%B1%E5%B7%9D",
    "search, nothing": "q=elephant",
    "search and filter": "q=karana&style=vintage&visibility=public",
}


def gallery(site, _, options) -> dict:
    """Each as htmx asks for it: forty cards and how many there are."""
    site.manage_slowly(GALLERY_SEED.format(rows=options.rows))
    report, deep = {}, {}
    with httpx.Client(base_url=site.url, timeout=60, headers={"Accept-Encoding": "identity"}) as client:
        client.get("/accounts/login/").raise_for_status()
        form = {"login": "walls@example.com", "password": "correct horse battery"}
        headers = {"X-CSRFToken": client.cookies["csrftoken"], "Referer": site.url}
        assert client.post("/accounts/login/", data=form, headers=headers).status_code == 302
        htmx = {"HX-Request": "true", "HX-Current-URL": f"{site.url}/gallery/"}
        ago = time.gmtime(time.time() - 40 * options.rows * 0.6)
        old, old2 = time.strftime("%Y-%m-%d", ago), time.strftime("%Y-%m-%d", time.gmtime(time.mktime(ago) + 86400))
        for name, query in GALLERY_QUERIES.items():
            address, times = f"/gallery/?{query.format(old=old, old2=old2)}", []
            for _ in range(60):
                began = time.perf_counter()
                answer = client.get(address, headers=htmx).raise_for_status()
                times.append(time.perf_counter() - began)
            count = re.search(r'id="result-count"[^>]*>([^<]*)', answer.text)[1].strip()
            report[name] = percentiles(times[10:]) | {"count": count}
        whole = f"/gallery/?before={options.rows // 10}"
        for name, headers in (("page_from_the_depth", htmx), ("whole_page", {})):
            times = []
            for _ in range(60):
                began = time.perf_counter()
                client.get(whole, headers=headers).raise_for_status()
                times.append(time.perf_counter() - began)
            deep[name] = percentiles(times[10:])
    return {"rows": options.rows, "worst_p95": max(each["p95"] for each in report.values()), "filters": report} | deep


RUNNING_JOBS = """
import datetime as dt
from django.utils import timezone
from accounts.models import ApiKey, User
from generation.models import Generation
now = timezone.now()
later = now + dt.timedelta(hours=1)
import uuid
for n in range({users}):
    user = User.objects.create_user(f"{{uuid.uuid4().hex}}@example.com", plan="pro")
    key = ApiKey.issue(user=user, name="bench")[1]
    for _ in range({each}):
        job = Generation.objects.create(
            owner=user, prompt="a boat", composed_prompt="a boat", model="dreamsketch-tiny", width=256, height=256,
            steps=20, guidance_scale=4, sampler="Euler", seed=1, priority=20, owner_slots=2, status="processing",
            started_at=now, lease_until=later, deadline_at=later, worker="bench")
        print(f"{{job.pk}}:{{key}}:{{user.pk}}")
"""

PUBLISH = """
import sys, time
from generation import progress
jobs = [line.split(":") for line in sys.stdin.read().split()]
end, step = time.monotonic() + {seconds}, 0
while time.monotonic() < end:
    step += 1
    began = time.monotonic()
    for job, _, owner in jobs:
        # The moment of sending travels where the remaining seconds would.
        progress.publish_progress(job, int(owner), phase="generating", step=step, steps=10**6, eta_seconds=time.time())
    time.sleep(max(0, 1 / {rate} - (time.monotonic() - began)))
"""


def watchers(site, _, options) -> dict:
    users = -(-options.watchers // STREAMS_EACH)
    lines = site.manage_slowly(RUNNING_JOBS.format(users=users, each=1)).split()
    web = site.children("web")[0]
    ours = asyncio.run(watch(site, lines, options, web, site.url, "/api/generate/{job}/events"))
    with naive_server(site) as (naive, url):
        theirs = asyncio.run(watch(site, lines, options, naive, url, "/{job}"))
    return {"watchers": options.watchers, "one_subscription": ours, "one_for_each_stream": theirs}


async def watch(site, lines, options, process, url, path) -> dict:
    """Hold the streams, let the jobs report, and say what it cost."""
    address = re.fullmatch(r"http://([\d.]+):(\d+)", url)
    idle = memory(process)
    delays: list[float] = []
    streams = []

    async def hold(line):
        job, key, _ = line.split(":")
        reader, writer = await asyncio.open_connection(address[1], int(address[2]))
        writer.write(
            f"GET {path.format(job=job)} HTTP/1.1\r\nHost: {address[1]}\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
        )
        opened.release()
        streams.append(writer)
        try:
            while line := await reader.readline():
                if b'"eta_seconds": 1' in line and b'"step"' in line:
                    match = re.search(rb'"eta_seconds": (\d{9,}\.\d+)', line)
                    if match:
                        delays.append(time.time() - float(match[1]))
                elif b"HTTP/1.1" in line and b" 200 " not in line:
                    refused.append(line)
        except (ConnectionError, asyncio.CancelledError):
            pass

    opened, refused = asyncio.Semaphore(0), []
    tasks = []
    for n in range(options.watchers):
        tasks.append(asyncio.create_task(hold(lines[n // STREAMS_EACH])))
        await opened.acquire()
        if n % 20 == 19:
            await asyncio.sleep(0.2)
    await asyncio.sleep(5)
    held = memory(process)
    connections = redis_connections(site)
    spent = sum(process.cpu_times()[:2])
    publisher = await asyncio.create_subprocess_exec(
        sys.executable,
        "manage.py",
        "shell",
        "--no-imports",
        "-c",
        PUBLISH.format(seconds=options.seconds, rate=1),
        cwd=ROOT,
        env=site.environment,
        stdin=asyncio.subprocess.PIPE,
    )
    await publisher.communicate("\n".join(lines).encode())
    spent = sum(process.cpu_times()[:2]) - spent
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for writer in streams:
        writer.close()
    ordered = sorted(delays) or [float("nan")]
    return {
        "held": options.watchers - len(refused),
        "threads": process.num_threads(),
        "kib_a_watcher": round((held - idle) / options.watchers / 1024, 1),
        "redis_connections": connections,
        "events": len(delays),
        "cpu_seconds": round(spent, 2),
        "delivery_ms": {
            "p50": round(1000 * statistics.median(ordered), 1),
            "p99": round(1000 * ordered[int(0.99 * (len(ordered) - 1))], 1),
        },
    }


def memory(process) -> int:
    return process.memory_full_info().uss


def redis_connections(site) -> int:
    return int(
        site.manage(
            "shell", "--no-imports", "-c", "from generation import progress; print(len(progress._client.client_list()))"
        ).split()[-1]
    )


NAIVE = """
import json, sys
import redis.asyncio


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    import os
    job = scope["path"].strip("/")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    client = redis.asyncio.Redis.from_url(os.environ["NAIVE_REDIS"])
    async with client.pubsub() as subscription:
        await subscription.subscribe("dreamsketch:live")
        async for message in subscription.listen():
            if message["type"] == "message" and job in message["data"].decode():
                data = json.dumps(json.loads(message["data"])["data"])
                await send({"type": "http.response.body", "body": f"data: {data}\\n\\n".encode(), "more_body": True})
"""


class naive_server:
    """A server with a Redis subscription for every stream, on a port of its own."""

    def __init__(self, site):
        self.site = site

    def __enter__(self):
        redis_url = self.site.manage(
            "shell", "--no-imports", "-c", "from django.conf import settings; print(settings.REDIS_URL)"
        ).split()[-1]
        folder = Path(tempfile.mkdtemp(dir=self.site.var))
        (folder / "naive_events.py").write_text(NAIVE)
        port = self.site.port + 1
        self.process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "naive_events:app", "--port", str(port), "--log-level", "error"],
            cwd=folder,
            env=os.environ | {"NAIVE_REDIS": redis_url},
        )
        wait_for(lambda: is_open(port), seconds=30, what="the naive server")
        return psutil.Process(self.process.pid), f"http://127.0.0.1:{port}"

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


NGINX = """
worker_processes 1;
daemon off;
error_log stderr;
pid {folder}/nginx.pid;
user root;
events {{ }}
http {{
    access_log off;
    sendfile on;
    types {{ }}
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream site {{ server 127.0.0.1:{site.port}; keepalive 16; }}
    server {{
        listen 127.0.0.1:{port};
        location /plain/ {{ alias {media}/; }}
        location /_media/ {{ internal; alias {media}/; }}
        location / {{
            proxy_pass http://site;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host 127.0.0.1:{site.port};
        }}
    }}
}}
"""
LARGE, SMALL = 1_500_000, 200_000


def picture_bytes(site, key, options) -> dict:
    if not (shutil.which("nginx") and shutil.which("wrk")):
        return {"left_out": "nginx or wrk is not installed"}
    with (
        tempfile.TemporaryDirectory(dir=site.var) as var,
        BenchSite(
            Path(var), DREAMSKETCH_ENGINE="fake", API_CALLS_PER_MINUTE="1000000", MEDIA_ACCEL_REDIRECT="/_media/"
        ) as redirecting,
    ):
        return {"concurrency": 8} | {
            "sent_by_the_site": measured_bytes(site, options, lambda site: nullcontext(site.url), ""),
            "sent_by_nginx": measured_bytes(redirecting, options, nginx, ""),
            "nginx_without_asking": measured_bytes(redirecting, options, nginx, "/plain/"),
        }


def measured_bytes(site, options, front, plain: str) -> dict:
    """Requests a second and latencies of both files, through what `front` puts before the site."""
    with site.user() as client, front(site) as url:
        job = client.post("/api/generate", json=PROMPT).json()
        image = follow(client, job)["images"][0]
        names = site.manage(
            "shell",
            "--no-imports",
            "-c",
            f"""
from generation.models import GeneratedImage
image = GeneratedImage.objects.get(id={image["id"]!r})
print(image.file, image.thumbnail)""",
        ).split()[-2:]
        report = {}
        for name, address, size in zip(names, (image["imageUrl"], image["thumbnailUrl"]), (LARGE, SMALL), strict=True):
            (site.var / "media" / name).write_bytes(os.urandom(size))
            path = plain + name if plain else httpx.URL(address).path
            answer = client.get(f"{url}{path}").raise_for_status()
            assert len(answer.content) == size, f"{len(answer.content)} bytes came"
            report[f"{size // 1000} kB"] = wrk(f"{url}{path}", client.headers["Authorization"], options.seconds)
    return report


@contextmanager
def nginx(site):
    """nginx before the site; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(dir=site.var))
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, site=site, port=port, media=site.var / "media"))
    process = subprocess.Popen(["nginx", "-c", folder / "nginx.conf"])
    try:
        wait_for(lambda: is_open(port), seconds=10, what="nginx")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wrk(url: str, authorization: str, seconds: float) -> dict:
    output = subprocess.run(
        ["wrk", "-t1", "-c8", f"-d{seconds:.0f}s", "--latency", "-H", f"Authorization: {authorization}", url],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "Non-2xx" not in output, output
    units = {"us": 0.001, "ms": 1.0, "s": 1000.0}
    late = {
        part: round(float(match[1]) * units[match[2]], 2)
        for part in ("50", "99")
        if (match := re.search(rf"{part}%\s+([\d.]+)(us|ms|s)", output))
    }
    return {
        "per_second": round(float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1]), 1),
        "p50": late["50"],
        "p99": late["99"],
    }


class BenchSite(Site):
    def manage_slowly(self, code: str) -> str:
        """As `manage shell`, without a time limit; the last line that it prints."""
        result = subprocess.run(
            [sys.executable, "manage.py", "shell", "--no-imports", "-c", code],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            raise RuntimeError(result.stderr)
        return result.stdout.strip()


RUN = {
    "submit": submit,
    "status": status_part,
    "history": history,
    "gallery": gallery,
    "watchers": watchers,
    "bytes": picture_bytes,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--watchers", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--only", default=",".join(PARTS))
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        BenchSite(
            Path(folder),
            DREAMSKETCH_ENGINE="fake",
            FAKE_SECONDS_PER_STEP="0.01",
            API_CALLS_PER_MINUTE="1000000",
            REQUESTS_PER_HOUR="1000000",
        ) as site,
    ):
        key = site.manage(
            "create_user", "staff@example.com", "--staff", "--password", "correct horse battery", "--api-key"
        ).split()[-1]
        for name in options.only.split(","):
            print(
                json.dumps(
                    {
                        "bench": f"api-{name}",
                        "date": time.strftime("%Y-%m-%d"),
                        "cores": os.cpu_count(),
                        "load": round(os.getloadavg()[0], 2),
                    }
                    | RUN[name](site, key, options)
                ),
                flush=True,
            )


if __name__ == "__main__":
    main()

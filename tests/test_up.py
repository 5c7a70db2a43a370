"""`manage.py up`: it starts everything, says plainly what is wrong, and leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys

import httpx
import psutil
import psycopg
import pytest
import redis

from tests.site import ROOT, Site, wait_for


def test_it_serves_pages_and_api_without_torch_in_the_web_process(site):
    assert httpx.get(site.url).status_code == 200
    assert httpx.get(f"{site.url}/api/health/").json()["status"] == "ok"
    web = site.children("web")[0]
    libraries = {mapped.path for mapped in web.memory_maps()}
    assert not any("libtorch" in path for path in libraries)


def test_a_port_in_use_is_said_plainly(site):
    result = subprocess.run(
        [sys.executable, "manage.py", "up", "--port", str(site.port)],
        cwd=ROOT,
        env=site.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 1
    assert f"Port {site.port}" in result.stderr and "--port" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_every_child_and_starts_again_with_its_data(tmp_path, number):
    with Site(tmp_path, DREAMSKETCH_ENGINE="fake") as running:
        with running.user() as person:
            submitted = person.post("/api/generate", json={"prompt": "a red boat", "steps": 3}).json()
            wait_for(lambda: person.get(submitted["status_url"]).json()["status"] == "completed", seconds=30)
        before = psutil.Process(running.process.pid).children(recursive=True)
        running.process.send_signal(number)
        running.process.wait(40)
        assert running.process.returncode == 0
        assert "stopped" in running.output()
    _, alive = psutil.wait_procs(before, timeout=10)
    assert alive == []
    assert not (tmp_path / "postgres" / "postmaster.pid").exists()

    with Site(tmp_path, DREAMSKETCH_ENGINE="fake") as again, httpx.Client(headers=person.headers) as same:
        history = same.get(f"{again.url}/api/images/history/").json()
        assert [image["prompt"] for image in history["images"]] == ["a red boat"]
        assert again.audit() == {}


def test_one_that_was_killed_is_taken_over_by_the_next_start_and_stopped_with_it(tmp_path):
    with Site(tmp_path, DREAMSKETCH_ENGINE="fake") as killed:
        children = psutil.Process(killed.process.pid).children(recursive=True)
        killed.process.kill()
        killed.process.wait()
        _, alive = psutil.wait_procs(children, timeout=30)
        assert alive == []  # they do not outlive it
    with Site(tmp_path, DREAMSKETCH_ENGINE="fake") as again:
        assert again.audit() == {}
    assert not (tmp_path / "postgres" / "postmaster.pid").exists()
    with pytest.raises(redis.ConnectionError):
        redis.Redis.from_url((tmp_path / "redis" / "url").read_text()).ping()


def test_given_addresses_win_over_embedded_servers(site, tmp_path):
    """A site of its own on somebody else's Postgres and Redis starts no servers."""
    database = f"postgresql://postgres:@/given?host={site.var / 'postgres'}"
    with psycopg.connect(f"postgresql://postgres:@/postgres?host={site.var / 'postgres'}", autocommit=True) as server:
        server.execute("CREATE DATABASE given")
    broker = (site.var / "redis" / "url").read_text().removesuffix("0") + "9"
    environment = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    environment |= {"VAR_DIR": str(tmp_path), "DATABASE_URL": database, "REDIS_URL": broker}
    migrate = [sys.executable, "manage.py", "migrate", "-v", "0"]
    subprocess.run(migrate, cwd=ROOT, env=environment, check=True, timeout=90)
    assert not (tmp_path / "postgres").exists() and not (tmp_path / "redis").exists()
    assert redis.Redis.from_url(broker).ping()


def test_a_body_that_is_too_large_is_refused_before_it_is_received(site):
    with socket.create_connection(("127.0.0.1", site.port), timeout=10) as connection:
        connection.sendall(b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999999\r\n\r\n")
        assert connection.recv(200).startswith(b"HTTP/1.1 413")


def test_first_starts_at_once_all_work(tmp_path):
    """Of one folder without anything in it: each makes the servers, the key and the tables, or finds them made."""
    environment = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    starts = [
        subprocess.Popen(
            [sys.executable, "manage.py", "migrate", "-v", "0"],
            cwd=ROOT,
            env=environment | {"VAR_DIR": str(tmp_path)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    ends = [(start.communicate(timeout=150)[1], start.returncode) for start in starts]
    print(f"{sum(code == 0 for _, code in ends)} of {len(ends)} worked")
    assert [code for _, code in ends] == [0] * len(ends), "\n".join(error[-1500:] for error, _ in ends)
    assert [path.name for path in tmp_path.glob("secret_key*")] == ["secret_key"]

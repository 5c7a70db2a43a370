"""Is this container well? Exit code 0 or 1, with a line that says why.

    python deploy/health.py web       the web process answers and reaches Postgres
    python deploy/health.py worker    the generation worker of this container reported within 30 seconds

Without Django, so that it costs next to nothing each time. Reads the same environment as the site.
"""

import json
import os
import socket
import sys
import time
import urllib.error
import urllib.request

WORKER_SECONDS = 30
"""As in `generation.progress`, which this program does not import: it would bring Django."""


def web() -> str:
    host = next(iter(os.environ.get("DJANGO_ALLOWED_HOSTS", "").split(",")), "").strip()
    headers = {"X-Forwarded-Proto": "https"}  # as from the proxy, or HTTPS=1 would redirect to it
    if host and host != "*":
        headers["Host"] = host.removeprefix(".")
    port = os.environ.get("PORT", "8000")
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/health/", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=4) as answer:
            return "" if answer.status == 200 else f"status {answer.status}"
    except urllib.error.HTTPError as error:
        return f"status {error.code}"
    except OSError as error:
        return f"no answer: {error}"


def worker() -> str:
    import redis

    try:
        with redis.Redis.from_url(os.environ["REDIS_URL"], socket_timeout=4, socket_connect_timeout=2) as client:
            reports = client.hgetall("workers")
    except redis.RedisError as error:
        return f"Redis is away, so nothing is known: {error}"
    own = f"{socket.gethostname()}-".encode()
    fresh = any(
        name.startswith(own) and time.time() - json.loads(report)["seen_at"] < WORKER_SECONDS
        for name, report in reports.items()
    )
    return "" if fresh else "no report from the worker of this container"


CHECKS = {"web": web, "worker": worker}

if __name__ == "__main__":
    if sys.argv[1:] not in ([name] for name in CHECKS):
        sys.exit(__doc__)
    trouble = CHECKS[sys.argv[1]]()
    print(trouble or "ok")
    sys.exit(1 if trouble else 0)

"""Is this container well? Exit code 0 or 1, with a line that says why.

    python deploy/health.py web       the web process answers and reaches Postgres
    python deploy/health.py worker    the generation worker of this container reported within 30 seconds

Without Django, so that it costs next to nothing each time. Reads the same environment as the site.
"""

import os
import socket
import sys
import urllib.error
import urllib.request

REPORTED = """
    SELECT EXISTS (SELECT 1 FROM generation_workerreport
    WHERE starts_with(name, %s) AND seen_at > clock_timestamp() - interval '30 seconds')
"""
"""As `generation.queue.presence` has it, which this program does not import: it would bring Django."""


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
    import psycopg

    try:
        with psycopg.connect(os.environ["DATABASE_URL"], connect_timeout=4) as connection:
            (reported,) = connection.execute(REPORTED, [f"{socket.gethostname()}-"]).fetchone()
    except psycopg.Error as error:
        return f"Postgres is away, so nothing is known: {error}"
    return "" if reported else "no report from the worker of this container"


CHECKS = {"web": web, "worker": worker}

if __name__ == "__main__":
    if sys.argv[1:] not in ([name] for name in CHECKS):
        sys.exit(__doc__)
    trouble = CHECKS[sys.argv[1]]()
    print(trouble or "ok")
    sys.exit(1 if trouble else 0)

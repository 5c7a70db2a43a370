"""Schemathesis against a running site: all its phases over the whole OpenAPI document.

It makes up requests, good and bad ones, for every operation, and looks for server errors, statuses and
bodies that the document does not promise, refused authentication that still works, and deleted things
that live on. The engine is the fake one: what is tried here is the API.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.site import Site

PARTS = {
    "native": "^/api(?!/(txt2img|img2img))",
    "aliases": "^/api/(txt2img|img2img)",
    "inference": "^/inference",
    "dialects": "^/(sdapi|v1|internal)",
}
"""Paths by groups that can be tried at the same time; each operation is in one of them."""
SPARE_KEY = """
from accounts.models import ApiKey, User
print(ApiKey.issue(user=User.objects.get(email="staff@example.com"), name="spare")[0].pk)
"""


@pytest.fixture(scope="module")
def quick_site(tmp_path_factory):
    with Site(
        tmp_path_factory.mktemp("contract"),
        DREAMSKETCH_ENGINE="fake",
        FAKE_SECONDS_PER_STEP="0.001",
        API_CALLS_PER_MINUTE="1000000",
        REQUESTS_PER_HOUR="1000000",
        BLOCKING_SECONDS="5",
    ) as running:
        yield running


@pytest.fixture(scope="module")
def staff_key(quick_site):
    arguments = ("staff@example.com", "--staff", "--password", "correct horse battery", "--api-key")
    return quick_site.manage("create_user", *arguments).strip()


def test_every_operation_is_tried(client):
    paths = client.get("/api/schema/", headers={"Accept": "application/vnd.oai.openapi+json"}).json()["paths"]
    for path in paths:
        assert sum(bool(re.search(pattern, path)) for pattern in PARTS.values()) == 1, path


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", PARTS)
def test_every_operation_keeps_what_the_document_promises(part, quick_site, staff_key, tmp_path):
    with quick_site.user("") as client:
        client.headers["Authorization"] = f"Bearer {staff_key}"
        job = client.post("/api/generate", json={"prompt": "a red boat at sea", "steps": 1}).json()["id"]
        with client.stream("GET", f"/api/generate/{job}/events") as events:
            list(events.iter_lines())
        image = client.get(f"/api/status/{job}").json()["images"][0]["id"]
        # Otherwise the key of the run itself is found in the list and revoked.
        spare = quick_site.manage("shell", "--no-imports", "-c", SPARE_KEY).strip()
    (tmp_path / "schemathesis.toml").write_text(f"""
[parameters]
"path.generation_id" = "{job}"
"path.image_id" = "{image}"
"path.key_id" = {spare}

# A schema cannot say what makes a picture or a public address, nor which words go together: a body that fits it
# may still be refused here.
[[operations]]
include-path-regex = "^/(sdapi|internal|v1/images|inference|api/(generate|txt2img|img2img|parse-prompt|webhooks))"
checks.positive_data_acceptance.expected-statuses = [
    "2xx", "3xx", 400, 401, 403, 404, 409, 413, 415, 422, 429, "5xx"]
""")
    result = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            "run",
            f"{quick_site.url}/api/schema/",
            "--header",
            f"Authorization: Bearer {staff_key}",
            "--include-path-regex",
            PARTS[part],
            "--max-examples",
            "4",
            "--seed",
            "1",
            "--no-shrink",
            "--continue-on-failure",
            "--request-timeout",
            "20",
            "--output-truncate",
            "false",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-20000:] + result.stderr[-2000:]

"""Addresses in answers and mail are this site's, whatever host a caller names."""

import json
import re

import pytest
from django.core import mail

JSON = "application/json"
SITE = "https://dreamsketch.example"


def addresses(text):
    return re.findall(r"https?://[^\s\"\\<>]+", text)


@pytest.fixture
def answers(api_client, client, free_user, make_image, make_generation):
    """The addresses in answers of every kind to a request with these headers."""
    image, job = make_image(free_user), make_generation(free_user)
    programs = api_client(free_user)

    def ask(**headers):
        texts = [
            programs.get(path, **headers).content.decode()
            for path in ("/api", "/api/images/history/", f"/api/images/{image.id}/", f"/api/status/{job.pk}/")
        ]
        texts.append(
            programs.post("/api/generate/", json.dumps({"prompt": "a boat"}), JSON, **headers).content.decode()
        )
        mail.outbox.clear()
        client.post("/accounts/password/reset/", {"email": free_user.email}, **headers)
        texts.append(mail.outbox[0].body)
        return [address for text in texts for address in addresses(text)], mail.outbox[0].body

    return ask


def test_with_a_site_url_no_host_of_a_caller_reaches_them(answers, settings):
    settings.SITE_URL = SITE
    found, body = answers(HTTP_HOST="localhost:6666", HTTP_X_FORWARDED_HOST="evil.example", HTTP_X_FORWARDED_PORT="7")
    strange = [address for address in found if not address.startswith(f"{SITE}/")]
    print(f"{len(found)} addresses, {len(strange)} of another host")
    assert len(found) > 15 and not strange
    assert "localhost" not in body and "evil" not in body and "6666" not in body


@pytest.mark.parametrize(
    ("named", "proxies", "expected"),
    [
        ({}, 0, "testserver:8000"),
        ({"HTTP_X_FORWARDED_HOST": "evil.example", "HTTP_X_FORWARDED_PORT": "7"}, 0, "testserver:8000"),
        ({"HTTP_HOST": "localhost:6666"}, 0, "localhost:8000"),
        ({"HTTP_HOST": "localhost:8000"}, 0, "localhost:8000"),
        ({"HTTP_HOST": "[::1]:6666"}, 0, "[::1]:8000"),
        ({"HTTP_HOST": "localhost"}, 0, "localhost"),
        ({"HTTP_HOST": "localhost:6666", "HTTP_X_FORWARDED_HOST": "evil.example"}, 1, "localhost"),
    ],
)
def test_without_one_they_are_of_an_allowed_host_at_no_port_of_a_callers_choice(
    answers, settings, named, proxies, expected
):
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = proxies
    found, body = answers(SERVER_PORT="8000", **named)
    assert len(found) > 15 and {address.split("/")[2] for address in found} == {expected}
    assert "6666" not in body and "evil" not in body


def test_a_host_that_is_not_ours_is_refused(client, db):
    assert client.get("/api", headers={"Host": "evil.example"}).status_code == 400

"""Request ids, and what people and programs are told when something is away or wrong."""

import logging

import pytest
from django.db import OperationalError

from dreamsketch.logging import JsonFormatter, TextFormatter


@pytest.mark.django_db
class TestRequestId:
    def test_every_answer_has_one(self, client):
        first, second = client.get("/"), client.get("/")
        assert first["X-Request-Id"] != second["X-Request-Id"]

    def test_a_callers_own_is_kept(self, client):
        assert client.get("/", headers={"X-Request-Id": "trace-12345678"})["X-Request-Id"] == "trace-12345678"

    @pytest.mark.parametrize("bad", ["short", "x" * 65, "with space 123", "<script>123456"])
    def test_a_malformed_one_is_not(self, client, bad):
        assert client.get("/", headers={"X-Request-Id": bad})["X-Request-Id"] != bad


class TestDatabaseAway:
    @pytest.fixture(autouse=True)
    def away(self, monkeypatch):
        def fail(*args, **kwargs):
            raise OperationalError("connection refused")

        monkeypatch.setattr("django.db.backends.base.base.BaseDatabaseWrapper.ensure_connection", fail)
        monkeypatch.setattr("django.db.backends.base.base.BaseDatabaseWrapper.connect", fail)

    def test_people_see_a_page_that_says_what_to_do(self, client):
        client.cookies["sessionid"] = "x" * 32
        response = client.get("/create/")
        assert response.status_code == 503 and response["Retry-After"]
        assert b"<html" in response.content

    def test_programs_get_the_error_shape(self, client):
        headers = {"Authorization": "Bearer dsk_12345678_x"}
        response = client.post("/api/generate", {"prompt": "a boat"}, headers=headers)
        assert response.status_code == 503 and response["Retry-After"]
        assert response.json()["error"]["code"] == "unavailable"
        assert response.json()["error"]["request_id"] == response["X-Request-Id"]

    def test_health_says_so(self, client):
        assert client.get("/api/health/").status_code == 503


@pytest.mark.django_db
class TestErrorPages:
    def test_an_unknown_page_is_a_friendly_404(self, client):
        response = client.get("/no/such/page")
        assert response.status_code == 404 and b"<html" in response.content

    def test_an_unknown_api_address_is_a_json_404(self, client):
        response = client.get("/api/no-such-thing")
        assert response.status_code == 404
        assert response.json()["error"]["code"] == "not_found"

    def test_a_form_without_its_token_is_explained(self, free_user, page_client):
        client = page_client(free_user, enforce_csrf_checks=True)
        response = client.post("/create/", {"prompt": "a boat"})
        assert response.status_code == 403 and b"reload" in response.content

    def test_a_crash_is_answered_without_details(self, client, monkeypatch):
        def crash(*args, **kwargs):
            raise RuntimeError("secret detail")

        monkeypatch.setattr("gallery.views.home.render", crash)
        client.raise_request_exception = False
        response = client.get("/")
        assert response.status_code == 500
        assert b"secret detail" not in response.content
        assert response["X-Request-Id"].encode() in response.content

    def test_old_addresses_lead_on(self, client):
        assert client.get("/users/sign_in")["Location"] == "/accounts/login/"
        assert client.get("/users/sign_up")["Location"] == "/accounts/signup/"


class TestLogs:
    @pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
    def test_no_secret_gets_into_a_line(self, formatter):
        message = (
            "key dsk_0a1b2c3d_S3cretS3cret and whsec_aS3cret/+Zz== and redis://:hunter2@10.0.0.1:6379/0"
            " and postgres://u:hunter3@db/x"
        )
        line = formatter.format(logging.LogRecord("x", logging.INFO, "", 0, message, (), None))
        for secret in ("S3cret", "hunter2", "hunter3"):
            assert secret not in line
        assert "dsk_0a1b2c3d_" in line

"""The OpenAPI document is valid and whole, and its page shows it without the internet."""

import json
import shutil

import pytest
from django.core.management import call_command
from django.urls import get_resolver

BODIES = ("post", "put", "patch")


def test_the_document_is_valid(tmp_path):
    file = tmp_path / "schema.json"
    call_command("spectacular", validate=True, fail_on_warn=True, format="openapi-json", file=str(file))
    assert json.loads(file.read_text())["openapi"].startswith("3.1")


def test_every_api_address_is_in_the_document(document):
    from generation.api.native import urls

    known = {path.replace("{", "<").replace("}", ">") for path in document["paths"]}
    for pattern in urls.urlpatterns:
        route = "/api/" + str(pattern.pattern).replace("uuid:", "").replace("int:", "")
        assert route.rstrip("/") in known | {"/api/schema"}, route


def test_every_operation_says_how_it_is_used(document):
    schemes = set(document["components"]["securitySchemes"])
    assert "apiKey" in schemes
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            where = f"{method} {path}"
            assert operation["description"], where
            answers = operation["responses"]
            assert all(answer["description"] for answer in answers.values()), where
            if path == "/api/generate/webhook":
                continue  # for engines, which sign what they send
            if path in ("/api", "/api/health"):
                assert "security" not in operation, where
                continue
            assert {"apiKey": []} in operation["security"], where
            assert {"401", "429", "503"} <= set(answers), where
            if "{" in path:
                assert "404" in answers, where
            if method in BODIES or method == "delete":
                assert "403" in answers, where
            for status, answer in answers.items():
                if int(status) >= 400:
                    schema = answer["content"]["application/json"]["schema"]
                    shape = (
                        "A1111Error"
                        if path.startswith(("/sdapi/", "/internal/"))
                        else "OpenAIError"
                        if path.startswith("/v1/")
                        else "Error"
                    )
                    assert schema == {"$ref": f"#/components/schemas/{shape}"}, (where, status)


@pytest.mark.django_db
def test_the_examples_are_true(document, pro_user, api_client):
    operation = document["paths"]["/api/generate"]["post"]
    examples = operation["requestBody"]["content"]["application/json"]["examples"]
    assert len(examples) == 3
    for example in examples.values():
        response = api_client(pro_user).post("/api/generate", example["value"], "application/json")
        assert response.status_code == 202, response.content


def test_the_document_is_served_to_anybody(client):
    served = client.get("/api/schema")
    assert served["Content-Type"] == "application/json"
    assert served.json()["info"]["title"] == "DreamSketch API"
    assert client.get("/api/schema/").json() == served.json()


def test_every_route_needs_a_permission():
    """Deny by default: a view of the API without a declared permission would use the default, which denies."""
    from rest_framework.permissions import AllowAny, IsAuthenticated
    from rest_framework.settings import api_settings

    from accounts.authentication import HasKeyScope

    default = api_settings.DEFAULT_PERMISSION_CLASSES
    assert default == [IsAuthenticated, HasKeyScope]
    included = next(resolver for resolver in get_resolver().url_patterns if str(resolver.pattern) == "api/")
    open_views = {
        str(pattern.pattern).rstrip("/")
        for pattern in included.url_patterns
        if AllowAny in getattr(getattr(pattern.callback, "cls", None), "permission_classes", [])
        or not hasattr(pattern.callback, "cls")
    }
    assert open_views == {"", "health", "status", "schema", "generate/webhook"}


@pytest.mark.django_db(transaction=True)
def test_the_page_shows_the_document_in_a_browser(live_server):
    """In Chromium: nothing from elsewhere, no error, no breach of the content security policy."""
    from playwright.sync_api import sync_playwright

    troubles = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.on(
            "console", lambda message: troubles.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("requestfailed", lambda request: troubles.append(request.url))
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith((live_server.url, "data:", "blob:")) else troubles.append(request.url)
            ),
        )
        page.goto(f"{live_server.url}/docs/api/")
        page.wait_for_selector(".opblock-summary-path")
        assert page.locator(".opblock").count() >= 17
        page.click("#operations-site-health .opblock-summary")
        page.click("#operations-site-health .try-out__btn")
        page.click("#operations-site-health .execute")
        page.wait_for_selector("#operations-site-health .live-responses-table .response-col_status:has-text('200')")
        browser.close()
    assert troubles == []

"""Who reaches what: where a key counts, what a session needs, and that nobody reaches another's things."""

import contextlib
import io
import itertools
import re

import pytest
from django.db.models import F
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from PIL import Image

from accounts.models import ApiKey
from gallery.collections import add_images, create_collection
from generation.models import GeneratedImage, Generation
from generation.storage.files import WIDE_THUMBNAILS
from generation.storage.uploads import store_upload
from generation.webhooks import endpoints, events

pytestmark = pytest.mark.django_db


# --- keys and sessions ----------------------------------------------------------------------------------


def test_a_key_counts_in_the_authorization_header_only(free_user, api_client, refused):
    token = api_client(free_user).token
    assert Client(headers={"Authorization": f"bearer {token}"}).get("/api/usage").status_code == 200
    refused(Client().get("/api/usage", {"key": token, "api_key": token, "token": token, "access_token": token}), 401)
    for header in ("X-Api-Key", "Api-Key", "Cookie"):
        refused(Client(headers={header: f"key={token}" if header == "Cookie" else token}).get("/api/usage"), 401)
    refused(Client(headers={"Authorization": f"Basic {token}"}).get("/api/usage"), 401)
    refused(Client(headers={"Authorization": f"Token {token}"}).get("/api/usage"), 401)


@pytest.mark.parametrize(
    "token",
    ["", " ", "dsk_", "dsk__", "dsk_12345678_", "nonsense", "dsk_\x00_x", "dsk_é_x", "dsk_" + "x" * 10_000, "dsk_%_%"],
)
def test_made_up_keys(token, client, refused):
    refused(client.get("/api/usage", headers={"Authorization": f"Bearer {token}"}), 401, "invalid_api_key")


def test_a_key_with_one_letter_changed(free_user, api_client, refused):
    token = api_client(free_user).token
    for place in (5, 14, len(token) - 1):
        other = token[:place] + ("a" if token[place] != "a" else "b") + token[place + 1 :]
        refused(Client(headers={"Authorization": f"Bearer {other}"}).get("/api/usage"), 401, "invalid_api_key")


def test_a_bad_key_is_not_made_up_for_by_a_session(free_user, page_client, refused):
    signed_in = page_client(free_user)
    assert signed_in.get("/api/usage").status_code == 200
    refused(signed_in.get("/api/usage", headers={"Authorization": "Bearer dsk_12345678_x"}), 401, "invalid_api_key")


def test_keys_die_with_expiry_revocation_and_the_account(free_user, refused):
    import datetime as dt

    from django.utils import timezone

    key, token = ApiKey.issue(user=free_user, name="short", expires_at=timezone.now() - dt.timedelta(seconds=1))
    bearer = Client(headers={"Authorization": f"Bearer {token}"})
    refused(bearer.get("/api/usage"), 401)
    ApiKey.objects.update(expires_at=None)
    assert bearer.get("/api/usage").status_code == 200
    key.revoke()
    refused(bearer.get("/api/usage"), 401)
    ApiKey.objects.update(revoked_at=None)
    free_user.is_active = False
    free_user.save()
    refused(bearer.get("/api/usage"), 401)


def test_a_session_needs_its_csrf_token(free_user, page_client, make_generation, make_image, refused):
    browser = page_client(free_user, enforce_csrf_checks=True)
    generation, image = make_generation(free_user), make_image(free_user)
    changes = [
        ("post", "/api/generate"),
        ("post", f"/api/generate/{generation.pk}/cancel"),
        ("post", f"/api/generate/{generation.pk}/retry"),
        ("delete", f"/api/images/{image.id}"),
        ("patch", f"/api/images/{image.id}"),
        ("post", "/api/images/bulk"),
        ("post", "/api/txt2img"),
        ("post", "/api/keys"),
        ("delete", "/api/keys/1"),
    ]
    for method, path in changes:
        for headers in ({}, {"Origin": "null"}, {"Origin": "http://evil.testserver"}, {"X-CSRFToken": "x" * 32}):
            send = getattr(browser, method)
            response = send(path, {"prompt": "a boat"}, content_type="application/json", headers=headers)
            refused(response, 403, "csrf_failed")
    assert Generation.objects.filter(status="queued").count() == 1
    assert GeneratedImage.objects.kept().count() == 1

    browser.cookies["csrftoken"] = "a" * 32
    response = browser.post(
        "/api/generate", {"prompt": "a boat"}, content_type="application/json", headers={"X-CSRFToken": "a" * 32}
    )
    assert response.status_code == 202


def test_other_sites_get_no_cors(free_user, api_client):
    response = api_client(free_user).get("/api/usage", headers={"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in response


def test_the_database_is_away(free_user, api_client, refused, monkeypatch):
    """A broken connection in the middle of a request; the faults tests stop a real server."""
    from django.db import OperationalError

    def broken(*args, **kwargs):
        raise OperationalError("server closed the connection unexpectedly")

    client = api_client(free_user)
    monkeypatch.setattr("accounts.quotas.remaining", broken)
    refused(client.get("/api/usage"), 503, "unavailable")


# --- another's things -----------------------------------------------------------------------------------


def routes(patterns=None, before=""):
    """Every route of the site with the names of its parameters, admin and sign-in aside."""
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        route = before + str(pattern.pattern)
        if route.startswith(("admin/", "accounts/")):
            continue
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern):
            yield route, pattern.pattern.converters


def addresses(route, converters, things):
    """The route with each of the things that fit its parameter; with several parameters, with those of their types."""
    fitting = []
    for converter in converters.values():
        texts = {}
        for thing in things:
            with contextlib.suppress(ValueError, TypeError):
                text = str(converter.to_url(thing))
                if re.fullmatch(converter.regex, text):
                    texts[text] = len(converters) == 1 or converter.to_python(text) == thing
        fitting.append([text for text, fits in texts.items() if fits])
    fixed, *others = re.split(r"<[^>]*>", route)
    for texts in itertools.product(*fitting):
        yield "/" + fixed + "".join(itertools.chain.from_iterable(zip(texts, others, strict=True)))


def test_nobody_reaches_anothers_things(
    free_user, other_user, api_client, page_client, make_image, make_generation, media_folder, settings
):
    """Every route that takes an id × every id of the first user × every method, by session, by key and by nobody."""
    settings.API_CALLS_PER_MINUTE = 1_000_000
    image = make_image(free_user, generation_fields={"prompt": "quagga"})
    running = make_generation(free_user, status="processing", prompt="quagga")
    failed = make_generation(free_user, status="failed", width=256, height=256, prompt="quagga")
    key, _ = ApiKey.issue(user=free_user, name="spare")
    hook = endpoints.create_endpoint(user=free_user, url="https://hooks.example.com/quagga")
    collection = create_collection(free_user, "spare")
    add_images(collection, [image])
    png = io.BytesIO()
    Image.new("RGB", (64, 64)).save(png, "PNG")
    things = [
        collection.pk,
        collection.slug,
        store_upload(free_user, png.getvalue(), param="image").pk,
        WIDE_THUMBNAILS[0],
        "canny",
        image.id,
        image.short_id,
        image.number,
        image.generation_id,
        running.pk,
        failed.pk,
        key.pk,
        hook.pk,
        events.send_test(hook).pk,
    ]
    clients = (api_client(other_user), page_client(other_user), Client())
    # Or a number of the first user's things may be that of a key of the other's own.
    ApiKey.objects.filter(user=other_user).update(id=F("id") + 1_000_000)
    crawled = 0
    for route, converters in routes():
        if not converters:
            continue
        for address in addresses(route, converters, things):
            for client in clients:
                for method in ("get", "post", "patch", "delete"):
                    response = getattr(client, method)(address)
                    crawled += 1
                    # 302: to the sign-in, or a redirect of an old address to one that is checked itself.
                    assert response.status_code in (301, 302, 401, 404, 405), (method, address, response.status_code)
                    if response.status_code in (301, 302):
                        target = client.get(address, follow=True)
                        assert target.status_code == 404 or "/accounts/login/" in target.redirect_chain[-1][0], address
                    assert b"quagga" not in getattr(response, "content", b""), address
    assert crawled > 100
    image.refresh_from_db()
    assert (image.deleted_at, image.visibility, image.favourite) == (None, "private", False)
    running.refresh_from_db()
    assert not running.cancel_requested
    assert Generation.objects.count() == 3
    assert not ApiKey.objects.get(pk=key.pk).revoked_at
    assert events.WebhookEndpoint.objects.get().secret == hook.secret and hook.deliveries.count() == 1
    assert (media_folder / image.file).exists()


def test_lists_hold_ones_own_only(free_user, other_user, api_client, page_client, make_image):
    make_image(free_user, generation_fields={"prompt": "quagga"})
    client = api_client(other_user)
    assert client.get("/api/images/history").json()["images"] == []
    assert client.get("/api/usage").json()["receipts"] == []
    assert len(client.get("/api/keys").json()["keys"]) == 1
    for path in ("/gallery/", "/create/"):
        assert b"quagga" not in page_client(other_user).get(path).content

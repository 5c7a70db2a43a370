"""Addresses that open without a key for five minutes: for whom, for how long, and that nothing else opens them."""

import io
from urllib.parse import parse_qs, urlsplit

import pytest
from django.core import signing
from django.test import Client
from PIL import Image

from generation.api.openai import links, views
from generation.models import GeneratedImage

pytestmark = pytest.mark.django_db


@pytest.fixture
def image(pro_user, make_image):
    return make_image(pro_user)


@pytest.fixture
def address(pro_user, api_client, image, monkeypatch):
    """Path and query of `data[0].url` of an answer that shows `image`."""
    monkeypatch.setattr(views, "wait_for", lambda generation, seconds: image.generation)
    client = api_client(pro_user)

    def make(**fields):
        answer = client.post("/v1/images/generations", {"prompt": "a boat"} | fields, "application/json").json()
        parts = urlsplit(answer["data"][0]["url"])
        assert (parts.scheme, parts.netloc) == ("http", "testserver")
        return f"{parts.path}?{parts.query}"

    return make


@pytest.mark.parametrize(("format", "ending"), [("png", "png"), ("jpeg", "jpg"), ("webp", "webp")])
def test_a_link_opens_without_a_key(address, format, ending):
    link = address(output_format=format)
    assert urlsplit(link).path.endswith(f".{ending}")
    response = Client().get(link)
    assert response["Content-Type"] == f"image/{format}"
    assert Image.open(io.BytesIO(response.content)).format == format.upper()
    assert response["Cache-Control"] == "private, no-cache" and response["X-Content-Type-Options"] == "nosniff"
    assert Client().head(link).status_code == 200


def test_quality_counts(address):
    low, high = (Client().get(address(output_format="jpeg", output_compression=value)).content for value in (1, 100))
    assert len(low) < len(high)


def test_after_five_minutes_it_opens_for_its_owner_only(
    address, pro_user, other_user, api_client, page_client, monkeypatch
):
    link = address()
    assert links.SECONDS == 300
    monkeypatch.setattr(links, "SECONDS", -1)
    assert Client().get(link).status_code == 404
    assert api_client(other_user).get(link).status_code == page_client(other_user).get(link).status_code == 404
    assert api_client(pro_user).get(link).status_code == page_client(pro_user).get(link).status_code == 200


def test_it_dies_with_the_picture_and_the_account(address, image, pro_user):
    link = address()
    pro_user.is_active = False
    pro_user.save()
    assert Client().get(link).status_code == 404
    pro_user.is_active = True
    pro_user.save()
    assert Client().get(link).status_code == 200
    GeneratedImage.objects.filter(pk=image.pk).update(deleted_at=image.created_at)
    assert Client().get(link).status_code == 404


def test_a_changed_link_opens_nothing(address, pro_user, other_user, api_client, make_image):
    link = address()
    path, signature = urlsplit(link).path, parse_qs(urlsplit(link).query)["signature"][0]
    other = make_image(other_user)
    foreign = signing.dumps([str(other.id), other_user.pk, 90], salt="another")
    for client in (Client(), api_client(pro_user)):
        for wrong in ("", "x", "a:b:c", signature[:-1], signature + "x", "é\x00", "\ud800", "x" * 10_000, foreign):
            assert client.get(path, {"signature": wrong.encode("utf-8", "surrogatepass")}).status_code == 404, wrong
    assert (
        Client()
        .get(path.replace(str(GeneratedImage.objects.get(owner=pro_user).id), str(other.id)), {"signature": signature})
        .status_code
        == 404
    )
    assert Client().post(link).status_code == 405

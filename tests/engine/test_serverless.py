"""The deploy file for a serverless function: it understands what the site sends. Its platform is not needed."""

import importlib.util
import sys
import time
from pathlib import Path
from unittest.mock import MagicMock

import pytest
from PIL import Image

from generation.engine.catalog.models import Catalog
from generation.engine.remote.providers import native_body
from generation.engine.remote.signatures import signed_headers
from generation.engine.request.fields import Picture
from generation.engine.request.request import build_request

FILE = Path(__file__).parents[2] / "deploy" / "serverless" / "modal_app.py"
SECRET = "whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldY"


@pytest.fixture
def app(monkeypatch):
    monkeypatch.setitem(sys.modules, "modal", MagicMock())
    monkeypatch.setenv("INFERENCE_WEBHOOK_SECRET", SECRET)
    spec = importlib.util.spec_from_file_location("modal_app", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_takes_what_the_site_signed_and_nothing_else(app):
    body = b'{"generation": "x"}'
    good = signed_headers(SECRET, "x:1", body)
    assert app.is_signed(good, body)
    assert not app.is_signed(good, body + b" ")
    assert not app.is_signed(signed_headers("another-secret-of-24-letters", "x:1", body), body)
    assert not app.is_signed(signed_headers(SECRET, "x:1", body, now=time.time() - 400), body)
    assert not app.is_signed({}, body) and not app.is_signed(good | {"webhook-timestamp": "²"}, body)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"hires": {"scale": 1.5}},
        {"variation": {"seed": 3, "strength": 0.5}, "clip_skip": 1, "tiling": True},
        {"start": True, "strength": 0, "mask_blur": 0},
        {"start": True, "expand": {"left": 64}},
    ],
)
def test_it_draws_the_request_that_was_sent(app, more):
    spec = Catalog().get("dreamsketch-tiny")
    if more.pop("start", False):
        more = more | {"image": Picture.of(Image.new("RGB", (256, 256), (10, 20, 30)))}
    request = build_request(spec, prompt="a red boat", seed=7, num_images=2, width=256, height=256, **more)
    key, arguments = app.build_request_arguments(native_body(request, 0) | {"num_images": 2})
    again = build_request(Catalog().get(key), **arguments)
    assert again == request

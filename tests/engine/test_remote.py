"""Engines elsewhere, imitated by a small server on this machine: what is sent, and what becomes of each answer."""

import base64
import contextlib
import io
import json
import logging
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from generation.engine.catalog.models import MODELS, Catalog
from generation.engine.errors import BadOutput, Cancelled, EngineStopped, InvalidRequest, TimedOut
from generation.engine.factory import make_engine
from generation.engine.remote.http import (
    BadResponse,
    HttpClient,
    RemoteFailed,
    RemoteRefused,
    RemoteTimedOut,
    RemoteUnauthorized,
)
from generation.engine.remote.providers import DreamSketchProvider, HuggingFaceProvider, OpenAIProvider, WebhookProvider
from generation.engine.remote.signatures import signed_headers
from generation.engine.request.fields import Picture
from generation.engine.request.request import build_request

SECRET = "dsk_0123456789_topsecret"
CATALOG = Catalog()
TINY, SD15 = CATALOG.get("dreamsketch-tiny"), CATALOG.get("sd15")


def png(size=(128, 128), colour=(200, 40, 30), kind="PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, kind)
    return buffer.getvalue()


class Elsewhere:
    """A server that answers each POST by the next of `answers` (status, headers, body), the last one again and
    again, and remembers them: `requests` holds (path, headers, body)."""

    def __init__(self):
        self.answers = [(200, {"Content-Type": "image/png"}, png())]
        self.requests: list[tuple] = []
        self.open = threading.Event()
        self.open.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append((self.path, dict(self.headers), body))
                outer.open.wait(30)
                answer = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                with contextlib.suppress(OSError):
                    if callable(answer):
                        return answer(self)
                    status, headers, content = answer
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    if "Content-Length" not in headers:
                        self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def json(self, number=-1) -> dict:
        return json.loads(self.requests[number][2])


@pytest.fixture
def elsewhere():
    server = Elsewhere()
    yield server
    server.open.set()
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture
def start():
    """Start an engine that speaks a provider; stopped after the test."""
    engines = []

    def begin(provider, *, attempts=3, seconds=20, **options):
        client = HttpClient(attempts=attempts, seconds=seconds, first_pause=0.01, longest_pause=2)
        engine = make_engine("remote", Catalog(provider.offers(MODELS)), provider=provider, client=client, **options)
        engine.start()
        engines.append(engine)
        return engine

    yield begin
    for engine in engines:
        engine.stop()


@pytest.fixture
def peer(start, elsewhere):
    """An engine that asks another DreamSketch."""
    return start(DreamSketchProvider(f"{elsewhere.url}/", SECRET))


def make_request(spec=TINY, **fields):
    return build_request(spec, **{"prompt": "a red boat", "seed": 7, "steps": 5, "width": 128, "height": 128} | fields)


def colour(image) -> tuple:
    return image.pixels.getpixel((5, 5))


class TestProviders:
    def test_another_dreamsketch_is_asked_in_its_own_words(self, peer, elsewhere):
        job = peer.submit(make_request(negative_prompt="a dog", num_images=2), ticket="abc:3")
        images = job.result(20)
        assert [image.seed for image in images] == [7, 8] and colour(images[0]) == (200, 40, 30)
        path, headers, _ = elsewhere.requests[1]
        assert path == "/inference/images/generations"
        assert headers["Authorization"] == f"Bearer {SECRET}" and headers["Idempotency-Key"] == "abc:3:1"
        assert elsewhere.json(1) == {
            "model": "dreamsketch-tiny",
            "prompt": "a red boat",
            "negative_prompt": "a dog",
            "width": 128,
            "height": 128,
            "steps": 5,
            "guidance_scale": 4.0,
            "sampler": "Euler",
            "seed": 8,
            "num_images": 1,
            "guidance_rescale": 0.0,
            "clip_skip": 0,
            "quality": "exact",
        }

    def test_pictures_and_options_go_along(self, peer, elsewhere):
        start_image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8))
        mask = Image.new("L", (128, 128), 255)
        peer.submit(
            make_request(
                image=Picture.of(start_image),
                mask=Picture.of(mask),
                strength=0.5,
                mask_blur=2,
                tiling=True,
                variation={"seed": 3, "strength": 0.2},
            )
        ).result(20)
        peer.submit(make_request(image=Picture.of(start_image), strength=0, mask=Picture.of(mask), mask_blur=0)).result(
            20
        )
        assert elsewhere.json()["strength"] == 0 and elsewhere.json()["mask_blur"] == 0
        sent = elsewhere.json(0)
        with Image.open(io.BytesIO(base64.b64decode(sent["image"]))) as received:
            assert (np.asarray(received) == np.asarray(start_image)).all()
        assert sent["mask"] and sent["strength"] == 0.5 and sent["mask_blur"] == 2 and sent["tiling"] is True
        assert sent["variation"] == {"seed": 3, "strength": 0.2}

    def test_hugging_face_is_asked_for_the_models_repository(self, start, elsewhere):
        engine = start(HuggingFaceProvider("hf_secret", elsewhere.url))
        elsewhere.answers = [(200, {"Content-Type": "image/jpeg"}, png((512, 512), kind="JPEG"))]
        spec = engine.catalog.get("sd15")
        [image] = engine.submit(make_request(spec, width=512, height=512, negative_prompt="a dog")).result(20)
        assert image.pixels.size == (512, 512)
        path, headers, _ = elsewhere.requests[0]
        assert path == "/models/stable-diffusion-v1-5/stable-diffusion-v1-5"
        assert headers["Authorization"] == "Bearer hf_secret"
        assert elsewhere.json() == {
            "inputs": "a red boat",
            "parameters": {
                "width": 512,
                "height": 512,
                "num_inference_steps": 5,
                "guidance_scale": 7.5,
                "seed": 7,
                "negative_prompt": "a dog",
            },
        }

    def test_hugging_face_offers_what_is_on_the_hub_and_words_only(self):
        offered = HuggingFaceProvider("x").offers(MODELS)
        assert {"sdxl-base", "flux-schnell", "qwen-image"} <= {spec.key for spec in offered}
        assert not {"dreamsketch-tiny", "sdxl-lightning", "qwen-image-int8"} & {spec.key for spec in offered}
        with pytest.raises(InvalidRequest):
            make_request(offered[0], width=512, height=512, image=Picture.of(Image.new("RGB", (8, 8))))

    @pytest.mark.parametrize("extras", [False, True])
    def test_an_openai_style_server(self, start, elsewhere, extras):
        engine = start(OpenAIProvider(f"{elsewhere.url}/v1", SECRET, "some-model", extras))
        body = json.dumps({"created": 1, "data": [{"b64_json": base64.b64encode(png()).decode()}]}).encode()
        elsewhere.answers = [(200, {"Content-Type": "application/json"}, body)]
        [image] = engine.submit(make_request(engine.catalog.get("tiny"))).result(20)
        assert colour(image) == (200, 40, 30)
        path, headers, _ = elsewhere.requests[0]
        assert path == "/v1/images/generations" and headers["Authorization"] == f"Bearer {SECRET}"
        sent = elsewhere.json()
        assert (
            sent.items()
            >= {
                "model": "some-model",
                "prompt": "a red boat",
                "n": 1,
                "size": "128x128",
                "response_format": "b64_json",
            }.items()
        )
        assert (sent.get("seed") == 7) == extras

    def test_models_that_always_answer_in_base64_are_not_told_to(self, start, elsewhere):
        engine = start(OpenAIProvider(elsewhere.url, SECRET, "gpt-image-1"))
        with pytest.raises(BadResponse):
            engine.submit(make_request(engine.catalog.get("tiny"))).result(20)
        assert "response_format" not in elsewhere.json()

    @pytest.mark.parametrize("secret", ["whsec_" + base64.b64encode(b"k" * 24).decode(), "plain-secret-of-24-letters"])
    def test_a_serverless_function_gets_the_signed_job_and_answers_elsewhere(self, start, elsewhere, secret):
        engine = start(WebhookProvider(f"{elsewhere.url}/draw", secret, "https://site.example/api/generate/webhook"))
        elsewhere.answers = [(202, {}, b"")]
        job = engine.submit(make_request(num_images=2), ticket="0b5f6c1e-6f0e-4b5e-9d53-1a52d0a7c1e7:3")
        while not elsewhere.requests:
            time.sleep(0.01)
        path, headers, body = elsewhere.requests[0]
        sent = json.loads(body)
        assert path == "/draw"
        assert (sent["generation"], sent["epoch"]) == ("0b5f6c1e-6f0e-4b5e-9d53-1a52d0a7c1e7", 3)
        assert sent["callback"] == "https://site.example/api/generate/webhook"
        assert sent["request"]["seed"] == 7 and sent["request"]["num_images"] == 2
        again = signed_headers(secret, headers["webhook-id"], body, now=int(headers["webhook-timestamp"]))
        assert again["webhook-signature"] == headers["webhook-signature"]
        assert not job.done(), "the result comes to the webhook"
        engine.cancel(job)
        with pytest.raises(Cancelled):
            job.result(10)
        assert len(elsewhere.requests) == 1

    def test_a_function_that_never_answers_is_given_up(self, start, elsewhere):
        engine = start(WebhookProvider(elsewhere.url, SECRET, "https://site.example/x"), answer_seconds=0.1)
        elsewhere.answers = [(202, {}, b"")]
        with pytest.raises(RemoteTimedOut):
            engine.submit(make_request(), ticket="a:1").result(10)
        with pytest.raises(RemoteRefused):
            engine.submit(make_request()).result(10)


class TestAnswers:
    @pytest.mark.parametrize(
        "status, error, calls",
        [
            (400, RemoteRefused, 1),
            (404, RemoteRefused, 1),
            (422, RemoteRefused, 1),
            (401, RemoteUnauthorized, 1),
            (403, RemoteUnauthorized, 1),
            (302, RemoteFailed, 1),
            (504, RemoteTimedOut, 1),
            (429, RemoteFailed, 3),
            (500, RemoteFailed, 3),
            (503, RemoteFailed, 3),
        ],
    )
    def test_statuses(self, peer, elsewhere, status, error, calls, caplog):
        caplog.set_level(logging.DEBUG)
        body = f"nothing for {SECRET} here".encode()
        elsewhere.answers = [(status, {"Location": f"{elsewhere.url}/elsewhere"}, body)]
        with pytest.raises(error) as caught:
            peer.submit(make_request()).result(20)
        assert type(caught.value) is error and len(elsewhere.requests) == calls
        assert SECRET not in str(caught.value) + caplog.text and str(status) in caplog.text
        assert caught.value.__traceback__ is None or SECRET not in repr(caught.value)

    @pytest.mark.parametrize("status", [429, 500, 502, 503])
    def test_what_is_busy_is_asked_again_and_the_request_stays_the_same(self, peer, elsewhere, status):
        elsewhere.answers = [(status, {}, b""), *elsewhere.answers]
        assert peer.submit(make_request(), ticket="t:1").result(20)
        keys = [headers["Idempotency-Key"] for _, headers, _ in elsewhere.requests]
        assert keys == ["t:1:0"] * 2 and elsewhere.json(0) == elsewhere.json(1)

    @pytest.mark.parametrize("after", ["1", "0.2", "soon"])
    def test_retry_after_is_honoured(self, peer, elsewhere, after):
        elsewhere.answers = [(429, {"Retry-After": after}, b""), *elsewhere.answers]
        began = time.monotonic()
        assert peer.submit(make_request()).result(20)
        assert time.monotonic() - began >= (0.0 if after == "soon" else float(after))

    def test_nobody_waits_here_as_long_as_a_server_may_ask_for(self, peer, elsewhere):
        in_an_hour = formatdate(time.time() + 3600, usegmt=True)
        elsewhere.answers = [(429, {"Retry-After": in_an_hour}, b""), *elsewhere.answers]
        with pytest.raises(RemoteFailed):
            peer.submit(make_request()).result(20)
        assert len(elsewhere.requests) == 1

    def test_a_server_may_say_that_it_makes_no_sense_to_ask_again(self, peer, elsewhere):
        elsewhere.answers = [(503, {"X-Should-Retry": "false"}, b"")]
        with pytest.raises(RemoteFailed):
            peer.submit(make_request()).result(20)
        assert len(elsewhere.requests) == 1

    def test_a_server_that_is_not_there(self, start, caplog):
        engine = start(DreamSketchProvider(f"http://user:{SECRET}@127.0.0.1:9", SECRET))
        with pytest.raises(RemoteFailed) as caught:
            engine.submit(make_request()).result(20)
        assert caught.value.transient and SECRET not in caplog.text + str(caught.value)

    def test_a_connection_that_breaks_off(self, peer, elsewhere):
        elsewhere.answers = [lambda handler: handler.connection.close(), *elsewhere.answers]
        assert peer.submit(make_request()).result(20)
        elsewhere.answers = [(200, {"Content-Length": "100000"}, png())]
        elsewhere.requests.clear()
        with pytest.raises(RemoteFailed):
            peer.submit(make_request()).result(20)
        assert len(elsewhere.requests) == 1, "the answer had begun"

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>",
            b'{"ok": true}',
            png()[:200],
            b"\x89PNG\r\n\x1a\n" + b"\0" * 100,
            b"GIF89a" + b"\0" * 50,
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n",
        ],
    )
    def test_what_is_no_picture(self, peer, elsewhere, body):
        elsewhere.answers = [(200, {"Content-Type": "image/png"}, body)]
        with pytest.raises(BadResponse):
            peer.submit(make_request()).result(20)
        assert len(elsewhere.requests) == 1

    @pytest.mark.parametrize(
        "content",
        [
            b"[]",
            b'{"data": []}',
            b'{"data": [{"url": "http://127.0.0.1/secret"}]}',
            b'{"data": [{"b64_json": "%%"}]}',
            b'{"data": [{"b64_json": 5}]}',
            b"[" * 100_000,
        ],
    )
    def test_json_that_holds_no_picture_and_no_address_is_followed(self, start, elsewhere, content):
        engine = start(OpenAIProvider(elsewhere.url, SECRET))
        elsewhere.answers = [(200, {"Content-Type": "application/json"}, content)]
        with pytest.raises(BadResponse):
            engine.submit(make_request(engine.catalog.get("tiny"))).result(20)
        assert len(elsewhere.requests) == 1

    def test_too_many_bytes_and_too_many_pixels(self, peer, elsewhere, monkeypatch):
        monkeypatch.setattr("generation.engine.remote.http.MAX_RESPONSE_BYTES", 5000)
        elsewhere.answers = [(200, {}, png() + b"\0" * 200_000)]
        with pytest.raises(BadResponse):
            peer.submit(make_request()).result(20)
        elsewhere.answers = [(200, {}, png((5000, 2)))]
        with pytest.raises(BadResponse):
            peer.submit(make_request()).result(20)

    def test_another_size_is_fitted_and_told(self, peer, elsewhere):
        elsewhere.answers = [(200, {}, png((256, 192)))]
        [image] = peer.submit(make_request()).result(20)
        assert image.pixels.size == (128, 128) and image.recipe["size_there"] == "256x192"

    def test_a_black_picture_is_none(self, peer, elsewhere):
        elsewhere.answers = [(200, {}, png(colour=(0, 0, 0)))]
        with pytest.raises(BadOutput):
            peer.submit(make_request()).result(20)

    def test_silence_has_an_end(self, start, elsewhere):
        engine = start(DreamSketchProvider(elsewhere.url, SECRET), seconds=0.3)
        elsewhere.open.clear()
        with pytest.raises(RemoteTimedOut) as caught:
            engine.submit(make_request()).result(20)
        assert caught.value.transient and len(elsewhere.requests) == 1

    def test_a_byte_now_and_then_has_an_end_too(self, start, elsewhere):
        stop = threading.Event()

        def trickle(handler):
            handler.send_response(200)
            handler.end_headers()
            while not stop.wait(0.1):
                handler.wfile.write(b"x")
                handler.wfile.flush()

        elsewhere.answers = [trickle]
        engine = start(DreamSketchProvider(elsewhere.url, SECRET), seconds=0.5)
        with pytest.raises((RemoteTimedOut, RemoteFailed)):
            engine.submit(make_request()).result(20)
        stop.set()


class TestTheContract:
    def test_several_go_out_at_once_and_no_more_than_that(self, start, elsewhere):
        engine = start(DreamSketchProvider(elsewhere.url, SECRET), at_once=2)
        elsewhere.open.clear()
        jobs = [engine.submit(make_request(seed=seed)) for seed in range(4)]
        while len(elsewhere.requests) < 2:
            time.sleep(0.01)
        assert not any(job.done() for job in jobs)
        elsewhere.open.set()
        assert all(job.result(20) for job in jobs)
        assert sorted(elsewhere.json(number)["seed"] for number in range(4)) == [0, 1, 2, 3]

    def test_a_cancel_ends_the_job_at_once_and_frees_its_place(self, start, elsewhere):
        engine = start(DreamSketchProvider(elsewhere.url, SECRET), at_once=1)
        first = png(colour=(1, 2, 3))

        def hold_the_second(handler):
            elsewhere.open.clear()
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(first)))
            handler.end_headers()
            handler.wfile.write(first)

        elsewhere.answers = [hold_the_second, *elsewhere.answers]
        job = engine.submit(make_request(num_images=2))
        while len(elsewhere.requests) < 2:
            time.sleep(0.01)
        waiting = engine.submit(make_request())
        engine.cancel(job)
        with pytest.raises(Cancelled) as caught:
            job.result(5)
        assert [colour(image) for image in caught.value.images] == [(1, 2, 3)]
        elsewhere.open.set()
        assert waiting.result(20)
        assert len(job.images) == 1, "an answer that came later is thrown away"

    def test_a_job_that_waits_can_be_cancelled(self, start, elsewhere):
        engine = start(DreamSketchProvider(elsewhere.url, SECRET), at_once=1)
        elsewhere.open.clear()
        running, waiting = engine.submit(make_request()), engine.submit(make_request())
        while not elsewhere.requests:
            time.sleep(0.01)
        third = engine.submit(make_request())
        engine.cancel(third)
        with pytest.raises(Cancelled):
            third.result(5)
        elsewhere.open.set()
        assert running.result(20) and waiting.result(20)

    def test_a_stop_does_not_wait(self, peer, elsewhere):
        elsewhere.open.clear()
        jobs = [peer.submit(make_request()) for _ in range(6)]
        while not elsewhere.requests:
            time.sleep(0.01)
        peer.stop()
        for job in jobs:
            with pytest.raises(EngineStopped):
                job.result(5)
        with pytest.raises(EngineStopped):
            peer.submit(make_request()).result(5)
        elsewhere.open.set()
        peer.start()
        assert peer.submit(make_request()).result(20)

    def test_a_deadline(self, peer, elsewhere):
        elsewhere.open.clear()
        with pytest.raises(TimedOut):
            peer.submit(make_request(), deadline=time.monotonic() + 0.2).result(20)

    def test_progress_moves_without_steps_and_never_goes_back(self, peer, elsewhere, monkeypatch):
        monkeypatch.setattr("generation.engine.remote.engine.REPORT_SECONDS", 0.0)
        reports, moved = [], threading.Event()
        elsewhere.open.clear()

        def on_progress(report):
            reports.append(report)
            if len({report.fraction for report in reports}) > 2:
                moved.set()

        job = peer.submit(make_request(num_images=2), on_progress=on_progress)
        assert moved.wait(20)
        elsewhere.open.set()
        job.result(20)
        steps = [report.step for report in reports]
        assert steps == sorted(steps) and reports[-1].step == reports[-1].steps == 10
        assert all(0 <= report.fraction <= 1 for report in reports if report.fraction is not None)

    def test_plain_enlarging_needs_nobody(self, peer, elsewhere):
        pixels = Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8))
        request = build_request(TINY, upscale={"image": Picture.of(pixels), "upscaler": "nearest"})
        [image] = peer.submit(request).result(20)
        assert image.pixels.size == (16, 16) and not elsewhere.requests

    def test_unknown_models_and_the_status(self, peer):
        spec = next(iter(Catalog([TINY])))
        peer.catalog = Catalog([SD15])
        with pytest.raises(InvalidRequest):
            peer.submit(make_request(spec)).result(20)
        assert peer.status()["device"] == "remote"

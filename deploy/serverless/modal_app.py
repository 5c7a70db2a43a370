"""A GPU that is paid for only while it draws: DreamSketch's engine as a Modal function.

    pip install modal
    modal secret create dreamsketch INFERENCE_WEBHOOK_SECRET=… CALLBACK_HOST=dreamsketch.example.com
    modal deploy deploy/serverless/modal_app.py          from the top of this repository

It prints the address of `jobs`: that is the site's MODAL_GENERATE_ENDPOINT. The site needs the same
INFERENCE_WEBHOOK_SECRET, and a SITE_URL that this function can reach. It posts signed jobs; each is drawn here and
its pictures are posted, signed, to the address of callbacks that the job names (see
generation/queue/engine_results.py). A callback goes nowhere but to CALLBACK_HOST.
"""

import base64
import hashlib
import hmac
import io
import json
import os
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import modal

ROOT = Path(__file__).resolve().parents[2] if modal.is_local() else Path("/app")
MINUTES = 60
CLOCK_SECONDS = 300
SENDING_PAUSES = (2, 10, 60)
MODELS = "/models"

image = (
    modal.Image.debian_slim(python_version="3.11")
    .pip_install_from_requirements(str(ROOT / "requirements.txt"))
    .pip_install("fastapi[standard]")
    .env({"HF_HOME": f"{MODELS}/hub"})
    .add_local_dir(ROOT / "generation" / "engine", "/app/generation/engine")
)
app = modal.App("dreamsketch", image=image, secrets=[modal.Secret.from_name("dreamsketch")])
models = modal.Volume.from_name("dreamsketch-models", create_if_missing=True)


def signature(secret: str, name: str, stamp: str, body: bytes) -> str:
    """As Standard Webhooks say; the same on both ways."""
    key = base64.b64decode(secret.removeprefix("whsec_")) if secret.startswith("whsec_") else secret.encode()
    digest = hmac.new(key, f"{name}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def is_signed(headers, body: bytes) -> bool:
    """Whether the site sent this, within the last five minutes."""
    name, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not stamp.isascii() or not stamp.isdigit() or abs(time.time() - int(stamp)) > CLOCK_SECONDS:
        return False
    expected = signature(os.environ["INFERENCE_WEBHOOK_SECRET"], name, stamp, body)
    return any(
        hmac.compare_digest(expected.encode(), given.encode()) for given in headers.get("webhook-signature", "").split()
    )


def send(callback: str, name: str, content: dict) -> None:
    """Post a signed result, a few times if the site is away."""
    body = json.dumps(content).encode()
    for pause in (*SENDING_PAUSES, None):
        stamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "webhook-id": name,
            "webhook-timestamp": stamp,
            "webhook-signature": signature(os.environ["INFERENCE_WEBHOOK_SECRET"], name, stamp, body),
        }
        try:
            with urllib.request.urlopen(urllib.request.Request(callback, body, headers), timeout=60):
                return
        except urllib.error.HTTPError as error:
            if error.code < 500:  # it will not be taken the next time either
                print(f"The site answered {error.code}.")
                return
        except OSError as error:
            print(f"The site cannot be reached: {type(error).__name__}")
        if pause is not None:
            time.sleep(pause)


def words_of(request: dict) -> tuple[str, dict]:
    """The model's key and the words of `build_request` from a job, with its pictures loaded."""
    from PIL import Image

    from generation.engine.request.fields import Picture

    def loaded(value, name=""):
        if isinstance(value, dict):
            return {key: loaded(each, key) for key, each in value.items()}
        if name in ("image", "mask") and isinstance(value, str):
            pixels = Image.open(io.BytesIO(base64.b64decode(value)), formats=("PNG", "JPEG", "WEBP"))
            return Picture.of(pixels.convert("L" if name == "mask" else "RGB"))
        return value

    words = loaded(dict(request))
    if "hires_fix" in words:
        words["hires"] = words.pop("hires_fix")
    return words.pop("model"), words


@app.cls(gpu="L4", volumes={MODELS: models}, timeout=20 * MINUTES, scaledown_window=5 * MINUTES)
@modal.concurrent(max_inputs=4)
class Engine:
    """One engine for each GPU; jobs that come at the same time are drawn in the same steps."""

    @modal.enter()
    def start(self):
        import sys

        sys.path.insert(0, "/app")
        from generation.engine.catalog.local_models import LiveCatalog
        from generation.engine.catalog.models import MODELS as specs
        from generation.engine.factory import make_engine

        self.catalog = LiveCatalog(specs, MODELS)
        self.engine = make_engine("torch", self.catalog, models_dir=MODELS, hf_token=os.environ.get("HF_TOKEN"))
        self.engine.start()

    @modal.method()
    def draw(self, job: dict):
        from generation.engine.catalog.upscalers import upscaler_names
        from generation.engine.errors import EngineError
        from generation.engine.request.request import build_request

        name = f"{job['generation']}:{job['epoch']}"
        answer = {"generation": job["generation"], "epoch": job["epoch"]}
        began = time.monotonic()
        try:
            key, words = words_of(job["request"])
            request = build_request(self.catalog.get(key), **words, upscalers=upscaler_names(MODELS))
            images = self.engine.submit(request, ticket=name).result()
            answer |= {
                "images": [as_base64(image.pixels) for image in images],
                "flagged": [image.index for image in images if image.flagged],
                "seconds": round(time.monotonic() - began, 2),
            }
        except EngineError as error:
            answer["error"] = {"code": error.code, "message": str(error), "transient": error.transient}
        except Exception as error:
            print(f"Unexpected: {type(error).__name__}: {error}")
            answer["error"] = {"code": "engine_error", "message": type(error).__name__, "transient": True}
        send(job["callback"], name, answer)

    @modal.exit()
    def stop(self):
        self.engine.stop()
        models.commit()


def as_base64(pixels) -> str:
    buffer = io.BytesIO()
    pixels.save(buffer, "PNG", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode()


@app.function()
@modal.asgi_app()
def jobs():
    """Takes a job and answers at once; the pictures follow."""
    from fastapi import FastAPI, HTTPException, Request

    web = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @web.post("/", status_code=202)
    async def take(request: Request):
        body = await request.body()
        if not is_signed(request.headers, body):
            raise HTTPException(401)
        job = json.loads(body)
        callback = urlsplit(job["callback"])
        if callback.scheme != "https" or callback.hostname != os.environ["CALLBACK_HOST"]:
            raise HTTPException(400, "CALLBACK_HOST is another one")
        await Engine().draw.spawn.aio(job)
        return {"status": "accepted"}

    return web

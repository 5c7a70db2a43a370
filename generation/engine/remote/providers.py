"""Providers of remote inference (another DreamSketch, Hugging Face, OpenAI's images API, a webhook). No torch.

A provider knows how a picture is requested over HTTP and how it comes back; see `Provider`.
"""

import base64
import binascii
import io
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from PIL import Image

from generation.engine.catalog.models import ModelSpec
from generation.engine.request.fields import ImageRequest, Picture
from generation.engine.request.options import to_keywords
from generation.engine.request.request import MAX_UPSCALED_SIDE

from .http import BadResponse, HttpClient, RemoteRefused, Response
from .signatures import signed_headers

FORMATS = ("PNG", "JPEG", "WEBP")
PROMPT_ONLY = {"modes": ("txt2img",), "features": ()}
"""What models offer at a provider that takes no pictures."""


class Provider(Protocol):
    """What `RemoteEngine` needs of a provider."""

    def offers(self, specs: Iterable[ModelSpec]) -> list[ModelSpec]:
        """Those of the models that can be requested from it, with what they can do there."""

    def draw(
        self,
        client: HttpClient,
        request: ImageRequest,
        index: int,
        spec: ModelSpec,
        ticket: str,
        sleep: Callable[[float], None],
    ) -> Image.Image | None:
        """Image `index` of the request, or None where it will come to a webhook. Raises EngineErrors of `http`.

        `ticket`: names the job, the same for another attempt at it. `sleep(seconds)` waits between attempts.
        """


@dataclass(frozen=True, slots=True)
class DreamSketchProvider:
    """Another DreamSketch: `POST <url>/inference/images/generations`, answered with the bytes of one image."""

    url: str
    key: str

    def offers(self, specs: Iterable[ModelSpec]) -> list[ModelSpec]:
        return list(specs)

    def draw(self, client: HttpClient, request: ImageRequest, index: int, spec, ticket: str, sleep) -> Image.Image:
        # Sent again, the same request must not be drawn, and counted, a second time.
        headers = {"Accept": "image/png"} | ({"Idempotency-Key": f"{ticket}:{index}"} if ticket else {})
        response = client.post(
            f"{self.url.rstrip('/')}/inference/images/generations",
            secret=self.key,
            sleep=sleep,
            json=native_body(request, index),
            headers=headers,
        )
        return read_image(response.body)


@dataclass(frozen=True, slots=True)
class HuggingFaceProvider:
    """Hugging Face's Inference API: `POST <url>/models/<repository>`, answered with the bytes of an image."""

    token: str
    url: str = "https://router.huggingface.co/hf-inference"

    def offers(self, specs: Iterable[ModelSpec]) -> list[ModelSpec]:
        """Those that are on the Hub as they are. The service chooses the sampler."""
        return [
            replace(spec, samplers=(spec.default_sampler,), **PROMPT_ONLY)
            for spec in specs
            if _repository(spec) and not spec.unet and not spec.int8
        ]

    def draw(self, client: HttpClient, request: ImageRequest, index: int, spec, ticket: str, sleep) -> Image.Image:
        parameters = {
            "width": request.width,
            "height": request.height,
            "num_inference_steps": request.steps,
            "guidance_scale": request.guidance_scale,
            "seed": request.seed_of(index),
        } | ({"negative_prompt": request.negative_prompt} if request.negative_prompt else {})
        response = client.post(
            f"{self.url.rstrip('/')}/models/{_repository(spec)}",
            secret=self.token,
            sleep=sleep,
            json={"inputs": request.prompt, "parameters": parameters},
            headers={"Accept": "image/png"},
        )
        return read_image(response.body)


@dataclass(frozen=True, slots=True)
class OpenAIProvider:
    """A server with OpenAI's images API: `POST <url>/images/generations` with a bearer key.

    `model`: its name for the model; "" sends ours. `extras`: whether it takes our further fields (seed, steps,
    negative prompt …), which OpenAI itself refuses and DreamSketch, LocalAI and others understand.
    """

    url: str
    key: str
    model: str = ""
    extras: bool = False

    def offers(self, specs: Iterable[ModelSpec]) -> list[ModelSpec]:
        return [replace(spec, **PROMPT_ONLY) for spec in specs]

    def draw(self, client: HttpClient, request: ImageRequest, index: int, spec, ticket: str, sleep) -> Image.Image:
        model = self.model or request.model
        body = {"model": model, "prompt": request.prompt, "n": 1, "size": f"{request.width}x{request.height}"}
        if not model.startswith("gpt-image"):  # those always answer in base64, and refuse to be told
            body["response_format"] = "b64_json"
        if self.extras:
            body |= {
                "negative_prompt": request.negative_prompt,
                "seed": request.seed_of(index),
                "steps": request.steps,
                "guidance_scale": request.guidance_scale,
                "sampler": request.sampler,
            }
        response = client.post(f"{self.url.rstrip('/')}/images/generations", secret=self.key, sleep=sleep, json=body)
        content = read_json(response)
        try:
            encoded = content["data"][0]["b64_json"]
        except (KeyError, IndexError, TypeError):
            raise BadResponse() from None
        return read_image(_from_base64(encoded))


@dataclass(frozen=True, slots=True)
class WebhookProvider:
    """A serverless function: `POST <url>` with the whole job, whose pictures come to `callback` when they are done.

    The job is signed as Standard Webhooks say, with the secret that the results are signed with.
    """

    url: str
    secret: str
    callback: str

    def offers(self, specs: Iterable[ModelSpec]) -> list[ModelSpec]:
        return list(specs)

    def draw(self, client: HttpClient, request: ImageRequest, index: int, spec, ticket: str, sleep) -> None:
        """One call for all images; the others are not asked for."""
        generation, _, epoch = ticket.partition(":")
        if not (generation and epoch.isdecimal()):
            raise RemoteRefused("Only generations of a site can be drawn by a function that answers later.")
        if index:
            return
        fields = native_body(request, 0) | {"num_images": request.num_images}
        body = json.dumps(
            {"generation": generation, "epoch": int(epoch), "callback": self.callback, "request": fields}
        ).encode()
        headers = {"Content-Type": "application/json"} | signed_headers(self.secret, ticket, body)
        client.post(self.url, data=body, headers=headers, sleep=sleep)


def native_body(request: ImageRequest, index: int) -> dict:
    """Image `index` of the request as the JSON body of DreamSketch's native API; pictures as base64 of PNG."""
    fields = {
        name: getattr(request, name)
        for name in ("model", "prompt", "negative_prompt", "width", "height", "steps", "guidance_scale", "sampler")
    }
    options = {
        "hires_fix" if name == "hires" else name: _to_json(value) for name, value in to_keywords(request).items()
    }
    fields |= {name: value for name, value in options.items() if value is not None and value is not False}
    return fields | {"seed": request.seed_of(index), "num_images": 1}


def _to_json(value):
    if isinstance(value, Picture):
        buffer = io.BytesIO()
        value.load().save(buffer, "PNG", compress_level=1)
        return base64.b64encode(buffer.getvalue()).decode()
    if isinstance(value, dict):
        return {name: _to_json(part) for name, part in value.items() if part is not None}
    if isinstance(value, list):
        return [_to_json(part) for part in value]
    return value


def read_image(data: bytes) -> Image.Image:
    """The pixels of an image from elsewhere, whatever its media type claims. Raises BadResponse."""
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
        if max(picture.size) > MAX_UPSCALED_SIDE:
            raise BadResponse()
        return picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise BadResponse() from None


def read_json(response: Response) -> dict:
    """Its JSON object. Raises BadResponse."""
    try:
        content = json.loads(response.body)
    except (ValueError, RecursionError):
        raise BadResponse() from None
    if not isinstance(content, dict):
        raise BadResponse()
    return content


def _from_base64(value) -> bytes:
    try:
        return base64.b64decode(value if isinstance(value, str) else "", validate=True)
    except (binascii.Error, ValueError):
        raise BadResponse() from None


def _repository(spec: ModelSpec) -> str | None:
    hub_ids = [name for name in spec.sources if not Path(name).is_absolute()]
    return next((name for name in hub_ids if re.fullmatch(r"[\w.-]+/[\w.-]+", name)), None)

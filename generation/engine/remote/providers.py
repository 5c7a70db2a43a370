"""What engines elsewhere understand: how a picture is asked for, and how it comes back. No torch.

A dialect has `offers(specs)`, the models that can be asked for through it, with what they can do there, and
`draw(wire, request, index, spec, ticket, sleep)`, which returns one picture, or None where it will come to a
webhook.
"""

import base64
import binascii
import io
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from generation.engine.catalog.models import ModelSpec
from generation.engine.request.fields import ImageRequest, Picture
from generation.engine.request.options import to_keywords
from generation.engine.request.request import MAX_UPSCALED_SIDE

from .http import Answer, BadAnswer, RemoteRefused, Wire
from .signatures import signed_headers

FORMATS = ("PNG", "JPEG", "WEBP")
WORDS_ONLY = {"modes": ("txt2img",), "features": ()}


@dataclass(frozen=True, slots=True)
class DreamSketchDialect:
    """Another DreamSketch: `POST <url>/inference/images/generations`, answered with the bytes of one image."""

    url: str
    key: str

    def offers(self, specs: Iterable[ModelSpec]) -> list[ModelSpec]:
        return list(specs)

    def draw(self, wire: Wire, request: ImageRequest, index: int, spec, ticket: str, sleep) -> Image.Image:
        # Sent again, the same request must not be drawn, and counted, a second time.
        headers = {"Accept": "image/png"} | ({"Idempotency-Key": f"{ticket}:{index}"} if ticket else {})
        answer = wire.post(
            f"{self.url.rstrip('/')}/inference/images/generations",
            secret=self.key,
            sleep=sleep,
            json=native_words(request, index),
            headers=headers,
        )
        return read_image(answer.body)


@dataclass(frozen=True, slots=True)
class HuggingFaceDialect:
    """Hugging Face's Inference API: `POST <url>/models/<repository>`, answered with the bytes of an image."""

    token: str
    url: str = "https://router.huggingface.co/hf-inference"

    def offers(self, specs: Iterable[ModelSpec]) -> list[ModelSpec]:
        """Those that are on the Hub as they are. The service chooses the sampler."""
        return [
            replace(spec, samplers=(spec.default_sampler,), **WORDS_ONLY)
            for spec in specs
            if _repository(spec) and not spec.unet and not spec.eight_bits
        ]

    def draw(self, wire: Wire, request: ImageRequest, index: int, spec, ticket: str, sleep) -> Image.Image:
        parameters = {
            "width": request.width,
            "height": request.height,
            "num_inference_steps": request.steps,
            "guidance_scale": request.guidance_scale,
            "seed": request.seed_of(index),
        } | ({"negative_prompt": request.negative_prompt} if request.negative_prompt else {})
        answer = wire.post(
            f"{self.url.rstrip('/')}/models/{_repository(spec)}",
            secret=self.token,
            sleep=sleep,
            json={"inputs": request.prompt, "parameters": parameters},
            headers={"Accept": "image/png"},
        )
        return read_image(answer.body)


@dataclass(frozen=True, slots=True)
class OpenAIDialect:
    """A server that speaks as OpenAI's images API does: `POST <url>/images/generations` with a bearer key.

    `model`: its name for the model; "" sends ours. `extras`: whether it takes our further fields (seed, steps,
    negative prompt …), which OpenAI itself refuses and DreamSketch, LocalAI and others understand.
    """

    url: str
    key: str
    model: str = ""
    extras: bool = False

    def offers(self, specs: Iterable[ModelSpec]) -> list[ModelSpec]:
        return [replace(spec, **WORDS_ONLY) for spec in specs]

    def draw(self, wire: Wire, request: ImageRequest, index: int, spec, ticket: str, sleep) -> Image.Image:
        model = self.model or request.model
        words = {"model": model, "prompt": request.prompt, "n": 1, "size": f"{request.width}x{request.height}"}
        if not model.startswith("gpt-image"):  # those always answer in base64, and refuse to be told
            words["response_format"] = "b64_json"
        if self.extras:
            words |= {
                "negative_prompt": request.negative_prompt,
                "seed": request.seed_of(index),
                "steps": request.steps,
                "guidance_scale": request.guidance_scale,
                "sampler": request.sampler,
            }
        answer = wire.post(f"{self.url.rstrip('/')}/images/generations", secret=self.key, sleep=sleep, json=words)
        content = read_json(answer)
        try:
            encoded = content["data"][0]["b64_json"]
        except (KeyError, IndexError, TypeError):
            raise BadAnswer() from None
        return read_image(_from_base64(encoded))


@dataclass(frozen=True, slots=True)
class WebhookDialect:
    """A serverless function: `POST <url>` with the whole job, whose pictures come to `callback` when they are done.

    The job is signed as Standard Webhooks say, with the secret that the results are signed with.
    """

    url: str
    secret: str
    callback: str

    def offers(self, specs: Iterable[ModelSpec]) -> list[ModelSpec]:
        return list(specs)

    def draw(self, wire: Wire, request: ImageRequest, index: int, spec, ticket: str, sleep) -> None:
        """One call for all images; the others are not asked for."""
        generation, _, epoch = ticket.partition(":")
        if not (generation and epoch.isdecimal()):
            raise RemoteRefused("Only generations of a site can be drawn by a function that answers later.")
        if index:
            return
        words = native_words(request, 0) | {"num_images": request.num_images}
        body = json.dumps(
            {"generation": generation, "epoch": int(epoch), "callback": self.callback, "request": words}
        ).encode()
        headers = {"Content-Type": "application/json"} | signed_headers(self.secret, ticket, body)
        wire.post(self.url, data=body, headers=headers, sleep=sleep)


def native_words(request: ImageRequest, index: int) -> dict:
    """Image `index` of the request as DreamSketch's own JSON API takes it; pictures as base64."""
    words = {
        name: getattr(request, name)
        for name in ("model", "prompt", "negative_prompt", "width", "height", "steps", "guidance_scale", "sampler")
    }
    words |= {"seed": request.seed_of(index), "num_images": 1}
    more = {"hires_fix" if name == "hires" else name: _plain(value) for name, value in to_keywords(request).items()}
    return words | {name: value for name, value in more.items() if value is not None and value is not False}


def _plain(value):
    if isinstance(value, Picture):
        buffer = io.BytesIO()
        value.load().save(buffer, "PNG", compress_level=1)
        return base64.b64encode(buffer.getvalue()).decode()
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value


def read_image(data: bytes) -> Image.Image:
    """The pixels of an image from elsewhere, whatever its media type claims. Raises BadAnswer."""
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
        if max(picture.size) > MAX_UPSCALED_SIDE:
            raise BadAnswer()
        return picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise BadAnswer() from None


def read_json(answer: Answer) -> dict:
    try:
        content = json.loads(answer.body)
    except (ValueError, RecursionError):
        raise BadAnswer() from None
    if not isinstance(content, dict):
        raise BadAnswer()
    return content


def _from_base64(value) -> bytes:
    try:
        return base64.b64decode(value if isinstance(value, str) else "", validate=True)
    except (binascii.Error, ValueError):
        raise BadAnswer() from None


def _repository(spec: ModelSpec) -> str | None:
    names = [name for name in spec.sources if not Path(name).is_absolute()]
    return next((name for name in names if re.fullmatch(r"[\w.-]+/[\w.-]+", name)), None)

"""Programs made for OpenAI's images API, unmodified, against a running site: their calls in their order, with their
headers and fields, and what they read of the answers."""

import base64
import io
import re
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from PIL import Image

from tests.site import wait_for

QUICK = {"steps": 2}


@pytest.fixture
def token(site):
    return site.user().headers["Authorization"].removeprefix("Bearer ")


@pytest.fixture
def client(site, token):
    with httpx.Client(base_url=site.url, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        yield client


def picture(format="PNG", size=(128, 128), mode="RGB", colour=(200, 60, 40)) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, format)
    return buffer.getvalue()


def opened(data) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(data) if isinstance(data, str) else data))
    image.load()
    return image


def test_open_webui(client):
    """Its model is often one of OpenAI's; for those named gpt-image it leaves out response_format."""
    whose = {"X-OpenWebUI-User-Name": "A%20B", "X-OpenWebUI-User-Role": "admin"}
    for body in (
        {"model": "dall-e-2", "size": "512x512", "response_format": "b64_json"},
        {"model": "gpt-image-1", "size": "auto"},
    ):
        answer = client.post(
            "/v1/images/generations?api-version=2025-04-01-preview",
            headers=whose,
            json={"prompt": "a red boat", "n": 1} | body | QUICK,
        )
        assert opened(answer.raise_for_status().json()["data"][0]["b64_json"]).format == "PNG"
    by_address = client.post("/v1/images/generations", json={"model": "dall-e-3", "prompt": "a boat", "n": 1} | QUICK)
    fetched = client.get(by_address.json()["data"][0]["url"])
    assert fetched.headers["Content-Type"].split("/")[0] == "image" and opened(fetched.content)

    image = ("image", ("0d1f.jpg", picture("JPEG"), "image/jpeg"))
    for body in ({"model": "", "response_format": "b64_json"}, {"model": "gpt-image-1", "n": "1", "size": "512x512"}):
        answer = client.post("/v1/images/edits", files=[image], data={"prompt": "a boat", "steps": "2"} | body)
        assert opened(answer.raise_for_status().json()["data"][0]["b64_json"]).format == "PNG"


def test_librechat(client, site, token):
    """It fetches addresses without a key and names its copy after them; its edits may come with Azure's header."""
    answer = client.post(
        "/v1/images/generations",
        json={
            "model": "dall-e-3",
            "quality": "standard",
            "style": "vivid",
            "size": "1024x1792",
            "prompt": "a boat",
            "n": 1,
        }
        | QUICK,
    ).json()
    address = answer["data"][0]["url"]
    assert re.search(r"[\w-]+\.png", urlsplit(address).path)
    drawn = opened(httpx.get(address).raise_for_status().content)
    assert drawn.height > drawn.width

    gpt = {
        "model": "gpt-image-1",
        "prompt": "a boat",
        "n": 1,
        "background": "auto",
        "output_format": "webp",
        "output_compression": 100,
        "quality": "auto",
        "size": "auto",
    }
    answer = client.post("/v1/images/generations", json=gpt | QUICK).raise_for_status().json()
    assert opened(answer["data"][0]["b64_json"]).format == "WEBP"

    form = {"model": "gpt-image-1", "prompt": "a boat", "quality": "auto", "size": "auto", "steps": "2"}
    answer = httpx.post(
        f"{site.url}/v1/images/edits?api-version=2025-04-01-preview",
        headers={"api-key": token},
        files=[("image[]", ("a.webp", picture("WEBP"), "image/webp"))],
        data=form,
        timeout=60,
    )
    assert opened(answer.raise_for_status().json()["data"][0]["b64_json"])


def test_home_assistant_and_langchain(site, token):
    """Both give the address to people, who open it in a browser."""
    with openai.OpenAI(base_url=f"{site.url}/v1", api_key=token, max_retries=0) as client:
        assert client.with_options(timeout=10.0).models.list().data
        image = client.images.generate(
            model="dall-e-3",
            prompt="a boat",
            size="1792x1024",
            quality="hd",
            style="natural",
            response_format="url",
            n=1,
            extra_body=QUICK,
        ).data[0]
        assert set(image.model_dump(exclude={"b64_json"})) >= {"url", "revised_prompt"}
        several = client.images.generate(
            prompt="a boat", n=2, size="1024x1024", model="dall-e-2", quality="standard", extra_body=QUICK
        ).data
    for address in (image.url, *(image.url for image in several)):
        assert opened(httpx.get(address).content).format == "PNG"


def test_lobechat_and_vercel(client):
    """Fields that mean nothing here are left unread, and null counts as left out."""
    answer = client.post(
        "/v1/images/edits",
        files=[("image", ("a.png", picture(), "image/png"))],
        data={"model": "gpt-image-1", "n": "1", "input_fidelity": "high", "prompt": "a boat", "steps": "2"},
    )
    assert opened(answer.raise_for_status().json()["data"][0]["b64_json"])
    answer = client.post(
        "/v1/images/generations",
        json={"model": "dreamsketch-tiny", "prompt": "a boat", "n": 2, "size": None, "response_format": "b64_json"}
        | QUICK,
    )
    assert all(isinstance(image["b64_json"], str) for image in answer.raise_for_status().json()["data"])
    refused = client.post("/v1/images/generations", json={"model": "nothing", "prompt": "a boat"}).json()["error"]
    assert all(isinstance(refused[name], str) for name in ("message", "type", "param", "code"))


def test_a_mask_of_another_size_and_as_json(client):
    """The mask is stretched over the picture."""
    noise = Image.effect_noise((256, 256), 60).convert("RGB")
    buffer, mask = io.BytesIO(), Image.new("RGBA", (64, 128), (0, 0, 0, 255))
    noise.save(buffer, "PNG")
    mask.paste((0, 0, 0, 0), (32, 0, 64, 128))
    hole = io.BytesIO()
    mask.save(hole, "PNG")
    head = "data:image/png;base64,"
    answer = client.post(
        "/v1/images/edits",
        json={
            "model": "gpt-image-1",
            "prompt": "a boat",
            "mask_blur": 0,
            "images": [{"image_url": head + base64.b64encode(buffer.getvalue()).decode()}],
            "mask": {"image_url": head + base64.b64encode(hole.getvalue()).decode()},
        }
        | QUICK,
    )
    drawn = opened(answer.raise_for_status().json()["data"][0]["b64_json"]).convert("RGB")
    assert drawn.crop((0, 0, 100, 256)).tobytes() == noise.crop((0, 0, 100, 256)).tobytes()
    assert drawn.crop((160, 0, 256, 256)).tobytes() != noise.crop((160, 0, 256, 256)).tobytes()


# --- hanging up -----------------------------------------------------------------------------------------


def test_who_hangs_up_finds_the_picture_in_the_gallery(fault_site):
    with fault_site.user() as client:
        with pytest.raises(httpx.ReadTimeout):
            client.post("/v1/images/generations", json={"prompt": "a boat", "steps": 20}, timeout=0.5)
        wait_for(lambda: client.get("/api/images/history").json()["total"] == 1, what="the picture")


def test_who_hangs_up_on_a_stream_finds_it_too(fault_site):
    with fault_site.user() as client:
        body = {"prompt": "a boat", "steps": 20, "stream": True, "partial_images": 3}
        with client.stream("POST", "/v1/images/generations", json=body) as stream:
            next(stream.iter_lines())
        wait_for(lambda: client.get("/api/images/history").json()["total"] == 1, what="the picture")


def test_repeats_with_an_idempotency_key_draw_once(fault_site):
    """The client repeats by itself what took it too long."""
    token = fault_site.user().headers["Authorization"].removeprefix("Bearer ")
    with openai.OpenAI(base_url=f"{fault_site.url}/v1", api_key=token, timeout=1, max_retries=10) as client:
        answer = client.images.generate(
            prompt="a boat",
            response_format="b64_json",
            extra_body={"steps": 25},
            extra_headers={"Idempotency-Key": "one picture"},
        )
    assert opened(answer.data[0].b64_json)
    history = httpx.get(f"{fault_site.url}/api/images/history", headers={"Authorization": f"Bearer {token}"}).json()
    assert history["total"] == 1

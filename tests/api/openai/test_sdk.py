"""The real `openai` client against a running site: sync, async, streaming, edits, variations, models, errors."""

import asyncio
import base64
import io

import httpx
import openai
import pytest
from PIL import Image

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def client(site):
    token = site.user().headers["Authorization"].removeprefix("Bearer ")
    with openai.OpenAI(base_url=f"{site.url}/v1", api_key=token, max_retries=0) as client:
        yield client


@pytest.fixture
def streaming_client(fault_site):
    """On a site whose drawing is slow enough for previews."""
    token = fault_site.user().headers["Authorization"].removeprefix("Bearer ")
    with openai.OpenAI(base_url=f"{fault_site.url}/v1", api_key=token, max_retries=0) as client:
        yield client


def opened(b64: str) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(b64)))
    image.load()
    return image


def png(image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_an_image_by_its_address(client):
    answer = client.images.generate(
        prompt="a red boat at sea", model="dall-e-3", size="1024x1024", n=1, extra_body={"steps": 2, "seed": 7}
    )
    fetched = httpx.get(answer.data[0].url, headers={"Authorization": f"Bearer {client.api_key}"})
    assert fetched.headers["Content-Type"] == "image/png"
    image = Image.open(io.BytesIO(fetched.content))
    assert image.width == image.height
    assert httpx.get(answer.data[0].url).content == fetched.content, "programs hand it on to what has no key"
    assert httpx.get(answer.model_extra["imageUrl"]).status_code == 404, "this address alone opens nothing"
    assert answer.created > 1_600_000_000
    extra = answer.model_extra
    assert (extra["modelUsed"], extra["prompt"]) == ("dreamsketch-tiny", "a red boat at sea")
    assert extra["parameters"]["seed"] == 7


def test_what_was_changed_is_said_in_headers(client):
    raw = client.images.with_raw_response.generate(
        prompt="a red boat at sea " * 200, model="gpt-image-1", size="1536x1024", extra_body={"steps": 1}
    )
    assert raw.headers["x-dreamsketch-model"] == "dreamsketch-tiny"
    assert raw.headers["x-dreamsketch-prompt-cut"] == "2000"
    assert raw.headers["x-request-id"]
    image = opened(raw.parse().data[0].b64_json)
    assert raw.headers["x-dreamsketch-size"] == f"{image.width}x{image.height}"
    assert image.width > image.height


@pytest.mark.parametrize(("format", "expected"), [("jpeg", "JPEG"), ("webp", "WEBP"), ("png", "PNG")])
def test_formats(client, format, expected):
    answer = client.images.generate(
        prompt="a blue house", model="gpt-image-1", output_format=format, output_compression=60, extra_body={"steps": 1}
    )
    assert opened(answer.data[0].b64_json).format == expected
    assert answer.output_format == format


def test_several_with_a_style(client):
    answer = client.images.generate(
        prompt="a cat",
        n=2,
        style="watercolour",
        response_format="b64_json",
        size="256x256",
        extra_body={"steps": 1, "negative_prompt": "dogs", "cfg_scale": 3},
    )
    assert len(answer.data) == 2
    assert all("watercolour" in image.revised_prompt for image in answer.data)
    assert answer.data[0].b64_json != answer.data[1].b64_json
    assert answer.model_extra["negativePrompt"] == "dogs"


def test_an_edit_changes_the_transparent_part_only(client):
    picture = Image.effect_noise((256, 256), 60).convert("RGB")
    mask = Image.new("RGBA", (256, 256), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (128, 0, 256, 256))
    answer = client.images.edit(
        image=("picture.png", png(picture)),
        mask=("mask.png", png(mask)),
        prompt="a red boat",
        response_format="b64_json",
        extra_body={"steps": 2, "mask_blur": 0},
    )
    image = opened(answer.data[0].b64_json).convert("RGB")
    assert image.crop((0, 0, 100, 256)).tobytes() == picture.crop((0, 0, 100, 256)).tobytes()
    assert image.crop((160, 0, 256, 256)).tobytes() != picture.crop((160, 0, 256, 256)).tobytes()
    assert answer.model_extra["parameters"]["steps"] == 2


def test_an_edit_of_a_list_without_a_mask(client):
    picture = png(Image.new("RGB", (128, 128), (200, 60, 40)))
    answer = client.images.edit(
        image=[("picture.png", picture)],
        prompt="a red boat",
        model="gpt-image-1",
        extra_body={"steps": 2, "strength": 0.5},
    )
    assert opened(answer.data[0].b64_json).size == (128, 128)
    with pytest.raises(openai.BadRequestError) as refusal:
        client.images.edit(image=[("a.png", picture), ("b.png", picture)], prompt="a red boat")
    assert refusal.value.param == "image"


def test_a_variation(client):
    drawn = client.images.generate(prompt="a yellow house", response_format="b64_json", extra_body={"steps": 2})
    own = base64.b64decode(drawn.data[0].b64_json)
    answer = client.images.create_variation(image=("own.png", own), response_format="b64_json", extra_body={"steps": 2})
    assert answer.model_extra["prompt"] == "a yellow house", "a picture of ours says what it shows"
    assert opened(answer.data[0].b64_json).size == opened(drawn.data[0].b64_json).size
    strange = png(Image.new("RGB", (128, 128), (9, 99, 9)))
    assert client.images.create_variation(image=strange, extra_body={"steps": 2}).data[0].url


def test_models(client):
    models = {model.id: model for model in client.models.list()}
    assert models["dreamsketch-tiny"].object == "model"
    assert client.models.retrieve("runwayml/stable-diffusion-v1-5").id == "runwayml/stable-diffusion-v1-5"
    assert client.models.retrieve("dall-e-3").owned_by == "dreamsketch"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nothing")


def test_streaming(streaming_client):
    stream = streaming_client.images.generate(
        prompt="a red boat", model="gpt-image-1", stream=True, partial_images=2, extra_body={"steps": 20}
    )
    events = list(stream)
    *partial, completed = events
    assert [event.type for event in partial] == ["image_generation.partial_image"] * len(partial)
    assert 1 <= len(partial) <= 2 and [event.partial_image_index for event in partial] == list(range(len(partial)))
    assert all(opened(event.b64_json).format == "PNG" for event in events)
    assert completed.type == "image_generation.completed" and completed.usage.total_tokens == 0
    assert completed.output_format == "png" and completed.background == "opaque"


def test_streaming_an_edit_without_previews(streaming_client):
    picture = png(Image.new("RGB", (64, 64), (200, 60, 40)))
    events = list(streaming_client.images.edit(image=picture, prompt="a boat", stream=True, extra_body={"steps": 3}))
    assert [event.type for event in events] == ["image_edit.completed"]


def test_async(fault_site):
    token = fault_site.user().headers["Authorization"].removeprefix("Bearer ")

    async def run():
        async with openai.AsyncOpenAI(base_url=f"{fault_site.url}/v1/", api_key=token, max_retries=0) as client:
            answers = await asyncio.gather(
                *(client.images.generate(prompt=f"boat {i}", extra_body={"steps": 2}) for i in range(2))
            )
            assert all(answer.data[0].url for answer in answers)
            stream = await client.images.generate(prompt="a boat", stream=True, extra_body={"steps": 2})
            assert [event.type async for event in stream] == ["image_generation.completed"]

    asyncio.run(run())


def test_a_stream_that_comes_to_nothing(streaming_client):
    with pytest.raises(openai.APIError) as failure:
        list(streaming_client.images.generate(prompt="[fault:oom] a boat", stream=True, extra_body={"steps": 3}))
    assert failure.value.code == "out_of_memory"


def test_errors_become_the_clients_own_exceptions(client, site):
    def refused(kind, code, **fields):
        with pytest.raises(kind) as refusal:
            client.images.generate(**({"prompt": "a boat"} | fields))
        assert refusal.value.code == code and refusal.value.request_id
        return refusal.value

    assert refused(openai.BadRequestError, "invalid_request", size="1x").param == "size"
    assert refused(openai.BadRequestError, "model_not_found", model="nothing").param == "model"
    assert refused(openai.BadRequestError, "invalid_request", n=11).param == "n"
    too_many = refused(openai.BadRequestError, "invalid_request", extra_body={"steps": 1000})
    assert (too_many.param, too_many.type) == ("steps", "invalid_request_error")
    stranger = openai.OpenAI(base_url=f"{site.url}/v1", api_key="dsk_12345678_x", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        stranger.images.generate(prompt="a boat")
    free = site.user(plan="free").headers["Authorization"].removeprefix("Bearer ")
    site.manage(
        "shell",
        "--no-imports",
        "-c",
        "import datetime as dt\nfrom accounts.models import ApiKey, DailyUsage\n"
        f"user = ApiKey.find({free!r}).user\n"
        "DailyUsage.objects.create(user=user, day=dt.datetime.now(dt.UTC).date(), used=10)",
    )
    with openai.OpenAI(base_url=f"{site.url}/v1", api_key=free) as poor, pytest.raises(openai.RateLimitError) as over:
        poor.images.generate(prompt="a boat")
    assert (over.value.code, over.value.type) == ("quota_exceeded", "insufficient_quota")
    assert int(over.value.response.headers["Retry-After"]) > 0


def test_the_key_in_the_header_for_azure(client, site):
    headers = {"api-key": client.api_key}
    assert httpx.get(f"{site.url}/v1/models?api-version=2026-01-01", headers=headers).status_code == 200
    assert httpx.get(f"{site.url}/v1/models", headers={"api-key": "dsk_12345678_x"}).status_code == 401
    assert httpx.get(f"{site.url}/api/usage", headers=headers).status_code == 401, "in this dialect only"

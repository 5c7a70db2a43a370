"""A client that a generator made of the live document, doing the main job with the running site."""

import importlib
import json
import subprocess
import sys

import pytest

from tests.site import wait_for

PACKAGE = "dreamsketch_client"
# The generator has no pictures among its content types; whoever uses it says what they are.
PICTURES = dict.fromkeys(("image/png", "image/jpeg", "image/webp"), "application/octet-stream")


@pytest.fixture
def generated(fault_site, tmp_path, monkeypatch):
    """Imports modules of the client."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"content_type_overrides": PICTURES, "post_hooks": []}))
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "openapi_python_client",
            "generate",
            "--url",
            f"{fault_site.url}/api/schema",
            "--config",
            str(config),
            "--meta",
            "none",
            "--output-path",
            str(tmp_path / PACKAGE),
            "--fail-on-warning",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda name: importlib.import_module(f"{PACKAGE}.{name}" if name else PACKAGE)
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


def test_it_draws_and_fetches_and_understands_refusals(generated, fault_site):
    def api(name, **arguments):
        return generated(f"api.{name}").sync(client=client, **arguments)

    models = generated("models")
    with fault_site.user() as person:
        token = person.headers["Authorization"].removeprefix("Bearer ")
    client = generated("").AuthenticatedClient(fault_site.url, token=token, raise_on_unexpected_status=True)

    offered = api("site.list_models")
    (default,) = [model for model in offered.models if model.is_default]
    assert models.Mode.INPAINT in default.modes and offered.upscalers[0] == "lanczos"

    body = models.GenerateRequest(
        "a red boat at sea",
        model=default.key,
        width=256,
        height=256,
        steps=2,
        seed=7,
        num_images=2,
        hires_fix=models.HiresFix(scale=1.5, steps=1),
    )
    job = api("generations.generate", body=body, idempotency_key="order-1742")
    assert isinstance(job, models.Submitted) and job.status is models.GenerationStatusName.QUEUED
    assert api("generations.generate", body=body, idempotency_key="order-1742").id == job.id

    def finished():
        status = api("generations.generation_status", generation_id=job.id)
        return status.status is models.GenerationStatusName.COMPLETED and status

    drawn = wait_for(finished, seconds=30, what="the images")
    assert (drawn.progress, drawn.error, [image.seed for image in drawn.images]) == (1, None, [7, 8])
    file = api("images.download_image", image_id=drawn.images[0].id, format_=models.DownloadImageFormat.WEBP)
    assert file.payload.read(12)[8:] == b"WEBP"

    page = api("images.history", per_page=1)
    assert (page.total, [image.id for image in page.images]) == (2, [drawn.images[1].id])
    rest = api("images.history", per_page=1, cursor=page.next_cursor)
    assert ([image.id for image in rest.images], rest.page, rest.next_cursor) == ([drawn.images[0].id], None, None)
    change = models.PatchedChangeImage(visibility=models.Visibility.UNLISTED, title="My boat")
    changed = api("images.change_image", image_id=drawn.images[0].id, body=change)
    assert (changed.title, changed.visibility, changed.parameters.seed) == ("My boat", models.Visibility.UNLISTED, 7)
    assert changed.created_at.tzinfo and changed.deleted_at is None

    file.payload.seek(0)
    picture = generated("types").File(file.payload, "boat.webp", "image/webp")
    again = api("generations.img2img", body=models.Img2ImgForm("a blue boat", image=picture, strength=0.5, steps=2))
    assert isinstance(again, models.Drawn), again
    assert again.status is models.Success.SUCCESS and again.result.prompt == "a blue boat"

    usage = api("account.usage")
    assert (usage.used, usage.held, usage.receipts[0].charged) == (3, 0, 1)

    body.steps = 5000
    refused = api("generations.generate", body=body)
    assert isinstance(refused, models.Error)
    assert (refused.error.code, refused.error.param) == ("invalid_request", "steps")
    missing = api("generations.generation_status", generation_id=drawn.images[0].id)
    assert isinstance(missing, models.Error) and missing.error.code == "not_found"
    stranger = generated("").AuthenticatedClient(fault_site.url, token="dsk_nobody")
    assert generated("api.account.usage").sync(client=stranger).error.code == "invalid_api_key"

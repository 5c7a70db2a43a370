"""A plain parameter, declared once, is wherever requests are spoken of. `guidance_rescale` stands for all."""

import json

import pytest
from django.core.management import call_command

from generation.engine.catalog.models import Catalog, local_model
from generation.engine.errors import InvalidRequest
from generation.engine.request.metadata import parameters_text, parse_parameters, settings_of
from generation.engine.request.request import build_request
from generation.models import Generation
from generation.services.generations import create_generation, retry_generation

JSON = "application/json"
SD15, FLUX = Catalog().get("sd15"), Catalog().get("flux-schnell")


@pytest.mark.parametrize("name", ["guidance_rescale", "guidanceRescale", "cfg_rescale"])
def test_the_native_api_takes_it_and_tells_it(pro_user, api_client, name):
    client = api_client(pro_user)
    body = json.dumps({"prompt": "a boat", name: 0.7})
    quote = client.post("/api/generate", json.dumps({"prompt": "a boat", name: 0.7, "dry_run": True}), JSON).json()
    assert quote["request"]["guidance_rescale"] == 0.7
    status = client.get(f"/api/status/{client.post('/api/generate', body, JSON).json()['id']}").json()
    assert status["request"]["guidance_rescale"] == 0.7
    assert client.get("/api/usage").json()["receipts"][0]["request"]["guidance_rescale"] == 0.7
    refused = client.post("/api/generate", json.dumps({"prompt": "a boat", name: 1.5}), JSON)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, name)
    schema = client.get("/api/schema", headers={"Accept": "application/json"}).json()
    declared = schema["components"]["schemas"]["GenerateRequest"]["properties"]["guidance_rescale"]
    assert (declared["minimum"], declared["type"]) == (0, ["number", "null"])


def test_a_retry_and_an_image_keep_it(pro_user, api_client, make_image):
    generation, _ = create_generation(user=pro_user, prompt="a boat", guidance_rescale=0.7)
    Generation.objects.filter(pk=generation.pk).update(status="failed")
    assert retry_generation(generation, source="api").options == {"guidance_rescale": 0.7}
    image = make_image(pro_user, generation_fields={"options": {"guidance_rescale": 0.7}})
    answer = api_client(pro_user).get(f"/api/images/{image.id}").json()
    assert (answer["mode"], answer["source"], answer["request"]["guidance_rescale"]) == ("txt2img", "page", 0.7)


def test_the_dialects_take_it(pro_user, api_client, settings):
    settings.BLOCKING_SECONDS = 0
    client = api_client(pro_user)
    fields = client.get("/api/schema", headers={"Accept": "application/json"}).json()["paths"]["/sdapi/v1/txt2img"]
    body = fields["post"]["requestBody"]["content"][JSON]["schema"]
    assert body["properties"]["guidance_rescale"]["maximum"] == 1
    refused = client.post("/v1/images/generations", json.dumps({"prompt": "a boat", "guidance_rescale": 2}), JSON)
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "guidance_rescale"


@pytest.mark.django_db
def test_the_page_has_it_and_sends_it(pro_user, page_client):
    page = page_client(pro_user)
    assert 'name="guidance_rescale"' in page.get("/create/").content.decode()
    page.post("/create/", {"prompt": "a boat", "shape": "1:1", "guidance_rescale": "0.7"})
    assert Generation.objects.get().options == {"guidance_rescale": 0.7}


def test_png_text_has_it_and_gives_it_back():
    request = build_request(SD15, prompt="a boat", guidance_rescale=0.7, seed=1)
    text = parameters_text(request, 1, {})
    assert ", CFG rescale: 0.7," in text
    assert settings_of({"recipe": {}, "parameters": parse_parameters(text)})["guidance_rescale"] == 0.7
    plain = build_request(SD15, prompt="a boat", seed=1)
    assert plain.guidance_rescale == 0 and "rescale" not in parameters_text(plain, 1, {})


def test_models_of_zero_snr_have_it_by_themselves_and_others_may_lack_it(tmp_path):
    zero = local_model("zero", tmp_path, zero_snr=True)
    assert build_request(zero, prompt="a boat").guidance_rescale == 0.7
    assert build_request(zero, prompt="a boat", guidance_rescale=0).guidance_rescale == 0
    with pytest.raises(InvalidRequest, match="has no “guidance_rescale”"):
        build_request(FLUX, prompt="a boat", guidance_rescale=0.5)


def test_the_command_has_it(settings, tmp_path):
    settings.DREAMSKETCH_ENGINE = "fake"
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    arguments = {"guidance_rescale": 0.7, "steps": 2, "seed": 3, "out": first}
    call_command("generate", "a boat", **arguments)
    call_command("generate", like=first, out=second)
    assert first.read_bytes() == second.read_bytes()

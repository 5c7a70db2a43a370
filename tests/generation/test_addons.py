"""Add-ons at the one way in: tags and keyword rules bring LoRAs, what is not installed is refused at once."""

import numpy as np
import pytest
from django.urls import reverse
from safetensors.numpy import save_file

from generation.catalog import addons, model_named
from generation.engine.catalog.models import Catalog
from generation.engine.errors import InvalidRequest
from generation.engine.request.complete import complete_request
from generation.models import Generation, LoraRule
from generation.services.generations import create_generation, retry_generation
from generation.storage.image_requests import request_of


@pytest.fixture
def installed(settings, tmp_path):
    """LoRAs for the built-in model and one for Stable Diffusion 1.x, in a MODELS_DIR of their own."""
    settings.MODELS_DIR = tmp_path / "models"
    folder = settings.MODELS_DIR / "loras"
    folder.mkdir(parents=True)
    from generation.engine.catalog.addons import text_width

    own = text_width(model_named("dreamsketch-tiny"))

    def add(key, width=own):
        name = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight"
        save_file({name: np.zeros((4, width), np.float32)}, folder / f"{key}.safetensors")

    add("ink"), add("chalk"), add("for-sd1", 768)
    return add


def create(user, prompt="a cat", **fields):
    return create_generation(user=user, prompt=prompt, **fields)[0]


def loras_of(generation):
    return {lora.key: lora.weight for lora in request_of(generation).loras}


def test_a_tag_brings_a_lora_and_is_not_drawn(free_user, installed):
    generation = create(free_user, "a cat <lora:ink:-.5> asleep <lora:chalk>")
    assert loras_of(generation) == {"ink": -0.5, "chalk": 1.0}
    assert generation.composed_prompt == "a cat asleep"


def test_a_keyword_brings_its_lora_where_it_fits(free_user, installed):
    LoraRule.objects.create(keyword="Ink drawing", lora="ink", weight=0.7)
    LoraRule.objects.create(keyword="cat", lora="for-sd1")
    LoraRule.objects.create(keyword="dog", lora="chalk")
    LoraRule.objects.create(keyword="asleep", lora="gone")
    LoraRule.objects.create(keyword="a", lora="chalk", enabled=False)
    assert loras_of(create(free_user, "A cat asleep, INK drawing")) == {"ink": 0.7}
    assert loras_of(create(free_user, "ink, a drawing of a dogma")) == {}


def test_what_was_asked_for_outright_counts(free_user, installed):
    LoraRule.objects.create(keyword="cat", lora="ink", weight=0.7)
    generation = create(free_user, "a cat <lora:ink:0.2>", loras=[{"key": "ink", "weight": 0.9}])
    assert loras_of(generation) == {"ink": 0.9}


@pytest.mark.parametrize(
    "fields,param,message",
    [
        ({"loras": [{"key": "absent"}]}, "loras", "absent"),
        ({"loras": [{"key": "../loras/ink"}]}, "loras", "../loras/ink"),
        ({"prompt": "a cat <lora:absent:1>"}, "loras", "absent"),
        ({"loras": ["for-sd1"]}, "loras", "not made for"),
    ],
)
def test_one_that_is_not_here_is_refused_and_nothing_is_made(free_user, installed, fields, param, message):
    with pytest.raises(InvalidRequest, match=message) as refusal:
        create(free_user, **fields)
    assert refusal.value.param == param
    assert not Generation.objects.exists()


def test_fast_takes_few_steps_where_a_lora_for_that_is_installed(free_user, pro_user, installed):
    fields = {"quality": "fast", "steps": 30, "guidance_scale": 7}
    without = create(pro_user, **fields)
    assert (without.steps, without.sampler, without.guidance_scale) == (30, "Euler", 7), "there is none for it"
    installed("lcm-lora-tiny")
    generation = create(pro_user, **fields, loras=["ink"])
    assert (generation.steps, generation.sampler, generation.guidance_scale) == (8, "LCM", 2)
    assert loras_of(generation) == {"ink": 1.0, "lcm-lora-tiny": 1.0}
    assert create(pro_user, steps=30).sampler == "Euler"
    Generation.objects.filter(pk=generation.pk).update(status="failed", attempt=1)
    assert request_of(retry_generation(generation, source="api")) == request_of(generation)


def test_few_steps_are_only_for_the_model_they_were_made_for(settings, installed):
    installed("lcm-lora-sdv1-5", 768)
    from generation.engine.request.request import build_request

    steps = {}
    for key in ("stable-diffusion-v1-5", "stable-diffusion-v2-1", "sdxl-base"):
        spec = Catalog().get(key)
        steps[key] = complete_request(build_request(spec, prompt="a cat", quality="fast"), spec, addons()).steps
    assert steps == {"stable-diffusion-v1-5": 8, "stable-diffusion-v2-1": 30, "sdxl-base": 30}


def test_staff_make_rules_for_what_is_installed(installed, staff_user, page_client):
    staff = page_client(staff_user)
    address = reverse("admin:generation_lorarule_add")
    rule = {"keyword": "ink drawing", "lora": "ink", "weight": "0.8", "enabled": "on"}
    for wrong in ({"lora": "absent"}, {"weight": "9"}, {"keyword": "!?"}):
        assert staff.post(address, rule | wrong).status_code == 200
        assert not LoraRule.objects.exists()
    assert staff.post(address, rule).status_code == 302
    assert LoraRule.objects.get().lora == "ink"

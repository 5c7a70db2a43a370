"""A request is checked in one place, and every refusal names its field."""

import math

import pytest

from generation.engine.catalog.models import MODELS, Catalog
from generation.engine.catalog.samplers import SAMPLERS, find_sampler
from generation.engine.errors import InvalidRequest, UnknownModel
from generation.engine.request.fields import ASPECT_RATIOS
from generation.engine.request.request import build_request

SPEC = Catalog().get("stable-diffusion-v1-5")
NOT_NUMBERS = [math.nan, "20", "", [], {}, b"1", True, False, 1j, object()]
FAR_NUMBERS = [math.inf, -math.inf, 10**400, -(10**400), 1e308, -5]

HOSTILE = {
    "prompt": [None, 5, b"cat", [], "", "   ", "\n\t", "x" * 2001, "a\x00b", "\ud800", "cat \udfff", True],
    "negative_prompt": [5, b"cat", [], 0, False, "x" * 2001, "a\x00b", "\ud800"],
    "width": [*NOT_NUMBERS, *FAR_NUMBERS, 0, 63, 65, 72.5, 1032],
    "height": [*NOT_NUMBERS, *FAR_NUMBERS, 0, 63, 65, 72.5, 1032],
    "aspect_ratio": [5, [], {}, "1:0", "16/9", "x" * 1000, True],
    "steps": [*NOT_NUMBERS, *FAR_NUMBERS, 0, 101, 2.5],
    "guidance_scale": [*NOT_NUMBERS, *FAR_NUMBERS, 20.1],
    "sampler": [5, [], {}, "Eulr", "../x", "x" * 10_000, True, "\ud800"],
    "seed": [*NOT_NUMBERS, *FAR_NUMBERS, -2, 2**32, 0.5],
    "num_images": [*NOT_NUMBERS, *FAR_NUMBERS, 0, 5, 1.5],
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param(field, value, id=f"{field}-{number}")
        for field, values in HOSTILE.items()
        for number, value in enumerate(values)
    ],
)
def test_a_bad_value_is_refused_by_name(field, value):
    with pytest.raises(InvalidRequest) as caught:
        build_request(SPEC, **{"prompt": "a cat", field: value})
    assert caught.value.param == field
    assert str(caught.value) and len(str(caught.value)) < 300


def test_what_is_not_said_is_the_models_choice():
    request = build_request(SPEC, prompt="  a cat ")
    assert (request.prompt, request.negative_prompt, request.width, request.height) == ("a cat", "", 512, 512)
    assert (request.steps, request.guidance_scale, request.sampler) == (30, 7.5, "Euler")
    assert request.num_images == 1
    assert 0 <= request.seed < 2**32


def test_minus_one_is_a_random_seed():
    seeds = {build_request(SPEC, prompt="a cat", seed=-1).seed for _ in range(20)}
    assert len(seeds) > 15


def test_whole_numbers_may_come_as_floats():
    request = build_request(SPEC, prompt="a cat", steps=20.0, width=640.0, seed=7.0)
    assert (request.steps, request.width, request.seed) == (20, 640, 7)
    assert all(type(value) is int for value in (request.steps, request.width, request.seed))


@pytest.mark.parametrize("spec", MODELS, ids=lambda spec: spec.key)
@pytest.mark.parametrize("ratio", ASPECT_RATIOS)
def test_every_shape_is_a_size_the_model_takes(spec, ratio):
    request = build_request(spec, prompt="a cat", aspect_ratio=ratio)
    again = build_request(spec, prompt="a cat", width=request.width, height=request.height)
    across, down = ASPECT_RATIOS[ratio]
    assert request.width / request.height == pytest.approx(across / down, rel=0.12)
    assert (again.width, again.height) == (request.width, request.height)


def test_lcm_takes_at_most_its_fifty_steps():
    assert build_request(SPEC, prompt="a cat", sampler="lcm", steps=50).steps == 50
    with pytest.raises(InvalidRequest) as caught:
        build_request(SPEC, prompt="a cat", sampler="lcm", steps=51)
    assert caught.value.param == "steps"


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("k_euler_a", "Euler a"),
        ("EULER  A", "Euler a"),
        ("DPM++ 2M Karras", "DPM++ 2M Karras"),
        ("dpm++", "DPM++ 2M"),
        ("uni_pc", "UniPC"),
        ("PNDM", "PLMS"),
        ("EulerDiscreteScheduler", "Euler"),
        ("ddim", "DDIM"),
    ],
)
def test_samplers_go_by_many_names(alias, name):
    assert find_sampler(alias).name == name
    assert build_request(SPEC, prompt="a cat", sampler=alias).sampler == name


def test_no_two_samplers_share_a_name():
    for sampler in SAMPLERS:
        for name in (sampler.name, *sampler.aliases):
            assert find_sampler(name) is sampler, name


def test_models_go_by_many_names():
    assert Catalog().get(" RunwayML/stable-diffusion-v1-5 ").key == "stable-diffusion-v1-5"
    with pytest.raises(UnknownModel) as caught:
        Catalog().get("../../etc/passwd")
    assert caught.value.param == "model"

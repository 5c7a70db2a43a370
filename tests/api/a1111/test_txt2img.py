"""txt2img: what comes back, how its words become ours, and how several batches are drawn."""

import json
import uuid

import pytest

from accounts.models import ApiKey
from accounts.quotas import hold
from generation.engine.request.metadata import parse_parameters
from generation.models import GeneratedImage, Generation

from .conftest import Caller, opened

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _worker(start_worker):
    start_worker()


def test_the_answer(caller, pro_user):
    answer = caller.drawn(
        prompt="a red boat at sea",
        negative_prompt="people",
        seed=7,
        steps=4,
        cfg_scale=3.5,
        width=128,
        height=192,
        sampler_name="Euler a",
    )
    generation = Generation.objects.get()
    assert (generation.owner, generation.source) == (pro_user, "a1111")
    assert generation.api_key == ApiKey.objects.get()
    image = opened(answer["images"][0])
    assert (image.format, image.size) == ("PNG", (128, 192))
    info = answer["info"]
    assert (info["prompt"], info["all_prompts"]) == ("a red boat at sea", ["a red boat at sea"])
    assert (info["negative_prompt"], info["seed"], info["all_seeds"]) == ("people", 7, [7])
    assert (info["width"], info["height"], info["steps"], info["cfg_scale"]) == (128, 192, 4, 3.5)
    assert (info["sampler_name"], info["batch_size"], info["clip_skip"]) == ("Euler a", 1, 1)
    assert (info["sd_model_name"], info["index_of_first_image"]) == ("dreamsketch-tiny", 0)
    assert len(info["job_timestamp"]) == 14 and info["version"].startswith("DreamSketch")
    assert info["infotexts"] == [image.info["parameters"]]
    parameters = parse_parameters(info["infotexts"][0])
    assert (parameters["Seed"], parameters["Steps"], parameters["Size"]) == ("7", "4", "128x192")
    assert answer["parameters"]["prompt"] == "a red boat at sea" and answer["parameters"]["cfg_scale"] == 3.5


def test_the_document_promises_what_comes(caller, documented):
    documented(caller.post("txt2img", {"prompt": "a boat", "steps": 2}), "post", "/sdapi/v1/txt2img")
    documented(caller.post("txt2img", {"prompt": "a boat", "steps": 2, "seed": "x"}), "post", "/sdapi/v1/txt2img")


def test_left_out_fields_have_the_models_defaults(caller):
    answer = caller.drawn(steps=None)
    generation = Generation.objects.get()
    assert (generation.width, generation.height, generation.steps) == (256, 256, 20)
    assert generation.sampler == "Euler" and generation.num_images == 1
    assert answer["info"]["seed"] == generation.seed
    assert answer["parameters"]["steps"] == 20


@pytest.mark.parametrize(
    ("requested", "drawn"),
    [
        ((512, 512), (384, 384)),
        ((512, 768), (256, 384)),
        ((64, 64), (128, 128)),
        ((200, 200), (192, 192)),
        ((2048, 64), (384, 128)),
    ],
)
def test_sizes_become_the_nearest_that_the_model_draws(caller, requested, drawn):
    answer = caller.drawn(width=requested[0], height=requested[1])
    assert (answer["info"]["width"], answer["info"]["height"]) == opened(answer["images"][0]).size == drawn


def test_several_batches_within_the_plan_are_one_generation(caller):
    answer = caller.drawn(batch_size=2, n_iter=2, seed=40)
    assert Generation.objects.get().num_images == 4
    assert answer["info"]["all_seeds"] == [40, 41, 42, 43]
    assert len(answer["images"]) == len(answer["info"]["infotexts"]) == 4
    assert len(set(answer["images"])) == 4


def test_more_are_several_generations_in_sequence(caller):
    answer = caller.drawn(batch_size=3, n_iter=2, seed=2**32 - 3)
    assert [generation.num_images for generation in Generation.objects.order_by("created_at")] == [4, 2]
    assert answer["info"]["all_seeds"] == [2**32 - 3, 2**32 - 2, 2**32 - 1, 0, 1, 2]
    assert [opened(encoded).info["parameters"] for encoded in answer["images"]] == answer["info"]["infotexts"]


def test_a_random_seed_is_told_and_draws_the_same_again(caller):
    first = caller.drawn(seed=-1, batch_size=2)
    again = caller.drawn(seed=first["info"]["all_seeds"][1])
    assert opened(again["images"][0]).tobytes() == opened(first["images"][1]).tobytes()
    assert caller.drawn()["info"]["seed"] != first["info"]["seed"]


def test_a_subseed_varies_and_the_seed_stays(caller):
    answer = caller.drawn(seed=5, subseed=100, subseed_strength=0.25, batch_size=3)
    made = list(Generation.objects.order_by("created_at"))
    assert [generation.seed for generation in made] == answer["info"]["all_seeds"] == [5, 5, 5]
    assert [generation.options["variation"] for generation in made] == [
        {"seed": 100 + i, "strength": 0.25} for i in range(3)
    ]
    assert answer["info"]["all_subseeds"] == [100, 101, 102]


@pytest.mark.parametrize(
    ("fields", "sampler"),
    [
        ({"sampler_name": "DPM++ 2M", "scheduler": "Karras"}, "DPM++ 2M Karras"),
        ({"sampler_name": "DPM++ 2M", "scheduler": "karras"}, "DPM++ 2M Karras"),
        ({"sampler_name": "DPM++ 2M", "scheduler": "Uniform"}, "DPM++ 2M"),
        ({"sampler_name": "DPM++ 2M", "scheduler": "Automatic"}, "DPM++ 2M Karras"),
        ({"sampler_name": "DPM++ 2M"}, "DPM++ 2M Karras"),
        ({"sampler_name": "DPM++ 2M Karras"}, "DPM++ 2M Karras"),
        ({"sampler_name": "k_euler_a", "scheduler": "automatic"}, "Euler a"),
        ({"sampler_name": "Euler", "scheduler": "Karras"}, "Euler"),
        ({"sampler_name": "Euler a Karras"}, "Euler a"),
        ({"sampler_name": "DPM++ 2M SDE Exponential", "scheduler": "Karras"}, "DPM++ 2M SDE"),
        ({"sampler_name": "dpm++ 2m automatic"}, "DPM++ 2M Karras"),
        ({"sampler_index": "DDIM"}, "DDIM"),
        ({"sampler_index": "DDIM", "sampler_name": "UniPC", "scheduler": "normal"}, "UniPC"),
        ({"sampler_name": ""}, "Euler"),
    ],
)
def test_samplers(caller, fields, sampler):
    assert caller.drawn(**fields)["info"]["sampler_name"] == sampler
    assert Generation.objects.get().sampler == sampler


def test_a_second_pass(caller):
    answer = caller.drawn(
        enable_hr=True,
        hr_scale=1.5,
        hr_upscaler="Latent (nearest-exact)",
        denoising_strength=0.4,
        hr_second_pass_steps=0,
        width=128,
        height=128,
    )
    assert Generation.objects.get().options["hires"] == {
        "scale": 1.5,
        "strength": 0.4,
        "steps": None,
        "upscaler": "latent",
    }
    assert answer["info"]["denoising_strength"] == 0.4
    extra = answer["info"]["extra_generation_params"]
    assert (extra["Hires upscale"], extra["Hires upscaler"]) == (1.5, "Latent")


def test_a_second_pass_to_a_size(caller):
    caller.drawn(
        enable_hr=True,
        hr_resize_x=256,
        hr_resize_y=0,
        hr_upscaler="Lanczos",
        hr_second_pass_steps=5,
        width=128,
        height=128,
    )
    assert Generation.objects.get().options["hires"] == {
        "scale": 2.0,
        "strength": 0.75,
        "steps": 5,
        "upscaler": "lanczos",
    }


def test_words_that_change_what_is_drawn(caller):
    caller.drawn(tiling=True, clip_skip=2)
    assert Generation.objects.get().options == {"tiling": True, "clip_skip": 1}


def test_styles(caller):
    answer = caller.drawn(styles=["Anime", "nobody knows this", "line-art"], negative_prompt="people")
    generation = Generation.objects.get()
    assert generation.style == "line-art"
    assert generation.composed_prompt == answer["info"]["prompt"]
    assert answer["info"]["prompt"].startswith("a red boat at sea, anime style")
    assert "line art" in answer["info"]["prompt"]
    assert answer["info"]["negative_prompt"].startswith("people, photograph, dull colours")


def test_formats(caller):
    answer = caller.drawn(override_settings={"samples_format": "webp"})
    assert opened(answer["images"][0]).format == "WEBP"
    info = caller.post("png-info", {"image": answer["images"][0]}).json()
    assert info["info"] == answer["info"]["infotexts"][0]
    assert info["parameters"]["Prompt"] == "a red boat at sea"


def test_overridden_settings_may_last(caller):
    """By default they are for the call alone."""
    settings = {"CLIP_stop_at_last_layers": 2, "samples_format": "jpg", "sd_vae": "x", "unknown": 1}
    before = caller.get("options").json()
    for restored in ({}, {"override_settings_restore_afterwards": True}):
        assert caller.drawn(override_settings=settings, **restored)["info"]["clip_skip"] == 2
        assert caller.get("options").json() == before
    caller.drawn(override_settings=settings, override_settings_restore_afterwards=False)
    assert caller.get("options").json() == before | {"CLIP_stop_at_last_layers": 2, "samples_format": "jpg"}
    assert caller.drawn()["info"]["clip_skip"] == 2


def test_without_pictures(caller):
    answer = caller.drawn(send_images=False)
    assert answer["images"] == [] and len(answer["info"]["infotexts"]) == 1
    assert GeneratedImage.objects.count() == 1


def test_unknown_fields_are_ignored_and_not_repeated(caller):
    body = (
        '{"prompt": "a boat", "steps": 2, "eta": NaN, "owner": 1, "s_churn": Infinity, "script_args": [NaN],'
        ' "alwayson_scripts": {"ADetailer": {"args": [true, NaN]}}, "override_settings": {"x": NaN}}'
    )
    response = caller.post("txt2img", body)
    assert response.status_code == 200

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    # A search for the bytes "NaN" would now and then find them in a picture's Base64.
    answer = json.loads(response.content, parse_constant=refuse)
    json.loads(answer["info"], parse_constant=refuse)
    assert "owner" not in answer["parameters"]


def test_failed_ones(caller, refused):
    refused(caller.post("txt2img", {"prompt": "a boat [fault:oom]", "steps": 2}), 422, "out_of_memory")
    refused(caller.post("txt2img", {"prompt": "a boat [fault:error]", "steps": 2}), 503, "not_finished")


def test_what_was_drawn_before_a_refusal_is_given(caller, pro_user):
    for _ in range(48):
        hold(user=pro_user, generation_id=uuid.uuid4(), images=1)
    answer = caller.drawn(batch_size=8, n_iter=2, seed=1)
    assert answer["info"]["all_seeds"] == list(range(1, 9)), "two more requests fit into this hour"


def test_more_than_is_left_today_is_refused_at_once(api_client, free_user, refused, nothing_happened):
    problem = refused(
        Caller(api_client(free_user).token).post("txt2img", {"prompt": "a boat", "batch_size": 8, "n_iter": 2}),
        429,
        "quota_exceeded",
    )
    assert "10 of 10" in problem["detail"]
    nothing_happened()


def test_a_refused_prompt(caller, refused, settings, nothing_happened):
    settings.PROMPT_BLOCKLIST = ["gorgon"]
    refused(caller.post("txt2img", {"prompt": "a gorgon"}), 422, "prompt_rejected", "prompt")
    nothing_happened()

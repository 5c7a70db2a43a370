"""LoRAs: the pictures that diffusers draws with them, for single rows, and nothing left behind."""

import functools
import re
import shutil
from dataclasses import replace

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from generation.engine.catalog.addons import Addons
from generation.engine.errors import InvalidRequest
from generation.engine.loop.engine import DiffusionEngine
from generation.engine.request.complete import complete_request
from generation.engine.request.request import build_request

from .models import extended, save_lora
from .original import save_original
from .test_batching import together

PROMPT = "a red cat in a boat"
FORMS = {"sd1": ("kohya", "first", "diffusers", "peft"), "sdxl": ("kohya", "original", "first", "peft")}


@pytest.fixture(scope="module")
def files(models, tmp_path_factory):
    """A MODELS_DIR with LoRAs for sd1 and sdxl in every form, and some that fit nothing."""
    root = tmp_path_factory.mktemp("site")
    folder = root / "loras"
    folder.mkdir()
    for key, forms in FORMS.items():
        for seed, form in enumerate(forms):
            save_lora(folder / f"{key}-{form}.safetensors", models[key], form=form, seed=seed)
    save_lora(folder / "words-only.safetensors", models["sd1"], form="kohya", seed=7, parts=("text_encoder",))
    save_lora(folder / "first-words.safetensors", models["sd1"], form="first", seed=9, parts=("text_encoder",))
    for form in ("kohya", "peft"):
        save_lora(folder / f"half-{form}.safetensors", models["sd1"], form=form, dtype=torch.float16)
        save_lora(folder / f"locon-{form}.safetensors", models["sd1"], form=form, layers=re.compile(""), seed=8)
    (folder / "damaged.safetensors").write_bytes((folder / "sd1-peft.safetensors").read_bytes()[:-100])
    return root


@pytest.fixture(scope="module")
def engine(catalog, files):
    engine = DiffusionEngine(
        catalog, device="cpu", allow_download=False, threads=1, preview_interval=0, max_rows=16, models_dir=files
    )
    engine.start()
    yield engine
    engine.stop()


def make(catalog, key="sd1", loras=(), **fields):
    loras = [{"key": name, "weight": weight} for name, weight in loras]
    usual = {"prompt": PROMPT, "negative_prompt": "grey", "steps": 3, "seed": 5, "guidance_scale": 4}
    return build_request(catalog.get(key), loras=loras, **usual | fields)


def draw(engine, request):
    return np.asarray(engine.submit(request).result(60)[0].pixels, int)


@functools.cache
def theirs(folder, files, key, loras):
    """What diffusers draws with those LoRAs, through PEFT."""
    kind = diffusers.StableDiffusionXLPipeline if key == "sdxl" else diffusers.StableDiffusionPipeline
    pipeline = kind.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = diffusers.EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
    for name, _ in loras:
        adapter = name.replace(".", "_")
        file = files / "loras" / f"{name}.safetensors"
        # As its users pass it: without the configuration, SDXL's original names are not understood.
        state = kind.lora_state_dict(str(file), unet_config=pipeline.unet.config, return_lora_metadata=False)
        state, alphas = state[:2]
        pipeline.unet.load_lora_adapter(state, prefix="unet", network_alphas=alphas, adapter_name=adapter)
        for part in ("text_encoder", "text_encoder_2")[: 2 if key == "sdxl" else 1]:
            if any(tensor.startswith(f"{part}.") for tensor in state):
                pipeline.load_lora_into_text_encoder(
                    state, alphas, getattr(pipeline, part), prefix=part, adapter_name=adapter
                )
    if loras:
        pipeline.set_adapters([name.replace(".", "_") for name, _ in loras], [weight for _, weight in loras])
    picture = pipeline(
        PROMPT,
        negative_prompt="grey",
        width=32,
        height=32,
        num_inference_steps=3,
        guidance_scale=4,
        generator=torch.Generator().manual_seed(5),
    ).images[0]
    return np.asarray(picture, int)


def assert_same(ours, right):
    assert np.abs(ours - right).max() <= 1


@pytest.mark.parametrize("key,form", [(key, form) for key, forms in FORMS.items() for form in forms])
def test_every_form_draws_what_diffusers_draws(engine, catalog, models, files, key, form):
    loras = ((f"{key}-{form}", 0.8),)
    ours = draw(engine, make(catalog, key, loras))
    assert_same(ours, theirs(models[key], files, key, loras))
    assert np.abs(ours - draw(engine, make(catalog, key))).max() > 10, "it must change something to prove anything"


@pytest.mark.parametrize("key", ["sd1", "sdxl"])
def test_several_with_weights_add_up_as_in_diffusers(engine, catalog, models, files, key):
    loras = ((f"{key}-kohya", 0.7), (f"{key}-peft", -0.5))
    assert_same(draw(engine, make(catalog, key, loras)), theirs(models[key], files, key, loras))


@pytest.mark.parametrize("name", ["half-kohya", "half-peft", "locon-kohya", "locon-peft"])
def test_halves_and_every_layer(engine, catalog, models, files, name):
    """In half precision, and for all convolutions, those that shrink and those of one pixel among them."""
    loras = ((name, 0.4),)
    ours = draw(engine, make(catalog, loras=loras))
    assert_same(ours, theirs(models["sd1"], files, "sd1", loras))
    assert np.abs(ours - draw(engine, make(catalog))).max() > 10


@pytest.mark.parametrize(
    "tensors,message",
    [
        ({"hada_w1_a": (8, 4), "hada_w1_b": (4, 8), "hada_w2_a": (8, 4), "hada_w2_b": (4, 8)}, "a LoHa"),
        ({"lokr_w1": (2, 2), "lokr_w2": (4, 4)}, "a LoKr"),
        ({"lora_down.weight": (4, 8), "lora_up.weight": (8, 4), "dora_scale": (1, 8)}, "a DoRA"),
        ({"lora_down.weight": (4, 8, 1, 1), "lora_mid.weight": (4, 4, 3, 3), "lora_up.weight": (8, 4, 1, 1)}, "Tucker"),
        ({"lora_down.weight": (4, 8), "lora_up.weight": (8, 4), "diff_b": (8,)}, "whole layers"),
        ({"alpha": ()}, "no LoRA"),
        ({"other": (4, 8)}, "it holds"),
    ],
)
def test_what_is_no_plain_lora_is_refused_when_it_is_asked_for(catalog, tmp_path, tensors, message):
    layer = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    (tmp_path / "loras").mkdir()
    save_file(
        {f"{layer}.{name}": torch.ones(shape) for name, shape in tensors.items()},
        tmp_path / "loras" / "own.safetensors",
    )
    assert Addons(tmp_path).loras == {}
    with pytest.raises(InvalidRequest, match=f"own.*{message}") as caught:
        complete_request(make(catalog, loras=[("own", 1.0)]), catalog.get("sd1"), Addons(tmp_path))
    assert caught.value.param == "loras"


@pytest.mark.parametrize(
    "layer",
    [
        "lora_unet_double_blocks_0_img_attn_qkv",
        "transformer.transformer_blocks.0.attn.to_q",
        "lora_unet_single_transformer_blocks_0_attn_to_q",
        "lora_prior_blocks_0_to_q",
    ],
)
def test_one_for_a_transformer_is_refused_when_it_is_asked_for(catalog, tmp_path, layer):
    (tmp_path / "loras").mkdir()
    save_file(
        {f"{layer}.lora_{half}.weight": torch.ones(4, 4) for half in ("down", "up")},
        tmp_path / "loras" / "own.safetensors",
    )
    with pytest.raises(InvalidRequest, match="own.*(models of another kind|not made for)"):
        complete_request(make(catalog, loras=[("own", 1.0)]), catalog.get("sd1"), Addons(tmp_path))


@pytest.mark.parametrize("name", ["words-only", "first-words"])
def test_a_lora_of_the_words_alone(engine, catalog, models, files, name):
    plain = draw(engine, make(catalog))
    loras = ((name, 1.0),)
    ours = draw(engine, make(catalog, loras=loras))
    assert_same(ours, theirs(models["sd1"], files, "sd1", loras))
    assert np.array_equal(draw(engine, make(catalog)), plain), "the same words without it are kept apart"
    assert not np.array_equal(ours, plain)


def test_rows_with_different_loras_share_every_pass(engine, catalog, monkeypatch):
    requests = [
        make(catalog),
        make(catalog, loras=[("sd1-kohya", 0.8)]),
        make(catalog, loras=[("sd1-kohya", 0.3)]),
        make(catalog, loras=[("sd1-peft", 1.0), ("sd1-diffusers", 0.5)], guidance_scale=1),
    ]
    alone = [draw(engine, request) for request in requests]
    unet = engine.models.get(catalog.get("sd1")).unet
    forward, sizes = unet.forward, []
    monkeypatch.setattr(unet, "forward", lambda sample, *a, **k: sizes.append(len(sample)) or forward(sample, *a, **k))
    jobs = together(engine, requests)
    for job, right in zip(jobs, alone, strict=True):
        assert_same(np.asarray(job.result(60)[0].pixels, int), right)
    assert 7 in sizes, "three guided pictures and one without"
    assert len(sizes) <= 5


def test_the_model_is_as_it_was_afterwards(engine, catalog):
    model = engine.models.get(catalog.get("sd1"))
    before = {name: tensor.clone() for name, tensor in model.unet.state_dict().items()}
    plain = draw(engine, make(catalog))
    draw(engine, make(catalog, loras=[("sd1-kohya", 2.0), ("sd1-peft", 1.0)]))
    assert np.array_equal(draw(engine, make(catalog)), plain)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.unet.state_dict().items())
    assert not any(module._forward_hooks for module in model.unet.modules())


@pytest.mark.parametrize(
    "key,name,message",
    [
        ("sd1", "sdxl-kohya", "not made for"),
        ("sdxl", "sd1-peft", "not made for"),
        ("sd1", "absent", "no LoRA called"),
        ("sd1", "damaged", "no LoRA called"),
        ("sd1", "../loras/sd1-peft", "no LoRA called"),
    ],
)
def test_one_that_does_not_fit_is_named_and_the_next_request_is_clean(engine, catalog, key, name, message):
    plain = draw(engine, make(catalog, key))
    with pytest.raises(InvalidRequest, match=message) as caught:
        draw(engine, make(catalog, key, loras=[(name, 1.0)]))
    assert caught.value.param == "loras" and name in str(caught.value)
    assert np.array_equal(draw(engine, make(catalog, key)), plain)


def test_one_that_fails_within_a_step_leaves_nothing_behind(engine, catalog, monkeypatch):
    plain = draw(engine, make(catalog))
    unet = engine.models.get(catalog.get("sd1")).unet
    monkeypatch.setattr(unet.conv_out, "forward", lambda x: (_ for _ in ()).throw(ValueError("broken")))
    with pytest.raises(Exception, match="could not be finished"):
        draw(engine, make(catalog, loras=[("sd1-kohya", 1.0)]))
    monkeypatch.undo()
    assert np.array_equal(draw(engine, make(catalog)), plain)


def test_a_file_exchanged_under_the_same_name_is_read_again(engine, catalog, models, files):
    file = files / "loras" / "changing.safetensors"
    save_lora(file, models["sd1"], form="peft", seed=11)
    first = draw(engine, make(catalog, loras=[("changing", 1.0)]))
    save_lora(file, models["sd1"], form="peft", seed=12, rank=3)
    second = draw(engine, make(catalog, loras=[("changing", 1.0)]))
    assert not np.array_equal(first, second)
    file.unlink()
    with pytest.raises(InvalidRequest):
        draw(engine, make(catalog, loras=[("changing", 1.0)]))


def test_on_a_single_checkpoint(engine, catalog, models, files, tmp_path, monkeypatch):
    shutil.copytree(models["sd1"], tmp_path / "anime", ignore=shutil.ignore_patterns("*.safetensors"))
    file = save_original(models["sd1"], tmp_path / "anime.safetensors")
    single = replace(catalog.get("sd1"), key="single", sources=(str(file),))
    monkeypatch.setattr(engine, "catalog", extended(catalog, single))
    loras = [("sd1-kohya", 0.8)]
    request = build_request(
        single,
        prompt=PROMPT,
        negative_prompt="grey",
        steps=3,
        seed=5,
        guidance_scale=4,
        loras=[{"key": name, "weight": weight} for name, weight in loras],
    )
    assert_same(draw(engine, request), draw(engine, make(catalog, loras=loras)))


def test_the_recipe_names_them(engine, catalog):
    image = engine.submit(make(catalog, loras=[("sd1-kohya", 0.8)])).result(60)[0]
    [lora] = image.recipe["loras"]
    assert lora["key"] == "sd1-kohya" and lora["weight"] == 0.8 and len(lora["hash"]) == 64

"""ControlNets in the step loop: diffusers' pictures, for single rows of a batch; and the maps made for them."""

import functools
import json
import shutil
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from transformers import (
    DPTConfig,
    DPTForDepthEstimation,
    RTDetrConfig,
    RTDetrForObjectDetection,
    RTDetrResNetConfig,
    VitPoseBackboneConfig,
    VitPoseConfig,
    VitPoseForPoseEstimation,
)

from generation.engine.errors import InvalidRequest
from generation.engine.loop.engine import DiffusionEngine
from generation.engine.pictures.control_maps import make_map
from generation.engine.pictures.pose import _points, find_people, skeletons
from generation.engine.request.fields import Picture
from generation.engine.request.request import build_request

from .models import save_control
from .test_batching import together

PIPELINES = {
    ("sd1", False): diffusers.StableDiffusionControlNetPipeline,
    ("sd1", True): diffusers.StableDiffusionControlNetImg2ImgPipeline,
    ("sdxl", False): diffusers.StableDiffusionXLControlNetPipeline,
    ("sdxl", True): diffusers.StableDiffusionXLControlNetImg2ImgPipeline,
}


@pytest.fixture(scope="module")
def files(models, tmp_path_factory):
    root = tmp_path_factory.mktemp("site")
    folder = root / "controlnet"
    save_control(folder / "sd1-canny", models["sd1"])
    save_control(folder / "sd1-scribble", models["sd1"], seed=1)
    save_control(folder / "sd1-depth", models["sd1"], seed=2)
    save_control(folder / "sdxl-canny", models["sdxl"])
    broken = save_control(folder / "broken", models["sd1"]) / "diffusion_pytorch_model.safetensors"
    broken.write_bytes(broken.read_bytes()[:-1000])
    return root


@pytest.fixture(scope="module")
def engine(catalog, files):
    engine = DiffusionEngine(
        catalog, device="cpu", allow_download=False, threads=1, preview_interval=0, max_rows=16, models_dir=files
    )
    engine.start()
    yield engine
    engine.stop()


@functools.cache
def drawing(size=(32, 32)):
    """A map or picture with something to see in it."""
    image = Image.new("RGB", size, "black")
    ImageDraw.Draw(image).ellipse((6, 9, 25, 22), outline="white", width=2)
    return image


@functools.cache
def photograph():
    generator = np.random.default_rng(0)
    return Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8))


def make(catalog, key="sd1", control=True, **fields):
    if control:
        control = {"key": f"{key}-canny", "image": Picture.of(drawing()), "preprocess": False} | (
            control if isinstance(control, dict) else {}
        )
        fields["control"] = control
    fields = {"prompt": "a red cat", "negative_prompt": "grey", "steps": 4, "seed": 5, "guidance_scale": 4} | fields
    return build_request(catalog.get(key), **fields)


def draw(engine, request):
    return np.asarray(engine.submit(request).result(60)[0].pixels, int)


def theirs(folder, files, request, control_map=None, start=None):
    control = request.control
    key = control.key.split("-")[0]
    net = diffusers.ControlNetModel.from_pretrained(files / "controlnet" / control.key)
    pipeline = PIPELINES[key, start is not None].from_pretrained(folder, controlnet=net)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = diffusers.EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
    shown = drawing() if control_map is None else control_map
    pictures = (
        {"image": shown}
        if start is None
        else {"image": start, "control_image": shown, "strength": request.start.strength}
    )
    picture = pipeline(
        request.prompt,
        negative_prompt=request.negative_prompt,
        width=32,
        height=32,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance_scale,
        controlnet_conditioning_scale=control.scale,
        control_guidance_start=control.begin,
        control_guidance_end=control.end,
        generator=torch.Generator().manual_seed(5),
        **pictures,
    ).images[0]
    return np.asarray(picture, int)


def assert_same(ours, right):
    assert np.abs(ours - right).max() <= 1


@pytest.mark.parametrize("guidance", [1, 4])
@pytest.mark.parametrize("key", ["sd1", "sdxl"])
def test_it_draws_what_diffusers_draws(engine, catalog, models, files, key, guidance):
    request = make(catalog, key, {"scale": 0.8}, guidance_scale=guidance)
    ours = draw(engine, request)
    assert_same(ours, theirs(models[key], files, request))
    assert np.abs(ours - draw(engine, make(catalog, key, None, guidance_scale=guidance))).max() > 10


@pytest.mark.parametrize("begin,end", [(0, 0.5), (0.5, 1), (0.25, 0.75)])
def test_it_acts_for_a_part_of_the_steps(engine, catalog, models, files, begin, end):
    request = make(catalog, control={"begin": begin, "end": end})
    ours = draw(engine, request)
    assert_same(ours, theirs(models["sd1"], files, request))
    assert np.abs(ours - draw(engine, make(catalog))).max() > 5


@pytest.mark.parametrize("key", ["sd1", "sdxl"])
def test_over_a_picture(engine, catalog, models, files, key):
    request = make(catalog, key, image=Picture.of(photograph()), strength=0.6)
    assert_same(draw(engine, request), theirs(models[key], files, request, start=photograph()))


def test_a_map_of_another_size_is_fitted(engine, catalog):
    larger = drawing().resize((64, 64), Image.Resampling.NEAREST)
    fitted = larger.resize((32, 32), Image.Resampling.LANCZOS)
    pictures = [draw(engine, make(catalog, control={"image": Picture.of(image)})) for image in (larger, fitted)]
    assert np.array_equal(*pictures)


def test_rows_with_and_without_share_every_pass(engine, catalog, monkeypatch):
    requests = [
        make(catalog, control=control, **{"steps": 9} | fields)
        for control, fields in [
            (None, {}),
            (True, {}),
            ({"scale": 0.4, "end": 0.5}, {"seed": 6}),
            ({"key": "sd1-scribble"}, {"guidance_scale": 1}),
            (None, {"steps": 11}),
        ]
    ]
    alone = [draw(engine, request) for request in requests]
    unet = engine.models.get(catalog.get("sd1")).unet
    forward, sizes = unet.forward, []
    monkeypatch.setattr(unet, "forward", lambda sample, *a, **k: sizes.append(len(sample)) or forward(sample, *a, **k))
    for job, right in zip(together(engine, requests), alone, strict=True):
        assert_same(np.asarray(job.result(60)[0].pixels, int), right)
    assert 9 in sizes, "four with guidance and one without"
    assert len(sizes) <= 20, "47 if each went alone"


def test_the_second_pass_is_steered_too(engine, catalog):
    hires = {"scale": 2, "strength": 0.9, "steps": 4}
    pictures = [
        draw(engine, make(catalog, control=control, hires=hires)) for control in (None, {"end": 0.25}, {"scale": 2.0})
    ]
    assert all(picture.shape == (64, 64, 3) for picture in pictures)
    assert not np.array_equal(pictures[0], pictures[1]) and not np.array_equal(pictures[1], pictures[2])


def test_a_part_that_is_drawn_alone_is_steered_by_its_part_of_the_map(engine, catalog):
    mask = Image.new("L", (32, 32), 0)
    mask.paste(255, (0, 0, 8, 8))
    fields = {"image": Picture.of(photograph()), "mask": Picture.of(mask), "padding": 0, "strength": 1.0}
    elsewhere = drawing().copy()
    elsewhere.paste("white", (24, 24, 32, 32))
    there = drawing().copy()
    there.paste("white", (0, 0, 6, 6))
    first, same, other = (
        draw(engine, make(catalog, control={"image": Picture.of(image)}, **fields))
        for image in (drawing(), elsewhere, there)
    )
    assert np.array_equal(first, same) and not np.array_equal(first, other)


@pytest.mark.parametrize(
    "key,control,message",
    [
        ("sd1", {"key": "sdxl-canny"}, "not made for"),
        ("sd1", {"key": "absent"}, "no ControlNet called"),
        ("sd1", {"key": "../controlnet/sd1-canny"}, "no ControlNet called"),
        ("sd1", {"key": "broken"}, "cannot be read"),
        ("sd1", {"key": "sd1-depth", "preprocess": True}, "Maps for depth cannot be made here"),
    ],
)
def test_what_cannot_be_used_is_named_and_the_next_request_is_clean(engine, catalog, key, control, message):
    plain = draw(engine, make(catalog, key, None))
    with pytest.raises(InvalidRequest, match=message) as caught:
        draw(engine, make(catalog, key, control))
    assert caught.value.param == "control"
    assert np.array_equal(draw(engine, make(catalog, key, None)), plain)


def test_the_map_is_made_from_an_ordinary_picture(engine, catalog, models, files):
    photo = Image.new("RGB", (32, 32), "white")
    ImageDraw.Draw(photo).rectangle((8, 8, 23, 23), fill="navy")
    for key in ("canny", "scribble"):
        request = make(catalog, control={"key": f"sd1-{key}", "image": Picture.of(photo), "preprocess": True})
        assert_same(draw(engine, request), theirs(models["sd1"], files, request, make_map(key, photo)))


def test_the_recipe_names_it(engine, catalog):
    recipe = engine.submit(make(catalog, control={"scale": 0.5})).result(60)[0].recipe["control"]
    assert recipe["key"] == "sd1-canny" and recipe["scale"] == 0.5 and len(recipe["hash"]) == 64


# Maps


def test_canny_finds_thin_closed_outlines():
    picture = Image.new("RGB", (80, 60), "white")
    ImageDraw.Draw(picture).rectangle((20, 15, 59, 44), fill="red")
    edges = np.asarray(make_map("canny", picture))[..., 0] > 0
    assert set(np.unique(np.asarray(make_map("canny", picture)))) == {0, 255}
    inside = edges.copy()
    inside[13:17], inside[43:47], inside[:, 18:22], inside[:, 58:62] = 0, 0, 0, 0
    assert not inside.any(), "nothing away from the outline"
    assert edges[30].sum() == 2 and edges[:, 40].sum() == 2, "one pixel wide"
    assert edges[:, 20:60].any(axis=0).all() and edges[15:45].any(axis=1).all()


def test_canny_leaves_out_weak_edges_but_where_they_continue_strong_ones():
    ramp = np.full((40, 60, 3), 100, np.uint8)
    ramp[:, 30:] = 130  # an edge of 4 x 30, which is weak
    assert not np.asarray(make_map("canny", Image.fromarray(ramp))).any()
    ramp[:10, 30:] = 200
    edges = np.asarray(make_map("canny", Image.fromarray(ramp)))[..., 0] > 0
    assert edges[20:38].any(axis=1).all()


def test_canny_of_nothing_is_black():
    for colour in ("black", "white", "red"):
        assert not np.asarray(make_map("canny", Image.new("RGB", (33, 21), colour))).any()


@pytest.mark.parametrize("paper,pen", [("white", "black"), ("black", "white")])
def test_scribbles_are_white_on_black_whatever_the_paper(paper, pen):
    sketch = Image.new("RGB", (64, 64), paper)
    ImageDraw.Draw(sketch).line((10, 10, 50, 40), fill=pen, width=3)
    strokes = np.asarray(make_map("scribble", sketch))[..., 0]
    assert strokes[25, 30] == 255 and 0.01 < (strokes > 0).mean() < 0.1
    assert strokes.shape == (64, 64)


def test_depth_is_estimated_where_an_estimator_is_installed(tmp_path):
    folder = tmp_path / "preprocessors" / "depth"
    torch.manual_seed(0)
    network = DPTForDepthEstimation(
        DPTConfig(
            hidden_size=32,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=64,
            image_size=32,
            patch_size=8,
            backbone_out_indices=[0, 1, 2, 3],
            neck_hidden_sizes=[8, 8, 8, 8],
            fusion_hidden_size=8,
            initializer_range=0.2,
        )
    ).eval()
    network.save_pretrained(folder)
    config = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.5, 0.5, 0.5], "size": {"height": 32, "width": 32}}
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    picture = photograph().resize((64, 64))
    seen = picture.resize((32, 32), Image.Resampling.BICUBIC)
    pixels = (np.asarray(seen, np.float32) / 255 - np.float32(config["image_mean"])) / 0.5
    with torch.inference_mode():
        nearness = network(torch.from_numpy(pixels).movedim(-1, 0)[None]).predicted_depth[0].numpy()
    made = np.asarray(make_map("depth", picture, tmp_path), float)[..., 0]
    right = (nearness - nearness.min()) / (nearness.max() - nearness.min()) * 255
    assert made.shape == (64, 64) and np.abs(made - right).max() <= 1
    assert make_map("depth", photograph().resize((48, 24)), tmp_path).size == (48, 24)
    (folder / "config.json").write_text('{"model_type": "other"}')
    with pytest.raises(InvalidRequest):
        make_map("depth", photograph(), shutil.move(tmp_path, f"{tmp_path}-elsewhere"))


SHOWN = {"height": 64, "width": 48}


def save_estimator(root):
    """A random ViTPose with four times more heat in a place than patches."""
    torch.manual_seed(0)
    folder = root / "preprocessors" / "pose"
    backbone = VitPoseBackboneConfig(
        image_size=(SHOWN["height"], SHOWN["width"]),
        patch_size=(16, 16),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        mlp_ratio=2,
        part_features=16,
        out_indices=[2],
    )
    network = VitPoseForPoseEstimation(
        VitPoseConfig(backbone_config=backbone, num_labels=17, initializer_range=0.3)
    ).eval()
    torch.nn.init.normal_(network.head.conv.weight, std=0.01)
    torch.nn.init.constant_(network.head.conv.bias, 0.5)
    network.save_pretrained(folder)
    processor_config = {
        "image_mean": [0.4, 0.5, 0.6],
        "image_std": [0.5, 0.5, 0.5],
        "size": SHOWN,
        "do_normalize": True,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor_config))
    return network


def test_poses_are_found_where_an_estimator_is_installed(tmp_path):
    save_estimator(tmp_path)
    wide = photograph().resize((96, 64), Image.Resampling.BICUBIC)
    [person] = find_people(wide, tmp_path / "preprocessors")
    assert person.shape == (17, 3) and len(np.unique(person[:, 2])) == 17
    # The whole picture, in the shape of what the network sees, and a quarter more: 120 x 160 around its middle.
    low, high = np.array([48 - 60, 32 - 80]), np.array([48 + 60, 32 + 80])
    assert (person[:, :2] >= low).all() and (person[:, :2] <= high).all()
    assert not np.allclose(person, find_people(wide.rotate(180), tmp_path / "preprocessors")[0])
    made = make_map("pose", wide, tmp_path)
    assert made.size == wide.size and np.array_equal(np.asarray(made), np.asarray(skeletons([person], wide.size)))


class Warmth(torch.nn.Module):
    """Finds every point where the picture is brightest, as roughly as ViTPose does."""

    config = SimpleNamespace(backbone_config=SimpleNamespace(num_experts=1))

    def forward(self, pixels):
        height, width = (side // 4 for side in pixels.shape[-2:])
        heat = torch.nn.functional.interpolate(pixels[:, :1], (height, width), mode="bilinear", align_corners=True)
        return SimpleNamespace(heatmaps=heat.expand(-1, 17, -1, -1))


@pytest.mark.parametrize("box", [(0, 0, 300, 200), (100, 20, 260, 200), (120, 40, 190, 190)])
@pytest.mark.parametrize("place", [(150, 100), (171.5, 63), (139, 158.5)])
def test_a_point_is_where_the_network_says_within_a_pixel(box, place):
    across, down = np.meshgrid(np.arange(300), np.arange(200))
    spot = np.exp(-((across - place[0]) ** 2 + (down - place[1]) ** 2) / (2 * 15**2))
    picture = Image.fromarray((spot * 255).round().astype(np.uint8), "L").convert("RGB")
    prepared = {"size": {"width": 192, "height": 256}, "do_normalize": False}
    points = _points(picture, tuple(map(float, box)), Warmth(), prepared)
    assert np.abs(points[:, :2] - place).max() < 1 and points[0, 2] > 0.8


def test_people_are_told_apart_where_a_detector_is_installed(tmp_path, monkeypatch):
    save_estimator(tmp_path)
    torch.manual_seed(0)
    config = RTDetrConfig(
        backbone_config=RTDetrResNetConfig(
            embedding_size=8,
            hidden_sizes=[8, 8, 16, 16],
            depths=[1, 1, 1, 1],
            layer_type="basic",
            out_features=["stage2", "stage3", "stage4"],
        ),
        encoder_hidden_dim=16,
        encoder_in_channels=[8, 16, 16],
        encoder_ffn_dim=16,
        d_model=16,
        num_queries=5,
        decoder_in_channels=[16, 16, 16],
        decoder_ffn_dim=16,
        decoder_layers=1,
        decoder_attention_heads=2,
        encoder_attention_heads=2,
        num_labels=3,
        id2label={0: "dog", 1: "person", 2: "cup"},
    )
    detector = RTDetrForObjectDetection(config).eval()
    folder = tmp_path / "preprocessors" / "people"
    detector.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 64, "width": 64}}))
    picture = photograph().resize((64, 64))
    pixels = torch.from_numpy(np.asarray(picture, np.float32) / 255).movedim(-1, 0)[None]
    with torch.inference_mode():
        sure = detector(pixels).logits[0, :, 1].sigmoid()
    for least, count in ((0.0, 5), (float(sure.mean()), int((sure >= sure.mean()).sum())), (1.0, 0)):
        monkeypatch.setattr("generation.engine.pictures.pose.MIN_PERSON_SCORE", least)
        assert len(find_people(picture, tmp_path / "preprocessors")) == count
    assert not np.asarray(make_map("pose", picture, tmp_path)).any(), "nobody, nothing"


def test_an_estimator_that_cannot_be_read_is_said(tmp_path):
    save_estimator(tmp_path)
    (tmp_path / "preprocessors" / "pose" / "config.json").write_text('{"model_type": "other"}')
    with pytest.raises(InvalidRequest, match="Poses"):
        make_map("pose", photograph(), tmp_path)


COCO = (
    "nose",
    "left eye",
    "right eye",
    "left ear",
    "right ear",
    "left shoulder",
    "right shoulder",
    "left elbow",
    "right elbow",
    "left wrist",
    "right wrist",
    "left hip",
    "right hip",
    "left knee",
    "right knee",
    "left ankle",
    "right ankle",
)


def test_a_skeleton_is_drawn_as_control_nets_know_it():
    person = np.zeros((17, 3))
    at = {
        "nose": (256, 60),
        "left shoulder": (320, 120),
        "right shoulder": (192, 120),
        "right elbow": (130, 200),
        "left hip": (290, 300),
        "right hip": (222, 300),
        "right knee": (222, 400),
    }
    for name, (x, y) in at.items():
        person[COCO.index(name)] = x, y, 0.9
    person[COCO.index("left knee")] = 290, 400, 0.1
    pixels = np.asarray(skeletons([person], (512, 512)))
    points = {
        "nose": (255, 0, 0),
        "right shoulder": (255, 170, 0),
        "right elbow": (255, 255, 0),
        "left shoulder": (85, 255, 0),
        "right hip": (0, 255, 170),
        "right knee": (0, 255, 255),
        "left hip": (0, 85, 255),
    }
    for name, colour in points.items():
        x, y = at[name]
        assert tuple(pixels[y, x]) == colour, name
        assert tuple(pixels[y, x + 3]) == colour and tuple(pixels[y - 3, x]) == colour, "nine pixels across"
    assert tuple(pixels[120, 256]) == (255, 85, 0), "the neck, between the shoulders"
    limbs = {
        (224, 120): (153, 0, 0),
        (288, 120): (153, 51, 0),
        (161, 160): (153, 102, 0),
        (256, 90): (0, 0, 153),
        (239, 210): (0, 153, 0),
        (222, 350): (0, 153, 51),
        (273, 210): (0, 153, 153),
    }
    for (x, y), colour in limbs.items():
        assert tuple(pixels[y, x]) == colour, (x, y)
    assert not pixels[350, 290].any() and not pixels[400, 290].any(), "a knee that is not sure is left out"
    assert np.asarray(skeletons([], (64, 32))).shape == (32, 64, 3)
    both = np.asarray(skeletons([person, person + [20, 0, 0]], (512, 512)))
    assert tuple(both[60, 256]) == tuple(both[60, 276]) == (255, 0, 0)


def test_a_kind_that_is_not_made_here_is_refused():
    for kind in ("depth", "pose"):
        with pytest.raises(InvalidRequest, match="preprocess"):
            make_map(kind, drawing())

"""img2img, masks, scripts and the enlarging of pictures."""

import base64
import io
import json

import pytest
from PIL import Image

from generation.engine.request.metadata import read_png
from generation.models import Generation, Upload
from generation.storage.image_requests import load_upload

from .conftest import opened, picture

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _worker(start_worker):
    start_worker()


def options():
    return Generation.objects.order_by("-created_at").first().options


@pytest.mark.parametrize("head", ["", "data:image/png;base64,"])
def test_a_start_from_a_picture(caller, head):
    answer = caller.drawn("img2img", init_images=[head + picture(160, 128)], denoising_strength=0.5)
    generation = Generation.objects.get()
    assert (generation.mode, generation.width, generation.height) == ("img2img", 160, 128)
    start = generation.options["start"]
    assert (start["strength"], start["fit"], start["mask"]) == (0.5, "stretch", None)
    assert load_upload(start["image"]["name"]).getpixel((5, 5)) == (200, 60, 40)
    assert answer["info"]["denoising_strength"] == answer["parameters"]["denoising_strength"] == 0.5
    assert "init_images" not in answer["parameters"]


def test_the_web_uis_defaults(caller):
    caller.drawn("img2img", init_images=[picture()], mask=picture(mode="L", colour=255))
    assert {name: value for name, value in options()["start"].items() if name not in ("image", "mask")} == {
        "strength": 0.75,
        "mask_blur": 4,
        "fill": "blur",
        "padding": 0,
        "fit": "stretch",
        "expand": None,
    }


@pytest.mark.parametrize(("number", "fill"), enumerate(["blur", "original", "noise", "zero"]))
def test_what_lies_under_the_mask(caller, number, fill):
    caller.drawn(
        "img2img",
        init_images=[picture()],
        mask=picture(mode="L", colour=255),
        inpainting_fill=number,
        mask_blur=9,
        inpaint_full_res=False,
        inpaint_full_res_padding=32,
    )
    start = options()["start"]
    assert (start["fill"], start["mask_blur"], start["padding"]) == (fill, 9, None)
    assert Generation.objects.get().mode == "inpaint"


@pytest.mark.parametrize("inverted", [0, 1, True, False])
def test_a_mask_may_be_inverted(caller, inverted):
    half = Image.new("L", (128, 128), 0)
    half.paste(255, (0, 0, 64, 128))
    buffer = io.BytesIO()
    half.save(buffer, "PNG")
    caller.drawn(
        "img2img",
        init_images=[picture()],
        mask=base64.b64encode(buffer.getvalue()).decode(),
        inpainting_mask_invert=inverted,
        inpaint_full_res=True,
        inpaint_full_res_padding=16,
    )
    mask = load_upload(options()["start"]["mask"]["name"])
    assert (mask.getpixel((5, 5)), mask.getpixel((100, 5))) == ((0, 255) if inverted else (255, 0))
    assert options()["start"]["padding"] == 16


@pytest.mark.parametrize(("mode", "fit"), enumerate(["stretch", "crop", "pad", "stretch"]))
def test_resize_modes(caller, mode, fit):
    caller.drawn("img2img", init_images=[picture(160, 128)], width=128, height=128, resize_mode=mode)
    assert options()["start"]["fit"] == fit


def test_several_pictures_are_drawn_one_by_one(caller):
    answer = caller.drawn("img2img", init_images=[picture(), picture(colour=(0, 0, 255))], n_iter=2, seed=9)
    made = Generation.objects.order_by("created_at")
    assert [generation.seed for generation in made] == answer["info"]["all_seeds"] == [9, 10, 11, 12]
    names = [generation.options["start"]["image"]["name"] for generation in made]
    assert names[0] == names[2] != names[1] == names[3]


def test_pictures_are_repeated_where_that_is_wanted(caller):
    encoded = picture()
    answer = caller.drawn("img2img", init_images=[encoded], include_init_images=True)
    assert answer["parameters"]["init_images"] == [encoded]


@pytest.mark.parametrize("fields", [{}, {"init_images": []}, {"init_images": None}])
def test_without_a_picture(caller, refused, fields, nothing_happened):
    problem = refused(caller.post("img2img", {"prompt": "a boat"} | fields), 404)
    assert problem["detail"] == "Init image not found"
    nothing_happened()


def test_a_refusal_leaves_no_upload(caller, refused, nothing_happened):
    refused(caller.post("img2img", {"prompt": "", "init_images": [picture()]}), 400, param="prompt")
    response = caller.post("img2img", {"prompt": "x", "init_images": [picture()], "mask": "nonsense"})
    refused(response, 415 if response.status_code == 415 else 400, param="mask")
    nothing_happened()


@pytest.mark.parametrize(("upscaler", "ours"), [("Lanczos", "lanczos"), (2, "nearest"), (None, "lanczos")])
def test_sd_upscale(caller, upscaler, ours):
    caller.drawn(
        "img2img",
        init_images=[picture()],
        script_name="SD Upscale",
        denoising_strength=0.3,
        script_args=["", 64, upscaler, 1.5],
    )
    assert options()["hires"] == {"scale": 1.5, "strength": 0.3, "steps": None, "upscaler": ours}
    assert options()["start"]["strength"] == 0.0


def test_unknown_scripts(caller, refused, nothing_happened):
    for path in ("txt2img", "img2img"):
        problem = refused(
            caller.post(path, {"prompt": "x", "script_name": "X/Y/Z plot", "init_images": [picture()]}),
            404,
            "unknown_name",
            "script_name",
        )
        assert "'X/Y/Z plot' not found" in problem["detail"]
    nothing_happened()


# --- enlarging ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "size", "factor"),
    [
        ({}, (128, 96), 2),
        ({"upscaling_resize": 4, "upscaler_1": "Nearest"}, (256, 192), 4),
        ({"upscaling_resize": 1.5, "upscaler_1": "None"}, (96, 72), 2),
        ({"upscaling_resize": 3}, (192, 144), 4),
        ({"resize_mode": 1, "upscaling_resize_w": 100, "upscaling_resize_h": 100}, (100, 100), 4),
        (
            {"resize_mode": 1, "upscaling_resize_w": 100, "upscaling_resize_h": 100, "upscaling_crop": False},
            (100, 75),
            2,
        ),
    ],
)
def test_one_picture(caller, documented, fields, size, factor):
    answer = documented(
        caller.post("extra-single-image", {"image": picture(64, 48)} | fields), "post", "/sdapi/v1/extra-single-image"
    )
    generation = Generation.objects.get()
    assert (generation.mode, generation.source) == ("upscale", "a1111")
    assert generation.options["upscale"]["factor"] == factor
    assert generation.options["upscale"]["upscaler"] == ("nearest" if "Nearest" in fields.values() else "lanczos")
    assert opened(answer["image"]).size == size and answer["html_info"].startswith("<p>")


def test_an_enlarged_picture_still_says_where_it_comes_from(caller):
    answer = caller.post("extra-single-image", {"image": picture(64, 48), "upscaling_resize": 1.5}).json()
    assert read_png(base64.b64decode(answer["image"]))["machine_made"]


def test_several_pictures(caller, documented):
    files = [{"data": picture(64, 48), "name": "a"}, {"data": "data:image/png;base64," + picture(32, 32), "name": "b"}]
    answer = documented(caller.post("extra-batch-images", {"imageList": files}), "post", "/sdapi/v1/extra-batch-images")
    assert [opened(encoded).size for encoded in answer["images"]] == [(128, 96), (64, 64)]
    assert Generation.objects.count() == 2


# --- png-info -------------------------------------------------------------------------------------------


def test_what_a_picture_says(caller, documented):
    drawn = caller.drawn(seed=7)
    before = Upload.objects.count()
    answer = documented(
        caller.post("png-info", {"image": "data:image/png;base64," + drawn["images"][0]}), "post", "/sdapi/v1/png-info"
    )
    assert answer["info"] == drawn["info"]["infotexts"][0]
    assert (answer["parameters"]["Seed"], answer["parameters"]["Prompt"]) == ("7", "a red boat at sea")
    assert (answer["parameters"]["Size-1"], answer["parameters"]["Size-2"]) == ("256", "256")
    assert json.loads(answer["items"]["dreamsketch"])["seed"] == 7
    assert Upload.objects.count() == before


def test_a_picture_that_says_nothing(caller):
    assert caller.post("png-info", {"image": picture()}).json() == {"info": "", "items": {}, "parameters": {}}

"""The edit page in Chromium: masks by mouse, touch, pen, keyboard and file; what is sent, and what comes back."""

import io
import re
from itertools import pairwise

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image, ImageChops, ImageDraw
from playwright.sync_api import expect

from tests.site import wait_for

from .test_every_page import RULES

EMAIL = "edit@example.com"
SHARE = """() => {
    const canvas = document.querySelector('#edit-mask');
    const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    let painted = 0;
    for (let at = 3; at < data.length; at += 4) painted += data[at] >= 128;
    return painted / (data.length / 4);
}"""


@pytest.fixture(scope="module")
def site(fault_site):
    """The site of this module's pages: with the fake engine, which keeps what a mask keeps, too."""
    return fault_site


@pytest.fixture(scope="module")
def programs(site):
    """An API client of the account whose pages these are."""
    return site.user(EMAIL)


@pytest.fixture(scope="module")
def picture(programs):
    """A finished image, as the API describes it."""
    body = {"prompt": "a red boat at sea", "steps": 1, "width": 256, "height": 192, "model": "dreamsketch-tiny"}
    return finished(programs, programs.post("/api/generate", json=body).json()["id"])["images"][0]


@pytest.fixture(scope="module")
def signed_in(browser, site, programs):
    context = browser.new_context(base_url=site.url)
    page = context.new_page()
    page.goto("/accounts/login/")
    page.get_by_label("Email").fill(EMAIL)
    page.locator("input[name=password]").fill("correct horse battery")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/create/**")
    yield page
    context.close()


@pytest.fixture
def open_editor(open_page, signed_in, picture):
    def open_one(size="desktop", *, query="", refused=False, **options):
        page = open_page(size, like=signed_in, **options)
        if refused:
            open_page.expect_errors_on(page)
        page.goto(f"{picture['pageUrl']}edit/{query}")
        if options.get("javascript", True):
            page.locator("#edit-sheet img").evaluate("image => image.decode()")
        return page

    return open_one


def finished(programs, job_id) -> dict:
    def status():
        answer = programs.get(f"/api/status/{job_id}").json()
        return answer if answer["finished_at"] else None

    return wait_for(status, what="the end of the job")


def picture_point(page, across, down):
    """The point of the page at that share of the picture."""
    page.locator("#edit-stage").scroll_into_view_if_needed()
    box = page.locator("#edit-sheet").bounding_box()
    return box["x"] + across * box["width"], box["y"] + down * box["height"]


def drag(page, *points):
    page.mouse.move(*points[0])
    page.mouse.down()
    for _, point in pairwise(points):
        page.mouse.move(*point, steps=4)
    page.mouse.up()


def choose(page, tool):
    page.get_by_role("radio", name=tool, exact=True).check(force=True)


def painted(page) -> float:
    return page.evaluate(SHARE)


def generate(page, programs) -> dict:
    """Send what is on the page; the finished job as the API describes it."""
    page.get_by_role("button", name="Generate").click()
    page.wait_for_url(re.compile(r"\?job="))
    return finished(programs, page.url.partition("job=")[2])


def sent_mask(site, job) -> Image.Image:
    """The mask that the job is drawn with, as it lies in the storage."""
    (file,) = site.var.rglob(f"uploads/**/{job['request']['mask']['id']}.png")
    return Image.open(file)


def pixels_of(programs, image) -> Image.Image:
    return Image.open(io.BytesIO(programs.get(image["imageUrl"]).content)).convert("RGB")


def test_a_rectangle_by_mouse_changes_that_part_only(open_editor, programs, picture, site):
    page = open_editor()
    choose(page, "Rectangle")
    drag(page, picture_point(page, 0.25, 0.25), picture_point(page, 0.5, 0.75))
    page.get_by_label("What shall be there").fill("a green island")
    job = generate(page, programs)
    assert job["parent"] == picture["id"] and job["request"]["mode"] == "inpaint"
    mask = sent_mask(site, job)
    assert mask.size == (256, 192)
    assert mask.getbbox() == pytest.approx((64, 48, 128, 144), abs=2)

    compare = page.locator("ds-compare")
    expect(compare).to_be_visible()
    before, after = pixels_of(programs, picture), pixels_of(programs, job["images"][0])
    changed = ImageChops.difference(before, after).getbbox()
    assert changed and changed[0] >= 62 and changed[1] >= 46 and changed[2] <= 130 and changed[3] <= 146
    assert page.locator("#announcer").inner_text().startswith("Done.")

    slider = page.get_by_role("slider", name="Before and after")
    slider.focus()
    page.keyboard.press("Home")
    assert compare.evaluate("element => element.style.getPropertyValue('--at')") == "0"
    page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "1 % before, 99 % after"
    box = compare.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.8, box["y"] + box["height"] / 2)
    assert slider.input_value() == "80"

    page.get_by_role("link", name="Keep and go on").click()
    page.wait_for_url(f"**{job['images'][0]['pageUrl'].partition('/i/')[2]}edit/")
    assert painted(page) == 0, "the new version has no mask yet"
    chain = page.get_by_role("navigation", name="Versions")
    expect(chain.locator("[aria-current=step]")).to_contain_text("Step 1")
    chain.get_by_role("link", name="Back to here").click()
    page.wait_for_url(f"**{picture['pageUrl'].partition('/i/')[2]}edit/")
    expect(page.get_by_role("link", name="Made from this").first).to_be_visible()


def test_brush_eraser_lasso_and_invert(open_editor):
    page = open_editor()
    drag(page, picture_point(page, 0.2, 0.5), picture_point(page, 0.8, 0.5))
    line = painted(page)
    assert 0.05 < line < 0.2
    choose(page, "Eraser")
    drag(page, picture_point(page, 0.4, 0.5), picture_point(page, 0.6, 0.5))
    assert painted(page) < line * 0.8
    choose(page, "Lasso")
    drag(page, *(picture_point(page, *at) for at in ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9), (0.1, 0.1))))
    assert painted(page) == pytest.approx(0.64, abs=0.05)
    page.get_by_role("button", name="Invert").click()
    assert painted(page) == pytest.approx(0.36, abs=0.05)
    page.get_by_role("button", name="Clear").click()
    assert painted(page) == 0
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("button", name="Undo").click()
    assert painted(page) == pytest.approx(0.64, abs=0.05)


def test_sixty_strokes_can_be_undone_and_redone(open_editor):
    page = open_editor()
    page.locator("#edit-stage").focus()
    shares = [0.0]
    for _ in range(60):
        for key in ("Shift+ArrowRight", "Enter"):
            page.keyboard.press(key)
        if len(shares) % 12 == 0:
            page.keyboard.press("Shift+ArrowDown")
        shares.append(painted(page))
    assert shares[1] > 0 and shares[-1] > shares[1]
    for share in shares[-2::-1]:
        page.keyboard.press("Control+z")
        assert painted(page) == share
    expect(page.get_by_role("button", name="Undo")).to_be_disabled()
    for _ in range(60):
        page.keyboard.press("Control+Shift+z")
    assert painted(page) == shares[-1]
    expect(page.get_by_role("button", name="Redo")).to_be_disabled()


def test_by_keyboard_alone(open_editor, programs, site):
    page = open_editor()
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "edit-stage":
            break
    expect(page.locator("#edit-stage")).to_be_focused()
    page.keyboard.press("r")
    expect(page.get_by_role("radio", name="Rectangle", exact=True)).to_be_checked()
    page.keyboard.press("Enter")
    for key in ["Shift+ArrowRight"] * 3 + ["Shift+ArrowDown"] * 2 + ["Enter"]:
        page.keyboard.press(key)
    drawn = painted(page)
    assert drawn > 0.005
    page.keyboard.press("+")
    expect(page.locator("#zoom")).not_to_have_text("100 %")
    page.keyboard.press("h")
    left = page.locator("#edit-sheet").bounding_box()["x"]
    page.keyboard.press("ArrowRight")
    assert page.locator("#edit-sheet").bounding_box()["x"] < left
    page.keyboard.press("0")
    page.keyboard.press("b")
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Space")
    assert painted(page) > drawn
    page.locator("summary", has_text="Rectangle by numbers").press("Enter")
    for name, value in (("From the left", "0"), ("From the top", "0"), ("Width", "32"), ("Height", "192")):
        page.get_by_label(name).fill(value)
    page.get_by_role("button", name="Add to the mask").press("Enter")
    expect(page.locator("#announcer")).to_have_text("Rectangle added to the mask.")
    page.get_by_label("What shall be there").press("Control+Enter")
    page.wait_for_url(re.compile(r"\?job="))
    job = finished(programs, page.url.partition("job=")[2])
    mask = sent_mask(site, job)
    assert mask.crop((0, 0, 32, 192)).getextrema() == (255, 255)


def touching(page):
    """`touch("touchStart", point, …)`: what fingers at these points do."""
    session = page.context.new_cdp_session(page)

    def touch(kind, *points):
        fingers = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})

    return touch


def test_one_finger_draws_and_two_zoom(open_editor, programs, site):
    page = open_editor("phone")
    touch = touching(page)
    touch("touchStart", picture_point(page, 0.3, 0.5))
    for share in (0.4, 0.5, 0.6, 0.7):
        touch("touchMove", picture_point(page, share, 0.5))
    touch("touchEnd")
    line = painted(page)
    assert 0.02 < line < 0.3
    zoom = page.locator("#zoom").inner_text()
    touch("touchStart", picture_point(page, 0.45, 0.3))
    touch("touchStart", picture_point(page, 0.45, 0.3), picture_point(page, 0.55, 0.3))
    for spread in (0.1, 0.2, 0.3):
        touch("touchMove", picture_point(page, 0.5 - spread, 0.3), picture_point(page, 0.5 + spread, 0.3))
    touch("touchEnd")
    expect(page.locator("#zoom")).not_to_have_text(zoom)
    assert painted(page) == line, "two fingers draw nothing"
    job = generate(page, programs)
    left, top, right, bottom = sent_mask(site, job).getbbox()
    assert left < 80 and right > 175 and 60 < top < bottom < 132
    expect(page.locator("ds-compare")).to_be_visible()


def test_a_pen_that_presses_harder_draws_wider(open_editor):
    page = open_editor()

    def stroke(down, pressure):
        x, y = picture_point(page, 0.3, down)
        page.locator("#edit-stage").evaluate(
            """(stage, [x, y, pressure]) => {
                const event = (type, more) => stage.dispatchEvent(new PointerEvent(type, {
                    pointerId: 1, pointerType: 'pen', isPrimary: true, bubbles: true, cancelable: true,
                    clientX: x, clientY: y, pressure, ...more}));
                stage.setPointerCapture = () => {};
                event('pointerdown', {button: 0, buttons: 1});
                event('pointermove', {clientX: x + 100, buttons: 1});
                event('pointerup', {button: 0, buttons: 0});
            }""",
            [x, y, pressure],
        )
        return painted(page)

    light = stroke(0.2, 0.1)
    assert light > 0
    assert stroke(0.7, 1.0) - light > light * 1.5


def test_the_wheel_zooms_with_control_and_pans_what_is_zoomed_in(open_editor):
    page = open_editor()
    page.mouse.move(*picture_point(page, 0.25, 0.25))
    before = page.locator("#edit-sheet").bounding_box()
    page.keyboard.down("Control")
    page.mouse.wheel(0, -300)
    page.keyboard.up("Control")
    expect(page.locator("#zoom")).not_to_have_text("100 %")
    zoomed = page.locator("#edit-sheet").bounding_box()
    assert zoomed["width"] > before["width"] * 1.5
    page.mouse.wheel(0, 60)
    wait_for(lambda: page.locator("#edit-sheet").bounding_box()["y"] < zoomed["y"], seconds=5)
    page.get_by_role("button", name="Fit").click()
    assert page.locator("#edit-sheet").bounding_box()["width"] == pytest.approx(before["width"], abs=1)


def test_extending_by_an_edge_and_by_numbers(open_editor, programs):
    page = open_editor(query="?tool=extend")
    expect(page.get_by_role("radio", name="Extend", exact=True)).to_be_checked()
    edge = page.locator("[data-edge=right]").bounding_box()
    x, y = edge["x"] + edge["width"] / 2, edge["y"] + edge["height"] / 2
    scale = page.locator("#edit-sheet").bounding_box()["width"] / 256
    drag(page, (x, y), (x + 64 * scale, y))
    expect(page.get_by_label("Right", exact=True)).to_have_value("64")
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_label("Right", exact=True)).to_have_value("")
    page.get_by_role("button", name="Redo").click()
    page.get_by_label("Top", exact=True).fill("32")
    page.get_by_label("Top", exact=True).press("Tab")
    expect(page.locator("#cost")).to_contain_text("320 × 224")
    page.locator("#edit-stage").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_label("Left", exact=True)).to_have_value("8")
    page.keyboard.press("Control+z")
    job = generate(page, programs)
    assert job["request"]["mode"] == "outpaint" and "mask" not in job["request"]
    assert job["request"]["expand"] == {"left": 0, "right": 64, "top": 32, "bottom": 0}
    before = page.locator("ds-compare img").first
    expect(before).to_be_visible()
    whole, part = page.locator("ds-compare").bounding_box(), before.bounding_box()
    assert part["width"] / whole["width"] == pytest.approx(256 / 320, abs=0.02)
    assert (part["y"] - whole["y"]) / whole["height"] == pytest.approx(32 / 224, abs=0.02)


def test_a_reload_keeps_mask_and_words_and_a_failure_too(open_editor, programs):
    page = open_editor()
    drag(page, picture_point(page, 0.2, 0.5), picture_point(page, 0.8, 0.5))
    page.get_by_label("What shall be there").fill("half a thought [fault:error@1]")
    page.get_by_label("Only the masked part").check()
    page.get_by_label("Right", exact=True).fill("16")
    page.get_by_label("Right", exact=True).press("Tab")
    line = painted(page)
    page.reload()
    wait_for(lambda: painted(page) == line, seconds=5, what="the mask from before")
    expect(page.get_by_label("What shall be there")).to_have_value("half a thought [fault:error@1]")
    expect(page.get_by_label("Only the masked part")).to_be_checked()
    expect(page.get_by_label("Right", exact=True)).to_have_value("16")
    assert generate(page, programs)["status"] == "failed"
    expect(page.locator("#edit-outcome")).to_contain_text("Your mask and words are still here")
    assert painted(page) == line
    page.get_by_label("What shall be there").fill("a whole thought")
    assert generate_again(page, programs)["status"] == "completed"


def generate_again(page, programs) -> dict:
    before = page.url
    page.get_by_role("button", name="Generate").click()
    page.wait_for_url(lambda url: url != before and "?job=" in url)
    return finished(programs, page.url.partition("job=")[2])


def test_nothing_to_change_is_said_and_the_focus_goes_there(open_editor):
    page = open_editor(refused=True)
    page.get_by_role("button", name="Generate").click()
    alert = page.locator("#edit-fields [role=alert]")
    expect(alert).to_contain_text("Paint over what shall change")
    expect(alert).to_be_focused()
    page.get_by_role("button", name="Invert").click()
    page.get_by_label("What shall be there").fill("")
    page.get_by_role("button", name="Generate").click()
    expect(alert).to_contain_text("Describe your image")
    assert painted(page) == 1, "the mask is kept"


def test_a_result_is_discarded_brought_back_and_drawn_again(open_editor, programs):
    page = open_editor()
    page.get_by_role("button", name="Invert").click()
    page.get_by_label("Images", exact=True).fill("2")
    job = generate(page, programs)
    strip = page.get_by_role("list", name="Versions of the same job")
    expect(strip.get_by_role("link")).to_have_count(2)
    strip.get_by_role("link", name="Version 2").click()
    expect(strip.locator("[aria-current=true]")).to_have_accessible_name("Version 2")
    expect(strip.get_by_role("link", name="Version 2")).to_be_focused()
    page.get_by_role("button", name="Discard").click()
    undo = page.locator("#edit-outcome").get_by_role("button", name="Undo")
    expect(undo).to_be_focused()
    image = job["images"][1]["id"]
    assert programs.get(f"/api/images/{image}").json()["deletedAt"]
    undo.click()
    expect(page.locator("ds-compare")).to_be_visible()
    assert programs.get(f"/api/images/{image}").json()["deletedAt"] is None
    assert painted(page) == 1
    before = page.url
    page.get_by_role("button", name="Again").click()
    page.wait_for_url(lambda url: url != before)
    again = finished(programs, page.url.partition("job=")[2])
    assert again["images"][0]["seed"] != job["images"][0]["seed"]
    assert again["request"]["mask"]["sha256"] == job["request"]["mask"]["sha256"]


def test_a_mask_file_comes_onto_the_canvas(open_editor, tmp_path):
    page = open_editor()
    mask = Image.new("L", (128, 96), 0)
    ImageDraw.Draw(mask).rectangle((0, 0, 63, 95), fill=255)
    mask.save(tmp_path / "mask.png")
    page.get_by_label("Mask file").set_input_files(tmp_path / "mask.png")
    wait_for(lambda: abs(painted(page) - 0.5) < 0.02, seconds=5, what="the left half")
    page.get_by_role("button", name="Undo").click()
    assert painted(page) == 0
    (tmp_path / "no.png").write_bytes(b"no picture")
    page.get_by_label("Mask file").set_input_files(tmp_path / "no.png")
    expect(page.locator("#announcer-now")).to_have_text("This file is not a picture that can be read.")


def test_without_scripts(open_editor, programs, site, tmp_path):
    page = open_editor(javascript=False, refused=True)
    expect(page.locator(".edit-toolbar")).to_be_hidden()
    mask = Image.new("L", (256, 192), 0)
    ImageDraw.Draw(mask).rectangle((0, 0, 99, 99), fill=255)
    mask.save(tmp_path / "mask.png")
    page.get_by_label("What shall be there").fill("a green island")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#edit-fields [role=alert]")).to_contain_text("Paint over what shall change")
    page.get_by_label("Mask file").set_input_files(tmp_path / "mask.png")
    page.get_by_label("Left", exact=True).fill("64")
    page.get_by_role("button", name="Generate").click()
    page.wait_for_url("**/jobs/**")
    job = finished(programs, page.url.rstrip("/").rpartition("/")[2])
    assert job["request"]["expand"]["left"] == 64
    assert sent_mask(site, job).getbbox() == (0, 0, 100, 100)
    page.get_by_role("link", name="Beside the original").click()
    expect(page.locator("ds-compare img")).to_have_count(2)
    page.get_by_role("button", name="Discard").click()
    expect(page.locator("#edit-outcome")).to_contain_text("This version is in the trash.")
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("link", name="Keep and go on").click()
    expect(page.get_by_role("navigation", name="Versions")).to_contain_text("Back to here")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", ["phone", "desktop"])
def test_the_page_is_accessible_in_every_state(open_editor, programs, size, theme):
    page = open_editor(size, theme=theme, refused=True)
    for details in page.locator("main details").all():
        details.evaluate("element => { element.open = true }")
    problems = findings(page)
    choose(page, "Extend")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#edit-fields [role=alert]")).to_be_visible()
    problems += findings(page)
    page.get_by_role("button", name="Invert").click()
    generate(page, programs)
    expect(page.locator("ds-compare")).to_be_visible()
    problems += findings(page)
    page.get_by_role("button", name="Discard").click()
    expect(page.locator("#edit-outcome")).to_contain_text("in the trash")
    problems += findings(page)
    assert not problems, "\n".join(problems)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def findings(page) -> list[str]:
    page.evaluate("document.getAnimations().forEach(animation => animation.cancel())")
    return [
        f"{rule['id']}: {rule['help']} {[node['html'][:160] for node in rule['nodes'][:3]]}"
        for rule in Axe().run(page, options=RULES).response["violations"]
    ]

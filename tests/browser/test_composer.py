"""The composer in Chromium: by mouse, keyboard and touch, without scripts, and with the connection cut."""

import re
import threading
import uuid

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import APIResponse, Page, expect

from tests.browser.conftest import PASSWORD
from tests.browser.test_every_page import RULES
from tests.installed import install
from tests.site import Site

STILL = 0.02
"""The most that a page may shift by itself."""
WATCH_SHIFTS = """() => {
    window.shifts = [];
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) {
            const names = entry.sources.map(({node}) => node?.id || node?.className || node?.nodeName);
            if (!entry.hadRecentInput) shifts.push([entry.value, String(names)]);
        }
    }).observe({type: 'layout-shift'});
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """With LoRAs, ControlNets and an IP-Adapter for the built-in model, drawn by the engine that only pretends."""
    var = tmp_path_factory.mktemp("composer")
    models = install(var / "models")
    with Site(
        var, DREAMSKETCH_ENGINE="fake", FAKE_SECONDS_PER_STEP="0.03", MODELS_DIR=str(models), SIGNUP_CHECKS="0"
    ) as running:
        yield running


@pytest.fixture(scope="module")
def member(site):
    """The address of an account with room for many images, made once."""
    email = f"{uuid.uuid4().hex[:12]}@example.com"
    site.manage("create_user", email, "--plan", "pro", "--password", PASSWORD)
    return email


@pytest.fixture
def sign_in(member):
    def enter(page: Page) -> Page:
        page.goto("/accounts/login/")
        page.get_by_label("Email").fill(member)
        page.locator("input[name=password]").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/create/**")
        # Without the greeting, which lies over what is below it, and what another test left as a draft put aside.
        page.goto("/create/")
        with page.expect_response("**/create/draft/clear/"):
            page.get_by_role("button", name="Start afresh").click()
        expect(page.locator("#prompt")).to_have_value("")
        expect(page.locator("[data-picture-card]")).to_have_count(0)
        return page

    return enter


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "boat.png"
    Image.new("RGB", (120, 80), (200, 60, 40)).save(path)
    return path


def saved(page: Page, act) -> None:
    """Do something, and wait until the draft is kept."""
    with page.expect_response(lambda response: response.url.endswith("/create/draft/") and response.status == 204):
        act()


def late(response: APIResponse) -> APIResponse:
    threading.Event().wait(0.7)
    return response


def drawer(page: Page) -> None:
    if not page.locator("#finetune").evaluate("drawer => drawer.open"):
        page.locator("summary", has_text="Fine-tune").click()


def test_the_whole_form_survives_a_reload_and_what_is_typed_wins(open_page, sign_in):
    page = sign_in(open_page())
    page.goto("/create/?prompt=from+the+link")
    expect(page.locator("#prompt")).to_have_value("from the link")
    drawer(page)
    page.locator("#hires_fix").check()
    page.locator("#hires_fix-scale").fill("1.5")
    page.get_by_label("Detail passes").first.fill("33")
    page.locator("#composer .tile", has_text="Anime").click()
    # Reloaded at once: sooner than the draft is sent by itself.
    page.locator("#prompt").fill("typed over it")
    page.reload()
    expect(page.locator("#prompt")).to_have_value("typed over it")
    expect(page.locator("#steps")).to_have_value("33")
    expect(page.locator("#hires_fix")).to_be_checked()
    expect(page.locator("#hires_fix-scale")).to_have_value("1.5")
    expect(page.locator("[name=style][value=anime]")).to_be_checked()
    other = sign_in_again(open_page, page)
    expect(other.locator("#prompt")).to_have_value("typed over it")
    other.goto("/create/?prompt=something+else")
    expect(other.locator("#prompt")).to_have_value("typed over it")
    other.get_by_role("link", name="Use it").click()
    expect(other.locator("#prompt")).to_have_value("something else")


def sign_in_again(open_page, page: Page) -> Page:
    other = open_page("phone", like=page)
    other.goto("/create/")
    return other


def test_with_the_connection_cut_nothing_is_lost(open_page, sign_in):
    page = sign_in(open_page())
    open_page.expect_errors_on(page)
    page.context.set_offline(True)
    page.locator("#prompt").fill("written on a train")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#offline-note")).to_be_visible()
    expect(page.locator("#jobs .job")).to_have_count(0)
    saved(page, lambda: page.context.set_offline(False))
    page.goto("/gallery/")
    page.goto("/create/")
    expect(page.locator("#prompt")).to_have_value("written on a train")


def test_starting_afresh_is_undone(open_page, sign_in):
    page = sign_in(open_page())
    saved(page, lambda: page.locator("#prompt").fill("a long thought"))
    page.get_by_role("button", name="Start afresh").click()
    expect(page.locator("#prompt")).to_have_value("")
    expect(page.locator("#prompt")).to_be_focused()
    page.get_by_role("button", name="Put it back").click()
    expect(page.locator("#prompt")).to_have_value("a long thought")


def test_pictures_are_dropped_pasted_and_chosen_and_change_roles(open_page, sign_in, picture):
    page = sign_in(open_page())
    page.locator("#prompt").fill("a boat like this")
    page.locator("#picture-file").set_input_files(picture)
    cards = page.locator("[data-picture-card]")
    expect(cards).to_have_count(1)
    expect(page.locator("[name=shape][value='']")).to_be_checked()
    put = """(kind) => {
        const canvas = document.createElement('canvas');
        canvas.width = canvas.height = 40;
        canvas.toBlob((blob) => {
            const data = new DataTransfer();
            data.items.add(new File([blob], 'x.png', {type: 'image/png'}));
            const options = {bubbles: true, cancelable: true};
            const event = kind === 'drop'
                ? new DragEvent('drop', {...options, dataTransfer: data})
                : new ClipboardEvent('paste', {...options, clipboardData: data});
            document.querySelector('#prompt').dispatchEvent(event);
        });
    }"""
    page.evaluate(put, "drop")
    expect(cards).to_have_count(2)
    expect(page.get_by_role("img", name="What is followed of it")).to_be_visible()
    page.evaluate(put, "paste")
    expect(cards).to_have_count(3)
    page.locator("select[name='role_of.image']").focus()
    page.locator("select[name='role_of.image']").select_option("reference")
    expect(page.locator("[name='reference.image']")).to_have_count(1)
    assert page.evaluate("document.activeElement.name").startswith("role_of.")
    page.get_by_role("button", name="Remove this picture").first.click()
    expect(cards).to_have_count(2)
    saved(page, lambda: page.locator("#control-scale").fill("0.8"))
    page.reload()
    expect(cards).to_have_count(2)
    expect(page.locator("#control-scale")).to_have_value("0.8")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#jobs .tone-done").first).to_be_visible()


def test_a_lora_brings_its_words(open_page, sign_in):
    page = sign_in(open_page())
    page.locator("#prompt").fill("a fox")
    page.locator("summary", has_text="LoRAs").click()
    page.get_by_label(re.compile("Ink Wash")).first.check()
    expect(page.locator("#prompt")).to_have_value("a fox, inkwash style")
    page.get_by_label(re.compile("Ink Wash")).first.uncheck()
    expect(page.locator("#prompt")).to_have_value("a fox")


def test_another_model_brings_its_controls_by_keyboard(open_page, sign_in):
    page = sign_in(open_page())
    page.locator("#prompt").fill("kept words")
    drawer(page)
    page.get_by_label("Detail passes").first.fill("50")
    page.locator("#model").focus()
    page.locator("#model").select_option("sdxl-lightning")
    expect(page.locator("#model-changes")).to_contain_text("“Detail passes” is now 4 instead of 50.")
    expect(page.locator("#model")).to_be_focused()
    expect(page.locator("#sampler option")).to_have_count(1)
    expect(page.locator("#cost")).to_contain_text("1024 × 1024")
    expect(page.locator("#finetune")).to_have_attribute("open", "")
    page.locator("#model").select_option("flux-schnell")
    expect(page.locator("#negative_prompt")).to_have_count(0)
    expect(page.locator("#prompt")).to_have_value("kept words")


@pytest.mark.parametrize("size", ["phone", "desktop"])
def test_nothing_moves_when_a_job_comes_and_ends(open_page, sign_in, size):
    page = sign_in(open_page(size))
    page.locator("#prompt").fill("a lighthouse of folded paper")
    drawer(page)
    saved(page, lambda: page.get_by_label("Detail passes").first.fill("40"))
    shown = page.locator("#jobs .job").count()
    page.evaluate(WATCH_SHIFTS)
    # Longer than what a browser puts down to the press itself.
    page.route("**/create/", lambda route: route.fulfill(response=late(route.fetch())))
    generate = page.get_by_role("button", name="Generate")
    generate.click()
    expect(page.locator("#jobs .tone-drawing")).to_have_count(1)
    expect(generate).to_be_focused()
    generate.click()
    expect(page.locator("#jobs .job")).to_have_count(shown + 2)
    first = page.locator("#jobs .job").first
    expect(first).not_to_have_class(re.compile("tone-waiting"))
    expect(first).to_be_in_viewport()
    expect(page.locator("#jobs .tone-done")).to_have_count(shown + 2, timeout=60_000)
    shifts = page.evaluate("shifts")
    assert sum(value for value, _ in shifts) <= STILL, shifts
    page.get_by_role("button", name="Improve").click()
    expect(page.get_by_role("button", name="Put mine back")).to_be_visible()
    expect(page.get_by_role("button", name="Improve")).to_be_focused()


def test_everything_wrong_is_said_and_goes_when_it_is_mended(open_page, sign_in):
    page = sign_in(open_page())
    open_page.expect_errors_on(page)
    page.locator("#prompt").fill("a red boat")
    drawer(page)
    page.locator("#steps").fill("1000")
    page.locator("#guidance").fill("99")
    page.keyboard.press("Control+Enter")
    alert = page.locator("#composer-alerts [role=alert]")
    expect(alert.get_by_role("listitem")).to_have_count(2)
    expect(alert).to_be_focused()
    page.locator("#steps").fill("5")
    expect(alert.get_by_role("listitem")).to_have_count(1)
    page.locator("#guidance").fill("5")
    expect(alert).to_have_count(0)


def test_without_scripts(open_page, sign_in, picture):
    page = open_page(javascript=False)
    sign_in(page)
    page.locator("#prompt").fill("a boat like this")
    page.locator("summary", has_text="Fine-tune").click()
    page.locator("#seed").fill("42")
    page.locator("#picture-file").set_input_files(picture)
    page.get_by_role("button", name="Take the picture over").click()
    expect(page.locator("[data-picture-card]")).to_have_count(1)
    page.locator("#model").select_option("sdxl-lightning")
    page.get_by_role("button", name="Update the controls for this model").click()
    expect(page.locator("#sampler option")).to_have_count(1)
    page.locator("#model").select_option("dreamsketch-tiny")
    page.get_by_role("button", name="Update the controls for this model").click()
    expect(page.locator("#seed")).to_have_value("42")
    expect(page.locator("[data-picture-card]")).to_have_count(1)
    page.get_by_role("button", name="Generate").click()
    page.wait_for_url("**/jobs/**")
    expect(page.locator(".job-pictures img")).to_be_visible(timeout=60_000)


def test_one_of_ones_own_images_is_chosen(open_page, sign_in):
    page = sign_in(open_page())
    shown = page.locator("#jobs .tone-done").count()
    page.locator("#prompt").fill("first one to choose from")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#jobs .tone-done")).to_have_count(shown + 1, timeout=60_000)
    page.get_by_role("button", name="From the gallery").click()
    page.locator("#choose [data-pick]").first.click()
    expect(page.locator("[data-picture-card]")).to_have_count(1)
    expect(page.locator("#choose")).not_to_be_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_is_accessible_with_drawers_open(open_page, sign_in, picture, theme):
    page = sign_in(open_page(theme=theme))
    page.locator("#picture-file").set_input_files(picture)
    expect(page.locator("[data-picture-card]")).to_have_count(1)
    page.locator("summary", has_text="LoRAs").click()
    drawer(page)
    page.locator("#hires_fix").check()
    page.locator("#variation").check()
    page.evaluate("document.getAnimations().forEach((animation) => animation.finish?.())")
    findings = Axe().run(page, options=RULES).response["violations"]
    assert not findings, [(rule["id"], [node["html"][:200] for node in rule["nodes"]]) for rule in findings]


def test_forced_colours_show_the_chosen_style(open_page, sign_in):
    page = sign_in(open_page())
    page.emulate_media(forced_colors="active")
    page.locator("#composer .tile", has_text="Anime").click()
    outline = "tile => getComputedStyle(tile.querySelector('.tile-art')).outlineStyle"
    assert page.locator("#composer .tile", has_text="Anime").evaluate(outline) == "solid"
    assert page.locator("#composer .tile", has_text="Vintage").evaluate(outline) == "none"

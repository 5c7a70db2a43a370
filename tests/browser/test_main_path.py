"""From signing up to deleting the picture, with the real engine, as a person does it."""

import io
import re

import pytest
from PIL import Image
from playwright.sync_api import expect

DRAWING_MS = 90_000
STEPS = 100
"""The most there are: enough to watch, also on a quick machine."""


def preview_watcher(page):
    """Note every preview address and every share of the progress bar that the page shows."""
    page.evaluate("""() => {
        window.seen = {previews: [], shares: []};
        const note = () => {
            const preview = document.querySelector('#jobs .preview');
            const bar = document.querySelector('#jobs [role=progressbar]');
            if (preview && seen.previews.at(-1) !== preview.src) seen.previews.push(preview.src);
            const share = bar && Number(bar.getAttribute('aria-valuenow'));
            if (bar && seen.shares.at(-1) !== share) seen.shares.push(share);
        };
        new MutationObserver(note).observe(document.querySelector('#jobs'),
            {subtree: true, childList: true, attributes: true});
    }""")
    return lambda: page.evaluate("window.seen")


def downloaded(page, link) -> bytes:
    with page.expect_download() as waiting:
        link.click()
    download = waiting.value
    assert re.fullmatch(r"a-red-boat-at-sea.*-\d+\.png", download.suggested_filename)
    with open(download.path(), "rb") as file:
        return file.read()


def check_png(data: bytes, *, size, seed=None):
    picture = Image.open(io.BytesIO(data))
    assert picture.format == "PNG" and picture.size == size
    parameters = picture.text["parameters"]
    assert "a red boat at sea" in parameters and f"Steps: {STEPS}" in parameters
    if seed is not None:
        assert f"Seed: {seed}" in parameters


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_from_sign_up_to_deletion(open_page, sign_up, size):
    page = open_page(size)
    sign_up(page)
    page.get_by_label("Describe your image").fill("a red boat at sea")
    page.locator("summary", has_text="Fine-tune").click()
    page.get_by_label("Starting point").fill("7")
    page.get_by_label("Detail passes").fill(str(STEPS))
    seen = preview_watcher(page)
    if size == "desktop":
        page.get_by_label("Describe your image").press("Control+Enter")
    else:
        page.get_by_role("button", name="Generate").click()

    job = page.locator("#jobs .job").first
    expect(job).to_be_visible()
    expect(job).to_have_class(re.compile("tone-done"), timeout=DRAWING_MS)
    watched = seen()
    shares = [share for share in watched["shares"] if share is not None]
    assert len(set(shares)) >= 3, "the progress moves"
    assert shares == sorted(shares), "and never goes back"
    assert max(shares) < 100, "nor is it full before the picture is there"
    assert len(set(watched["previews"])) >= 2, "the preview changes"
    expect(page.locator("#announcer")).to_contain_text("Done. 1 image ready.")
    if size == "desktop":
        expect(page.get_by_label("Describe your image")).to_be_focused()
    expect(page.locator("#quota")).to_contain_text("9")
    expect(page.locator("#bus")).to_have_count(0)

    page.get_by_role("link", name="Gallery", exact=True).locator("visible=true").first.click()
    card = page.locator(".card-image")
    expect(card).to_have_count(1)
    page.goto(card.locator("a").get_attribute("href"))
    expect(page.get_by_role("heading", level=1)).to_have_text("a red boat at sea")
    full = page.locator("img.full")
    assert full.evaluate("image => image.decode().then(() => image.naturalWidth)") == 256
    check_png(downloaded(page, page.get_by_role("link", name="Download")), size=(256, 256), seed=7)

    page.get_by_role("button", name="Favourite").click()
    expect(page.get_by_role("button", name="Favourite")).to_have_attribute("aria-pressed", "true")

    page.get_by_role("button", name="Delete").click()
    page.wait_for_url("**/gallery/")
    expect(page.locator(".toast")).to_contain_text("1 image moved to trash.")
    expect(card).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(card).to_have_count(1)
    if size == "phone":
        page.get_by_role("button", name="Select").click()
        card.locator("a").click()
    else:
        card.hover()
        card.get_by_role("checkbox").check()
    page.get_by_role("form", name="Selected images").get_by_role("button", name="Delete").click()
    expect(card).to_have_count(0)
    expect(page.locator(".toast").last).to_contain_text("1 image moved to trash.")

    page.get_by_role("link", name="Trash").click()
    expect(card).to_have_count(1)
    page.get_by_role("button", name="Empty the trash").click()
    page.get_by_role("button", name="Delete 1 image").click()
    expect(page.get_by_role("heading", name="Nothing in the trash.")).to_be_visible()


def test_without_scripts(open_page, sign_up):
    page = open_page(javascript=False)
    sign_up(page)
    page.get_by_label("Describe your image").fill("a red boat at sea")
    page.locator("summary", has_text="Fine-tune").click()
    page.get_by_label("Detail passes").fill(str(STEPS))
    page.get_by_role("button", name="Generate").click()
    page.wait_for_url("**/jobs/**")
    # The page reloads itself until the picture is there.
    expect(page.locator(".job-pictures img")).to_be_visible(timeout=DRAWING_MS)
    page.get_by_role("link", name="Open").click()
    check_png(downloaded(page, page.get_by_role("link", name="Download")), size=(256, 256))
    page.get_by_role("button", name="Favourite").click()
    expect(page.get_by_role("button", name="Favourite")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("link", name="Gallery", exact=True).first.click()
    card = page.locator(".card-image")
    card.get_by_role("checkbox").check()
    page.get_by_role("form", name="Selected images").get_by_role("button", name="Delete").click()
    expect(card).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(card).to_have_count(1)
    page.get_by_label("Search your prompts").fill("elephant")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("heading", name=re.compile("Nothing matches"))).to_be_visible()
    page.goto("/settings/keys/")
    page.get_by_label("Name").fill("laptop")
    page.get_by_role("button", name="Create key").click()
    expect(page.locator("#secret-text")).to_have_text(re.compile(r"dsk_\w{8}_.{43}"))


def test_cancel_and_try_again(open_page, sign_up):
    page = open_page()
    sign_up(page)
    page.get_by_label("Describe your image").fill("a blue bird in the forest")
    page.locator("summary", has_text="Fine-tune").click()
    page.get_by_label("Detail passes").fill("100")
    page.get_by_label("Images", exact=True).fill("4")
    page.get_by_role("button", name="Generate").click()
    job = page.locator("#jobs .job").first
    job.get_by_role("button", name="Cancel").click()
    expect(job).to_have_class(re.compile("tone-stopped"), timeout=30_000)
    expect(job).to_contain_text("Cancelled")
    job.get_by_role("button", name="Try again").click()
    expect(page.locator("#jobs .job[data-active]")).to_have_count(1)
    page.locator("#jobs .job[data-active]").get_by_role("button", name="Cancel").click()
    expect(page.locator("#jobs .job[data-active]")).to_have_count(0, timeout=30_000)


def test_a_refused_form_says_why_and_keeps_what_was_typed(open_page, sign_up):
    page = open_page()
    open_page.expect_errors_on(page)
    sign_up(page)
    page.get_by_label("Describe your image").fill("a red boat at sea")
    page.locator("summary", has_text="Fine-tune").click()
    page.get_by_label("Detail passes").fill("1000")
    page.get_by_role("button", name="Generate").click()
    alert = page.locator("#composer-alerts [role=alert]")
    expect(alert).to_contain_text("This must be between 1 and 100.")
    expect(alert).to_be_focused()
    expect(page.get_by_label("Detail passes")).to_have_value("1000")
    expect(page.get_by_label("Describe your image")).to_have_value("a red boat at sea")
    page.get_by_label("Detail passes").fill("2")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#jobs .job")).to_have_count(1)
    expect(alert).to_have_count(0)
    expect(page.locator("#jobs .tone-done")).to_have_count(1, timeout=DRAWING_MS)
    page.get_by_label("Images", exact=True).fill("4")
    for jobs in (2, 3, 3):
        with page.expect_response(lambda response: response.request.method == "POST" and "/create/" in response.url):
            page.get_by_role("button", name="Generate").click()
        expect(page.locator("#jobs [data-job]")).to_have_count(jobs)
    expect(alert).to_contain_text("You have 1 of 10 images left today and asked for 4.")


def test_the_draft_survives_a_reload_and_ideas_fill_the_field(open_page, sign_up):
    page = open_page()
    sign_up(page)
    page.get_by_label("Describe your image").fill("half a thou")
    page.reload()
    expect(page.get_by_label("Describe your image")).to_have_value("half a thou")
    idea = page.locator("#ideas .pill").first
    prompt = idea.inner_text()
    idea.click()
    expect(page.get_by_label("Describe your image")).to_have_value(prompt)
    page.get_by_role("button", name="Improve").click()
    expect(page.get_by_role("button", name="Put mine back")).to_be_visible()
    page.get_by_role("button", name="Put mine back").click()
    expect(page.get_by_label("Describe your image")).to_have_value(prompt)
    first = page.locator("#ideas").inner_text()
    page.get_by_role("link", name="More ideas").click()
    expect(page.locator("#ideas")).not_to_have_text(first)


def test_progress_comes_by_polling_where_streams_do_not_get_through(open_page, sign_up):
    page = open_page()
    open_page.expect_errors_on(page)
    page.route("**/events/**", lambda route: route.abort())
    sign_up(page)
    page.get_by_label("Describe your image").fill("a green tree at night")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#jobs .tone-done")).to_have_count(1, timeout=DRAWING_MS)


def test_a_second_tab_shows_the_running_job(open_page, sign_up):
    page = open_page()
    sign_up(page)
    page.get_by_label("Describe your image").fill("a yellow house on a meadow")
    page.locator("summary", has_text="Fine-tune").click()
    page.get_by_label("Detail passes").fill("60")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#jobs .job[data-active]")).to_have_count(1)
    other = page.context.new_page()
    other.goto("/gallery/")
    other.get_by_role("button", name="Jobs").click()
    expect(other.locator("#dock")).to_contain_text("a yellow house on a meadow")
    expect(other.locator("#dock")).to_contain_text("1 image ready", timeout=DRAWING_MS)
    expect(other.locator("#new-pill")).to_be_visible()


def test_the_theme_is_switched_and_kept(open_page, sign_up):
    page = open_page(theme="light")
    sign_up(page)
    page.get_by_role("button", name="Switch between light and dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == "rgb(18, 16, 25)"
    page.goto("/gallery/")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")

"""The gallery by mouse, keyboard, touch and without scripts: filters and history, selections, place and focus."""

import re

import pytest
from playwright.sync_api import expect

from .conftest import PASSWORD
from .pictures import hang_pictures


@pytest.fixture
def gallery(open_page, site):
    """`gallery(count, size)`: the gallery of somebody new with that many pictures."""
    import uuid

    def open_gallery(count: int, size="desktop", path="/gallery/", **options):
        email = f"{uuid.uuid4().hex[:12]}@example.com"
        site.manage("create_user", email, "--plan", "pro", "--password", PASSWORD)
        hang_pictures(site, email, count)
        page = open_page(size, **options)
        page.goto(f"/accounts/login/?next={path}")
        page.get_by_label("Email").fill(email)
        page.locator("input[name=password]").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"**{path}")
        return page

    return open_gallery


def bar(page):
    return page.get_by_role("form", name="Selected images")


def test_filters_are_steps_of_history_and_addresses_can_be_shared(gallery):
    page = gallery(30)
    cards, count = page.locator(".card-image"), page.locator("#result-count")
    page.get_by_label("Search your prompts").press_sequentially("number 1", delay=20)
    expect(cards).to_have_count(11)
    expect(page.locator("#announcer")).to_have_text("11 images.")
    expect(page.get_by_label("Search your prompts")).to_be_focused()
    page.locator("summary", has_text="Filters").click()
    page.get_by_label("Style").select_option("anime")
    expect(cards).to_have_count(1)
    expect(page).to_have_url(re.compile(r"/gallery/\?q=number\+1&style=anime$"))
    shared = page.url
    page.get_by_role("link", name="Anime : remove this filter").click()
    expect(cards).to_have_count(11)
    expect(page.get_by_label("Style")).to_have_value("")
    assert page.evaluate("document.activeElement !== document.body")
    page.go_back()
    expect(cards).to_have_count(1)
    page.go_back()
    expect(cards).to_have_count(11)
    page.go_back()
    expect(count).to_have_text("30 images")
    expect(page.get_by_label("Search your prompts")).to_have_value("")
    page.go_forward()
    expect(cards).to_have_count(11)
    page.goto(shared)
    expect(cards).to_have_count(1)
    expect(page.get_by_label("Style")).to_have_value("anime")
    page.get_by_role("link", name="Clear", exact=True).click()
    expect(count).to_have_text("30 images")


def test_what_was_loaded_is_there_after_a_reload_and_after_going_back(gallery):
    page = gallery(170)
    cards = page.locator(".card-image")
    expect(cards).to_have_count(40)
    for loaded in (80, 120):
        page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
        expect(cards).to_have_count(loaded)
    page.get_by_role("link", name="Load more").click()
    expect(cards).to_have_count(160)
    expect(cards.nth(120).locator(".frame")).to_be_focused()
    expect(page.locator("#announcer")).to_have_text("40 more images.")
    target = cards.nth(130)
    target.scroll_into_view_if_needed()
    wanted = target.get_attribute("id")
    page.reload()
    expect(cards).to_have_count(160)
    place = page.evaluate("window.scrollY")
    page.locator(f"#{wanted} .frame").click()
    page.wait_for_url("**/i/**")
    page.go_back()
    expect(cards).to_have_count(160)
    page.wait_for_function("place => Math.abs(window.scrollY - place) < 50", arg=place)


def test_a_selection_by_mouse_goes_by_ranges_days_and_everything(gallery):
    page = gallery(50)
    cards = page.locator(".card-image")
    cards.nth(1).hover()
    cards.nth(1).get_by_role("checkbox").check()
    cards.nth(4).locator(".frame").click(modifiers=["Shift"])
    expect(page.locator("[data-bulk-count]")).to_have_text("4")
    page.locator("[data-day-tick]").check()
    expect(page.locator(".card-image:not(:has(:checked))")).to_have_count(0)
    page.get_by_role("checkbox", name="all 50 images").check()
    expect(page.locator("[data-bulk-count]")).to_have_text("50")
    bar(page).get_by_role("button", name="Favourite").click()
    expect(page.locator(".toast").last).to_contain_text("50 images added to favourites.")
    expect(page.locator(".card-image:not(:has(.favourite.on))")).to_have_count(0)
    expect(page.locator("[data-bulk-count]")).to_have_text("50")
    bar(page).get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="The walls are still bare.")).to_be_visible()
    expect(page.locator("#result-count")).to_have_text("0 images")
    expect(page.locator("#result-count")).to_be_focused()
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#result-count")).to_have_text("50 images")
    expect(cards).not_to_have_count(0)


def test_the_focus_stays_near_what_went_away(gallery):
    page = gallery(8)
    cards = page.locator(".card-image")
    following = cards.nth(3).get_attribute("id")
    cards.nth(2).hover()
    cards.nth(2).get_by_role("checkbox").check()
    gone = cards.nth(2).get_attribute("id")
    bar(page).get_by_role("button", name="Delete").click()
    expect(cards).to_have_count(7)
    expect(page.locator("#result-count")).to_have_text("7 images")
    expect(page.locator(f"#{following} .frame")).to_be_focused()
    page.keyboard.press("z")
    expect(cards).to_have_count(8)
    expect(page.locator(f"#{gone} .frame")).to_be_focused()
    expect(page.locator(".toast", has_text="moved to trash")).to_have_count(0)


def test_by_keyboard_alone(gallery):
    page = gallery(12)
    cards = page.locator(".card-image")
    page.locator(".card-image .frame").first.focus()
    page.keyboard.press("ArrowRight")
    expect(cards.nth(1).locator(".frame")).to_be_focused()
    page.keyboard.press("End")
    expect(cards.nth(11).locator(".frame")).to_be_focused()
    page.keyboard.press("Home")
    below = page.evaluate("""() => {
        const cards = [...document.querySelectorAll('.card-image')];
        return cards.findIndex(card => card.getBoundingClientRect().top > cards[0].getBoundingClientRect().top + 4);
    }""")
    page.keyboard.press("ArrowDown")
    expect(cards.nth(below).locator(".frame")).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(cards.nth(0).locator(".frame")).to_be_focused()
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    expect(page.locator("[data-bulk-count]")).to_have_text("3")
    page.keyboard.press("Escape")
    expect(bar(page)).to_be_hidden()
    page.keyboard.press("Control+a")
    expect(page.locator("[data-bulk-count]")).to_have_text("12")
    page.keyboard.press("Escape")
    page.keyboard.press("Home")
    page.keyboard.press("f")
    expect(cards.nth(0).locator(".favourite.on")).to_have_count(1)
    expect(page.locator("#announcer")).to_have_text("Added to favourites.")
    page.keyboard.press("p")
    expect(cards.nth(0).locator("img[data-visibility=public]")).to_have_count(1)
    expect(cards.nth(0).locator(".frame")).to_be_focused()
    with page.expect_download():
        page.keyboard.press("d")
    page.keyboard.press("Delete")
    expect(cards).to_have_count(11)
    page.keyboard.press("z")
    expect(cards).to_have_count(12)
    page.locator(".card-image .frame").first.focus()
    page.keyboard.press("r")
    page.wait_for_url("**/create/?from=**")


def test_letters_typed_into_the_search_do_nothing_else(gallery):
    page = gallery(2)
    page.get_by_label("Search your prompts").press("f")
    page.get_by_label("Search your prompts").press("Delete")
    expect(page.locator(".favourite.on")).to_have_count(0)
    expect(page.locator(".toast")).to_have_count(0)


def test_a_collection_is_made_from_a_selection_and_arranged_by_dragging_and_keys(gallery):
    page = gallery(4)
    cards = page.locator(".card-image")
    page.get_by_role("button", name="Select", exact=True).click()
    cards.nth(0).locator(".frame").click()
    page.get_by_role("checkbox", name="all 4 images").check()
    bar(page).get_by_role("button", name="Collection").click()
    page.get_by_label("New collection").fill("Paper boats")
    page.get_by_label("New collection").press("Enter")
    expect(page.locator(".toast").last).to_contain_text("4 images added to “Paper boats”.")
    assert page.evaluate("document.activeElement !== document.body")
    page.goto("/gallery/collections/")
    page.get_by_role("link", name="Paper boats").click()
    expect(cards).to_have_count(4)
    page.get_by_role("link", name="Arrange").click()
    items = page.locator("[data-arrange]")
    first, last = items.nth(0).get_attribute("id"), items.nth(3).get_attribute("id")
    items.nth(3).drag_to(items.nth(0), target_position={"x": 10, "y": 60})
    expect(items.nth(0)).to_have_attribute("id", last)
    items.nth(0).get_by_role("button", name="Later").focus()
    page.keyboard.press("Enter")
    expect(items.nth(0)).to_have_attribute("id", first)
    expect(items.nth(1).get_by_role("button", name="Later")).to_be_focused()
    items.nth(1).get_by_role("button", name="Use as cover").click()
    expect(items.nth(1)).to_contain_text("Cover")
    page.get_by_role("link", name="Paper boats").click()
    page.get_by_role("button", name="Delete collection").click()
    expect(page.get_by_role("heading", name="No collections yet.")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(cards).to_have_count(4)


def test_a_search_is_saved_and_used_again(gallery):
    page = gallery(12, path="/gallery/?style=anime")
    page.locator("summary", has_text="Save this search").click()
    page.locator("#search-name").fill("Only anime")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".toast")).to_contain_text("Saved as “Only anime”.")
    page.goto("/gallery/")
    page.locator("summary", has_text="Saved searches").click()
    page.get_by_role("link", name="Only anime").click()
    expect(page.locator(".card-image")).to_have_count(2)


def test_by_touch(gallery):
    page = gallery(6, "phone")
    page.get_by_role("button", name="Select", exact=True).tap()
    cards = page.locator(".card-image")
    cards.nth(0).locator(".frame").tap()
    cards.nth(1).locator(".frame").tap()
    expect(page.locator("[data-bulk-count]")).to_have_text("2")
    small = page.eval_on_selector_all(
        ".bulkbar button, .bulkbar label, .filters button, .filters summary, .filters select, .chip, .day-tick, .tick",
        """elements => elements.filter(element => element.checkVisibility({visibilityProperty: true}))
            .map(element => [element.className, element.getBoundingClientRect()])
            .filter(([name, box]) => box.width && (box.width < 43.5 || box.height < 43.5))
            .map(([name, box]) => `${name} ${box.width} ${box.height}`)""",
    )
    assert not small
    bar(page).get_by_role("button", name="Delete").tap()
    expect(cards).to_have_count(4)


def test_without_scripts(gallery):
    page = gallery(6, javascript=False)
    cards = page.locator(".card-image")
    page.locator("summary", has_text="Filters").click()
    page.get_by_label("Style").select_option("anime")
    page.get_by_role("button", name="Apply").click()
    expect(cards).to_have_count(1)
    page.get_by_role("link", name="Anime : remove this filter").click()
    expect(cards).to_have_count(6)
    cards.nth(0).hover()
    cards.nth(0).get_by_role("checkbox").check()
    page.get_by_role("checkbox", name="all 6 images").check()
    bar(page).get_by_role("button", name="Visibility").click()
    page.get_by_role("button", name="Make public").click()
    expect(page.locator(".toast")).to_contain_text("6 images now public")
    page.goto("/gallery/?visibility=public")
    expect(cards).to_have_count(6)


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (1366, 768), (320, 256)])
def test_the_focus_is_never_below_a_bar(gallery, width, height):
    page = gallery(30)
    page.set_viewport_size({"width": width, "height": height})
    cards = page.locator(".card-image")
    cards.nth(0).hover()
    cards.nth(0).get_by_role("checkbox").check(force=True)
    cards.nth(0).locator(".frame").focus()
    for key in ["ArrowDown"] * 6 + ["ArrowUp"] * 6:
        page.keyboard.press(key)
        hidden = page.evaluate("""() => {
            const box = document.activeElement.getBoundingClientRect();
            const middle = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
            return !document.activeElement.contains(middle) && !document.activeElement.parentElement.contains(middle)
                && `${middle?.outerHTML.slice(0, 80)} covers ${JSON.stringify(box)}`;
        }""")
        assert not hidden, f"{key}: {hidden}"


def test_pictures_come_in_the_size_that_they_are_shown(gallery):
    page = gallery(20)
    page.wait_for_load_state("networkidle")
    first = page.locator(".card-image img").first
    assert first.get_attribute("loading") is None and first.get_attribute("fetchpriority") == "high"
    assert page.locator(".card-image img").last.get_attribute("loading") == "lazy"
    blurred = page.eval_on_selector_all(
        ".card-image img",
        """images => images.filter(image => image.complete && image.naturalWidth)
            .map(image => [image.currentSrc, image.getBoundingClientRect().width])
            .filter(([source, width]) => width > 300 && !source.includes('-512'))""",
    )
    assert not blurred

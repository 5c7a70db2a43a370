"""The viewer and the actions of a picture, by mouse, keyboard, touch and without scripts."""

import re
import uuid

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.test_every_page import RULES
from tests.site import wait_for

PASSWORD = "correct horse battery"
DRAWING_MS = 90_000
PICTURES = 3


@pytest.fixture(scope="module")
def album(browser, site):
    """The sign-in of somebody with a few pictures, as a page."""
    email = f"{uuid.uuid4().hex[:12]}@example.com"
    with site.user(email) as programs:
        body = {"prompt": "a red boat at sea", "steps": 2, "num_images": PICTURES}
        job = programs.post("/api/generate", json=body).json()["id"]
        wait_for(lambda: programs.get(f"/api/status/{job}").json()["status"] == "completed", seconds=90)
    context = browser.new_context(base_url=site.url)
    page = context.new_page()
    page.goto("/accounts/login/")
    page.get_by_label("Email").fill(email)
    page.locator("input[name=password]").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/create/**")
    yield page
    context.close()


@pytest.fixture
def cards():
    """The addresses of the pictures in the gallery of a page, newest first."""

    def read(page):
        page.goto("/gallery/")
        return page.eval_on_selector_all(".card-image a.frame", "links => links.map(a => a.getAttribute('href'))")

    return read


def viewer(page):
    return page.locator("#lightbox")


def is_at(page, href, place):
    """Whether the open viewer shows that picture, loaded whole, with its address."""
    expect(viewer(page)).to_have_attribute("open", "")
    expect(page.locator("[data-viewer-place]")).to_have_text(place)
    assert page.evaluate("location.pathname") == href
    picture = page.locator(".lightbox-picture")
    expect(picture).to_have_attribute("src", re.compile(r"/media/images/.*\.png"))
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 256


def is_closed_at(page, href):
    expect(viewer(page)).not_to_have_attribute("open", "")
    assert page.evaluate("location.pathname") == "/gallery/"
    expect(page.locator(f".card-image a.frame[href='{href}']")).to_be_focused()


def scale(page) -> float:
    return page.locator(".lightbox-picture").evaluate("image => image.getBoundingClientRect().width / 256")


def test_by_mouse(open_page, album, cards):
    page = open_page(like=album)
    hrefs = cards(page)
    assert len(hrefs) >= PICTURES
    total = len(hrefs)
    page.locator(".card-image a.frame").first.click()
    is_at(page, hrefs[0], f"1 of {total}")
    expect(page.get_by_role("button", name="Previous picture")).to_be_hidden()
    page.get_by_role("button", name="Next picture").click()
    is_at(page, hrefs[1], f"2 of {total}")

    stage = page.locator("[data-viewer-stage]")
    fitted = scale(page)
    stage.click(position={"x": 500, "y": 300})
    assert scale(page) == pytest.approx(1, abs=0.01), "a click shows every pixel"
    stage.click(position={"x": 500, "y": 300})
    assert scale(page) == pytest.approx(fitted, abs=0.01)
    page.mouse.move(500, 400)
    for _ in range(4):
        page.mouse.wheel(0, -240)
    wait_for(lambda: scale(page) > fitted * 2, seconds=5)
    left = page.locator(".lightbox-picture").evaluate("image => image.getBoundingClientRect().left")
    page.mouse.down()
    page.mouse.move(560, 440, steps=4)
    page.mouse.up()
    moved = page.locator(".lightbox-picture").evaluate("image => image.getBoundingClientRect().left")
    assert moved == pytest.approx(left + 60, abs=2), "dragging moves it"

    page.locator("[data-viewer-strip] button").nth(2).click()
    is_at(page, hrefs[2], f"3 of {total}")
    page.go_back()
    is_closed_at(page, hrefs[2])
    page.go_forward()
    is_at(page, hrefs[2], f"3 of {total}")
    page.get_by_role("button", name="Close").click()
    is_closed_at(page, hrefs[2])


def test_back_keeps_a_grid_that_htmx_has_changed(open_page, album, cards):
    page = open_page(like=album)
    hrefs = cards(page)
    page.get_by_label("Search your prompts").fill("boat")
    page.wait_for_url("**/gallery/?q=boat**")
    expect(page.locator(".filter-chips")).to_be_visible()
    again = []
    page.on("request", lambda request: again.append(request) if is_restore(request) else None)
    page.locator(".card-image a.frame").first.click()
    expect(page.locator("#lightbox h2")).to_be_visible()
    page.go_back()
    expect(viewer(page)).not_to_have_attribute("open", "")
    expect(page.locator(f".card-image a.frame[href='{hrefs[0]}']")).to_be_focused()
    assert "q=boat" in page.url
    page.evaluate("fetch('/api/status/')")  # whatever the page asks for on Back, it has asked for before this
    assert not again, "the grid is not fetched again"


def is_restore(request) -> bool:
    return "hx-history-restore-request" in request.headers


def test_by_keyboard_alone(open_page, album, cards):
    page = open_page(like=album)
    hrefs = cards(page)
    total = len(hrefs)
    page.locator(".card-image a.frame").nth(1).focus()
    page.keyboard.press("Enter")
    is_at(page, hrefs[1], f"2 of {total}")
    page.keyboard.press("ArrowLeft")
    is_at(page, hrefs[0], f"1 of {total}")
    expect(page.locator("#announcer")).to_contain_text(f"1 of {total}")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#announcer")).to_contain_text("This is the first picture.")
    page.keyboard.press("+")
    larger = scale(page)
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("1")
    assert scale(page) == pytest.approx(1, abs=0.01)
    page.keyboard.press("0")
    assert 1 < scale(page) < larger

    side = page.locator("#lightbox-side")
    expect(side).to_be_visible()
    page.keyboard.press("i")
    expect(side).to_be_hidden()
    page.keyboard.press("f")
    heart = page.locator("#lightbox-details .favourite button")
    expect(heart).to_have_attribute("aria-pressed", "true")
    expect(page.locator(f"#image-{hrefs[0].split('/')[2]} .favourite button")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("f")
    expect(heart).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("p")
    expect(page.locator("#lightbox-details .visibility [aria-pressed=true]")).to_be_focused()

    page.keyboard.press("Delete")
    is_at(page, hrefs[1], f"1 of {total - 1}")
    toast = page.locator("#lightbox .toast")
    expect(toast).to_contain_text("1 image moved to trash.")
    expect(page.locator(".card-image")).to_have_count(total - 1)
    page.keyboard.press("z")
    is_at(page, hrefs[0], f"1 of {total}")
    expect(page.locator(".card-image a.frame").first).to_have_attribute("href", hrefs[0])
    page.keyboard.press("Escape")
    is_closed_at(page, hrefs[0])
    page.keyboard.press("Enter")
    page.keyboard.press("r")
    page.wait_for_url(f"**/create/?from={hrefs[0].split('/')[2]}")


class Fingers:
    """Touches as Chromium gets them from a screen."""

    def __init__(self, page):
        self.session = page.context.new_cdp_session(page)

    def send(self, kind, *points):
        touches = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        self.session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    def draw(self, *paths, steps=8):
        """Move as many fingers as there are paths, each from its first point to its second."""
        self.send("touchStart", *[start for start, _ in paths])
        for step in range(1, steps + 1):
            part = step / steps
            self.send("touchMove", *[(a[0] + (b[0] - a[0]) * part, a[1] + (b[1] - a[1]) * part) for a, b in paths])
        self.send("touchEnd")


def test_by_touch(open_page, album, cards):
    page = open_page("phone", like=album)
    hrefs = cards(page)
    total = len(hrefs)
    page.locator(".card-image a.frame").first.tap()
    is_at(page, hrefs[0], f"1 of {total}")
    fingers = Fingers(page)
    fingers.draw(((300, 400), (90, 410)))
    is_at(page, hrefs[1], f"2 of {total}")
    fingers.draw(((90, 400), (300, 410)))
    is_at(page, hrefs[0], f"1 of {total}")
    fitted = scale(page)
    fingers.draw(((180, 400), (80, 400)), ((210, 400), (310, 400)))
    assert scale(page) > fitted * 2, "two fingers apart enlarge it"
    fingers.draw(((300, 400), (90, 410)))
    is_at(page, hrefs[0], f"1 of {total}")
    for _ in range(2):
        fingers.send("touchStart", (200, 400))
        fingers.send("touchEnd")
    wait_for(lambda: abs(scale(page) - fitted) < 0.01, seconds=5, what="a double tap shows the whole picture")
    page.get_by_role("button", name="Details and actions").tap()
    expect(page.locator("#lightbox-details").get_by_role("button", name="Delete")).to_be_visible()
    small = page.evaluate("""() => [...document.querySelectorAll('#lightbox :is(button, a[href], summary)')]
        .filter(element => element.checkVisibility())
        .map(element => [element.outerHTML.slice(0, 120), element.getBoundingClientRect()])
        .filter(([, box]) => box.width && (box.width < 44 || box.height < 44))
        .map(([html, box]) => `${Math.round(box.width)}×${Math.round(box.height)} ${html}`)""")
    assert small == []
    page.get_by_role("button", name="Details and actions").tap()
    fingers.draw(((200, 300), (205, 520)))
    is_closed_at(page, hrefs[0])


def test_without_scripts(open_page, album, cards):
    page = open_page(like=album, javascript=False)
    page.goto("/gallery/")
    frame = page.locator(".card-image a.frame").first
    href = frame.get_attribute("href")
    frame.click()
    page.wait_for_url(f"**{href}")
    page.get_by_role("link", name="Compare").click()
    expect(page.locator("ds-compare img")).to_have_count(2)
    page.goto("/gallery/")
    page.locator(".card-image").first.get_by_role("button", name="Actions").click()
    page.wait_for_url(f"**{href}**#actions")
    page.get_by_role("button", name="Upscale, 2×").click()
    page.wait_for_url("**/jobs/**")
    expect(page.locator(".job-pictures img")).to_be_visible(timeout=DRAWING_MS)
    expect(page.locator(".job")).to_contain_text("Enlarged 2×")
    enlarged = page.url
    page.get_by_role("button", name="Vary").click()
    page.wait_for_url(lambda url: "/jobs/" in url and url != enlarged)
    expect(page.locator(".job-pictures img")).to_be_visible(timeout=DRAWING_MS)


def test_the_menu_of_a_card(open_page, album, cards):
    page = open_page(like=album)
    hrefs = cards(page)
    card = page.locator(".card-image").first
    card.hover()
    card.get_by_role("button", name="Actions").click()
    menu = page.get_by_role("dialog", name="Actions")
    expect(menu.get_by_role("button", name="Vary, Subtle")).to_be_focused()
    assert not Axe().run(page, options=RULES).response["violations"]
    jobs = page.request.get("/api/status/").ok and len(hrefs)
    menu.get_by_role("button", name="Vary, Strong").dblclick()
    expect(page.locator(".toast")).to_contain_text("See the job")
    expect(page.locator(".toast")).to_have_count(1)
    expect(menu).to_be_hidden()
    expect(page.get_by_role("button", name="Actions").first).to_be_focused()
    page.locator(".toast a").click()
    expect(page.locator(".job-pictures img")).to_be_visible(timeout=DRAWING_MS)
    assert len(cards(page)) == jobs + 1, "a double click is one wish"

    page.locator(".card-image").first.hover()
    page.locator(".card-image").first.get_by_role("button", name="Actions").click()
    menu.get_by_role("button", name="Delete").click()
    expect(page.locator(".card-image")).to_have_count(jobs)
    expect(page.locator(f".card-image a.frame[href='{hrefs[0]}']")).to_be_focused()


def test_over_the_page_of_a_picture(open_page, album, cards):
    page = open_page(like=album)
    hrefs = cards(page)
    page.goto(hrefs[1])
    made = page.locator("time[data-moment=datetime]").first
    expect(made).not_to_contain_text("UTC")
    page.locator("a.full-link").click()
    expect(page.locator("#lightbox h2")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".lightbox-picture")).to_be_visible()
    page.wait_for_url(f"**{hrefs[2]}")
    page.keyboard.press("Escape")
    page.wait_for_url(f"**{hrefs[2]}")
    expect(viewer(page)).not_to_have_attribute("open", "")
    expect(page.locator("a.full-link")).to_have_attribute("data-page", hrefs[2])
    page.get_by_role("button", name="Delete").click()
    expect(page.locator(".toast")).to_contain_text("1 image moved to trash.")
    assert page.evaluate("location.pathname") not in ("/gallery/", hrefs[2])
    page.get_by_role("button", name="Undo").click()
    page.wait_for_url(f"**{hrefs[2]}")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", ["phone", "desktop"])
def test_it_is_accessible(open_page, album, cards, size, theme):
    page = open_page(size, theme=theme, like=album)
    hrefs = cards(page)
    page.locator(".card-image a.frame").first.click()
    if page.locator("#lightbox-side").is_hidden():
        page.get_by_role("button", name="Details and actions").click()
    expect(page.locator("#lightbox h2")).to_be_visible()
    expect(page.locator("#lightbox-details")).not_to_have_attribute("inert", "")
    page.evaluate("document.getAnimations().forEach(animation => animation.cancel())")
    problems = Axe().run(page, options=RULES).response["violations"]
    page.goto(f"{hrefs[0]}compare/")
    expect(page.get_by_role("slider")).to_be_attached()
    problems += Axe().run(page, options=RULES).response["violations"]
    assert not problems, [(rule["id"], [node["html"][:160] for node in rule["nodes"][:3]]) for rule in problems]

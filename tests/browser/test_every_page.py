"""Every page at every width and in both themes: accessible, no sideways scrolling, no complaints."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

PUBLIC = [
    "/",
    "/pricing/",
    "/docs/",
    "/docs/prompts/",
    "/accounts/login/",
    "/accounts/signup/",
    "/accounts/password/reset/",
]
MEMBERS = [
    "/create/",
    "/gallery/",
    "/gallery/favourites/",
    "/gallery/trash/",
    "/gallery/?q=nothing-like-it",
    "/gallery/?q=boat&shape=square",
    "/gallery/collections/",
    "/gallery/collections/harbour/",
    "/gallery/collections/harbour/arrange/",
    "/gallery/collections/harbour/rename/",
    "/gallery/searches/",
    "/settings/",
    "/settings/plan/",
    "/settings/keys/",
    "/settings/webhooks/",
    "/settings/appearance/",
    "/accounts/email/",
    "/accounts/password/change/",
    "/accounts/logout/",
]
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


@pytest.fixture(scope="module")
def member(browser, site):
    """The sign-in of somebody with a picture, with the addresses of its job and its page."""
    with site.user("pages@example.com") as programs:
        job = programs.post("/api/generate", json={"prompt": "a red boat at sea", "steps": 2}).json()
    context = browser.new_context(base_url=site.url)
    page = context.new_page()
    page.goto("/accounts/login/")
    page.get_by_label("Email").fill("pages@example.com")
    page.locator("input[name=password]").fill("correct horse battery")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/create/**")
    page.goto(f"/jobs/{job['id']}/")
    expect(page.locator(".job-pictures img")).to_be_visible(timeout=90_000)
    image = page.locator(".job-pictures a").get_attribute("href")
    page.goto("/gallery/?q=boat")
    page.locator("summary", has_text="Save this search").click()
    page.locator("#search-name").fill("Boats")
    page.get_by_role("button", name="Save", exact=True).click()
    page.locator(".card-image").first.hover()
    page.locator(".card-image").first.get_by_role("checkbox").check()
    page.get_by_role("button", name="Collection").click()
    page.get_by_label("New collection").fill("Harbour")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator(".toast").last).to_contain_text("added to “Harbour”")
    yield page, [f"/jobs/{job['id']}/", image, f"{image}edit/"]
    context.close()


def check(page, path, *, theme=None):
    """Axe's findings, as lines, for the page once its entrance is over."""
    page.goto(path)
    page.evaluate(
        "document.getAnimations().forEach(animation => { try { animation.finish() } catch { animation.cancel() } })"
    )
    results = Axe().run(page, options=RULES)
    return [
        f"{path} {theme or ''} {rule['id']}: {rule['help']} {[node['html'][:160] for node in rule['nodes'][:3]]}"
        for rule in results.response["violations"]
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", ["phone", "desktop"])
def test_pages_are_accessible(open_page, member, size, theme):
    visitor, signed_in = open_page(size, theme=theme), open_page(size, theme=theme, like=member[0])
    problems = [line for path in PUBLIC for line in check(visitor, path, theme=theme)]
    problems += [line for path in [*MEMBERS, *member[1]] for line in check(signed_in, path, theme=theme)]
    open_page.expect_errors_on(visitor)
    problems += check(visitor, "/nothing-here", theme=theme)
    assert not problems, "\n".join(problems)


def test_open_menus_and_states_are_accessible(open_page, member):
    page = open_page(like=member[0])
    open_page.expect_errors_on(page)
    axe = Axe()
    page.goto("/create/")
    page.get_by_role("button", name="Your account").click()
    assert not axe.run(page, options=RULES).response["violations"]
    page.keyboard.press("Escape")
    page.locator("summary", has_text="Fine-tune").click()
    page.get_by_label("Detail passes").fill("0")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#composer-alerts [role=alert]")).to_be_visible()
    assert not axe.run(page, options=RULES).response["violations"]
    page.goto("/gallery/")
    page.locator(".card-image").first.hover()
    page.get_by_role("checkbox").first.check()
    page.locator(".bulkbar").evaluate("bar => Promise.all(bar.getAnimations().map(animation => animation.finished))")
    assert not axe.run(page, options=RULES).response["violations"]


@pytest.mark.parametrize("width", [320, 390, 768, 1440])
def test_no_page_scrolls_sideways(open_page, member, width):
    visitor, signed_in = open_page(width), open_page(width, like=member[0])
    wide = []
    for page, paths in ((visitor, PUBLIC), (signed_in, [*MEMBERS, *member[1]])):
        for path in paths:
            page.goto(path)
            if page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
                wide.append(path)
    assert not wide


def test_no_link_is_dead(open_page, member, site):
    page = open_page(like=member[0])
    seen, dead = set(), []
    for path in [*PUBLIC[:4], *MEMBERS, *member[1]]:
        page.goto(path)
        for link in page.eval_on_selector_all("a[href]", "links => links.map(link => link.href)"):
            address = link.partition("#")[0]
            if address in seen or not address.startswith(site.url):
                continue
            seen.add(address)
            answer = page.request.get(address)
            if answer.status >= 400:
                dead.append(f"{path} → {address}: {answer.status}")
    assert not dead, "\n".join(dead)


def test_the_prompt_and_generate_are_in_the_first_view(open_page, member):
    for size in ("phone", "desktop"):
        page = open_page(size, like=member[0])
        page.goto("/create/")
        for control in (page.get_by_label("Describe your image"), page.get_by_role("button", name="Generate")):
            expect(control).to_be_in_viewport(ratio=0.99)

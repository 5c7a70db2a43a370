"""A real browser: Chromium, at several sizes, that notes everything it complains about."""

import shutil
import uuid

import pytest
from playwright.sync_api import Page, expect, sync_playwright

SIZES = {"phone": (390, 844), "tablet": (768, 1024), "desktop": (1440, 900)}
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PASSWORD = "correct horse battery"

expect.set_options(timeout=15_000)


@pytest.fixture(scope="package")
def browser():
    # Not for the whole session: Playwright keeps an event loop running in this thread, next to which neither
    # Django's ORM nor asyncio.run() works.
    # The system's where there is one, else the one that Playwright brought.
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def open_page(browser, site):
    """`open_page("phone", theme="dark", javascript=False)`: a page of a new visitor.

    At the end the test fails if a page logged an error, broke the content security policy, threw, or asked
    another origin.
    """
    contexts, complaints = [], []

    def open_one(size: str | int = "desktop", *, theme="light", javascript=True, like: Page | None = None) -> Page:
        width, height = SIZES.get(size, (size, 900))
        context = browser.new_context(
            base_url=site.url,
            viewport={"width": width, "height": height},
            color_scheme=theme,
            java_script_enabled=javascript,
            has_touch=size == "phone",
            is_mobile=size == "phone",
            storage_state=like.context.storage_state() if like else None,
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
        page.on(
            "console",
            lambda message: (
                complaints.append(f"{page.url}: {message.text}")
                if message.type == "error" and page not in expected_errors
                else None
            ),
        )
        page.on(
            "request",
            lambda request: (
                complaints.append(f"{page.url}: asked {request.url}")
                if not request.url.startswith((site.url, "data:", "blob:"))
                else None
            ),
        )
        return page

    expected_errors = set()
    open_one.expect_errors_on = expected_errors.add
    yield open_one
    for context in contexts:
        context.close()
    assert not complaints, "\n".join(complaints)


@pytest.fixture
def sign_up():
    """Make an account through the page; returns its address."""

    def make(page: Page) -> str:
        email = f"{uuid.uuid4().hex[:12]}@example.com"
        page.goto("/accounts/signup/")
        page.get_by_label("Email").fill(email)
        page.locator("input[name=password1]").fill(PASSWORD)
        page.get_by_role("button", name="Create account").click()
        page.wait_for_url("**/accounts/login/**")
        page.locator("input[name=password]").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/create/**")
        return email

    return make

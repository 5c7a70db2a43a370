"""Templates, scripts and styles keep to the rules of the house."""

import hashlib
import re
from pathlib import Path

import pytest
from django.template.loader import get_template

from gallery.templatetags.art import ART, art
from generation.prompts.styles import STYLES

ROOT = Path(__file__).resolve().parent.parent.parent
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
SPRITE = (ROOT / "static/icons/sprite.svg").read_text()


def test_vendored_scripts_are_those_we_checked():
    table = (ROOT / "static/vendor/README.md").read_text()
    listed = dict(re.findall(r"\| `([\w.-]+\.js)` \|.*`([0-9a-f]{64})`", table))
    files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in (ROOT / "static/vendor").glob("*.js")}
    assert listed == files


def test_the_sprite_holds_exactly_the_icons_in_use():
    import runpy

    used = runpy.run_path(str(ROOT / "bin/make-icons"))["icons_used"]()
    assert re.findall(r'<symbol id="([\w-]+)"', SPRITE) == used


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda file: str(file.relative_to(ROOT / "templates")))
def test_templates_compile_and_hold_no_inline_code(template):
    get_template(str(template.relative_to(ROOT / "templates")))
    text = template.read_text()
    assert not re.search(r"<style|\son[a-z]+=|hx-on|\bjs:|javascript:", text)
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", text))
    assert not re.search(r"https?://(?!www\.w3\.org|hooks\.example\.com)", text), "no third party"


@pytest.mark.parametrize("folder, pattern", [("templates", "*.html"), ("static/css", "*.css"), ("static/js", "*.js")])
def test_lines_fit_on_a_screen(folder, pattern):
    long = {
        f"{file.relative_to(ROOT)}:{number}"
        for file in (ROOT / folder).rglob(pattern)
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if len(line) > 120
    }
    assert not long


def test_every_style_and_every_drawing_that_a_template_names_is_there():
    named = {name for file in TEMPLATES for name in re.findall(r"{% art ['\"]([\w/-]+)['\"] %}", file.read_text())}
    named |= {f"styles/{key}" for key in STYLES}
    files = {str(file.relative_to(ART).with_suffix("")) for file in ART.rglob("*.svg")}
    assert files == named
    assert all('xmlns="http://www.w3.org/2000/svg"' not in art(name) for name in files)


def test_colours_are_written_in_the_token_file_only():
    for file in (ROOT / "static/css").rglob("*.css"):
        if file.name != "tokens.css":
            assert not re.search(r"#[0-9a-fA-F]{3,8}\b(?![\w-]*\s*\{)|\brgba?\(|\bhsla?\(", file.read_text()), file.name


def _tokens() -> dict[str, tuple[str, str]]:
    text = (ROOT / "static/css/tokens.css").read_text()
    return {
        name: (light, dark)
        for name, light, dark in re.findall(r"--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", text)
    }


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(colour: str, ground: str) -> float:
    light, dark = sorted((_luminance(colour), _luminance(ground)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_can_be_read(theme):
    tokens = {name: pair[theme] for name, pair in _tokens().items()}
    grounds = [tokens[name] for name in ("paper", "surface", "sunken", "raised")]
    for text in ("ink", "ink-2", "ink-3", "accent", "success", "warn", "danger", "info"):
        assert min(contrast(tokens[text], ground) for ground in grounds) >= 4.5, text
    assert min(contrast(tokens["control"], ground) for ground in grounds) >= 3
    for text, ground in (
        ("on-accent", "accent"),
        ("accent-ink", "accent-soft"),
        ("success", "success-soft"),
        ("warn", "warn-soft"),
        ("danger", "danger-soft"),
        ("info", "info-soft"),
    ):
        assert contrast(tokens[text], tokens[ground]) >= 4.5, text


def test_the_error_pages_for_bad_times_need_no_context():
    for code in ("500", "503"):
        page = get_template(f"errors/{code}.html").render({"request_id": "abc"})
        assert "abc" in page and "{%" not in page

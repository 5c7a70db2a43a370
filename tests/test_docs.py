"""The guides name only what exists: files, headings, commands, settings."""

import dataclasses
import functools
import re
from pathlib import Path

import pytest
from django.core.management import get_commands
from django.urls import resolve

import gallery.urls
from accounts.plans import Plan
from generation.engine.catalog.families import FAMILIES
from generation.engine.catalog.samplers import SAMPLERS
from generation.prompts.styles import STYLES
from tests.browser import test_every_page
from tests.test_settings import example, settings_read

ROOT = Path(__file__).resolve().parent.parent
DOCS = [
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "generation" / "engine" / "README.md",
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
]
ARCHITECTURE = sorted((ROOT / "docs" / "architecture").glob("*.md"))
RECIPE = re.compile(r"^- `([^`]+)`(?: `([^`]+)`)?:", re.M)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```", re.S)
# Variables that are no settings of the site: our scripts, the container's health check, PyTorch.
OTHER_VARIABLES = {"PYTHON", "TEST_VAR_DIR", "PORT", "PIP_INDEX_URL", "OMP_WAIT_POLICY"}


def names(paths):
    return [str(path.relative_to(ROOT)) for path in paths]


@pytest.fixture(params=DOCS, ids=names(DOCS))
def doc(request) -> Path:
    return request.param


def anchors(path: Path) -> set[str]:
    """Of the headings in a Markdown file, as the usual viewers make them."""
    headings = re.findall(r"^#+ (.+)$", CODE.sub("", path.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_relative_link_leads_somewhere(doc):
    dead = []
    for target in LINK.findall(CODE.sub("", doc.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (doc.parent / file).resolve() if file else doc
        if not path.exists() or (anchor and anchor not in anchors(path)):
            dead.append(target)
    assert dead == []


def test_every_command_exists(doc):
    text = doc.read_text()
    named = set(re.findall(r"manage\.py ([a-z_]+)", text))
    assert named <= set(get_commands()), named - set(get_commands())
    scripts = set(re.findall(r"\bbin/[a-z-]+\b", re.sub(r"\S*/bin/\S*", "", text)))
    assert [script for script in scripts if not (ROOT / script).exists()] == []


def variables_named(text: str) -> set[str]:
    """`NAME_WITH_UNDERSCORE` in code, and NAME of `NAME=value`, but no variables of an example's own shell."""
    code = " ".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.S))
    named = set(re.findall(r"(?<![\w.])[A-Z][A-Z0-9]*_[A-Z0-9_]+(?!\w)", code))
    named |= set(re.findall(r"(?<![\w.-])([A-Z][A-Z0-9_]+)=", code))
    return named - set(re.findall(r"\$\{?([A-Z][A-Z0-9_]+)", code))


def test_every_environment_variable_is_one_that_something_reads(doc):
    known = set(settings_read()) | set(example()) | OTHER_VARIABLES
    assert variables_named(doc.read_text()) - known == set()


def test_the_index_lists_every_guide():
    listed = LINK.findall((ROOT / "docs" / "README.md").read_text())
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"} <= set(listed)


def test_the_architecture_links_its_pages_in_reading_order():
    listed = LINK.findall((ROOT / "docs" / "architecture.md").read_text())
    pages = [f"architecture/{path.name}" for path in ARCHITECTURE]
    assert [link for link in listed if link.startswith("architecture/")] == pages


def modules_named() -> list[str]:
    """Paths of the modules that the architecture's pages name, each in a list under the heading of its folder."""
    paths, folder = [], ""
    for line in "\n".join(path.read_text() for path in ARCHITECTURE).splitlines():
        if line.startswith("#"):
            folder = heading[1] if (heading := re.fullmatch(r"### `([\w/]+/)`", line)) else ""
        elif folder and (item := re.match(r"- `(\w+\.py)`: \S", line)):
            paths.append(folder + item[1])
    return paths


def test_the_architecture_names_every_module_once():
    named = modules_named()
    there = {
        str(path.relative_to(ROOT))
        for app in ("accounts", "dreamsketch", "gallery", "generation")
        for path in (ROOT / app).rglob("*.py")
        if "migrations" not in path.parts and path.read_text().strip()
    }
    assert sorted(there - set(named)) == [], "not named"
    assert sorted(set(named) - there) == [], "named, but gone"
    assert len(named) == len(set(named)), sorted(name for name in set(named) if named.count(name) > 1)


def test_the_configuration_guide_lists_every_setting_with_its_default():
    guide = (ROOT / "docs" / "configuration.md").read_text()
    rows = re.findall(r"^\| `([A-Z0-9_]+)` \| (?:`(.*?)`|–) \| (.+) \|$", guide, re.M)
    assert {name: default for name, default, _ in rows} == {name: default for name, (default, _) in example().items()}
    assert len(rows) == len(example())


def recipes() -> dict[str, dict[str, str]]:
    """Of CONTRIBUTING's "How to add …": by heading, the files to touch with the symbol that each must have, or ""."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    chapter = text.split("## How to add …\n", 1)[1].split("\n## ", 1)[0]
    sections = re.split(r"^### (.+)$", chapter, flags=re.M)[1:]
    return {title: dict(RECIPE.findall(body)) for title, body in zip(sections[::2], sections[1::2], strict=True)}


@pytest.mark.parametrize("title", recipes())
def test_a_recipe_names_files_and_symbols_that_exist(title):
    recipe = recipes()[title]
    assert recipe
    assert [path for path in recipe if not list(ROOT.glob(path))] == []
    assert [f"{path}: {symbol}" for path, symbol in recipe.items() if symbol not in (symbol and read(path))] == []


def read(path: str) -> str:
    return (ROOT / path).read_text()


# Their words mean something else, or are an example.
NOT_SOURCES = (
    "generation/training/",
    "generation/management/commands/seed_demo.py",
    "generation/api/native/openapi.py",
    "generation/migrations/",
)


@functools.cache
def sources() -> dict[str, str]:
    """The text of our Python files, by path."""
    paths = (
        path for app in ("accounts", "dreamsketch", "gallery", "generation") for path in (ROOT / app).rglob("*.py")
    )
    texts = {str(path.relative_to(ROOT)): path.read_text() for path in paths}
    return {path: text for path, text in texts.items() if not path.startswith(NOT_SOURCES)}


def sources_with(pattern: str) -> set[str]:
    return {path for path, text in sources().items() if re.search(pattern, text)}


def python_files(title: str) -> set[str]:
    return {path for path in recipes()[title] if path.endswith(".py") and not path.startswith("tests/")}


def test_a_plain_parameter_stands_only_where_the_recipe_says():
    assert sources_with(r"\bguidance_rescale\b") <= python_files("A parameter")
    assert len(sources_with(r"\bguidance_rescale\b")) <= 3


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.name)
def test_a_sampler_stands_only_where_the_recipe_says(sampler):
    assert sources_with(rf"\b{sampler.scheduler}\b") <= python_files("A sampler")


@pytest.mark.parametrize("key", [key for key in STYLES if key != "standard"])  # one of OpenAI's words too
def test_a_style_stands_only_where_the_recipe_says(key):
    assert sources_with(f"""["']{key}["']""") == python_files("A style")


def test_every_style_has_a_drawing():
    assert {path.stem for path in ROOT.glob("static/art/styles/*.svg")} == {*STYLES, "none"}


@pytest.mark.parametrize("key", [key for key in FAMILIES if key != "sd"])  # the key of a UNet too
def test_a_family_stands_only_where_the_recipe_says(key):
    assert sources_with(f"""["']{key}["']""") == python_files("A model family")


def test_plan_limits_are_read_only_where_the_recipe_says():
    limits = "|".join(field.name for field in dataclasses.fields(Plan) if field.name not in ("key", "title"))
    readers = sources_with(rf"\bplan(_of\([^)]*\))?\.({limits})\b")
    assert readers == python_files("A plan limit") - {"accounts/plans.py"}


def test_every_view_of_a_page_is_in_the_views():
    modules = {pattern.callback.__module__ for pattern in gallery.urls.urlpatterns}
    assert {module for module in modules if not module.startswith("gallery.views.")} <= {
        "gallery.events",
        "django.views.generic.base",
    }


def test_every_page_that_is_looked_at_exists():
    for path in (*test_every_page.PUBLIC, *test_every_page.MEMBERS):
        resolve(path.partition("?")[0])

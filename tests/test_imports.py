"""Who may import whom (docs/architecture.md), and that torch stays out of the web."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("dreamsketch", "gallery", "generation", "accounts")
HEAVY = {"torch", "diffusers", "transformers", "accelerate"}
TORCH_FILES = {
    "engine.py",
    "batch.py",
    "text.py",
    "loader.py",
    "images.py",
    "pixels.py",
    "steploop.py",
    "pipelines.py",
    "upscale.py",
    "apart.py",
    "eight_bits.py",
    "task.py",
    "sampling.py",
    "lora.py",
    "control.py",
    "reference.py",
    "precision.py",
    "reuse.py",
    "depth.py",
    "pose.py",
}


def imports_of(path: Path) -> set[str]:
    """Absolute names of all modules that a file imports, wherever in the file it does."""
    package = path.relative_to(ROOT).with_suffix("").parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level]) if node.level else []
            found.add(".".join(base + ([node.module] if node.module else [])))
            found.update(".".join([*base, *([node.module] if node.module else []), alias.name]) for alias in node.names)
    return found


def offenders(folder: str, forbidden) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in sorted(imports_of(path))
        if any(name == one or name.startswith(f"{one}.") for one in forbidden)
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_those_below_it(package):
    above = PACKAGES[: PACKAGES.index(package)]
    assert offenders(package, above) == []


def test_the_engine_knows_nothing_of_django_or_of_our_apps():
    others = ("django", "rest_framework", "celery", "redis", "accounts", "gallery", "dreamsketch")
    assert offenders("generation/engine", others) == []
    outside = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in (ROOT / "generation" / "engine").rglob("*.py")
        for name in imports_of(path)
        if name.startswith("generation.") and not name.startswith("generation.engine")
    ]
    assert outside == []


def test_only_workers_and_commands_reach_for_the_heavy_half_of_the_engine():
    reaching = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "generation").rglob("*.py")
        if "engine" not in path.parts
        and "commands" not in path.parts
        and any(
            name.rsplit(".", 1)[-1] + ".py" in TORCH_FILES and name.startswith("generation.engine.")
            for name in imports_of(path)
        )
    ]
    assert reaching == []


@pytest.mark.parametrize(
    "module",
    [
        "dreamsketch.urls",
        "dreamsketch.asgi",
        "dreamsketch.celery",
        "generation.tasks",
        "generation.admin",
        "generation.services.generations",
        "gallery.urls",
        "generation.api.native.urls",
    ],
)
def test_the_web_loads_no_torch(module):
    program = (
        "import os, sys; os.environ['DJANGO_SETTINGS_MODULE'] = 'dreamsketch.settings'\n"
        "import django; django.setup()\n"
        f"import importlib; importlib.import_module({module!r})\n"
        "from django.urls import get_resolver; get_resolver().url_patterns\n"
        f"print(sorted(set(sys.modules) & {HEAVY!r}))"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"

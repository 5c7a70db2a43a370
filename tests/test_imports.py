"""Who may import whom, derived from the imports themselves (docs/architecture.md has the picture).

A room is a folder with modules, or a module that lies directly in `generation/`, `generation/api/` or
`generation/engine/`. Every import counts, also one inside a function, except where a test says otherwise.
"""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
APPS = ("accounts", "generation", "gallery", "dreamsketch")
HEAVY = {"torch", "diffusers", "transformers", "accelerate"}
WEB_FRAMEWORKS = {"django", "rest_framework", "celery", "redis"}

# From low to high: a room imports only rooms on lines before its own, so rooms on one line know nothing of each other.
ROOMS = """
generation.engine.errors  generation.engine.sketch
generation.engine.catalog
generation.engine.request
generation.engine.protocol
generation.engine.pictures
generation.engine.networks  generation.engine.sampling
generation.engine.job_queue
generation.engine.loop  generation.engine.remote  generation.engine.fake
generation.engine.factory
generation.training
accounts
generation.apps  generation.refusals  generation.log
generation.models
generation.doorbell  generation.catalog  generation.turn
generation.live  generation.storage
generation.representation
generation.prompts
generation.fields
generation.webhooks
generation.queue
generation.services
generation.operations
generation.tasks  generation.admin  generation.management
generation.api.http
generation.api.native
generation.api.openai  generation.api.a1111
gallery
dreamsketch
"""
LEVELS = {room: level for level, line in enumerate(ROOMS.strip().splitlines()) for room in line.split()}

Graph = dict[str, set[str]]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def modules() -> dict[str, Path]:
    """Of our apps, by name, without migrations."""
    paths = (path for app in APPS for path in (ROOT / app).rglob("*.py") if "migrations" not in path.parts)
    return {module_name(path): path for path in paths}


def imported_names(path: Path, node: ast.AST) -> list[str]:
    """Absolute names of what one statement imports; `from a import b` is `a.b` where that is a module, else `a`."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    package = path.relative_to(ROOT).parts[: -node.level] if node.level else ()
    base = ".".join([*package, *([node.module] if node.module else [])])
    return [name if (name := f"{base}.{alias.name}") in modules() else base for alias in node.names]


def statements(tree: ast.AST, run_at_import: bool):
    """Every node of a tree; with `run_at_import` none of functions and of `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if run_at_import and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if run_at_import and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from statements(node, run_at_import)


@functools.cache
def imports(run_at_import: bool = False) -> Graph:
    """What each of our modules imports, ours and others'."""
    return {
        module: {
            name
            for node in statements(ast.parse(path.read_text()), run_at_import)
            for name in imported_names(path, node)
            if name != module
        }
        for module, path in modules().items()
    }


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def room(module: str) -> str | None:
    """The room in the table that a module belongs to."""
    return max((name for name in LEVELS if is_within(module, name)), key=len, default=None)


def folder(module: str) -> str:
    """The folder that a module lies in; the module itself where it lies directly in an app, the API or the engine."""
    path = modules()[module]
    package = ".".join(path.relative_to(ROOT).parts[:-1])
    return module if package in {*APPS, "generation.api", "generation.engine"} else package


def circles(graph: Graph) -> list[list[str]]:
    """Sets of nodes that reach each other, each in the order of one circle through it."""
    reach = {node: reachable(graph, node) for node in graph}
    groups = {
        frozenset(other for other in reach[node] if node in reach[other]) for node in graph if node in reach[node]
    }
    return [shortest_circle(graph, sorted(group)) for group in groups]


def reachable(graph: Graph, start: str) -> set[str]:
    reached: set[str] = set()
    ahead = [start]
    while ahead:
        fresh = graph.get(ahead.pop(), set()) & graph.keys() - reached
        reached |= fresh
        ahead += fresh
    return reached


def shortest_circle(graph: Graph, group: list[str]) -> list[str]:
    """From the first of a group back to itself."""
    paths = [[group[0]]]
    for path in paths:
        for target in sorted(graph[path[-1]] & set(group)):
            if target == group[0]:
                return [*path, target]
            if target not in path:
                paths.append([*path, target])
    raise ValueError(f"no circle through {group[0]}")


@functools.cache
def heavy_modules() -> set[str]:
    """Those of ours whose import loads PyTorch or what rests on it."""
    graph = imports(run_at_import=True)
    direct = {module for module, names in graph.items() if any(name.split(".")[0] in HEAVY for name in names)}
    return direct | {module for module in graph if reachable(graph, module) & direct}


def arrows(allowed) -> list[str]:
    """The imports that are not `allowed(module, imported name)`."""
    return [
        f"{module} -> {name}"
        for module, names in sorted(imports().items())
        for name in sorted(names)
        if not allowed(module, name)
    ]


def none_of(lines: list[str]) -> None:
    assert not lines, "\n".join(lines)


def test_no_circle_between_modules():
    none_of([" -> ".join(circle) for circle in circles(imports())])


def test_no_circle_between_folders():
    graph: Graph = {}
    for module, names in imports().items():
        targets = {folder(name) for name in names if name in modules()}
        graph.setdefault(folder(module), set()).update(targets - {folder(module)})
    none_of([" -> ".join(circle) for circle in circles(graph)])


def test_every_module_has_a_room_and_every_room_a_module():
    packages = {module_name(path) for path in modules().values() if path.name == "__init__.py"}
    assert {module for module in modules() if room(module) is None} <= packages
    assert {name for name in LEVELS if not any(is_within(module, name) for module in modules())} == set()


def test_a_room_imports_only_rooms_below_it():
    def downwards(module, name):
        ours, theirs = room(module), room(name)
        return ours is None or theirs is None or ours == theirs or LEVELS[theirs] < LEVELS[ours]

    none_of(arrows(downwards))


def test_the_engine_knows_nothing_of_django_or_of_our_apps():
    def engine_is_free(module, name):
        ours = name.split(".")[0] in APPS and not is_within(name, "generation.engine")
        return not is_within(module, "generation.engine") or not (ours or name.split(".")[0] in WEB_FRAMEWORKS)

    none_of(arrows(engine_is_free))


def test_only_the_engine_training_and_commands_reach_for_heavy_modules():
    def is_light(module, name):
        may_be_heavy = is_within(module, "generation.engine") or is_within(module, "generation.training")
        return may_be_heavy or ".management.commands." in module or name not in heavy_modules()

    assert "generation.engine.loop.step_loop" in heavy_modules()
    none_of(arrows(is_light))


def test_pages_never_import_the_api():
    none_of(arrows(lambda module, name: not (is_within(module, "gallery") and is_within(name, "generation.api"))))


def test_only_commands_import_the_training():
    def training_is_apart(module, name):
        inside = is_within(module, "generation.training") or ".management.commands." in module
        return inside or not is_within(name, "generation.training")

    none_of(arrows(training_is_apart))


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

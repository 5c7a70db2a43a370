"""The web process reads half of the engine, and must not load PyTorch for it. The engine knows no Django."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENGINE = ROOT / "generation" / "engine"
LIGHT = ["errors", "job_queue", "fake", "factory", "pictures.pixels"]
LIGHT += [
    f"{room}.{file.stem}" for room in ("catalog", "request", "remote") for file in (ENGINE / room).glob("[a-z]*.py")
]
HEAVY = ["torch", "diffusers", "transformers", "numpy"]


def modules_after(code):
    probe = f"{code}\nimport sys\nprint(*sys.modules)"
    command = [sys.executable, "-c", probe]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_light_modules_load_no_torch():
    imports = "\n".join(f"import generation.engine.{name}" for name in LIGHT)
    use = "from generation.engine.catalog.models import MODELS\n"
    use += "from generation.engine.catalog.model_files import is_ready\n"
    use += "[is_ready(spec, models_dir='/nowhere', cache_dir='/nowhere') for spec in MODELS]\n"
    use += "from generation.engine.factory import make_engine\ne = make_engine('fake')\ne.start()\ne.stop()"
    assert not modules_after(f"{imports}\n{use}").intersection([*HEAVY, "django"])


def test_the_engine_knows_no_django_and_lets_waiting_threads_sleep():
    code = "import os\nfrom generation.engine.factory import make_engine\n"
    code += "make_engine('torch', device='cpu')\nassert os.environ['OMP_WAIT_POLICY'] == 'passive'"
    modules = modules_after(code)
    assert "torch" in modules and "django" not in modules


def test_the_factory_knows_its_kinds():
    from generation.engine.factory import make_engine

    with pytest.raises(ValueError, match="fake"):
        make_engine("quantum")

"""The fake engine's faults strike when they should, and never unless allowed."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from generation.engine.catalog.models import Catalog
from generation.engine.errors import EngineError, OutOfMemory
from generation.engine.fake import FakeEngine
from generation.engine.request.request import build_request

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from generation.engine.catalog.models import Catalog
from generation.engine.factory import make_engine
from generation.engine.request.request import build_request
engine = make_engine("fake", seconds_per_step=0, faults_allowed=True, faults_folder=sys.argv[2])
engine.start()
request = build_request(Catalog().get("dreamsketch-tiny"), prompt=sys.argv[1], steps=5, seed=1)
job = engine.submit(request, on_progress=lambda progress: print(progress.step, flush=True))
print(len(job.result(1)), "done")
"""


def run(prompt, folder):
    command = [sys.executable, "-c", PROGRAM, prompt, str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def engine(**options):
    made = FakeEngine(seconds_per_step=0, **options)
    made.start()
    return made


def request(prompt, **fields):
    return build_request(Catalog().get("dreamsketch-tiny"), prompt=prompt, steps=5, seed=1, **fields)


@pytest.mark.parametrize(("kind", "status"), [("exit", 70), ("kill", -signal.SIGKILL), ("segv", -signal.SIGSEGV)])
def test_a_deadly_fault_ends_the_process_at_its_step(tmp_path, kind, status):
    result = run(f"a cat [fault:{kind}@3]", tmp_path)
    assert result.returncode == status
    assert result.stdout.split()[-1] == "3"


def test_a_fault_that_strikes_once_lets_the_second_attempt_pass(tmp_path):
    assert run("a cat [fault:exit@2:once]", tmp_path).returncode == 70
    second = run("a cat [fault:exit@2:once]", tmp_path)
    assert second.returncode == 0 and second.stdout.endswith("1 done\n")


def test_a_hanging_engine_hears_nothing(tmp_path):
    result = run("a cat [fault:hang@2]", tmp_path)
    assert "TimeoutError" in result.stderr and result.stdout.split()[-1] == "2"


def test_faults_are_words_like_any_other_unless_allowed():
    quiet = engine()
    assert len(quiet.submit(request("a cat [fault:oom]")).result(5)) == 1
    quiet.stop()


@pytest.mark.parametrize(("kind", "error"), [("oom", OutOfMemory), ("error", EngineError)])
def test_a_job_that_fails_leaves_the_engine_usable(kind, error):
    broken = engine(faults_allowed=True)
    with pytest.raises(error):
        broken.submit(request(f"a cat [fault:{kind}@2]")).result(5)
    assert len(broken.submit(request("a cat")).result(5)) == 1
    broken.stop()


def test_a_short_answer_lacks_an_image():
    broken = engine(faults_allowed=True)
    assert len(broken.submit(request("a cat [fault:short]", num_images=3)).result(5)) == 2
    broken.stop()


def test_pictures_show_different_colour_fields():
    drawing = engine()
    pixels = drawing.submit(request("a cat")).result(5)[0].pixels
    corners = {pixels.getpixel(at) for at in ((0, 0), (255, 0), (0, 255), (255, 255))}
    assert len(corners) == 4
    drawing.stop()

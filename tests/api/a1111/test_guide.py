"""docs/a1111.md tells the truth: its examples run as they stand, one after another, on a running site."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "a1111.md"
RUNS = {"bash": (["bash", "-euo", "pipefail"], 2), "python": ([sys.executable], 3)}


@pytest.mark.parametrize("language", RUNS)
def test_the_examples_run(language, fault_site, tmp_path):
    command, count = RUNS[language]
    blocks = re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert len(blocks) == count
    script = tmp_path / f"guide.{language}"
    script.write_text("\n".join(blocks))
    token = fault_site.user().headers["Authorization"].removeprefix("Bearer ")
    result = subprocess.run(
        [*command, str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"DREAMSKETCH_URL": fault_site.url, "DREAMSKETCH_KEY": token},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert [file for file in tmp_path.glob("boat*.png") if file.read_bytes()[:4] == b"\x89PNG"]

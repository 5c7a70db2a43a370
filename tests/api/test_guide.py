"""docs/api.md tells the truth: its examples run as they stand, one after another, on a running site."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "api.md"
RUNS = {"bash": ["bash", "-euo", "pipefail"], "python": [sys.executable]}
SECTIONS = {"bash": 11, "python": 12, "javascript": 11}


def examples(language: str) -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert len(blocks) == SECTIONS[language]
    return "\n".join(blocks)


@pytest.fixture
def where(fault_site):
    client = fault_site.user()
    return {
        "DREAMSKETCH_URL": fault_site.url,
        "DREAMSKETCH_KEY": client.headers["Authorization"].removeprefix("Bearer "),
    }


@pytest.mark.parametrize("language", RUNS)
def test_the_examples_run(language, where, tmp_path):
    script = tmp_path / f"guide.{language}"
    script.write_text(examples(language))
    result = subprocess.run(
        [*RUNS[language], str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | where,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert [file for file in tmp_path.glob("boat*.png") if file.read_bytes()[:4] == b"\x89PNG"]
    assert "invalid_request" in result.stdout


def test_the_examples_run_in_a_browser(where):
    from playwright.sync_api import sync_playwright

    lines = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(240_000)
        page.on("console", lambda message: lines.append(message.text))
        page.goto(f"{where['DREAMSKETCH_URL']}/api/health")
        page.evaluate(f"globalThis.process = {{env: {json.dumps(where)}}}")
        page.evaluate(f"async () => {{\n{examples('javascript')}\n}}")
        browser.close()
    text = "\n".join(lines)
    assert "image/png" in text and "invalid_request" in text
    assert "event: progress" in text and "event: status" in text

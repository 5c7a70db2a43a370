"""The type checker (pyrefly) with a baseline of errors per file that may only shrink: `python -m tests.type_errors`.

The rooms that pyproject.toml lists as `sub-config` must have no error. Every other file may have as many as
tests/type_errors.txt counts, and no fewer: whoever mends one lowers the count, so that it cannot come back.
`--update` writes the lower counts; it never raises one. After a file was moved, move its line.
"""

import argparse
import collections
import fnmatch
import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BASELINE = ROOT / "tests" / "type_errors.txt"


def strict_globs() -> list[str]:
    """Of the files that must have no error."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return [room["matches"] for room in config["tool"]["pyrefly"]["sub-config"]]


def type_errors() -> dict[str, list[str]]:
    """What pyrefly finds, as `path:line: text [kind]` by path."""
    command = [sys.executable, "-m", "pyrefly", "check", "--output-format", "json", "--summary=none"]
    command += ["--python-interpreter-path", sys.executable]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    try:
        errors = json.loads(result.stdout)["errors"]
    except ValueError:
        sys.exit(f"pyrefly has failed:\n{result.stderr}")
    by_path: dict[str, list[str]] = collections.defaultdict(list)
    for error in errors:
        if error["severity"] == "error":
            text = f"{error['path']}:{error['line']}: {error['concise_description']} [{error['name']}]"
            by_path[error["path"]].append(text)
    return dict(by_path)


def read_baseline() -> dict[str, int]:
    lines = [line.split() for line in BASELINE.read_text().splitlines() if not line.startswith("#")]
    return {path: int(count) for count, path in lines}


def write_baseline(counts: dict[str, int]) -> None:
    lines = [f"{count:4} {path}\n" for path, count in sorted(counts.items()) if count]
    BASELINE.write_text("# Type errors per file: counts only go down (tests/type_errors.py).\n" + "".join(lines))


def complaints(errors: dict[str, list[str]], baseline: dict[str, int], strict: list[str]) -> list[str]:
    """Why the check fails, one text each; none when it holds."""
    texts = []
    for path in sorted({*errors, *baseline}):
        count, allowed = len(errors.get(path, [])), baseline.get(path, 0)
        if allowed and any(fnmatch.fnmatch(path, glob) for glob in strict):
            texts.append(f"{path}: {BASELINE.name} may not list it; its room must have no type error.")
        elif count > allowed:
            texts.append("\n".join([*errors[path], f"{path}: {count} type errors, {allowed} allowed."]))
        elif count < allowed:
            texts.append(f"{path}: {count} type errors, {allowed} counted: run python -m tests.type_errors --update.")
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--update", action="store_true", help="write counts that have become lower")
    errors, baseline = type_errors(), read_baseline()
    if parser.parse_args().update:
        baseline = {path: min(count, len(errors.get(path, []))) for path, count in baseline.items()}
        write_baseline(baseline)
    texts = complaints(errors, baseline, strict_globs())
    sys.exit("\n".join(texts) if texts else 0)


if __name__ == "__main__":
    main()

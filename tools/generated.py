"""Write generated files, or refuse them if they are out of date. `make docs` and `make check` call the generators."""

import argparse
import difflib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def write_or_check(files: Mapping[Path, str]) -> int:
    """Write the text of each file, or with --check compare it; return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is out of date")
    check = parser.parse_args().check
    old = {path: text for path, text in files.items() if _read(path) != text}
    for path, text in old.items():
        if check:
            name = os.path.relpath(path, ROOT)
            changes = difflib.unified_diff(_read(path).splitlines(True), text.splitlines(True), name, "now")
            sys.stderr.writelines(changes)
            sys.stderr.write(f"{name} is out of date. Run: make docs\n")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return 1 if check and old else 0


def cell(text: str) -> str:
    """Return a text as a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""

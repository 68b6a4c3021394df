"""Run the notebook of a project against a stack, and compare it with the one that the project keeps."""

import json
import os
import subprocess
from pathlib import Path

from include.core.project import Project
from tools.insight.__main__ import KEPT
from tools.insight.notebook import differences
from tools.stack import ROOT, Stack

PACKAGES = ROOT / ".venv" / "notebook"
"""Where `make insight` and the targets of these tests install what a notebook needs."""


def run_notebook(stack: Stack, project: Project, target: Path) -> list[str]:
    """Run the notebook of a project and write it into a folder; return what it says otherwise than the kept one."""
    command = [str(ROOT / ".venv" / "bin" / "python"), "-m", "tools.insight", "--project", project.name, "--no-pdf"]
    environment = stack.cli_environment()
    found = (str(ROOT), str(ROOT / "plugins"), str(PACKAGES), environment.get("PYTHONPATH", ""))
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, found))
    done = subprocess.run(
        [*command, "--to", str(target)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    kept, now = (
        json.loads(path.read_text(encoding="utf-8"))
        for path in (project.folder / KEPT, target / f"{project.name}.ipynb")
    )
    return differences(kept, now)


def text_of(target: Path) -> str:
    """Return all that was written."""
    return "".join(path.read_text(encoding="utf-8") for path in sorted(target.iterdir()))

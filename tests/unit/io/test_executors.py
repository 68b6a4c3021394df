"""The code that goes to executors, without Spark."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from include import projects
from include.io import executors


@pytest.mark.parametrize(
    "module", ["include.steps.outcome_values", "include.projects.ferries.features", "include.projects.here.own"]
)
def test_modules_of_the_product_and_of_projects_are_imported_from_the_packed_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    """Folders of projects have no `__init__.py`."""
    (tmp_path / "projects" / "here").mkdir(parents=True)
    (tmp_path / "projects" / "here" / "own.py").touch()
    monkeypatch.setattr(projects, "__path__", [*projects.__path__, str(tmp_path / "projects")])
    code = tmp_path / "code"
    code.write_bytes(executors.packed_code.__wrapped__())
    said = f"import sys; sys.path.insert(0, {str(code)!r}); import {module}; print({module}.__file__)"
    ran = subprocess.run(
        [sys.executable, "-I", "-c", said], capture_output=True, text=True, cwd=tmp_path, env={}, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == f"{code}/{module.replace('.', '/')}.py"


def test_a_file_for_a_server_waits_in_a_folder_that_is_removed_after_a_kill() -> None:
    sent: list[str] = []
    session: Any = SimpleNamespace(addArtifacts=lambda path, file: sent.append(path))
    executors._sent_file(session, b"code")
    assert [Path(path).parent.name.startswith(executors.STAGED) for path in sent] == [True]

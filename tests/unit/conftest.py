"""Unit tests work with the projects of the tests."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import settings

from include.config.loading import load_project
from include.core.project import Project
from tests.own_projects import FOLDER, use_own_projects

use_own_projects()
# The time of one example says nothing on a busy machine.
settings.register_profile("nightly", deadline=None)
settings.load_profile("nightly")


@pytest.fixture
def load_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Project]]:
    """Return a function that loads a project of the tests after another function changed its declaration."""
    monkeypatch.setenv("NIGHTLY_PROJECTS", str(tmp_path))

    def load(name: str, change: Callable[[dict[str, Any]], None]) -> Project:
        declared = yaml.safe_load((FOLDER / name / "project.yaml").read_text(encoding="utf-8"))
        change(declared)
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "project.yaml").write_text(yaml.safe_dump(declared), encoding="utf-8")
        load_project.cache_clear()
        return load_project(name)

    yield load
    load_project.cache_clear()

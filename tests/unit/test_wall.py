"""The wall around projects that ship: deleting one leaves a product whose tests pass, so no product file names one."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from include.config.loading import PROJECTS
from tests.own_projects import FOLDER
from tools.stack import ROOT

PRODUCT = ("include", "dags", "plugins", "tools", ".ci")
ITS_TESTS = ("tests/unit", "tests/dags", "tests/integration", "tests/plugins", "tests/projects")
MADE = ("__pycache__", ".egg-info")


def shipped() -> list[str]:
    """Names of the projects that ship, and of their models."""
    return sorted(
        path.parent.name for pattern in ("*/project.yaml", "*/models/*/model.yaml") for path in PROJECTS.glob(pattern)
    )


def product_files() -> Iterator[Path]:
    of_tests = list((ROOT / "tests").glob("*.py"))
    for path in (*of_tests, *(path for folder in (*PRODUCT, *ITS_TESTS) for path in (ROOT / folder).rglob("*"))):
        inside = path.relative_to(ROOT)
        of_a_project = inside.is_relative_to("include/projects") and inside.name != "__init__.py"
        if path.is_file() and not of_a_project and not any(made in str(inside) for made in MADE):
            yield path


def test_no_file_of_the_product_or_its_tests_names_a_project_that_ships() -> None:
    names = shipped()
    if not names:
        pytest.skip("no project ships with this copy of the product")
    named = re.compile(rf"(?<![a-z])(?:{'|'.join(names)})(?![a-z])")
    files = list(product_files())
    assert len(files) > 150, "too few files were looked at"
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if named.search(line)
    ]
    assert not found, (
        "use a project of tests/projects in a test, and the project at hand in the product:\n" + "\n".join(found)
    )


def test_names_of_the_projects_of_tests_are_their_own() -> None:
    assert not {path.parent.name for path in FOLDER.rglob("*.yaml")} & set(shipped())

"""No file of the product or its tests names a shipped project, so that a team can delete any of them."""

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
    """Return the names of the shipped projects and their models."""
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


WORDS = ("stores",)
"""Shipped projects whose name is also a word: it is found where a project can stand only."""
AS_A_NAME = (
    r"(?:--project |projects?[=./]|project\(\"|tests[./]|PROJECT=){0}(?![a-z])|"
    r"(?<![a-z]){0}_(?:simulate|prepare|monitor|backfill_range|entities)"
)


def test_no_file_of_the_product_or_its_tests_names_a_shipped_project() -> None:
    names = shipped()
    if not names:
        pytest.skip("this copy of the product has no projects")
    named = re.compile(
        "|".join(AS_A_NAME.format(name) if name in WORDS else f"(?<![a-z]){name}(?![a-z])" for name in names)
    )
    files = list(product_files())
    assert len(files) > 150, "too few files were searched"
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if named.search(line)
    ]
    assert not found, (
        "in a test, use a project of tests/projects; in the product, use the project that is passed in:\n"
        + "\n".join(found)
    )


def test_projects_of_the_tests_have_names_that_no_shipped_project_has() -> None:
    assert not {path.parent.name for path in FOLDER.rglob("*.yaml")} & set(shipped())

"""A team's own projects: they can be in a folder of `NIGHTLY_PROJECTS`, and an upgrade of the product keeps them."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from include.config import loading
from include.core.errors import ConfigError

ROOT = Path(__file__).parents[2]
TEAM = {"user.name": "team", "user.email": "team@example.org", "commit.gpgsign": "false"}
FEED = """
title: Shop
owner: team
timezone: Europe/Berlin
first_day: 2026-01-01
feeds:
  orders:
    path: orders/{day}/*.csv.gz
    key: [order_id]
    day_column: ordered_at
    columns:
      order_id: {type: string, class: public}
      ordered_at: {type: timestamp, class: public}
entity: {feed: orders, key: [order_id]}
outcomes: {}
"""


def write_project(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "project.yaml").write_text(FEED, encoding="utf-8")
    (folder / "features.py").write_text('"""Features."""\n\nCOLUMNS = ("orders",)\n', encoding="utf-8")


def git(folder: Path, *arguments: str) -> str:
    settings = [part for name, value in TEAM.items() for part in ("-c", f"{name}={value}")]
    done = subprocess.run(["git", *settings, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


def in_clone(clone: Path, *command: str, projects: str = "projects") -> str:
    """Return what Python prints. It runs in another folder, because Airflow's services do so too."""
    environment = {**os.environ, "NIGHTLY_PROJECTS": projects, "PYTHONPATH": str(clone)}
    words = [sys.executable, *command]
    done = subprocess.run(words, cwd=clone.parent, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a team's clone of a copy of the product; the copy is in the folder `product` next to it."""
    product, clone = tmp_path / "product", tmp_path / "clone"
    for name in ("include", "dags", "docs", "plugins", "tools"):
        shutil.copytree(ROOT / name, product / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "requirements.txt", "LICENSE"):
        shutil.copy(ROOT / name, product)
    git(product, "init", "--quiet", "--initial-branch", "main")
    git(product, "add", "--all")
    git(product, "commit", "--quiet", "--message", "one commit of the product")
    git(tmp_path, "clone", "--quiet", str(product), str(clone))
    return clone


@pytest.mark.parametrize("folder", ["projects", "include/projects"])
def test_an_upgrade_is_a_merge_without_a_conflict(folder: str, clone: Path) -> None:
    product = clone.parent / "product"
    write_project(clone / folder / "shop")
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--message", "a project of the team")

    for changed in (product / "include" / "config" / "loading.py", product / "dags" / "prepare.py"):
        changed.write_text(changed.read_text(encoding="utf-8") + "\nUPGRADED = True\n", encoding="utf-8")
    (product / "docs" / "concepts.md").write_text("another text\n", encoding="utf-8")
    git(product, "add", "--all")
    git(product, "commit", "--quiet", "--message", "a later commit of the product")
    git(clone, "fetch", "--quiet", "origin")
    git(clone, "merge", "--quiet", "--no-edit", "origin/main")

    assert git(clone, "status", "--short") == ""
    code = (
        "from include.config import loading; import importlib; "
        "print(loading.UPGRADED, loading.load_project('shop').title, "
        "importlib.import_module('include.projects.shop.features').COLUMNS[0])"
    )
    named = "" if folder == "include/projects" else folder
    assert in_clone(clone, "-c", code, projects=named) == "True Shop orders"


def test_the_wheel_contains_the_projects_of_the_commit(clone: Path) -> None:
    write_project(clone / "projects" / "shop")
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--message", "a project of the team")
    write_project(clone / "projects" / "uncommitted")
    made = in_clone(clone, "-m", "tools.wheel", "build")
    with zipfile.ZipFile(made) as archive:
        names = [name for name in archive.namelist() if name.startswith("include/projects/")]
    assert {"include/projects/shop/project.yaml", "include/projects/shop/features.py"} < set(names)
    assert "uncommitted" not in str(names)


def test_a_wheel_refuses_projects_that_are_in_no_commit(clone: Path, tmp_path: Path) -> None:
    write_project(tmp_path / "elsewhere" / "shop")
    for projects, why in (
        (str(tmp_path / "elsewhere"), "outside of this repository"),
        ("later", "has no folder later"),
    ):
        with pytest.raises(AssertionError, match=why):
            in_clone(clone, "-m", "tools.wheel", "build", projects=projects)


def test_a_project_is_found_in_a_configured_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_project(tmp_path / "shop")
    monkeypatch.setenv("NIGHTLY_PROJECTS", str(tmp_path))
    loading.load_project.cache_clear()
    assert "shop" in loading.project_names()
    assert loading.load_project("shop").folder == tmp_path / "shop"


def test_a_project_that_is_in_two_folders_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        write_project(tmp_path / name / "shop")
    monkeypatch.setenv("NIGHTLY_PROJECTS", os.pathsep.join(str(tmp_path / name) for name in ("one", "two")))
    loading.load_project.cache_clear()
    with pytest.raises(ConfigError, match=r"project 'shop' is in two folders: .*one.*two"):
        loading.load_project("shop")


def test_the_error_names_a_folder_that_does_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTLY_PROJECTS", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"NIGHTLY_PROJECTS names .*nowhere, which is not a folder"):
        loading.project_names()

"""`make check` refuses a model that nobody specified, and CODEOWNERS follows the owners."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from include.config.loading import load_model, load_project
from include.core.errors import ConfigError
from include.operations.check_config import unwritten
from tests.own_projects import FOLDER
from tools import specifications
from tools.specifications import owners, text_of

MODEL = "projects/ferries/models/late_ferry/model.yaml"


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield a repository with a copy of the projects of the tests."""
    shutil.copytree(FOLDER, tmp_path / "projects", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setenv("NIGHTLY_PROJECTS", str(tmp_path / "projects"))
    load_project.cache_clear()
    load_model.cache_clear()
    yield tmp_path
    load_project.cache_clear()
    load_model.cache_clear()


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_each_folder_has_the_teams_before_and_after_deployment(copy: Path) -> None:
    change(copy / MODEL, "owner: data-science", "owner: Pier 7 & Co")
    text = text_of("* @acme/ml\n/docs/ @acme/writers\n", owners(copy))
    assert text.startswith("* @acme/ml\n/docs/ @acme/writers\n")
    assert "/projects/ferries/ @acme/data-team\n" in text
    assert "/projects/ferries/models/late_ferry/ @acme/data-science @acme/pier-7-co\n" in text
    assert "/projects/ferries/models/ferry_delay/ @acme/data-science\n" in text
    assert text_of(text, owners(copy)) == text, "to write it again must change nothing"


def test_a_file_without_an_organisation_is_refused(copy: Path) -> None:
    with pytest.raises(ConfigError, match="no line `\\* @organisation/team`"):
        text_of("* ada@example.org\n", owners(copy))


def test_the_file_of_a_team_comes_first(tmp_path: Path) -> None:
    assert specifications.place(tmp_path) == tmp_path / "CODEOWNERS"
    own = tmp_path / ".github" / "CODEOWNERS"
    own.parent.mkdir()
    own.write_text("* @acme/ml\n", encoding="utf-8")
    assert specifications.place(tmp_path) == own


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("purpose: a warning of late ferries\n", "", "purpose: Field required"),
        ("built_by: data-science\n", "", "built_by: Field required"),
        ("decision: the pier decides which crews wait\n", 'decision: "TODO"\n', "decision: is to be filled in"),
        ("costs: {unit: EUR, false_positive: 3, false_negative: 7}\n", "", "costs: Field required"),
        ("unit: EUR, false_positive: 3", "unit: TODO, false_positive: 3", "costs.unit: is to be filled in"),
        ("false_positive: 3, ", "", "costs.false_positive: is needed"),
    ],
)
def test_make_check_refuses_a_model_that_nobody_specified(
    copy: Path, old: str, new: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert specifications.problems() == []
    change(copy / MODEL, old, new)
    load_model.cache_clear()
    monkeypatch.setattr("sys.argv", ["specifications", "--check"])
    assert specifications.main() == 1
    [sentence] = [line for line in capsys.readouterr().err.splitlines() if said in line]
    assert "late_ferry/model.yaml" in sentence


def test_a_placeholder_is_named_and_stops_no_run(copy: Path) -> None:
    change(copy / MODEL, "purpose: a warning of late ferries", 'purpose: "TODO: what it is for"')
    assert load_model("late_ferry").unwritten == ("purpose",)
    [problem] = unwritten("ferries")
    assert problem.line == 2
    assert problem.what.startswith("purpose: is to be filled in: what the model is for")

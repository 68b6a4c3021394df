"""`check_config` says everything that is wrong at once, each with its file and line."""

from typing import Any

import pytest

from include.config.examine import examine
from include.config.loading import load_project
from include.config.model import Model
from include.core.project import Project
from include.core.yaml_file import read_yaml
from include.operations.check_config import warnings_of
from tests.own_projects import FOLDER

FERRIES = FOLDER / "ferries"


def project(**changed: Any) -> dict[str, Any]:
    return read_yaml(FERRIES / "project.yaml") | changed


def said(declared: dict[str, Any]) -> list[str]:
    sentences, _ = examine(Project, declared, name="ferries", folder=FERRIES)
    return [sentence.split(":")[0] for sentence in sentences]


class TestExamine:
    def test_a_sound_declaration_is_returned(self) -> None:
        sentences, found = examine(Project, project(), name="ferries", folder=FERRIES)
        assert sentences == []
        assert found is not None
        assert found.name == "ferries"

    def test_what_depends_on_several_keys_is_found_beside_a_wrong_key(self) -> None:
        declared = project(timezone="Nowhere", titel="x")
        declared["entity"]["public"].append("nothing")
        declared["outcomes"]["late_ferry"]["feed"] = "logbok"
        assert set(said(declared)) == {"timezone", "titel", "entity.public", "outcomes.late_ferry.feed"}

    def test_what_follows_from_a_wrong_feed_is_not_said(self) -> None:
        declared = project()
        del declared["feeds"]["logbook"]["key"]
        assert said(declared) == ["feeds.logbook.key"]

    def test_too_little_that_is_right_is_no_declaration(self) -> None:
        sentences, found = examine(Project, {"title": "x"}, name="ferries", folder=FERRIES)
        assert found is None
        assert any(sentence.startswith("feeds: ") for sentence in sentences)

    def test_each_check_of_a_gate_that_does_not_fit_is_said(self) -> None:
        folder = FERRIES / "models" / "late_ferry"
        declared = read_yaml(folder / "model.yaml") | {"train_days": "sixty"}
        for check in declared["gate"]["checks"]:
            if check["kind"] == "quality":
                check["metric"] = "roc_auk"
            if check["kind"] == "slices":
                check["by"] = ["orign"]
        sentences, _ = examine(Model, declared, name="late_ferry", project="ferries", folder=folder)
        assert len(sentences) == 3
        for part in ("train_days: ", "'roc_auk'", "'orign'"):
            assert any(part in sentence for sentence in sentences), part


@pytest.mark.parametrize(
    ("declared", "warned"),
    [({}, False), ({"ahead_days": 6}, True), ({"ahead_days": 6, "sidecar": "required"}, False)],
)
def test_a_plan_whose_files_say_not_when_they_came_is_warned_of(declared: dict[str, Any], *, warned: bool) -> None:
    ferries = load_project("ferries")
    sailings = ferries.feeds["sailings"].model_copy(update=declared)
    found = warnings_of(ferries.model_copy(update={"feeds": {**ferries.feeds, "sailings": sailings}}))
    assert [each.what.split(":")[0] for each in found] == (["feeds.sailings.ahead_days"] if warned else [])
    for each in found:
        assert each.text(warning=True).startswith(f"{each.file}:{each.line}: warning: feeds")
        assert each.text("github", warning=True).startswith("::warning file=")

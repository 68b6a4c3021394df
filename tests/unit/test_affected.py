"""What a failed task means for readers follows from its DAG, the models and their tiers."""

import pytest

from include.core.incidents import severity_of
from include.operations.affected import find_affected


@pytest.mark.parametrize(
    ("dag_id", "project", "model", "kind", "severity"),
    [
        ("ferries_prepare", "ferries", None, "prepare", "high"),
        ("late_ferry_score", "ferries", "late_ferry", "score", "high"),
        ("late_ferry_train", "ferries", "late_ferry", "train", "low"),
        ("ferries_monitor", "ferries", None, "monitor", "low"),
        ("ferries_backfill_range", "ferries", None, "backfill_range", "low"),
        ("maintenance", "", None, "maintenance", "low"),
        ("outbox", "", None, "outbox", "high"),
        ("of_another_team", "", None, "", "high"),
    ],
)
def test_what_a_dag_is_for_is_found_by_its_name(
    dag_id: str, project: str, model: str | None, kind: str, severity: str
) -> None:
    found = find_affected(dag_id)
    assert (found.project, found.model, found.kind) == (project, model, kind)
    assert severity_of(found.tier, affects_readers=bool(found.effect("2013-03-01"))) == severity


def test_a_step_shows_that_what_waited_for_it_was_made_good() -> None:
    score, prepare = find_affected("late_ferry_score"), find_affected("ferries_prepare")
    assert (score.done_by("score"), score.done_by("wait_for_features")) == ("score", "publish")
    assert (prepare.done_by("land"), prepare.done_by("wait_for_files")) == ("land", "build_features")
    assert find_affected("maintenance").done_by("sweep") is None


def test_a_public_page_that_fails_takes_no_scores_from_readers() -> None:
    score = find_affected("late_ferry_score")
    assert score.effect("2013-03-01", "publish").startswith("no scores of 2013-03-01")
    assert score.effect("2013-03-01", "public_page") == ""
    assert (score.model_of("publish"), score.model_of("public_page")) == ("late_ferry", None)

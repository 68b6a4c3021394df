"""preflight: what `airflow dags backfill` checks about days before it starts their runs."""

from datetime import timedelta

import pytest

from include.config.loading import load_model, load_project
from include.core.interval import Interval
from include.core.project import Project
from include.core.settings import Settings
from include.operations.preflight import preflight
from include.operations.simulate import simulate
from include.steps.publish import publish
from tests.integration import small
from tests.integration.small import DAY

NEXT = DAY + timedelta(days=1)
INTERVAL = Interval(start=DAY, end=NEXT)


@pytest.fixture
def ferries() -> Project:
    return load_project("ferries")


def test_days_with_missing_files_are_named_with_the_feed(settings: Settings, ferries: Project) -> None:
    simulate(ferries, Interval.of(DAY), settings)
    found = preflight("ferries_prepare", INTERVAL, settings)
    assert (found.kind, found.published) == ("prepare", {})
    assert list(found.waits) == [NEXT]
    assert found.fix == f"python -m include.cli simulate --project ferries --start {NEXT} --end {NEXT}"
    assert [sentence.split(" (")[0] for sentence in found.waits[NEXT]] == [
        f"no file of feed sailings for {NEXT}",
        f"no file of feed winds for {NEXT}",
        f"no file of feed logbook for {DAY}",
    ]


@pytest.mark.parametrize("dag_id", ["late_ferry_train", "late_ferry_score", "ferries_monitor"])
def test_days_that_are_not_prepared_are_named(settings: Settings, ferries: Project, dag_id: str) -> None:
    small.prepare(settings, ferries, DAY)
    found = preflight(dag_id, INTERVAL, settings)
    assert found.kind == dag_id.rsplit("_", 1)[1]
    assert found.waits == {NEXT: [f"{NEXT} is not prepared: ferries_prepare"]}
    assert found.fix == f"airflow dags backfill ferries_prepare -s {NEXT} -e {NEXT}"


def test_published_days_are_those_that_readers_see(settings: Settings, ferries: Project) -> None:
    small.prepare(settings, ferries, DAY, NEXT)
    small.promoted(settings, "late_ferry", 1, DAY)
    small.score(settings, ferries, "late_ferry", NEXT)
    publish(load_model("late_ferry"), Interval.of(NEXT), settings)
    assert preflight("late_ferry_score", INTERVAL, settings).published == {"late_ferry": [NEXT]}
    assert preflight("ferry_delay_score", INTERVAL, settings).published == {"ferry_delay": []}
    assert preflight("late_ferry_train", INTERVAL, settings).published == {}, "the train DAG publishes nothing"


@pytest.mark.parametrize("dag_id", ["ferries_backfill_range", "rollback", "somebody_elses"])
def test_for_other_dags_the_answer_is_empty(settings: Settings, dag_id: str) -> None:
    found = preflight(dag_id, INTERVAL, settings)
    assert (found.kind, found.waits, found.fix, found.published) == (None, {}, None, {})


def test_simulate_waits_for_nothing(settings: Settings) -> None:
    assert preflight("ferries_simulate", INTERVAL, settings).model_dump() == {
        "kind": "simulate",
        "waits": {},
        "fix": None,
        "published": {},
    }

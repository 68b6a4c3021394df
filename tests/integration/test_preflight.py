"""preflight: what `airflow dags backfill` learns of days before it starts their runs."""

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
def flights() -> Project:
    return load_project("flights")


def test_days_whose_files_did_not_land_are_named_with_the_feed(settings: Settings, flights: Project) -> None:
    simulate(flights, Interval.of(DAY), settings)
    found = preflight("flights_prepare", INTERVAL, settings)
    assert (found.kind, found.published) == ("prepare", {})
    assert list(found.waits) == [NEXT]
    assert found.fix == f"python -m include.cli simulate --project flights --start {NEXT} --end {NEXT}"
    assert [sentence.split(" (")[0] for sentence in found.waits[NEXT]] == [
        f"no file of feed schedule for {NEXT}",
        f"no file of feed weather for {NEXT}",
        f"no file of feed actuals for {DAY}",
    ]


@pytest.mark.parametrize("dag_id", ["late_arrival_train", "late_arrival_score", "flights_monitor"])
def test_days_without_a_night_are_named(settings: Settings, flights: Project, dag_id: str) -> None:
    small.prepare(settings, flights, DAY)
    found = preflight(dag_id, INTERVAL, settings)
    assert found.kind == dag_id.rsplit("_", 1)[1]
    assert found.waits == {NEXT: [f"{NEXT} is not prepared: flights_prepare"]}
    assert found.fix == f"airflow dags backfill flights_prepare -s {NEXT} -e {NEXT}"


def test_published_days_are_those_that_readers_see(settings: Settings, flights: Project) -> None:
    small.prepare(settings, flights, DAY, NEXT)
    small.promoted(settings, "late_arrival", 1, DAY)
    small.score(settings, flights, "late_arrival", NEXT)
    publish(load_model("late_arrival"), Interval.of(NEXT), settings)
    assert preflight("late_arrival_score", INTERVAL, settings).published == {"late_arrival": [NEXT]}
    assert preflight("arrival_delay_score", INTERVAL, settings).published == {"arrival_delay": []}
    assert preflight("late_arrival_train", INTERVAL, settings).published == {}, "it publishes nothing"


@pytest.mark.parametrize("dag_id", ["flights_backfill_range", "rollback", "somebody_elses"])
def test_of_another_dag_nothing_is_known(settings: Settings, dag_id: str) -> None:
    found = preflight(dag_id, INTERVAL, settings)
    assert (found.kind, found.waits, found.fix, found.published) == (None, {}, None, {})


def test_replay_waits_for_nothing(settings: Settings) -> None:
    assert preflight("flights_simulate", INTERVAL, settings).model_dump() == {
        "kind": "simulate",
        "waits": {},
        "fix": None,
        "published": {},
    }

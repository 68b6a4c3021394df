"""The pipeline's own monitors and views on a real PostgreSQL: equal in any order of run dates, and after a kill."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from include.config.loading import load_model, load_project
from include.core.interval import Interval
from include.core.prices import Prices
from include.core.project import Project
from include.core.settings import Settings
from include.io import postgres
from include.runner.run import record, run
from include.steps import monitor as step
from include.steps.monitor import monitor
from include.steps.publish import publish
from tests.integration import small
from tests.integration.processes import run_and_kill
from tests.integration.small import DAY

NEXT, LATER = DAY + timedelta(days=1), DAY + timedelta(days=2)
OLD, NEW = {"numpy": "2.1"}, {"numpy": "2.2"}


@pytest.fixture
def priced() -> Project:
    prices = Prices(currency="EUR", core_hour=1, budget_per_month=10)
    return load_project("ferries").model_copy(update={"prices": prices})


def execute(settings: Settings, statement: str) -> list[tuple[Any, ...]]:
    with postgres.connection.engine(settings).begin() as connection:
        result = connection.execute(sa.text(statement))
        return [tuple(row) for row in result] if result.returns_rows else []


@pytest.fixture
def recorded(settings: Settings, priced: Project, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Nightly runs up to NEXT: on the last three, building features took an hour, with another numpy, at 1 EUR each."""
    monkeypatch.setattr(step, "model_names", lambda _: [])
    small.prepare(settings, priced, DAY, NEXT, LATER)
    for n in range(40, -1, -1):
        day = NEXT - timedelta(days=n)
        slow = n < 3
        started = priced.cutoff_at(day) + timedelta(minutes=5)
        took = timedelta(hours=1) if slow else timedelta(minutes=5)
        postgres.audit.record_step(
            settings,
            "build_features",
            "ferries",
            Interval.of(day),
            state="success",
            started_at=started,
            ended_at=started + took,
            core_seconds=took.total_seconds(),
            libraries=NEW if slow else OLD,
            ran_on=day,
            cost=1.0 if slow else 0.1,
            currency="EUR",
        )
    return settings


def found(settings: Settings) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    return (
        execute(settings, "SELECT day, subject, rule, sentence FROM alerts ORDER BY 1, 2, 3"),
        execute(
            settings,
            "SELECT day, feed, supplier, file_day, due_at, available_from, late FROM feed_punctuality ORDER BY 1, 2",
        ),
    )


def nights(settings: Settings, project: Project, run_dates: Sequence[date]) -> None:
    for run_date in run_dates:
        monitor(project, Interval.of(run_date), settings)


def test_run_dates_in_any_order_say_the_same_once(recorded: Settings, priced: Project) -> None:
    """The newest slow run is that of NEXT, so LATER reports it, and neither a repeated nor an earlier run date does.

    The month of DAY has cost 2 EUR then: a projection of a few days is not trusted.
    """
    ends = []
    for order in ([NEXT, LATER], [LATER, NEXT, LATER], [LATER, LATER, DAY, NEXT]):
        nights(recorded, priced, order)
        ends.append(found(recorded))
        execute(recorded, "TRUNCATE alerts, feed_punctuality")
    first, second, third = ends
    assert first == second
    assert third[0] == first[0]
    raised = {(day, subject, rule.split()[0]) for day, subject, rule, _ in first[0]}
    assert raised == {
        (LATER, "build_features", "step_unusual"),
        (DAY, "ferries", "libraries_changed"),
    }
    assert [row[:3] for row in first[1] if row[0] == NEXT] == [
        (NEXT, "logbook", "logbook"),
        (NEXT, "sailings", "sailings"),
        (NEXT, "winds", "winds"),
    ]


def test_the_budget_is_announced_once_a_month(recorded: Settings, priced: Project) -> None:
    execute(recorded, "UPDATE step_runs SET cost = 2 WHERE ran_on >= '2013-02-01'")
    nights(recorded, priced, [LATER, DAY, NEXT, LATER])
    raised = execute(recorded, "SELECT day, rule FROM alerts WHERE rule LIKE 'budget%' ORDER BY day")
    assert raised == [(date(2013, 2, 6), "budget_spent")]


def test_the_views_say_what_runs_cost_and_who_was_late(recorded: Settings, priced: Project) -> None:
    nights(recorded, priced, [DAY, NEXT, LATER])
    cost = execute(
        recorded,
        "SELECT day, step, model, runs, round(core_seconds), cost, currency FROM pipeline_cost "
        "WHERE day >= '2013-02-27' AND step <> 'storage' ORDER BY day",
    )
    stored = execute(recorded, "SELECT runs, cost, currency FROM pipeline_cost WHERE step = 'storage'")
    assert stored == [(0, 0.0, "EUR")], "measured once, on the day on which the monitors ran"
    assert cost == [
        (date(2013, 2, 27), "build_features", None, 1, 300, 0.1, "EUR"),
        *((day, "build_features", None, 1, 3600, 1.0, "EUR") for day in (date(2013, 2, 28), DAY, NEXT)),
    ]
    late = execute(
        recorded,
        "SELECT supplier, due, late, missing, late_share, late_share_before, newest_day FROM supplier_punctuality "
        "ORDER BY supplier",
    )
    assert late == [
        ("logbook", 3, 3, 3, 1.0, None, LATER),
        ("sailings", 3, 0, 0, 0.0, None, LATER),
        ("winds", 3, 3, 3, 1.0, None, LATER),
    ]


def test_a_run_costs_what_the_prices_of_its_time_say(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Databricks, units follow from the elapsed time."""
    ferries = load_project("ferries")
    place = {"wheels": "/Volumes/main/wheels", "dbu_per_hour": 4}
    priced = type(ferries).model_validate(
        {**ferries.model_dump(by_alias=True), "folder": ferries.folder, "databricks": place}
        | {"prices": {"currency": "EUR", "core_hour": 3600, "dbu": 0.5}}
    )
    monkeypatch.setattr(step, "model_names", lambda _: [])
    run("monitor", priced, Interval.of(DAY), settings)
    [(core_seconds, cost, currency, read, libraries, ran_on)] = execute(
        settings,
        "SELECT core_seconds, cost, currency, bytes_read, libraries, ran_on = (ended_at AT TIME ZONE "
        "'America/New_York')::date FROM step_history",
    )
    assert cost == pytest.approx(core_seconds) and cost > 0
    assert currency == "EUR" and read > 0 and ran_on
    assert execute(settings, f"SELECT versions ? 'polars' FROM installed_libraries WHERE digest = '{libraries}'")[0][0]
    began = execute(settings, "SELECT clock_timestamp() - interval '2 hours'")[0][0]
    result = monitor(priced, Interval.of(DAY), settings)
    record("monitor", priced, Interval.of(DAY), result, settings, began, 0)
    [(dbus, cost)] = execute(settings, "SELECT dbus, cost FROM step_history WHERE core_seconds IS NULL")
    assert dbus == pytest.approx(8, rel=0.01) and cost == pytest.approx(4, rel=0.01)


def test_scores_are_measured_once_for_each_batch(
    recorded: Settings, priced: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = load_model("late_ferry")
    monkeypatch.setattr(step, "model_names", lambda _: [late.name])
    small.promoted(recorded, late.name, 1, DAY)
    small.score(recorded, priced, late.name, DAY, NEXT)
    publish(late, Interval(start=DAY, end=NEXT), recorded)
    nights(recorded, priced, [LATER])
    columns = "day, rows, distinct_scores, commonest_share, saturated_share"
    before = execute(recorded, f"SELECT {columns}, xmin::text FROM score_health ORDER BY day")
    assert [row[:5] for row in before] == [(DAY, 4, 4, 0.25, 0.0), (NEXT, 4, 4, 0.25, 0.0)]
    nights(recorded, priced, [NEXT, LATER])
    assert execute(recorded, f"SELECT {columns}, xmin::text FROM score_health ORDER BY day") == before


def test_a_killed_monitor_is_completed_by_the_next(recorded: Settings) -> None:
    ferries = load_project("ferries")
    nights(recorded, ferries, [LATER])
    expected = found(recorded)
    execute(recorded, "TRUNCATE alerts, feed_punctuality")
    run_and_kill(recorded, "monitor", Interval.of(LATER), "include.io.postgres.alerts:raise_alerts", 1, "before")
    nights(recorded, ferries, [LATER])
    assert found(recorded) == expected and len(expected[0]) == 2

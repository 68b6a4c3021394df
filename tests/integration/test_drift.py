"""drift on a real PostgreSQL and real Delta tables: days are summarised once, compared, and a jump is an alert."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import sqlalchemy as sa

from include.config.loading import load_model, load_project
from include.core.errors import ActionRequiredError
from include.core.interval import Interval
from include.core.names import features_table
from include.core.project import Project
from include.core.records import Alert, Monitored, PreparedDay
from include.core.settings import Settings
from include.io import postgres
from include.io.drift import DriftSource
from include.io.tables import Scope, Tables
from include.monitoring.drift import DriftMonitor
from include.operations.freeze_drift import freeze_drift
from include.steps import monitor as step
from include.steps.monitor import monitor
from tests.integration import small

START, DAYS, ROWS = date(2013, 1, 1), 45, 120
JUMP = START + timedelta(days=DAYS - 1)
BEFORE = JUMP - timedelta(days=1)


def features_of(day: date, moved: float = 0.0) -> pl.DataFrame:
    """Return the features of a day: a distance that jumps by `moved`, and a company."""
    rng = np.random.default_rng(day.toordinal())
    return pl.DataFrame({
        "day": [day] * ROWS,
        "entity_id": [f"{n:03}" for n in range(ROWS)],
        "as_of": [small.as_of(day)] * ROWS,
        "data_view": ["point_in_time"] * ROWS,
        "distance_miles": rng.normal(10, 2, ROWS) + moved,
        "company": rng.choice(["UA", "B6", "EV"], ROWS),
    })  # fmt: skip


def prepare(settings: Settings, project: Project, days: list[date], moved: float = 0.0) -> None:
    """Write features of days in one commit, and record them as prepared."""
    table = features_table(project.name)
    rows = pl.concat([features_of(day, moved) for day in days])
    scope = Scope(Interval(start=min(days), end=max(days)))
    written = Tables(settings).replace(table, rows, scope, sort_by=["day", "entity_id"])
    prepared = [
        PreparedDay(
            project=project.name,
            day=day,
            data_view="point_in_time",
            as_of=small.as_of(day),
            watermark=0,
            deliveries=(),
            table_versions={table: written.version},
            rows=ROWS,
        )
        for day in days
    ]
    postgres.days.record_prepared_days(settings, project.name, prepared)


def execute(settings: Settings, statement: str, **values: Any) -> list[tuple[Any, ...]]:
    with postgres.connection.engine(settings).begin() as connection:
        result = connection.execute(sa.text(statement), values)
        return [tuple(row) for row in result] if result.returns_rows else []


def publish(settings: Settings, day: date) -> None:
    """Publish 40 predictions of version 1 for a day."""
    batch = "00000000-0000-0000-0000-000000000001"
    with postgres.connection.engine(settings).begin() as connection:
        for statement in (
            (
                "INSERT INTO models (model, project, outcome, problem_type, title, owner) "
                "VALUES ('late_ferry', 'ferries', 'late_ferry', 'binary', 't', 'o')"
            ),
            (
                "INSERT INTO batches (batch_id, model, day, model_version, rows, digest, as_of, run_id) "
                "VALUES (:batch, 'late_ferry', :day, 1, 40, repeat('0', 64), now(), 'x')"
            ),
            "SELECT make_month('predictions', CAST(:day AS date))",
            (
                "INSERT INTO predictions (batch_id, model, day, entity_id, score, prediction) "
                "SELECT :batch, 'late_ferry', :day, n::text, n / 50.0, 0 FROM generate_series(1, 40) n"
            ),
            (
                "INSERT INTO published (model, day, batch_id, run_id, published_at) "
                "VALUES ('late_ferry', :day, :batch, 'x', now())"
            ),
        ):
            connection.execute(sa.text(statement), {"batch": batch, "day": day})


@pytest.fixture
def ferries(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Days of which the first 30 trained the champion; the last one jumps by two standard deviations."""
    project, model = load_project("ferries"), load_model("late_ferry")
    monkeypatch.setattr(step, "model_names", lambda _: [model.name])
    watched = model.model_copy(update={"monitors": (DriftMonitor(slices=("company",), min_rows=10),)})
    monkeypatch.setattr(step, "load_model", lambda _: watched)
    prepare(settings, project, [START + timedelta(days=n) for n in range(DAYS - 1)])
    prepare(settings, project, [JUMP], moved=4.0)
    digest, trained = "0" * 64, START + timedelta(days=30)
    execute(
        settings,
        "INSERT INTO fits (mlflow_run, model, candidate, fit_end, fit_digest, model_digest, run_id, trained_day) "
        "VALUES ('r', 'late_ferry', 'linear', :end, :digest, :digest, 'x', :trained)",
        end=trained - timedelta(days=1), digest=digest, trained=trained,
    )  # fmt: skip
    execute(settings, "INSERT INTO model_versions (model, model_version, mlflow_run, run_id) "
                      "VALUES ('late_ferry', 1, 'r', 'x')")  # fmt: skip
    small.promoted(settings, "late_ferry", 1, trained)
    return project


def stored(settings: Settings) -> list[tuple[Any, ...]]:
    columns = "day, role, feature, slice, slice_value, reference, days, rows, shift, shape, missing, strength"
    return execute(settings, f"SELECT {columns} FROM drift ORDER BY 1, 2, 3, 4, 5, 6")


def drifts(monitored: Monitored) -> list[Alert]:
    """Return the alerts of drift; suppliers are late here, too, because nothing is landed."""
    return [alert for alert in monitored.alerts if alert.rule == "drift"]


def test_a_jump_is_an_alert_once_in_any_order_and_a_second_run_writes_nothing(
    settings: Settings, ferries: Project
) -> None:
    [quiet, found] = [monitor(ferries, Interval.of(day), settings) for day in (BEFORE, JUMP)]
    assert drifts(quiet) == []
    [alert] = drifts(found)
    assert (alert.subject, alert.rule, alert.day) == ("late_ferry", "drift", JUMP)
    assert "input distance_miles moved by 2." in alert.sentence or "input distance_miles moved by 1.9" in alert.sentence
    assert "docs/runbooks/alert-drift.md" in alert.sentence
    in_order = stored(settings)
    [row] = [row for row in in_order if row[0] == JUMP and row[2:6] == ("distance_miles", "all", "all", "weeks")]
    assert row[-1] > 1 and row[8] == pytest.approx(2, abs=0.3)
    companies = {row[4] for row in in_order if row[3] == "company"}
    assert companies == {"UA", "B6", "EV"}

    marks = "SELECT xmin::text FROM drift_daily UNION ALL SELECT xmin::text FROM drift_summaries ORDER BY 1"
    before = execute(settings, marks)
    assert [drifts(monitor(ferries, Interval.of(day), settings)) for day in (JUMP, BEFORE)] == [[], []]
    assert execute(settings, marks) == before

    execute(settings, "TRUNCATE drift_daily, drift_summaries, alerts")
    again = [monitor(ferries, Interval.of(day), settings) for day in (JUMP, BEFORE)]
    assert [len(drifts(each)) for each in again] == [1, 0]
    assert stored(settings) == in_order


def test_a_day_that_is_prepared_again_is_summarised_again(settings: Settings, ferries: Project) -> None:
    monitor(ferries, Interval.of(JUMP), settings)
    of_day = (
        "SELECT feature, total FROM drift_summaries WHERE day = :day AND slice = 'all' AND role = 'input' ORDER BY 1"
    )
    wrong, other = execute(settings, of_day, day=JUMP), execute(settings, of_day, day=BEFORE)
    prepare(settings, ferries, [JUMP])
    monitor(ferries, Interval.of(JUMP), settings)
    assert execute(settings, of_day, day=JUMP) != wrong
    assert execute(settings, of_day, day=BEFORE) == other
    [(strength,)] = execute(
        settings,
        "SELECT strength FROM drift WHERE day = :day AND feature = 'distance_miles' AND slice = 'all' "
        "AND reference = 'weeks'",
        day=JUMP,
    )
    assert strength < 1


def test_published_predictions_and_known_outcomes_are_summarised(settings: Settings, ferries: Project) -> None:
    publish(settings, JUMP)
    about = {"project": "ferries", "outcome": "late_ferry", "day": BEFORE, "delivery": "d", "at": small.as_of(JUMP)}
    execute(
        settings,
        "INSERT INTO outcomes (project, outcome, day, entity_id, value, delivery_id, available_from) "
        "SELECT :project, :outcome, :day, n::text, n % 2, :delivery, :at FROM generate_series(1, 40) n",
        **about,
    )
    execute(
        settings,
        "INSERT INTO outcome_days (project, outcome, day, delivery_id, available_from, sequence, rows, digest, run_id) "
        "VALUES (:project, :outcome, :day, :delivery, :at, 1, 40, repeat('0', 64), 'x')",
        **about,
    )
    monitor(ferries, Interval.of(JUMP), settings)
    of_results = (
        "SELECT role, feature, day, rows FROM drift_summaries WHERE role <> 'input' AND slice = 'all' ORDER BY role"
    )
    assert execute(settings, of_results) == [
        ("outcome", "late_ferry", BEFORE, 40),
        ("prediction", "score", JUMP, 40),
    ]
    versions = "SELECT DISTINCT model_version FROM drift WHERE day = :day"
    assert execute(settings, versions, day=JUMP) == [(1,)]
    training = "SELECT count(*) FROM drift WHERE day = :day AND reference = 'training' AND role = 'input'"
    assert execute(settings, training, day=JUMP)[0][0] > 0


def test_a_run_date_that_is_measured_again_keeps_its_version_and_its_training(
    settings: Settings, ferries: Project
) -> None:
    publish(settings, BEFORE)
    monitor(ferries, Interval.of(BEFORE), settings)
    kept = (
        "SELECT feature, slice_value, reference, days, model_version FROM drift WHERE day = :day AND role = 'input' "
        "ORDER BY 1, 2, 3, 4"
    )
    effects = "SELECT sum(shift) FROM drift WHERE day = :day AND reference = 'weeks'"
    before, shifts = execute(settings, kept, day=BEFORE), execute(settings, effects, day=BEFORE)
    assert {row[2] for row in before} == {"weeks", "training"} and {row[-1] for row in before} == {1}
    prepare(settings, ferries, [BEFORE - timedelta(days=7)], moved=2.0)
    monitor(ferries, Interval.of(JUMP), settings)
    assert execute(settings, effects, day=BEFORE) != shifts, "it is measured again"
    again = execute(settings, kept, day=BEFORE)
    assert [row[:3] + row[4:] for row in again] == [row[:3] + row[4:] for row in before]


def test_after_an_accepted_change_a_person_has_the_edges_frozen_again(settings: Settings, ferries: Project) -> None:
    monitor(ferries, Interval.of(JUMP), settings)
    edges = "SELECT count(*), count(DISTINCT decision), max(decision) FROM drift_edges WHERE role = 'input'"
    marks = "SELECT min(xmin::text::bigint) FROM drift_summaries WHERE role = 'input'"
    [(count, *before)], [(oldest,)] = execute(settings, edges), execute(settings, marks)
    assert before == [1, 0]
    with pytest.raises(ActionRequiredError, match="needs who decides and why"):
        freeze_drift(load_model("late_ferry"), settings, by="ana", why=" ")
    said = freeze_drift(load_model("late_ferry"), settings, by="ana", why="the ferries go further now")
    assert said.startswith("late_ferry: decision 1 is recorded")
    for _ in range(2):
        monitor(ferries, Interval.of(JUMP), settings)
        assert execute(settings, edges) == [(2 * count, 2, 1)], "they are frozen once for a decision"
    assert execute(settings, marks) == [(oldest,)], "the newest champion is the same, so nothing is summarised again"
    stored = execute(settings, "SELECT runs, bytes_stored, cost FROM pipeline_cost WHERE step = 'storage'")
    actions = "SELECT model, action, subject, by, why FROM human_actions"
    decided = ("late_ferry", "freeze drift", "decision 1", "ana", "the ferries go further now")
    assert decided in execute(settings, actions)
    on_disk = sum(each.stat().st_size for each in Path(settings.tables).rglob("*") if each.is_file())
    assert stored == [(0, on_disk, None)], "storage is measured once a day; without prices it has no cost"


def test_a_day_that_was_unpublished_has_no_summary_any_more(settings: Settings, ferries: Project) -> None:
    publish(settings, BEFORE)
    monitor(ferries, Interval.of(JUMP), settings)
    of_scores = "SELECT day FROM drift_summaries WHERE role = 'prediction' AND slice = 'all'"
    assert execute(settings, of_scores) == [(BEFORE,)]
    execute(settings, "DELETE FROM published")
    monitor(ferries, Interval.of(JUMP), settings)
    assert execute(settings, of_scores) == []


def test_a_feature_that_no_champion_was_trained_on_is_asked_of_one_champion_only(
    settings: Settings, ferries: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    edges = DriftSource._edges_of_inputs

    def recording(self: DriftSource, names: list[str], days: Interval) -> Any:
        asked.append(names)
        return edges(self, names, days)

    monkeypatch.setattr(DriftSource, "_edges_of_inputs", recording)
    for _ in range(2):
        monitor(ferries, Interval.of(JUMP), settings)
    declared = load_model("late_ferry").monitored
    assert asked == [[name for name in (*declared.numeric, *declared.categorical) if name in features_of(JUMP).columns]]

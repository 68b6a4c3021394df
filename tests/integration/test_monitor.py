"""monitor on a real PostgreSQL: only changed days are measured again, in any order of run dates.

Late scores and broken rules are reported once.
"""

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from include.cli import app
from include.config.loading import load_model, load_project
from include.config.model import Model
from include.core.interval import Interval
from include.core.project import Project
from include.core.records import Alert, Monitored
from include.core.settings import Settings
from include.io import postgres
from include.monitoring.drift import DriftMonitor
from include.monitoring.performance import PerformanceMonitor
from include.monitoring.pipeline.steps import StepsMonitor
from include.operations.decide import withdraw
from include.steps import monitor as step
from include.steps.monitor import monitor
from include.steps.outcomes import outcomes
from include.steps.publish import publish
from tests.integration import small
from tests.integration.processes import processes, run_and_kill
from tests.integration.small import DAY

NEXT, LATER = DAY + timedelta(days=1), DAY + timedelta(days=2)
HOUR = timedelta(hours=1)
RULE = {"metric": "roc_auc", "at_least": 0.55, "days": 2, "of": 3}


@pytest.fixture
def ferries() -> Project:
    return load_project("ferries")


def watched(**monitor: Any) -> Model:
    declared = {"min_rows": 2, "slices": ["origin", "ferry"], "rules": [RULE], **monitor}
    return load_model("late_ferry").model_copy(update={"monitors": (PerformanceMonitor.model_validate(declared),)})


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> Model:
    """Monitor only late_ferry, with days of a few rows."""
    return watch(monkeypatch, watched())


def watch(monkeypatch: pytest.MonkeyPatch, *models: Model) -> Model:
    monkeypatch.setattr(step, "model_names", lambda _: [model.name for model in models])
    monkeypatch.setattr(step, "load_model", {model.name: model for model in models}.__getitem__)
    return models[0]


def execute(settings: Settings, statement: str, **values: Any) -> list[tuple[Any, ...]]:
    with postgres.connection.engine(settings).begin() as connection:
        result = connection.execute(sa.text(statement), values)
        return [tuple(row) for row in result] if result.returns_rows else []


def deliver(
    settings: Settings, project: Project, day: date, delays: list[float | None], prepared_day: date, name: str
) -> None:
    """Deliver the logbook of a day an hour before the first run date that knows it."""
    rows = small.logbook_of(day, delays)
    small.deliver(settings, project, "logbook", day, rows, available_from=small.as_of(prepared_day) - HOUR, name=name)


@pytest.fixture
def prepared_days(settings: Settings, ferries: Project, late: Model) -> Settings:
    """Three days, scored (0.01, 0.11, 0.21, 0.31) and published. LATER knows a correction of DAY."""
    small.prepare(settings, ferries, DAY, NEXT, LATER)
    small.promoted(settings, late.name, 1, DAY)
    small.score(settings, ferries, late.name, DAY, NEXT, LATER)
    publish(late, Interval(start=DAY, end=LATER), settings)
    deliver(settings, ferries, DAY, [0.0, 0.0, 20.0, 20.0], NEXT, "a")
    deliver(settings, ferries, DAY, [20.0, 0.0, 0.0, None], LATER, "b")
    deliver(settings, ferries, NEXT, [20.0, 0.0, 0.0], LATER, "a")
    return settings


def run(settings: Settings, project: Project, *days: date) -> list[Monitored]:
    """Run outcomes and monitor for each day, as the DAG does."""
    results = []
    for day in days:
        outcomes(project, Interval.of(day), settings)
        results.append(monitor(project, Interval.of(day), settings))
    return results


def stored(settings: Settings) -> list[tuple[Any, ...]]:
    return execute(
        settings,
        "SELECT model, day, model_version, slice, slice_value, metric, value, rows, digest FROM performance_daily "
        "ORDER BY model, day, slice, slice_value, metric",
    )


def of_all(settings: Settings, day: date, metric: str) -> tuple[Any, ...]:
    [found] = execute(
        settings,
        "SELECT model_version, value, rows FROM performance_daily WHERE day = :day AND metric = :metric "
        "AND slice = 'all'",
        day=day,
        metric=metric,
    )
    return found


def marks(settings: Settings) -> list[tuple[Any, ...]]:
    """Return values that change whenever a row is written."""
    return [
        row
        for table in ("performance_daily", "freshness", "alerts")
        for row in execute(settings, f"SELECT xmin::text, ctid::text FROM {table} ORDER BY 1, 2")
    ]


def alerts(settings: Settings) -> list[tuple[Any, ...]]:
    return execute(settings, "SELECT day, subject, rule FROM alerts ORDER BY id")


# --- performance ------------------------------------------------------------------------------------------------------


def test_a_day_is_measured_when_outcomes_are_known_and_again_after_a_correction(
    prepared_days: Settings, ferries: Project
) -> None:
    [first] = run(prepared_days, ferries, NEXT)
    assert first.days == 1
    assert of_all(prepared_days, DAY, "roc_auc") == (1, 1.0, 4)
    assert of_all(prepared_days, DAY, "accuracy") == (1, 1.0, 4)
    assert of_all(prepared_days, DAY, "calibration_gap") == (1, pytest.approx(0.16 - 0.5), 4)
    [second] = run(prepared_days, ferries, LATER)
    assert second.days == 2
    assert of_all(prepared_days, DAY, "roc_auc") == (1, 0.5, 4)  # the ferries with 0.01 and 0.31 are late now
    assert of_all(prepared_days, NEXT, "roc_auc") == (1, 0.0, 3)
    # The outcome of the fourth ferry is not known.
    assert of_all(prepared_days, NEXT, "base_rate") == (1, pytest.approx(1 / 3), 3)


def test_a_day_whose_outcomes_were_withdrawn_is_measured_again(prepared_days: Settings, ferries: Project) -> None:
    run(prepared_days, ferries, NEXT, LATER)
    for day, name in ((DAY, "b"), (NEXT, "a")):
        wrong = small.delivery_id("logbook", day, name)
        withdraw(ferries, wrong, prepared_days, by="Ada", why="a wrong file")
    [again] = run(prepared_days, ferries, LATER)
    assert again.days == 2
    assert of_all(prepared_days, DAY, "roc_auc") == (1, 1.0, 4), "the delivery before it is current again"
    counted = "SELECT count(*) FROM performance_daily WHERE rows > 0 AND day = :day"
    assert execute(prepared_days, counted, day=NEXT) == [(0,)]
    before = marks(prepared_days)
    [once_more] = run(prepared_days, ferries, LATER)
    assert once_more.rows == 0
    assert marks(prepared_days) == before


def test_slices_are_columns_of_the_entity(prepared_days: Settings, ferries: Project) -> None:
    run(prepared_days, ferries, NEXT)
    seen = execute(prepared_days, "SELECT DISTINCT slice, slice_value, rows FROM performance_daily ORDER BY 1, 2")
    assert seen == [("all", "all", 4), ("origin", "BAT", 4)]  # each ferry number has one row


def test_a_slice_needs_enough_rows(prepared_days: Settings, ferries: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    run(prepared_days, ferries, NEXT)
    watch(monkeypatch, watched(min_rows=1))
    [again] = run(prepared_days, ferries, NEXT)  # its declaration changed
    assert again.days == 1
    by_ferry = "SELECT slice_value, value FROM performance_daily WHERE slice = 'ferry' AND metric = 'base_rate'"
    assert execute(prepared_days, by_ferry + " ORDER BY 1") == [("0", 0.0), ("1", 0.0), ("2", 1.0), ("3", 1.0)]
    undefined = "SELECT DISTINCT value FROM performance_daily WHERE slice = 'ferry' AND metric = 'roc_auc'"
    assert execute(prepared_days, undefined) == [(None,)]


def test_a_second_run_writes_nothing(prepared_days: Settings, ferries: Project) -> None:
    run(prepared_days, ferries, NEXT, LATER)
    before = marks(prepared_days)
    again = [
        *run(prepared_days, ferries, LATER, NEXT),
        monitor(ferries, Interval(start=NEXT, end=LATER), prepared_days),
    ]
    assert [(r.days, r.rows, r.alerts) for r in again] == [(0, 0, ())] * 3
    assert marks(prepared_days) == before


def test_run_dates_in_any_order_give_the_same_result(prepared_days: Settings, ferries: Project) -> None:
    ends = []
    for order in ((NEXT, LATER), (LATER, NEXT, LATER), (NEXT, LATER, LATER, NEXT)):
        run(prepared_days, ferries, *order)
        fresh = execute(
            prepared_days, "SELECT subject, day, newest_day, behind_days, late, sentence FROM freshness ORDER BY 1, 2"
        )
        ends.append((stored(prepared_days), fresh))
        execute(prepared_days, "TRUNCATE performance_daily, freshness, alerts, outcomes, outcome_days")
    assert len(ends[0][0]) == 2 * 2 * 8
    assert ends[1:] == ends[:1] * 2


def test_a_newly_published_batch_replaces_the_measured_one(
    prepared_days: Settings, ferries: Project, late: Model
) -> None:
    run(prepared_days, ferries, NEXT)
    small.promoted(prepared_days, late.name, 2, DAY)
    small.score(prepared_days, ferries, late.name, DAY, version=2)
    publish(late, Interval.of(DAY), prepared_days)
    [again] = run(prepared_days, ferries, NEXT)
    assert again.days == 1
    assert {row[2] for row in stored(prepared_days)} == {2}
    assert of_all(prepared_days, DAY, "mean_score") == (2, pytest.approx(0.17), 4)


def test_a_correction_without_rows_leaves_a_day_without_outcomes(prepared_days: Settings, ferries: Project) -> None:
    run(prepared_days, ferries, NEXT)
    deliver(prepared_days, ferries, DAY, [], LATER, "c")
    run(prepared_days, ferries, LATER)
    assert of_all(prepared_days, DAY, "roc_auc") == (1, None, 0)
    assert run(prepared_days, ferries, LATER)[0].days == 0


def test_a_regression_is_measured_on_rows_with_a_value(
    prepared_days: Settings, ferries: Project, late: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    delay = late.model_copy(
        update={
            "name": "delay",
            "outcome": "ferry_delay",
            "problem_type": "regression",
            "monitors": (PerformanceMonitor(min_rows=2),),
        }
    )
    watch(monkeypatch, delay)
    small.promoted(prepared_days, delay.name, 1, DAY)
    small.score(prepared_days, ferries, delay.name, DAY)
    publish(delay, Interval.of(DAY), prepared_days)
    run(prepared_days, ferries, NEXT, LATER)  # LATER knows the delays 20, 0, 0 and null
    assert of_all(prepared_days, DAY, "mae") == (1, pytest.approx((19.99 + 0.11 + 0.21) / 3), 3)
    assert of_all(prepared_days, DAY, "mean_error") == (1, pytest.approx((-19.99 + 0.11 + 0.21) / 3), 3)


def test_a_change_during_a_run_is_measured_by_the_next_run(
    prepared_days: Settings, ferries: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes(ferries, Interval.of(NEXT), prepared_days)
    reading = postgres.performance._read_predictions

    def corrected(*given: Any) -> Any:
        monkeypatch.setattr(postgres.performance, "_read_predictions", reading)
        outcomes(ferries, Interval.of(LATER), prepared_days)
        return reading(*given)

    monkeypatch.setattr(postgres.performance, "_read_predictions", corrected)
    first = monitor(ferries, Interval.of(NEXT), prepared_days)
    assert (first.days, of_all(prepared_days, DAY, "roc_auc")) == (
        1,
        (1, 1.0, 4),
    )  # the state at the time of its digest
    second = monitor(ferries, Interval.of(NEXT), prepared_days)
    assert (second.days, of_all(prepared_days, DAY, "roc_auc")) == (2, (1, 0.5, 4))


def test_the_command_measures_and_records_its_run(
    prepared_days: Settings, ferries: Project, late: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes(ferries, Interval(start=NEXT, end=LATER), prepared_days)
    for name in ("landing", "tables", "artifacts", "journal"):
        monkeypatch.setenv(f"NIGHTLY_{name}".upper(), getattr(prepared_days, name))
    for name in ("database_url", "mlflow_tracking_uri", "hash_key"):
        monkeypatch.setenv(f"NIGHTLY_{name}".upper(), getattr(prepared_days, name).get_secret_value())
    done = CliRunner().invoke(app, ["monitor", "--project", "ferries", "--start", str(NEXT), "--end", str(LATER)])
    assert done.exit_code == 0, done.output
    result = Monitored.model_validate_json(done.stdout)
    assert (result.days, [a.day for a in result.alerts]) == (2, [LATER])
    assert execute(prepared_days, "SELECT step, state, rows FROM step_runs") == [("monitor", "success", result.rows)]


@pytest.fixture
def two(prepared_days: Settings) -> Iterator[Any]:
    with processes(prepared_days, 2) as started:
        yield started


def test_two_concurrent_runs_measure_each_day_once(prepared_days: Settings, ferries: Project, two: Any) -> None:
    """The model is declared as in its file, because other processes do not have the patches of this one."""
    outcomes(ferries, Interval(start=NEXT, end=LATER), prepared_days)
    command = {"do": "step", "step": "monitor", "start": str(NEXT), "end": str(LATER)}
    answers = two.all([command, command])
    assert sorted(answer["days"] for answer in answers) == [0, 2]
    assert len(stored(prepared_days)) == 2 * 8
    assert two.all([command])[0]["days"] == 0


@pytest.mark.parametrize(
    ("at", "call", "when", "measured"),
    [
        ("include.monitoring.performance:PerformanceMonitor.measure_day", 2, "before", 0),
        ("include.io.postgres.freshness:record_freshness", 1, "before", 2),
        ("include.io.postgres.alerts:raise_alerts", 1, "before", 2),
        ("include.io.postgres.alerts:look", 1, "after", 2),
    ],
)
def test_a_killed_run_is_completed_by_the_next(
    prepared_days: Settings, ferries: Project, at: str, call: int, when: str, measured: int
) -> None:
    outcomes(ferries, Interval(start=NEXT, end=LATER), prepared_days)
    run_and_kill(prepared_days, "monitor", Interval.of(LATER), at, call, when)
    assert len({row[1] for row in stored(prepared_days)}) == measured
    result = monitor(ferries, Interval.of(LATER), prepared_days)
    assert result.days == 2  # this process has another declaration, so days are measured in any case
    # the killed process monitored all models of the folder, not only the one that this test declares
    own = "SELECT count(*) FROM freshness WHERE subject <> 'ferry_delay'"
    assert execute(prepared_days, own)[0][0] == 9


# --- rules ------------------------------------------------------------------------------------------------------------


def test_a_broken_rule_is_reported_once_per_run_date(prepared_days: Settings, ferries: Project) -> None:
    first, second, again = run(prepared_days, ferries, NEXT, LATER, LATER)
    assert first.alerts == again.alerts == ()  # one measured day cannot break a rule of 2 of 3 days
    [alert] = second.alerts
    assert (alert.subject, alert.day, alert.rule) == ("late_ferry", LATER, "roc_auc at_least 0.55, 2 of 3 days")
    assert "2013-03-02: 0.000 (version 1), 2013-03-01: 0.500 (version 1)" in alert.sentence
    [tomorrow] = [monitor(ferries, Interval.of(LATER + timedelta(days=1)), prepared_days)]
    assert [a.day for a in tomorrow.alerts] == [LATER + timedelta(days=1)]  # it is still broken
    history = execute(prepared_days, "SELECT day, sentence, notified_at FROM alert_history ORDER BY id")
    assert history[0] == (LATER, alert.sentence, None)


def test_a_rule_ignores_later_days_and_days_with_few_rows(
    prepared_days: Settings, ferries: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes(ferries, Interval(start=NEXT, end=LATER), prepared_days)
    assert monitor(ferries, Interval.of(NEXT), prepared_days).alerts == ()
    watch(monkeypatch, watched(min_rows=4))  # NEXT has three outcomes
    assert monitor(ferries, Interval.of(LATER), prepared_days).alerts == ()
    watch(monkeypatch, watched(min_rows=3))
    assert len(monitor(ferries, Interval.of(LATER), prepared_days).alerts) == 1


# --- freshness --------------------------------------------------------------------------------------------------------


def live(settings: Settings, project: Project, *days: date) -> None:
    """Make these days look prepared in time, with a champion that existed before them."""
    for day in days:
        moment = project.at(day, time(3, 20))
        execute(settings, "UPDATE prepared_days SET prepared_at = :at WHERE day = :day", at=moment, day=day)
    execute(settings, "ALTER TABLE promotions DISABLE TRIGGER refuse_change")
    execute(settings, "UPDATE promotions SET created_at = :at", at=project.at(DAY, time(1)))
    execute(settings, "ALTER TABLE promotions ENABLE TRIGGER refuse_change")


def published(settings: Settings, day: date, at: datetime) -> None:
    """Make a day look first published at that moment."""
    execute(settings, "ALTER TABLE publications DISABLE TRIGGER refuse_change")
    execute(settings, "UPDATE publications SET published_at = :at WHERE day = :day", at=at, day=day)
    execute(settings, "ALTER TABLE publications ENABLE TRIGGER refuse_change")


def scores(settings: Settings, day: date) -> tuple[Any, ...]:
    columns = "newest_day, behind_days, late, sentence"
    [found] = execute(settings, f"SELECT {columns} FROM freshness WHERE subject = 'late_ferry' AND day = :day", day=day)
    return found


def test_late_scores_are_reported_by_the_next_run_date(prepared_days: Settings, ferries: Project) -> None:
    live(prepared_days, ferries, DAY, NEXT, LATER)
    published(prepared_days, DAY, ferries.at(DAY, time(9, 12)))
    published(prepared_days, NEXT, ferries.at(NEXT, time(4)))
    first, second, again = run(prepared_days, ferries, NEXT, LATER, NEXT)
    [alert] = first.alerts
    assert (alert.subject, alert.rule, alert.day) == ("late_ferry", "scores_late", NEXT)
    assert "the scores of 2013-03-01 were published late, at 09:12 on 2013-03-01" in alert.sentence
    assert again.alerts == () and [a.rule for a in second.alerts] == ["roc_auc at_least 0.55, 2 of 3 days"]
    assert scores(prepared_days, NEXT)[:3] == (DAY, 0, True)
    assert scores(prepared_days, LATER)[:3] == (NEXT, 0, False)
    status = execute(prepared_days, "SELECT scores_late, freshness FROM model_status")
    assert status[0][0] is False and "published at 04:00 on 2013-03-02" in status[0][1]


def test_a_monitor_that_fails_holds_no_alert_of_the_others_back_and_fails_the_step_at_the_end(
    prepared_days: Settings, ferries: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    live(prepared_days, ferries, DAY, NEXT)
    published(prepared_days, DAY, ferries.at(DAY, time(9)))

    def fails(*_: Any) -> Any:
        raise ValueError("MLflow is down")

    monkeypatch.setattr(DriftMonitor, "run", fails)
    monkeypatch.setattr(StepsMonitor, "run", fails)
    with pytest.raises(ValueError, match="MLflow is down") as error:
        monitor(ferries, Interval.of(NEXT), prepared_days)
    assert all(name in error.value.__notes__[0] for name in ("drift of late_ferry", "steps of ferries"))
    assert alerts(prepared_days) == [(NEXT, "late_ferry", "scores_late")]
    assert scores(prepared_days, NEXT)[2] is True
    looks = execute(prepared_days, "SELECT day, blind FROM incident_looks")
    assert looks == [(NEXT, ["", "late_ferry"])], "so that nothing of these counts as recovered"
    monkeypatch.undo()
    assert monitor(ferries, Interval.of(NEXT), prepared_days).alerts == ()


@pytest.mark.parametrize(
    ("kind", "hidden"),
    [(DriftMonitor, {"late_ferry", "sailings"}), (StepsMonitor, {"build_features", "sailings"})],
    ids=["of one model", "of the pipeline"],
)
def test_a_monitor_that_fails_keeps_only_those_incidents_open_that_it_would_have_seen(
    prepared_days: Settings,
    ferries: Project,
    late: Model,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[DriftMonitor | StepsMonitor],
    hidden: set[str],
) -> None:
    """NEXT saw something of each model, of the pipeline, and of a feed that models share. LATER sees nothing of it."""
    watch(monkeypatch, late, load_model("ferry_delay"))
    models, about = ("late_ferry", "ferry_delay"), {"rule": "gone", "day": NEXT, "sentence": "x"}
    shared = {"subject": "late_ferry", "models": models, "late_feed": "sailings", "because": "feed sailings is late"}
    seen = [
        *(Alert(subject=name, models=(name,), **about) for name in models),
        Alert(subject="build_features", **about),
        Alert(**about | shared | {"rule": "scores_late"}),
    ]
    postgres.alerts.raise_alerts(prepared_days, ferries.name, seen, scope=step.SCOPE, looked=[NEXT])

    def still_open() -> set[str]:
        statement = "SELECT subject FROM incidents WHERE state = 'open' AND rule IN ('gone', 'feed_late')"
        return {subject for (subject,) in execute(prepared_days, statement)}

    assert still_open() == {*models, "build_features", "sailings"}
    run_of = kind.run

    def fails(self: Any, watched: Any) -> Any:
        if kind is StepsMonitor or watched.model.name == "late_ferry":
            raise ValueError("it cannot be read")
        return run_of(self, watched)

    with monkeypatch.context() as patch, pytest.raises(ValueError, match="it cannot be read"):
        patch.setattr(kind, "run", fails)
        monitor(ferries, Interval.of(LATER), prepared_days)
    assert still_open() == hidden
    monitor(ferries, Interval.of(LATER), prepared_days)
    assert still_open() == set(), "a look of the same run date that fails nowhere"


def test_a_step_that_is_killed_in_a_slow_monitor_has_raised_the_alerts_of_the_others(
    prepared_days: Settings, ferries: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run of drift and degradation takes long; late scores must not wait for it."""
    live(prepared_days, ferries, DAY, NEXT)
    published(prepared_days, DAY, ferries.at(DAY, time(9)))

    def killed(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(DriftMonitor, "run", killed)
        monitor(ferries, Interval.of(NEXT), prepared_days)
    assert alerts(prepared_days) == [(NEXT, "late_ferry", "scores_late")]
    assert scores(prepared_days, NEXT)[2] is True
    assert monitor(ferries, Interval.of(NEXT), prepared_days).alerts == ()
    assert execute(prepared_days, "SELECT day FROM incident_looks") == [(NEXT,)]


def test_a_day_published_in_time_is_not_late_after_it_is_published_again(
    prepared_days: Settings, ferries: Project, late: Model
) -> None:
    live(prepared_days, ferries, DAY, NEXT)
    published(prepared_days, DAY, ferries.at(DAY, time(4)))
    small.score(prepared_days, ferries, late.name, DAY, version=2)
    small.promoted(prepared_days, late.name, 2, DAY)
    publish(late, Interval.of(DAY), prepared_days)  # published today
    assert run(prepared_days, ferries, NEXT)[0].alerts == ()
    assert scores(prepared_days, NEXT)[2] is False


def test_missing_scores_are_reported(prepared_days: Settings, ferries: Project) -> None:
    after = LATER + timedelta(days=1)
    small.prepare(prepared_days, ferries, after, after + timedelta(days=1))
    live(prepared_days, ferries, after, after + timedelta(days=1))
    alerts = monitor(ferries, Interval.of(after + timedelta(days=1)), prepared_days).alerts
    assert [alert.rule for alert in alerts if alert.rule != "supplier_late"] == ["scores_late"]
    assert scores(prepared_days, after + timedelta(days=1))[:3] == (LATER, 1, True)


def test_a_backfill_of_past_days_sends_no_alert(prepared_days: Settings, ferries: Project) -> None:
    """After an outage, on-call prepares and publishes three days at once. There was a champion, but no scores."""
    live(prepared_days, ferries)
    results = run(prepared_days, ferries, NEXT)
    assert [r.alerts for r in results] == [()]
    assert scores(prepared_days, NEXT)[2] is True  # the view still shows that the scores were late


def test_a_backfill_of_days_without_a_champion_is_not_late(prepared_days: Settings, ferries: Project) -> None:
    """The champion was promoted long after the deadline, so no scores were due."""
    run(prepared_days, ferries, NEXT)
    assert alerts(prepared_days) == []
    assert scores(prepared_days, NEXT)[2] is False
    assert "had no champion for 2013-03-01 by 06:00 on 2013-03-01" in scores(prepared_days, NEXT)[3]


def test_a_run_date_that_is_being_scored_is_not_late(settings: Settings, ferries: Project, late: Model) -> None:
    small.prepare(settings, ferries, DAY)
    small.promoted(settings, late.name, 1, DAY)
    live(settings, ferries, DAY)
    assert monitor(ferries, Interval.of(DAY), settings).alerts == ()
    assert scores(settings, DAY)[2] is False


def test_tables_are_compared_with_the_days_that_the_run_date_needs(prepared_days: Settings, ferries: Project) -> None:
    run(prepared_days, ferries, NEXT, LATER)
    found = execute(
        prepared_days, "SELECT subject, newest_day, behind_days, late FROM freshness_status WHERE day = :d", d=NEXT
    )
    assert sorted(row for row in found if row[0] != "late_ferry") == [
        ("clean_ferries__logbook", DAY, 0, False),
        ("clean_ferries__sailings", NEXT, 0, False),
        ("clean_ferries__winds", None, None, True),
        ("features_ferries", NEXT, 0, False),
        ("prepared_days", NEXT, 0, False),
        ("raw_ferries__logbook", DAY, 0, False),
        ("raw_ferries__sailings", NEXT, 0, False),
        ("raw_ferries__winds", None, None, True),
    ]


def test_an_empty_installation_is_late(settings: Settings, ferries: Project, late: Model) -> None:
    result = monitor(ferries, Interval.of(DAY), settings)
    assert (result.rows, result.days, result.alerts) == (0, 0, ())
    late_ones = execute(settings, "SELECT subject FROM freshness WHERE late ORDER BY 1")
    assert [s for (s,) in late_ones if not s.startswith(("raw_", "clean_"))] == ["prepared_days"]


def test_two_concurrent_runs_raise_an_alert_once(prepared_days: Settings, ferries: Project, two: Any) -> None:
    """Late scores do not depend on the patched declaration of the model; the rules of this module do."""
    live(prepared_days, ferries, DAY, NEXT)
    published(prepared_days, DAY, ferries.at(DAY, time(9)))
    outcomes(ferries, Interval.of(NEXT), prepared_days)
    command = {"do": "step", "step": "monitor", "start": str(NEXT), "end": str(NEXT)}
    answers = two.all([command, command])
    assert sorted(len(answer["alerts"]) for answer in answers) == [0, 1]
    assert alerts(prepared_days) == [(NEXT, "late_ferry", "scores_late")]

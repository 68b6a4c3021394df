"""A project that predicts the days D to D + 2, from files to monitoring: real Spark, PostgreSQL and MLflow files.

Stations plan their bikes for each day, and the plan of a day is known two days before. How many bikes were rented is
known a day later. The installation is made once; each test looks at one property of it.
"""

import os
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

import include.projects
from include.config.loading import load_model, load_project
from include.config.model import Model
from include.core.errors import DeliveryError
from include.core.interval import Interval
from include.core.project import Project
from include.core.records import GateDecision, Published
from include.core.settings import Settings
from include.io import postgres
from include.io.journal import read_journal
from include.io.tables import Tables
from include.io.training_sets import read_at, read_training_set
from include.operations.check import check
from include.operations.outdated import find_out_of_date
from include.operations.repair import repair
from include.operations.reproduce import reproduce
from include.runner.run import run
from include.steps.arrivals import missing_files
from include.steps.evaluate import evaluate
from include.steps.fit import fit, record_fit
from include.steps.gate import gate
from include.steps.land import land
from include.steps.monitor import monitor
from include.steps.outcomes import outcomes
from include.steps.promote import promote
from include.steps.publish import publish
from include.steps.score import score
from include.steps.validate import validate
from tests.conftest import Install
from tests.integration import small

pytestmark = [pytest.mark.spark, pytest.mark.timeout(900)]

FIRST = date(2026, 3, 2)
DAY = date(2026, 3, 27)
"""The run date of the training. Summer time begins two days later."""
STATIONS = 12
WRONG = 1e6
"""What the outcomes of DAY are: no training of DAY may see them."""

PROJECT = """
title: Bikes of stations
owner: data-team
timezone: Europe/Berlin
first_day: 2026-03-02
schedule: "0 4 * * *"
cutoff: "03:00"
feeds:
  plan:
    path: "plan/{day}/*.csv"
    ahead_days: 2
    live_from: 2026-03-28
    key: [station]
    day_column: on_day
    columns:
      station: {type: string, class: public, format: "S[0-9]+"}
      on_day: {type: date, class: public}
      bikes: {type: double, class: public}
      open: {type: boolean, class: public}
  rentals:
    path: "rentals/{day}/*.csv"
    live_from: 2026-03-28
    delay_days: 1
    lookback_days: 6
    key: [station]
    day_column: on_day
    columns:
      station: {type: string, class: public, format: "S[0-9]+"}
      on_day: {type: date, class: public}
      taken: {type: double, class: public}
entity: {feed: plan, key: [station], where: open, horizon_days: 2, public: [bikes]}
outcomes:
  rented: {feed: rentals, sql: taken}
"""
FEATURES = '''
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from include.features import Feeds


def build(feeds: Feeds) -> DataFrame:
    """Return one row for each station, run date and horizon."""
    rows = feeds.current("plan").withColumn("weekday", F.weekday("target_day"))
    rows = feeds.add_windows(rows, "rentals", by="station", days=[7], rented=("taken", "mean"))
    rows = feeds.add_lags(rows, "plan", by="station", ages=[-2], planned=("bikes", "sum"))
    return rows.select(
        "day", "horizon", "target_day", "entity_id", "bikes", "weekday", "rented_station_7d", "planned_station_lag-2"
    )
'''
MODEL = """
title: Rentals of a station
purpose: how many bikes a station will need
decision: the driver decides each morning which stations get bikes
costs: {unit: EUR, under: 2, over: 1}
built_by: data-science
owner: data-science
outcome: rented
problem_type: regression
horizon_days: 2
numeric: [horizon, bikes, weekday]
candidates:
  - {name: linear}
train_days: 20
validation_days: 3
holdout_days: 4
min_fit_days: 7
gate:
  checks:
    - {kind: enough_rows, at_least: 100}
    - {kind: quality, metric: r2, at_least: 0.5}
    - {kind: calibration, at_most: 10}
    - {kind: changed_decisions, at_most: 0.9, over: 10}
    - {kind: score_shift, at_most: 100}
    - {kind: linear_baseline, at_most: 0.5}
    - {kind: scoring_time, at_most: 5000}
    - {kind: leakage_check, metric: r2, at_most: 0.999}
    - {kind: slices, by: [horizon], min_rows: 30, at_most: 0}
monitors:
  - kind: performance
    min_rows: 5
    rules:
      - {metric: mae, at_most: 0, days: 1, of: 1}
"""
ESTIMATOR = """
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler


def build(params, numeric, categorical, seed):
    return Pipeline([("scale", StandardScaler()), ("fit", LinearRegression())])
"""


def later(days: int) -> date:
    return DAY + timedelta(days=days)


@dataclass
class Bikes:
    """The installation, and what its model did."""

    project: Project
    model: Model
    settings: Settings
    decision: GateDecision
    published: Published

    def select(self, statement: str) -> list[dict[str, object]]:
        return small.select(self.settings, statement)

    def features(self, day: date) -> pl.DataFrame:
        """Return the features of a prepared day, as its record names them."""
        table = postgres.days.read_features(self.settings, "bikes", Interval.of(day))[day]
        rows = Tables(self.settings).scan(table.table, table.version).filter(pl.col("day") == day)
        return rows.sort("horizon", "entity_id").collect()


def put(
    project: Project, settings: Settings, feed: str, day: date, values: Mapping[str, object], at: datetime, name: str
) -> None:
    """Put a file of a day into landing: a row for each station."""
    column = {"plan": "bikes,open", "rentals": "taken"}[feed]
    lines = [f"station,on_day,{column}", *(f"{station},{day},{value}" for station, value in values.items())]
    path = Path(settings.landing) / f"bikes/{feed}/{day}/{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    os.utime(path, (at.timestamp(), at.timestamp()))


def planned(day: date) -> dict[str, int]:
    rng = random.Random(day.toordinal())
    return {f"S{n}": rng.randint(10, 60) for n in range(STATIONS)}


def plan(day: date, more: int = 0) -> dict[str, object]:
    """Return the rows of a plan; the last station is closed."""
    return {name: f"{bikes + more},{str(name != f'S{STATIONS - 1}').lower()}" for name, bikes in planned(day).items()}


def rented(day: date) -> dict[str, object]:
    rng = random.Random(-day.toordinal())
    return {name: round(0.7 * bikes + rng.gauss(0, 3), 2) for name, bikes in planned(day).items()}


def prepare(project: Project, interval: Interval, settings: Settings) -> None:
    land(project, interval, settings)
    validate(project, interval, settings)
    run("build_features", project, interval, settings)


@pytest.fixture(scope="module")
def bikes(install: Install, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bikes]:
    """Prepare FIRST to DAY, train, promote; then prepare, score and publish the five days after DAY."""
    folder = tmp_path_factory.mktemp("horizons")
    files = {"project.yaml": PROJECT, "expectations.yaml": "{}\n", "features.py": FEATURES}
    files |= {"models/rentals/model.yaml": MODEL, "models/rentals/estimator.py": ESTIMATOR}
    for name, text in files.items():
        path = folder / "projects" / "bikes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    before = os.environ["NIGHTLY_PROJECTS"]
    with pytest.MonkeyPatch.context() as patch, install(folder) as settings:
        patch.setenv("NIGHTLY_PROJECTS", f"{before}{os.pathsep}{folder / 'projects'}")
        include.projects.__path__.append(str(folder / "projects"))
        try:
            yield _made(settings)
        finally:
            include.projects.__path__.remove(str(folder / "projects"))
            load_project.cache_clear()
            load_model.cache_clear()


def _made(settings: Settings) -> Bikes:
    project, model = load_project("bikes"), load_model("rentals")
    postgres.migrations.migrate(settings, [project])
    for day in Interval(start=FIRST, end=later(2)).days:
        put(project, settings, "plan", day, plan(day), project.cutoff_at(later(0)), "a")
    for day in Interval(start=FIRST, end=later(0)).days:
        values: Mapping[str, object] = dict.fromkeys(planned(day), WRONG) if day == DAY else rented(day)
        put(project, settings, "rentals", day, values, project.cutoff_at(later(1)) - timedelta(hours=1), "a")
    before = Interval(start=FIRST, end=DAY)
    prepare(project, before, settings)
    # DAY's outcomes are known to the installation before the training of DAY, which may not see them.
    put(project, settings, "plan", later(3), plan(later(3)), project.cutoff_at(later(1)) - timedelta(hours=1), "a")
    land(project, Interval.of(later(1)), settings)
    validate(project, Interval.of(later(1)), settings)

    run_date = Interval.of(DAY)
    fitted = fit(model, run_date, settings, candidate="linear")
    record_fit(fitted, settings)
    evaluated = evaluate(model, run_date, settings, fitted=[fitted])
    decision = gate(model, run_date, settings, evaluated=evaluated, fitted=[fitted])
    promote(model, Interval.of(later(1)), settings, version=evaluated.model_version or 0)

    for day in (later(4), later(5), later(7)):
        put(project, settings, "plan", day, plan(day), project.cutoff_at(day - timedelta(days=2)), "a")
    # The plan for the day after tomorrow of later(4) comes two hours late.
    late = project.cutoff_at(later(4)) + timedelta(hours=2)
    put(project, settings, "plan", later(6), plan(later(6)), late, "a")
    # The plan for later(3), which later(1) and later(2) read, is corrected before later(3) reads it.
    corrected = project.cutoff_at(later(3)) - timedelta(hours=1)
    put(project, settings, "plan", later(3), plan(later(3), more=100), corrected, "b")
    for n in range(1, 5):
        moment = project.cutoff_at(later(n + 1)) - timedelta(hours=1)
        put(project, settings, "rentals", later(n), rented(later(n)), moment, "a")
    live = Interval(start=later(1), end=later(5))
    prepare(project, live, settings)
    versions = dict.fromkeys(live.days, 1)
    scored = score(model, live, settings, versions=versions)
    published = publish(model, live, settings, days=scored.days)
    return Bikes(project, model, settings, decision, published)


OPEN = STATIONS - 1


class TestFeatures:
    def test_each_run_date_has_a_row_for_each_open_station_and_horizon(self, bikes: Bikes) -> None:
        for day in (FIRST, DAY):
            rows = bikes.features(day)
            assert rows.group_by("horizon").len().sort("horizon").rows() == [(n, OPEN) for n in range(3)]
            for horizon, of_horizon in rows.partition_by("horizon", as_dict=True).items():
                target = day + timedelta(days=int(horizon[0]))
                assert of_horizon["bikes"].to_list() == [
                    value for name, value in sorted(planned(target).items()) if name != f"S{OPEN}"
                ]
                assert set(of_horizon["weekday"]) == {target.weekday()}
        [prepared] = postgres.days.read_prepared_days(bikes.settings, "bikes", Interval.of(DAY))
        assert (prepared.rows, prepared.horizon_rows, prepared.left_out) == (3 * OPEN, (OPEN,) * 3, 3)

    def test_windows_are_of_the_run_date_whatever_the_horizon(self, bikes: Bikes) -> None:
        rows = bikes.features(DAY).filter(pl.col("entity_id") == "S0")
        mean = sum(float(str(rented(later(-n))["S0"])) for n in range(1, 8)) / 7
        assert rows["rented_station_7d"].to_list() == pytest.approx([mean] * 3)
        assert rows["planned_station_lag-2"].to_list() == [planned(later(2))["S0"]] * 3, "an age below 0 is ahead"

    def test_a_run_date_waits_for_the_plans_of_the_next_days(self, bikes: Bikes) -> None:
        said = missing_files(bikes.project, later(6), bikes.settings)["plan"]
        assert f"for {later(8)}" in said
        assert str(later(7)) not in said, "the plan for the next day is there"
        with pytest.raises(DeliveryError, match=f"no file of feed plan for {later(8)}"):
            land(bikes.project, Interval.of(later(6)), bikes.settings)

    def test_a_late_plan_moves_the_moment_up_to_which_its_run_date_knows(self, bikes: Bikes) -> None:
        records = read_journal(bikes.settings, bikes.project).records
        assert records[later(4)].as_of == bikes.project.cutoff_at(later(4)) + timedelta(hours=2)
        assert records[later(5)].as_of == bikes.project.cutoff_at(later(5))
        assert records[later(3)].as_of == bikes.project.cutoff_at(later(3)), "it needs no plan of later(6)"

    def test_a_corrected_plan_changes_no_run_date_that_read_it_before(self, bikes: Bikes) -> None:
        for run_date, horizon, more in ((later(1), 2, 0), (later(2), 1, 0), (later(3), 0, 100)):
            rows = bikes.features(run_date).filter(pl.col("horizon") == horizon)
            assert rows["bikes"][0] == planned(later(3))["S0"] + more


class TestTraining:
    def test_no_outcome_is_seen_that_is_known_only_later(self, bikes: Bikes) -> None:
        journal = read_journal(bikes.settings, bikes.project)
        assert not journal.deliveries.filter(feed="rentals", day=DAY).is_empty(), "it was landed before the training"
        args = (bikes.project, bikes.model)
        state = read_at(*args, DAY, bikes.settings, journal, "point_in_time")
        found = read_training_set(*args, Interval.of(DAY), bikes.settings, state, "point_in_time")
        rows = found.rows.with_columns(target=pl.col("day") + pl.duration(days="horizon"))
        assert rows["target"].max() == later(-1)
        assert not (rows["label"] == WRONG).any()
        assert rows.filter(target=later(-1))["horizon"].unique().sort().to_list() == [0, 1, 2]
        assert rows["target"].min() == later(-20)
        for row in rows.iter_rows(named=True):
            assert row["label"] == rented(row["target"])[row["entity_id"]]
        parts = [found.fitted_rows, found.validation_rows, found.holdout_rows]
        targets = [set(part.select(pl.col("day") + pl.duration(days="horizon")).to_series()) for part in parts]
        assert [len(days) for days in targets] == [13, 3, 4]
        assert max(targets[0]) < min(targets[1]) <= max(targets[1]) < min(targets[2])

    def test_the_gate_checks_each_horizon(self, bikes: Bikes) -> None:
        assert bikes.decision.passed, bikes.decision.why_not
        subjects = {check.subject for check in bikes.decision.checks if check.name == "slices"}
        assert subjects == {"horizon=0", "horizon=1", "horizon=2"}

    def test_a_version_can_be_trained_again(self, bikes: Bikes) -> None:
        assert reproduce(bikes.model, 1, bikes.settings).differing == 0


class TestPredictions:
    def test_readers_see_each_horizon_once_and_the_newest_for_each_day(self, bikes: Bikes) -> None:
        assert [(day.rows, day.state) for day in bikes.published.days] == [(3 * OPEN, "published")] * 5
        by_horizon = "SELECT day, horizon, target_day, count(*) AS n FROM current_predictions GROUP BY 1, 2, 3"
        assert {tuple(row.values()) for row in bikes.select(by_horizon)} == {
            (later(n), h, later(n + h), OPEN) for n in range(1, 6) for h in range(3)
        }
        newest = bikes.select(
            "SELECT target_day, min(day) AS first, max(day) AS last, count(*) AS n, count(DISTINCT entity_id) AS ids "
            "FROM newest_predictions WHERE model = 'rentals' GROUP BY 1 ORDER BY 1"
        )
        assert [tuple(row.values()) for row in newest] == [
            (later(n), later(min(n, 5)), later(min(n, 5)), OPEN, OPEN) for n in range(1, 8)
        ]
        described = bikes.select(
            "SELECT max(bikes - bikes_then) AS more FROM bikes_entities e JOIN (SELECT entity_id, bikes AS bikes_then "
            f"FROM bikes_entities WHERE day = '{later(1)}' AND horizon = 2) AS f USING (entity_id) "
            f"WHERE e.day = '{later(3)}' AND e.horizon = 0"
        )
        assert described == [{"more": 100.0}], "an entity is described as its run date knew it"

    def test_publishing_again_changes_nothing_and_nothing_disagrees(self, bikes: Bikes) -> None:
        live = Interval(start=later(1), end=later(5))
        again = publish(bikes.model, live, bikes.settings)
        assert {day.state for day in again.days} == {"unchanged"}
        assert check(bikes.project, live, bikes.settings) == []

    def test_a_batch_of_other_horizons_is_another_batch(self, bikes: Bikes) -> None:
        rows = postgres.predictions.read_predictions(bikes.settings, "rentals", Interval.of(later(1)))
        moved = rows.with_columns(horizon=2 - pl.col("horizon"))
        digests = {
            postgres.predictions.batch_digest(each) for each in (rows, moved, rows.sample(fraction=1, shuffle=True))
        }
        assert len(digests) == 2

    def test_a_corrected_plan_makes_the_run_dates_that_read_it_out_of_date(self, bikes: Bikes) -> None:
        found = find_out_of_date(bikes.project, Interval(start=later(1), end=later(5)), bikes.settings)
        assert {each.day for each in found if each.what == "features"} == {later(1), later(2)}


class TestMonitoring:
    def test_performance_is_by_run_date_and_horizon_and_follows_the_outcomes(self, bikes: Bikes) -> None:
        """Outcomes of later(1) and later(2) are known on later(3); those of later(3) and later(4) two days after."""
        rows_of = (
            "SELECT day, slice, slice_value, rows FROM performance_daily WHERE metric = 'mae' ORDER BY day, slice, "
            "slice_value"
        )
        alerts = "SELECT count(*) AS n FROM alerts WHERE subject = 'rentals' AND rule LIKE 'mae%'"
        outcomes(bikes.project, Interval(start=later(1), end=later(3)), bikes.settings)
        monitor(bikes.project, Interval.of(later(3)), bikes.settings)
        assert [tuple(row.values()) for row in bikes.select(rows_of)] == [
            (later(1), "all", "all", 2 * OPEN),
            (later(1), "horizon", "0", OPEN),
            (later(1), "horizon", "1", OPEN),
            (later(2), "all", "all", OPEN),
            (later(2), "horizon", "0", OPEN),
        ]
        assert bikes.select(alerts) == [{"n": 0}], "no run date is complete, so no rule can be broken"
        outcomes(bikes.project, Interval(start=later(4), end=later(5)), bikes.settings)
        monitor(bikes.project, Interval(start=later(4), end=later(5)), bikes.settings)
        complete = {(row["day"], row["rows"]) for row in bikes.select(rows_of) if row["slice"] == "all"}
        assert complete == {(later(1), 3 * OPEN), (later(2), 3 * OPEN), (later(3), 2 * OPEN), (later(4), OPEN)}
        assert bikes.select(alerts) == [{"n": 2}], "later(4) completes later(1), and later(5) completes later(2)"
        before = bikes.select("SELECT * FROM performance_daily")
        monitor(bikes.project, Interval(start=later(4), end=later(5)), bikes.settings)
        assert bikes.select("SELECT * FROM performance_daily") == before, "nothing changed, so nothing is measured"

    def test_the_view_with_outcomes_has_each_prediction_once(self, bikes: Bikes) -> None:
        rows = bikes.select(
            "SELECT day, horizon, target_day, outcome_known, outcome_value, entity_id FROM predictions_with_outcomes"
        )
        assert len(rows) == 5 * 3 * OPEN
        for row in rows:
            target = row["target_day"]
            assert isinstance(target, date)
            assert row["outcome_known"] == (target <= later(4))
            if row["outcome_known"]:
                assert row["outcome_value"] == rented(target)[str(row["entity_id"])]


class TestRepair:
    def test_a_repaired_day_reads_nothing_that_came_after_its_moment(self, bikes: Bikes) -> None:
        """The correction came after `as_of` of later(1), so not even a repair uses it."""
        done = repair(bikes.project, Interval.of(later(1)), bikes.settings, by="ana", why="a test")
        assert done.days == ()


def test_a_model_with_a_smaller_horizon_predicts_only_that(bikes: Bikes) -> None:
    """Score and publish by another version, of a model that predicts tomorrow at most."""
    nearer = bikes.model.model_copy(update={"horizon_days": 1, "numeric": ("bikes",)})
    run_date = Interval.of(DAY)
    fitted = fit(nearer, run_date, bikes.settings, candidate="linear")
    record_fit(fitted, bikes.settings)
    evaluated = evaluate(nearer, run_date, bikes.settings, fitted=[fitted])
    day = Interval.of(later(2))
    versions = {later(2): evaluated.model_version or 0}
    scored = score(bikes.model, day, bikes.settings, versions=versions)
    assert scored.rows == 2 * OPEN
    [done] = publish(bikes.model, day, bikes.settings, versions=versions).days
    assert (done.rows, done.state) == (2 * OPEN, "published")
    newest = f"SELECT DISTINCT day FROM newest_predictions WHERE target_day = '{later(4)}'"
    assert bikes.select(newest) == [{"day": later(4)}]
    postgres.predictions.unpublish(bikes.settings, bikes.model, day)
    [pointer] = postgres.predictions.read_pointers(bikes.settings, "rentals", day).iter_rows(named=True)
    assert (pointer["rows"], pointer["horizon_days"]) == (3 * OPEN, 2)

"""From features to a champion's scores, on Delta tables, PostgreSQL and MLflow: what a training may see, what is made
once although steps are killed or run twice at once, and what promote refuses."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest
import sqlalchemy as sa
from mlflow import MlflowClient
from mlflow.entities import Run
from pydantic import SecretStr
from sklearn.pipeline import Pipeline

from include import learning, schemas
from include.config import Candidate, Model, load_model, load_project
from include.contracts import Evaluated, Fitted, Interval
from include.errors import BadConfig, BadData, NeedsAttention
from include.io import database
from include.io.registry import EVALUATED, Registry
from include.io.tables import Scope, Tables
from include.run import run
from include.settings import Settings
from include.steps import fit as fit_step
from include.steps.evaluate import evaluate
from include.steps.fit import fit
from include.steps.promote import mend_alias, promote
from include.steps.score import score

pytestmark = pytest.mark.timeout(300)

PROJECT = load_project("flights")
DAYS = Interval(start=date(2013, 3, 1), end=date(2013, 3, 28))
DAY = date(2013, 3, 22)  # the run day: outcomes to the 21st are known
RUN = Interval.of(DAY)
WHOLE = Scope(Interval(start=date(2013, 1, 1), end=date(2013, 12, 31)))
FLIGHTS = 120  # a day
MODEL = load_model("late_arrival").model_copy(
    update={
        "candidates": (
            Candidate(name="linear", params={"kind": "linear", "C": 0.1}),
            Candidate(name="boosted", params={"kind": "boosted", "max_iter": 15, "min_samples_leaf": 50}),
        ),
        "train_days": 16,
        "judge_days": 5,
        "min_fit_days": 8,
    }
)
_numbers = itertools.count()


# --- what the steps before leave --------------------------------------------------------------------------------------


def flights() -> pl.DataFrame:
    """Key, features and delay of each flight of DAYS, with holes as the real ones have."""
    rng = np.random.default_rng(5)
    n = FLIGHTS * len(DAYS.days)
    days = [day for day in DAYS.days for _ in range(FLIGHTS)]
    numbers = {name: rng.normal(size=n) for name in MODEL.numeric}
    numbers["departure_hour"] = rng.uniform(5, 23, n)
    numbers["wind_gust_mph"] = np.where(rng.random(n) < 0.7, np.nan, rng.uniform(15, 50, n))
    numbers["weather_missing"] = (rng.random(n) < 0.02).astype(float)
    labels = {
        "carrier": rng.choice(["UA", "B6", "EV", "DL"], n),
        "origin": rng.choice(["EWR", "JFK", "LGA"], n),
        "dest": rng.choice(["LAX", "ORD", "ATL", "BOS", "MIA"], n),
    }
    delay = 4 * (numbers["departure_hour"] - 15) + 12 * (labels["carrier"] == "EV")
    delay += 8 * numbers["precipitation_inches"]
    delay = np.where(rng.random(n) < 0.03, np.nan, delay + rng.normal(scale=20, size=n))
    return pl.DataFrame({
        "day": days,
        "entity_id": [f"{carrier}-{i % FLIGHTS}" for i, carrier in enumerate(labels["carrier"])],
        **labels,
        **numbers,
        "arr_delay_minutes": delay,
    }).with_columns(pl.selectors.float().fill_nan(None))


def write_all(settings: Settings) -> None:
    """Deliveries, clean actuals and features of DAYS, as their nights made them."""
    tables, rows = Tables(settings), flights()
    moments = pl.DataFrame({"day": DAYS.days, "as_of": [PROJECT.cutoff_at(day) for day in DAYS.days]})
    features = rows.drop("arr_delay_minutes").join(moments, on="day").with_columns(knowledge=pl.lit("night"))
    tables.replace("features_flights", features, WHOLE, sort_by=["day", "entity_id"])
    tables.replace("clean_actuals", actuals(rows), WHOLE, sort_by=["day", "entity_id"])
    listed = [
        listing(feed, needed, minutes_before_cutoff=30, of=day)
        for day in DAYS.days
        for feed, needed in PROJECT.required(day).items()
    ]
    deliveries = pl.DataFrame(listed, schema=schemas.DELIVERIES)
    tables.replace("deliveries_flights", deliveries, WHOLE, sort_by=["day", "feed"])


def actuals(rows: pl.DataFrame, name: str = "a") -> pl.DataFrame:
    delivery_id = pl.format("actuals/{}/{}", pl.lit(name), "day").alias("delivery_id")
    return rows.select("day", delivery_id, "entity_id", "arr_delay_minutes")


def listing(feed: str, day: date, *, minutes_before_cutoff: int, of: date, name: str = "a") -> dict[str, Any]:
    return {
        "day": day,
        "feed": feed,
        "delivery_id": f"{feed}/{name}/{day}",
        "rows": FLIGHTS,
        "available_at": PROJECT.cutoff_at(of) - timedelta(minutes=minutes_before_cutoff),
        "verdict": "accepted",
    }


def correct(settings: Settings, day: date, *, minutes_before_cutoff: int) -> None:
    """A second delivery of a day's actuals: all late; known that long before the cutoff of DAY."""
    tables = Tables(settings)
    delivery = listing("actuals", day, minutes_before_cutoff=minutes_before_cutoff, of=DAY, name="again")
    scope = Scope.of_deliveries([day], [delivery["delivery_id"]])
    of_day = flights().filter(pl.col("day") == day).with_columns(arr_delay_minutes=pl.lit(99.0))
    tables.replace("clean_actuals", actuals(of_day, "again"), scope, sort_by=["entity_id"])
    listed = pl.DataFrame([delivery], schema=schemas.DELIVERIES)
    tables.replace("deliveries_flights", listed, scope, sort_by=["day"])


def change(settings: Settings, table: str, days: Interval, *changes: pl.Expr) -> None:
    tables = Tables(settings)
    tables.replace(table, lambda rows: rows.with_columns(*changes), Scope(days), sort_by=["day", "entity_id"])


@pytest.fixture(scope="session")
def mlflow_made(postgres: sa.URL) -> str:
    """Name of an MLflow database with its tables: to make them takes seconds, to clone them none."""
    name = "mlflow_made"
    _administer(postgres, f"CREATE DATABASE {name}")
    MlflowClient(_in(postgres, name).get_secret_value()).search_experiments()
    return name


@pytest.fixture
def settings(settings: Settings, postgres: sa.URL, mlflow_made: str) -> Iterator[Settings]:
    with cloned(postgres, mlflow_made) as mlflow:
        yield settings.model_copy(update={"mlflow_tracking_uri": mlflow})


@pytest.fixture
def prepared(settings: Settings) -> Settings:
    write_all(settings)
    return settings


@pytest.fixture(scope="module")
def trained_once(
    postgres: sa.URL, mlflow_made: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, dict[str, str]]]:
    """Name of an MLflow database with versions 1 and 2, of DAY and the day after; and the places of its files."""
    folder = tmp_path_factory.mktemp("trained")
    places = {name: str(folder / name) for name in ("landing", "tables", "artifacts")}
    with cloned(postgres, mlflow_made) as mlflow:
        settings = Settings(
            **places, database_url="postgresql://nowhere", mlflow_tracking_uri=mlflow, hash_key="of tests"
        )
        write_all(settings)
        assert [train(settings, run_day=after(days)).version for days in (0, 1)] == [1, 2]
        yield sa.make_url(mlflow.get_secret_value()).database or "", places


@pytest.fixture
def trained(settings: Settings, postgres: sa.URL, trained_once: tuple[str, dict[str, str]]) -> Iterator[Settings]:
    """As `trained_once`, with databases of its own; tables and models are shared."""
    name, places = trained_once
    with cloned(postgres, name) as mlflow:
        yield settings.model_copy(update={"mlflow_tracking_uri": mlflow, **places})


@contextmanager
def cloned(postgres: sa.URL, template: str) -> Iterator[SecretStr]:
    """The URL of a copy of a database."""
    name = f"mlflow_{next(_numbers)}_of_models"
    # MLflow keeps connections open, and what is connected to cannot be copied
    _administer(postgres, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{template}'")
    _administer(postgres, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield _in(postgres, name)
    _administer(postgres, f"DROP DATABASE {name} WITH (FORCE)")


def _in(postgres: sa.URL, database_name: str) -> SecretStr:
    return SecretStr(postgres.set(database=database_name).render_as_string(hide_password=False))


def _administer(url: sa.URL, statement: str) -> None:
    engine = sa.create_engine(url.set(drivername="postgresql+psycopg2"), poolclass=sa.NullPool)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(statement))


# --- helpers ----------------------------------------------------------------------------------------------------------


def after(days: int) -> Interval:
    return Interval.of(DAY + timedelta(days=days))


def fit_all(settings: Settings, model: Model = MODEL, run_day: Interval = RUN) -> list[Fitted]:
    return [fit(model, run_day, settings, candidate=c.name) for c in model.candidates]


def train(settings: Settings, model: Model = MODEL, run_day: Interval = RUN) -> Evaluated:
    return evaluate(model, run_day, settings, fitted=fit_all(settings, model, run_day))


def client(settings: Settings) -> MlflowClient:
    return MlflowClient(settings.mlflow_tracking_uri.get_secret_value())


def versions(settings: Settings, model: str = "late_arrival") -> list[int]:
    return sorted(int(v.version) for v in client(settings).search_model_versions(f"name = '{model}'"))


def runs(settings: Settings) -> list[Run]:
    mlflow = client(settings)
    experiment = mlflow.get_experiment_by_name("flights/late_arrival")
    return list(mlflow.search_runs([experiment.experiment_id])) if experiment else []


# --- fit --------------------------------------------------------------------------------------------------------------


def test_a_fit_is_judged_on_later_days_than_it_was_fitted_on(prepared: Settings) -> None:
    fitted = fit(MODEL, RUN, prepared, candidate="linear")
    assert fitted.interval == Interval(start=date(2013, 3, 6), end=date(2013, 3, 16))
    assert fitted.judge == Interval(start=date(2013, 3, 17), end=date(2013, 3, 21))
    assert fitted.rows == 11 * FLIGHTS
    run_made = client(prepared).get_run(fitted.run_id)
    assert run_made.data.metrics["rows"] == 5 * FLIGHTS
    assert run_made.data.metrics["fitted_rows"] == 11 * FLIGHTS
    assert {"log_loss", "brier", "base_rate", "fit_seconds"} <= run_made.data.metrics.keys()
    assert 0.7 < run_made.data.metrics["roc_auc"] < 1
    tags = run_made.data.tags
    assert tags["fit_digest"] == fitted.digest
    assert (tags["day"], tags["as_of"]) == ("2013-03-22", "2013-03-22T07:00:00+00:00")
    assert (tags["interval_start"], tags["interval_end"]) == ("2013-03-06", "2013-03-21")
    assert (tags["candidate"], tags["project"], tags["model"]) == ("linear", "flights", "late_arrival")
    assert (tags["seed"], tags["run_id"], tags["git_commit"]) == (str(MODEL.seed), "test", "unknown")
    assert tags["config_digest"] == MODEL.digest
    tables = Tables(prepared)
    assert int(tags["features_version"]) == tables.version("features_flights")
    assert int(tags["outcome_version"]) == tables.version("clean_actuals")
    inputs = {entry.dataset.name: json.loads(entry.dataset.source) for entry in run_made.inputs.dataset_inputs}
    assert inputs["features_flights"] == {
        "path": tables.uri("features_flights"),
        "version": tables.version("features_flights"),
        "predicate": "day >= '2013-03-06' AND day <= '2013-03-21' AND knowledge IN ('night')",
    }
    assert inputs["clean_actuals"]["version"] == tables.version("clean_actuals")


def test_the_outcome_of_the_run_day_and_later_is_not_seen(prepared: Settings) -> None:
    before = fit(MODEL, RUN, prepared, candidate="linear")
    later = Interval(start=DAY, end=DAYS.end)
    change(prepared, "clean_actuals", later, pl.lit(1000.0).alias("arr_delay_minutes"))
    change(prepared, "features_flights", later, pl.lit(99.0).alias("departure_hour"))
    assert fit(MODEL, RUN, prepared, candidate="linear") == before
    change(prepared, "clean_actuals", later.shifted(start=-1), pl.lit(1000.0).alias("arr_delay_minutes"))
    assert fit(MODEL, RUN, prepared, candidate="linear").digest != before.digest


@pytest.mark.parametrize("minutes_before_cutoff", [5, -5])
def test_a_correction_is_seen_when_it_was_known_by_then(prepared: Settings, minutes_before_cutoff: int) -> None:
    before = fit(MODEL, RUN, prepared, candidate="linear")
    correct(prepared, DAY - timedelta(days=8), minutes_before_cutoff=minutes_before_cutoff)
    after = fit(MODEL, RUN, prepared, candidate="linear")
    assert (after.digest != before.digest) == (after.run_id != before.run_id) == (minutes_before_cutoff > 0)
    assert after.rows == before.rows


def test_a_fit_is_taken_up_also_after_other_days_were_written(prepared: Settings) -> None:
    before = fit(MODEL, RUN, prepared, candidate="linear")
    version = Tables(prepared).version("features_flights")
    change(prepared, "features_flights", Interval.of(DAYS.start), pl.lit(3.0).alias("departure_hour"))
    assert Tables(prepared).version("features_flights") > version
    assert fit(MODEL, RUN, prepared, candidate="linear") == before
    assert len(runs(prepared)) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 1},
        {"train_days": 15},
        {"judge_days": 4},
        {"candidates": (MODEL.candidates[0].model_copy(update={"params": {"kind": "linear", "C": 0.2}}),)},
    ],
)
def test_a_changed_declaration_is_another_fit(prepared: Settings, changed: dict[str, Any]) -> None:
    before = fit(MODEL, RUN, prepared, candidate="linear")
    assert fit(MODEL.model_copy(update=changed), RUN, prepared, candidate="linear").digest != before.digest


def test_a_changed_lock_is_another_fit(prepared: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = fit(MODEL, RUN, prepared, candidate="linear")
    lock = tmp_path / "requirements.txt"
    lock.write_text("scikit-learn==9", encoding="utf-8")
    assert fit_step.LOCK.exists()
    monkeypatch.setattr(fit_step, "LOCK", lock)
    assert fit(MODEL, RUN, prepared, candidate="linear").digest != before.digest


def test_a_replay_elsewhere_is_the_same_fit_to_the_bit(prepared: Settings, tmp_path: Path) -> None:
    """Another installation, its tables written in another order: other versions, equal rows."""
    elsewhere = prepared.model_copy(
        update={
            "tables": str(tmp_path / "elsewhere" / "tables"),
            "artifacts": str(tmp_path / "elsewhere" / "artifacts"),
            "mlflow_tracking_uri": SecretStr(f"sqlite:///{tmp_path / 'elsewhere.db'}"),
        }
    )
    write_all(elsewhere)
    write_all(elsewhere)
    here, there = (fit_all(s) for s in (prepared, elsewhere))
    assert [f.digest for f in here] == [f.digest for f in there]
    rows = learning.inputs(flights(), MODEL.numeric, MODEL.categorical)
    for one, other in zip(here, there, strict=True):
        first, second = (
            Registry(s).load_fit(Registry(s).get_fit(f.run_id)).estimator.predict_proba(rows)
            for s, f in ((prepared, one), (elsewhere, other))
        )
        np.testing.assert_array_equal(first, second)


def test_days_missing_inside_are_tagged(prepared: Settings) -> None:
    gone = DAY - timedelta(days=3)
    Tables(prepared).replace("features_flights", lambda rows: rows.clear(), Scope(Interval.of(gone)), sort_by=["day"])
    fitted = fit(MODEL, RUN, prepared, candidate="linear")
    assert client(prepared).get_run(fitted.run_id).data.tags["missing_days"] == str(gone)
    assert fitted.judge == Interval(start=date(2013, 3, 16), end=date(2013, 3, 21))


def test_too_few_labelled_days_are_refused_with_what_to_prepare(prepared: Settings) -> None:
    with pytest.raises(NeedsAttention, match="11 labelled days are known on 2013-03-12, and 13 are needed"):
        fit(MODEL, Interval.of(date(2013, 3, 12)), prepared, candidate="linear")
    assert runs(prepared) == []


def test_a_training_is_of_one_day(prepared: Settings) -> None:
    with pytest.raises(NeedsAttention, match="2013-03-21 to 2013-03-22 is 2; train each day by itself"):
        fit(MODEL, RUN.shifted(start=-1), prepared, candidate="linear")


def test_a_night_that_lacks_a_required_feed_is_refused(prepared: Settings) -> None:
    with pytest.raises(BadData, match=r"the night of 2013-03-29 has no accepted delivery"):
        fit(MODEL, Interval.of(DAYS.end + timedelta(days=1)), prepared, candidate="linear")


def test_candidates_and_parameters_that_there_are_not(prepared: Settings) -> None:
    with pytest.raises(BadConfig, match="no candidate 'boostd'; did you mean 'boosted'"):
        fit(MODEL, RUN, prepared, candidate="boostd")
    wrong = Candidate(name="boosted", params={"kind": "boosted", "max_iters": 3})
    with pytest.raises(BadConfig, match=r"model.yaml: candidates, boosted: boosted has no parameter 'max_iters'"):
        fit(MODEL.model_copy(update={"candidates": (wrong,)}), RUN, prepared, candidate="boosted")


def test_one_class_cannot_be_learned(prepared: Settings) -> None:
    change(prepared, "clean_actuals", DAYS, pl.lit(0.0).alias("arr_delay_minutes"))
    with pytest.raises(BadData, match="have the outcome 0"):
        fit(MODEL, RUN, prepared, candidate="linear")


def test_tables_that_are_not_there_are_said_in_words(settings: Settings) -> None:
    with pytest.raises(BadData, match="deliveries_flights does not exist yet"):
        fit(MODEL, RUN, settings, candidate="linear")


# --- evaluate ---------------------------------------------------------------------------------------------------------


def test_the_best_candidate_becomes_the_version_as_it_was_logged(prepared: Settings) -> None:
    fitted = fit_all(prepared)
    evaluated = evaluate(MODEL, RUN, prepared, fitted=fitted)
    mlflow = client(prepared)
    loss = {f.candidate: mlflow.get_run(f.run_id).data.metrics["log_loss"] for f in fitted}
    assert evaluated.candidate == min(loss, key=lambda name: loss[name])
    assert evaluated.metrics["log_loss"] == pytest.approx(loss[evaluated.candidate])
    assert evaluated.interval == fitted[0].judge
    assert evaluated.rows == evaluated.metrics["rows"] == 5 * FLIGHTS
    assert (evaluated.model, evaluated.version) == ("late_arrival", 1)
    best = next(f for f in fitted if f.candidate == evaluated.candidate)
    assert evaluated.run_id == best.run_id
    logged = Registry(prepared).get_fit(best.run_id)
    source = mlflow.get_model_version_download_uri("late_arrival", "1")
    assert source == mlflow.get_logged_model(logged.model_id).artifact_location
    tags = mlflow.get_model_version("late_arrival", "1").tags
    assert tags["fit_digest"] == best.digest
    assert (tags["day"], tags["candidate"]) == ("2013-03-22", best.candidate)
    assert (tags["judge_start"], tags["judge_end"]) == ("2013-03-17", "2013-03-21")
    assert float(tags["judged_log_loss"]) == evaluated.metrics["log_loss"]
    assert tags[EVALUATED] == "test"


def test_the_order_of_what_was_fitted_does_not_matter_and_the_first_declared_wins_a_tie(prepared: Settings) -> None:
    same = tuple(Candidate(name=name, params=MODEL.candidates[0].params) for name in ("b_first", "a_second"))
    model = MODEL.model_copy(update={"candidates": same})
    fitted = fit_all(prepared, model)
    assert fitted[0].digest != fitted[1].digest
    assert [evaluate(model, RUN, prepared, fitted=f).candidate for f in (fitted, fitted[::-1])] == ["b_first"] * 2


def test_again_finds_the_same_version(prepared: Settings) -> None:
    first = train(prepared)
    assert train(prepared) == first
    assert versions(prepared) == [1]
    assert len(runs(prepared)) == 2


def test_another_night_makes_another_version(prepared: Settings) -> None:
    train(prepared)
    assert train(prepared, run_day=RUN.shifted(start=1, end=1)).version == 2


def test_days_judged_must_be_later(prepared: Settings) -> None:
    fitted = fit(MODEL, RUN, prepared, candidate="linear")
    overlapping = fitted.model_copy(update={"judge": Interval(start=fitted.interval.end, end=fitted.judge.end)})
    with pytest.raises(BadData, match="was fitted on days to 2013-03-16 and would be judged on 2013-03-16"):
        evaluate(MODEL, RUN, prepared, fitted=[overlapping])
    assert versions(prepared) == []


def test_judged_on_the_rows_that_the_fits_saw_although_they_changed(prepared: Settings) -> None:
    fitted = fit_all(prepared)
    expected = evaluate(MODEL, RUN, prepared, fitted=fitted)
    change(prepared, "features_flights", DAYS, pl.lit(1.0).alias("departure_hour"))
    assert evaluate(MODEL, RUN, prepared, fitted=fitted) == expected


def test_candidates_that_saw_different_rows_are_not_compared(prepared: Settings) -> None:
    first = fit(MODEL, RUN, prepared, candidate="linear")
    change(prepared, "features_flights", DAYS, pl.lit(1.0).alias("departure_hour"))
    second = fit(MODEL, RUN, prepared, candidate="boosted")
    with pytest.raises(BadData, match="changed between the fits of linear, boosted"):
        evaluate(MODEL, RUN, prepared, fitted=[first, second])


def test_what_is_not_a_fit_of_the_day_is_refused(prepared: Settings) -> None:
    fitted = fit(MODEL, RUN, prepared, candidate="linear")
    with pytest.raises(NeedsAttention, match="no candidate was fitted"):
        evaluate(MODEL, RUN, prepared, fitted=[])
    with pytest.raises(BadData, match="is of the run day 2013-03-22, not of 2013-03-23"):
        evaluate(MODEL, RUN.shifted(start=1, end=1), prepared, fitted=[fitted])
    with pytest.raises(BadData, match="is not the fit it says it is"):
        evaluate(MODEL, RUN, prepared, fitted=[fitted.model_copy(update={"digest": "another"})])
    with pytest.raises(NeedsAttention, match="no run 0123"):
        evaluate(MODEL, RUN, prepared, fitted=[fitted.model_copy(update={"run_id": "0123"})])


# --- killed, and twice at once ----------------------------------------------------------------------------------------

KILLED_IN_FIT = {
    "while the estimator is fitted": (Pipeline, "fit"),
    "after the run was made": (MlflowClient, "log_inputs"),
    "before the model's files are there": (MlflowClient, "log_model_artifacts"),
    "before the run is finished": (MlflowClient, "set_terminated"),
    "after the run is finished": (Registry, "_mark_killed"),
}
KILLED_IN_EVALUATE = {
    "before the version is made": (MlflowClient, "create_model_version"),
    "before the version is tagged": (MlflowClient, "set_model_version_tag"),
}


def child(what: str, where: str) -> None:
    """Runs in a subprocess, with the settings of its environment. `where`: a place to be killed at, or a folder in
    which two processes wait for each other before they make a version."""
    settings = Settings()
    if what == "at once":
        create = MlflowClient.create_model_version

        def together(*arguments: Any, **named: Any) -> Any:
            (Path(where) / str(os.getpid())).touch()
            while len(list(Path(where).iterdir())) < 2:
                time.sleep(0.01)
            return create(*arguments, **named)

        MlflowClient.create_model_version = together  # type: ignore[method-assign]
        sys.stdout.write(train(settings).model_dump_json())
        return
    owner, method = {**KILLED_IN_FIT, **KILLED_IN_EVALUATE}[where]
    fitted = fit_all(settings) if what == "evaluate" else []
    setattr(owner, method, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
    if what == "evaluate":
        evaluate(MODEL, RUN, settings, fitted=fitted)
    else:
        fit(MODEL, RUN, settings, candidate="linear")


def start(settings: Settings, *arguments: str) -> "subprocess.Popen[str]":
    secrets = ("database_url", "mlflow_tracking_uri", "hash_key")
    given = {name: getattr(settings, name).get_secret_value() for name in secrets}
    given |= {name: getattr(settings, name) for name in ("landing", "tables", "artifacts", "run_id")}
    environment = {**os.environ, **{f"NIGHTLY_{name.upper()}": value for name, value in given.items()}}
    code = "import sys; from tests.integration import test_models; test_models.child(*sys.argv[1:])"
    root = Path(__file__).parents[2]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment, cwd=root, **pipes)


def killed(settings: Settings, *arguments: str) -> None:
    process = start(settings, *arguments)
    _, said = process.communicate(timeout=200)
    assert process.returncode == -signal.SIGKILL, said


@pytest.mark.parametrize("where", KILLED_IN_FIT)
def test_a_fit_that_was_killed_is_made_once(prepared: Settings, where: str) -> None:
    killed(prepared, "fit", where)
    left = {r.info.run_id for r in runs(prepared) if r.info.status == "FINISHED"}
    fitted = fit(MODEL, RUN, prepared, candidate="linear")
    statuses = [r.info.status for r in runs(prepared)]
    assert statuses.count("FINISHED") == 1
    assert set(statuses) <= {"FINISHED", "KILLED"}
    assert not left or left == {fitted.run_id}, "a finished fit is taken up"
    assert bool(left) == (where == "after the run is finished")
    assert train(prepared).version == 1
    assert versions(prepared) == [1]


@pytest.mark.parametrize("where", KILLED_IN_EVALUATE)
def test_an_evaluation_that_was_killed_makes_one_version(prepared: Settings, where: str) -> None:
    killed(prepared, "evaluate", where)
    assert versions(prepared) == ([] if where == "before the version is made" else [1])
    evaluated = train(prepared)
    assert versions(prepared) == [evaluated.version]
    assert Registry(prepared).get_version("late_arrival", evaluated.version or 0).evaluated
    assert [r.info.status for r in runs(prepared)] == ["FINISHED"] * 2


def test_two_trainings_at_once_make_one_version(prepared: Settings, tmp_path: Path) -> None:
    """Both fit, and both find no version before either creates one."""
    meet = tmp_path / "meet"
    meet.mkdir()
    both = [start(prepared, "at once", str(meet)) for _ in range(2)]
    said = [process.communicate(timeout=200) for process in both]
    assert [process.returncode for process in both] == [0, 0], "\n".join(errors for _, errors in said)
    made = [Evaluated.model_validate_json(out) for out, _ in said]
    assert len(list(meet.iterdir())) == 2
    assert made[0].version == made[1].version
    assert versions(prepared) == [made[0].version]
    assert train(prepared).version == made[0].version


# --- promote ----------------------------------------------------------------------------------------------------------


def ledger(settings: Settings) -> list[tuple[int, date]]:
    with database.engine(settings).connect() as connection:
        rows = connection.execute(sa.text("SELECT model_version, from_day FROM promotions ORDER BY id"))
        return [(version, day) for version, day in rows]


def publish(settings: Settings, day: date, version: int) -> None:
    """A published batch without rows."""
    batch = "00000000-0000-0000-0000-000000000001"
    statements = """
        INSERT INTO models VALUES ('late_arrival', 'flights', 'late_arrival', 'classification', 't', 'o');
        INSERT INTO batches (batch_id, model, day, model_version, rows, digest, as_of, run_id)
            VALUES (:batch, 'late_arrival', :day, :version, 0, repeat('0', 64), now(), 'test');
        INSERT INTO published VALUES ('late_arrival', :day, :batch, 'test', now());
    """
    with database.engine(settings).begin() as connection:
        connection.execute(sa.text(statements), {"batch": batch, "day": day, "version": version})


def test_a_promotion_writes_the_ledger_then_the_alias(trained: Settings) -> None:
    promotion = promote(MODEL, after(1), trained, version=1, by="Ada", why="first")
    assert (promotion.interval, promotion.version, promotion.rows) == (after(1), 1, 1)
    assert (promotion.model, promotion.by, promotion.why) == ("late_arrival", "Ada", "first")
    assert ledger(trained) == [(1, after(1).start)]
    assert Registry(trained).aliased("late_arrival") == 1
    assert database.champions(trained, "late_arrival", RUN.shifted(end=1)) == {after(1).start: 1}


def test_promoting_again_writes_nothing_and_mends_the_alias(trained: Settings) -> None:
    promote(MODEL, after(1), trained, version=1, by="Ada", why="first")
    client(trained).set_registered_model_alias("late_arrival", "champion", "2")
    publish(trained, after(3).start, 1)
    again = promote(MODEL, after(1), trained, version=1, by="Ada", why="first")
    assert again.rows == 0
    assert ledger(trained) == [(1, after(1).start)]
    assert Registry(trained).aliased("late_arrival") == 1


def test_killed_between_ledger_and_alias_it_is_mended(trained: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise ConnectionError

    with monkeypatch.context() as patch, pytest.raises(ConnectionError):
        patch.setattr(Registry, "point", fails)
        promote(MODEL, after(1), trained, version=1, by="Ada", why="first")
    assert ledger(trained) == [(1, after(1).start)]
    assert Registry(trained).aliased("late_arrival") is None
    assert mend_alias(MODEL, trained) == 1
    assert Registry(trained).aliased("late_arrival") == 1


def test_the_alias_follows_the_ledger_not_the_last_promotion(trained: Settings) -> None:
    promote(MODEL, after(5), trained, version=2, by="Ada", why="better")
    promote(MODEL, after(2), trained, version=1, by="Ada", why="until then")
    assert Registry(trained).aliased("late_arrival") == 2
    days = Interval(start=after(2).start, end=after(5).start)
    assert list(database.champions(trained, "late_arrival", days).values()) == [1, 1, 1, 2]


def test_without_a_champion_there_is_no_alias(trained: Settings) -> None:
    assert mend_alias(MODEL, trained) is None
    assert Registry(trained).aliased("late_arrival") is None


def test_a_published_day_is_not_rewritten(trained: Settings) -> None:
    promote(MODEL, after(2), trained, version=1, by="Ada", why="first")
    publish(trained, after(4).start, 1)
    for days in (3, 4):
        with pytest.raises(NeedsAttention, match=r"2013-03-26, the newest day published.*rewrite the past"):
            promote(MODEL, after(days), trained, version=2, by="Ada", why="better")
    assert ledger(trained) == [(1, after(2).start)]
    assert Registry(trained).aliased("late_arrival") == 1
    promote(MODEL, after(5), trained, version=2, by="Ada", why="better")
    assert ledger(trained) == [(1, after(2).start), (2, after(5).start)]


@pytest.mark.parametrize("days", [0, -9])
def test_a_version_is_no_champion_of_days_whose_outcomes_it_has_seen(trained: Settings, days: int) -> None:
    with pytest.raises(NeedsAttention, match=r"trained on 2013-03-22.*from the day after"):
        promote(MODEL, after(days), trained, version=1, by="Ada", why="first")
    assert ledger(trained) == []


def test_a_version_that_there_is_not_is_refused(trained: Settings) -> None:
    with pytest.raises(NeedsAttention, match="no version 3 in the registry; the newest are 2, 1"):
        promote(MODEL, after(3), trained, version=3, by="Ada", why="first")
    assert ledger(trained) == []


def test_a_version_that_nobody_judged_is_refused(trained: Settings) -> None:
    """As a step leaves it that was killed before it looked whether another had made a version of the same fit."""
    fit_run = Registry(trained).get_fit(fit(MODEL, after(2), trained, candidate="linear").run_id)
    client(trained).create_model_version("late_arrival", f"runs:/{fit_run.run_id}/x", fit_run.run_id, tags=fit_run.tags)
    with pytest.raises(NeedsAttention, match="version 3 of late_arrival was not made by evaluate"):
        promote(MODEL, after(4), trained, version=3, by="Ada", why="first")
    assert ledger(trained) == []


def test_a_version_of_another_model_is_refused(trained: Settings) -> None:
    client(trained).set_model_version_tag("late_arrival", "1", "model", "another")
    with pytest.raises(NeedsAttention, match="was not made by evaluate"):
        promote(MODEL, after(4), trained, version=1, by="Ada", why="first")


@pytest.mark.parametrize(("by", "why"), [("", "better"), ("Ada", " ")])
def test_a_promotion_says_who_and_why(trained: Settings, by: str, why: str) -> None:
    with pytest.raises(NeedsAttention, match="who decided it and why"):
        promote(MODEL, after(1), trained, version=1, by=by, why=why)


# --- score, and all together ------------------------------------------------------------------------------------------


def test_a_night_from_training_to_scores(prepared: Settings) -> None:
    """As `cli` and the DAGs call the steps: through `run`, which records each."""
    fitted = [run("fit", MODEL, RUN, prepared, candidate=c.name) for c in MODEL.candidates]
    evaluated = run("evaluate", MODEL, RUN, prepared, fitted=fitted)
    run("promote", MODEL, after(1), prepared, version=evaluated.version, by="Ada", why="first")
    days = Interval(start=DAY, end=DAYS.end)
    champions = database.champions(prepared, "late_arrival", days)
    scored: Any = run("score", MODEL, days, prepared, versions=champions)
    assert scored.unscored == (DAY,)
    assert {d.day: d.rows for d in scored.days} == dict.fromkeys(days.days[1:], FLIGHTS)
    rows = Tables(prepared).scan("scores_late_arrival").collect()
    assert rows.height == scored.rows == FLIGHTS * 6
    judged = flights().join(rows, on=["day", "entity_id"])
    late = (judged["arr_delay_minutes"].is_null() | (judged["arr_delay_minutes"] > 15)).cast(pl.Float64)
    assert learning.metrics("classification", late.to_numpy(), judged["score"].to_numpy())["roc_auc"] > 0.7
    with database.engine(prepared).connect() as connection:
        recorded = connection.execute(sa.text("SELECT step, state, version FROM step_runs ORDER BY id")).all()
    assert [tuple(row) for row in recorded] == [
        ("fit", "success", None),
        ("fit", "success", None),
        ("evaluate", "success", 1),
        ("promote", "success", 1),
        ("score", "success", scored.version),
    ]


def test_a_day_alone_scores_as_in_a_range_to_the_bit(prepared: Settings) -> None:
    version = train(prepared).version or 0
    days = Interval(start=DAYS.start, end=DAYS.end)
    score(MODEL, days, prepared, versions=dict.fromkeys(days.days, version))
    in_range = Tables(prepared).scan("scores_late_arrival").sort("day", "entity_id").collect()
    for day in days.days[::6]:
        score(MODEL, Interval.of(day), prepared, versions={day: version})
    alone = Tables(prepared).scan("scores_late_arrival").sort("day", "entity_id").collect()
    assert alone.equals(in_range)


@pytest.mark.parametrize("candidate", [c.name for c in MODEL.candidates])
def test_what_was_never_seen_is_scored(prepared: Settings, candidate: str) -> None:
    """Labels of a new carrier, and a day of which no weather is known."""
    fitted = fit(MODEL, RUN, prepared, candidate=candidate)
    version = evaluate(MODEL, RUN, prepared, fitted=[fitted]).version or 0
    nothing = [pl.lit(None, pl.Float64).alias(name) for name in MODEL.numeric if name != "departure_hour"]
    labels = [pl.lit("ZZ").alias("carrier"), pl.lit(None, pl.String).alias("dest")]
    change(prepared, "features_flights", RUN, *nothing, *labels)
    scored = score(MODEL, RUN, prepared, versions={DAY: version})
    assert scored.rows == FLIGHTS
    found = Tables(prepared).scan("scores_late_arrival").collect()["score"]
    assert found.is_between(0, 1).all()


def test_a_column_without_any_value_can_be_trained_on(prepared: Settings) -> None:
    change(prepared, "features_flights", DAYS, pl.lit(None, pl.Float64).alias("wind_gust_mph"))
    assert train(prepared).version == 1


def test_a_version_whose_column_is_gone_says_so(prepared: Settings) -> None:
    version = train(prepared).version or 0
    tables = Tables(prepared)
    shorter = tables.scan("features_flights").drop("humidity_percent").collect()
    elsewhere = prepared.model_copy(update={"tables": f"{prepared.tables}_after"})
    Tables(elsewhere).replace("features_flights", shorter, WHOLE, sort_by=["day", "entity_id"])
    with pytest.raises(BadData, match=f"late_arrival, version {version}, needs humidity_percent"):
        score(MODEL, RUN, elsewhere, versions={DAY: version})


REGRESSION = """
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.pipeline import Pipeline


def build(params, numeric, categorical, seed):
    numbers = ColumnTransformer([("numbers", "passthrough", list(numeric))])
    return Pipeline([("prepare", numbers), ("fit", HistGradientBoostingRegressor(random_state=seed, **params))])
"""


@pytest.fixture
def arrival_delay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """A second model, as a folder that brings no more than its declaration and its estimator."""
    folder = tmp_path / "projects" / "flights" / "models" / "arrival_delay"
    folder.mkdir(parents=True)
    (folder / "estimator.py").write_text(REGRESSION, encoding="utf-8")
    monkeypatch.setattr("include.config.PROJECTS", tmp_path / "projects")
    name = "include.projects.flights.models.arrival_delay.estimator"
    module = ModuleType(name)
    exec(REGRESSION, module.__dict__)  # noqa: S102  # a module that is not below `include`
    monkeypatch.setitem(sys.modules, name, module)
    candidates: Sequence[Candidate] = [Candidate(name=f"trees_{n}", params={"max_iter": n}) for n in (2, 30)]
    return MODEL.model_copy(
        update={
            "name": "arrival_delay",
            "outcome": "arrival_delay",
            "task": "regression",
            "numeric": ("departure_hour", "precipitation_inches"),
            "categorical": (),
            "candidates": tuple(candidates),
        }
    )


def test_a_second_model_of_another_kind_needs_a_folder_only(prepared: Settings, arrival_delay: Model) -> None:
    evaluated = train(prepared, arrival_delay)
    assert evaluated.candidate == "trees_30"
    assert evaluated.metrics.keys() == {"rows", "mae", "rmse", "r2"}
    known = flights().filter(pl.col("day").is_between(evaluated.interval.start, evaluated.interval.end))
    assert evaluated.rows == known["arr_delay_minutes"].drop_nulls().len() < known.height
    assert evaluated.metrics["r2"] > 0.2
    promote(arrival_delay, after(1), prepared, version=evaluated.version or 0, by="Ada", why="first")
    scored = score(arrival_delay, after(1), prepared, versions={after(1).start: 1})
    assert scored.rows == FLIGHTS, "scored for all, also where there will be no value"
    rows = Tables(prepared).scan("scores_arrival_delay").collect()
    assert rows["prediction"].to_list() == rows["score"].to_list()
    assert rows["score"].max() > 10
    assert versions(prepared, "late_arrival") == []

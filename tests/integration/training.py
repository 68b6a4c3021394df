"""Data for tests of training, gate and promotion: a month of features and outcomes, small and quick to fit.

Tables are written directly, as earlier steps would leave them; `conftest.py` has the fixtures.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import sqlalchemy as sa
from mlflow import MlflowClient
from mlflow.entities import Run
from pydantic import SecretStr

from include.config.loading import load_model, load_project
from include.config.model import Model
from include.core.interval import Interval
from include.core.journal import Entry
from include.core.records import Evaluated, Fitted, GateDecision, PreparedDay
from include.core.settings import Settings
from include.gate.config import Gate
from include.io import postgres
from include.io.tables import Scope, Tables
from include.steps.evaluate import evaluate
from include.steps.fit import fit
from include.steps.gate import gate
from include.training.config import Candidate
from tests import deliveries

PROJECT = load_project("ferries")
DAYS = Interval(start=date(2013, 3, 1), end=date(2013, 3, 28))
DAY = date(2013, 3, 22)  # the run date, which knows outcomes up to the 21st
RUN = Interval.of(DAY)
WHOLE = Scope(Interval(start=date(2013, 1, 1), end=date(2013, 12, 31)))
FERRIES = 120  # per day
GATE = Gate.model_validate({
    "checks": [  # thresholds that 600 invented rows can meet
        {"kind": "enough_rows", "at_least": 400},
        {"kind": "quality", "metric": "roc_auc", "at_least": 0.7},
        {"kind": "calibration", "at_most": 0.15},
        {"kind": "calibration_error", "at_most": 0.2},
        {"kind": "linear_baseline", "at_most": 0.1},
        {"kind": "champion", "at_most": 0.1, "min_rows": 400},
        {"kind": "slices", "by": ["origin", "company"], "min_rows": 100, "at_most": 0.1},
        {"kind": "leakage_check", "metric": "roc_auc", "at_most": 0.97},
        {"kind": "scoring_time", "at_most": 5000},
    ]
})
MODEL = load_model("late_ferry").model_copy(
    update={
        "candidates": (
            Candidate(name="linear", params={"kind": "linear", "C": 0.1}),
            Candidate(name="boosted", params={"kind": "boosted", "max_iter": 15, "min_samples_leaf": 50}),
        ),
        "train_days": 19,
        "validation_days": 3,
        "holdout_days": 5,
        "min_fit_days": 8,
        "gate": GATE,
    }
)
_numbers = itertools.count()


# --- results of earlier steps -----------------------------------------------------------------------------------------


def ferries() -> pl.DataFrame:
    """Return key, features and delay of each ferry of DAYS; some values are missing, as in real data."""
    rng = np.random.default_rng(5)
    n = FERRIES * len(DAYS.days)
    days = [day for day in DAYS.days for _ in range(FERRIES)]
    numbers = {name: rng.normal(size=n) for name in MODEL.numeric}
    numbers["leaving_hour"] = rng.uniform(5, 23, n)
    numbers["wind_gust_mph"] = np.where(rng.random(n) < 0.7, np.nan, rng.uniform(15, 50, n))
    numbers["winds_missing"] = (rng.random(n) < 0.02).astype(float)
    labels = {
        "company": rng.choice(["UA", "B6", "EV", "DL"], n),
        "origin": rng.choice(["BAT", "PAU", "STG"], n),
        "dest": rng.choice(["HOB", "ORD", "ATL", "BOS", "MIA"], n),
    }
    delay = 4 * (numbers["leaving_hour"] - 15) + 12 * (labels["company"] == "EV")
    delay += 8 * numbers["precipitation_inches"]
    delay = np.where(rng.random(n) < 0.03, np.nan, delay + rng.normal(scale=20, size=n))
    return pl.DataFrame({
        "day": days,
        "entity_id": [f"{company}-{i % FERRIES}" for i, company in enumerate(labels["company"])],
        **labels,
        **numbers,
        "delay_minutes": delay,
    }).with_columns(pl.selectors.float().fill_nan(None))


def write_all(settings: Settings, *, without: Sequence[tuple[str, date]] = ()) -> None:
    """Enter deliveries, and write clean logbook and features of DAYS, as their own runs make them."""
    tables, rows = Tables(settings), ferries()
    moments = pl.DataFrame({"day": DAYS.days, "as_of": [PROJECT.cutoff_at(day) for day in DAYS.days]})
    features = rows.drop("delay_minutes").join(moments, on="day").with_columns(data_view=pl.lit("point_in_time"))
    tables.replace("features_ferries", features, WHOLE, sort_by=["day", "entity_id"])
    tables.replace("clean_ferries__logbook", logbook(rows), WHOLE, sort_by=["day", "entity_id"])
    enter_all(settings, without=without)
    prepare_all(settings)


def prepare_all(settings: Settings) -> None:
    """Record DAYS as prepared, with the newest version of the features."""
    counted = dict(Tables(settings).scan("features_ferries").group_by("day").len().collect().iter_rows())
    prepared_days = [
        PreparedDay(
            project=PROJECT.name,
            day=day,
            data_view="point_in_time",
            as_of=PROJECT.cutoff_at(day),
            watermark=0,
            deliveries=(),
            table_versions={"features_ferries": Tables(settings).version("features_ferries")},
            rows=counted.get(day, 0),
        )
        for day in DAYS.days
    ]
    postgres.days.record_prepared_days(settings, PROJECT.name, prepared_days)


def enter_all(settings: Settings, *, without: Sequence[tuple[str, date]] = ()) -> None:
    """Enter the deliveries of DAYS into the journal, except some feeds of some days."""
    listed = [
        entry
        for day in DAYS.days
        for feed, needed in PROJECT.required(day).items()
        if (feed, needed) not in without
        for entry in listing(feed, needed, minutes_before_cutoff=30, of=day)
    ]
    deliveries.enter(settings, PROJECT, listed)


def logbook(rows: pl.DataFrame, name: str = "a") -> pl.DataFrame:
    delivery_id = pl.format("logbook/{}/{}", pl.lit(name), "day").alias("delivery_id")
    return rows.select("day", delivery_id, "entity_id", "delay_minutes")


def listing(feed: str, day: date, *, minutes_before_cutoff: int, of: date, name: str = "a") -> list[Entry]:
    moment = PROJECT.cutoff_at(of) - timedelta(minutes=minutes_before_cutoff)
    return deliveries.delivery(feed, day, f"{feed}/{name}/{day}", available_from=moment, rows=FERRIES)


def correct(settings: Settings, day: date, *, minutes_before_cutoff: int) -> None:
    """Write a second delivery of a day's logbook, in which all ferries are late.

    Args:
        minutes_before_cutoff: how long before the cutoff of DAY it is available.
    """
    tables = Tables(settings)
    delivery = listing("logbook", day, minutes_before_cutoff=minutes_before_cutoff, of=DAY, name="again")
    scope = Scope.of_deliveries([day], [delivery[0].subject])
    of_day = ferries().filter(pl.col("day") == day).with_columns(delay_minutes=pl.lit(99.0))
    tables.replace("clean_ferries__logbook", logbook(of_day, "again"), scope, sort_by=["entity_id"])
    deliveries.enter(settings, PROJECT, delivery)


def change(settings: Settings, table: str, days: Interval, *changes: pl.Expr) -> None:
    tables = Tables(settings)
    tables.replace(table, lambda rows: rows.with_columns(*changes), Scope(days), sort_by=["day", "entity_id"])
    if table == "features_ferries":
        prepare_all(settings)


@contextmanager
def cloned(postgres_url: sa.URL, template: str) -> Iterator[SecretStr]:
    """Yield the URL of a copy of a database."""
    name = f"mlflow_{next(_numbers)}_of_models"
    # MLflow keeps connections open, and PostgreSQL does not copy a database that has any.
    administer(postgres_url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{template}'")
    administer(postgres_url, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    yield in_database(postgres_url, name)
    administer(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


def in_database(postgres_url: sa.URL, database_name: str) -> SecretStr:
    return SecretStr(postgres_url.set(database=database_name).render_as_string(hide_password=False))


def administer(url: sa.URL, statement: str) -> None:
    engine = sa.create_engine(url.set(drivername="postgresql+psycopg2"), poolclass=sa.NullPool)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(statement))


# --- helpers ----------------------------------------------------------------------------------------------------------


def after(days: int) -> Interval:
    return Interval.of(DAY + timedelta(days=days))


def fit_all(settings: Settings, model: Model = MODEL, run_date: Interval = RUN) -> list[Fitted]:
    """Fit all candidates and record their files, as the runner does, but no training."""
    return [fit_one(settings, c.name, model, run_date) for c in model.candidates]


def fit_one(
    settings: Settings, candidate: str, model: Model = MODEL, run_date: Interval = RUN, **options: Any
) -> Fitted:
    """Fit a candidate and record its files."""
    fitted = fit(model, run_date, settings, candidate=candidate, **options)
    postgres.model_files.record_fit(settings, fitted)
    return fitted


def train(settings: Settings, model: Model = MODEL, run_date: Interval = RUN) -> Evaluated:
    return evaluate(model, run_date, settings, fitted=fit_all(settings, model, run_date))


def train_and_gate(settings: Settings, model: Model = MODEL, run_date: Interval = RUN) -> GateDecision:
    """Train, and run the gate on the version."""
    fitted = fit_all(settings, model, run_date)
    return gate(model, run_date, settings, evaluated=evaluate(model, run_date, settings, fitted=fitted), fitted=fitted)


def client(settings: Settings) -> MlflowClient:
    return MlflowClient(settings.mlflow_tracking_uri.get_secret_value())


def versions(settings: Settings, model: str = "late_ferry") -> list[int]:
    return sorted(int(v.version) for v in client(settings).search_model_versions(f"name = '{model}'"))


def runs(settings: Settings) -> list[Run]:
    mlflow = client(settings)
    experiment = mlflow.get_experiment_by_name("ferries/late_ferry")
    return list(mlflow.search_runs([experiment.experiment_id])) if experiment else []

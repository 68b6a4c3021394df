"""A model that was fitted elsewhere becomes a version: real files of MLflow, real PostgreSQL."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import mlflow.sklearn
import numpy as np
import pandas as pd
import polars as pl
import pytest
from mlflow.models import infer_signature
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_selection import VarianceThreshold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder

from include.core.errors import ActionRequiredError, DataError
from include.core import schemas
from include.core.records import Adopted, Evaluated, Fitted, GateDecision
from include.core.settings import Settings
from include.io import postgres
from include.io.registry import Registry
from include.io.tables import Scope, Tables
from include.operations.adopt_model import read_adopted
from include.operations.reproduce import reproduce
from include.runner.run import run
from include.training.training_set import estimator_inputs
from tests.integration import small
from tests.integration.test_model_files import Planted
from tests.integration.training import FERRIES, MODEL, PROJECT, RUN, after, client, ferries, fit_one, listing, versions

pytestmark = pytest.mark.timeout(300)

UNTIL = date(2013, 3, 13)  # the validation days of RUN begin on the 14th
PERSON = {"by": "Ada", "why": "it runs since 2012"}


def home_rows() -> tuple[pd.DataFrame, np.ndarray]:
    """Return the inputs and outcomes that a notebook has."""
    rows = ferries().filter(pl.col("day") <= UNTIL)
    late = (rows["delay_minutes"].fill_null(99) > 15).to_numpy().astype(int)
    return estimator_inputs(rows, MODEL.numeric, MODEL.categorical), late


def home_model(*, shuffled: bool = False, max_iter: int = 15) -> Pipeline:
    """Return a Pipeline of a notebook, fitted; `shuffled` on outcomes in any order, so that it learned nothing."""
    nan = float("nan")
    labels = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=nan, encoded_missing_value=nan)
    prepare = ColumnTransformer([
        ("labels", labels, list(MODEL.categorical)),
        ("numbers", VarianceThreshold(), list(MODEL.numeric)),
    ])
    classify = HistGradientBoostingClassifier(max_iter=max_iter, min_samples_leaf=50, random_state=1)
    features, late = home_rows()
    if shuffled:
        late = np.random.default_rng(1).permutation(late)
    return Pipeline([("prepare", prepare), ("classify", classify)]).fit(features, late)


def saved(folder: Path, estimator: Any, *, signature: Any = None, kind: str = "cloudpickle", **more: Any) -> Path:
    """Write the folder that `mlflow.sklearn.save_model` makes in a notebook."""
    if kind == "skops":
        more["skops_trusted_types"] = MODEL.serialization.trusted  # type: ignore[union-attr]
    more.setdefault("pip_requirements", ["numpy"])
    mlflow.sklearn.save_model(estimator, str(folder), serialization_format=kind, signature=signature, **more)
    return folder


def adopt(settings: Settings, source: object, **about: Any) -> Adopted:
    """Adopt as the command line does, with a trusted pickle."""
    given = {"trained_until": UNTIL, "trust_pickle": "Ada's own notebook", **PERSON, **about}
    found = run("adopt_model", MODEL, RUN, settings, source=str(source), **given)
    assert isinstance(found, Adopted)
    return found


def gated(settings: Settings, adopted: Adopted) -> GateDecision:
    linear: Fitted = fit_one(settings, "linear")
    evaluated = run("evaluate", MODEL, RUN, settings, fitted=[adopted])
    assert isinstance(evaluated, Evaluated)
    decision = run("gate", MODEL, RUN, settings, evaluated=evaluated, fitted=[adopted, linear])
    assert isinstance(decision, GateDecision)
    return decision


def describe_entities(settings: Settings) -> None:
    """Write the clean rows of the ferries of the day after, which publishing needs, and name them in its record."""
    day, tables = after(1).start, Tables(settings)
    delivery = listing("sailings", day, minutes_before_cutoff=30, of=day)[0].subject
    rows = ferries().filter(pl.col("day") == day).select("day", "entity_id", "company", "origin", "dest")
    shape = schemas.clean(PROJECT, PROJECT.feeds["sailings"])
    rows = rows.with_columns(pl.lit(delivery).alias("delivery_id"), pl.int_range(pl.len()).alias("_row"))
    rows = rows.with_columns(pl.col("_row").alias("ferry"), pl.lit(small.as_of(day)).alias("departs_at"))
    absent = [pl.lit(None, kind).alias(name) for name, kind in shape.items() if name not in rows.columns]
    clean = rows.with_columns(absent).select(shape.keys())
    tables.replace("clean_ferries__sailings", clean, Scope.of_deliveries([day], [delivery]), sort_by=["_row"])
    [prepared_day] = postgres.days.read_prepared_days(settings, PROJECT.name, after(1))
    used = prepared_day.model_copy(update={"deliveries": (delivery,)})
    postgres.days.record_prepared_days(settings, PROJECT.name, [used])


def test_a_pickle_of_a_notebook_is_adopted_gated_promoted_scored_published_and_reproduced(
    prepared: Settings, tmp_path: Path
) -> None:
    features, late = home_rows()
    estimator = home_model()
    folder = saved(tmp_path / "home", estimator, signature=infer_signature(features, late))
    adopted = adopt(prepared, folder)
    assert (adopted.candidate, adopted.interval.end, adopted.trusted_pickle) == (
        "adopted",
        UNTIL,
        "Ada's own notebook",
    )
    recorded = postgres.model_files.read_fit(prepared, MODEL.name, adopted.run_id)
    assert (recorded.fit_end, recorded.adopted_from) == (UNTIL, str(folder))
    [decided] = small.select(prepared, "SELECT action, subject, by, why FROM human_actions")
    assert decided == {"action": "adopt", "subject": f"late_ferry {adopted.run_id}", **PERSON}

    decision = gated(prepared, adopted)
    assert decision.passed, decision.why_not
    assert (decision.checks[0].name, decision.checks[0].measured) == ("unseen days", 0)
    assert f"adopted from {folder}" in decision.checks[0].sentence
    loaded = Registry(prepared).load(Registry(prepared).get_version(MODEL.name, 1), adopted.model_digest, MODEL)
    rows = ferries()
    own = estimator.predict_proba(estimator_inputs(rows, MODEL.numeric, MODEL.categorical))[:, 1]
    assert loaded.predict(rows).tolist() == own.tolist()

    assert adopt(prepared, folder, why="again").run_id == adopted.run_id
    assert gated(prepared, read_adopted(MODEL, 1, prepared)).gate_id == decision.gate_id
    assert versions(prepared) == [1]
    assert len(small.select(prepared, "SELECT * FROM human_actions")) == 1

    describe_entities(prepared)
    run("promote", MODEL, after(1), prepared, version=1, by="Ada", why="it passed")
    day = after(1).start
    run("score", MODEL, after(1), prepared, versions={day: 1})
    published = run("publish", MODEL, after(1), prepared)
    assert published.rows == FERRIES
    again = reproduce(MODEL, 1, prepared)
    assert (again.differing, again.rows) == (0, 64)
    assert "cannot be repeated" in (again.note or "")
    with pytest.raises(ActionRequiredError, match="version 2"):
        read_adopted(MODEL, 2, prepared)

"""A model that was fitted elsewhere becomes a version: real files of MLflow, real PostgreSQL."""

import os
import re
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import cloudpickle
import mlflow.sklearn
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
import sqlalchemy as sa
from mlflow.models import infer_signature
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_selection import VarianceThreshold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder
from typer.testing import CliRunner

from include import cli
from include.core import schemas
from include.core.errors import ActionRequiredError, DataError
from include.core.records import Adopted, Evaluated, Fitted, GateDecision
from include.core.settings import Settings
from include.io import postgres
from include.io.registry import Registry
from include.io.registry.client import MlflowConnection
from include.io.tables import Scope, Tables
from include.operations.adopt_model import read_adopted
from include.operations.reproduce import reproduce
from include.runner.run import run
from include.training.serialization import TRUSTED_TYPES
from include.training.training_set import estimator_inputs
from tests.conftest import Install
from tests.integration import small
from tests.integration.nights import Killed
from tests.integration.test_model_files import Planted
from tests.integration.training import (
    FERRIES,
    MODEL,
    PROJECT,
    RUN,
    after,
    client,
    cloned,
    ferries,
    fit_one,
    listing,
    runs,
    versions,
    write_all,
)

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


def saved(folder: Path, estimator: Any, *, signature: Any = None, **more: Any) -> Path:
    """Write the folder that `mlflow.sklearn.save_model` makes in a notebook."""
    more.setdefault("pip_requirements", ["numpy"])
    mlflow.sklearn.save_model(estimator, str(folder), serialization_format="cloudpickle", signature=signature, **more)
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
    with postgres.connection.engine(settings).begin() as connection:
        named = {"used": [delivery], "day": day}
        connection.execute(sa.text("UPDATE prepared_days SET deliveries = :used WHERE day = :day"), named)


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


def test_a_source_is_a_run_a_registered_version_or_a_folder(prepared: Settings, tmp_path: Path) -> None:
    features, late = home_rows()
    mlflow.set_tracking_uri(prepared.mlflow_tracking_uri.get_secret_value())
    client(prepared).create_experiment("notebooks", artifact_location=str(tmp_path / "artifacts"))
    try:
        mlflow.set_experiment("notebooks")
        with mlflow.start_run() as notebook:
            logged = mlflow.sklearn.log_model(
                home_model(),
                name="model",
                registered_model_name="old",
                signature=infer_signature(features, late),
                serialization_format="skops",
                skops_trusted_types=list(TRUSTED_TYPES),
                pip_requirements=["numpy"],
            )
    finally:
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
    run_id, skops = notebook.info.run_id, {"trust_pickle": None}
    by_run = adopt(prepared, f"runs:/{run_id}/model", **skops)
    assert (by_run.source_run, by_run.trusted_pickle) == (run_id, None)
    recorded = postgres.model_files.read_fit(prepared, MODEL.name, by_run.run_id)
    assert (recorded.adopted_from, recorded.adopted_run) == (f"runs:/{run_id}/model", run_id)
    by_version = adopt(prepared, "models:/old/1", **skops)
    assert by_version.run_id == by_run.run_id, "the same file is adopted once"
    assert adopt(prepared, logged.model_uri, **skops).run_id == by_run.run_id
    for unknown in ("models:/old/7", "runs:/0123456789abcdef0123456789abcdef/model", f"runs:/{run_id}/other"):
        with pytest.raises(ActionRequiredError, match="has no such model"):
            adopt(prepared, unknown)
    for wrong in (str(tmp_path), "https://example.org/model", "s3://bucket/model"):
        with pytest.raises(ActionRequiredError, match="no folder with a file MLmodel"):
            adopt(prepared, wrong)


def test_a_pickle_that_runs_code_never_runs_unless_a_person_says_why_and_then_in_a_process_of_its_own(
    prepared: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proof, folder = tmp_path / "proof", saved(tmp_path / "home", home_model())
    (folder / "model.pkl").write_bytes(cloudpickle.dumps(Planted(proof)))
    with pytest.raises(ActionRequiredError, match=r"is a pickle .* Nothing of it was loaded"):
        adopt(prepared, folder, trust_pickle=None)
    with pytest.raises(ActionRequiredError, match="needs the reason"):
        adopt(prepared, folder, trust_pickle=" ")
    text = (folder / "MLmodel").read_text(encoding="utf-8")
    (folder / "MLmodel").write_text(text.replace("cloudpickle", "skops"), encoding="utf-8")
    with pytest.raises(ActionRequiredError, match="is a pickle"):
        adopt(prepared, folder, trust_pickle=None)
    (folder / "MLmodel").write_text(text.replace("model.pkl", "../proof"), encoding="utf-8")
    with pytest.raises(ActionRequiredError, match="there is no file"):
        adopt(prepared, folder, trust_pickle=None)
    (folder / "MLmodel").write_text(text, encoding="utf-8")
    assert not proof.exists()
    assert not runs(prepared)

    monkeypatch.setenv("NIGHTLY_HASH_KEY", "the secret")
    shown = tmp_path / "shown"
    (folder / "model.pkl").write_bytes(cloudpickle.dumps(Curious(shown)))
    with pytest.raises((ActionRequiredError, DataError)):
        adopt(prepared, folder)
    seen = shown.read_text(encoding="utf-8")
    assert f"pid {os.getpid()}" not in seen, "it was loaded in the process of the command"
    assert "the secret" not in seen
    assert "PATH" in seen


class Curious:
    """Writes down its process and environment when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        code = "import os, pathlib; pathlib.Path({!r}).write_text(f'pid {{os.getpid()}} {{dict(os.environ)}}')"
        return (exec, (code.format(str(self.file)),))


def wrong_estimator(folder: Path) -> Path:
    features, late = home_rows()
    words = np.where(late == 1, "late", "in time")
    return saved(folder, home_model().set_params(classify__max_iter=2).fit(features, words))


def of_other_columns(folder: Path) -> Path:
    features, late = home_rows()
    renamed = features.rename(columns={"leaving_hour": "hour"})
    return saved(folder, home_model(), signature=infer_signature(renamed, late))


def of_another_library(folder: Path, estimator: Any) -> Path:
    described = saved(folder, estimator) / "MLmodel"
    text = described.read_text(encoding="utf-8")
    described.write_text(
        text.replace(f"sklearn_version: {sklearn.__version__}", "sklearn_version: 1.2.0"), encoding="utf-8"
    )
    return folder


def with_unknown_types(folder: Path) -> Path:
    features, late = home_rows()
    own = Pipeline([("own", OwnStep()), ("home", home_model())])
    own.steps[0][1].fit(features, late)
    return saved(folder, own)


class OwnStep(TransformerMixin, BaseEstimator):
    """A step of a notebook that leaves columns as they are."""

    def fit(self, X: pd.DataFrame, y: Any = None) -> "OwnStep":
        self.fitted_ = True
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        return X


REFUSED: dict[str, tuple[Callable[[Path], Path], dict[str, Any], str]] = {
    "other columns": (
        of_other_columns,
        {},
        "its signature has the column hour, and model.yaml has not; there is leaving_hour",
    ),
    "another problem type": (wrong_estimator, {}, "needs the classes 0 and 1, and the estimator has in time, late"),
    "types that nobody named": (
        with_unknown_types,
        {},
        r"types that model.yaml does not allow: .*OwnStep.*\{kind: skops, types: \[.*OwnStep\]\}",
    ),
    "a library of another version": (
        lambda folder: of_another_library(folder, home_model()),
        {},
        "scikit-learn 1.2.0 .*--scores FILE",
    ),
    "a validation day in its training": (
        lambda folder: saved(folder, home_model()),
        {"trained_until": date(2013, 3, 14)},
        "--trained-until 2013-03-14, .* begin on 2013-03-14.* --day 2013-03-23 or later",
    ),
    "an unknown end of its training": (
        lambda folder: saved(folder, home_model()),
        {"trained_until": None},
        "it was logged on 20.*--trained-until DAY",
    ),
    "nobody": (lambda folder: saved(folder, home_model()), {"by": " "}, "needs who decides and why"),
}


@pytest.fixture(scope="module")
def never_adopted(
    postgres_url: sa.URL, mlflow_made: str, install: Install, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """Return an installation that refused models leave as it is."""
    with install(tmp_path_factory.mktemp("refused")) as shared, cloned(postgres_url, mlflow_made) as tracking:
        settings = shared.model_copy(update={"mlflow_tracking_uri": tracking})
        write_all(settings)
        yield settings


@pytest.mark.parametrize(("make", "about", "said"), REFUSED.values(), ids=REFUSED)
def test_a_model_that_does_not_fit_is_refused_and_leaves_nothing(
    never_adopted: Settings, tmp_path: Path, make: Callable[[Path], Path], about: dict[str, Any], said: str
) -> None:
    folder = make(tmp_path / "home")
    with pytest.raises((ActionRequiredError, DataError)) as refused:
        adopt(never_adopted, folder, **about)
    assert re.search(said, str(refused.value), re.DOTALL), refused.value
    assert not runs(never_adopted)
    assert not small.select(never_adopted, "SELECT * FROM fits")
    assert not small.select(never_adopted, "SELECT * FROM human_actions")


def test_scores_of_the_place_where_it_was_fitted_are_compared(prepared: Settings, tmp_path: Path) -> None:
    estimator = home_model()
    folder = of_another_library(tmp_path / "home", estimator)
    features, _ = home_rows()
    scored = pl.from_pandas(features[:50]).with_columns(score=estimator.predict_proba(features[:50])[:, 1])
    file = tmp_path / "scores.parquet"
    scored.with_columns(pl.col("score") + 1e-6).write_parquet(file)
    with pytest.raises(
        DataError, match=r"scores 50 of 50 rows .* by up to 1e-06; it was fitted with scikit-learn 1.2.0"
    ):
        adopt(prepared, folder, scores=file)
    scored.drop("score").write_parquet(file)
    with pytest.raises(ActionRequiredError, match="no column score"):
        adopt(prepared, folder, scores=file)
    scored.write_parquet(file)
    assert "50 rows score the same here" in adopt(prepared, folder, scores=file).notes[0]


def test_a_bad_model_is_adopted_and_rejected_by_the_gate(
    prepared: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "load_model", lambda _: MODEL)
    monkeypatch.setattr(cli, "_settings", lambda: prepared)
    folder = saved(tmp_path / "home", home_model(shuffled=True))
    options = ["--model", MODEL.name, "--day", str(RUN.start)]
    adopting = ["--source", str(folder), "--trained-until", str(UNTIL), "--by", "Ada", "--why", "a try"]
    first = CliRunner().invoke(cli.app, ["adopt_model", *options, *adopting, "--trust-pickle", "our own", "--json"])
    assert first.exit_code == 1, first.output
    again = CliRunner().invoke(cli.app, ["gate", *options, "--version", "1", "--json"])
    assert again.exit_code == 1, again.output
    [(decision, _)] = postgres.gate_decisions.read_decisions(prepared, MODEL.name, 1)
    assert not decision.passed
    assert decision.gate_id in first.output
    assert decision.gate_id in again.output
    assert {check.name for check in decision.checks if not check.passed} >= {"quality", "linear baseline"}
    with pytest.raises(ActionRequiredError, match="was rejected by the gate"):
        run("promote", MODEL, after(1), prepared, version=1, by="Ada", why="no matter")


def test_an_adoption_that_was_killed_is_run_again(
    prepared: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved(tmp_path / "home", home_model(max_iter=2))

    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    for place, at in (
        (MlflowConnection, "upload"),
        (postgres.model_files, "record_fit"),
        (postgres.journal.JournalWriter, "add"),
    ):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(place, at, killed)
            adopt(prepared, folder)
    adopted = adopt(prepared, folder)
    assert postgres.model_files.read_fit(prepared, MODEL.name, adopted.run_id).adopted_from == str(folder)
    assert len(small.select(prepared, "SELECT * FROM human_actions")) == 1
    assert sorted(run.info.status for run in runs(prepared)) == [
        "FINISHED",
        "FINISHED",
        "KILLED",
    ], "the run that was killed before it was recorded is not believed"

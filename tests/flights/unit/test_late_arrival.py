"""The candidates of late_arrival: pipelines with their transforms, for any values in the columns."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from include.config.loading import load_model
from include.projects.flights.models.late_arrival.estimator import build

NUMERIC, CATEGORICAL = ["hour", "gust", "never_known"], ["carrier", "dest"]
PARAMS = {
    "linear": {"kind": "linear", "min_label_rows": 20},
    "boosted": {"kind": "boosted", "min_label_rows": 20, "max_features": 0.6},
}
CANDIDATES = [pytest.param(PARAMS[kind], id=kind) for kind in PARAMS]

# sklearn warns about a column without values, and drops it
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:sklearn")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread, as `fit` does. On a busy machine, two threads mostly wait for each other."""
    with threadpool_limits(1):
        yield


def flights(rows: int = 600, seed: int = 1) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(seed)
    hour, gust = rng.uniform(5, 23, rows), np.where(rng.random(rows) < 0.6, np.nan, rng.uniform(10, 40, rows))
    carrier = rng.choice(["UA", "B6", "EV", None], rows, p=[0.5, 0.3, 0.15, 0.05])
    dest = rng.choice([*"ABCDEFGHIJ", "rare"], rows, p=[*[0.099] * 10, 0.01])
    late = (rng.random(rows) < 1 / (1 + np.exp(-(hour - 15) / 3 - (carrier == "EV")))).astype(float)
    columns = {"hour": hour, "gust": gust, "never_known": np.nan, "carrier": carrier, "dest": dest}
    return pd.DataFrame(columns).astype({"carrier": object, "dest": object}), late


@pytest.mark.parametrize("params", CANDIDATES)
def test_it_can_be_fitted_and_gives_probabilities(params: dict) -> None:
    X, y = flights()
    fitted = build(params, NUMERIC, CATEGORICAL, seed=7).fit(X, y)
    p = fitted.predict_proba(X)[:, 1]
    assert np.isfinite(p).all()
    assert p[y == 1].mean() > p[y == 0].mean() + 0.2


@pytest.mark.parametrize("params", CANDIDATES)
def test_unseen_labels_and_columns_without_values_are_scored(params: dict) -> None:
    X, y = flights()
    fitted = build(params, NUMERIC, CATEGORICAL, seed=7).fit(X, y)
    strange = X.head(50).assign(carrier="ZZ", dest=None, hour=np.nan, gust=np.nan, never_known=1.0)
    assert np.isfinite(fitted.predict_proba(strange)).all()


def test_linear_has_an_indicator_for_columns_with_missing_values() -> None:
    X, _ = flights()
    y = X["gust"].isna().to_numpy(float)  # the outcome depends only on whether the value is missing
    fitted = build(PARAMS["linear"], ["gust"], [], seed=7).fit(X, y)
    p = fitted.predict_proba(X)[:, 1]
    assert p[y == 1].min() > 0.9 > 0.1 > p[y == 0].max()


@pytest.mark.parametrize("params", CANDIDATES)
def test_rare_labels_are_one_category(params: dict) -> None:
    X, y = flights()
    fitted = build({**params, "min_label_rows": 100}, NUMERIC, CATEGORICAL, seed=7).fit(X, y)
    one, another = X.head(1).assign(dest="A"), X.head(1).assign(dest="rare")  # both have fewer than 100 rows
    assert fitted.predict_proba(one)[0, 1] == fitted.predict_proba(another)[0, 1]


def test_linear_drops_columns_without_information() -> None:
    X, y = flights()
    fitted = build({"kind": "linear", "keep_percent": 10}, NUMERIC, CATEGORICAL, seed=7).fit(X, y)
    names = fitted["prepare"].get_feature_names_out()
    kept = names[fitted["vary"].get_support()][fitted["select"].get_support()]
    assert "numbers__hour" in kept
    assert len(kept) < len(names) / 5


@pytest.mark.parametrize("params", CANDIDATES)
def test_equal_arguments_and_rows_give_an_equal_fit(params: dict) -> None:
    X, y = flights()
    first, second = (build(params, NUMERIC, CATEGORICAL, seed=7).fit(X, y) for _ in range(2))
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))


@pytest.mark.parametrize("params", CANDIDATES)
def test_build_returns_one_unfitted_pipeline(params: dict) -> None:
    pipeline = build(params, NUMERIC, CATEGORICAL, seed=7)
    assert isinstance(pipeline, Pipeline)
    assert isinstance(clone(pipeline), Pipeline)
    with pytest.raises(Exception, match="not fitted"):
        pipeline.predict(flights(5)[0])


def test_boosted_uses_no_early_stopping() -> None:
    """Early stopping holds back rows of the days that are fitted, and sklearn turns it on above 10,000 rows."""
    X, y = flights(12_000)
    fitted = build({"kind": "boosted", "max_iter": 3}, NUMERIC, CATEGORICAL, seed=7).fit(X, y)
    assert fitted["classify"].n_iter_ == 3
    assert not len(fitted["classify"].validation_score_)


def test_declared_candidates_can_be_built() -> None:
    model = load_model("late_arrival")
    assert {c.params["kind"] for c in model.candidates} == {"linear", "boosted"}
    for candidate in model.candidates:
        build(candidate.params, model.numeric, model.categorical, model.seed)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"kind": "boostd"}, "kind 'boostd'.*did you mean 'boosted'"),
        ({}, "kind None"),
        ({"kind": "linear", "learning_rate": 0.1}, "linear has no parameter 'learning_rate'"),
        ({"kind": "boosted", "max_iters": 3}, "did you mean 'max_iter'"),
        ({"kind": "boosted", "numeric": ["x"]}, "no parameter 'numeric'"),
    ],
)
def test_unknown_kinds_and_parameters_are_refused(params: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build(params, NUMERIC, CATEGORICAL, seed=7)

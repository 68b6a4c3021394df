"""Each transform on columns that a night can bring: constant, all missing, unseen labels, renamed, huge."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import skops.io
from pydantic import TypeAdapter

from include.core.variants import kinds_in
from include.training.declared import pipeline, rows_to_fit
from include.training.estimators.forest import Forest
from include.training.problem_types import get_problem_type
from include.training.serialization import Skops
from include.training.training_set import estimator_inputs
from include.training.transforms import AnyTransform, Context, RowRemoval, Transform, wrong_columns

SETTINGS: dict[str, dict[str, Any]] = {
    "select_univariate": {"keep": 3},
    "select_recursive": {"keep": 3},
    "select_sequential": {"keep": 2},
    "drop_constant": {"share": 0.99},
    "select_importance": {"at_least": 0.05},
}
NUMBERS, LABELS = ["hour", "constant", "empty", "huge", "copy"], ["company", "city", "only", "none", "many"]
KINDS = [*kinds_in(AnyTransform)]
OF_FRAMES = [kind for kind in KINDS if not kind.startswith("remove_")]


def transform(kind: str, **settings: Any) -> Transform:
    made: Transform = TypeAdapter(AnyTransform).validate_python({"kind": kind, **SETTINGS.get(kind, {}), **settings})
    return made


def rows(count: int = 400, seed: int = 1) -> pd.DataFrame:
    """Return a frame as `fit` makes it, of columns that are hard."""
    random = np.random.default_rng(seed)
    hour = random.uniform(0, 24, count)
    hour[::20] = np.nan
    frame = pl.DataFrame({
        "hour": hour,
        "constant": np.full(count, 3.0),
        "empty": np.full(count, np.nan),
        "huge": random.choice([1e308, -1e308, 1e-308, 5.0], count),
        "copy": hour,
        "company": random.choice(["UA", "B6", "AA"], count),
        "city": pl.Series(random.choice(["BAT", "HOB", "rare"], count, p=[0.6, 0.395, 0.005])).set(
            pl.Series(np.arange(count) % 10 == 0), None
        ),
        "only": ["x"] * count,
        "none": pl.Series([None] * count, dtype=pl.String),
        "many": [f"label {n} " + "ä" * 200 for n in range(count)],
    })
    return estimator_inputs(frame, NUMBERS, LABELS)


def outcome(frame: pd.DataFrame) -> np.ndarray:
    return ((frame["hour"].fillna(12) > 8) & (frame["company"] != "UA")).astype(float).to_numpy()


def fitted(kind: str, problem_type: str = "binary", **settings: Any) -> tuple[Any, pd.DataFrame]:
    frame = rows()
    step = transform(kind, **settings).step(Context(problem_type, 7))
    return step, step.fit_transform(frame, outcome(frame))


@pytest.mark.parametrize("kind", OF_FRAMES)
def test_a_transform_takes_what_a_night_can_bring(kind: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        step, made = fitted(kind)
    night = rows(60, seed=2)
    night.loc[:9, "company"] = "NEW"
    night.loc[10:19, ["hour", "constant"]] = np.nan
    night.loc[20:29, "empty"] = 1.0
    night.loc[30:39, "none"] = "seen now"
    night.loc[40:49, "only"] = None
    night["hour"] *= 1e6
    scored = step.transform(night)
    assert list(scored) == list(made)
    numbers = scored.select_dtypes("number")
    assert not np.isinf(numbers.drop(columns="huge", errors="ignore")).to_numpy().any()
    blocks = pd.concat([step.transform(night.iloc[[n]]) for n in range(len(night))])
    pd.testing.assert_frame_equal(blocks, scored, check_exact=True, check_dtype=False)
    mixed = step.transform(night.iloc[::-1])
    pd.testing.assert_frame_equal(mixed.iloc[::-1], scored, check_exact=True)


@pytest.mark.parametrize("kind", OF_FRAMES)
def test_a_transform_is_stored_without_code_and_is_the_same_again(kind: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        step, _ = fitted(kind)
        again, _ = fitted(kind)
    content = skops.io.dumps(step)
    loaded = skops.io.loads(content, trusted=Skops().trusted)
    night = rows(50, seed=3)
    pd.testing.assert_frame_equal(loaded.transform(night), step.transform(night), check_exact=True)
    pd.testing.assert_frame_equal(again.transform(night), step.transform(night), check_exact=True)
    assert skops.io.dumps(again) is not None


@pytest.mark.parametrize("kind", OF_FRAMES)
def test_a_renamed_column_is_refused_at_scoring_where_the_transform_needs_it(kind: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        step, _ = fitted(kind)
    renamed = rows(20).rename(columns={"hour": "hours", "company": "companies"})
    with pytest.raises((ValueError, KeyError), match=r"hour|company|columns"):
        step.transform(renamed)


def test_a_wrong_column_is_named_with_the_nearest_right_one() -> None:
    declared = [
        transform("scale", columns=["huor"]),
        transform("scale", columns=["company"]),
        transform("one_hot", columns=["company"]),
        transform("ordinal", columns=["company"]),
        transform("remove_missing_rows"),
        transform("target_mean", columns=["city"]),
        transform("scale", columns=["city"]),
    ]
    assert wrong_columns(declared, NUMBERS, LABELS, "binary") == [
        "0.columns.0: no column 'huor' in numeric or categorical; did you mean 'hour'?",
        "1.columns.0: company has labels here, and scale is for numbers",
        "3.columns.0: an earlier transform has replaced company by other columns",
        "4.kind: remove_missing_rows removes rows, so it must stand before all other kinds",
    ]
    assert wrong_columns(declared[-1:], ["hour"], ["city"], "multiclass")
    assert wrong_columns(declared[-2:], ["hour"], ["city"], "multiclass") == [
        "1.columns.0: an earlier transform has replaced city by other columns"
    ]


@pytest.mark.parametrize(
    ("by", "hour", "city"),
    [("mean", 10.0, None), ("median", 8.0, None), ("mode", 8.0, "HOB"), ("constant", -1.0, None)],
)
def test_what_is_missing_is_filled_in_and_indicated(by: str, hour: float, city: str | None) -> None:
    frame = pd.DataFrame({"hour": [8.0, 8.0, 14.0, np.nan], "city": ["HOB", None, "HOB", "BAT"], "full": 1.0})
    value = {"value": -1.0} if by == "constant" else {}
    made = transform("impute", by=by, **value).step(Context("binary", 1)).fit_transform(frame)
    assert made["hour"].tolist() == [8, 8, 14, hour]
    assert made["city"].tolist() == ["HOB", city, "HOB", "BAT"]
    assert made["hour_is_missing"].tolist() == [0, 0, 0, 1]
    assert "full_is_missing" not in made
    bare = transform("impute", by=by, **value, indicators=False).step(Context("binary", 1)).fit_transform(frame)
    assert list(bare) == list(frame)


def test_a_random_sample_has_the_distribution_of_the_column_and_depends_on_the_row_alone() -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"key": np.arange(4000.0), "hour": random.choice([1.0, 2.0], 4000, p=[0.8, 0.2])})
    frame.loc[1000:, "hour"] = np.nan
    step = transform("impute", by="random_sample", columns=["hour"]).step(Context("binary", 1)).fit(frame)
    filled = step.transform(frame)["hour"][1000:]
    assert set(filled) == {1.0, 2.0}
    assert abs((filled == 1).mean() - 0.8) < 0.04
    assert step.transform(frame[1001:])["hour"].tolist() == filled[1:].tolist(), "another block, the same values"
    other = transform("impute", by="random_sample", columns=["hour"]).step(Context("binary", 2)).fit(frame)
    assert (other.transform(frame)["hour"][1000:] != filled).any()


@pytest.mark.parametrize("settings", [{"by": "constant"}, {"by": "mean", "value": 1}])
def test_a_constant_needs_a_value_and_nothing_else_does(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="value"):
        transform("impute", **settings)


def test_rare_and_unseen_labels_become_one() -> None:
    step, made = fitted("rare_labels", less_than=0.05, columns=["city"])
    assert set(made["city"].dropna()) == {"BAT", "HOB", "other"}
    night = rows(3).assign(city=["NEW", None, "BAT"])
    assert step.transform(night)["city"].tolist() == ["other", None, "BAT"]


def test_one_hot_is_limited_whatever_labels_come() -> None:
    _, made = fitted("one_hot", most=10, columns=["many"])
    assert len([name for name in made if name.startswith("many_")]) == 10


def test_the_target_mean_of_a_row_to_fit_on_comes_from_other_rows() -> None:
    """A label of one row says nothing of that row, else every estimator would trust it."""
    frame = pd.DataFrame({"label": [f"l{n}" for n in range(200)]}).astype(object)
    truth = np.random.default_rng(0).integers(0, 2, 200).astype(float)
    made = transform("target_mean").step(Context("binary", 1)).fit_transform(frame, truth)
    assert abs(np.corrcoef(made["label"], truth)[0, 1]) < 0.3
    counted = transform("target_mean").step(Context("count", 1)).fit_transform(frame, truth * 3)
    assert list(counted) == ["label"], "an outcome that counts is no class"


def test_label_counts() -> None:
    step, made = fitted("label_counts", columns=["only"])
    assert set(made["only"]) == {400}
    assert step.transform(rows(2).assign(only=["NEW", None]))["only"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("method", "fold"), [("iqr", None), ("gaussian", None), ("mad", None), ("quantiles", None), ("iqr", 1.5)]
)
def test_outliers_are_capped_at_scoring_and_not_learned_from(method: str, fold: float | None) -> None:
    values = np.random.default_rng(0).normal(10, 1, 500)
    values[:2] = 1000, np.nan
    frame = pd.DataFrame({"n": values, "flat": 1.0, "label": "a"})
    made = transform("cap_outliers", method=method, fold=fold).step(Context("binary", 1)).fit_transform(frame)
    assert made["n"].max() < (30 if method != "gaussian" else 150)
    assert np.isnan(made["n"][1])
    assert (made["flat"] == 1).all()
    removal = transform("remove_outlier_rows", method=method, fold=fold)
    assert isinstance(removal, RowRemoval)
    stays = removal.keeps(frame)
    assert not stays[0]
    assert stays[1]
    assert stays.mean() > 0.95


def test_rows_are_removed_one_after_the_other_and_not_all_of_them() -> None:
    frame = pd.DataFrame({"a": [1.0, np.nan, np.nan, 4.0], "b": ["x", "x", None, "x"]})
    both, one = transform("remove_missing_rows", more_than=0.5), transform("remove_missing_rows", more_than=0)
    assert rows_to_fit([both], frame).tolist() == [True, True, False, True]
    assert rows_to_fit([both, one], frame).tolist() == [True, False, False, True]
    of_b = transform("remove_missing_rows", more_than=0, columns=["b"])
    assert rows_to_fit([of_b], frame).tolist() == [True, True, False, True]
    with pytest.raises(ValueError, match="remove_missing_rows: no row to fit on is left"):
        rows_to_fit([one], frame[1:3])


def test_rows_are_not_removed_at_scoring() -> None:
    frame = rows()
    declared = [transform("remove_missing_rows", more_than=0, columns=["hour"]), transform("drop_missing")]
    made = pipeline(Forest(trees=3), declared, get_problem_type("binary"), 1)
    stays = rows_to_fit(declared, frame)
    assert 0 < stays.sum() < len(frame)
    assert len(made.fit(frame[stays], outcome(frame)[stays]).predict_proba(frame)) == len(frame)


def test_bins() -> None:
    frame = pd.DataFrame({"n": [0.0, 1, 2, 3, 4, 5, 6, 7, 8, 100, np.nan]})
    by_rows = transform("discretise", bins=2).step(Context("binary", 1)).fit_transform(frame)["n"]
    by_width = transform("discretise", bins=2, by="width").step(Context("binary", 1)).fit_transform(frame)["n"]
    assert by_rows[:10].tolist() == [0] * 5 + [1] * 5
    assert by_width[:10].tolist() == [0] * 9 + [1]
    assert np.isnan(by_rows[10])


@pytest.mark.parametrize(
    ("kind", "settings", "stay", "go"),
    [
        ("drop_missing", {}, {"hour", "city"}, {"empty", "none"}),
        ("drop_missing", {"more_than": 0}, {"company"}, {"hour", "city", "empty"}),
        ("drop_constant", {}, {"hour", "many"}, {"constant", "empty", "only", "none"}),
        ("drop_duplicated", {}, {"hour"}, {"copy"}),
        ("drop_correlated", {}, {"hour", "many", "constant"}, {"copy"}),
        ("select_univariate", {"keep": 1, "columns": ["company", "only", "constant"]}, {"company", "hour"}, {"only"}),
        ("select_univariate", {"keep": 1, "score": "information"}, set(), {"constant"}),
        ("select_recursive", {"columns": ["hour", "constant", "company", "only"], "keep": 2}, {"hour"}, {"constant"}),
        ("select_recursive", {"by": "linear", "columns": ["company", "only"], "keep": 1}, {"company"}, {"only"}),
        ("select_sequential", {"columns": ["hour", "constant"], "keep": 1, "by": "forest"}, {"hour"}, {"constant"}),
        ("select_sequential", {"columns": ["hour", "only"], "keep": 9}, {"hour", "only"}, set()),
        ("select_l1", {"columns": ["hour", "constant", "company"]}, {"company"}, {"constant"}),
        ("select_importance", {}, {"hour"}, {"constant", "empty", "none"}),
    ],
)
def test_columns_are_chosen(kind: str, settings: dict[str, Any], stay: set[str], go: set[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, made = fitted(kind, **settings)
    assert stay <= set(made)
    assert not go & set(made)


@pytest.mark.parametrize("kind", [kind for kind in OF_FRAMES if kind.startswith("select_")])
def test_columns_are_chosen_for_an_outcome_that_is_a_number(kind: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, made = fitted(kind, "regression", columns=["hour", "constant", "company", "only"], **SETTINGS.get(kind, {}))
    assert "company" in made or "hour" in made


def test_a_choice_that_leaves_no_column_says_so() -> None:
    frame = pd.DataFrame({"a": [1.0, 1.0], "b": ["x", "x"]})
    with pytest.raises(ValueError, match="drop_constant leaves no column: let it choose less strictly"):
        transform("drop_constant").step(Context("binary", 1)).fit(frame)

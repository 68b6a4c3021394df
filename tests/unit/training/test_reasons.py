"""Reasons add up to the score, are exact where a model has no interactions, and say names and numbers only."""

import json
from itertools import permutations
from typing import Any

import numpy as np
import polars as pl
import pytest

from include.training import reasons
from include.training.problem_types import PROBLEM_TYPES, get_problem_type
from include.training.reasons import contributions_of, explain, linked, typical_row

NUMERIC, CATEGORICAL = ("hour", "wind", "empty"), ("company",)
REGRESSION = get_problem_type("regression").of(quantiles=(), classes=())


def rows(count: int, seed: int = 1) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    return pl.DataFrame({
        "hour": random.uniform(0, 24, count),
        "wind": pl.Series(np.where(random.random(count) < 0.3, np.nan, random.normal(size=count))).fill_nan(None),
        "empty": pl.Series([None] * count, dtype=pl.Float64),
        "company": pl.Series(random.choice(["h:secret", "B6", "B6"], count)),
        "entity_id": [f"UA-{n}" for n in range(count)],
    })


TYPICAL = typical_row(rows(101), NUMERIC, CATEGORICAL)


def added(frame: pl.DataFrame) -> np.ndarray:
    """Predict without interactions."""
    of_company = np.where(frame["company"].to_numpy() == "B6", 5.0, -2.0)
    return np.asarray(2 * frame["hour"].to_numpy() - 3 * frame["wind"].fill_null(9).to_numpy() + of_company)


def tangled(frame: pl.DataFrame) -> np.ndarray:
    """Predict with interactions."""
    return np.asarray(added(frame) * frame["hour"].to_numpy() / 24)


def test_a_typical_row_has_medians_and_the_most_frequent_label() -> None:
    frame = pl.DataFrame({
        "hour": [1.0, None, 3.0, float("nan"), 11.0], "flag": [True, True, False, None, True],
        "company": ["b", "a", "b", "a", None], "none": pl.Series([None] * 5, dtype=pl.String),
    })  # fmt: skip
    found = typical_row(frame, ("hour", "flag"), ("company", "none"))
    assert found.to_dicts() == [{"hour": 3.0, "flag": 1.0, "company": "a", "none": None}]
    assert [*found.schema.values()] == [pl.Float64, pl.Float64, pl.String, pl.String]


def test_without_interactions_a_contribution_is_that_of_the_input_alone() -> None:
    frame = rows(40)
    base, found = contributions_of(added, REGRESSION, frame.select(TYPICAL.columns), TYPICAL)
    assert base.tolist() == [added(TYPICAL)[0]] * 40
    for at, name in enumerate(TYPICAL.columns):
        alone = added(pl.concat([TYPICAL] * 40).with_columns(frame[name])) - base
        np.testing.assert_allclose(found[:, at], alone, atol=1e-12)


def test_interactions_are_shared_as_shapley_values_share_them(monkeypatch: pytest.MonkeyPatch) -> None:
    names = TYPICAL.columns
    frame = rows(5).select(names)
    exact = np.zeros((5, len(names)))
    orders = [*permutations(range(len(names)))]
    for order in orders:
        replaced, before = pl.concat([TYPICAL] * 5), tangled(pl.concat([TYPICAL] * 5))
        for at in order:
            replaced = replaced.with_columns(frame[names[at]])
            exact[:, at] += (tangled(replaced) - before) / len(orders)
            before = tangled(replaced)
    monkeypatch.setattr(reasons, "PAIRS", 400)
    _, found = contributions_of(tangled, REGRESSION, frame, TYPICAL)
    np.testing.assert_allclose(found, exact, atol=0.05 * np.abs(exact).max())
    both = lambda frame: frame["hour"].to_numpy() * frame["wind"].fill_null(0).to_numpy()  # noqa: E731
    monkeypatch.setattr(reasons, "PAIRS", 1)
    _, half = contributions_of(both, REGRESSION, pl.DataFrame({"hour": [1.0], "wind": [1.0]}), ZERO)
    assert half.tolist() == [[0.5, 0.5]], "an order and the same backwards share what two inputs do together"


ZERO = pl.DataFrame({"hour": [0.0], "wind": [0.0]})


def predict_of(problem: Any) -> Any:
    """Return what a model of a problem type could predict from `tangled`."""

    def predict(frame: pl.DataFrame) -> np.ndarray:
        value = tangled(frame)
        if problem.kind == "multiclass":
            raw = np.exp(np.column_stack([value / 9, np.sin(value), -value / 9]))
            return np.asarray(raw / raw.sum(axis=1, keepdims=True))
        if problem.kind == "quantile":
            return np.column_stack([value - 1, value, value + np.abs(value)])
        if problem.kind == "binary":
            return np.asarray(1 / (1 + np.exp(-value / 9)))
        return np.exp(value / 9) if problem.kind == "count" else value

    return predict


@pytest.mark.parametrize("problem_type", PROBLEM_TYPES)
def test_base_rest_and_contributions_add_up_to_the_score(problem_type: str) -> None:
    problem = get_problem_type(problem_type).of(quantiles=(0.1, 0.5, 0.9), classes=("a", "b", "c"))
    frame, predict = rows(60, 3), predict_of(problem)
    score = predict(frame)
    for text, wanted in zip(explain(predict, problem, frame, TYPICAL, 2), linked(problem, score, score), strict=True):
        told = json.loads(text)
        contributions = [number for _, number in told["top"]]
        assert told["base"] + told["rest"] + sum(contributions) == pytest.approx(wanted, abs=1e-4)
        assert len(contributions) <= 2
        assert contributions == sorted(contributions, key=abs, reverse=True)


def test_probabilities_of_0_and_1_have_finite_reasons() -> None:
    binary = get_problem_type("binary").of(quantiles=(), classes=())
    found = explain(lambda frame: (added(frame) > 20).astype(float), binary, rows(30), TYPICAL, 3)
    assert all(np.isfinite(number) for text in found for _, number in json.loads(text)["top"])


def test_reasons_do_not_depend_on_blocks_and_have_no_value_of_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = rows(50)
    whole = explain(tangled, REGRESSION, frame, TYPICAL, 3)
    monkeypatch.setattr(reasons, "BLOCK_ROWS", 40)
    assert explain(tangled, REGRESSION, frame, TYPICAL, 3) == whole
    assert {name for text in whole for name, _ in json.loads(text)["top"]} <= {*TYPICAL.columns}
    assert not any("secret" in text or "UA-" in text for text in whole)


def test_an_input_that_is_typical_is_no_reason_and_one_input_alone_is_the_whole_reason() -> None:
    assert json.loads(explain(added, REGRESSION, TYPICAL, TYPICAL, 3)[0])["top"] == []
    one = pl.DataFrame({"hour": [4.0]})
    [told] = explain(lambda frame: frame["hour"].to_numpy(), REGRESSION, pl.DataFrame({"hour": [7]}), one, 3)
    assert json.loads(told) == {"base": 4.0, "rest": 0.0, "top": [["hour", 3.0]]}
    assert explain(added, REGRESSION, rows(0), TYPICAL, 3) == []

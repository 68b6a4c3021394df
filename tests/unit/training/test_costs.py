"""What errors cost: each problem type has costs of its own, and a row costs what the declaration says."""

import numpy as np
import pytest

from include.config.loading import load_model
from include.training.costs import KEYS, Costs
from include.training.problem_types import PROBLEM_TYPES

LABELS = ("none", "few", "many")


def test_each_problem_type_has_costs() -> None:
    assert set(KEYS) == set(PROBLEM_TYPES)


@pytest.mark.parametrize(
    ("costs", "truth", "prediction", "expected"),
    [
        ({"false_positive": 1, "false_negative": 5}, [0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 5, 0]),
        ({"under": 2, "over": 1}, [10, 10, 10], [7, 14, 10], [6, 4, 0]),
        ({"wrong": 1, "matrix": {"many": {"none": 9}}}, [0, 2, 2, 0], [0, 0, 1, 2], [0, 9, 1, 1]),
        ({"false_positive": 1, "false_negative": 0}, [0, 1], [1, 0], [1, 0]),
    ],
)
def test_a_row_costs_what_is_declared(
    costs: dict[str, object], truth: list[float], prediction: list[float], expected: list[float]
) -> None:
    declared = Costs.model_validate({"unit": "EUR", **costs})
    found = declared.by_row(np.array(truth, dtype=float), np.array(prediction, dtype=float), LABELS)
    assert found.tolist() == expected


@pytest.mark.parametrize(
    ("problem_type", "costs", "said"),
    [
        ("binary", {"false_positive": 1, "false_negative": 5}, []),
        ("count", {"under": 2, "over": 0}, []),
        ("multiclass", {"wrong": 1, "matrix": {"many": {"none": 9}}}, []),
        ("binary", {"false_positive": 1}, ["costs.false_negative: is needed for a model of problem_type binary"]),
        (
            "quantile",
            {"under": 1, "over": 1, "wrong": 1},
            ["costs.wrong: a model of problem_type quantile has no such cost; it has under, over"],
        ),
        (
            "multiclass",
            {"wrong": 1, "matrix": {"mani": {"none": 9}}},
            ["costs.matrix: no label 'mani'; did you mean 'many'?"],
        ),
        (
            "count",
            {"under": 2, "over": 1, "matrix": {"many": {"none": 9}}},
            ["costs.matrix: only multiclass has it, and problem_type is count"],
        ),
    ],
)
def test_costs_fit_the_problem_type(problem_type: str, costs: dict[str, object], said: list[str]) -> None:
    declared = Costs.model_validate({"unit": "EUR", **costs})
    assert [*declared.misfits(problem_type, LABELS if problem_type == "multiclass" else ())] == said


def test_costs_and_purpose_decide_no_fit() -> None:
    model = load_model("late_ferry")
    other = {"costs": Costs(unit="USD", false_positive=1, false_negative=1), "purpose": "x", "built_by": "y"}
    assert model.model_copy(update=other).digest == model.digest


@pytest.mark.parametrize("key", ["purpose", "decision", "built_by", "owner"])
def test_a_placeholder_is_named(key: str) -> None:
    model = load_model("late_ferry")
    assert model.unwritten == ()
    assert model.model_copy(update={key: "TODO: say it"}).unwritten == (key,)
    assert model.model_copy(update={key: " "}).unwritten == (key,)

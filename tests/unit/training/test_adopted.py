"""What a model that was fitted elsewhere must have in common with model.yaml."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.cluster import KMeans
from sklearn.ensemble import VotingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression

from include.config.loading import load_model
from include.config.model import Model
from include.training.adopted import has_named_columns, wrong_columns, wrong_estimator, wrong_output
from include.training.problem_types.multiclass import Multiclass

MODEL = load_model("late_ferry").model_copy(update={"numeric": ("hour", "wind"), "categorical": ()})
ROWS = pd.DataFrame({"hour": [1.0, 2.0, 3.0, 4.0], "wind": [4.0, 1.0, 2.0, 0.0]})


def of(problem_type: str, **more: Any) -> Model:
    return MODEL.model_copy(update={"problem_type": problem_type, **more})


def classifier(outcomes: list[Any]) -> LogisticRegression:
    return LogisticRegression().fit(ROWS, outcomes)


# --- columns ----------------------------------------------------------------------------------------------------------


def test_columns_that_are_missing_new_or_of_another_type_are_named() -> None:
    model = MODEL.model_copy(update={"categorical": ("company",)})
    assert wrong_columns(model, {"company": "text", "wind": "number", "hour": "number"}, "its signature") == []
    assert wrong_columns(model, ["wind", "hour", "company"], "the estimator") == []
    assert wrong_columns(model, {"hours": "number", "wind": "text", "company": "number"}, "its signature") == [
        "its signature has the column hours, and model.yaml has not; did you mean 'hour'?",
        "its signature lacks the column hour of model.yaml",
        "its signature has wind as text, and model.yaml as numeric",
        "its signature has company as number, and model.yaml as categorical",
    ]


def test_an_estimator_without_names_needs_as_many_columns() -> None:
    unnamed = LogisticRegression().fit(ROWS.to_numpy(), [0, 1, 0, 1])
    assert wrong_estimator(MODEL, unnamed) == []
    assert not has_named_columns(unnamed)
    fewer = LogisticRegression().fit(ROWS[["hour"]].to_numpy(), [0, 1, 0, 1])
    assert wrong_estimator(MODEL, fewer) == ["the estimator has 1 input columns without names, and model.yaml 2"]
    named = LogisticRegression().fit(ROWS[["wind", "hour"]], [0, 1, 0, 1])
    assert wrong_estimator(MODEL, named) == [], "order is a matter of scoring: a ColumnTransformer takes any"
    [problem] = wrong_output(MODEL, named, ROWS)
    assert problem.endswith("It was fitted on columns in another order than model.yaml has: wind, hour")


# --- classes and methods ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcomes", [[0, 1, 0, 1], [0.0, 1.0, 0.0, 1.0], [False, True, False, True]])
def test_a_binary_estimator_has_the_classes_0_and_1(outcomes: list[Any]) -> None:
    assert wrong_estimator(MODEL, classifier(outcomes)) == []


@pytest.mark.parametrize("outcomes", [["no", "yes", "no", "yes"], [0, 1, 2, 1], [1, 2, 1, 2]])
def test_other_classes_are_refused_because_nobody_knows_which_is_1(outcomes: list[Any]) -> None:
    [problem] = wrong_estimator(MODEL, classifier(outcomes))
    assert problem.startswith("problem_type binary needs the classes 0 and 1, and the estimator has ")


def test_a_multiclass_estimator_has_labels_or_their_numbers() -> None:
    model = of("multiclass", classes=("late", "early", "on time"))
    assert wrong_estimator(model, classifier(["late", "early", "late", "early"])) == []
    assert wrong_estimator(model, classifier([0, 2, 1, 0])) == []
    [problem] = wrong_estimator(model, classifier(["late", "cancelled", "late", "late"]))
    assert problem.startswith("the estimator has the classes cancelled, late, and the labels of the outcome are late, ")
    [problem] = wrong_estimator(model, classifier([1, 3, 1, 3]))
    assert problem.startswith("the estimator has the classes 1, 3, and ")


def test_probabilities_of_labels_are_put_in_the_order_of_the_outcome() -> None:
    estimator = classifier(["late", "early", "late", "early"])
    early, late = estimator.predict_proba(ROWS).T
    scores = Multiclass(("late", "on time", "early")).predict(estimator, ROWS)
    assert scores.tolist() == np.column_stack([late, np.zeros(4), early]).tolist()
    numbers = classifier([0, 2, 0, 2])
    assert Multiclass(("late", "on time", "early")).predict(numbers, ROWS)[:, 2].tolist() == (
        numbers.predict_proba(ROWS)[:, 1].tolist()
    )


@pytest.mark.parametrize("problem_type", ["regression", "count"])
def test_a_classifier_is_no_regression(problem_type: str) -> None:
    assert wrong_estimator(of(problem_type), LinearRegression().fit(ROWS, [1.0, 2.0, 3.0, 4.0])) == []
    [problem] = wrong_estimator(of(problem_type), classifier([0, 1, 0, 1]))
    assert problem == f"the estimator is a classifier of 0, 1, and problem_type is {problem_type}"


def test_a_method_that_is_missing_is_named() -> None:
    problems = wrong_estimator(MODEL, LinearRegression().fit(ROWS, [0, 1, 0, 1]))
    assert problems[0] == "problem_type binary needs the method predict_proba, which the estimator lacks"
    assert wrong_estimator(of("quantile"), LinearRegression().fit(ROWS, [0, 1, 0, 1])) == [
        "problem_type quantile needs the method transform, which the estimator lacks"
    ]


# --- scores -----------------------------------------------------------------------------------------------------------


def test_right_scores_have_no_problem() -> None:
    assert wrong_output(MODEL, classifier([0, 1, 0, 1]), ROWS) == []
    assert wrong_output(of("regression"), LinearRegression().fit(ROWS, [1.0, 2.0, 3.0, 4.0]), ROWS) == []
    three = VotingRegressor([(str(n), LinearRegression()) for n in range(3)]).fit(ROWS, [1.0, 2.0, 3.0, 4.0])
    assert wrong_output(of("quantile"), three, ROWS) == []


def test_a_transform_that_gives_no_quantiles_is_refused() -> None:
    [problem] = wrong_output(of("quantile"), KMeans(2, n_init=1, random_state=1).fit(ROWS), ROWS)
    assert "a column for each of the 3 quantiles" in problem


def test_scores_of_another_shape_are_refused() -> None:
    columns = LinearRegression().fit(ROWS, np.array([[1.0], [2.0], [3.0], [4.0]]))
    assert wrong_output(of("regression"), columns, ROWS) == ["it gives scores of the shape (4, 1) for 4 rows, not (4,)"]


def test_rows_that_an_estimator_cannot_score_are_said() -> None:
    missing = ROWS.assign(wind=[1.0, np.nan, 2.0, 3.0])
    [problem] = wrong_output(MODEL, classifier([0, 1, 0, 1]), missing)
    assert problem.startswith("it cannot score 4 prepared rows: ValueError: Input X contains NaN.")


class Sure(BaseEstimator):  # type: ignore[misc]
    """An estimator with any probabilities."""

    classes_ = np.array([0, 1])

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        return np.column_stack([np.zeros(len(X)), np.full(len(X), self.p)])


def test_scores_that_are_no_probabilities_are_refused() -> None:
    assert wrong_output(MODEL, Sure(1.0), ROWS) == []
    assert wrong_output(MODEL, Sure(1.5), ROWS) == ["it gives probabilities below 0 or above 1"]
    assert wrong_output(MODEL, Sure(np.nan), ROWS) == ["4 of 4 prepared rows get a score that is NaN or infinite"]

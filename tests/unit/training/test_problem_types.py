import json

import numpy as np
import pandas as pd
import polars as pl
import pytest
from pydantic import ValidationError
from sklearn.metrics import (
    balanced_accuracy_score,
    d2_tweedie_score,
    log_loss,
    mean_pinball_loss,
    mean_poisson_deviance,
)

from include.config.loading import load_model
from include.config.model import Model
from include.training.problem_types import PROBLEM_TYPES, get_problem_type
from include.training.problem_types.regression import Regression
from include.training.relative_errors import relative_errors

DELAY = load_model("ferry_delay")


class Logarithmic(Regression):
    """A throw-away problem type: regression by the squared logarithmic error."""

    kind = "logarithmic"
    chosen_by = "msle"
    gate_metrics = ("msle", "r2")
    performance_metrics = {"msle": "mean squared logarithmic error"}  # noqa: RUF012

    def quality(self, truth: np.ndarray, score: np.ndarray) -> dict[str, float]:
        """Return msle."""
        return {"msle": float(((np.log1p(truth) - np.log1p(score)) ** 2).mean())}


def declared_as(problem_type: str) -> Model:
    keys = {key: value for key, value in DELAY.model_dump(by_alias=True).items() if key != "problem_type"}
    listed = [check for check in keys["gate"]["checks"] if check["kind"] != "quality"]
    keys["gate"]["checks"] = [*listed, {"kind": "quality", "metric": "r2", "at_least": 0.01}]
    return Model.model_validate({**keys, "folder": DELAY.folder, "problem_type": problem_type})


def test_a_wrong_problem_type_is_refused_with_the_nearest_right_one() -> None:
    with pytest.raises(ValidationError, match=r"no problem type 'regresion'.*regression"):
        declared_as("regresion")


def test_the_labels_of_a_binary_outcome_are_0_and_1() -> None:
    labels = np.array([0.0, 1.0, 2.0, np.nan])
    assert get_problem_type("binary").wrong_labels(labels) == 2
    assert get_problem_type("regression").wrong_labels(labels) == 0


def test_a_new_problem_type_is_one_class_and_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROBLEM_TYPES, "logarithmic", Logarithmic())
    model = declared_as("logarithmic")
    truth, score = np.array([1.0, 3.0]), np.array([1.0, 7.0])
    expected = np.log(2.0) ** 2 / 2
    logarithmic = get_problem_type(model.problem_type)
    assert logarithmic.metrics(truth, score) == {"rows": 2.0, "msle": pytest.approx(expected)}
    assert logarithmic.performance(truth, score, prediction=score) == {"msle": pytest.approx(expected)}


def test_the_labels_of_a_count_are_whole_numbers_from_0() -> None:
    assert get_problem_type("count").wrong_labels(np.array([0.0, 3.0, -1.0, 0.5, np.nan])) == 3


def test_the_loss_of_a_count_is_the_poisson_deviance_of_scikit_learn() -> None:
    truth, score = np.array([0.0, 1.0, 7.0]), np.array([0.5, 1.0, 4.0])
    count = get_problem_type("count")
    assert count.loss_by_row(truth, score).mean() == pytest.approx(mean_poisson_deviance(truth, score))
    assert count.metrics(truth, score)["poisson_deviance"] == pytest.approx(mean_poisson_deviance(truth, score))
    assert count.metrics(truth, score)["d2"] == pytest.approx(d2_tweedie_score(truth, score, power=1))
    assert count.constant(truth) == pytest.approx(8 / 3)


def test_an_expected_number_below_0_is_very_wrong_and_never_undefined() -> None:
    loss = get_problem_type("count").loss_by_row(np.array([0.0, 2.0, 2.0]), np.array([-3.0, -3.0, 2.0]))
    assert np.isfinite(loss).all()
    assert loss[1] > 50
    assert loss[2] == 0


def test_relative_errors_mean_the_same_in_any_unit_and_are_left_out_where_they_mean_nothing() -> None:
    truth, score = np.array([10.0, 30.0]), np.array([15.0, 30.0])
    expected = {"wape": pytest.approx(5 / 40), "mape": pytest.approx(0.25)}
    assert relative_errors(truth, score) == relative_errors(truth * 100, score * 100) == expected
    assert relative_errors(np.array([0.0, 10.0]), np.array([0.0, 5.0])) == {"wape": pytest.approx(0.5)}
    assert relative_errors(np.zeros(2), np.ones(2)) == {}


QUANTILE = get_problem_type("quantile").of(quantiles=(0.1, 0.5, 0.9), classes=())
MULTICLASS = get_problem_type("multiclass").of(quantiles=(), classes=("early", "on time", "late"))


class TestQuantile:
    truth = np.array([0.0, 4.0, 10.0])
    score = np.array([[-1.0, 1.0, 3.0], [5.0, 6.0, 7.0], [4.0, 8.0, 9.0]])

    def test_the_loss_is_the_mean_pinball_loss_of_scikit_learn(self) -> None:
        expected = [mean_pinball_loss(self.truth, self.score[:, n], alpha=q) for n, q in enumerate((0.1, 0.5, 0.9))]
        assert QUANTILE.loss_by_row(self.truth, self.score).mean() == pytest.approx(np.mean(expected))

    def test_the_quantiles_of_the_outcomes_are_the_best_constants(self) -> None:
        truth = np.random.default_rng(0).exponential(10, 999)
        best = QUANTILE.constant(truth)

        def loss(constant: np.ndarray) -> float:
            return float(QUANTILE.loss_by_row(truth, QUANTILE.repeat(constant, len(truth))).mean())

        assert all(loss(best) < loss(best + change) for change in ([-1, 0, 0], [0, 1, 0], [0, 0, 1]))

    def test_coverage_and_both_sides_are_measured(self) -> None:
        measured = QUANTILE.performance(self.truth, self.score, self.score[:, 1])
        assert (measured["coverage"], measured["below"], measured["above"]) == pytest.approx((1 / 3, 1 / 3, 1 / 3))
        assert measured["width"] == pytest.approx((4 + 2 + 5) / 3)
        assert measured["mean_error"] == pytest.approx((1 + 2 - 2) / 3)

    def test_quantiles_that_cross_are_sorted_and_another_number_of_them_is_refused(self) -> None:
        features = pd.DataFrame({"x": [1.0, 2.0]})
        found = QUANTILE.predict(Transforms(np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])), features)
        assert found.tolist() == [[1.0, 2.0, 3.0]] * 2
        with pytest.raises(ValueError, match="a column for each of the 3 quantiles, and gave \\(2, 2\\)"):
            QUANTILE.predict(Transforms(np.zeros((2, 2))), features)

    def test_published_predictions_give_the_scores_again(self) -> None:
        published = pl.DataFrame(QUANTILE.published(self.score, 0.5))
        assert published.columns == ["score", "prediction", "lower", "upper"]
        assert published["prediction"].to_list() == [1.0, 6.0, 8.0]
        assert (QUANTILE.scores_of(published) == self.score).all()


class TestMulticlass:
    truth = np.array([0.0, 1.0, 2.0, 2.0])
    score = np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.2, 0.2, 0.6]])

    def test_the_loss_is_that_of_scikit_learn(self) -> None:
        assert MULTICLASS.loss_by_row(self.truth, self.score).mean() == pytest.approx(log_loss(self.truth, self.score))
        measured = MULTICLASS.metrics(self.truth, self.score)
        assert measured["accuracy"] == 0.75
        assert measured["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(self.truth, [0, 0, 2, 2]))

    def test_a_label_that_the_fit_never_saw_has_the_probability_0(self) -> None:
        estimator = Probabilities([0.0, 2.0], np.array([[0.4, 0.6]]))
        assert MULTICLASS.predict(estimator, pd.DataFrame({"x": [1.0]})).tolist() == [[0.4, 0.0, 0.6]]

    def test_published_predictions_are_labels_and_give_the_scores_again(self) -> None:
        published = pl.DataFrame(MULTICLASS.published(self.score, 0.5))
        assert published["label"].to_list() == ["early", "early", "late", "late"]
        assert published["prediction"].to_list() == [0.0, 0.0, 2.0, 2.0]
        assert published["score"].to_list() == [0.7, 0.5, 0.8, 0.6]
        assert json.loads(published["probabilities"][0]) == {"early": 0.7, "on time": 0.2, "late": 0.1}
        assert (MULTICLASS.scores_of(published) == self.score).all()
        more = get_problem_type("multiclass").of(quantiles=(), classes=("early", "on time", "late", "cancelled"))
        assert more.scores_of(published)[:, 3].tolist() == [0.0] * 4, "an older version did not know the label"

    def test_an_outcome_is_the_number_of_a_label(self) -> None:
        assert MULTICLASS.wrong_labels(np.array([0.0, 2.0, 3.0, -1.0, 0.5])) == 3
        assert MULTICLASS.labels == "the labels early, on time, late"

    def test_the_level_names_the_label_that_is_furthest_off(self) -> None:
        assert MULTICLASS.level_gap(self.truth, self.score) == pytest.approx(0.125)
        assert MULTICLASS.describe_level(self.truth, self.score).startswith("early: mean probability 0.375 against")


class Transforms:
    """An estimator that gives these columns."""

    def __init__(self, columns: np.ndarray) -> None:
        self.columns = columns

    def transform(self, features: pd.DataFrame) -> np.ndarray:
        return self.columns


class Probabilities:
    """An estimator that gives these probabilities of these classes."""

    def __init__(self, classes: list[float], found: np.ndarray) -> None:
        self.classes_, self.found = classes, found

    def predict_proba(self, features: pd.DataFrame) -> np.ndarray:
        return self.found


@pytest.mark.parametrize("quantiles", [(0.5, 0.1, 0.9), (0.1, 0.5, 1.0), (0.0, 0.5, 0.9)])
def test_quantiles_are_in_order_and_between_0_and_1(quantiles: tuple[float, float, float]) -> None:
    keys = DELAY.model_dump(by_alias=True) | {"quantiles": quantiles, "folder": DELAY.folder}
    with pytest.raises(ValidationError, match="three numbers between 0 and 1, in ascending order"):
        Model.model_validate(keys)

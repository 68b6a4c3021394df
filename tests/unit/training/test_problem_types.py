import numpy as np
import pytest
from pydantic import ValidationError

from include.config.loading import load_model
from include.config.model import Model
from include.training.problem_types import PROBLEM_TYPES, get_problem_type
from include.training.problem_types.regression import Regression

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

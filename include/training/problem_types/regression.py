"""Outcomes that are numbers; a score is the predicted number."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from include.core.threshold import Threshold
from include.training.problem_types.base import ProblemType
from include.training.relative_errors import RELATIVE_ERRORS, relative_errors

if TYPE_CHECKING:  # every DAG file loads this module
    import pandas as pd


class Regression(ProblemType):
    """Choose by mae, not by rmse: a few extreme outcomes must not choose the model."""

    kind = "regression"
    chosen_by = "mae"
    gate_metrics = ("mae", "rmse", "r2", "wape", "mape")
    leakage = Threshold(metric="r2", at_most=0.9)
    predict_method = "predict"
    performance_metrics: ClassVar[Mapping[str, str]] = {
        "mae": "mean absolute error, in the outcome's unit",
        "rmse": "root of the mean squared error, in the outcome's unit",
        "mean_error": "mean of score minus outcome, in the outcome's unit",
        "r2": "share of the outcome's variance that is explained; not defined when all outcomes are equal",
        **RELATIVE_ERRORS,
    }

    def loss_by_row(self, truth: np.ndarray, score: np.ndarray) -> np.ndarray:
        """Return the absolute error."""
        return np.asarray(np.abs(truth - score))

    def decide(self, score: np.ndarray, threshold: float) -> np.ndarray:
        """Return the scores: a predicted number is its own decision."""
        return score

    def quality(self, truth: np.ndarray, score: np.ndarray) -> dict[str, float]:
        """Return mae, rmse, when outcomes differ r2, and the relative errors."""
        from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

        measured = {
            "mae": mean_absolute_error(truth, score),
            "rmse": float(np.sqrt(mean_squared_error(truth, score))),
        }
        if truth.var() > 0:
            measured["r2"] = r2_score(truth, score)
        return measured | relative_errors(truth, score)

    def calibration_metrics(self, truth: np.ndarray, score: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
        """Return mean_error."""
        return {"mean_error": float((score - truth).mean())}

    def constant(self, truth: np.ndarray) -> float:
        """Return the median: the constant with the least absolute error."""
        return float(np.median(truth))

    def predict(self, estimator: Any, features: "pd.DataFrame") -> np.ndarray:
        """Return the predicted value."""
        return np.asarray(estimator.predict(features), dtype=np.float64)

    def level_gap(self, truth: np.ndarray, score: np.ndarray) -> float:
        """Return the absolute median error.

        The least absolute error aims at the median; the mean of skewed outcomes is elsewhere.
        """
        return float(abs(np.median(score - truth)))

    def describe_level(self, truth: np.ndarray, score: np.ndarray) -> str:
        """Name the measure."""
        return "median error"

    def changed_decisions(
        self, score: np.ndarray, other: np.ndarray, *, thresholds: tuple[float, float], change: float | None
    ) -> np.ndarray:
        """Count a decision as changed when the scores differ by more than `change`."""
        assert change is not None
        return np.asarray(np.abs(score - other) > change)

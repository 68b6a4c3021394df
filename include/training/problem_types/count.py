"""Outcomes that count something: whole numbers from 0; a score is the expected number."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from include.core.threshold import Threshold
from include.training.problem_types.base import ProblemType
from include.training.relative_errors import RELATIVE_ERRORS, relative_errors

if TYPE_CHECKING:  # every DAG file loads this module
    import pandas as pd

LEAST = 1e-6
"""The least expected number: the deviance of an expected 0 is infinite as soon as one thing happens."""


class Count(ProblemType):
    """Choose by Poisson deviance, not by mae: the median of rare things is 0, and a model that says so is no use."""

    kind = "count"
    chosen_by = "poisson_deviance"
    gate_metrics = ("poisson_deviance", "d2", "mae", "wape")
    leakage = Threshold(metric="d2", at_most=0.95)
    level_limit = 0.1
    shift_limit = 0.2
    predict_method = "predict"
    needs_different_outcomes = True
    labels = "whole numbers from 0"
    performance_metrics: ClassVar[Mapping[str, str]] = {
        "poisson_deviance": "mean Poisson deviance of the expected numbers",
        "d2": "share by which the deviance is below that of a constant; not defined when all outcomes are equal",
        "mae": "mean absolute error, in things counted",
        "wape": RELATIVE_ERRORS["wape"],
        "mean_error": "mean of score minus outcome, in things counted",
        "level": "sum of scores as a share of the sum of outcomes; above 1 is too high; not defined when all are 0",
    }

    def loss_by_row(self, truth: np.ndarray, score: np.ndarray) -> np.ndarray:
        """Return the Poisson deviance; an expected number of 0 or less counts as 0.000001."""
        from scipy.special import xlogy

        expected = np.maximum(score, LEAST)
        return np.asarray(2.0 * (xlogy(truth, truth / expected) - truth + expected))

    def decide(self, score: np.ndarray, threshold: float) -> np.ndarray:
        """Return the scores: an expected number is its own decision."""
        return score

    def quality(self, truth: np.ndarray, score: np.ndarray) -> dict[str, float]:
        """Return poisson_deviance, mae, wape and, when outcomes differ, d2."""
        relative = relative_errors(truth, score)
        return {
            "poisson_deviance": float(self.loss_by_row(truth, score).mean()),
            **self.explained(truth, score),
            "mae": float(np.abs(truth - score).mean()),
            **{name: value for name, value in relative.items() if name == "wape"},  # most counts have zeros
        }

    def calibration_metrics(self, truth: np.ndarray, score: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
        """Return mean_error and level."""
        measured = {"mean_error": float((score - truth).mean())}
        return measured | ({"level": float(score.sum() / truth.sum())} if truth.sum() > 0 else {})

    def constant(self, truth: np.ndarray) -> float:
        """Return the mean: the constant with the least deviance."""
        return float(np.mean(truth))

    def predict(self, estimator: Any, features: "pd.DataFrame") -> np.ndarray:
        """Return the expected number."""
        return np.asarray(estimator.predict(features), dtype=np.float64)

    def level_gap(self, truth: np.ndarray, score: np.ndarray) -> float:
        """Return by which share the sum of scores is off from the sum of outcomes; infinity if nothing happened."""
        return float(abs(score.sum() / truth.sum() - 1.0)) if truth.sum() > 0 else float("inf")

    def describe_level(self, truth: np.ndarray, score: np.ndarray) -> str:
        """Name both sums."""
        return f"{score.sum():,.0f} expected against {truth.sum():,.0f} counted: as a share, off by"

    def shift(self, score: np.ndarray, champion: np.ndarray) -> float:
        """Return the mean distance as a share of the champion's mean score."""
        return float(np.abs(score - champion).mean() / max(champion.mean(), LEAST))

    def changed_decisions(
        self, score: np.ndarray, other: np.ndarray, *, thresholds: tuple[float, float], change: float | None
    ) -> np.ndarray:
        """Count a decision as changed when the scores differ by more than `change`."""
        assert change is not None
        return np.asarray(np.abs(score - other) > change)

    def wrong_labels(self, labels: np.ndarray) -> int:
        """Count what is below 0 or no whole number."""
        return int((~((labels >= 0) & (labels == np.floor(labels)))).sum())

"""Outcomes that are 0 or 1; a score is the probability of 1."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from include.core.threshold import Threshold
from include.training.calibration import expected_calibration_error
from include.training.problem_types.base import ProblemType

if TYPE_CHECKING:  # every DAG file loads this module
    import pandas as pd


class Binary(ProblemType):
    """Choose by log_loss, not by roc_auc: the level of a published probability counts, not only the order of rows."""

    kind = "binary"
    chosen_by = "log_loss"
    gate_metrics = ("log_loss", "brier", "roc_auc")
    leakage = Threshold(metric="roc_auc", at_most=0.95)
    scores_are_probabilities = True
    predicts_numbers = False
    level_limit = 0.05
    shift_limit = 0.1
    predict_method = "predict_proba"
    needs_different_outcomes = True
    labels = "0 and 1"
    performance_metrics: ClassVar[Mapping[str, str]] = {
        "log_loss": "mean negative log likelihood, in nats",
        "brier": "mean squared difference of score and outcome",
        "roc_auc": "area under the ROC curve; not defined when all outcomes are equal",
        "base_rate": "share of outcomes that are 1",
        "mean_score": "mean of the scores",
        "calibration_gap": "mean score minus base_rate; above 0 is too high",
        "ece": "expected calibration error, in 10 bins of equal count",
        "accuracy": "share of predictions equal to the outcome",
    }

    def loss_by_row(self, truth: np.ndarray, score: np.ndarray) -> np.ndarray:
        """Return the negative log likelihood in nats, clipped as scikit-learn does."""
        likely = np.where(truth == 1.0, score, 1.0 - score)
        return np.asarray(-np.log(np.clip(likely, np.finfo(np.float64).eps, 1.0)))

    def decide(self, score: np.ndarray, threshold: float) -> np.ndarray:
        """Return 1 where the score reaches the threshold, else 0 (f64)."""
        return np.asarray(score >= threshold, dtype=np.float64)

    def quality(self, truth: np.ndarray, score: np.ndarray) -> dict[str, float]:
        """Return log_loss, brier, base_rate and, when both outcomes occur, roc_auc."""
        if not len(truth) or not ((truth == 0.0) | (truth == 1.0)).all():
            raise ValueError("outcomes are known, and each is 0 or 1; at least one is needed")
        if not ((score >= 0.0) & (score <= 1.0)).all():
            raise ValueError("a score is no probability: each must be from 0 to 1")
        rate = float(truth.mean())
        given = np.where(truth == 1.0, score, 1.0 - score)  # the probability of what happened
        eps = np.finfo(np.float64).eps
        measured = {
            "log_loss": float(-np.log(np.clip(given, eps, 1.0 - eps)).mean()),
            "brier": float((((1.0 - truth) - (1.0 - score)) ** 2 + (truth - score) ** 2).mean() * 0.5),
            "base_rate": rate,
        }
        if 0.0 < rate < 1.0:
            measured["roc_auc"] = _roc_auc(truth, score)
        return measured

    def calibration_metrics(self, truth: np.ndarray, score: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
        """Return mean_score, calibration_gap, ece and accuracy."""
        return {
            "mean_score": float(score.mean()),
            "calibration_gap": float((score - truth).mean()),
            "ece": expected_calibration_error(truth, score),
            "accuracy": float((prediction == truth).mean()),
        }

    def constant(self, truth: np.ndarray) -> float:
        """Return the mean: the constant with the least log loss."""
        return float(np.mean(truth))

    def predict(self, estimator: Any, features: "pd.DataFrame") -> np.ndarray:
        """Return the probability of 1."""
        return np.asarray(estimator.predict_proba(features)[:, 1], dtype=np.float64)

    def level_gap(self, truth: np.ndarray, score: np.ndarray) -> float:
        """Return the absolute difference of mean score and mean outcome."""
        return float(abs(score.mean() - truth.mean()))

    def describe_level(self, truth: np.ndarray, score: np.ndarray) -> str:
        """Name both means."""
        return f"mean score {score.mean():.3g} against mean outcome {truth.mean():.3g}: off by"

    def changed_decisions(
        self, score: np.ndarray, other: np.ndarray, *, thresholds: tuple[float, float], change: float | None
    ) -> np.ndarray:
        """Compare decisions, each by the threshold of its version."""
        return np.asarray((score >= thresholds[0]) != (other >= thresholds[1]))

    def wrong_labels(self, labels: np.ndarray) -> int:
        """Count what is neither 0 nor 1."""
        return int((~np.isin(labels, [0.0, 1.0])).sum())


def _roc_auc(truth: np.ndarray, score: np.ndarray) -> float:
    """Return the area under the ROC curve, where both outcomes occur.

    This and the other metrics are those of scikit-learn to the bit. Its functions examine their arguments for five
    milliseconds a call, and intervals need them some hundred times.
    """
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)  # the last row of each distinct score
    hits = np.cumsum(truth[order])[ends]
    misses = 1.0 + ends - hits
    if len(ends) > 2:  # points between two others of a straight line do not count
        corners = np.flatnonzero(np.concatenate([[True], (np.diff(misses, 2) != 0) | (np.diff(hits, 2) != 0), [True]]))
        hits, misses = hits[corners], misses[corners]
    found, wrongly_found = (np.concatenate([[0.0], each / each[-1]]) for each in (hits, misses))
    return float(np.trapezoid(found, wrongly_found))

"""Outcomes that are one of several labels; scores are the probability of each.

An outcome is the number of its label, in the order of `labels` in project.yaml, counted from 0.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from include.core.threshold import Threshold
from include.training.calibration import expected_calibration_error
from include.training.problem_types.base import ProblemType

if TYPE_CHECKING:  # every DAG file loads this module
    import pandas as pd
    import polars as pl


class Multiclass(ProblemType):
    """Choose by log_loss, not by accuracy: the probabilities are published, not only the most probable label."""

    kind = "multiclass"
    chosen_by = "log_loss"
    gate_metrics = ("log_loss", "d2", "accuracy", "balanced_accuracy")
    leakage = Threshold(metric="d2", at_most=0.8)
    scores_are_probabilities = True
    predicts_numbers = False
    level_limit = 0.05
    shift_limit = 0.1
    predict_method = "predict_proba"
    needs_different_outcomes = True
    performance_metrics: ClassVar[Mapping[str, str]] = {
        "log_loss": "mean negative log likelihood of the true label, in nats",
        "d2": "share by which the loss is below that of constant rates; not defined when all outcomes are equal",
        "accuracy": "share of predictions equal to the outcome",
        "balanced_accuracy": "mean over the labels that occur of the share of their outcomes that are predicted",
        "calibration_gap": "largest difference, over the labels, of mean probability and share of outcomes",
        "ece": "expected calibration error, in 10 bins of equal count, mean over the labels",
    }

    def __init__(self, classes: tuple[str, ...] = ("0", "1", "2")) -> None:
        """Predict these labels, in this order."""
        self.classes = classes

    @property
    def labels(self) -> str:  # type: ignore[override]
        """What an outcome can be, in words."""
        return f"the labels {', '.join(self.classes)}"

    def of(self, *, quantiles: tuple[float, ...], classes: tuple[str, ...]) -> Self:
        """Return the problem type for these labels."""
        return type(self)(classes) if classes else self

    def loss_by_row(self, truth: np.ndarray, score: np.ndarray) -> np.ndarray:
        """Return the negative log likelihood in nats, clipped as scikit-learn does."""
        likely = score[np.arange(len(truth)), truth.astype(np.int64)]
        return np.asarray(-np.log(np.clip(likely, np.finfo(np.float64).eps, 1.0)))

    def decide(self, score: np.ndarray, threshold: float) -> np.ndarray:
        """Return the number (f64) of the most probable label; among equals, the first."""
        return np.asarray(score.argmax(axis=1), dtype=np.float64)

    def published(self, score: np.ndarray, threshold: float) -> dict[str, Any]:
        """Return the probability of the most probable label, its number and its name, and all probabilities as JSON."""
        chosen = score.argmax(axis=1)
        return {
            "score": score[np.arange(len(score)), chosen],
            "prediction": chosen.astype(np.float64),
            "label": [self.classes[n] for n in chosen],
            "probabilities": [
                json.dumps(dict(zip(self.classes, row, strict=True)), ensure_ascii=False) for row in score.tolist()
            ],
        }

    def scores_of(self, rows: "pl.DataFrame") -> np.ndarray:
        """Return the probabilities of published predictions; 0 for a label that their version did not know."""
        found = [json.loads(text) for text in rows["probabilities"]]
        return np.array([[each.get(name, 0.0) for name in self.classes] for each in found]).reshape(
            len(found), len(self.classes)
        )

    def quality(self, truth: np.ndarray, score: np.ndarray) -> dict[str, float]:
        """Return log_loss, d2, accuracy and balanced_accuracy."""
        right = score.argmax(axis=1) == truth
        return {
            "log_loss": float(self.loss_by_row(truth, score).mean()),
            **self.explained(truth, score),
            "accuracy": float(right.mean()),
            "balanced_accuracy": float(np.mean([right[truth == number].mean() for number in np.unique(truth)])),
        }

    def calibration_metrics(self, truth: np.ndarray, score: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
        """Return calibration_gap and ece."""
        return {"calibration_gap": self.level_gap(truth, score), "ece": self.calibration_error(truth, score, 10)}

    def calibration_error(self, truth: np.ndarray, score: np.ndarray, bins: int) -> float:
        """Return the mean, over the labels, of the expected calibration error of each against the others."""
        errors = [
            expected_calibration_error((truth == number).astype(np.float64), score[:, number], bins)
            for number in range(len(self.classes))
        ]
        return float(np.mean(errors))

    def constant(self, truth: np.ndarray) -> np.ndarray:
        """Return the share of each label: the constants with the least log loss."""
        return np.bincount(truth.astype(np.int64), minlength=len(self.classes)) / len(truth)

    def predict(self, estimator: Any, features: "pd.DataFrame") -> np.ndarray:
        """Return the probability of each label (n x labels); 0 for one that the fit never saw.

        The classes of an estimator are the numbers of labels or, if it was fitted elsewhere, the labels.
        """
        found = np.asarray(estimator.predict_proba(features), dtype=np.float64)
        score, known = np.zeros((len(found), len(self.classes))), list(self.classes)
        numbers = [known.index(each) if isinstance(each, str) else int(each) for each in estimator.classes_]
        score[:, numbers] = found
        return score

    def shift(self, score: np.ndarray, champion: np.ndarray) -> float:
        """Return the mean total variation distance, from 0 to 1."""
        return float(0.5 * np.abs(score - champion).sum(axis=1).mean())

    def level_gap(self, truth: np.ndarray, score: np.ndarray) -> float:
        """Return the largest difference, over the labels, of mean probability and share of outcomes."""
        return float(np.abs(score.mean(axis=0) - self.constant(truth)).max())

    def describe_level(self, truth: np.ndarray, score: np.ndarray) -> str:
        """Name the label that is furthest off."""
        mean, share = score.mean(axis=0), self.constant(truth)
        worst = int(np.abs(mean - share).argmax())
        return (
            f"{self.classes[worst]}: mean probability {mean[worst]:.3g} against a share of {share[worst]:.3g}: off by"
        )

    def changed_decisions(
        self, score: np.ndarray, other: np.ndarray, *, thresholds: tuple[float, float], change: float | None
    ) -> np.ndarray:
        """Compare the most probable labels."""
        return np.asarray(score.argmax(axis=1) != other.argmax(axis=1))

    def wrong_labels(self, labels: np.ndarray) -> int:
        """Count what is not the number of a label."""
        return int((~np.isin(labels, np.arange(len(self.classes)))).sum())

"""Outcomes that are numbers; scores are three quantiles of each: a lower limit, the prediction and an upper limit."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from include.core.threshold import Threshold
from include.training.problem_types.base import ProblemType
from include.training.relative_errors import RELATIVE_ERRORS, relative_errors

if TYPE_CHECKING:  # every DAG file loads this module
    import pandas as pd
    import polars as pl

LOWER, MIDDLE, UPPER = 0, 1, 2


class Quantile(ProblemType):
    """Choose by pinball loss, which is least at the true quantiles; the mean over the three of them."""

    kind = "quantile"
    chosen_by = "pinball"
    gate_metrics = ("pinball", "d2", "coverage", "width", "mae", "wape", "mape")
    leakage = Threshold(metric="d2", at_most=0.8)
    level_limit = 0.08  # less than 0.1, or limits that no outcome is ever beyond would pass
    predict_method = "transform"
    performance_metrics: ClassVar[Mapping[str, str]] = {
        "pinball": "mean pinball loss of the three quantiles, in the outcome's unit",
        "d2": "share by which the loss is below that of constants; not defined when all outcomes are equal",
        "coverage": "share of outcomes from lower to upper; the difference of the two quantiles is right",
        "below": "share of outcomes below lower",
        "above": "share of outcomes above upper",
        "width": "mean of upper minus lower, in the outcome's unit",
        "mae": "mean absolute error of the prediction, in the outcome's unit",
        "mean_error": "mean of prediction minus outcome, in the outcome's unit",
        **RELATIVE_ERRORS,
    }

    def __init__(self, quantiles: tuple[float, ...] = (0.1, 0.5, 0.9)) -> None:
        """Predict these quantiles, in ascending order."""
        self.quantiles = np.asarray(quantiles)

    def of(self, *, quantiles: tuple[float, ...], classes: tuple[str, ...]) -> Self:
        """Return the problem type for these quantiles."""
        return type(self)(quantiles)

    def loss_by_row(self, truth: np.ndarray, score: np.ndarray) -> np.ndarray:
        """Return the mean pinball loss of the quantiles (Koenker and Bassett 1978)."""
        above = truth[:, None] - score
        return np.asarray(np.maximum(self.quantiles * above, (self.quantiles - 1.0) * above).mean(axis=1))

    def decide(self, score: np.ndarray, threshold: float) -> np.ndarray:
        """Return the middle quantile."""
        return self.point(score)

    def point(self, score: np.ndarray) -> np.ndarray:
        """Return the middle quantile."""
        return np.asarray(score[:, MIDDLE])

    def published(self, score: np.ndarray, threshold: float) -> dict[str, Any]:
        """Return score and prediction, which are the middle quantile, and lower and upper."""
        point = self.point(score)
        return {"score": point, "prediction": point, "lower": score[:, LOWER], "upper": score[:, UPPER]}

    def scores_of(self, rows: "pl.DataFrame") -> np.ndarray:
        """Return the three quantiles of published predictions."""
        return rows.select("lower", "score", "upper").to_numpy()

    def quality(self, truth: np.ndarray, score: np.ndarray) -> dict[str, float]:
        """Return pinball, d2, coverage, width, mae and the relative errors."""
        point = self.point(score)
        within = (score[:, LOWER] <= truth) & (truth <= score[:, UPPER])
        return {
            "pinball": float(self.loss_by_row(truth, score).mean()),
            **self.explained(truth, score),
            "coverage": float(within.mean()),
            "width": float((score[:, UPPER] - score[:, LOWER]).mean()),
            "mae": float(np.abs(truth - point).mean()),
            **relative_errors(truth, point),
        }

    def calibration_metrics(self, truth: np.ndarray, score: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
        """Return mean_error, below and above."""
        return {
            "mean_error": float((self.point(score) - truth).mean()),
            "below": float((truth < score[:, LOWER]).mean()),
            "above": float((truth > score[:, UPPER]).mean()),
        }

    def constant(self, truth: np.ndarray) -> np.ndarray:
        """Return the quantiles of the outcomes: the constants with the least loss."""
        return np.asarray(np.quantile(truth, self.quantiles))

    def predict(self, estimator: Any, features: "pd.DataFrame") -> np.ndarray:
        """Return the three quantiles of each row (n x 3), sorted: estimators of single quantiles can cross.

        Sorting never makes the loss greater (Chernozhukov, Fernández-Val and Galichon 2010).

        Raises:
            ValueError: the estimator gives another number of columns.
        """
        found = np.asarray(estimator.transform(features), dtype=np.float64)
        if found.shape != (len(features), len(self.quantiles)):
            raise ValueError(
                f"`transform` of the estimator must give a column for each of the {len(self.quantiles)} quantiles, and "
                f"gave {found.shape}; see docs/add-a-model.md"
            )
        return np.sort(found, axis=1)

    def level_gap(self, truth: np.ndarray, score: np.ndarray) -> float:
        """Return the largest distance of a quantile from the share of outcomes that are not above it."""
        return float(np.abs(self._reached(truth, score) - self.quantiles).max())

    def describe_level(self, truth: np.ndarray, score: np.ndarray) -> str:
        """Name the share of outcomes up to each quantile."""
        reached = zip(self._reached(truth, score), self.quantiles, strict=True)
        return (
            f"outcomes up to each quantile: {', '.join(f'{r:.1%} of {q:.1%}' for r, q in reached)}; the furthest off by"
        )

    def _reached(self, truth: np.ndarray, score: np.ndarray) -> np.ndarray:
        """Return for each quantile the share of outcomes up to it; an outcome that is equal counts as half."""
        below, equal = truth[:, None] < score, truth[:, None] == score
        return np.asarray((below + 0.5 * equal).mean(axis=0))

    def changed_decisions(
        self, score: np.ndarray, other: np.ndarray, *, thresholds: tuple[float, float], change: float | None
    ) -> np.ndarray:
        """Count a decision as changed when a quantile differs by more than `change`."""
        assert change is not None
        return np.asarray((np.abs(score - other) > change).any(axis=1))

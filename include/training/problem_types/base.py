"""What every problem type provides. One file beside this one for each of them; nothing here reads or writes."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from include.core.threshold import Threshold
from include.training.calibration import expected_calibration_error

if TYPE_CHECKING:  # every DAG file loads this module
    import pandas as pd
    import polars as pl


class ProblemType(ABC):
    """What depends on the kind of outcome that a model predicts.

    Scores are an array with one row for each entity: of one number, or of several where a problem type says so.
    """

    kind: ClassVar[str]
    """The word in `model.yaml`."""
    chosen_by: ClassVar[str]
    """The metric by which the best candidate is chosen, the least being best; the mean of `loss_by_row`."""
    gate_metrics: ClassVar[tuple[str, ...]]
    """The metrics that thresholds of the gate may use; calibration has checks of its own."""
    leakage: ClassVar[Threshold]
    """What no honest model reaches, unless `model.yaml` says otherwise."""
    scores_are_probabilities: ClassVar[bool] = False
    """Whether scores are probabilities, so that a calibration error can be measured in bins of them."""
    predicts_numbers: ClassVar[bool] = True
    """Whether a prediction is a number in the outcome's unit: a point, which other numbers can be compared with."""
    level_limit: ClassVar[float | None] = None
    """The largest `level_gap` if `model.yaml` says nothing; None where it is in the outcome's unit."""
    shift_limit: ClassVar[float | None] = None
    """The largest `shift` from the champion if `model.yaml` says nothing; None where it is in the outcome's unit."""
    predict_method: ClassVar[str]
    """The method of a scikit-learn estimator that gives the scores."""
    needs_different_outcomes: ClassVar[bool] = False
    """Whether a fit needs rows with different outcomes."""
    labels: ClassVar[str] = "numbers"
    """What an outcome can be, in words."""
    performance_metrics: ClassVar[Mapping[str, str]]
    """Each metric of published scores, in the order in which it is stored, with its meaning."""

    @abstractmethod
    def loss_by_row(self, truth: np.ndarray, score: np.ndarray) -> np.ndarray:
        """Return the loss of each row (f64)."""

    @abstractmethod
    def decide(self, score: np.ndarray, threshold: float) -> np.ndarray:
        """Return the prediction (f64) of each score, which the decision threshold may decide."""

    @abstractmethod
    def quality(self, truth: np.ndarray, score: np.ndarray) -> dict[str, float]:
        """Return the metrics of at least one row; leave out what is not defined."""

    @abstractmethod
    def calibration_metrics(self, truth: np.ndarray, score: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
        """Return what monitoring measures beside `quality`, of at least one row."""

    @abstractmethod
    def constant(self, truth: np.ndarray) -> float | np.ndarray:
        """Return the constant with the least loss on these rows: the dummy baseline."""

    @abstractmethod
    def predict(self, estimator: Any, features: "pd.DataFrame") -> np.ndarray:
        """Return a score (f64) for each row."""

    @abstractmethod
    def level_gap(self, truth: np.ndarray, score: np.ndarray) -> float:
        """Return how far the level of the scores is from that of the outcomes, at least 0."""

    @abstractmethod
    def describe_level(self, truth: np.ndarray, score: np.ndarray) -> str:
        """Return the beginning of the sentence on `level_gap`; the number follows it."""

    @abstractmethod
    def changed_decisions(
        self, score: np.ndarray, other: np.ndarray, *, thresholds: tuple[float, float], change: float | None
    ) -> np.ndarray:
        """Return for each row whether the decision by `score` is another than that by `other`.

        Args:
            score: of one version.
            other: of another version, on the same rows.
            thresholds: the decision thresholds of the two.
            change: the difference of scores over which a decision counts as changed, where scores are numbers.
        """

    def of(self, *, quantiles: tuple[float, ...], classes: tuple[str, ...]) -> "ProblemType":
        """Return the problem type with what `model.yaml` and the outcome declare of it."""
        return self

    def published(self, score: np.ndarray, threshold: float) -> dict[str, Any]:
        """Return the columns of predictions that this problem type has: score and prediction (f64), and others."""
        return {"score": score, "prediction": self.decide(score, threshold)}

    def scores_of(self, rows: "pl.DataFrame") -> np.ndarray:
        """Return the scores of rows with the columns of `published`."""
        return rows["score"].to_numpy()

    def calibration_error(self, truth: np.ndarray, score: np.ndarray, bins: int) -> float:
        """Return the expected calibration error, where scores are probabilities."""
        return expected_calibration_error(truth, score, bins)

    def wrong_labels(self, labels: np.ndarray) -> int:
        """Count the labels that an outcome of this problem type cannot have."""
        return 0

    def point(self, score: np.ndarray) -> np.ndarray:
        """Return the predicted number (f64) of each score, where a prediction is a number."""
        return score

    def shift(self, score: np.ndarray, champion: np.ndarray) -> float:
        """Return how far scores are from the champion's of the same rows, at least 0."""
        return float(np.abs(score - champion).mean())

    def explained(self, truth: np.ndarray, score: np.ndarray) -> dict[str, float]:
        """Return `d2`: by which share the loss is below that of the constant that is best on the same rows.

        It is 1 at best. It is the R² of other losses than the squared error (Hastie, Tibshirani and Wainwright 2015,
        sections 3.6 and 3.7). Empty if the constant has no loss.
        """
        constant = self.loss_by_row(truth, self.repeat(self.constant(truth), len(truth))).mean()
        return {"d2": float(1.0 - self.loss_by_row(truth, score).mean() / constant)} if constant > 0 else {}

    @staticmethod
    def repeat(constant: float | np.ndarray, rows: int) -> np.ndarray:
        """Return the scores of a constant: the same for each row."""
        return np.broadcast_to(constant, (rows, *np.shape(constant))).astype(np.float64)

    def metrics(self, truth: np.ndarray, score: np.ndarray) -> dict[str, float]:
        """Return the number of rows and the metrics that are defined and finite."""
        measured = {"rows": float(len(truth))}
        if len(truth):
            measured |= self.quality(truth, score)
        return {name: float(value) for name, value in measured.items() if np.isfinite(value)}

    def performance(self, truth: np.ndarray, score: np.ndarray, prediction: np.ndarray) -> dict[str, float | None]:
        """Return each of `performance_metrics` for published scores, None where it is not defined."""
        measured = self.metrics(truth, score)
        if len(truth):
            measured |= self.calibration_metrics(truth, score, prediction)
        return {name: measured.get(name) for name in self.performance_metrics}

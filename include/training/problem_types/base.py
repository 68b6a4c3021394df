"""What every problem type provides. One file beside this one for each of them; nothing here reads or writes."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from include.core.threshold import Threshold

if TYPE_CHECKING:  # every DAG file loads this module
    import pandas as pd


class ProblemType(ABC):
    """What depends on the kind of outcome that a model predicts."""

    kind: ClassVar[str]
    """The word in `model.yaml`."""
    chosen_by: ClassVar[str]
    """The metric by which the best candidate is chosen, the least being best; the mean of `loss_by_row`."""
    gate_metrics: ClassVar[tuple[str, ...]]
    """The metrics that thresholds of the gate may use; calibration has checks of its own."""
    leakage: ClassVar[Threshold]
    """What no honest model reaches, unless `model.yaml` says otherwise."""
    scores_are_probabilities: ClassVar[bool]
    """Whether scores are from 0 to 1, so that their limits have defaults. Others are in the outcome's unit."""
    predict_method: ClassVar[str]
    """The method of a scikit-learn estimator that gives the scores."""
    needs_both_outcomes: ClassVar[bool]
    """Whether a fit needs rows with different outcomes."""
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
    def constant(self, truth: np.ndarray) -> float:
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

    @abstractmethod
    def wrong_labels(self, labels: np.ndarray) -> int:
        """Count the labels that an outcome of this problem type cannot have."""

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

"""What the checks of the gate measure: scores and outcomes of the holdout rows. `steps/gate.py` collects it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from include.training.problem_types import ProblemType

if TYPE_CHECKING:  # every DAG file loads this module
    import polars as pl


@dataclass(frozen=True)
class HoldoutScores:
    """A model's scores of the holdout rows, one (f64) for each row, and how they were made."""

    name: str
    score: np.ndarray
    columns: tuple[str, ...] = ()
    decision_threshold: float = 0.5


@dataclass(frozen=True)
class Evidence:
    """All that the checks see. Arrays and frames have one entry for each holdout row, in the same order.

    Attributes:
        problem_type: of the model.
        inputs: the feature columns that `model.yaml` declares.
        seed: of the model, for resampling.
        days: the target day of each row (datetime64[D]), whose outcome it has.
        truth: the outcome of each row (f64).
        labels: columns that slices are made of: features, and the horizon.
        fitted_truth: the outcomes (f64) of the rows fitted on, from which the dummy baseline is made.
        challenger: the version that the gate decides on.
        candidates: candidate → its scores, for those that a check compares with and that were fitted.
        champion: the version to beat, None if there is none or it cannot score these rows.
        champion_missing: why the champion cannot score these rows.
        champion_saw: the last day that the champion was fitted on.
        microseconds_per_row: time to score a row.
        megabytes: size of the logged model.
        naive: the outcome (f64) of the same entity a season earlier, NaN if there is none; None if nobody looked.
    """

    problem_type: ProblemType
    inputs: tuple[str, ...]
    seed: int
    days: np.ndarray
    truth: np.ndarray
    labels: "pl.DataFrame"
    fitted_truth: np.ndarray
    challenger: HoldoutScores
    candidates: Mapping[str, HoldoutScores] = field(default_factory=dict)
    champion: HoldoutScores | None = None
    champion_missing: str | None = None
    champion_saw: date | None = None
    microseconds_per_row: float | None = None
    megabytes: float | None = None
    naive: np.ndarray | None = None

    @property
    def has_champion(self) -> bool:
        """Whether there is a version to beat, also if it cannot score these rows."""
        return self.champion is not None or self.champion_missing is not None

    @property
    def has_history(self) -> bool:
        """Whether most rows have an outcome of the same entity a season earlier."""
        return self.naive is not None and bool(len(self.naive)) and bool(np.isfinite(self.naive).mean() > 0.5)

    @property
    def has_score(self) -> np.ndarray:
        """For each row, whether the challenger's score is a number, or all of them are."""
        finite = np.isfinite(self.challenger.score)
        return finite if finite.ndim == 1 else np.asarray(finite.all(axis=1))

    @cached_property
    def finite(self) -> bool:
        """Whether there is a row, and each score of the challenger is a number."""
        return bool(len(self.truth)) and bool(np.isfinite(self.challenger.score).all())

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The challenger's metrics, without those that are not defined."""
        return self.problem_type.metrics(self.truth, self.challenger.score) if self.finite else {}

    @cached_property
    def loss(self) -> float | None:
        """The challenger's loss: the metric by which candidates are chosen."""
        return self.metrics.get(self.problem_type.chosen_by)

    @cached_property
    def dummy(self) -> np.ndarray:
        """The scores of the dummy baseline: the best constant for the rows fitted on, repeated for each row."""
        constant = self.problem_type.constant(self.fitted_truth) if len(self.fitted_truth) else np.nan
        return self.problem_type.repeat(constant, len(self.truth))

    @property
    def comparable(self) -> bool:
        """Whether challenger and champion have a score for each row."""
        return self.champion is not None and self.finite and bool(np.isfinite(self.champion.score).all())

    def mean_loss(self, score: np.ndarray, rows: np.ndarray | slice = slice(None)) -> float | None:
        """Return the mean loss of scores on the rows that a mask selects; None without a row or with a NaN."""
        truth, score = self.truth[rows], score[rows]
        if not len(truth) or not np.isfinite(score).all():
            return None
        return float(self.problem_type.loss_by_row(truth, score).mean())

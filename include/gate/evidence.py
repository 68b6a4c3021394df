"""What the checks of the gate measure: scores and outcomes of the holdout rows. `steps/gate.py` collects it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from include.gate.resampling import Between, between, metric_draws, ratio_draws
from include.gate.single_inputs import measure_inputs
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
class FormerChampion:
    """A version that was champion once.

    Attributes:
        version: its number.
        score: of each holdout row (f64), None if it cannot score them.
        missing: why it cannot.
        saw: the last day that it was fitted on.
    """

    version: int
    score: np.ndarray | None = None
    missing: str | None = None
    saw: date | None = None


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
        fitted: returns the feature columns of rows fitted on, by their numbers in ascending order; None if nobody
            looked.
        too_late: for each row, whether its features used a delivery that came after the moment up to which its run
            date knows; None if nobody looked.
        refit: fits the version's estimator again, on rows fitted on (their numbers) with these outcomes, and returns
            its scores of holdout rows (their numbers); None if it cannot be.
        adopted: whether the version was fitted elsewhere.
        former_champions: returns the champions before the champion, at most so many, the newest first; None if nobody
            looked.
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
    fitted: "Callable[[np.ndarray], pl.DataFrame] | None" = None
    too_late: np.ndarray | None = None
    refit: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray] | None = None
    adopted: bool = False
    former_champions: Callable[[int], Sequence[FormerChampion]] | None = None

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

    @cached_property
    def alone(self) -> dict[str, float]:
        """How much each input alone knows of the outcome, the most first; empty if nobody looked."""
        if self.fitted is None:
            return {}
        inputs = [name for name in self.challenger.columns if name in self.labels.columns]
        return measure_inputs(
            self.problem_type, inputs, self.fitted, self.fitted_truth, self.labels, self.truth, seed=self.seed
        )

    @cached_property
    def metric_intervals(self) -> dict[str, Between]:
        """The interval of each of the challenger's metrics."""
        if not self.finite:
            return {}
        truth, score = self.truth, self.challenger.score
        draws = metric_draws(
            self.days, lambda rows: self.problem_type.metrics(truth[rows], score[rows]), seed=self.seed
        )
        found = {name: between([each.get(name, np.nan) for each in draws], self.days) for name in self.metrics}
        return {name: ends for name, ends in found.items() if ends is not None}

    def interval(self, measure: Callable[[np.ndarray], float]) -> Between | None:
        """Return the interval of what is measured on rows (their numbers)."""
        if not self.finite or len(np.unique(self.days)) < 2:
            return None
        return between(metric_draws(self.days, measure, seed=self.seed), self.days)

    def excess_interval(
        self, own: np.ndarray, other: np.ndarray, rows: np.ndarray | slice = slice(None)
    ) -> Between | None:
        """Return the interval of the share by which the mean of a loss exceeds another, each of the same rows.

        Args:
            own: one loss by row.
            other: the other.
            rows: which rows those are.
        """
        if not len(own) or not np.isfinite(own).all() or not np.isfinite(other).all():
            return None
        return between(ratio_draws(self.days[rows], own, other, seed=self.seed), self.days[rows])

    def loss_interval(self, score: np.ndarray, *, lower_is: float = 1.0) -> Between | None:
        """Return the interval of the share by which the challenger's loss exceeds that of other scores.

        Args:
            score: the other scores, of all rows.
            lower_is: -1 for the share by which it is lower.
        """
        if not self.finite or not np.isfinite(score).all():
            return None
        own, other = (self.problem_type.loss_by_row(self.truth, each) for each in (self.challenger.score, score))
        ends = self.excess_interval(own, other)
        return ends and (min(lower_is * ends[0], lower_is * ends[1]), max(lower_is * ends[0], lower_is * ends[1]))

"""What every check of the gate has in common. One file beside this one for each check."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar, Self

import numpy as np

from include.core.errors import nearest
from include.core.records import Check
from include.core.threshold import Threshold
from include.core.variants import Variant
from include.gate.evidence import Evidence
from include.gate.resampling import CONFIDENCE, Between
from include.training.config import Training
from include.training.problem_types import ProblemType, get_problem_type


class GateCheck(Variant):
    """A check with its settings. What it cannot measure is None, and None fails: silence is never consent."""

    needs_champion: ClassVar[bool] = False
    """Left out while there is no champion: the first version has to pass the other checks."""
    needs_history: ClassVar[bool] = False
    """Left out where most entities of the holdout days have no outcome a season earlier."""
    needs_refit: ClassVar[bool] = False
    """Left out for a version that was fitted elsewhere: its estimator cannot be fitted here."""
    expensive: ClassVar[bool] = False
    """Run only for a version that passes all the others: it fits again, or loads other versions."""

    @property
    def candidates(self) -> tuple[str, ...]:
        """The candidates whose scores this check needs."""
        return ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the features that this check needs, inputs or not."""
        return ()

    def require_fit(self, model: Training) -> None:
        """Raise ValueError when a setting does not fit the model; its text begins after file and kind."""

    @abstractmethod
    def run(self, evidence: Evidence) -> Iterator[Check]:
        """Measure the evidence; yield a verdict with its sentence for each thing that is measured."""

    def verdict(
        self,
        subject: str,
        measured: float | None,
        threshold: Threshold,
        sentence: str,
        form: str = ",.4g",
        *,
        between: Between | None = None,
        excused: str | None = None,
    ) -> Check:
        """Return the verdict on a measured value: the one place where it is given.

        Args:
            subject: what was measured.
            measured: its value; None, NaN and infinity never pass.
            threshold: its limit.
            sentence: what was found, up to the value.
            form: how the value and the limit are written.
            between: the interval of the value.
            excused: why a value beyond the limit passes all the same.
        """
        if measured is not None and not np.isfinite(measured):
            measured = None
        within = measured is not None and threshold.holds(measured)
        low, high = between if between is not None and measured is not None else (None, None)
        side = "least" if threshold.at_least is not None else "most"
        found = "could not be measured" if measured is None else show(measured, form)
        if low is not None:
            found += f" ({CONFIDENCE:.0%} interval {show(low, form)} to {show(high, form)})"
        required = f"at {side} {show(threshold.threshold, form)} is required"
        accepted = measured is not None and not within and excused is not None
        return Check(
            name=self.name,
            subject=subject,
            measured=measured,
            threshold=threshold.threshold,
            passed=within or accepted,
            sentence=f"{sentence} {found}; {required}{f', {excused}' if accepted else ''}",
            low=low,
            high=high,
        )


class MetricCheck(Threshold, GateCheck):
    """A check of one metric of the problem type. One can be listed for each metric."""

    @property
    def subject(self) -> str:
        """The metric."""
        return self.metric

    def require_fit(self, model: Training) -> None:
        """Refuse a metric that the problem type does not have."""
        usable = get_problem_type(model.problem_type).gate_metrics
        if self.metric not in usable:
            raise ValueError(f"{model.problem_type} has no metric {self.metric!r}{nearest(self.metric, usable)}")

    def run(self, evidence: Evidence) -> Iterator[Check]:
        """Yield one verdict."""
        measured = evidence.metrics.get(self.metric)
        interval = evidence.metric_intervals.get(self.metric)
        yield self.verdict(self.metric, measured, self, self.explain(evidence), between=interval)

    @abstractmethod
    def explain(self, evidence: Evidence) -> str:
        """Return the beginning of the sentence."""


class ScoreCheck(GateCheck):
    """A check whose limit depends on what scores are.

    Where it is a share, the problem type has a default. Where it is in the outcome's unit, the check must be listed.
    """

    at_most: float

    @classmethod
    @abstractmethod
    def limit(cls, problem_type: ProblemType) -> float | None:
        """Return the limit for a model whose YAML does not list the check; None if it must list it."""

    @classmethod
    def defaults(cls, problem_type: str) -> Sequence[Self]:
        """Return a check with the limit of the problem type."""
        limit = cls.limit(get_problem_type(problem_type))
        if limit is None:
            return super().defaults(problem_type)
        return (cls(kind=cls.model_fields["kind"].default, at_most=limit),)


def at_most(value: float) -> Threshold:
    """Return an upper limit."""
    return Threshold(metric="", at_most=value)


def at_least(value: float) -> Threshold:
    """Return a lower limit."""
    return Threshold(metric="", at_least=value)


def excess(value: float | None, other: float | None) -> float | None:
    """Return the share by which a loss is over another one."""
    return value / other - 1.0 if value is not None and other else None


def show(value: float | None, form: str = ",.4g") -> str:
    """Return a number as people read it."""
    if value is None:
        return "nothing"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:{form}}"

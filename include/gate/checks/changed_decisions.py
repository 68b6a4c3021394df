"""For how many rows would the version decide otherwise than the champion?"""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal, Self

from pydantic import Field

from include.core.records import Check
from include.gate.checks.base import GateCheck, at_most
from include.gate.evidence import Evidence
from include.training.config import Training
from include.training.problem_types import get_problem_type


class ChangedDecisions(GateCheck):
    """How many decisions differ from the champion's, whichever are right. It keeps out a sudden change of behaviour.

    Where predictions are numbers, `over` says which difference changes a decision: such a model must list this check.
    """

    needs_champion: ClassVar[bool] = True

    kind: Literal["changed_decisions"] = "changed_decisions"
    at_most: float = Field(default=0.25, gt=0, le=1, description="share of decisions other than the champion's")
    over: float | None = Field(
        default=None,
        gt=0,
        description="regression, count, quantile: a score that differs from the champion's by more counts as changed",
        examples=[10],
    )

    @classmethod
    def defaults(cls, problem_type: str) -> Sequence[Self]:
        """Return a check with a default where a prediction is a decision."""
        if get_problem_type(problem_type).predicts_numbers:
            cls.require_listing("over")
        return (cls(),)

    def require_fit(self, model: Training) -> None:
        """Require `over` exactly where predictions are numbers."""
        needed = get_problem_type(model.problem_type).predicts_numbers
        if (self.over is not None) != needed:
            raise ValueError(f"over: {'is needed for' if needed else 'means nothing for'} {model.problem_type}")

    def run(self, evidence: Evidence) -> Iterator[Check]:
        """Compare the decisions of challenger and champion on each row."""
        changed, between, champion = None, None, evidence.champion
        if champion is not None and evidence.comparable:
            thresholds = (evidence.challenger.decision_threshold, champion.decision_threshold)
            changes = evidence.problem_type.changed_decisions(
                evidence.challenger.score, champion.score, thresholds=thresholds, change=self.over
            )
            changed = float(changes.mean())
            between = evidence.interval(lambda rows: float(changes[rows].mean()))
        sentence = f"decisions other than those of {champion.name if champion else 'the champion'}:"
        yield self.verdict("decisions", changed, at_most(self.at_most), sentence, ".1%", between=between)

"""Is the error lower than that of the outcome a week earlier?"""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from include.core.records import Check
from include.gate.checks.base import GateCheck, at_least, excess, show
from include.gate.evidence import Evidence
from include.training.config import Training
from include.training.problem_types import get_problem_type


class SeasonalNaive(GateCheck):
    """The absolute error against that of the outcome a week earlier. It keeps out a model that is worse than last week.

    That outcome is of the same entity. The check is left out where most entities have none, and for classes, which
    have no such error.
    """

    needs_history: ClassVar[bool] = True

    kind: Literal["seasonal_naive"] = "seasonal_naive"
    at_least: float = Field(
        default=0, description="share by which the error must be under that of the outcome a week earlier"
    )

    @classmethod
    def defaults(cls, problem_type: str) -> Sequence[Self]:
        """Return a check where predictions are numbers."""
        return (cls(),) if get_problem_type(problem_type).predicts_numbers else ()

    def require_fit(self, model: Training) -> None:
        """Refuse it where predictions are no numbers."""
        if not get_problem_type(model.problem_type).predicts_numbers:
            raise ValueError(f"predictions of {model.problem_type} are no numbers; remove this check")

    def run(self, evidence: Evidence) -> Iterator[Check]:
        """Compare on the rows that have such an outcome."""
        assert evidence.naive is not None
        known, own, ends = np.isfinite(evidence.naive), None, None
        truth = evidence.truth[known]
        of_naive = np.abs(truth - evidence.naive[known])
        naive = float(of_naive.mean())
        if evidence.finite:
            errors = np.abs(truth - evidence.problem_type.point(evidence.challenger.score)[known])
            own, ends = float(errors.mean()), evidence.excess_interval(errors, of_naive, known)
        over = excess(own, naive)
        against = f"{show(naive)} of the outcome a week earlier ({known.sum():,} rows)"
        sentence = f"mae {show(own)} against {against}, lower by"
        under, between = None if over is None else -over, ends and (-ends[1], -ends[0])
        yield self.verdict("mae", under, at_least(self.at_least), sentence, ".2%", between=between)

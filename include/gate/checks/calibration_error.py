"""Are the scores probabilities, in each tenth of them?"""

from collections.abc import Iterator, Sequence
from typing import Literal, Self

from pydantic import Field

from include.core.records import Check
from include.gate.checks.base import GateCheck, at_most
from include.gate.evidence import Evidence
from include.training.config import Training
from include.training.problem_types import get_problem_type

BINS = 10


class CalibrationError(GateCheck):
    """Expected calibration error in 10 bins of equal count. It keeps out scores that are not probabilities."""

    kind: Literal["calibration_error"] = "calibration_error"
    at_most: float = Field(default=0.08, gt=0, description="expected calibration error")

    @classmethod
    def defaults(cls, problem_type: str) -> Sequence[Self]:
        """Return a check for probabilities; other scores have no such error."""
        return (cls(),) if get_problem_type(problem_type).scores_are_probabilities else ()

    def require_fit(self, model: Training) -> None:
        """Refuse it where scores are not probabilities."""
        if not get_problem_type(model.problem_type).scores_are_probabilities:
            raise ValueError(f"scores of {model.problem_type} are not probabilities; remove this check")

    def run(self, evidence: Evidence) -> Iterator[Check]:
        """Measure the expected calibration error."""
        error, between = None, None
        if evidence.finite:
            truth, score, problem = evidence.truth, evidence.challenger.score, evidence.problem_type
            error = problem.calibration_error(truth, score, BINS)
            between = evidence.interval(lambda rows: problem.calibration_error(truth[rows], score[rows], BINS))
        sentence = "expected calibration error:"
        yield self.verdict(f"{BINS} bins", error, at_most(self.at_most), sentence, between=between)

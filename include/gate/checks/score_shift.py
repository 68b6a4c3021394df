"""How far do the scores move from the champion's?"""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from include.core.records import Check
from include.gate.checks.base import ScoreCheck, at_most
from include.gate.evidence import Evidence
from include.training.problem_types import ProblemType


class ScoreShift(ScoreCheck):
    """The mean distance of the scores from the champion's. It keeps out a sudden change of behaviour.

    For regression and quantile it is in the outcome's unit, and the check must be listed.
    """

    needs_champion: ClassVar[bool] = True

    kind: Literal["score_shift"] = "score_shift"
    at_most: float = Field(
        gt=0,
        description="mean |difference| of scores from the champion's. Binary: 0.1 if the check is not listed. "
        "Multiclass: total variation distance, 0.1. Count: as a share of the champion's mean score, 0.2. Regression "
        "and quantile: in the outcome's unit, must be listed",
        examples=[0.1],
    )

    @classmethod
    def limit(cls, problem_type: ProblemType) -> float | None:
        """Return how far scores may move."""
        return problem_type.shift_limit

    def run(self, evidence: Evidence) -> Iterator[Check]:
        """Measure the mean distance."""
        shift, between, champion = None, None, evidence.champion
        if champion is not None and evidence.comparable:
            own, other, measure = evidence.challenger.score, champion.score, evidence.problem_type.shift
            shift = measure(own, other)
            between = evidence.interval(lambda rows: measure(own[rows], other[rows]))
        sentence = f"mean shift of scores from those of {champion.name if champion else 'the champion'}:"
        yield self.verdict("scores", shift, at_most(self.at_most), sentence, between=between)

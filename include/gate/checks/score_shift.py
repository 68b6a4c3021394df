"""How far do the scores move from the champion's?"""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from include.core.records import Check
from include.gate.checks.base import GateCheck, at_most
from include.gate.evidence import Evidence
from include.training.problem_types import get_problem_type


class ScoreShift(GateCheck):
    """The mean distance of the scores from the champion's. It keeps out a sudden change of behaviour.

    Probabilities may move by 0.10 by default. Other scores are in the outcome's unit: they must be listed.
    """

    needs_champion: ClassVar[bool] = True

    kind: Literal["score_shift"] = "score_shift"
    at_most: float = Field(
        gt=0,
        description="mean |difference| of scores from the champion's. Binary: 0.1 if the check is not listed",
        examples=[0.1],
    )

    @classmethod
    def defaults(cls, problem_type: str) -> Sequence[Self]:
        """Return a check with a default for probabilities."""
        if get_problem_type(problem_type).scores_are_probabilities:
            return (cls(at_most=0.1),)
        return super().defaults(problem_type)

    def run(self, evidence: Evidence) -> Iterator[Check]:
        """Measure the mean distance."""
        shift, champion = None, evidence.champion
        if champion is not None and evidence.comparable:
            shift = float(np.abs(evidence.challenger.score - champion.score).mean())
        sentence = f"mean shift of scores from those of {champion.name if champion else 'the champion'}:"
        yield self.verdict("scores", shift, at_most(self.at_most), sentence)

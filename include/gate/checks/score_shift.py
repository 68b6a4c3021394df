"""How far do the scores move from the champion's?"""

from collections.abc import Iterator
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from include.core.records import Check
from include.gate.checks.base import ScoreCheck, at_most
from include.gate.evidence import Evidence


class ScoreShift(ScoreCheck):
    """The mean distance of the scores from the champion's. It keeps out a sudden change of behaviour.

    Probabilities may move by 0.10 by default. Other scores are in the outcome's unit: they must be listed.
    """

    needs_champion: ClassVar[bool] = True
    of_probabilities: ClassVar[float] = 0.1

    kind: Literal["score_shift"] = "score_shift"
    at_most: float = Field(
        gt=0,
        description="mean |difference| of scores from the champion's. Binary: 0.1 if the check is not listed",
        examples=[0.1],
    )

    def run(self, evidence: Evidence) -> Iterator[Check]:
        """Measure the mean distance."""
        shift, champion = None, evidence.champion
        if champion is not None and evidence.comparable:
            shift = float(np.abs(evidence.challenger.score - champion.score).mean())
        sentence = f"mean shift of scores from those of {champion.name if champion else 'the champion'}:"
        yield self.verdict("scores", shift, at_most(self.at_most), sentence)

"""Does the level of the scores match the outcomes?"""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from include.core.records import Check
from include.gate.checks.base import ScoreCheck, at_most
from include.gate.evidence import Evidence


class Calibration(ScoreCheck):
    """The level of all scores together. It keeps out scores that are too high or too low on the whole.

    Probabilities may be off by 0.05 by default. Other scores are in the outcome's unit: they must be listed.
    """

    of_probabilities: ClassVar[float] = 0.05

    kind: Literal["calibration"] = "calibration"
    at_most: float = Field(
        gt=0,
        examples=[0.05],
        description="|mean score - mean outcome|; regression: |median error|. Binary: 0.05 if the check is not listed",
    )

    def run(self, evidence: Evidence) -> Iterator[Check]:
        """Measure how far the level is off, as the problem type defines it."""
        gap, sentence = None, "level of scores off by"
        if evidence.finite:
            truth, score = evidence.truth, evidence.challenger.score
            gap = evidence.problem_type.level_gap(truth, score)
            sentence = evidence.problem_type.describe_level(truth, score)
        yield self.verdict("level", gap, at_most(self.at_most), sentence)

"""Does the level of the scores match the outcomes?"""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from include.core.records import Check
from include.gate.checks.base import ScoreCheck, at_most
from include.gate.evidence import Evidence
from include.training.problem_types import ProblemType


class Calibration(ScoreCheck):
    """The level of all scores together. It keeps out scores that are too high or too low on the whole.

    Each problem type says what its level is. For regression it is in the outcome's unit, and the check must be listed.
    """

    kind: Literal["calibration"] = "calibration"
    at_most: float = Field(
        gt=0,
        examples=[0.05],
        description="how far the level is off. Binary: |mean score - mean outcome|, 0.05 if the check is not listed. "
        "Multiclass: the same of the label that is furthest off, 0.05. Count: |sum of scores / sum of outcomes - 1|, "
        "0.1. Quantile: |share of outcomes up to a quantile - the quantile|, of the one that is furthest off, 0.08. "
        "Regression: |median error|, must be listed",
    )

    @classmethod
    def limit(cls, problem_type: ProblemType) -> float | None:
        """Return how far the level may be off."""
        return problem_type.level_limit

    def run(self, evidence: Evidence) -> Iterator[Check]:
        """Measure how far the level is off, as the problem type defines it."""
        gap, between, sentence = None, None, "level of scores off by"
        if evidence.finite:
            truth, score, problem = evidence.truth, evidence.challenger.score, evidence.problem_type
            gap = problem.level_gap(truth, score)
            between = evidence.interval(lambda rows: problem.level_gap(truth[rows], score[rows]))
            sentence = problem.describe_level(truth, score)
        yield self.verdict("level", gap, at_most(self.at_most), sentence, between=between)

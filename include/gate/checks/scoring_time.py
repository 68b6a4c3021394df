"""Does the version score fast enough?"""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from include.core.records import Check
from include.gate.checks.base import GateCheck, at_most
from include.gate.evidence import Evidence


class ScoringTime(GateCheck):
    """The time to score a row. It keeps out a model that would be late every day."""

    kind: Literal["scoring_time"] = "scoring_time"
    at_most: float = Field(default=200, gt=0, description="microseconds a row")

    def run(self, evidence: Evidence) -> Iterator[Check]:
        """Report the time that was measured."""
        sentence = "microseconds to score a row:"
        yield self.verdict("microseconds a row", evidence.microseconds_per_row, at_most(self.at_most), sentence)

"""Are there enough rows to decide on?"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from pydantic import Field

from include.core.records import Check
from include.gate.checks.base import GateCheck, at_least
from include.gate.evidence import Evidence


class EnoughRows(GateCheck):
    """Enough holdout rows: with fewer, nothing is promoted. It keeps out a decision on a handful of rows."""

    kind: Literal["enough_rows"] = "enough_rows"
    at_least: int = Field(default=1000, ge=1, description="holdout rows")

    def run(self, evidence: Evidence) -> Iterator[Check]:
        """Count the rows that have a score."""
        rows = float(evidence.has_score.sum())
        sentence = f"holdout rows, of {len(np.unique(evidence.days))} days:"
        yield self.verdict("rows", rows, at_least(self.at_least), sentence)

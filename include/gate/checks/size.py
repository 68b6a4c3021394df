"""Is the logged model small enough?"""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from include.core.records import Check
from include.gate.checks.base import GateCheck, at_most
from include.gate.evidence import Evidence


class Size(GateCheck):
    """The size of the logged model. It keeps out a model that takes too long to download."""

    kind: Literal["size"] = "size"
    at_most: float = Field(default=50, gt=0, description="megabytes")

    def run(self, evidence: Evidence) -> Iterator[Check]:
        """Report the size."""
        yield self.verdict("megabytes", evidence.megabytes, at_most(self.at_most), "megabytes of the logged model:")

"""Are the inputs those of `model.yaml` and of the champion?"""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from include.core.records import Check
from include.gate.checks.base import GateCheck, at_most
from include.gate.evidence import Evidence


class Signature(GateCheck):
    """The input columns of the version. It keeps out a change that nobody declared."""

    kind: Literal["signature"] = "signature"
    inputs_may_change: bool = Field(
        default=False, description="set it in the change that gives the model other inputs than the champion's"
    )

    def run(self, evidence: Evidence) -> Iterator[Check]:
        """Count the columns that differ."""
        own, champion = set(evidence.challenger.columns), evidence.champion
        declared = set(evidence.inputs) ^ own
        sentence = f"inputs other than model.yaml's: {', '.join(sorted(declared)) or 'none'}"
        others: set[str] = set()
        if champion is not None and not self.inputs_may_change:
            others = set(champion.columns) ^ own
            sentence += f"; other than {champion.name}'s: {', '.join(sorted(others)) or 'none'}"
            if others:
                sentence += " (if that is intended, list {kind: signature, inputs_may_change: true})"
        yield self.verdict("inputs", float(len(declared | others)), at_most(0.0), f"{sentence};")

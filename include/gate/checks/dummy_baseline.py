"""Is the loss lower than that of a constant?"""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from include.core.records import Check
from include.gate.checks.base import GateCheck, at_least, excess, show
from include.gate.evidence import Evidence


class DummyBaseline(GateCheck):
    """The loss against that of the best constant. It keeps out a model that learned nothing."""

    kind: Literal["dummy_baseline"] = "dummy_baseline"
    at_least: float = Field(default=0.005, ge=0, description="share by which the loss must be under the constant's")

    def run(self, evidence: Evidence) -> Iterator[Check]:
        """Compare with the constant that fits the rows fitted on best."""
        by, loss, dummy = evidence.problem_type.chosen_by, evidence.loss, evidence.mean_loss(evidence.dummy)
        over = excess(loss, dummy)
        sentence = f"{by} {show(loss)} against {show(dummy)} of the dummy baseline, lower by"
        between = evidence.loss_interval(evidence.dummy, lower_is=-1)
        under = None if over is None else -over
        yield self.verdict(by, under, at_least(self.at_least), sentence, ".2%", between=between)

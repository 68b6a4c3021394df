"""Is the loss no higher than that of a linear model?"""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from include.core.errors import nearest
from include.core.records import Check
from include.gate.checks.base import GateCheck, at_most, excess, show
from include.gate.evidence import Evidence
from include.training.config import Training


class LinearBaseline(GateCheck):
    """The loss against that of the linear candidate. It keeps out needless complexity."""

    kind: Literal["linear_baseline"] = "linear_baseline"
    candidate: str = Field(default="linear", description="the candidate that is the linear baseline")
    at_most: float = Field(default=0.005, ge=0, description="share by which the loss may be over the linear one's")

    @property
    def candidates(self) -> tuple[str, ...]:
        """The linear candidate."""
        return (self.candidate,)

    def require_fit(self, model: Training) -> None:
        """Refuse a candidate that the model does not have."""
        names = [each.name for each in model.candidates]
        if self.candidate not in names:
            raise ValueError(f"candidate: no candidate {self.candidate!r}{nearest(self.candidate, names)}")

    def run(self, evidence: Evidence) -> Iterator[Check]:
        """Compare with the linear candidate of the same run."""
        by, loss, linear = evidence.problem_type.chosen_by, evidence.loss, evidence.candidates.get(self.candidate)
        baseline = None if linear is None else evidence.mean_loss(linear.score)
        why = " (it was not fitted)" if linear is None else ""
        sentence = f"{by} {show(loss)} against {show(baseline)} of candidate {self.candidate}{why}:"
        between = None if linear is None else evidence.loss_interval(linear.score)
        yield self.verdict(by, excess(loss, baseline), at_most(self.at_most), sentence, "+.2%", between=between)

"""Does one input alone tell the outcome?"""

from collections.abc import Iterator, Sequence
from typing import Literal, Self

from pydantic import Field

from include.core.records import Check
from include.gate.checks.base import GateCheck, at_most, show
from include.gate.evidence import Evidence
from include.gate.single_inputs import limit_of, metric_of
from include.training.problem_types import get_problem_type

NAMED = 5


class SingleInput(GateCheck):
    """How much each input alone knows of the outcome. It keeps out an input that contains it, and names that input.

    A model need not be too good for that: it may use such an input little, or the input may be missing for many rows of
    the days that the model was fitted on.
    """

    kind: Literal["single_input"] = "single_input"
    at_most: float = Field(
        gt=0,
        description="roc_auc (binary) or d2 (other problem types) of the best constants in parts of one input. If the "
        "check is not listed: binary 0.95, count 0.95, regression, quantile and multiclass 0.8",
        examples=[0.9],
    )

    @classmethod
    def defaults(cls, problem_type: str) -> Sequence[Self]:
        """Return a check with the limit of the problem type."""
        return (cls(at_most=limit_of(get_problem_type(problem_type))),)

    def run(self, evidence: Evidence) -> Iterator[Check]:
        """Measure each input; yield a verdict on the one that knows most."""
        metric, found = metric_of(evidence.problem_type), evidence.alone
        if not found:
            yield self.verdict("inputs", None, at_most(self.at_most), "no input")
            return
        strongest, value = next(iter(found.items()))
        others = [f"{name} {show(each)}" for name, each in list(found.items())[1:NAMED] if each > self.at_most]
        beside = f" (also {', '.join(others)})" if others else ""
        sentence = f"{metric} of the strongest of {len(found)} inputs alone, {strongest}{beside}:"
        yield self.verdict(strongest, value, at_most(self.at_most), sentence)

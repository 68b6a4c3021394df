"""Is the version better than any honest model can be?"""

from collections.abc import Sequence
from typing import Literal, Self

from include.gate.checks.base import MetricCheck
from include.gate.evidence import Evidence
from include.gate.single_inputs import metric_of
from include.training.problem_types import get_problem_type


class LeakageCheck(MetricCheck):
    """A limit that no honest model passes. It keeps out an input that contains the outcome, and names it.

    If it is not listed, the limit is that of the problem type: roc_auc 0.95 (binary), r2 0.9 (regression), d2 0.95
    (count), d2 0.8 (quantile, multiclass). Sales that follow the week closely may need another.
    """

    kind: Literal["leakage_check"] = "leakage_check"

    @classmethod
    def defaults(cls, problem_type: str) -> Sequence[Self]:
        """Return a check with the limit of the problem type."""
        return (cls(**get_problem_type(problem_type).leakage.model_dump()),)

    def explain(self, evidence: Evidence) -> str:
        """Say what a better value means and, when it is one, which input knows most."""
        about = f"{self.metric}, beyond which an input gives the outcome away"
        measured = evidence.metrics.get(self.metric)
        if measured is not None and not self.holds(measured) and evidence.alone:
            strongest, value = next(iter(evidence.alone.items()))
            about += f" (the strongest alone is {strongest}, {metric_of(evidence.problem_type)} {value:.3g})"
        return f"{about}:"

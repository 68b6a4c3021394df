"""Does the version reach the required metric?"""

from typing import Literal

from include.gate.checks.base import MetricCheck
from include.gate.evidence import Evidence


class Quality(MetricCheck):
    """A metric over all holdout rows, one entry for each metric. It keeps out a model without skill.

    What is good enough is the owner's decision, so there is no default.
    """

    kind: Literal["quality"] = "quality"

    def explain(self, evidence: Evidence) -> str:
        """Name the metric."""
        return self.metric

"""How good will predictions be, before outcomes are known? Pure. For classification.

The estimate is the expectation of a metric if scores are calibrated probabilities, as in NannyML's confidence-based
performance estimation (CBPE, https://nannyml.readthedocs.io, *How it works: Estimation of performance*). With the
probability p of each row, a row counts as positive with weight p and as negative with weight 1 - p:

- brier: the mean of p (1 - p)
- log_loss: the mean of -p ln p - (1 - p) ln(1 - p)
- roc_auc: the sum over all pairs of rows i and j of p_i (1 - p_j), where row i has the higher score, half of it where
  they are equal, divided by the sum of p times the sum of (1 - p)
- accuracy of several labels: the mean of the probability of the predicted label

NannyML calibrates the scores first. Here they stay what readers see, whose calibration the gate and `degradation`
watch; so the estimate is as wrong as they are, and `error` of the view `estimated_performance` says how wrong that was.
It sees no change in what the inputs mean: then only outcomes tell.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

from pydantic import Field

from include.core.records import Alert
from include.monitoring.base import Monitor, Watch
from include.monitoring.records import DayValue, Findings, MonitoredModel

RULE = "estimated performance"

METRICS = {"binary": ("roc_auc", "brier", "log_loss"), "multiclass": ("accuracy",)}
"""The metrics that are estimated, the one that raises alerts first."""

HISTORY_DAYS = 56


@dataclass(frozen=True)
class ExpectedMetric:
    """The expected metric of a published batch, None where it is not defined."""

    day: date
    model_version: int
    value: float | None
    rows: int


class EstimateMonitor(Monitor):
    """Raises an alert when scores expect to be worse than lately, as long as such estimates came true lately.

    It estimates what outcomes will say (binary: `roc_auc`, multiclass: `accuracy`). For other problem types it does
    nothing.
    """

    kind: Literal["estimate"] = "estimate"
    drop_at_most: float = Field(
        default=0.05, gt=0, description="how far the estimate may be under what came true lately"
    )
    days: int = Field(default=3, ge=1, description="so many days under it are too many")
    of: int = Field(default=5, ge=1, description="newest days that are looked at")
    error_at_most: float = Field(
        default=0.03,
        gt=0,
        description="mean absolute error of the estimates that came true lately. With a larger one there is no alert",
    )
    min_days: int = Field(default=10, ge=2, description="with fewer days that came true there is no alert")
    min_rows: int = Field(default=100, ge=1, description="a day with fewer predictions, or outcomes, is left out")

    def run(self, watch: Watch) -> Findings:
        """Estimate the published days that were not estimated yet, and compare each run date's with what came true."""
        metrics = METRICS.get(watch.model.problem_type)
        if metrics is None:
            return Findings()
        known = watch.measured_days(metrics[0], self.min_rows)
        # the run of D looks at the day before, since that of D may not be published yet
        estimates = watch.estimates(metrics[0], watch.interval.shifted(start=-HISTORY_DAYS, end=-1))
        found = []
        for run_date in watch.interval.days:
            until = watch.outcome_feed.needed_day(run_date)
            came_true = [each for each in known if each.last_day <= until]
            since = run_date - timedelta(days=HISTORY_DAYS)
            of_run = [each for each in estimates if since <= each.day < run_date]
            if said := self.compare(of_run, came_true):
                found.append(_alert(watch.model, metrics[0], run_date, said))
        return Findings(alerts=tuple(found))

    def compare(self, estimates: Sequence[ExpectedMetric], came_true: Sequence[DayValue]) -> str:
        """Say by how much the estimates of the newest days are under what came true before; empty if they are not.

        Args:
            estimates: in order of days.
            came_true: the metric by outcomes, in any order.
        """
        usable = {each.day: each.value for each in estimates if each.rows >= self.min_rows and each.value is not None}
        truth = {each.day: each.value for each in came_true}
        both = sorted(usable.keys() & truth.keys())
        newest = sorted(usable.keys() - truth.keys())[-self.of :]
        if len(both) < self.min_days or len(newest) < self.days:
            return ""
        error = sum(abs(usable[day] - truth[day]) for day in both) / len(both)
        usual = sum(truth[day] for day in both) / len(both)
        low = [day for day in newest if usable[day] < usual - self.drop_at_most]
        if error > self.error_at_most or len(low) < self.days:
            return ""
        named = ", ".join(f"{day}: {usable[day]:.3f}" for day in low)
        return (
            f"is expected to be under {usual:.3f}, what came true on {len(both)} days, by more than "
            f"{self.drop_at_most:g} on {len(low)} of the newest {len(newest)} days without outcomes: {named}. Such "
            f"estimates were off by {error:.3f} in the mean"
        )


def _alert(model: MonitoredModel, metric: str, run_date: date, said: str) -> Alert:
    return Alert(
        subject=model.name,
        rule=RULE,
        day=run_date,
        effect="scores are published, but are probably poorer than usual",
        sentence=f"{model.name}: {metric} {said}. Look at views estimated_performance and drift. Owner: {model.owner}. "
        "Runbook: docs/runbooks/alert-degradation.md",
    )

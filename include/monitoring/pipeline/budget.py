"""Does the pipeline cost more than its budget? Pure: no reading, no writing, no clock.

Runs that ended on days before the run date count, at the prices of their time. There are two alerts in a month at
most, on the first run date on which they are due: when the projection of the month passes the budget, and when its cost
does. What is projected is each part of the cost (steps, storage) by its mean a day. A part that is new in the month,
such as storage after its price was declared, has only been paid so far: it is projected once it has `min_days` days,
over the days since it began. The alerts follow from the recorded costs alone, so monitors in any order, some of them
missing, raise the same two.
"""

import calendar
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

from pydantic import Field

from include.core.interval import Interval
from include.core.prices import Prices
from include.core.records import Alert
from include.monitoring.pipeline.base import Part, ProjectMonitor, ProjectWatch
from include.monitoring.records import Findings

PROJECTED, SPENT = "budget_projected", "budget_spent"

CATCH_UP_DAYS = 7
"""Days for which a later monitor raises what an earlier run date should have raised."""


class BudgetMonitor(ProjectMonitor):
    """Raises an alert when a month's cost, or its projection, passes the budget of `prices`."""

    kind: Literal["budget"] = "budget"
    min_days: int = Field(
        default=7, ge=1, le=28, description="days of a month, and of a new part of the cost, that a projection needs"
    )

    def run(self, watch: ProjectWatch) -> Findings:
        """Look at the months of the days before the run dates."""
        prices = watch.project.prices
        if prices is None or prices.budget_per_month is None:
            return Findings()
        days = watch.interval.shifted(start=-1, end=-1)
        first = (days.start - timedelta(days=CATCH_UP_DAYS)).replace(day=1)
        costs = watch.costs(Interval(start=_month_before(first), end=days.end), prices.currency)
        this_month, recent = days.start.replace(day=1), watch.interval.start - timedelta(days=CATCH_UP_DAYS)
        months = sorted({day.replace(day=1) for day in Interval(start=first, end=days.end).days})
        found = [
            alert
            for month in months
            for alert in self._alerts(watch, month, costs, prices, prices.budget_per_month)
            if alert.day <= watch.interval.end and (month >= this_month or alert.day >= recent)
        ]
        return Findings(alerts=tuple(found))

    def _alerts(
        self,
        watch: ProjectWatch,
        month: date,
        costs: Mapping[Part, Mapping[date, float]],
        prices: Prices,
        budget: float,
    ) -> Iterator[Alert]:
        """Yield the alerts of a month, each for the first run date on which it is due."""
        length = calendar.monthrange(month.year, month.month)[1]
        parts, rules = [_OfMonth(month, of_part) for of_part in costs.values()], {PROJECTED, SPENT}
        for number in range(1, length + 1):
            day = month + timedelta(days=number - 1)
            spent = sum(part.spent(day) for part in parts)
            left = length - number
            projected = spent + sum(part.a_day(day, self.min_days) for part in parts) * left
            due = set()
            if spent >= budget:
                due = {SPENT, PROJECTED}
            elif projected > budget and number >= self.min_days:
                due = {PROJECTED}
            if new := due & rules:
                rules -= due
                share = f"{spent / budget:.0%} of the budget of {budget:,.2f} {prices.currency}"
                ahead = "" if SPENT in new else f", and {projected:,.2f} {prices.currency} are projected for the month"
                yield Alert(
                    subject=watch.project.name,
                    rule=SPENT if SPENT in new else PROJECTED,
                    day=day + timedelta(days=1),
                    sentence=(
                        f"{watch.project.name}: the steps of {month:%Y-%m} have cost {spent:,.2f} {prices.currency} up "
                        f"to {day}: {share}{ahead}. Nothing stops. View pipeline_cost has steps and days. Owner: "
                        f"{watch.project.owner}. Runbook: docs/runbooks/alert-budget.md"
                    ),
                )


@dataclass(frozen=True)
class _OfMonth:
    """A part of the cost in a month.

    Attributes:
        month: the first day of the month.
        costs: what each day cost, of the month before, too.
    """

    month: date
    costs: Mapping[date, float]

    def spent(self, day: date) -> float:
        """Return what the days of the month up to a day cost."""
        return sum(cost for at, cost in self.costs.items() if self.month <= at <= day)

    def a_day(self, day: date, min_days: int) -> float:
        """Return the mean cost of a day, by the days up to one; 0 of a part that is new, and has too few of them."""
        paid = [at for at, cost in self.costs.items() if cost]
        before = any(_month_before(self.month) <= at < self.month for at in paid)
        since = self.month if before else min((at for at in paid if at >= self.month), default=day)
        days = (day - since).days + 1
        return self.spent(day) / days if before or days >= min_days else 0.0


def _month_before(month: date) -> date:
    return (month - timedelta(days=1)).replace(day=1)

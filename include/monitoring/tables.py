"""How fresh tables are. Pure: no reading, no writing, no clock."""

from bisect import bisect_right
from collections.abc import Sequence
from datetime import date

from include.core.records import Freshness


def table_freshness(
    subject: str, run_date: date, needed: date | None, days: Sequence[date], *, required: bool = True
) -> Freshness:
    """Of a table whose `days` (sorted) are those it has: late when `needed`, if there is any, is not among them.

    Later days do not count, so that a repeated run finds the same. A run date needs a file that is `required`; it goes
    on without another one, whose lateness is recorded all the same.
    """
    verb = "needs" if required else "expects"
    newest = _newest(days, needed or run_date)
    behind = (needed - newest).days if needed and newest else None
    if needed is None:
        sentence = f"{subject}: nothing is {'needed' if required else 'expected'} by {run_date}"
    elif newest is None:
        sentence = f"{subject} has no day up to {needed}, which run date {run_date} {verb}"
    elif behind:
        sentence = f"{subject} ends on {newest}, {_days(behind)} before {needed}, which run date {run_date} {verb}"
    else:
        sentence = f"{subject} has {needed}, which run date {run_date} {verb}"
    late = needed is not None and newest != needed
    return Freshness(subject=subject, day=run_date, newest_day=newest, behind_days=behind, late=late, sentence=sentence)


def _newest(days: Sequence[date], until: date) -> date | None:
    found = bisect_right(days, until)
    return days[found - 1] if found else None


def _days(count: int) -> str:
    return "a day" if count == 1 else f"{count} days"

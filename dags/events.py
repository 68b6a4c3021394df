"""What the event of an asset says about the result of a step, for programs that subscribe to the asset. Pure."""

from typing import Any

from include.core.interval import Interval
from include.core.records import Published, Ranged, RolledBack, StepResult

MAX_DAYS = 31
"""The most days whose batches an event names, so that it stays small."""


def extra_of(interval: Interval, result: StepResult) -> dict[str, Any]:
    """Return the extra of the event: `run_date`, or `first_day` and `last_day`; `rows`; versions and batches, if any.

    Of a range, `days` counts the days that were done, and `failed` those that were not.

    Args:
        interval: the days that the task was about; those of the result may be others, such as its holdout days.
        result: the record of the step.
    """
    first, last = str(interval.start), str(interval.end)
    extra: dict[str, Any] = {"run_date": last} if first == last else {"first_day": first, "last_day": last}
    extra["rows"] = result.rows
    extra |= {
        name: version for name in ("table_version", "model_version") if (version := getattr(result, name)) is not None
    }
    if isinstance(result, Published | RolledBack) and len(result.days) <= MAX_DAYS:
        extra["batches"] = {str(each.day): each.batch_id for each in result.days}
    if isinstance(result, Ranged):
        extra |= {"days": len(result.days), "failed": len(result.failed)}
    return extra

"""Local times of a day as moments, also on days when the clock changes; and the local time of a schedule. Pure."""

import re
from datetime import UTC, date, datetime, time
from math import floor
from zoneinfo import ZoneInfo

_WHOLE_DAYS = ("@daily", "@midnight", "@hourly", "@weekly", "@monthly", "@quarterly", "@yearly", "@annually")


def moment_of(day: date, local: time, zone: ZoneInfo) -> datetime:
    """Return a local time on a day in UTC.

    A time that comes twice, when the clock is put back, is the first one. A time that does not exist, when it is put
    forward, is the moment of the change. So a later local time of a day is never an earlier moment.
    """
    first = datetime.combine(day, local, zone).replace(fold=0)
    second = first.replace(fold=1)
    if first.astimezone(UTC) <= second.astimezone(UTC):
        return first.astimezone(UTC)
    # In a gap, fold=0 counts by the offset before the change, which gives a moment after it; fold=1 the reverse.
    before, after = floor(second.timestamp()), floor(first.timestamp())
    offset = datetime.fromtimestamp(after, zone).utcoffset()
    while after - before > 1:
        middle = (before + after) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == offset:
            after = middle
        else:
            before = middle
    return datetime.fromtimestamp(after, UTC)


def hours_of(day: date, zone: ZoneInfo) -> list[str]:
    """Return the local hours that a day has, from 00 to 23: on the day on which clocks are put forward, one is missing.

    An hour that comes twice, when they are put back, is one.
    """
    return [f"{hour:02d}" for hour in range(24) if any(_exists(day, time(hour, minute), zone) for minute in (0, 59))]


def _exists(day: date, local: time, zone: ZoneInfo) -> bool:
    there_and_back = datetime.combine(day, local, zone).astimezone(UTC).astimezone(zone)
    return (there_and_back.date(), there_and_back.time()) == (day, local)


def first_time(cron: str) -> time:
    """Return the earliest local time at which a cron expression starts a run.

    Raises:
        ValueError: it is no cron expression.
    """
    fields = cron.split()
    if cron in _WHOLE_DAYS:
        return time()
    try:
        if len(fields) not in (5, 6):
            raise ValueError
        return time(_first(fields[1], 23), _first(fields[0], 59))
    except ValueError as error:
        raise ValueError(
            f"{cron!r} is not a cron expression; write minute, hour, day, month and weekday, such as 0 3 * * *"
        ) from error


def _first(field: str, last: int) -> int:
    """Return the smallest number of a field such as `5`, `*/15`, `1-5` or `22-2`."""
    found = []
    for part in field.split(","):
        match = re.fullmatch(r"(?:\*|(\d+)(?:-(\d+))?)(?:/(\d+))?", part)
        if match is None:
            raise ValueError(field)
        start, end = int(match[1] or 0), int(match[2] or last)
        if max(start, end) > last:
            raise ValueError(field)
        found.append(start if start <= end else 0)
    return min(found)

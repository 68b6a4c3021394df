"""Parse what the user typed, and format days. Pure: no Airflow, no clock."""

import difflib
import json
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta, tzinfo
from typing import Any

from nightly_backfill.ending import RefusedError

OF_EACH_RUN = ("day", "start", "end")
"""Params that set the days of a run. In the conf of a backfill, they would make every run handle the same days."""

MANY = 10


def first_and_last(start: str | None, end: str | None, zone: tzinfo) -> tuple[datetime, datetime]:
    """Return the first and the last moment of the range; a day without a time counts from its start to its end.

    If only one of the two is given, the range is that day.

    Raises:
        RefusedError: neither is given, one is not a date, or the end is before the start.
    """
    if not (start or end):
        raise RefusedError("no days are given; type the first and the last one, included: -s 2026-03-01 -e 2026-03-07")
    first = _moment(start or end or "", time.min, zone)
    last = _moment(end or start or "", time.max, zone)
    if last < first:
        raise RefusedError(f"the end {end} is before the start {start}; did you mean -s {end} -e {start}?")
    return first, last


def _moment(text: str, of_day: time, zone: tzinfo) -> datetime:
    try:
        return datetime.combine(date.fromisoformat(text), of_day, zone)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise RefusedError(f"{text!r} is neither a day (2026-03-01) nor a moment (2026-03-01T03:00)") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)


def conf(text: str | None, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the conf of the runs from the text of -c.

    Args:
        text: a JSON object, or None.
        params: the params of the DAG.

    Raises:
        RefusedError: the text is not a JSON object, or a key is not a param of the DAG or sets the days.
    """
    if not text:
        return {}
    try:
        given = json.loads(text)
    except ValueError as error:
        raise RefusedError(f"-c: this is not JSON ({error}): {text}") from error
    if not isinstance(given, dict):
        raise RefusedError(f"""-c must be a JSON object such as '{{"param": "value"}}', not {text}""")
    for key in given:
        if key in OF_EACH_RUN:
            raise RefusedError(
                f"-c: {key!r} would make every run of the backfill handle the same days; choose the days with -s and -e"
            )
        if key not in params:
            known = [name for name in params if name not in OF_EACH_RUN]
            raise RefusedError(f"-c: the DAG has no param {key!r}{nearest(key, known)}")
    return given


def nearest(word: str, words: Iterable[str]) -> str:
    """Return '; did you mean …?' with similar words, or the list of words if none is similar."""
    known = sorted(words)
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; there is {', '.join(known[:MANY])}{' …' if len(known) > MANY else ''}" if known else "; there is none"


def labels(moments: Iterable[datetime], zone: tzinfo) -> dict[datetime, str]:
    """Name the run of each logical date: by its day, or by day and time if a day has several runs."""
    local = {moment: moment.astimezone(zone) for moment in moments}
    if len({at.date() for at in local.values()}) == len(local):
        return {moment: at.date().isoformat() for moment, at in local.items()}
    return {moment: at.strftime("%Y-%m-%d %H:%M") for moment, at in local.items()}


def span(names: Iterable[str]) -> str:
    """Write days as ranges: '2026-03-01 to 2026-03-03, 2026-03-07'."""
    parts: list[list[str]] = []
    for name in sorted(set(names)):
        if parts and _is_next(parts[-1][-1], name):
            parts[-1].append(name)
        else:
            parts.append([name])
    said = [f"{part[0]} to {part[-1]}" if len(part) > 1 else part[0] for part in parts]
    return ", ".join(said[:MANY]) + (f" and {len(said) - MANY} more" if len(said) > MANY else "")


def _is_next(one: str, other: str) -> bool:
    try:
        return date.fromisoformat(one) + timedelta(days=1) == date.fromisoformat(other)
    except ValueError:
        return False


def count(number: int, what: str = "day") -> str:
    """Write a number with its noun: '1 day', '2 days'."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Write a duration: '40 s', '12 min', '3 h 05 min'."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"

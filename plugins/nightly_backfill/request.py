"""What was asked for, and how days are read and written. Pure: no Airflow, no clock."""

import difflib
import json
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta, tzinfo
from typing import Any

from nightly_backfill.ending import Refused

OF_EACH_RUN = ("day", "start", "end")
"""Params that say which days a run handles: given to a backfill, each of its runs would do them again."""

MANY = 10


def bounds(start: str | None, end: str | None, zone: tzinfo) -> tuple[datetime, datetime]:
    """The first and the last moment asked for; a day without a time is meant whole. Without an end, the first day.

    Raises `Refused` for what is no date, or when the end lies before the start.
    """
    if not (start or end):
        raise Refused("which days? Say the first with -s and the last, included, with -e: -s 2026-03-01 -e 2026-03-07")
    first = _moment(start or end or "", time.min, zone)
    last = _moment(end or start or "", time.max, zone)
    if last < first:
        raise Refused(f"the end {end} is before the start {start}; did you mean -s {end} -e {start}?")
    return first, last


def _moment(text: str, of_day: time, zone: tzinfo) -> datetime:
    try:
        return datetime.combine(date.fromisoformat(text), of_day, zone)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise Refused(f"{text!r} is no day (2026-03-01) and no moment (2026-03-01T03:00)") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)


def conf(text: str | None, params: Mapping[str, Any]) -> dict[str, Any]:
    """The runs' conf from what was given with -c; `params` are those of the DAG. Raises `Refused` in words."""
    if not text:
        return {}
    try:
        given = json.loads(text)
    except ValueError as error:
        raise Refused(f"-c: this is not JSON ({error}): {text}") from error
    if not isinstance(given, dict):
        raise Refused(f"""-c: a JSON object is wanted, like '{{"param": "value"}}', not {text}""")
    for key in given:
        if key in OF_EACH_RUN:
            raise Refused(
                f"-c: {key!r} would make every run of the backfill do the same days again, and each run has a day of "
                "its own; say the days with -s and -e"
            )
        if key not in params:
            known = [name for name in params if name not in OF_EACH_RUN]
            raise Refused(f"-c: the DAG has no param {key!r}{nearest(key, known)}")
    return given


def nearest(word: str, words: Iterable[str]) -> str:
    """'; did you mean …?' or, when nothing is near, what there is."""
    known = sorted(words)
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; there is {', '.join(known[:MANY])}{' …' if len(known) > MANY else ''}" if known else "; there is none"


def labels(moments: Iterable[datetime], zone: tzinfo) -> dict[datetime, str]:
    """Logical date -> how people call its run: its day, or day and time where a day has several."""
    local = {moment: moment.astimezone(zone) for moment in moments}
    if len({at.date() for at in local.values()}) == len(local):
        return {moment: at.date().isoformat() for moment, at in local.items()}
    return {moment: at.strftime("%Y-%m-%d %H:%M") for moment, at in local.items()}


def span(names: Iterable[str]) -> str:
    """Days as a person says them: '2026-03-01 to 2026-03-03, 2026-03-07'."""
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
    """'1 day', '2 days'."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """'40 s', '12 min', '3 h 05 min'."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"

"""Decide which files of a day are one delivery, its parts, and whether they are complete. Pure.

All parts of one feed and day are one delivery: a *delivery set*. Each file with the same name of a part is a version of
that part. `steps/sets.py` lists and reads the files.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Self

import polars as pl

from include.core.feeds import Feed, Parts
from include.core.intake import name_order, usual_moment
from include.core.local_time import hours_of
from include.core.project import Project

HOURS = tuple(f"{hour:02d}" for hour in range(24))
MAX_NAMES = 10
"""The most names in a message."""
_WRITE = re.compile(r"part-\d+-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
"""How Spark names the files of one write: number of the part, and the UUID of the write."""


@dataclass(frozen=True)
class Part:
    """A version of a part, as it is in a set.

    Attributes:
        name: what the path calls `{hour}`, `{part}`, or both.
        key: its object.
        sha256: of its content.
        rows: how many it has.
        available_from: the moment (UTC) from which it counts.
        after: what its lines are moved by in the set, so that each `_row` of the set is another.
        last: its last line with a row, before it is moved.
    """

    name: str
    key: str
    sha256: str
    rows: int
    available_from: datetime
    after: int
    last: int

    def entry(self) -> dict[str, Any]:
        """Return the part as the journal has it."""
        moment = self.available_from.astimezone(UTC).isoformat(timespec="microseconds")
        return {**vars(self), "available_from": moment}

    @classmethod
    def of_entry(cls, entry: Mapping[str, Any]) -> Self:
        """Return the part of an entry of the journal."""
        return cls(**{**entry, "available_from": datetime.fromisoformat(entry["available_from"])})


def sets_of(entries: pl.DataFrame) -> dict[str, tuple[Part, ...]]:
    """Map each `delivery_id` that is a set to its parts.

    Args:
        entries: of the journal, with the columns of `journal.ENTRIES`.
    """
    sets = entries.filter(pl.col("kind") == "delivery", pl.col("entry").str.contains('"parts"', literal=True))
    found = {subject: json.loads(text).get("parts", ()) for subject, text in sets.select("subject", "entry").rows()}
    return {subject: tuple(map(Part.of_entry, parts)) for subject, parts in found.items() if parts}


def set_digest(digests: Mapping[str, str]) -> str:
    """Return the digest of a set from the sha256 of each part by its name; their order does not matter."""
    text = "".join(f"{digests[name]} {name}\n" for name in sorted(digests))
    return hashlib.sha256(text.encode()).hexdigest()


def in_order(names: Iterable[str]) -> list[str]:
    """Return names of parts in the order in which their rows stand in a set."""
    return sorted(names, key=lambda name: (name_order(name), name))


def why_incomplete(
    project: Project, feed: str, day: date, names: Collection[str], *, marked: bool, now: datetime
) -> str | None:
    """Return a sentence about what a set waits for, None if it is complete.

    Args:
        project: the project.
        feed: the name of the feed.
        day: the day of the files.
        names: the names of the parts that are there.
        marked: whether the marker is there.
        now: the database's time.
    """
    declared = project.feeds[feed]
    of_day, count = f"of feed {feed} for {day}", len(names)
    if not names:
        return f"there is no part {of_day}"
    if isinstance(declared.parts, Parts) and declared.parts.expect is not None:
        expect, of_day_only = declared.parts.expect, hours_of(day, project.zone)
        if expect == "hours":
            missing = sorted(set(of_day_only) - set(names))
            there = f"{len(of_day_only) - len(missing)} of {len(of_day_only)} hours {of_day} are there"
            return f"{there}; missing: {', '.join(missing)}" if missing else None
        if count >= expect:
            return None
        said = f"{count} of {expect} parts {of_day} are there"
        if expect != len(HOURS) or not set(names) <= set(HOURS):
            return said
        missing = sorted(set(HOURS) - set(names))
        said += f"; missing: {', '.join(missing)}"
        if set(missing) & set(of_day_only):
            return said
        return (
            f"{said}, which the day does not have in {project.timezone}; if the names are local hours, declare "
            f"feeds.{feed}.parts: {{expect: hours}}"
        )
    if declared.marker is not None:
        return None if marked else f"{_there(count, of_day)}, but not their marker {declared.marker}"
    moment = usual_moment(project, feed, day)
    if now >= moment:
        return None
    return f"{_there(count, of_day)}; those that have come by {moment:%Y-%m-%d %H:%M} UTC are taken then"


def missing_hours(project: Project, day: date, names: Collection[str]) -> list[str]:
    """Return the hours of a local day that a set has no part of; none if its parts are not hours."""
    are_hours = names and set(names) <= set(HOURS)
    return sorted(set(hours_of(day, project.zone)) - set(names)) if are_hours else []


def superfluous(feed: Feed, names: Collection[str], before: Collection[str]) -> list[str]:
    """Return the names of parts above the expected number: those that are not in the set before, then the last ones."""
    expect = feed.parts.expect if isinstance(feed.parts, Parts) else None
    if not isinstance(expect, int) or len(names) <= expect:
        return []
    known_first = sorted(in_order(names), key=lambda name: name not in before)
    return in_order(known_first[expect:])


def writes(keys: Iterable[str]) -> dict[str, list[str]]:
    """Map the UUID of each write of Spark to the keys that it wrote; other keys are left out."""
    found: dict[str, list[str]] = {}
    for key in sorted(keys):
        if match := _WRITE.search(key.rpartition("/")[2]):
            found.setdefault(match[1], []).append(key)
    return found


@dataclass(frozen=True)
class PartVersion:
    """A version of a part that could count: from when, under which key, and with which content."""

    name: str
    key: str
    sha256: str
    available_from: datetime


def ties(versions: Sequence[PartVersion]) -> list[list[PartVersion]]:
    """Return versions of one part that count from the same moment with other content: none of them is the newer one."""
    same: dict[tuple[str, datetime], list[PartVersion]] = {}
    for version in versions:
        same.setdefault((version.name, version.available_from), []).append(version)
    return [found for found in same.values() if len({version.sha256 for version in found}) > 1]


def states(versions: Sequence[PartVersion], *, first_at: datetime | None) -> list[dict[str, PartVersion]]:
    """Return which version of each part counts: in the first complete set, and in the newest.

    Both are one if nothing came after the first one. What came between them is only in the newest, which never counts
    before its newest part.

    Args:
        versions: the versions of all parts.
        first_at: the moment at which the first set is complete; None if it is older than the versions.
    """
    newest = _current(versions)
    if first_at is None:
        return [newest]
    first = _current([version for version in versions if version.available_from <= first_at])
    return [newest] if first == newest or not first else [first, newest]


def complete_at(versions: Sequence[PartVersion]) -> datetime:
    """Return the moment at which the last part came in its first version."""
    first: dict[str, datetime] = {}
    for version in versions:
        first[version.name] = min(version.available_from, first.get(version.name, version.available_from))
    return max(first.values())


def listed(names: Sequence[str]) -> str:
    """Return names for a message: the first ones, and how many more there are."""
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more


def _current(versions: Sequence[PartVersion]) -> dict[str, PartVersion]:
    """Map each part to its newest version; of equal moments, the greater name."""
    ordered = sorted(versions, key=lambda version: (version.available_from, name_order(version.key)))
    return {version.name: version for version in ordered}


def _there(count: int, of_day: str) -> str:
    return f"1 part {of_day} is there" if count == 1 else f"{count} parts {of_day} are there"

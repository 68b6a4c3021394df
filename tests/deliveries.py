"""Enter deliveries into the journal as `land` and `validate` do, for tests that begin after these steps."""

import json
from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any

import polars as pl

from include.core.journal import ENTRIES, Entry, Known
from include.core.project import Project
from include.core.settings import Settings
from include.io import postgres
from include.io.journal import write_copy


def known(deliveries: pl.DataFrame) -> Known:
    """Return a journal with these deliveries (columns of `schemas.DELIVERIES`) and no prepared day."""
    return Known(0, deliveries, {})


def delivery(
    feed: str, day: date, delivery_id: str, *, available_from: datetime, rows: int = 0, verdict: str = "accepted"
) -> list[Entry]:
    """Return the entries of a delivery with a verdict."""
    key = delivery_id.split("@")[0]
    fields: dict[str, Any] = {
        "feed": feed,
        "day": str(day),
        "key": key,
        "uri": f"/landing/{key}",
        "sha256": delivery_id,
        "size": 0,
        "rows": rows,
        "available_from": available_from.astimezone(UTC).isoformat(timespec="microseconds"),
        "verdict": "landed",
    }
    entries = [Entry(kind="delivery", subject=delivery_id, entry=fields)]
    if verdict != "landed":
        why = None if verdict == "accepted" else "a test says so"
        entries.append(Entry.verdict(delivery_id, feed, day, why))
    return entries


def text(entry: Entry) -> str:
    """Return the fields of an entry as the journal stores them."""
    return json.dumps(entry.entry)


def enter(settings: Settings, project: Project, entries: Iterable[Entry]) -> None:
    """Add entries; a delivery that the journal has already is left out, and its verdict is added."""
    with postgres.journal.write_journal(settings, project.name) as writer:
        there = set(writer.known().deliveries["delivery_id"])
        writer.add([entry for entry in entries if entry.kind != "delivery" or entry.subject not in there])


def leave_copy(settings: Settings, project: Project, entries: Iterable[Entry]) -> int:
    """Leave entries beside the tables, as the worker does for a step without the database; return the watermark."""
    rows = [
        (number, entry.kind, entry.subject, text(entry), entry.why) for number, entry in enumerate(entries, start=1)
    ]
    write_copy(settings, project, len(rows), pl.DataFrame(rows, schema=ENTRIES, orient="row"))
    return len(rows)

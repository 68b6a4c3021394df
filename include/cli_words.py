"""What commands print about records, in lines for a person; `--json` prints the records themselves."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from include.core.base import Record
from include.core.record_lines import record_lines
from include.core.records import (
    Extracted,
    Featured,
    GateDecision,
    Landed,
    Refusal,
    Reproduced,
    StepResult,
    Validated,
)

ABOUT = ("model", "feed", "day", "verdict", "decision")
"""Fields of an entry of the journal that its first line says."""
FOR_PROGRAMS = ("sha256", "digest", "key", "size", "uri", "types", "_id")
"""Ends of the fields of an entry that only programs read; `--json` has them."""
MOST = 10
"""The most lines of one kind; the others are counted."""


def words(record: Record, width: int | None = None) -> Iterator[str]:
    """Yield lines about a record: first what was done, then what a person should look at.

    Args:
        record: of a step or an operation.
        width: of the terminal; None is a file or a pipe.
    """
    match record:
        case Extracted() | Landed():
            step = "extract" if isinstance(record, Extracted) else "land"
            yield f"✓ {step} {record.interval}: {record.new:,} new deliveries, {record.known:,} known before"
            yield from _some("not extracted", record.left if isinstance(record, Extracted) else ())
            yield from _refused(record.refused if isinstance(record, Landed) else ())
            yield from _some("waits for a decision", record.held)
            if isinstance(record, Landed) and record.unnamed:
                yield f"  … and {record.unnamed:,} more, which the log names"
        case Validated():
            yield (
                f"✓ validate {record.interval}: {record.accepted:,} deliveries accepted, {record.rows:,} rows clean, "
                f"{record.quarantined:,} in quarantine, {record.warnings:,} warnings (view data_quality)"
            )
            yield from _refused(record.refused)
        case Featured():
            left_out = sum(day.left_out for day in record.prepared_days)
            without = f", {left_out:,} entities left out by entity.where" if left_out else ""
            yield f"✓ build_features {record.interval}: {record.rows:,} rows of {_days(record.prepared_days)}{without}"
            lacks = [f"{day.day} {why}" for day in record.prepared_days for why in day.lacks.values()]
            yield from _some("went on without", lacks)
        case GateDecision():
            against = f"champion {record.champion}" if record.champion else "no champion yet"
            yield f"gate of {record.model}, {record.subject}, {record.interval}: {record.rows:,} rows, {against}"
            checks = sorted(record.checks, key=lambda each: each.passed)  # what failed comes first
            yield from (f"  {'✓' if check.passed else '✗'} {check.sentence}" for check in checks)
            yield f"✓ {record.subject} passed" if record.passed else f"✗ {record.subject} is rejected"
        case StepResult(skipped=str(why)):
            yield f"– {_done(record)} {record.interval}: {why}"
        case StepResult():
            yield f"✓ {_done(record)} {record.interval}: {record.rows:,} rows"
            yield from _indented(record_lines(record, _inside(width), leave_out=("interval", "rows")))
        case Reproduced():
            differs = (
                f"{record.differing:,} of {record.rows:,} rows differ" if record.differing else "all rows are equal"
            )
            yield f"{'✗' if record.differing else '✓'} {record.model} version {record.model_version}: {differs}"
            yield from _indented(
                record_lines(record, _inside(width), leave_out=("model", "model_version", "differing"))
            )
        case _:
            yield f"✓ {_done(record)}"
            yield from _indented(record_lines(record, _inside(width)))


def entry_words(line: Mapping[str, Any]) -> Iterator[str]:
    """Yield lines about an entry of the journal; what only programs need is left out."""
    entry, recorded = line["entry"], datetime.fromisoformat(line["recorded_at"])
    about = [str(entry[name]) for name in ABOUT if entry.get(name)]
    who = f", by {line['by']}: {line['why']}" if line["by"] else ""
    yield f"{line['sequence']:>6}  {recorded:%Y-%m-%d %H:%M} UTC  {' '.join([line['kind'], *about])}{who}"
    if line["subject"]:
        yield f"        {line['subject']}"
    said = [
        f"{name.replace('_', ' ')} {_entered(value)}"
        for name, value in entry.items()
        if value not in (None, "", [], {}) and name not in ABOUT and not name.endswith(FOR_PROGRAMS)
    ]
    if said:
        yield f"        {', '.join(said)}"


def _entered(value: Any) -> str:
    """Return a value of an entry: of a list how many there are, of a moment its minute."""
    if isinstance(value, list | dict):
        return str(len(value))
    if "T" not in str(value):  # Python reads a day, and eight digits, as a moment too
        return str(value)
    try:
        return f"{datetime.fromisoformat(value):%Y-%m-%d %H:%M} UTC"
    except (TypeError, ValueError):
        return str(value)


def promotion_words(model: str, found: Sequence[Any], width: int | None) -> list[str]:
    """Return lines about promotions by hand."""
    return (
        record_lines({"promotions by hand": found}, width) if found else [f"{model}: nobody promoted a version by hand"]
    )


def message_words(message: Mapping[str, Any]) -> Iterator[str]:
    """Yield lines about a row of the view `outbox`: what it is about, what became of it, and its first line."""
    mark, tries = "✗" if message["state"] == "given up" else "–", message["attempts"]
    again = f", next try {message['next_try_at']:%Y-%m-%d %H:%M} UTC" if message["next_try_at"] else ""
    tried = f"{tries} {'try' if tries == 1 else 'tries'}{again}"
    about = f"{message['kind']} about {message['subject']} to {message['destination']}"
    since = f"since {message['created_at']:%Y-%m-%d %H:%M} UTC"
    yield f"{mark} {message['id']} {message['state']}: {about}, {since}, {tried}"
    if message["last_error"]:
        yield f"    {message['last_error']}"
    yield from (f"    {line}" for line in str(message["payload"].get("text") or "").splitlines()[:1])


def _done(record: Record) -> str:
    """Return what a record is the result of, such as `rolled back`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(record).__name__).lower()


def _inside(width: int | None) -> int | None:
    return None if width is None else width - 2


def _indented(lines: Sequence[str]) -> Iterator[str]:
    yield from (f"  {line}" for line in lines)


def _days(days: Sequence[Any]) -> str:
    return f"{len(days):,} day{'s' if len(days) != 1 else ''}"


def _refused(refused: Sequence[Refusal]) -> Iterator[str]:
    yield from _some("refused", [each.why if each.uri in each.why else f"{each.uri}: {each.why}" for each in refused])


def _some(what: str, lines: Sequence[str]) -> Iterator[str]:
    """Yield the first lines, and how many others there are."""
    for line in lines[:MOST]:
        yield f"  ✗ {what}: {line}"
    if len(lines) > MOST:
        yield f"  … and {len(lines) - MOST:,} more"

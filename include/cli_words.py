"""What commands print about the records of steps, in lines for a person; `--json` prints the records themselves."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from include.core.records import (
    Extracted,
    Featured,
    GateDecision,
    Landed,
    Refusal,
    StepResult,
    Validated,
)

MOST = 10
"""The most lines of one kind; the others are counted."""


def words(record: StepResult) -> Iterator[str]:
    """Yield lines about a record: first what was done, then what a person should look at."""
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
        case _:
            yield f"✓ {record.interval}: {record.rows:,} rows"


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

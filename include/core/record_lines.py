"""Lay out any record for a terminal: a line for each field, a table for records in it. Pure.

What is empty is left out, and of many values the first are shown; JSON has everything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime
from typing import Any

from pydantic import BaseModel

from include.core.interval import Interval
from include.core.terminal import GAP, table

MOST = 10
"""The most values of one field; the others are counted."""
PLAIN = ("version", "number", "watermark", "sequence", "instead_of", "replaces", "champion")
"""Numbers that name something, as the ends of names of fields: they are written without commas."""
LINES = 3
"""A table whose rows have more lines than this on average is not a table any more."""
TOGETHER = 60
"""The most characters of several values in one line."""
COMMANDS = ("python ", "airflow ", "make ", "docker ")


def record_lines(record: Any, width: int | None, *, leave_out: Sequence[str] = ()) -> list[str]:
    """Return a record in lines that fit a terminal.

    Args:
        record: a record, a dataclass, or fields with their values.
        width: of the terminal; None is a file or a pipe.
        leave_out: fields that the caller has printed.
    """
    word = str if isinstance(record, Mapping) else _word  # a key is a name of somebody's, such as a model
    shown = [(name, value) for name, value in _fields(record).items() if name not in leave_out and not _is_empty(value)]
    size = max((len(word(name)) for name, value in shown if not _is_rows(value)), default=0)
    lines: list[str] = []
    for name, value in shown:
        if _is_rows(value):
            lines += _rows(word(name), value, width)
        elif isinstance(value, Mapping) or _is_record(value):
            inner = record_lines(value, None if width is None else width - 2)
            lines += [word(name), *(f"  {line}" for line in inner)]
        else:
            lines += _labelled(word(name).ljust(size), _texts(name, value), width)
    return lines


def text(name: str, value: Any) -> str:
    """Return a value of a field as people read it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value) if name.endswith(PLAIN) else f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return str(value)


def _fields(record: Any) -> Mapping[str, Any]:
    if isinstance(record, Mapping):
        return record
    names = type(record).model_fields if isinstance(record, BaseModel) else [each.name for each in fields(record)]
    return {name: getattr(record, name) for name in names}


def _is_record(value: Any) -> bool:
    """Return whether a value has fields; an interval is read as one text."""
    is_dataclass_of_ours = is_dataclass(value) and not isinstance(value, type)
    return (isinstance(value, BaseModel) or is_dataclass_of_ours) and not isinstance(value, Interval)


def _word(name: str) -> str:
    return str(name).replace("_", " ")


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | Sequence | Mapping) and not len(value))


def _is_rows(value: Any) -> bool:
    """Return whether a value is a sequence of records."""
    return isinstance(value, Sequence) and not isinstance(value, str) and all(map(_is_record, value))


def _texts(name: str, value: Any) -> list[str]:
    """Return the values of a field: of days only where they begin and end."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        return [text(name, value)]
    if all(isinstance(each, date) and not isinstance(each, datetime) for each in value):
        value = Interval.covering(value)
    found = [text(name, each) for each in value[:MOST]]
    return [*found, f"… and {len(value) - MOST:,} more"] if len(value) > MOST else found


def _labelled(label: str, texts: Sequence[str], width: int | None) -> list[str]:
    """Return values beside their word, short ones in one line; commands are below it, to be copied."""
    if any(map(_is_command, texts)):
        return [label.rstrip(), *(f"  {each}" for each in texts)]
    together = ", ".join(texts)
    parts = texts if len(texts) > 1 and (len(together) > TOGETHER or any(" " in each for each in texts)) else [together]
    room = None if width is None else width - len(label) - len(GAP)
    first, *others = (line for each in parts for line in table((each,), [], room))
    return [f"{label}{GAP}{first}", *(f"{' ' * len(label)}{GAP}{other}" for other in others)]


def _is_command(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(COMMANDS)


def _rows(name: str, records: Sequence[Any], width: int | None) -> list[str]:
    """Return records of one kind as a table; below each other if they have too many or too long texts for that."""
    found = [_fields(each) for each in records[:MOST]]
    names = [each for each in found[0] if any(not _is_empty(row.get(each)) for row in found)]
    cells = [
        [", ".join(_texts(each, row[each])) if not _is_empty(row[each]) else "–" for each in names] for row in found
    ]
    head = [_word(each) for each in names]
    numbers = [
        word
        for word, each in zip(head, names, strict=True)
        if all(isinstance(row[each], int | float) and not isinstance(row[each], bool) for row in found)
    ]
    room = None if width is None else width - 2
    laid = table(head, cells, room, right=numbers)
    is_folded = len(laid) > 1 + len(cells)
    if is_folded and (len(laid) > LINES * (1 + len(cells)) or any(_is_command(cell) for row in cells for cell in row)):
        laid = []
        for number, each in enumerate(records[:MOST], 1):
            laid += [f"── {number}", *record_lines(each, room)]
    more = [f"… and {len(records) - MOST:,} more"] if len(records) > MOST else []
    return [name, *(f"  {line}" for line in (*laid, *more))]

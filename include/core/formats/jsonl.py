"""JSON lines: an object a line. Numbers are kept as they are written, never as binary fractions."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

from include.core.errors import UnreadableError
from include.core.formats import columns, text
from include.core.formats.base import Contents, Format, Layout, listed

SPARE_VALUES = 10
"""A line may be as long as the declared values and this many more."""


class Jsonl(Format):
    """JSON lines in UTF-8. A key that an object leaves out is null there; a nested value is refused."""

    kind: Literal["jsonl"] = "jsonl"

    def parse(self, blocks: Iterator[bytes], layout: Layout) -> Contents:
        """Read the blocks of an unpacked file; see `Format.read`."""
        found: UnreadableError
        try:
            return _read(blocks, layout)
        except text.EncodingError as error:
            found = UnreadableError("not UTF-8, as JSON is; deliver the file again in UTF-8", line=error.line)
        except text.TooLongError as error:
            found = text.too_long(layout.limits.field_characters, error.line + 1)
        raise found  # not chained: the error of the decoder contains the text


def _read(blocks: Iterator[bytes], layout: Layout) -> Contents:
    from include.core.formats.frames import Rows

    most = layout.limits.field_characters
    lines = text.Lines(text.decoded(blocks, "utf-8"), (len(layout.names) + SPARE_VALUES) * most)
    names, declared, lower = layout.names, {*layout.names}, {name.lower() for name in layout.names}
    rows = Rows(layout, range(len(names)), len(names), empty_is_null=False)
    seen: set[str] = set()
    ignored: dict[str, None] = {}
    for line in lines:
        long, lines.pending = lines.pending > most, 0
        if not line.strip():
            continue
        record = _object(line, lines.number)
        if not record.keys() <= declared:
            unknown = [key for key in record if key not in declared]
            if layout.extra_columns == "refuse" or any(key.lower() in lower for key in unknown):
                columns.places([*record], replace(layout, optional=frozenset(names)), line=lines.number, what="key")
            if len(record) > layout.max_columns:
                raise columns.too_many(layout, lines.number)
            ignored.update(dict.fromkeys(unknown[: layout.max_columns - len(ignored)]))
        seen |= record.keys()
        row = [_text(record.get(name), name, lines.number) for name in names]
        if long and max(len(value or "") for value in row) > most:
            raise text.too_long(most, lines.number)
        rows.add(row, lines.number)
    frame = rows.frame()
    missing = [name for name in names if name not in seen and name not in layout.optional]
    if missing and frame.height:
        raise UnreadableError(
            f"the keys changed: missing in every line: {listed(missing)}; {columns.AGAIN}, or declare {missing[0]} "
            "with optional: true"
        )
    warn = ignored and layout.extra_columns == "warn"
    remark = f"ignored, because they are not declared: {len(ignored):,} keys" if warn else None
    return Contents(frame, remark, columns.differs({*seen, *ignored}, layout))


class _TwiceError(ValueError):
    pass


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise _TwiceError
    return record


def _no_number(written: str) -> None:
    raise ValueError(f"{written} is no number of JSON")


_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_no_number, object_pairs_hook=_once)


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        record = _DECODER.decode(line)
        if isinstance(record, dict):
            return record
        problem = "an array; JSON lines have an object a line" if isinstance(record, list) else "a value, not an object"
    except _TwiceError:
        problem = "a key is there twice"
    except (ValueError, RecursionError) as error:
        array = number == 1 and line.lstrip().startswith("[")
        problem = "the begin of an array; JSON lines have an object a line" if array else _problem(error)
    text_file = number == 1 and "," in line and line.lstrip()[:1] not in {"{", "["}
    declare = ", or, if it is CSV, declare format: {kind: csv}" if text_file else ""
    raise UnreadableError(f"not JSON lines ({problem}); deliver the file again{declare}", line=number)


def _problem(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg}, character {error.colno}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def _text(value: Any, name: str, line: int) -> str | None:
    if value is None or isinstance(value, str):
        if value and not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise UnreadableError(f"{name} has half of a surrogate pair (\\ud800…); deliver the file again", line=line)
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    kind = "an object" if isinstance(value, dict) else "an array"
    raise UnreadableError(f"{name} is nested: {kind}; deliver each value in a column of its own", line=line)

"""Say what malformed values look like, and which line of YAML would accept them. No value is shown but dates."""

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl
from pydantic import ValidationError

from include.core import schemas
from include.core.formats import values
from include.core.formats.base import Format, listed

MAX_TEXTS = 1000
"""Texts that are tried."""
MAX_LINES = 3
"""Proposals that a message has."""
NULL_WORDS = {"NA", "N/A", "#N/A", "NULL", "Null", "null", "None", "NaN", "nan", "-", "--", "\\N", "?", "."}
BOOLEAN_WORDS = [
    ("True", "False"),
    ("TRUE", "FALSE"),
    ("T", "F"),
    ("t", "f"),
    ("1", "0"),
    ("Yes", "No"),
    ("yes", "no"),
    ("Y", "N"),
    ("y", "n"),
    ("Ja", "Nein"),
    ("ja", "nein"),
    ("J", "N"),
    ("j", "n"),
    ("WAHR", "FALSCH"),
    ("oui", "non"),
]
SPACES = {" ": "spaces", "\u00a0": "no-break spaces", "\u202f": "narrow no-break spaces", "'": "apostrophes"}
NUMBERS: list[tuple[dict[str, str | None], str]] = [
    ({"decimal": ".", "thousands": None}, "a point before the decimals"),
    ({"decimal": ",", "thousands": None}, "a comma before the decimals"),
    ({"decimal": ".", "thousands": ","}, "commas between thousands"),
    ({"decimal": ",", "thousands": "."}, "points between thousands"),
]
for _space, _name in SPACES.items():
    NUMBERS += [({"decimal": decimal, "thousands": _space}, f"{_name} between thousands") for decimal in ".,"]
DATES = ("%Y-%m-%d", "%d.%m.%Y", "%d.%m.%y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d-%m-%Y", "%Y%m%d", "%d %b %Y")
TIMES = ("%H:%M:%S", "%H:%M", "%H:%M:%S.%f", "%I:%M %p", "%I:%M:%S %p")


def explain(declared: Format, kind: str, texts: pl.Series, alike: pl.Series, zone: str) -> str:
    """Explain why texts of a column are malformed.

    Args:
        declared: the format of the feed.
        kind: the type of the column.
        texts: its values as landed.
        alike: the values of all columns of this type, which what is proposed must not break.
        zone: the timezone of the project, a likely one of local times.
    """
    _, wrong = sorted_texts(texts, declared, kind)
    right, _ = sorted_texts(alike, declared, kind)
    expected = f"declared is {_expected(declared, kind)}"
    if wrong.is_empty():
        return expected
    if set(wrong) <= NULL_WORDS:
        words = wrong.to_list()
        return f"found {listed(words)}, {expected}; if that means no value, declare " + declared.line(
            null_values=[*declared.null_values, *words]
        )
    if kind == "timestamp" and declared.timezone and _parsed({"timezone": "UTC"}, declared, kind, wrong) is not None:
        return f"found {wrong[0]}, a local time that does not exist in {declared.timezone}: clocks go forward there"
    if (
        kind == "integer"
        and declared.separators[0] in "".join(wrong)
        and _parsed({}, declared, "double", wrong) is not None
    ):
        return f"found numbers with decimals, {expected}"
    meanings: list[pl.Series] = []
    lines: dict[str, str] = {}
    for changes, what in _candidates(declared, kind, zone, wrong, mixed=not right.is_empty()):
        meaning = _parsed(changes, declared, kind, pl.concat([wrong, right]))
        if meaning is not None and not any(meaning.equals(other) for other in meanings):
            meanings.append(meaning)
            lines[declared.line(**changes)] = what
    if not lines:
        return expected
    found = " or ".join(dict.fromkeys(lines.values()))
    if len(lines) == 1:
        return f"found {found}, {expected}; if that is right, declare {next(iter(lines))}"
    return f"found {found}, {expected}; declare which one it is: {' or '.join([*lines][:MAX_LINES])}"


def written(texts: pl.Series, declared: Format) -> pl.Series:
    """Return texts with null in place of the words that mean: no value."""
    return texts.to_frame("text").select(values.present(pl.col("text"), declared)).to_series()


def sorted_texts(texts: pl.Series, declared: Format, kind: str) -> tuple[pl.Series, pl.Series]:
    """Return the first MAX_TEXTS different texts that are right, and those that are malformed."""
    unique = written(texts, declared).drop_nulls().unique(maintain_order=True)
    parsed = unique.to_frame("text").select(schemas.parse(pl.col("text"), kind, declared)).to_series()
    return unique.filter(parsed.is_not_null())[:MAX_TEXTS], unique.filter(parsed.is_null())[:MAX_TEXTS]


def _parsed(changes: dict[str, Any], declared: Format, kind: str, texts: pl.Series) -> pl.Series | None:
    """Return what texts mean with other settings, None if these do not accept all of them."""
    try:
        changed = type(declared).model_validate({**declared.model_dump(), **changes})
    except ValidationError:
        return None
    parsed = texts.to_frame("text").select(schemas.parse(pl.col("text"), kind, changed)).to_series()
    return None if parsed.null_count() else parsed


def _candidates(
    declared: Format, kind: str, zone: str, wrong: pl.Series, *, mixed: bool
) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield settings that could accept the texts, the simplest first, and what they would mean."""
    has = type(declared).model_fields
    if kind in ("integer", "double") and "decimal" in has:
        yield from NUMBERS
    elif kind == "boolean" and "true_values" in has:
        for true, false in BOOLEAN_WORDS:
            yield {"true_values": [true], "false_values": [false]}, f"{true} and {false}"
    elif kind == "date":
        before = (*declared.dates,) or ("%Y-%m-%d",)
        for form in DATES:
            yield {"date": [*before, form] if mixed else form}, str(wrong[0])
    elif kind == "timestamp":
        before = (*declared.timestamps,) or ("%Y-%m-%dT%H:%M:%S%z",)
        if declared.timezone is None:
            yield {"timezone": zone}, f"{wrong[0]}, without an offset"
        for form in moments():
            local = {} if "%z" in form or declared.timezone else {"timezone": zone}
            yield {"timestamp": [*before, form] if mixed else form, **local}, str(wrong[0])


def moments() -> Iterator[str]:
    """Yield the forms of timestamps that are tried, the likeliest first."""
    for date in DATES:
        for time in TIMES:
            for between in (" ", "T"):
                yield f"{date}{between}{time}%z"
                yield f"{date}{between}{time}"
        yield date


def _expected(declared: Format, kind: str) -> str:
    decimal, thousands = declared.separators
    if kind == "integer":
        return "an integer of 64 bits" + (f", thousands with {thousands!r}" if thousands else "")
    if kind == "double":
        return f"a number with the decimal separator {decimal!r}" + (
            f", thousands with {thousands!r}" if thousands else ""
        )
    if kind == "boolean":
        return " or ".join(declared.boolean_words)
    if kind == "date":
        return _forms(declared.dates) or "a date as in 2024-03-04"
    return _forms(declared.timestamps) or "a timestamp as in 2024-03-04T08:00:00" + ("" if declared.timezone else "Z")


def _forms(forms: Sequence[str]) -> str:
    return f"the form {' or '.join(forms)}" if forms else ""

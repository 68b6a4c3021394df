"""Values that every later step can use and store, and the form of those that it cannot. Pure.

How text becomes a value is in `schemas.parse`; what is wrong with a whole file is found by `land`.
"""

import re
import unicodedata
from itertools import pairwise

import polars as pl

from include.core.feeds import Column

MIN_YEAR, MAX_YEAR = 1000, 9999
"""Years with four digits: Python, and so most clients of PostgreSQL, cannot read later ones; earlier ones are typos."""

MAX_KEY_BYTES = 1024
"""The longest `entity_id`. A row of a PostgreSQL index has at most 2704 bytes (a third of a page, nbtree's
`BTMaxItemSize`); that leaves room for the other columns of a key, such as project and outcome."""

ESCAPES = {"%": "%25", "-": "%2D"}
"""How the separator of an `entity_id`, and the character that escapes it, are written inside of a text."""

MAX_CHARACTERS = 40

_DATE_LIKE = re.compile(
    r"(?:\d{1,6}(?P<first>[-./ ])\d{1,2}(?P=first)\d{1,2}|\d{1,2}(?P<last>[-./ ])\d{1,2}(?P=last)\d{2,4}|\d{8})"
    r"(?:[T ]+\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d{1,9})?)?)?(?: ?[AaPp][Mm])?(?: ?(?:Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?))?"
)

UNSTORABLE = {
    "timestamp": f"a year outside of {MIN_YEAR} to {MAX_YEAR}; years have four digits",
    "date": f"a year outside of {MIN_YEAR} to {MAX_YEAR}; years have four digits",
    "string": "text with a NUL character, which PostgreSQL cannot store",
}
"""What is wrong with a value that can be parsed and not stored, by the declared type."""


def only_storable(value: pl.Expr, kind: str, timezone: str) -> pl.Expr:
    """Make a value null that PostgreSQL, or a client that reads it from there, cannot hold.

    Args:
        value: of the polars dtype of the declared type.
        kind: the declared type.
        timezone: in which people read timestamps; their year must be sane there too.

    Returns:
        The value; null for a year outside of 1000 to 9999 and for a text with a NUL character.
    """
    if kind == "string":
        return pl.when(~value.str.contains("\x00", literal=True)).then(value)
    if kind == "date":
        return pl.when(value.dt.year().is_between(MIN_YEAR, MAX_YEAR)).then(value)
    if kind == "timestamp":
        sane = pl.when(value.dt.year().is_between(MIN_YEAR, MAX_YEAR)).then(value)
        local = sane.dt.convert_time_zone(timezone).dt.year()
        return pl.when(local.is_between(MIN_YEAR, MAX_YEAR)).then(sane)
    return value


def key_part(value: pl.Expr, kind: str, *, last: bool) -> pl.Expr:
    """Return a column of a key as the text that stands for it in `entity_id`.

    Texts of all columns, joined by `-`, are different for different keys. Read from the left, each text but that of the
    last column shows where it ends: an integer after its digits, a date after ten characters, and a text, in which the
    separator is escaped, before the next separator. The last column is what remains, so it is written as it is.

    Args:
        value: of the polars dtype of the declared type.
        kind: the declared type.
        last: whether no other column follows.
    """
    if kind == "timestamp":
        return _moment(value)
    if kind == "double":
        return pl.when(value == 0).then(0.0).otherwise(value).cast(pl.String)  # -0.0 and 0.0 are equal
    if kind != "string" or last:
        return value.cast(pl.String)
    for character, escaped in ESCAPES.items():
        value = value.str.replace_all(character, escaped, literal=True)
    return value


def _moment(value: pl.Expr) -> pl.Expr:
    """Return a timestamp as text, to the minute if it is a whole one, else to the second or microsecond."""
    written = value.dt.strftime("%Y%m%dT%H%M%S%.6fZ")
    written = pl.when(value.dt.microsecond() == 0).then(value.dt.strftime("%Y%m%dT%H%M%SZ")).otherwise(written)
    whole = (value.dt.microsecond() == 0) & (value.dt.second() == 0)
    return pl.when(whole).then(value.dt.strftime("%Y%m%dT%H%MZ")).otherwise(written)


def found(column: Column, text: str) -> str:
    """Return the form of a malformed text without its value: digits as 9, letters as a. A date is shown as it is.

    Args:
        column: the declaration of the column that the text stands in.
        text: as landed.
    """
    if column.data_class != "public":
        return "text of another form"  # what is landed is a hash
    if "\x00" in text:
        return "text with a NUL character"
    if column.type in ("timestamp", "date") and _is_like_a_date(text):
        return text
    return form_of(text)


def form_of(text: str) -> str:
    """Return the form of a text, shortened: digits as 9, letters as a."""
    form = "".join(_form(character) for character in text[:MAX_CHARACTERS])
    return form if len(text) <= MAX_CHARACTERS else f"{form[: MAX_CHARACTERS - 1]}…"


def _is_like_a_date(text: str) -> bool:
    """Return whether a text is a date in some form, and not the number of a person or phone."""
    if not _DATE_LIKE.fullmatch(text):
        return False
    if re.fullmatch(r"\d{8}", text):
        return any(_is_day(text[at : at + 2], text[at + 2 : at + 4]) for at in (0, 4))
    numbers = [number for number in re.findall(r"\d+", text)[:3] if len(number) <= 2]
    return any(_is_day(*pair) for pair in pairwise(numbers))


def _is_day(one: str, other: str) -> bool:
    """Return whether two numbers can be a day and a month."""
    least, most = sorted((int(one), int(other)))
    return 1 <= least <= 12 and most <= 31


def _form(character: str) -> str:
    kind = unicodedata.category(character)[0]
    if kind == "N":
        return "9"
    if kind in "LM":  # a mark is a part of a letter
        return "a"
    return character if character.isprintable() else "�"


def malformed(name: str, column: Column | None, text: str | None, entity_id: str | None = None) -> str:
    """Return a column whose value is malformed, and the form of the value.

    Args:
        name: the column, or `entity_id`.
        column: its declaration; None for `entity_id`.
        text: the value as landed.
        entity_id: of the row.
    """
    if column is None:
        return f"{name} (found {len((entity_id or '').encode()):,} bytes)"
    return f"{name} (found {found(column, text or '')})"

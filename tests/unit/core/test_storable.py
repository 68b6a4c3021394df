"""`entity_id` names each key once, and messages say the form of a value without the value."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.core import schemas
from include.core.feeds import Column, ColumnType
from include.core.storable import found, key_part, malformed

VALUES: dict[ColumnType, st.SearchStrategy[Any]] = {
    "string": st.text(st.sampled_from("-%2D5aB é\U0001f600\n"), max_size=6) | st.text(max_size=6),
    "integer": st.integers(-(2**63), 2**63 - 1) | st.integers(-20, 20),
    "date": st.dates(date(1000, 1, 1)),
    "timestamp": st.datetimes(datetime(1000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
    | st.sampled_from([
        datetime(2026, 3, 4, 8, minute, second, microsecond, UTC)
        for minute in (0, 30)
        for second in (0, 1)
        for microsecond in (0, 1, 100000)
    ]),
    "double": st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, -0.0, 1.0, -1e-7, 1e22]),
    "boolean": st.booleans(),
}


def name(kinds: list[ColumnType], keys: list[tuple[Any, ...]]) -> list[str]:
    schema = {f"c{n}": schemas.POLARS[kind] for n, kind in enumerate(kinds)}
    parts = [key_part(pl.col(f"c{n}"), kind, last=n == len(kinds) - 1) for n, kind in enumerate(kinds)]
    return (
        pl
        .DataFrame(keys, schema=schema, orient="row")
        .select(pl.concat_str(parts, separator="-"))
        .to_series()
        .to_list()
    )


def moment(text: str) -> datetime:
    form = {14: "%Y%m%dT%H%MZ", 16: "%Y%m%dT%H%M%SZ"}.get(len(text), "%Y%m%dT%H%M%S.%fZ")
    return datetime.strptime(text, form).replace(tzinfo=UTC)


READ: dict[ColumnType, tuple[str, Callable[[str], Any]]] = {
    "integer": (r"-?\d+", int),
    "double": (r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?", float),
    "boolean": ("true|false", lambda text: text == "true"),
    "date": (r".{10}", date.fromisoformat),
    "timestamp": (r"\d{8}T[\d.]+Z", moment),
    "string": (r"[^-]*", lambda text: text.replace("%2D", "-").replace("%25", "%")),
}


def read(kinds: list[ColumnType], text: str) -> tuple[Any, ...]:
    """Read the key back from its name, from the left."""
    found: list[Any] = []
    for n, kind in enumerate(kinds):
        pattern, convert = READ[kind]
        if n == len(kinds) - 1 and kind == "string":
            return (*found, text)
        match = re.match(pattern, text)
        assert match, text
        found.append(convert(match[0]))
        text = text[match.end() :].removeprefix("-")
    assert not text
    return tuple(found)


@st.composite
def some_keys(draw: st.DrawFn) -> tuple[list[ColumnType], list[tuple[Any, ...]]]:
    kinds = draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=4))
    return kinds, draw(st.lists(st.tuples(*(VALUES[kind] for kind in kinds)), min_size=1, max_size=8))


@given(some_keys())
def test_a_key_can_be_read_back_from_its_name(drawn: tuple[list[ColumnType], list[tuple[Any, ...]]]) -> None:
    """So two keys never have one name."""
    kinds, keys = drawn
    assert [read(kinds, text) for text in name(kinds, keys)] == keys


@given(st.text(st.sampled_from("-%2D"), max_size=8), st.integers(0, 8), st.integers(0, 8))
def test_one_text_cut_at_two_places_is_two_keys(text: str, here: int, there: int) -> None:
    one, other = (text[:here], text[here:]), (text[:there], text[there:])
    first, second = name(["string", "string"], [one, other])
    assert (first == second) == (one == other)


@pytest.mark.parametrize(
    ("kinds", "key", "said"),
    [
        (
            ["string", "integer", "timestamp"],
            ("store", 7, datetime(2026, 1, 1, 8, 30, tzinfo=UTC)),
            "store-7-20260101T0830Z",
        ),
        (["string", "timestamp"], ("a", datetime(2026, 1, 1, 8, 30, 5, tzinfo=UTC)), "a-20260101T083005Z"),
        (["string", "timestamp"], ("a", datetime(2026, 1, 1, 8, 30, 5, 40, UTC)), "a-20260101T083005.000040Z"),
        (["string", "string"], ("A-B", "C"), "A%2DB-C"),
        (["string", "string"], ("A", "B-C"), "A-B-C"),
        (["string", "string"], ("50%", "C"), "50%25-C"),
        (["string", "string"], ("", ""), "-"),
        (["integer", "date"], (-7, date(2026, 3, 4)), "-7-2026-03-04"),
        (["string"], ("550e8400-e29b-41d4-a716-446655440000",), "550e8400-e29b-41d4-a716-446655440000"),
        (["double", "boolean"], (-0.0, True), "0.0-true"),
    ],
)
def test_a_name_is_readable(kinds: list[ColumnType], key: tuple[Any, ...], said: str) -> None:
    assert name(kinds, [key]) == [said]


def test_a_key_with_a_null_has_no_name() -> None:
    assert name(["string", "timestamp"], [("a", None), (None, datetime(2026, 1, 1, tzinfo=UTC))]) == [None, None]


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("timestamp", "2024-03-04 08:00:00+00", "2024-03-04 08:00:00+00"),
        ("timestamp", "04.03.2024 08:00", "04.03.2024 08:00"),
        ("timestamp", "3/4/24 8:00 PM", "3/4/24 8:00 PM"),
        ("date", "20240304", "20240304"),
        ("date", "123-45-6789", "999-99-9999"),  # no date, but maybe the number of a person
        ("date", "Anna Müller", "aaaa aaaaaa"),
        ("timestamp", "+49 30 1234567", "+99 99 9999999"),
        ("integer", "1.234,00", "9.999,99"),
        ("double", "x" * 50, "a" * 39 + "…"),
        ("boolean", "yes\x07", "aaa�"),
        ("string", "a\x00b", "text with a NUL character"),
    ],
)
def test_the_form_of_a_value_is_said_and_a_date_shown(kind: ColumnType, text: str, said: str) -> None:
    assert found(Column.model_validate({"type": kind, "class": "public"}), text) == said


def test_the_form_of_an_identifier_does_not_show_its_hash() -> None:
    column = Column.model_validate({"type": "string", "class": "identifier", "format": "[A-Z]{2}"})
    assert malformed("person", column, "0f3a") == "person (found text of another form)"

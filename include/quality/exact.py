"""Hand typed rows and the arguments of expectations to Great Expectations without changing a value.

On the way, whole numbers would become floating-point numbers: pandas has no null among integers, and Great Expectations
reads limits as floats. Beyond 2^53 different numbers are then equal. Dates and times would not be comparable at all.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import polars as pl

EXACT_FLOATS = 2**53
"""Below this number, float64 holds every integer."""

_SETS = frozenset({
    "column_values_to_be_in_set",
    "column_values_to_not_be_in_set",
    "column_distinct_values_to_be_in_set",
    "column_distinct_values_to_contain_set",
    "column_distinct_values_to_equal_set",
    "column_most_common_value_to_be_in_set",
})
_LIMITS = frozenset({"column_values_to_be_between", "column_max_to_be_between", "column_min_to_be_between"})


class WholeNumber(float):
    """An integer that is compared exactly, although Great Expectations takes it for a float, which it asks for.

    Compared with a column, it gives a column, as a number does.
    """

    number: int

    def __new__(cls, number: int) -> "WholeNumber":
        """Return the integer."""
        found = super().__new__(cls, number)
        found.number = number
        return found

    def __getnewargs__(self) -> tuple[int]:
        """Return what a copy is made from."""
        return (self.number,)

    def __hash__(self) -> int:
        return hash(self.number)

    def __eq__(self, other: Any) -> Any:
        return self.number == _number(other)

    def __ne__(self, other: Any) -> Any:
        return self.number != _number(other)

    def __lt__(self, other: Any) -> Any:
        return self.number < _number(other)

    def __le__(self, other: Any) -> Any:
        return self.number <= _number(other)

    def __gt__(self, other: Any) -> Any:
        return self.number > _number(other)

    def __ge__(self, other: Any) -> Any:
        return self.number >= _number(other)

    def __str__(self) -> str:
        return str(self.number)

    __repr__ = __str__


def _number(other: Any) -> Any:
    return other.number if isinstance(other, WholeNumber) else other


def to_pandas(rows: pl.DataFrame) -> pd.DataFrame:
    """Return a frame as pandas has it, but with integers from 2^53 on as Python's integers, which are exact."""
    frame = rows.to_pandas()
    for name, kind in rows.schema.items():
        if kind == pl.Int64 and _is_large(rows[name]):
            values = [float("nan") if value is None else value for value in rows[name]]
            frame[name] = pd.Series(values, dtype=object)
    return frame


def _is_large(column: pl.Series) -> bool:
    least, most = column.min(), column.max()
    return isinstance(least, int) and isinstance(most, int) and max(-least, most) >= EXACT_FLOATS


def comparable(
    name: str, arguments: Mapping[str, Any], types: Mapping[str, pl.DataType], zone: ZoneInfo
) -> dict[str, Any]:
    """Return the arguments of an expectation, with limits and sets in the type of the column that they are about.

    Args:
        name: of the expectation.
        arguments: as the file has them.
        types: dtype of each column.
        zone: in which a date means the begin of a day, where the column has timestamps.

    Raises:
        ValueError: an argument cannot be compared with the column.
    """
    columns, found = columns_of(arguments), dict(arguments)
    kind = types.get(columns[0]) if columns else None
    if name in _LIMITS:
        for key in ("min_value", "max_value"):
            if found.get(key) is not None:
                found[key] = _comparable(key, found[key], kind, zone)
    if name in _SETS and isinstance(found.get("value_set"), list):
        found["value_set"] = [_comparable("value_set", value, kind, zone) for value in found["value_set"]]
    return found


def with_whole_numbers(expectation: Any, arguments: Mapping[str, Any]) -> Any:
    """Return an expectation with those of its arguments exact that Great Expectations made a float of an integer."""
    # a float is as good beyond 64 bits, where no column has values, and pandas may refuse such an integer
    whole = {key: n for key, n in arguments.items() if type(n) is int and abs(n) < 2**63}
    exact = {key: WholeNumber(n) for key, n in whole.items() if isinstance(getattr(expectation, key, None), float)}
    return expectation.copy(update=exact) if exact else expectation


def _comparable(key: str, value: Any, kind: pl.DataType | None, zone: ZoneInfo) -> Any:
    """Return a value as one that can be compared with the values of a column of this dtype."""
    if kind == pl.Int64 and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind == pl.Date:
        found = _date(key, value)
        return datetime.combine(found, time())  # pandas has dates as datetimes without a timezone
    if kind == pl.Datetime("us", "UTC"):
        return _moment(key, value, zone)
    return value


def _date(key: str, value: Any) -> date:
    try:
        found = value if isinstance(value, date) else date.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{key}: {value!r} is not a date; write it as 2026-03-04") from error
    if isinstance(found, datetime):
        raise ValueError(f"{key}: {value} is a time, and the column has dates; write it as {value:%Y-%m-%d}")
    return found


def _moment(key: str, value: Any, zone: ZoneInfo) -> datetime:
    try:
        found = value if isinstance(value, date) else datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{key}: {value!r} is not a time; write it as 2026-03-04T08:30:00Z") from error
    if not isinstance(found, datetime):
        return datetime.combine(found, time(), zone).astimezone(UTC)
    if found.tzinfo is None:
        raise ValueError(f"{key}: {value} has no offset; write it as {found:%Y-%m-%dT%H:%M:%SZ}")
    return found.astimezone(UTC)


def columns_of(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the columns that the arguments of an expectation name."""
    named = [arguments.get(name) for name in ("column", "column_A", "column_B")]
    return (*(name for name in named if name is not None), *(arguments.get("column_list") or []))


def name_of(expectation: Any) -> str:
    """Return the name by which `expectations.yaml` names the kind of an expectation."""
    return snake(type(expectation).__name__)


def snake(name: str) -> str:
    """Convert `ExpectColumnValuesToNotBeNull` to `column_values_to_not_be_null`."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).removeprefix("_expect_")


_PROBES: dict[pl.DataType, tuple[Any, Any]] = {
    pl.String(): ("a", "b"),
    pl.Int64(): (1, EXACT_FLOATS + 1),
    pl.Float64(): (1.5, 2.5),
    pl.Boolean(): (True, False),
    pl.Date(): (date(2026, 3, 4), date(2026, 3, 5)),
    pl.Datetime("us", "UTC"): (datetime(2026, 3, 4, 8, 30, tzinfo=UTC), datetime(2026, 3, 5, 8, 30, tzinfo=UTC)),
}


def probes(types: Mapping[str, pl.DataType]) -> Sequence[pl.DataFrame]:
    """Return frames on which every expectation is tried: without rows, with nulls, and with values only.

    Args:
        types: dtype of each column.
    """
    few = {name: pl.Series(name, [*_PROBES[kind], _PROBES[kind][0]], dtype=kind) for name, kind in types.items()}
    whole = pl.DataFrame(few)
    holes = whole.with_columns(pl.when(pl.int_range(pl.len()) != 1).then(pl.col(name)).alias(name) for name in types)
    return whole.clear(), holes, whole

"""Rules about rows as expressions of polars, made from the objects of Great Expectations. Pure.

Great Expectations declares them, and its evaluation on pandas is the oracle: `tests/unit/quality/test_rows.py` compares
both on frames of every kind. A rule is translated only if the expression gives the same rows whatever the values are.
Any other one is evaluated by Great Expectations, which takes ten times as long.

- NaN is null. Null values are not asked, but for rules about null, and for pairs and lists as `ignore_row_if` says.
- Integers are compared exactly, whatever the limit. Text is compared in the order of its code points in both.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from include.quality.exact import EXACT_FLOATS, WholeNumber, name_of
from include.quality.regex import of_polars

NUMBERS = (pl.Int64(), pl.Float64())
MOMENT = pl.Datetime("us", "UTC")
EVERY = pl.repeat(value=True, n=pl.len(), dtype=pl.Boolean)
ORDERED = (*NUMBERS, pl.String(), pl.Date(), MOMENT)


@dataclass(frozen=True)
class RowRule:
    """An expectation about rows.

    Attributes:
        asked: whether a row is asked; never null. The share of `mostly` is one of these rows.
        broken: whether a row that is asked breaks the rule; never null. None for a rule about keys.
        key: the columns whose values no two rows that are asked have in common.
        mostly: the share of the asked rows that must meet the rule.
    """

    asked: pl.Expr
    broken: pl.Expr | None
    key: tuple[str, ...]
    mostly: float

    def holds(self, asked: int, broken: int) -> bool:
        """Return whether the expectation holds with these numbers of rows, as Great Expectations computes it."""
        return not asked or (float(asked) - float(broken)) / float(asked) >= self.mostly


def translated(expectation: Any, types: Mapping[str, pl.DataType]) -> RowRule | None:
    """Return the rule of an expectation; None if it is not about rows or cannot be translated exactly.

    Args:
        expectation: of Great Expectations.
        types: dtype of each column.
    """
    name = name_of(expectation)
    mostly = getattr(expectation, "mostly", None)
    if name not in {*_BY_COLUMN, *_BY_COLUMNS, *_UNIQUE} or not isinstance(mostly, int | float):
        return None
    if expectation.row_condition is not None or getattr(expectation, "windows", None):
        return None
    if name in _BY_COLUMN:
        column = expectation.column
        met = _BY_COLUMN[name](expectation, _value(column, types[column]), types[column])
        asked = EVERY if name in _ABOUT_NULL else _value(column, types[column]).is_not_null()
        return None if met is None else _rule(asked, met, mostly)
    columns = _columns(expectation)
    if len({*columns}) < len(columns):
        return None
    missing = [_value(column, types[column]).is_null() for column in columns]
    asked = _ASKED[expectation.ignore_row_if](missing) if len(columns) > 1 else ~missing[0]
    if name in _UNIQUE:
        return RowRule(asked, None, columns, float(mostly))
    met = _BY_COLUMNS[name](expectation, [_value(column, types[column]) for column in columns], types[columns[0]])
    same = types[columns[0]] == types[columns[1]]
    return _rule(asked, met, mostly) if same and met is not None else None


class RowRules:
    """Some rules of a feed, by their number in the file, and the kernel that applies them to a block of rows."""

    def __init__(self, expectations: Sequence[Any], types: Mapping[str, pl.DataType]) -> None:
        """Translate what can be translated.

        Args:
            expectations: of Great Expectations.
            types: dtype of each column of the rows.
        """
        found = {n: translated(expectation, types) for n, expectation in enumerate(expectations)}
        self.rules = {n: rule for n, rule in found.items() if rule is not None}
        self._types = types

    def marks(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return what the rules say of each row of a block; of several blocks, the marks are concatenated.

        It is a pure function of the row, so it does not matter how rows are cut, or where it runs.

        Returns:
            A frame with a row for each row: `row` (true), and for each rule with the number n the columns `asked n`
            and `broken n` (both bool, never null), or `asked n` and `key n` (u64: equal keys have equal hashes).
        """
        found = [EVERY.alias("row")]
        for n, rule in self.rules.items():
            found.append(rule.asked.alias(f"asked {n}"))
            if rule.broken is None:
                found.append(pl.struct(self.key(n)).hash().alias(f"key {n}"))
            else:
                found.append(rule.broken.alias(f"broken {n}"))
        return rows.select(found)

    def key(self, number: int) -> list[pl.Expr]:
        """Return the values of the key of a rule; NaN is null, and 0.0 and -0.0 are equal."""
        columns = self.rules[number].key
        values = [_value(column, self._types[column]) for column in columns]
        return [
            value + 0.0 if self._types[column] == pl.Float64() else value
            for column, value in zip(columns, values, strict=True)
        ]


def _rule(asked: pl.Expr, met: pl.Expr, mostly: float) -> RowRule:
    return RowRule(asked, asked & ~met.fill_null(value=False), (), float(mostly))


def _value(column: str, kind: pl.DataType) -> pl.Expr:
    value = pl.col(column)
    return value.fill_nan(None) if kind == pl.Float64() else value


def _columns(expectation: Any) -> tuple[str, ...]:
    if hasattr(expectation, "column_list"):
        return tuple(expectation.column_list)
    pair = getattr(expectation, "column_A", None), getattr(expectation, "column_B", None)
    return pair if pair[0] is not None else (expectation.column,)  # type: ignore[return-value]


def _between(expectation: Any, value: pl.Expr, kind: pl.DataType) -> pl.Expr | None:
    """Compare with limits; a pair of them that is in the wrong order is an error of Great Expectations."""
    least, most = expectation.min_value, expectation.max_value
    try:
        if (least is None and most is None) or (least is not None and most is not None and least > most):
            return None
    except TypeError:
        return None
    return _within(value, _limit(least, kind), _limit(most, kind), kind, expectation.strict_min, expectation.strict_max)


def _lengths(expectation: Any, value: pl.Expr, kind: pl.DataType) -> pl.Expr | None:
    least, most = expectation.min_value, expectation.max_value
    if kind != pl.String() or (least is None and most is None):
        return None
    limits = _limit(least, pl.Int64()), _limit(most, pl.Int64())
    length = value.str.len_chars().cast(pl.Int64)
    return _within(length, *limits, pl.Int64(), expectation.strict_min, expectation.strict_max)


def _length(expectation: Any, value: pl.Expr, kind: pl.DataType) -> pl.Expr | None:
    length = expectation.value
    if kind != pl.String() or not isinstance(length, int | float) or not float(length).is_integer():
        return None
    return value.str.len_chars() == int(length) if 0 <= length < EXACT_FLOATS else pl.lit(False)


NO_LIMIT = object()
"""No value is beyond it."""
UNKNOWN = object()
"""It cannot be compared exactly with the values of the column."""


def _limit(limit: Any, kind: pl.DataType) -> Any:
    """Return a limit as a value of the column's type: of integers an `int` or a `float`, which may be between two."""
    if limit is None:
        return NO_LIMIT
    if kind == pl.Int64() and isinstance(limit, int | float) and not isinstance(limit, bool):
        number = limit.number if isinstance(limit, WholeNumber) else limit
        return UNKNOWN if isinstance(number, float) and math.isnan(number) else number
    if kind == pl.Float64() and isinstance(limit, int | float) and not isinstance(limit, bool):
        return UNKNOWN if math.isnan(limit) else float(limit)
    return _moment(limit, kind)


def _moment(value: Any, kind: pl.DataType) -> Any:
    """Return a date or a time that is comparable with a column of dates or times."""
    if kind == MOMENT and isinstance(value, datetime) and value.tzinfo is not None:
        return value
    is_day = (
        isinstance(value, datetime) and value.tzinfo is None and value == datetime.combine(value, datetime.min.time())
    )
    return value.date() if kind == pl.Date() and is_day else UNKNOWN


def _within(
    value: pl.Expr, least: Any, most: Any, kind: pl.DataType, strict_min: Any, strict_max: Any
) -> pl.Expr | None:
    if UNKNOWN in (least, most) or not isinstance(strict_min, bool) or not isinstance(strict_max, bool):
        return None
    met = pl.lit(True)
    if least is not NO_LIMIT:
        met &= _compare(value, ">" if strict_min else ">=", least, kind)
    if most is not NO_LIMIT:
        met &= _compare(value, "<" if strict_max else "<=", most, kind)
    return met


def _compare(value: pl.Expr, operator: str, limit: Any, kind: pl.DataType) -> pl.Expr:
    """Compare a value with a limit; an integer with the next integer that has the same meaning."""
    if kind == pl.Int64():
        if math.isinf(limit):
            return pl.lit((limit > 0) == operator.startswith("<"))
        if isinstance(limit, float) and not limit.is_integer():  # x > 1.5 means x >= 2, and x < 1.5 means x <= 1
            operator, limit = (">=", math.ceil(limit)) if operator[0] == ">" else ("<=", math.floor(limit))
        limit = int(limit)
        if not -(2**63) <= limit < 2**63:
            return pl.lit((limit > 0) == operator.startswith("<"))
    other = pl.lit(limit, dtype=kind)
    return {"<": value < other, "<=": value <= other, ">": value > other, ">=": value >= other}[operator]


def _in_set(expectation: Any, value: pl.Expr, kind: pl.DataType) -> pl.Expr | None:
    members = expectation.value_set
    if not isinstance(members, list):
        return None
    if kind == pl.Int64():
        if any(isinstance(member, bool) or not isinstance(member, int | float) for member in members):
            return None
        members = [int(member) for member in members if float(member).is_integer()]
        members = [member for member in members if -(2**63) <= member < 2**63]
    elif kind == pl.Float64():
        if any(isinstance(member, bool) or not isinstance(member, int | float) for member in members):
            return None
        if any(abs(member) > EXACT_FLOATS for member in members if isinstance(member, int)):
            return None
        members = [float(member) for member in members if not math.isnan(member)]
    elif kind in (pl.Date(), MOMENT):
        members = [_moment(member, kind) for member in members]
        if UNKNOWN in members:
            return None
    elif not all(isinstance(member, bool if kind == pl.Boolean() else str) for member in members):
        return None
    return value.is_in(pl.Series(members, dtype=kind).implode())


def _matches(expectation: Any, value: pl.Expr, kind: pl.DataType) -> pl.Expr | None:
    pattern = of_polars(expectation.regex) if isinstance(expectation.regex, str) and kind == pl.String() else None
    return None if pattern is None else value.str.contains(pattern)


def _not(found: pl.Expr | None) -> pl.Expr | None:
    return None if found is None else ~found


def _greater(expectation: Any, pair: Sequence[pl.Expr], kind: pl.DataType) -> pl.Expr | None:
    if kind not in ORDERED or not isinstance(expectation.or_equal, bool | None):
        return None
    return pair[0] >= pair[1] if expectation.or_equal else pair[0] > pair[1]


_ABOUT_NULL = frozenset({"column_values_to_be_null", "column_values_to_not_be_null"})

_BY_COLUMN = {
    "column_values_to_be_null": lambda _, value, __: value.is_null(),
    "column_values_to_not_be_null": lambda _, value, __: value.is_not_null(),
    "column_values_to_be_between": _between,
    "column_values_to_be_in_set": _in_set,
    "column_values_to_not_be_in_set": lambda *given: _not(_in_set(*given)),
    "column_values_to_match_regex": _matches,
    "column_values_to_not_match_regex": lambda *given: _not(_matches(*given)),
    "column_value_lengths_to_be_between": _lengths,
    "column_value_lengths_to_equal": _length,
}

_UNIQUE = frozenset({"column_values_to_be_unique", "compound_columns_to_be_unique"})

_BY_COLUMNS = {
    "column_pair_values_a_to_be_greater_than_b": _greater,
    "column_pair_values_to_be_equal": lambda _, pair, __: pair[0] == pair[1],
}

_ASKED = {
    "both_values_are_missing": lambda missing: ~pl.all_horizontal(missing),
    "all_values_are_missing": lambda missing: ~pl.all_horizontal(missing),
    "either_value_is_missing": lambda missing: ~pl.any_horizontal(missing),
    "any_value_is_missing": lambda missing: ~pl.any_horizontal(missing),
    "neither": lambda _: EVERY,
    "never": lambda _: EVERY,
}

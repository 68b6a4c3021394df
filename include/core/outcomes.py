"""Evaluate the SQL of `project.yaml` (outcomes, `entity.where`) by polars everywhere, so that it means the same.

`problems` tries each expression on probe rows when the configuration is checked. Pure.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import polars as pl

from include.core import schemas
from include.core.errors import ConfigError, DataError, nearest
from include.core.feeds import Feed
from include.core.project import Project

AddColumn = Callable[[pl.LazyFrame], pl.LazyFrame]
"""A function that adds a column of f64 to clean rows. It needs polars only, so that Spark can send it to executors."""

PROBES: Mapping[str, tuple[Any, ...]] = {
    "string": (None, "", "a", "A", "é", "10", "9", "1.5"),
    "integer": (None, 0, 1, -1, 7, -7, 2**31, 2**53 + 1),
    "double": (None, 0.0, -0.0, 0.5, -0.5, 2.5, -2.5, 0.1, 1e308, -1e308, 5e-324),
    "boolean": (None, True, False),
    "timestamp": (None, datetime(1970, 1, 1, tzinfo=UTC), datetime(2026, 3, 29, 1, 30, 0, 1, UTC)),
    "date": (None, date(1970, 1, 1), date(2024, 2, 29)),
}
"""Values that a column of a type may have."""

PROBE_ROWS = 24

UNDECLARED = -1.0
"""The number of a label that `labels` does not have."""

INCLUDED = "_included"
"""The column of the entity's feed that `entity.where` gives: 1 for entities that have features and scores, else 0."""


@dataclass(frozen=True)
class _Sql:
    """An expression over one row of a feed.

    Attributes:
        key: where `project.yaml` has it.
        feed: the feed whose columns it names.
        text: the SQL.
        labels: if its value is text, the labels that it may have.
    """

    key: str
    feed: str
    text: str
    labels: tuple[str, ...] = ()


def outcome_column(project: Project, outcome: str, column: str) -> AddColumn:
    """Return the function that adds the value of an outcome as a column; null where there is no result.

    The SQL names columns of the outcome's feed, in upper or lower case.

    Raises:
        ConfigError: the SQL cannot be parsed, or names a column that the feed does not keep.
    """
    return _column(project, _sql_of(project, outcome), column)


def columns_of_outcome(project: Project, outcome: str) -> list[str]:
    """Return the columns of its feed that the SQL of an outcome names."""
    sql = _sql_of(project, outcome)
    value = _parsed(project, sql)
    written = _written(project, sql, value)
    return [written.get(name, name) for name in dict.fromkeys(value.meta.root_names())]


def included_column(project: Project) -> AddColumn:
    """Return the function that adds INCLUDED to clean rows of the entity's feed: 1 where `entity.where` is true.

    It is 0 where the condition is false or null. Without a condition it is always 1.

    Raises:
        ConfigError: the SQL cannot be parsed, or names a column that the feed does not keep.
    """
    if project.entity.where is None:
        return lambda rows: rows.with_columns(pl.lit(1.0).alias(INCLUDED))
    add = _column(project, _Sql("entity.where", project.entity.feed, project.entity.where), INCLUDED)
    return lambda rows: add(rows).with_columns(pl.col(INCLUDED).fill_null(0.0))


def _column(project: Project, sql: _Sql, column: str) -> AddColumn:
    value = _parsed(project, sql)
    written = _written(project, sql, value)
    value = _numbered(value, sql.labels) if sql.labels else value

    def add(rows: pl.LazyFrame) -> pl.LazyFrame:
        named = rows.with_columns(pl.col(there).alias(name) for name, there in written.items())
        return named.with_columns(value.cast(pl.Float64).alias(column)).drop(written.keys() - {column})

    return add


def _numbered(value: pl.Expr, labels: Sequence[str]) -> pl.Expr:
    """Return the number of each label; -1 for one that is not declared, and null where there is no result."""
    numbers = {label: float(number) for number, label in enumerate(labels)}
    numbered = value.replace_strict(numbers, default=UNDECLARED, return_dtype=pl.Float64)
    return pl.when(value.is_not_null()).then(numbered)


@contextmanager
def without_values() -> Iterator[None]:
    """Replace an error of polars about a value, whose text shows the value, by one without it."""
    try:
        yield
    except pl.exceptions.InvalidOperationError:
        raise DataError(
            "the SQL of an outcome, or entity.where, cannot be evaluated on the rows of its feed, such as a CAST of "
            "text that is no number. Change it so that it holds for any row; check_config tries it: python -m "
            "include.cli check_config"
        ) from None


def outcomes_of(project: Project, feed: str) -> dict[str, AddColumn]:
    """Return the functions that add the outcomes of a feed, by their names."""
    names = [name for name, outcome in project.outcomes.items() if outcome.feed == feed]
    return {name: outcome_column(project, name, name) for name in names}


def _sql_of(project: Project, outcome: str) -> _Sql:
    declared = project.outcomes[outcome]
    return _Sql(f"outcomes.{outcome}.sql", declared.feed, declared.sql, declared.labels)


def problems(project: Project) -> list[str]:
    """Return a sentence for each expression that cannot be evaluated, is of a wrong type, or depends on other rows.

    Each is tried on no rows, on rows of usual and extreme values at once, and on each of these by itself.
    """
    found = []
    expressions = {
        _sql_of(project, outcome): "a number or a boolean, or text that has `labels`" for outcome in project.outcomes
    }
    if project.entity.where is not None:
        expressions[_Sql("entity.where", project.entity.feed, project.entity.where)] = "a boolean"
    for sql, wanted in expressions.items():
        try:
            _require_sound(project, sql, wanted)
        except ConfigError as error:
            found.append(str(error))
    return found


def _require_sound(project: Project, sql: _Sql, wanted: str) -> None:
    rows = _probe_rows(project.feeds[sql.feed])
    add, value = _column(project, sql, "value"), _parsed(project, sql)
    written = _written(project, sql, value)
    where = "without rows"
    try:
        named = rows.clear().with_columns(pl.col(there).alias(name) for name, there in written.items())
        kind = named.select(value.alias("value")).schema["value"]
        if sql.labels:
            if kind != pl.String:
                raise _wrong(project, sql, f"is of type {kind}; an outcome with labels is text")
        elif not (kind in (pl.Boolean, pl.Null) or (kind.is_numeric() and "number" in wanted)):
            raise _wrong(project, sql, f"is of type {kind}; write {wanted}")
        where = "for all probe rows"
        together = add(rows.lazy()).collect()["value"].to_list()
        read = rows.select([written.get(name, name) for name in dict.fromkeys(value.meta.root_names())])
        for n in range(rows.height):
            where = f"for the row {n}, {read.row(n, named=True)}," if read.columns else f"for the row {n}"
            alone = add(rows[n : n + 1].lazy()).collect()["value"].item()
            if repr(alone) != repr(together[n]):
                message = f"{where} is {alone} if the row is alone, and {together[n]} among others"
                raise _wrong(project, sql, f"{message}; use values of the row itself only")
    except pl.exceptions.PolarsError as error:
        raise _wrong(project, sql, f"cannot be evaluated {where}: {_line(error)}") from error


def _probe_rows(feed: Feed) -> pl.DataFrame:
    """Return rows with the kept columns: a first of nulls, then values that meet in other ways in each row."""
    rows = []
    for n in range(PROBE_ROWS):
        values = [PROBES[column.type] for column in feed.kept.values()]
        rows.append([of_type[n * (1 + k % 3) % len(of_type)] for k, of_type in enumerate(values)])
    schema = {name: schemas.dtype(column) for name, column in feed.kept.items()}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _parsed(project: Project, sql: _Sql) -> pl.Expr:
    try:
        return pl.sql_expr(sql.text)
    except pl.exceptions.PolarsError as error:
        raise _wrong(project, sql, _line(error)) from error


def _written(project: Project, sql: _Sql, value: pl.Expr) -> dict[str, str]:
    """Map each name that the SQL writes in another case than the feed to the feed's own."""
    kept = {name.lower(): name for name in project.feeds[sql.feed].kept}
    for name in value.meta.root_names():
        if name.lower() not in kept:
            meant = nearest(name, kept.values())
            raise _wrong(project, sql, f"feed {sql.feed} keeps no column {name!r}{meant}")
    return {name: kept[name.lower()] for name in value.meta.root_names() if name != kept[name.lower()]}


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _wrong(project: Project, sql: _Sql, message: str) -> ConfigError:
    return ConfigError(f"{project.folder / 'project.yaml'}: {sql.key}: {message}")

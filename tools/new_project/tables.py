"""The feeds of a database: which tables have rows of days, and samples of them, read as the product will read them."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl
import sqlalchemy as sa
from pydantic import SecretStr

from include.core.errors import ActionRequiredError, UnreachableError, UnreadableError
from include.core.feeds import RESERVED_COLUMNS
from include.core.formats import Format
from include.core.formats.parquet import Parquet
from include.core.sources import Sql
from include.io.sources.queries import first_rows
from tools.new_project.files import SAMPLED_FILES, evenly

MOST_ROWS = 20_000
"""The most rows of a day, or of a table without days, that are read."""
MOST_DAYS = 10_000
MINUTES = 5
"""How long a query may take."""
NO_ZONE = "without a zone"

Statement = sa.Select[*tuple[Any, ...]]


@dataclass(frozen=True)
class FeedTable:
    """A table of a database, or a view, as a feed.

    Attributes:
        name: of the feed.
        connection: the connection of the database, as `source.connection` names it.
        table: its name.
        names: the columns.
        day_column: the column that says the day of a row; empty: the table has no days.
        statement: the SELECT of all columns for the day `:day`.
        dialect: of its SQL.
        days: those that have rows, sorted.
        timezone: of timestamps without a zone; None if there are none.
        sample: rows as text, with `_day` (date).
        notes: what a person should check.
    """

    name: str
    connection: str
    table: str
    names: tuple[str, ...]
    day_column: str
    statement: Statement
    dialect: sa.Dialect
    days: Sequence[date]
    timezone: str | None
    sample: pl.DataFrame
    notes: tuple[str, ...]

    @property
    def is_snapshot(self) -> bool:
        """Whether the table has no days."""
        return not self.day_column

    @property
    def place(self) -> str:
        """Where the feed is, for people."""
        return f"table {self.table} of {self.connection}"

    @property
    def optional(self) -> frozenset[str]:
        """The columns that a delivery may lack."""
        return frozenset()

    @property
    def format(self) -> Format:
        """How values are written."""
        return Parquet(timezone=self.timezone)

    def rows(self) -> pl.DataFrame:
        """Return a sample of the rows as text, with `_day` (date)."""
        return self.sample

    def query(self, columns: Sequence[str]) -> str:
        """Return the SELECT of these columns for a day."""
        kept = [column for column in self.statement.selected_columns if column.key in columns]
        return _sql(self.statement.with_only_columns(*kept), self.dialect)


def find_tables(connection: str, tables: Sequence[str], zone: str) -> list[FeedTable]:
    """Return the feeds of a database.

    Args:
        connection: a name in the environment variable NIGHTLY_SOURCES.
        tables: `table:column` with the column that has the day of a row, or `table` for one without days.
        zone: the timezone of the project.

    Raises:
        ActionRequiredError: a table or column is not there, or the database does not answer.
    """
    sources = _sources(connection)
    return [_Reader(connection, sources, zone).feed(*each.partition(":")[::2]) for each in tables]


def _sources(connection: str) -> dict[str, SecretStr]:
    try:
        sources = {name: SecretStr(url) for name, url in json.loads(os.environ.get("NIGHTLY_SOURCES", "{}")).items()}
    except (ValueError, AttributeError):
        sources = {}
    if connection not in sources:
        raise ActionRequiredError(
            f"DATABASE={connection}: set NIGHTLY_SOURCES to JSON that has this name and the URL of the database, such "
            f'as {{"{connection}": "postgresql://reader:…@db.example.org/shop"}}; a login that can only read will do'
        )
    return sources


@dataclass(frozen=True)
class _Reader:
    connection: str
    sources: Mapping[str, SecretStr]
    zone: str

    def feed(self, table: str, day: str) -> FeedTable:
        """Return a table as a feed; `day` is the column with the day of a row, or empty."""
        name = re.sub("[^a-z0-9]+", "_", table.rpartition(".")[2].lower()).strip("_")[:40]
        if not re.match("[a-z]", name):
            raise ActionRequiredError(f"TABLES: no feed can be named after table {table!r}; make a view of it")
        try:
            return self._feed(name, table, day)
        except (UnreachableError, UnreadableError) as error:
            raise ActionRequiredError(f"table {table} of {self.connection}: {str(error).removeprefix(': ')}") from error

    def _feed(self, name: str, table: str, day: str) -> FeedTable:
        schema, _, last = table.rpartition(".")
        source = sa.table(last, schema=schema or None)
        everything: Statement = sa.select(sa.literal_column("*")).select_from(source)
        begin, refused = self._rows(everything, {}, None, 100)
        timezone = self.zone if any(NO_ZONE in why for why in refused.values()) else None
        if timezone:
            begin, refused = self._rows(everything, {}, timezone, 100)
        notes = [f"column {column} is left out: {why}" for column, why in refused.items()]
        if timezone:
            notes.append(f"timestamps without a zone are taken for times of {timezone}")
        names = {each: f"{name}_{each}" if each.lower() in RESERVED_COLUMNS else each for each in begin.columns}
        columns: list[sa.ColumnElement[Any]] = [
            sa.column(each) if each == its else sa.column(each).label(its) for each, its in names.items()
        ]
        selected: Statement = everything.with_only_columns(*columns)
        days: list[date] = []
        if not day:
            sample = self._rows(selected, {}, timezone, MOST_ROWS)[0].with_columns(_day=pl.lit(None, pl.Date))
        elif day not in begin.columns:
            raise ActionRequiredError(f"TABLES: {table} has no column {day!r}; there is {', '.join(begin.columns)}")
        else:
            of_day = self._day_of(begin[day])
            if not isinstance(of_day, sa.ColumnClause):
                notes.append(f"the day of {day} is that of the session's timezone, in PostgreSQL {self.zone}")
            days = [*self._days(sa.select(of_day.label("of_day")).select_from(source), timezone)]
            if not days:
                raise ActionRequiredError(f"TABLES: {table} has no row with a day in {day!r}")
            selected = selected.where(of_day == sa.literal_column(":day"))
            frames = [
                self._rows(selected, {"day": each}, timezone, MOST_ROWS)[0].with_columns(_day=pl.lit(each, pl.Date))
                for each in evenly(days, SAMPLED_FILES)
            ]
            sample = pl.concat(frames)
        return FeedTable(
            name,
            self.connection,
            table,
            tuple(names.values()),
            names.get(day, ""),
            selected,
            self._dialect,
            days,
            timezone,
            sample,
            tuple(notes),
        )

    def _day_of(self, begin: pl.Series) -> sa.ColumnElement[Any]:
        """Return the day of a row: a column with dates as it is, so that the database can use an index of it."""
        column: sa.ColumnElement[Any] = sa.column(begin.name)
        if begin.drop_nulls().str.contains(r"^\d{4}-\d{2}-\d{2}$").all():
            return column
        return sa.func.date(column) if self._dialect.name == "sqlite" else sa.cast(column, sa.Date)

    def _days(self, statement: Statement, timezone: str | None) -> Iterator[date]:
        found, _ = self._rows(statement.distinct().order_by(sa.text("1")), {}, timezone, MOST_DAYS)
        for text in found["of_day"].drop_nulls():
            yield date.fromisoformat(text[:10])

    def _rows(
        self, statement: Statement, values: Mapping[str, date], timezone: str | None, most: int
    ) -> tuple[pl.DataFrame, dict[str, str]]:
        query = _sql(statement, self._dialect)
        source = Sql(kind="sql", connection=self.connection, query=query, timezone=timezone, timeout_minutes=MINUTES)
        return first_rows(source, values, self.sources, self.zone, most)

    @property
    def _dialect(self) -> sa.Dialect:
        return sa.make_url(self.sources[self.connection].get_secret_value()).get_dialect()()


def _sql(statement: Statement, dialect: sa.Dialect) -> str:
    return str(statement.compile(dialect=dialect)).replace(" \n", " ").replace("\n", " ")

"""Example rows from tables of a database, read by the source that will extract them later."""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date

import polars as pl
import sqlalchemy as sa

from include.core.errors import ActionRequiredError, UnreachableError, UnreadableError
from include.core.feeds import RESERVED_COLUMNS
from include.core.formats import Format
from include.core.formats.parquet import Parquet
from include.core.sources import Sql
from include.io.sources.queries import read_blocks
from tools.new_project.columns import FoundColumn, find_columns
from tools.new_project.files import evenly

FIRST_ROWS = 1000
"""How many rows of a table say which columns have dates."""
DAY_ROWS = 20_000
"""The most rows of a day that are read."""

RAW = Parquet()
"""How rows of a query are written: the text that says exactly what a typed value is."""


@dataclass(frozen=True)
class TableRows:
    """A table that becomes a feed, with the interface of `FeedFiles`.

    Attributes:
        name: of the feed.
        connection: the name of the connection.
        query: of the feed; it binds :day, unless the table has no day.
        days: the days that the table has rows of, sorted; none for a snapshot.
        names: its columns.
        sample: the rows of some days as text, with `_day` (date).
        zone: in which timestamps without a zone are meant.
        notes: what a person should check.
    """

    name: str
    connection: str
    query: str
    days: list[date]
    names: tuple[str, ...]
    sample: pl.DataFrame
    zone: str
    notes: tuple[str, ...] = ()
    format: Format = RAW
    optional: frozenset[str] = frozenset()
    pattern: str = ""

    @property
    def is_snapshot(self) -> bool:
        """Whether no column has a day."""
        return not self.days

    @property
    def where(self) -> str:
        """What a message names."""
        return f"table {self.name}"

    def rows(self) -> pl.DataFrame:
        """Return the sampled rows."""
        return self.sample


def find_tables(connection: str, tables: list[str], zone: str) -> list[TableRows]:
    """Return the feeds of tables.

    Raises:
        ActionRequiredError: there is no such connection, it does not answer, or a table cannot be read.
    """
    url = _url(connection)
    try:
        return [_table(url, connection, table, zone) for table in tables]
    except (UnreachableError, UnreadableError) as error:
        raise ActionRequiredError(f"DATABASE={connection}: {error}") from error


def _url(connection: str) -> sa.URL:
    """Return the URL of a connection. It comes from the environment, because command lines are seen by others."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", connection):
        raise ActionRequiredError(
            "DATABASE: write the name of a connection, not its URL; its URL, which may have a password, is read from "
            'NIGHTLY_SOURCES=\'{"name": "postgresql://…"}\' or from AIRFLOW_CONN_NAME'
        )
    try:
        declared = json.loads(os.environ.get("NIGHTLY_SOURCES") or "{}")
        text = declared.get(connection) or os.environ.get(f"AIRFLOW_CONN_{connection.upper()}")
        url = sa.make_url(re.sub("^postgres:", "postgresql:", text)) if text else None
    except (ValueError, AttributeError, sa.exc.ArgumentError):
        url, text = None, "wrong"
    if url is None:
        what = "cannot be read as a URL" if text else "is not there"
        raise ActionRequiredError(
            f"DATABASE={connection}: the connection {what}; set NIGHTLY_SOURCES to JSON such as "
            f'{{"{connection}": "postgresql://reader:…@host/database"}}'
        )
    return url


def _table(url: sa.URL, connection: str, named: str, zone: str) -> TableRows:
    table, _, day = named.partition(":")
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)?", table):
        raise ActionRequiredError(
            f"TABLES: {table!r} is no name of a table; write table, schema.table, or table:column with the day"
        )
    quoted = ".".join(f'"{part}"' for part in table.split("."))
    select = f"SELECT * FROM {quoted}"  # noqa: S608  the name of a table cannot be bound, and its form was checked
    name = re.sub("[^a-z0-9]+", "_", table.rpartition(".")[2].lower()).strip("_")[:40]
    first = _read(url, connection, f"{select} LIMIT {FIRST_ROWS}", {}, zone)
    if first.is_empty():
        raise ActionRequiredError(f"table {table} has no rows, so nothing can be inferred from it")
    names = tuple(first.columns)
    columns, _, _ = find_columns(
        first.with_columns(_day=pl.lit(None, pl.Date)), names, [], Parquet(timezone=zone), zone
    )
    personal = {column.name: column.check for column in columns if column.data_class == "sensitive"}
    notes = tuple(f"{name} is not selected: {why}" for name, why in personal.items())
    kept = [name for name in names if name not in personal]
    listed = ", ".join(map(_selected(name), kept))  # not *: a column that is added later must not stop the feed
    select = f"SELECT {listed} FROM {quoted}"  # noqa: S608  as above
    day_sql = _day_sql(url, connection, quoted, columns, day, zone)
    if day_sql is None:
        sample = _read(url, connection, f"{select} LIMIT {FIRST_ROWS}", {}, zone).with_columns(
            _day=pl.lit(None, pl.Date)
        )
        return TableRows(name, connection, select, [], tuple(sample.columns[:-1]), sample, zone, notes)
    distinct = f"SELECT DISTINCT {day_sql} AS day FROM {quoted}"  # noqa: S608  as above
    found = _read(url, connection, distinct, {}, zone)["day"].drop_nulls()
    days = sorted(date.fromisoformat(text[:10]) for text in found)
    query = f"{select} WHERE {day_sql} = :day"
    frames = [
        _read(url, connection, query, {"day": day}, zone).head(DAY_ROWS).with_columns(_day=pl.lit(day))
        for day in evenly(days)
    ]
    sample = pl.concat(frames)
    return TableRows(name, connection, query, days, tuple(sample.columns[:-1]), sample, zone, notes)


def _selected(feed: str) -> Callable[[str], str]:
    """Return a function that writes a column into a SELECT, under another name if the pipeline has one of that name."""

    def select(name: str) -> str:
        return f"{_quoted(name)} AS {_quoted(f'{feed}_{name}')}" if name.lower() in RESERVED_COLUMNS else _quoted(name)

    return select


def _day_sql(
    url: sa.URL, connection: str, quoted: str, columns: Sequence[FoundColumn], day: str, zone: str
) -> str | None:
    """Return the SQL of the day of a row: of the named column, of its date, otherwise of its timestamp.

    Returns:
        None if it has neither.

    Raises:
        ActionRequiredError: the named column is neither.
    """
    dated = [each for each in columns if each.type in ("date", "timestamp") and each.data_class == "public"]
    if day:
        named = [each for each in dated if each.name == day]
        if not named:
            there = ", ".join(each.name for each in dated) or "none"
            raise ActionRequiredError(f"TABLES: {day!r} is no date and no timestamp of {quoted}; there is {there}")
        dated = named
    if not dated:
        return None
    best = min(dated, key=lambda each: (each.values.null_count() > 0, each.type != "date"))
    name = _quoted(best.name)
    if best.type == "date":
        return name
    if url.get_backend_name() == "sqlite":
        return f"date({name})"
    kind = f"SELECT CAST(pg_typeof({name}) AS text) AS kind FROM {quoted} LIMIT 1"  # noqa: S608  as above
    has_zone = _read(url, connection, kind, {}, zone)
    moment = f"{name} AT TIME ZONE '{zone}'" if "with time zone" in str(has_zone["kind"][0]) else name
    return f"CAST({moment} AS date)"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _read(url: sa.URL, connection: str, query: str, values: Mapping[str, date], zone: str) -> pl.DataFrame:
    """Return the result of a query as text."""
    source = Sql(kind="sql", connection=connection, query=query, timezone=zone)
    with closing(read_blocks(url, source, values, zone)) as blocks:
        return pl.concat(
            pl.DataFrame({name: block.text(place) for place, name in enumerate(block.names)}) for block in blocks
        )

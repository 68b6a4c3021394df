"""PostgreSQL by ADBC: rows come in Arrow batches from a cursor of the server, in a transaction that only reads."""

import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import date, datetime
from typing import Any

import adbc_driver_manager.dbapi
import adbc_driver_postgresql.dbapi
import polars as pl
import pyarrow as pa
import sqlalchemy as sa

from include.core.formats.parquet import as_text, why_refused
from include.core.sources import Sql, for_sqlalchemy
from include.io.postgres.connection import ADBC_DIALECT
from include.io.sources.blocks import BLOCK_ROWS, Block, failed, no_type, no_zone

CONNECT_SECONDS = 15


def read_blocks(url: sa.URL, source: Sql, values: Mapping[str, date | datetime]) -> Iterator[Block]:
    """Yield the rows of a query, first a block that may have none.

    Raises:
        UnreachableError: the database does not answer.
        UnreadableError: the query is wrong.
    """
    try:
        connection = _connect(url)
    except adbc_driver_manager.dbapi.Error as error:
        raise _failed(error, connecting=True) from None
    problem: Exception | None = None
    with closing(connection), closing(connection.cursor()) as cursor:
        try:
            _declare(cursor, source, values)
            while True:
                cursor.execute(f"FETCH {BLOCK_ROWS} FROM extraction")
                table = cursor.fetch_arrow_table()
                yield Block(table.schema.names, table.num_rows, _reader(table, source))
                if table.num_rows < BLOCK_ROWS:
                    return
        except adbc_driver_manager.dbapi.Error as error:
            problem = _failed(error, connecting=False)
    if problem is not None:
        raise problem


def _connect(url: sa.URL) -> adbc_driver_manager.dbapi.Connection:
    query = {"connect_timeout": str(CONNECT_SECONDS), "application_name": "nightly-ml", **url.query}
    uri = url.set(drivername="postgresql", query=query).render_as_string(hide_password=False)
    connection: adbc_driver_manager.dbapi.Connection = adbc_driver_postgresql.dbapi.connect(uri)
    return connection


def _declare(cursor: adbc_driver_manager.dbapi.Cursor, source: Sql, values: Mapping[str, date | datetime]) -> None:
    """Open a cursor of the server: without one, libpq holds the whole result of a query with parameters."""
    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
    cursor.adbc_statement.set_options(**{"adbc.postgresql.use_copy": "false"})  # FETCH cannot be copied
    compiled: Any = sa.text(for_sqlalchemy(source.query)).compile(dialect=ADBC_DIALECT)
    parameters = tuple(values[name] for name in compiled.positiontup or ())
    cursor.execute(f"DECLARE extraction NO SCROLL CURSOR FOR {compiled}", parameters=parameters or None)


def _failed(error: adbc_driver_manager.dbapi.Error, *, connecting: bool) -> Exception:
    found = re.search(r"(?:ERROR|FATAL):\s*(.*)", str(error)) or re.search(r"Failed to connect:\s*(.*)", str(error))
    return failed(error, error.sqlstate, found[1] if found else "", connecting=connecting)


def _reader(table: pa.Table, source: Sql) -> Any:
    def text(place: int) -> pl.Series:
        name, column = table.schema.names[place], table.column(place).combine_chunks()
        if isinstance(column.type, pa.UuidType):
            column = pa.array([None if each is None else str(each) for each in column.to_pylist()], pa.string())
        elif isinstance(column.type, pa.BaseExtensionType):  # numeric, whose text is exact, or JSON
            column = column.storage
        if why := why_refused(column.type):
            raise no_type(name, why)
        if pa.types.is_timestamp(column.type) and column.type.tz is None and source.timezone is None:
            raise no_zone(name)
        try:
            return as_text(column)
        except pa.ArrowException:
            problem = no_type(name, f"of type {column.type}")
        raise problem

    return text

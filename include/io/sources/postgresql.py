"""PostgreSQL by ADBC: rows come in Arrow batches from a cursor of the server, in a transaction that only reads."""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import date, datetime
from typing import Any

import adbc_driver_manager.dbapi
import adbc_driver_postgresql.dbapi
import polars as pl
import pyarrow as pa
import sqlalchemy as sa

from include.core.errors import UnreadableError
from include.core.formats.parquet import as_text, why_refused
from include.core.sources import Sql, for_sqlalchemy
from include.io.postgres.connection import ADBC_DIALECT
from include.io.sources.blocks import BLOCK_ROWS, Block, failed, no_type, no_zone

CONNECT_SECONDS = 15
KEEPALIVE = {"keepalives_idle": "60", "keepalives_interval": "10", "keepalives_count": "6"}
"""After two minutes without an answer of the network, the connection is lost; by default, Linux waits two hours."""
MINUTE = 60_000
"""In milliseconds."""
_LIMIT = """SELECT set_config('statement_timeout', $1::text, true) FROM pg_settings
WHERE name = 'statement_timeout' AND (setting = '0' OR setting::bigint > $1::text::bigint)"""
_CANCELED = "57014"
FIRST_ROWS = 100
"""How many rows are fetched first, to see how long a row is."""
BLOCK_BYTES = 32_000_000
"""About how many bytes are fetched at once: a row may have megabytes."""


def read_blocks(
    url: sa.URL, source: Sql, values: Mapping[str, date | datetime], timezone: str, *, rows: int = FIRST_ROWS
) -> Iterator[Block]:
    """Yield the rows of a query, first a block that may have none.

    Args:
        url: the database.
        source: the query.
        values: of its parameters.
        timezone: of the session, in which the database compares a date, or a timestamp without a zone, with a moment.
        rows: of the first block; with 0 there is no other, and the query is planned and not run.

    Raises:
        UnreachableError: the database does not answer.
        UnreadableError: the query is wrong.
    """
    try:
        connection = _connect(url)
    except adbc_driver_manager.dbapi.Error as error:
        raise _failed(error, connecting=True) from None
    problem: Exception | None = None
    since = time.monotonic()
    with closing(connection), closing(connection.cursor()) as cursor:
        try:
            _declare(cursor, source, values, timezone)
            while True:
                since = time.monotonic()
                cursor.execute(f"FETCH {rows} FROM extraction")
                table = cursor.fetch_arrow_table()
                yield Block(table.schema.names, table.num_rows, _reader(table, source))
                if table.num_rows < rows or not rows:
                    return
                rows = max(1, min(BLOCK_ROWS, BLOCK_BYTES * table.num_rows // max(table.nbytes, 1)))
        except adbc_driver_manager.dbapi.Error as error:
            problem = _failed(error, connecting=False)
            if error.sqlstate == _CANCELED and time.monotonic() - since >= source.timeout_minutes * MINUTE / 1000:
                problem = UnreadableError(
                    f"the query took more than {source.timeout_minutes} minutes, the limit; make it faster, or, if it "
                    f"is right, declare source.timeout_minutes: {source.timeout_minutes * 2}"
                )
        except pa.ArrowException as error:  # such as a row of a row
            problem = UnreadableError(
                f"the result has a column of a type that cannot be read ({type(error).__name__}); select text, "
                "numbers, booleans, dates or timestamps, with CAST"
            )
    if problem is not None:
        raise problem


def _connect(url: sa.URL) -> adbc_driver_manager.dbapi.Connection:
    query = {"connect_timeout": str(CONNECT_SECONDS), "application_name": "nightly-ml", **KEEPALIVE, **url.query}
    uri = url.set(drivername="postgresql", query=query).render_as_string(hide_password=False)
    connection: adbc_driver_manager.dbapi.Connection = adbc_driver_postgresql.dbapi.connect(uri)
    return connection


def _declare(
    cursor: adbc_driver_manager.dbapi.Cursor, source: Sql, values: Mapping[str, date | datetime], timezone: str
) -> None:
    """Open a cursor of the server: without one, libpq holds the whole result of a query with parameters."""
    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
    cursor.execute(f"SET LOCAL TIME ZONE '{timezone}'")
    cursor.adbc_statement.set_options(**{"adbc.postgresql.use_copy": "false"})  # FETCH cannot be copied
    cursor.execute(_LIMIT, parameters=(str(source.timeout_minutes * MINUTE),))
    cursor.fetchall()
    compiled: Any = sa.text(for_sqlalchemy(source.query)).compile(dialect=ADBC_DIALECT)
    parameters = tuple(values[name] for name in compiled.positiontup or ())
    cursor.execute(f"DECLARE extraction NO SCROLL CURSOR FOR {compiled}", parameters=parameters or None)


def _failed(error: adbc_driver_manager.dbapi.Error, *, connecting: bool) -> Exception:
    found = re.search(r"(?:ERROR|FATAL):\s*(.*)", str(error)) or re.search(r"Failed to connect:\s*(.*)", str(error))
    gone = error.sqlstate is None and isinstance(error, adbc_driver_manager.dbapi.OperationalError)  # cut in the middle
    return failed(error, error.sqlstate, found[1] if found else "", connecting=connecting or gone)


def _reader(table: pa.Table, source: Sql) -> Any:
    def text(place: int) -> pl.Series:
        field, column = table.schema.field(place), table.column(place).combine_chunks()
        name, kind = field.name, (field.metadata or {}).get(b"POSTGRESQL:type", b"").decode()
        if kind == "money":  # it comes as a number of cents, or of whatever the server's currency is divided into
            raise UnreadableError(f"{name} is of type money; select CAST({name} AS numeric) AS {name}")
        if isinstance(column.type, pa.UuidType):
            column = pa.array([None if each is None else str(each) for each in column.to_pylist()], pa.string())
        elif isinstance(column.type, pa.BaseExtensionType):  # numeric, whose text is exact, or JSON
            column = column.storage
        if why := why_refused(column.type):
            raise no_type(name, why if pa.types.is_nested(column.type) or not kind else f"of type {kind}")
        if pa.types.is_timestamp(column.type) and column.type.tz is None and source.timezone is None:
            raise no_zone(name)
        try:
            values = as_text(column)
        except (pa.ArrowException, pl.exceptions.PanicException):
            problem = no_type(name, f"of type {kind or column.type}")
        else:
            # the spaces that fill up a char(n) do not count in PostgreSQL, and would keep a key from matching
            return values.str.strip_chars_end(" ") if kind == "bpchar" else values
        raise problem

    return text

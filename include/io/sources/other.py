"""Any database that SQLAlchemy has a driver for: rows come in blocks of Python values."""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote
from uuid import UUID

import polars as pl
import sqlalchemy as sa

from include.core.errors import UnreachableError
from include.core.formats.parquet import MAX_EXACT
from include.core.sources import Sql, for_sqlalchemy
from include.io.sources.blocks import BLOCK_ROWS, Block, failed, no_type, no_zone

_TYPES: dict[str, sa.types.TypeEngine[Any]] = {"day": sa.Date(), "as_of": sa.DateTime(timezone=True)}
_ONE_STATE = "REPEATABLE READ"


_EXPLAIN = ("sqlite", "mysql", "mariadb")
"""Databases of which EXPLAIN, before a query, tries it without running it."""


def read_blocks(
    url: sa.URL,
    source: Sql,
    values: Mapping[str, date | datetime],
    timezone: str,
    *,
    rows: int = BLOCK_ROWS,
) -> Iterator[Block]:
    """Yield the rows of a query, first a block that may have none.

    The timezone of the session stays that of the connection, because no statement sets it in all databases. With 0
    `rows`, there is no block: the database is reached, and the query is tried if the database can do so.

    Raises:
        UnreachableError: the database does not answer, or there is no driver for it.
        UnreadableError: the query is wrong.
    """
    problem: Exception | None = None
    connecting = True
    try:
        with _engine(url).connect() as connection:
            connecting = False
            driver = connection.connection.dbapi_connection
            if driver is not None and _ONE_STATE in connection.dialect.get_isolation_level_values(driver):
                connection.execution_options(isolation_level=_ONE_STATE)
            if not rows and connection.dialect.name not in _EXPLAIN:
                return
            query = for_sqlalchemy(source.query)
            statement = sa.text(query if rows else f"EXPLAIN {query}").bindparams(
                *(sa.bindparam(name, values[name], _TYPES[name]) for name in sorted(source.binds))
            )
            result = connection.execution_options(stream_results=True, max_row_buffer=BLOCK_ROWS).execute(statement)
            if not rows:
                return
            names = list(result.keys())
            yield _block(names, [], source)
            for several in result.partitions(rows):
                yield _block(names, several, source)
    except sa.exc.SQLAlchemyError as error:
        original = getattr(error, "orig", None) or error
        gone = connecting or bool(getattr(error, "connection_invalidated", False))
        state = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
        message = str(original) if isinstance(error, sa.exc.OperationalError | sa.exc.ProgrammingError) else ""
        problem = failed(original, state, message, connecting=gone)
    except ImportError as error:
        problem = UnreachableError(f"there is no driver for {url.drivername}: install the module {error.name}")
    if problem:  # raised here, so that it does not carry the driver's error
        raise problem


def _engine(url: sa.URL) -> sa.Engine:
    if url.get_backend_name() == "sqlite" and url.database and not url.database.startswith("file:"):
        # SQLite would make an empty database of a path that does not exist
        url = url.set(database=f"file:{quote(url.database)}", query={**url.query, "mode": "ro", "uri": "true"})
    return sa.create_engine(url, poolclass=sa.NullPool)


def _block(names: Sequence[str], rows: Sequence[Sequence[Any]], source: Sql) -> Block:
    def text(place: int) -> pl.Series:
        return pl.Series([_text(names[place], row[place], source) for row in rows], dtype=pl.String())

    return Block(names, len(rows), text)


def _text(name: str, value: Any, source: Sql) -> str | None:
    """Return the text that says exactly what a value is, as that of a Parquet file."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | UUID):
        return str(value)
    if isinstance(value, float):
        # in scientific notation it is no integer: the number that was meant may have been another
        return f"{value:.16e}" if math.isfinite(value) and abs(value) >= MAX_EXACT else repr(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        if value.tzinfo is not None:
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        if source.timezone is None:
            raise no_zone(name)
        return value.isoformat()
    if isinstance(value, date):
        return value.isoformat()
    raise no_type(name, f"of type {type(value).__name__}")

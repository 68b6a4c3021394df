"""Connections to the shared database, transactions and locks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import adbc_driver_manager.dbapi
import adbc_driver_postgresql.dbapi
import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.core.errors import ActionRequiredError
from include.core.settings import Settings

ADBC_DIALECT = postgresql.dialect(paramstyle="numeric_dollar")
"""SQL as ADBC takes it: parameters are $1, $2 and so on."""

POLARS_TYPES: dict[type, pl.DataType] = {
    sa.BigInteger: pl.Int64(),
    sa.Date: pl.Date(),
    sa.DateTime: pl.Datetime("us", "UTC"),
    sa.Integer: pl.Int32(),
    sa.Text: pl.String(),
}
"""The types with which Arrow is copied into the columns of a temporary table."""


NOT_MIGRATED = ("42P01", "42703")
"""The SQLSTATEs of a table and of a column that does not exist."""


def engine(settings: Settings) -> sa.Engine:
    """Return SQLAlchemy's engine over psycopg2. It keeps no connection open, so that a forked process shares none."""
    return _engine(settings.database_url.get_secret_value())


@cache
def _engine(url: str) -> sa.Engine:
    made = sa.create_engine(
        sa.make_url(url).set(drivername="postgresql+psycopg2"),
        poolclass=sa.NullPool,
        connect_args={"application_name": "nightly-ml"},
    )
    sa.event.listen(made, "handle_error", _name_the_migration)
    return made


def _name_the_migration(context: sa.engine.ExceptionContext) -> None:
    """Raise `ActionRequiredError` for a table or column that does not exist, instead of the driver's error."""
    if getattr(context.original_exception, "pgcode", None) in NOT_MIGRATED:
        what = str(context.original_exception).splitlines()[0]
        raise ActionRequiredError(
            f"the shared database has not the tables of this version ({what}). Run: python -m include.cli migrate"
        ) from None


def adbc(settings: Settings) -> adbc_driver_manager.dbapi.Connection:
    """Open an ADBC connection to the same database. Closing it without a commit rolls its transaction back."""
    _, _, rest = settings.database_url.get_secret_value().partition("://")  # SQLAlchemy's URL may name a driver
    connection: adbc_driver_manager.dbapi.Connection = adbc_driver_postgresql.dbapi.connect(f"postgresql://{rest}")
    return connection


@contextmanager
def transaction(settings: Settings) -> Iterator[adbc_driver_manager.dbapi.Cursor]:
    """Open an ADBC cursor whose work is committed at the end, or not at all."""
    with adbc(settings) as connection, connection.cursor() as cursor:
        yield cursor
        connection.commit()


def execute(cursor: adbc_driver_manager.dbapi.Cursor, statement: sa.Executable) -> None:
    """Execute a SQLAlchemy statement through ADBC.

    ADBC takes text, and SQLAlchemy has no dialect for it, so the statement is compiled here. A list of values for IN
    cannot be compiled this way.
    """
    compiled: Any = statement.compile(dialect=ADBC_DIALECT)  # type: ignore[attr-defined]
    parameters = tuple(compiled.params[name] for name in compiled.positiontup or ())
    cursor.execute(str(compiled), parameters=parameters or None)


def read(settings: Settings, statement: sa.Select[Any]) -> pl.DataFrame:
    """Return the rows of a query as a frame, through Arrow."""
    with adbc(settings) as connection, connection.cursor() as cursor:
        execute(cursor, statement)
        return pl.DataFrame(cursor.fetch_arrow_table())


def stage(cursor: adbc_driver_manager.dbapi.Cursor, table: sa.Table, rows: pl.DataFrame | None = None) -> None:
    """Create a temporary table, dropped at the end of the transaction, and COPY a frame into it.

    Args:
        cursor: the cursor of the transaction.
        table: a table made with `temporary_table`.
        rows: a frame with the columns of the table; None leaves it empty.
    """
    cursor.execute(str(sa.schema.CreateTable(table).compile(dialect=ADBC_DIALECT)))
    if rows is not None and rows.height:
        cursor.adbc_ingest(table.name, rows.to_arrow(), mode="append", temporary=True)


def frame_of(table: sa.Table, records: Sequence[Any]) -> pl.DataFrame:
    """Return the frame to stage in a temporary table: a row for each record, whose fields are named as the columns."""
    types = {column.name: POLARS_TYPES[type(column.type)] for column in table.columns}
    rows = [[getattr(record, name) for name in types] for record in records]
    return pl.DataFrame(rows, schema=types, orient="row")


def temporary_table(name: str, *columns: sa.Column[Any]) -> sa.Table:
    """Describe a temporary table that ends with its transaction."""
    return sa.Table(name, sa.MetaData(), *columns, prefixes=["TEMPORARY"], postgresql_on_commit="DROP")


def lock_in(cursor: adbc_driver_manager.dbapi.Cursor, what: str) -> None:
    """Do the same as `lock` in the transaction of an ADBC cursor."""
    execute(cursor, _lock(what))


def lock(connection: sa.Connection, what: str) -> None:
    """Wait until nobody else holds this lock, then hold it to the end of the transaction."""
    connection.execute(_lock(what))


def _lock(what: str) -> sa.Select[Any]:
    return sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(what, 0)))

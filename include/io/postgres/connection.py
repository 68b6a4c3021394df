"""Connections to the shared database, transactions and locks."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import adbc_driver_manager.dbapi
import adbc_driver_postgresql.dbapi
import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.core.settings import Settings

POSTGRESQL = postgresql.dialect(paramstyle="named")  # with psycopg2's, a % in a name would be doubled


def engine(settings: Settings) -> sa.Engine:
    """SQLAlchemy over psycopg2; keeps no connection open, so that a forked process shares none."""
    return _engine(settings.database_url.get_secret_value())


@cache
def _engine(url: str) -> sa.Engine:
    return sa.create_engine(
        sa.make_url(url).set(drivername="postgresql+psycopg2"),
        poolclass=sa.NullPool,
        connect_args={"application_name": "nightly-ml"},
    )


def adbc(settings: Settings) -> adbc_driver_manager.dbapi.Connection:
    """An ADBC connection to the same database, in a transaction of its own; closing it without a commit undoes it."""
    _, _, rest = settings.database_url.get_secret_value().partition("://")  # SQLAlchemy's may name a driver
    connection: adbc_driver_manager.dbapi.Connection = adbc_driver_postgresql.dbapi.connect(f"postgresql://{rest}")
    return connection


@contextmanager
def transaction(settings: Settings) -> Iterator[adbc_driver_manager.dbapi.Cursor]:
    """A cursor whose work is committed at the end, or not at all."""
    with adbc(settings) as connection, connection.cursor() as cursor:
        yield cursor
        connection.commit()


def read(settings: Settings, statement: str, *parameters: Any) -> pl.DataFrame:
    """Return the rows of a query with parameters $1, $2, …"""
    with adbc(settings) as connection, connection.cursor() as cursor:
        cursor.execute(statement, parameters=parameters)
        return pl.DataFrame(cursor.fetch_arrow_table())


def stage(cursor: adbc_driver_manager.dbapi.Cursor, table: str, columns: str, rows: pl.DataFrame) -> None:
    """COPY a frame into a temporary table that goes with the transaction. `columns` is SQL."""
    cursor.execute(f"CREATE TEMP TABLE {table} ({columns}) ON COMMIT DROP")
    if rows.height:
        cursor.adbc_ingest(table, rows.to_arrow(), mode="append", temporary=True)


LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"


def lock(connection: sa.Connection, what: str) -> None:
    """Wait for whoever else has this lock; it is held to the end of the transaction."""
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:what, 0))"), {"what": what})

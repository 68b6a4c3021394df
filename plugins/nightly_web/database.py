"""Read the views of the role `ops_reader`: one page, one transaction, one moment. Nothing here writes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import sqlalchemy as sa
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException

CONNECTION = "nightly_database_ops_reader"
"""The Airflow connection with a login of the role `ops_reader` to the shared database."""

SECONDS = 5
"""The longest that the server may take to accept a connection, and a query to run."""

POOL = 4
"""Connections of one process of the API server. A login has 20 by default (docs/deploy.md)."""

Row = Mapping[str, Any]


class DatabaseError(RuntimeError):
    """The views cannot be read. The text says why, and what to do."""


class Views:
    """The views of the shared database, as of one moment."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def rows(self, query: str, **values: Any) -> list[Row]:
        """Return the rows of a query; a value of the query is written `:name`."""
        return [dict(row) for row in self._connection.execute(sa.text(query), values).mappings()]

    def row(self, query: str, **values: Any) -> Row | None:
        """Return the first row of a query, None without one."""
        return next(iter(self.rows(query, **values)), None)

    def zones(self) -> dict[str, str]:
        """Return the timezone of each project."""
        return {row["project"]: row["timezone"] for row in self.rows("SELECT project, timezone FROM project_status")}


@contextmanager
def open_views() -> Iterator[Views]:
    """Open one read-only transaction, in which nothing that others write appears.

    Raises:
        DatabaseError: there is no connection, or the database does not answer, or it lacks a view or a right.
    """
    engine = _engine(_url())
    try:
        with engine.connect() as connection, connection.begin():
            yield Views(connection)
    except sa.exc.TimeoutError as error:
        raise DatabaseError("All connections of the pages are in use. Load the page again.") from error
    except sa.exc.DBAPIError as error:
        raise DatabaseError(_say(error)) from error


def _url() -> sa.URL:
    """Return the address of the connection; a host that is a folder is the folder of PostgreSQL's Unix socket."""
    try:
        found = Connection.get(CONNECTION)
    except AirflowNotFoundException:
        raise DatabaseError(
            f"Airflow has no connection {CONNECTION}. Add one of the type postgres with a login of the role ops_reader "
            "(docs/pages.md)."
        ) from None
    socket = found.host if found.host and found.host.startswith("/") else None
    query = {key: str(value) for key, value in found.extra_dejson.items()}
    return sa.URL.create(
        "postgresql+psycopg2",
        username=found.login,
        password=found.password or None,
        host=None if socket else found.host,
        port=found.port,
        database=found.schema,
        query={**query, "host": socket} if socket else query,
    )


@cache
def _engine(url: sa.URL) -> sa.Engine:
    limits = f"-c statement_timeout={SECONDS}s -c lock_timeout={SECONDS}s -c TimeZone=UTC"
    return sa.create_engine(
        url,
        pool_size=POOL,
        max_overflow=0,
        pool_timeout=SECONDS,
        pool_pre_ping=True,
        pool_recycle=600,
        isolation_level="REPEATABLE READ",
        execution_options={"postgresql_readonly": True},
        connect_args={"connect_timeout": SECONDS, "options": limits, "application_name": "nightly-ml: pages"},
    )


def _say(error: sa.exc.DBAPIError) -> str:
    """Return the reason in words. The message of the driver stays out: it may have an address or a value."""
    code = getattr(error.orig, "pgcode", None)
    if code in ("42P01", "42703"):
        return "The shared database lacks a view that this version needs. Run: python -m include.cli migrate"
    if code == "42501":
        return f"The login of the connection {CONNECTION} lacks the role ops_reader. Run: GRANT ops_reader TO <login>"
    if code == "57014":
        return f"A query took longer than {SECONDS} seconds, so the page was given up. Load the page again."
    return "The shared database does not answer. Nightly runs that need it wait and try again."

"""Connections to the shared database, transactions and locks."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import chain
from typing import Any

import adbc_driver_manager.dbapi
import adbc_driver_postgresql
import polars as pl
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.core.errors import ActionRequiredError, LockTimeoutError
from include.core.settings import Settings
from include.io.postgres.schema import locks

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

LOCK_TIMEOUT = "55P03"
"""The SQLSTATE of a wait for a lock that took too long."""

BUILT_IN_TYPES = {"adbc.postgresql.type_resolver_mode": "builtin"}
"""Options of ADBC for a database that has no types of its own.

Without them, the first connection of a process reads all columns of all tables: 80 ms of processor time, and more with
each month, because each is a table.
"""

COPY_ROWS = 50_000
"""The rows that ADBC encodes at once."""

KEPT_SECONDS = 120
"""A connection that is older is not used for another transaction."""

LOCK_TIMEOUT_SECONDS = 15 * 60
"""The longest wait for a lock. Our own writers hold none for longer."""

WAITED = "nightly_lock_timeout_seconds"
"""The execution option of a connection with another longest wait: see `wait_at_most`."""

STEP = "nightly-ml: a step runs"
"""The application name of the session by which a running step holds off erasures and rotations of the hash key.

It locks rows of the table `locks` only: nothing else waits for it, except a change of that table.
"""

HOLDERS = """
SELECT a.pid, a.usename, a.application_name
FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
    AND EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.granted AND l.locktype = 'relation'
        AND l.relation IN (SELECT oid FROM pg_class WHERE relnamespace = current_schema()::regnamespace
            AND (a.application_name <> :step OR :readers AND strpos(:statement, relname) > 0))
        AND (:readers OR l.mode <> 'AccessShareLock'))
    AND NOT EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND NOT l.granted)
ORDER BY a.pid
"""


IMPATIENT = {"connect_timeout": 10, "tcp_user_timeout": 20_000, "keepalives_idle": 10}
"""Parameters of libpq for a database that may be down: seconds, milliseconds, seconds."""

IMPATIENT_LIMITS = "SELECT set_config('lock_timeout', '10s', true), set_config('statement_timeout', '20s', true)"


_kept: dict[str, sa.Engine] = {}
os.register_at_fork(after_in_child=_kept.clear)  # what the parent opened is dropped, which psycopg2 does not close


def engine(settings: Settings) -> sa.Engine:
    """Return SQLAlchemy's engine over psycopg2. Outside of `kept_open`, it keeps no connection open."""
    url = settings.database_url.get_secret_value()
    return _kept.get(url) or _engine(url)


@contextmanager
def kept_open(settings: Settings) -> Iterator[None]:
    """Keep a connection open between transactions of this process, for a step, which has dozens of short ones.

    Before each transaction, the server is asked whether it is still there; an old connection is opened again, since a
    network may have dropped it without a word.
    """
    url = settings.database_url.get_secret_value()
    if url in _kept:
        yield
        return
    made = _make_engine(url, sa.QueuePool)
    try:
        _kept[url] = made
        yield
    finally:
        if _kept.pop(url, None) is made:  # a forked process has no part in it
            made.dispose()


@cache
def impatient_engine(url: str) -> sa.Engine:
    """Return an engine that gives up after seconds, for what must not wait: to report that the database is down."""
    made = _make_engine(url, sa.NullPool, **IMPATIENT)
    sa.event.listen(made, "begin", lambda connection: connection.exec_driver_sql(IMPATIENT_LIMITS))
    return made


@cache
def _engine(url: str) -> sa.Engine:
    return _make_engine(url, sa.NullPool)


def _make_engine(url: str, pool: type[sa.Pool], **parameters: int) -> sa.Engine:
    of_pool = {"pool_size": 1, "max_overflow": -1, "pool_pre_ping": True, "pool_recycle": KEPT_SECONDS}
    made = sa.create_engine(
        sa.make_url(url).set(drivername="postgresql+psycopg2"),
        poolclass=pool,
        **(of_pool if pool is sa.QueuePool else {}),
        connect_args={"application_name": "nightly-ml", **parameters},
    )
    sa.event.listen(made, "handle_error", _name_the_migration)
    sa.event.listen(made, "handle_error", _name_the_holders)
    sa.event.listen(made, "begin", lambda connection: connection.exec_driver_sql(_limits()))
    return made


def _limits() -> str:
    """Return the statement that gives a transaction the product's timeouts and dates, in place of the database's own.

    It is not a setting of the connection, because pools between the product and the database do not keep those.
    """
    limits = {
        "lock_timeout": f"{LOCK_TIMEOUT_SECONDS}s",
        "statement_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
        "DateStyle": "ISO",  # a date that is cast to text
    }
    return "SELECT " + ", ".join(f"set_config('{name}', '{value}', true)" for name, value in limits.items())


def _name_the_holders(context: sa.engine.ExceptionContext) -> None:
    """Raise `LockTimeoutError` for a wait that took too long, instead of the driver's error."""
    if getattr(context.original_exception, "pgcode", None) == LOCK_TIMEOUT and context.engine is not None:
        statement = context.statement or ""
        changes_rows = statement.startswith(("SELECT", "INSERT", "UPDATE", "DELETE"))
        given = context.connection.get_execution_options() if context.connection is not None else {}
        waited = given.get(WAITED)
        raise lock_timeout(
            context.engine, readers=not changes_rows, statement=statement, waited_seconds=waited
        ) from None


def wait_at_most(connection: sa.Connection, seconds: int) -> None:
    """Let the rest of a transaction wait for each lock no longer than this; the error says how long it was."""
    connection.execute(sa.text(f"SET LOCAL lock_timeout = '{seconds}s'"))
    connection.execution_options(**{WAITED: seconds})


def lock_timeout(
    of: sa.Engine, *, readers: bool, statement: str = "", waited_seconds: int | None = None
) -> LockTimeoutError:
    """Return the error that names the sessions that hold locks and wait for none themselves.

    Args:
        of: the engine of the database.
        readers: include those that only read: they block a change of tables and views, but no change of rows.
        statement: what waited. If it changes a table that running steps hold (`STEP`), their sessions are named too.
        waited_seconds: how long it waited; by default the longest wait.
    """
    with of.connect() as connection:
        holders = connection.execute(sa.text(HOLDERS), {"readers": readers, "step": STEP, "statement": statement}).all()
    named = [f"pid {h.pid}, role {h.usename}, application {h.application_name or '(unnamed)'}" for h in holders]
    ending = " ".join(f"SELECT pg_terminate_backend({h.pid});" for h in holders)
    advice = (
        f"These sessions hold locks, and one of them this one: {'; '.join(named)}. Wait until it ends. If it hangs, "
        f"type in psql as an administrator, for that session only: {ending}"
        if holders
        else "No session holds one any more."
    )
    waited = f"waited {waited_seconds or LOCK_TIMEOUT_SECONDS} s for a lock in the shared database"
    return LockTimeoutError(f"{waited}. {advice} Then run the step again.")


def _name_the_migration(context: sa.engine.ExceptionContext) -> None:
    """Raise `ActionRequiredError` for a table or column that does not exist, instead of the driver's error."""
    if getattr(context.original_exception, "pgcode", None) in NOT_MIGRATED:
        raise _not_migrated(context.original_exception) from None


def _not_migrated(error: BaseException) -> ActionRequiredError:
    what = str(error).splitlines()[0]
    return ActionRequiredError(
        f"the shared database has not the tables of this version ({what}). Run: python -m include.cli migrate"
    )


def adbc(settings: Settings, *, of_one_moment: bool = False) -> adbc_driver_manager.dbapi.Connection:
    """Open an ADBC connection to the same database. Closing it without a commit rolls its transaction back.

    With `of_one_moment`, all that its first transaction reads is as it was when the connection was opened. Connections
    of a process share what it knows of the database, and the driver counts them without a lock: open and close them in
    one thread at a time.
    """
    url = sa.make_url(settings.database_url.get_secret_value())
    url = url.set(drivername="postgresql", query={"application_name": "nightly-ml", **url.query})
    opened = adbc_driver_manager.AdbcConnection(_adbc_database(url.render_as_string(hide_password=False)))
    # Only `connect` is documented to make one, with a database of its own. This class needs no more than `close` of it.
    connection = adbc_driver_manager.dbapi.Connection(_StaysOpen(), opened)  # type: ignore[arg-type]
    try:
        with connection.cursor() as cursor:
            if of_one_moment:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            cursor.execute(_limits())
            cursor.fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


@cache
def _adbc_database(url: str) -> adbc_driver_manager.AdbcDatabase:
    """Return ADBC's object for a database.

    Making it opens a short connection that asks for the server's version, so a process makes it once.
    """
    made: adbc_driver_manager.AdbcDatabase = adbc_driver_postgresql.connect(url, db_kwargs=BUILT_IN_TYPES)
    return made


class _StaysOpen:
    """Stands for a database of ADBC that is not closed with a connection, because the next one uses it too."""

    def close(self) -> None:
        """Do nothing."""


@contextmanager
def transaction(settings: Settings, *, of_one_moment: bool = False) -> Iterator[adbc_driver_manager.dbapi.Cursor]:
    """Open an ADBC cursor whose work is committed at the end, or not at all; `of_one_moment`: see `adbc`.

    Raises:
        LockTimeoutError: a wait for a lock took too long.
        ActionRequiredError: a table or column does not exist.
    """
    try:
        with adbc(settings, of_one_moment=of_one_moment) as connection, connection.cursor() as cursor:
            yield cursor
            connection.commit()
    except adbc_driver_manager.Error as error:
        if error.sqlstate == LOCK_TIMEOUT:
            raise lock_timeout(engine(settings), readers=False) from None
        if error.sqlstate in NOT_MIGRATED:
            raise _not_migrated(error) from None
        raise


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
    with transaction(settings) as cursor:
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


def copy(
    cursor: adbc_driver_manager.dbapi.Cursor, table: str, blocks: Iterable[pl.DataFrame], *, temporary: bool = False
) -> None:
    """COPY blocks of rows into a table, in one statement that holds one block in memory at a time.

    Args:
        cursor: the cursor of the transaction.
        table: the name of the table.
        blocks: frames with the same columns; columns of the table that they lack get their defaults.
        temporary: whether the table is a temporary one.
    """
    coming = iter(blocks)
    if (first := next(coming, None)) is None:
        return
    schema = first.to_arrow().schema
    batches = (batch for rows in chain([first], coming) for batch in rows.to_arrow().cast(schema).to_batches(COPY_ROWS))
    cursor.adbc_ingest(table, pa.RecordBatchReader.from_batches(schema, batches), mode="append", temporary=temporary)


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
    for statement in _lock(what):
        execute(cursor, statement)


def lock(connection: sa.Connection, what: str) -> None:
    """Wait until nobody else holds this lock, then hold it to the end of the transaction.

    The lock is a row, not an advisory lock: those are open to every login, so that a reader could block publishing.

    Raises:
        LockTimeoutError: another session held it for too long.
    """
    for statement in _lock(what):
        connection.execute(statement)


def add_locks(settings: Settings, *names: str) -> None:
    """Add the rows of locks that are missing, in a transaction of their own.

    Others wait for a row that is being added.
    """
    with engine(settings).begin() as connection:
        there = connection.scalars(sa.select(locks.c.name).where(locks.c.name.in_(names))).all()
        if missing := [{"name": name} for name in names if name not in there]:
            connection.execute(postgresql.insert(locks).values(missing).on_conflict_do_nothing())


def _lock(what: str) -> list[sa.Executable]:
    """Return the statements that lock a row, which they add if it is missing.

    The second waits for a session that is just adding the row. Later statements see what was committed meanwhile.
    """
    return [
        postgresql.insert(locks).values(name=what).on_conflict_do_nothing(),
        sa.select(locks.c.name).where(locks.c.name == what).with_for_update(),
    ]

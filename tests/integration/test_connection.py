"""Connections to the shared database: those that a step keeps open, and those through ADBC."""

import gc
import os
from datetime import date
from typing import Any

import adbc_driver_postgresql.dbapi
import pytest
import sqlalchemy as sa

from include.core.errors import ActionRequiredError
from include.core.settings import Settings
from include.io.postgres.connection import adbc, engine, execute, kept_open, read, transaction, wait_at_most

ONE: sa.Select[Any] = sa.select(sa.literal_column("1").label("one"))


def sessions(settings: Settings) -> list[str]:
    """Return the application names of the other sessions of the database."""
    query = (
        "SELECT application_name FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with engine(settings).connect() as connection:
        return [*connection.scalars(sa.text(query))]


def test_a_connection_stays_open_when_another_is_closed(settings: Settings) -> None:
    with adbc(settings) as first, first.cursor() as cursor:
        with adbc(settings):
            assert sessions(settings) == ["nightly-ml", "nightly-ml"]
        cursor.execute("SELECT 1")
        assert cursor.fetchall() == [(1,)]
    assert sessions(settings) == []
    assert read(settings, ONE).rows() == [(1,)]


def test_a_forked_process_opens_connections_of_its_own(settings: Settings) -> None:
    read(settings, ONE)
    if not (pid := os.fork()):
        with adbc(settings) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 2")
            os._exit(0 if cursor.fetchall() == [(2,)] else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert read(settings, ONE).rows() == [(1,)]


def test_of_one_moment_sees_nothing_of_what_is_committed_later(settings: Settings) -> None:
    counting = sa.text("SELECT count(*) FROM locks")
    with transaction(settings, of_one_moment=True) as cursor:
        with engine(settings).begin() as writing:
            writing.execute(sa.text("INSERT INTO locks (name) VALUES ('of another')"))
        execute(cursor, counting)
        [(before,)] = cursor.fetchall()
    assert read(settings, sa.select(sa.func.count()).select_from(sa.table("locks"))).item() == before + 1


def test_a_column_that_was_not_migrated_is_named_with_the_command(settings: Settings) -> None:
    unknown: sa.Select[Any] = sa.select(sa.column("gate")).select_from(sa.table("batches"))
    with pytest.raises(ActionRequiredError, match=r'column "gate" does not exist[\s\S]*include.cli migrate'):
        read(settings, unknown)


def test_dates_as_text_are_iso_whatever_the_database_is_set_to(settings: Settings) -> None:
    name = sa.make_url(settings.database_url.get_secret_value()).database
    with engine(settings).begin() as connection:
        connection.execute(sa.text(f"ALTER DATABASE {name} SET DateStyle = 'German'"))
    day: sa.ColumnElement[str] = sa.cast(sa.cast(sa.literal_column("'2013-02-15'"), sa.Date), sa.Text)
    assert read(settings, sa.select(day)).item() == str(date(2013, 2, 15))


def backend(settings: Settings) -> int:
    """Return the process of the server that answers a transaction."""
    with engine(settings).begin() as connection:
        return int(connection.scalar(sa.text("SELECT pg_backend_pid()")))


def test_a_step_keeps_one_connection_open_until_it_ends(settings: Settings) -> None:
    with kept_open(settings):
        first = backend(settings)
        with kept_open(settings), engine(settings).connect() as another:
            in_use = another.scalar(sa.text("SELECT pg_backend_pid()"))
            assert backend(settings) != in_use
        assert backend(settings) == backend(settings)
        assert sessions(settings) == []
    assert backend(settings) != first
    assert sessions(settings) == []


def test_a_connection_that_was_cut_between_transactions_is_opened_again(settings: Settings) -> None:
    cut = sa.text("SELECT pg_terminate_backend(:pid)")
    with kept_open(settings):
        first = backend(settings)
        made = sa.create_engine(engine(settings).url, poolclass=sa.NullPool)
        with made.connect() as another:
            assert another.scalar(cut, {"pid": first})
        assert backend(settings) != first


def test_a_process_forked_by_a_step_leaves_its_connection_open(settings: Settings) -> None:
    with kept_open(settings):
        first = backend(settings)
        if not (pid := os.fork()):
            found = {backend(settings), backend(settings)}
            gc.collect()
            os._exit(0 if len(found) == 2 and first not in found else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert backend(settings) == first


def test_what_a_transaction_changed_of_its_session_is_gone_in_the_next(settings: Settings) -> None:
    shown = "SELECT current_setting('lock_timeout') || current_setting('application_name')"
    with kept_open(settings):
        with engine(settings).begin() as connection:
            before = connection.scalar(sa.text(shown))
            wait_at_most(connection, 7)
            connection.execute(sa.text("SELECT set_config('application_name', 'another', true)"))
            assert connection.scalar(sa.text(shown)) == "7sanother"
        with engine(settings).begin() as connection:
            assert connection.scalar(sa.text(shown)) == before


def test_the_types_that_adbc_has_built_in_are_those_of_the_database(settings: Settings) -> None:
    url = settings.database_url.get_secret_value()
    with transaction(settings) as cursor, adbc_driver_postgresql.dbapi.connect(url) as reading:
        tables = sa.inspect(engine(settings))
        names = [*tables.get_table_names(), *tables.get_view_names()]
        assert len(names) > 50
        with reading.cursor() as asking:
            for name in names:
                statement = f"SELECT * FROM {name} LIMIT 0"
                cursor.execute(statement)
                asking.execute(statement)
                assert cursor.fetch_arrow_table().schema == asking.fetch_arrow_table().schema, name

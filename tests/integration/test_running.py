"""What a running step holds against rotations and erasures disturbs nobody else."""

from typing import Any

import pytest
import sqlalchemy as sa

from include.config.loading import load_project
from include.core.errors import LockTimeoutError
from include.core.interval import Interval
from include.core.project import Project
from include.core.records import Landed
from include.core.settings import Settings
from include.io import postgres
from include.io.postgres import connection as product
from include.io.postgres.connection import STEP, engine
from include.runner.run import run

OPEN = """
SELECT application_name FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'
"""
CUT = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@pytest.fixture
def ferries() -> Project:
    return load_project("ferries")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "LOCK_TIMEOUT_SECONDS", 1)


def execute(settings: Settings, statement: str) -> list[Any]:
    with engine(settings).connect() as connection:
        found = connection.execute(sa.text(statement))
        return list(found.scalars()) if found.returns_rows else []


def test_a_running_step_holds_one_session_which_no_waiting_writer_is_told_to_end(
    ferries: Project, settings: Settings
) -> None:
    with postgres.running.running(settings, ferries.name):
        assert execute(settings, OPEN) == [STEP]
        with engine(settings).begin() as holder:
            product.lock(holder, "publish m")
            with engine(settings).begin() as waiting, pytest.raises(LockTimeoutError) as raised:
                product.lock(waiting, "publish m")
        assert "application nightly-ml." in str(raised.value) and STEP not in str(raised.value)
        assert str(raised.value).count("pg_terminate_backend") == 1
    assert execute(settings, OPEN) == []


def test_a_step_whose_session_was_cut_is_recorded_as_it_ended(
    ferries: Project, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = Interval.of(ferries.first_day)

    def land(*_: Any) -> Landed:
        assert execute(settings, CUT)
        return Landed(interval=day, rows=0, new=0, known=0)

    monkeypatch.setattr("include.steps.land.land", land)
    run("land", ferries, day, settings)
    assert execute(settings, "SELECT state FROM step_runs") == ["success"]


@pytest.mark.parametrize("table", ["journal", "erasures", "predictions"])
def test_a_migration_does_not_wait_for_a_running_step(ferries: Project, settings: Settings, table: str) -> None:
    with postgres.running.running(settings, ferries.name):
        execute(settings, f"ALTER TABLE {table} ADD COLUMN more text")


def test_a_migration_of_the_table_of_locks_names_the_running_steps(ferries: Project, settings: Settings) -> None:
    with (
        postgres.running.running(settings, ferries.name),
        pytest.raises(LockTimeoutError, match=rf"application {STEP}\..*pg_terminate_backend"),
    ):
        execute(settings, "ALTER TABLE locks ADD COLUMN more text")

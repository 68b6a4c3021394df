"""What a running step holds against rotations and erasures disturbs nobody else."""

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from include.config.loading import load_project
from include.core.errors import ActionRequiredError, ChangedMeanwhileError, LockTimeoutError, UnfinishedError
from include.core.interval import Interval
from include.core.journal import Entry
from include.core.project import Project
from include.core.records import Landed
from include.core.settings import Settings, utc_now
from include.io import postgres
from include.io.journal import begin_remote
from include.io.postgres import connection as product
from include.io.postgres.connection import STEP, engine
from include.runner.remote import Call, answer, main
from include.runner.run import record, run

Change = Callable[[Project, Settings], object]

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


@pytest.mark.parametrize(
    ("revision", "said"),
    [
        ("0001", r"at revision 0001, and this code needs .*include\.cli migrate"),
        ("9999", "with the latest bundle version"),
    ],
)
def test_no_step_runs_on_a_database_of_older_or_newer_code(
    ferries: Project, settings: Settings, monkeypatch: pytest.MonkeyPatch, revision: str, said: str
) -> None:
    monkeypatch.setattr("include.steps.land.land", lambda *_: pytest.fail("the step ran"))
    with engine(settings).begin() as connection:
        connection.execute(sa.text("UPDATE nightly_ml_version SET version_num = :revision"), {"revision": revision})
    with pytest.raises(ActionRequiredError, match=said):
        run("land", ferries, Interval.of(ferries.first_day), settings)


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


# --- a step on Databricks, which can hold nothing ---------------------------------------------------------------------

WHO = {"by": "Ada", "why": "ticket"}


def begin_erasure(project: Project, settings: Settings) -> int:
    with postgres.journal.write_journal(settings, project.name) as writer:
        [number] = writer.add([Entry(kind="erasure", subject="h:" + "0" * 64, entry={}, **WHO)])
    return number


def begin_rotation(project: Project, settings: Settings) -> None:
    postgres.hash_keys.begin(settings, [project.name], postgres.hash_keys.RotationState("begun", "a", "b"), **WHO)


def erase(project: Project, settings: Settings) -> None:
    postgres.erasures.finish(settings, project.name, [begin_erasure(project, settings)])


def rotate(project: Project, settings: Settings) -> None:
    begin_rotation(project, settings)
    state = postgres.hash_keys.RotationState("finished", "a", "b")
    with engine(settings).begin() as connection:
        postgres.hash_keys.enter(connection, settings, [project.name], state, **WHO)


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize(("begin", "said"), [(begin_erasure, "erase .* --again"), (begin_rotation, "rehash --by")])
def test_no_step_is_submitted_before_an_erasure_or_rotation_has_finished(
    ferries: Project, settings: Settings, begin: Change, said: str, copy: bool
) -> None:
    begin(ferries, settings)
    with pytest.raises(UnfinishedError, match=said):
        begin_remote(settings, ferries, copy=copy)


@pytest.mark.parametrize(("change", "said"), [(erase, "a person was erased"), (rotate, "the hash key was rotated")])
def test_the_result_of_a_step_that_was_submitted_before_is_refused(
    ferries: Project, settings: Settings, change: Change, said: str
) -> None:
    day = Interval.of(ferries.first_day)
    result = Landed(interval=day, rows=0, new=0, known=0)
    before = begin_remote(settings, ferries, copy=False)
    change(ferries, settings)
    with pytest.raises(ChangedMeanwhileError, match=rf"{said} \(entry \d of .* Run the task again: clear it"):
        record("land", ferries, day, result, settings, utc_now(), before)
    assert execute(settings, "SELECT state FROM step_runs") == []
    record("land", ferries, day, result, settings, utc_now(), begin_remote(settings, ferries, copy=False))
    assert execute(settings, "SELECT state FROM step_runs") == ["success"]


def test_the_watermark_comes_back_with_the_result(
    ferries: Project, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = Interval.of(ferries.first_day)

    def land(config: Project, interval: Interval, settings: Settings) -> Landed:
        return Landed(interval=interval, rows=3, new=0, known=0)

    monkeypatch.setattr("include.steps.land.land", land)
    path = f"{settings.tables}/_records/one.json"
    places = {name: getattr(settings, name) for name in ("tables", "artifacts", "git_commit", "run_id")}
    mlflow = {"mlflow_tracking_uri": "none", "mlflow_registry_uri": "none"}
    about = {"step": "land", "config": "ferries", "interval": day, "options": {}, "secrets": {}}
    call = Call(**about, settings=places | mlflow, record=path, watermark=7)
    monkeypatch.setattr("sys.argv", ["nightly-ml", "--call", call.model_dump_json()])
    main()
    assert answer("land", path, settings) == (Landed(interval=day, rows=3, new=0, known=0), 7)

"""What a running step holds: a share of two locks, which a rotation of the hash key and an erasure have for themselves.

So no step writes what it read before one of these, and none reads a half-changed table.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import sqlalchemy as sa

from include.core.errors import ChangedMeanwhileError, LockTimeoutError
from include.core.settings import Settings
from include.io.postgres import erasures, hash_keys, migrations
from include.io.postgres.connection import LOCK_TIMEOUT, STEP, add_locks, engine
from include.io.postgres.schema import journal, locks


@contextmanager
def running(settings: Settings, project: str) -> Iterator[None]:
    """Hold off rotations of the hash key and erasures of a project while a step runs. Other steps do not wait.

    One session holds both locks. It locks nothing but their rows, so that a migration of another table does not wait
    for it; and a step does not fail because that session was cut after its work.

    Raises:
        ActionRequiredError: the database is at another revision than this code.
        LockTimeoutError: the hash key is being rotated, or an erasure runs for too long.
        UnfinishedError: a rotation or an erasure was begun and has not finished; the message says how to finish it.
    """
    migrations.require_migrated(settings)
    with _shared(settings, [hash_keys.LOCK, erasures.lock_name(project)]):
        require_all_finished(settings, project)
        yield


@contextmanager
def without_rotation(settings: Settings) -> Iterator[None]:
    """Hold off rotations of the hash key while a person is erased.

    Raises:
        LockTimeoutError: the hash key is being rotated.
        UnfinishedError: a rotation was begun and has not finished; the message says how to finish it.
    """
    with _shared(settings, [hash_keys.LOCK]):
        hash_keys.require_none_begun(settings)
        yield


@contextmanager
def _shared(settings: Settings, names: Sequence[str]) -> Iterator[None]:
    """Hold a share of locks, in this order."""
    add_locks(settings, *names)
    connection = engine(settings).connect()
    try:
        connection.execute(sa.select(sa.func.set_config("application_name", STEP, True)))
        for name in names:
            _share(connection, name)
        yield
    finally:
        with suppress(sa.exc.SQLAlchemyError):  # the connection may have been cut while the step ran
            connection.rollback()
        with suppress(sa.exc.SQLAlchemyError):
            connection.close()


def _share(connection: sa.Connection, name: str) -> None:
    """Take a share of a lock: wait for an erasure, but not for a rotation, which takes hours."""
    at_once = name == hash_keys.LOCK
    try:
        connection.execute(
            sa.select(locks.c.name).where(locks.c.name == name).with_for_update(read=True, nowait=at_once)
        )
    except (sa.exc.OperationalError, LockTimeoutError) as error:
        if not at_once or getattr(getattr(error, "orig", None), "pgcode", LOCK_TIMEOUT) != LOCK_TIMEOUT:
            raise
        raise LockTimeoutError("the hash key is being rotated (rehash); wait until that has ended") from None


def require_all_finished(settings: Settings, project: str) -> None:
    """Refuse to go on while tables may have hashes of other keys, or rows of an erased person.

    Raises:
        UnfinishedError: a rotation, or an erasure of the project, was begun and has not finished.
    """
    hash_keys.require_none_begun(settings)
    erasures.require_none_begun(settings, project)


def require_same_rows(settings: Settings, project: str, watermark: int) -> None:
    """Refuse what a step wrote that held no lock, if a rotation or an erasure began or ended after its watermark.

    Raises:
        ChangedMeanwhileError: one did.
    """
    decision, newer = journal.c.entry["decision"].as_string(), journal.c.sequence > watermark
    of_kind = (journal.c.kind == "erasure") | (journal.c.kind == "decision") & (decision == "rehash finished")
    statement = sa.select(journal.c.sequence, journal.c.kind).where(journal.c.project == project, newer, of_kind)
    with engine(settings).connect() as connection:
        found = connection.execute(statement.order_by(journal.c.sequence).limit(1)).one_or_none()
    if found:
        erased = found.kind == "erasure"
        what = "a person was erased" if erased else "the hash key was rotated"
        look = ". When it has ended, type erase --check: docs/runbooks/erase.md" if erased else ""
        raise ChangedMeanwhileError(
            f"{project}: {what} (entry {found.sequence} of the journal) after the step was submitted to Databricks, so "
            "it may have read and written rows from before. Its result was not recorded. Run the task again: clear it"
            f"{look}"
        )

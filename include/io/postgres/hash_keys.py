"""Rotation of the hash key in the shared database: its lock, its entries in the journal, and the rows that have hashes.

Every step and erasure holds the lock `hash key` together with others (`running`); a rotation holds it alone. It is a
row, as all locks are.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

import polars as pl
import sqlalchemy as sa

from include.core.errors import ActionRequiredError, LockTimeoutError, UnfinishedError
from include.core.horizons import KEY
from include.core.journal import Entry
from include.core.project import Project
from include.core.rehash import entity_ids, has_hashed_key
from include.core.schemas import STORED_PREDICTION
from include.core.settings import DATABASE_OWNER_URL, Settings
from include.io.postgres import schema, training_summaries
from include.io.postgres.connection import LOCK_TIMEOUT, add_locks, engine, lock
from include.io.postgres.journal import JournalWriter
from include.io.postgres.predictions import batch_digest, rows_digest, rows_of_batch
from include.io.postgres.schema import batches, journal, locks, outcome_days, outcomes, predictions, publications

LOCK = "hash key"
CONTINUE = "python -m include.cli rehash --by NAME --why REASON"

BatchId = Callable[[str, date, int, str], str]
"""Makes the id of a batch of model, day, version and digest."""

_IMMUTABLE = ("predictions", "batches", "publications")
"""The tables with hashes that only their owner can change."""


@dataclass(frozen=True)
class RotationState:
    """The newest rotation of a project: `begun` or `finished`, and the fingerprints of the keys before and after."""

    state: str
    before: str
    after: str


@contextmanager
def rotating(settings: Settings) -> Iterator[None]:
    """Keep every step and erasure from running.

    Raises:
        LockTimeoutError: one of them, or another rotation, is running now.
    """
    add_locks(settings, LOCK)
    with engine(settings).connect() as connection:
        try:
            connection.execute(sa.select(locks.c.name).where(locks.c.name == LOCK).with_for_update(nowait=True))
        except (sa.exc.OperationalError, LockTimeoutError) as error:
            if getattr(getattr(error, "orig", None), "pgcode", LOCK_TIMEOUT) != LOCK_TIMEOUT:
                raise
            raise LockTimeoutError(
                "a step or an erasure is running, or another rehash. Pause the DAGs, wait until all have ended, and "
                "run it again. Nothing was changed"
            ) from None
        yield


def require_none_begun(settings: Settings) -> None:
    """Refuse to go on with tables of which some have hashes of other keys.

    Raises:
        UnfinishedError: a rotation was begun and has not finished.
    """
    for project, found in read_rotations(settings).items():
        if found.state == "begun":
            raise UnfinishedError(
                f"{project}: a rotation of the hash key to fingerprint {found.after} was begun and has not finished, "
                f"so some rows have hashes of other keys. With the same keys, run: {CONTINUE}"
            )


def read_rotations(settings: Settings) -> dict[str, RotationState]:
    """Map each project to its newest rotation."""
    entry = journal.c.entry
    statement = (
        sa
        .select(journal.c.project, *(entry[name].as_string() for name in ("state", "from", "hash_key")))
        .where(journal.c.kind == "decision", entry["decision"].as_string().like("rehash%"))
        .order_by(journal.c.sequence)
    )
    with engine(settings).connect() as connection:
        return {project: RotationState(*found) for project, *found in connection.execute(statement)}


def read_finished(settings: Settings, project: str) -> tuple[str, list[str]] | None:
    """Return the fingerprint of the newest finished rotation of a project, and the feeds that had deliveries before it.

    None if there was none.
    """
    entry, of_project = journal.c.entry, journal.c.project == project
    newest = (
        sa
        .select(journal.c.sequence, entry["hash_key"].as_string())
        .where(of_project, journal.c.kind == "decision", entry["decision"].as_string() == "rehash finished")
        .order_by(journal.c.sequence.desc())
        .limit(1)
    )
    with engine(settings).connect() as connection:
        found = connection.execute(newest).one_or_none()
        if found is None:
            return None
        sequence, fingerprint = found
        feeds = sa.select(entry["feed"].as_string()).distinct()
        before = feeds.where(of_project, journal.c.kind == "delivery", journal.c.sequence < sequence)
        return fingerprint, sorted(connection.scalars(before))


def was_pulled(settings: Settings, project: str) -> bool:
    """Return whether rows of a project came from another installation."""
    statement = sa.select(
        sa
        .exists()
        .where(journal.c.project == project, journal.c.kind == "decision")
        .where(journal.c.entry["decision"].as_string() == "pull")
    )
    with engine(settings).connect() as connection:
        return bool(connection.scalar(statement))


def read_projects(settings: Settings) -> list[str]:
    """Return the projects that have landed deliveries."""
    with engine(settings).connect() as connection:
        return sorted(connection.scalars(sa.select(journal.c.project).distinct()))


def enter(
    connection: sa.Connection, settings: Settings, projects: Sequence[str], found: RotationState, by: str, why: str
) -> None:
    """Enter the state of a rotation into the journal of each project."""
    for project in projects:
        lock(connection, f"journal {project}")
        entry = Entry(
            kind="decision",
            subject=f"hash key {found.after}",
            entry={
                "decision": f"rehash {found.state}",
                "state": found.state,
                "from": found.before,
                "hash_key": found.after,
            },
            by=by,
            why=why,
        )
        JournalWriter(connection, project, settings.run_id).add([entry])


def begin(settings: Settings, projects: Sequence[str], found: RotationState, by: str, why: str) -> None:
    """Enter that a rotation was begun: from now on every step refuses to run until it is finished."""
    with engine(settings).begin() as connection:
        enter(connection, settings, projects, found, by, why)


def finish(
    settings: Settings,
    projects: Sequence[Project],
    hashed: Callable[[str], str],
    batch_id: BatchId,
    found: RotationState,
    by: str,
    why: str,
) -> int:
    """Hash what the shared database has, and enter that the rotation is finished, in one transaction.

    Rows with an `entity_id` are changed only if the key of the entity has an identifier. No day is prepared any more.

    Args:
        settings: the database; its owner's login changes rows that nobody else may change.
        projects: all that have landed deliveries.
        hashed: hashes a hash further.
        batch_id: makes the id of a batch.
        found: the state to enter.
        by: who decided.
        why: why.

    Returns:
        The number of batches that have other ids now.
    """
    changed = 0
    names = [project.name for project in projects]
    keyed = [project for project in projects if has_hashed_key(project)]
    with engine(settings.as_owner() if keyed else settings).begin() as connection:
        for project in keyed:
            changed += _hash_rows(connection, project, hashed, batch_id)
        training_summaries.drop_labels(connection, names)
        connection.execute(sa.delete(schema.prepared_days).where(schema.prepared_days.c.project.in_(names)))
        enter(connection, settings, names, found, by, why)
    return changed


def require_owner(settings: Settings) -> None:
    """Refuse to begin if immutable rows must be changed and the login is not their owner's.

    Raises:
        ActionRequiredError: says which login is needed.
    """
    owns = sa.text("SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = 'predictions'::regclass")
    with engine(settings.as_owner()).connect() as connection:
        if not connection.scalar(owns):
            raise ActionRequiredError(
                "the key of an entity has an identifier, so published predictions have hashes, and only the owner of "
                f"the shared database can change them: set {DATABASE_OWNER_URL} to the owner's login, as for migrate. "
                "Nothing was changed"
            )


def _hash_rows(connection: sa.Connection, project: Project, hashed: Callable[[str], str], batch_id: BatchId) -> int:
    """Give the rows of a project about entities their new ids. Batches get the ids that follow from their content."""
    of_project = sa.select(schema.models.c.model).where(schema.models.c.project == project.name)
    models = sorted(connection.scalars(of_project))
    for model in models:
        lock(connection, f"publish {model}")
    for what in ("entities", "outcomes"):
        lock(connection, f"{what} {project.name}")
    connection.execute(sa.text("CREATE TEMPORARY TABLE new_ids (old text PRIMARY KEY, new text) ON COMMIT DROP"))
    for table in _IMMUTABLE:
        connection.execute(sa.text(f"ALTER TABLE {table} DISABLE TRIGGER refuse_change"))
    changed = 0
    for model in models:
        of_model = sa.select(batches.c.batch_id, batches.c.day, batches.c.model_version).where(batches.c.model == model)
        for old, day, version in connection.execute(of_model.order_by(batches.c.created_at)).all():
            changed += _hash_batch(connection, project, hashed, old, partial(batch_id, model, day, version))
    connection.execute(sa.text("SET CONSTRAINTS ALL IMMEDIATE"))
    for table in _IMMUTABLE:
        connection.execute(sa.text(f"ALTER TABLE {table} ENABLE TRIGGER refuse_change"))
    _hash_outcomes(connection, project, hashed)
    entities = schema.entities(project.name)
    for day in connection.scalars(sa.select(entities.c.day).distinct()).all():
        of_day = entities.c.day == day
        _stage(connection, project, connection.scalars(sa.select(entities.c.entity_id).where(of_day)).all(), hashed)
        _set_ids(connection, entities, of_day)
    connection.execute(sa.text("DROP TABLE new_ids"))
    return changed


_NEW = sa.table("new_ids", sa.column("old"), sa.column("new"))


def _stage(
    connection: sa.Connection, project: Project, ids: Sequence[str], hashed: Callable[[str], str]
) -> dict[str, str]:
    """Fill the temporary table with the new id of each of these, and return them."""
    found = entity_ids(project, ids, hashed)
    connection.execute(sa.text("TRUNCATE new_ids"))
    if found:
        connection.execute(sa.insert(_NEW), [{"old": old, "new": new} for old, new in found.items()])
    return found


def _set_ids(connection: sa.Connection, table: sa.Table, of: sa.ColumnElement[bool]) -> None:
    connection.execute(sa.update(table).where(of, table.c.entity_id == _NEW.c.old).values(entity_id=_NEW.c.new))


def _hash_batch(
    connection: sa.Connection,
    project: Project,
    hashed: Callable[[str], str],
    old: Any,
    id_of: Callable[[str], str],
) -> bool:
    """Put a batch with the new ids in the place of another.

    Batches that are equal since a person was erased become one. Each move of a pointer stays in the history.
    """
    rows = rows_of_batch(connection, old)
    if rows.is_empty():  # or they left with their month: `retention`
        return False
    new_ids = _stage(connection, project, rows["entity_id"].to_list(), hashed)
    digest = batch_digest(rows.with_columns(pl.col("entity_id").replace(new_ids)))
    new = id_of(digest)
    if new == str(old):  # none of its rows has a hash
        return False
    if not connection.scalar(sa.select(sa.exists().where(batches.c.batch_id == new))):
        _copy_batch(connection, old, new, digest)
    for table, column in ((schema.published, "batch_id"), (publications, "batch_id"), (publications, "replaced")):
        connection.execute(sa.update(table).where(table.c[column] == old).values({column: new}))
    for table in (predictions, batches):
        connection.execute(sa.delete(table).where(table.c.batch_id == old))
    return True


def _copy_batch(connection: sa.Connection, old: Any, new: str, digest: str) -> None:
    """Store a batch again under another id, with the new ids of its rows."""
    put = {"batch_id": sa.literal(new, schema.UUID), "digest": sa.literal(digest)}
    columns = [column.name for column in batches.columns]
    copied = sa.select(*(put.get(name, batches.c[name]) for name in columns)).where(batches.c.batch_id == old)
    connection.execute(sa.insert(batches).from_select(columns, copied))
    new_rows = sa.select(
        sa.literal(new, schema.UUID),
        predictions.c.model,
        predictions.c.day,
        predictions.c.horizon,
        _NEW.c.new,
        *(predictions.c[name] for name in STORED_PREDICTION),
    ).where(predictions.c.batch_id == old, predictions.c.entity_id == _NEW.c.old)
    target = ["batch_id", "model", *KEY, *STORED_PREDICTION]
    connection.execute(sa.insert(predictions).from_select(target, new_rows))


def _hash_outcomes(connection: sa.Connection, project: Project, hashed: Callable[[str], str]) -> None:
    """Give outcomes their new ids, and their days the digests that follow."""
    days = sa.select(outcome_days.c.outcome, outcome_days.c.day).where(outcome_days.c.project == project.name)
    for outcome, day in connection.execute(days).all():
        one = (outcomes.c.project == project.name) & (outcomes.c.outcome == outcome) & (outcomes.c.day == day)
        _stage(connection, project, connection.scalars(sa.select(outcomes.c.entity_id).where(one)).all(), hashed)
        _set_ids(connection, outcomes, one)
        read = sa.select(outcomes.c.entity_id, outcomes.c.value).where(one)
        rows = pl.DataFrame(
            [tuple(row) for row in connection.execute(read)],
            schema={"entity_id": pl.String(), "value": pl.Float64()},
            orient="row",
        )
        of_day = (
            (outcome_days.c.project == project.name) & (outcome_days.c.outcome == outcome) & (outcome_days.c.day == day)
        )
        connection.execute(sa.update(outcome_days).where(of_day).values(digest=rows_digest(rows, "value")))

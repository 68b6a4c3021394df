"""Erase persons from the shared database, keep the proof, and keep steps apart from an erasure.

Each step holds a share of a lock of its project (`running`), and an erasure has it for itself. The rows of immutable
tables can be removed only by their owner, in a transaction that records it in `erasures`: see the migration 0006.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any

import polars as pl
import sqlalchemy as sa

from include.core.actions import KIND, without_rows
from include.core.erasure import Person
from include.core.errors import ActionRequiredError, LockTimeoutError, UnfinishedError
from include.core.feeds import HORIZON
from include.core.project import Project
from include.core.settings import DATABASE_OWNER_URL, Settings
from include.io.postgres import schema, training_summaries
from include.io.postgres.connection import STEP, add_locks, engine, lock
from include.io.postgres.migrations import roles
from include.io.postgres.predictions import batch_digest, rows_digest, rows_of_batch
from include.io.postgres.schema import (
    batches,
    erasures,
    gate_results,
    journal,
    locks,
    outcome_days,
    outcomes,
    performance_daily,
    predictions,
    prepared_days,
    quality_results,
)
from include.monitoring.skew import label_digest

FINISHED = "finished"
"""The `place` of the row that says that an erasure is complete."""

ERASED = "(erased)"

SCRUBBED: dict[sa.Table, tuple[str, ...]] = {
    schema.alerts: ("subject", "sentence"),
    schema.freshness: ("sentence",),
    schema.incident_records: ("subject", "what", "effect"),
    schema.messages: ("subject", "payload"),
    schema.objects: ("why",),
    schema.retrainings: ("why",),
    schema.skew_checks: ("why", "signature"),
    quality_results: ("observed", "examples"),
    gate_results: ("subject", "sentence"),
}
"""Texts for people in which a hash can be, as the name of a slice or the observed value of a column."""

Pairs = frozenset[tuple[date, str]]
"""Days and `entity_id`s."""

SESSIONS = """
SELECT pid, usename FROM pg_stat_activity WHERE datname = current_database() AND application_name = :name ORDER BY pid
"""


def lock_name(project: str) -> str:
    """Return the name of the lock that an erasure of a project has for itself."""
    return f"erase {project}"


def require_none_begun(settings: Settings, project: str) -> None:
    """Refuse to go on while a step could use or keep rows of an erased person.

    Raises:
        UnfinishedError: an erasure was begun and has not finished.
    """
    with engine(settings).connect() as connection:
        numbers = _unfinished(connection, project)
    if numbers:
        raise UnfinishedError(
            f"{project}: the erasure of a person is not finished (entry {', '.join(map(str, numbers))} of the "
            "journal): it was interrupted, or the journal was restored and the tables are older. No step runs "
            f"before it is. Type: python -m include.cli erase --project {project} --again"
        )


@contextmanager
def alone(settings: Settings, project: str) -> Iterator[None]:
    """Wait until no step of a project runs, and keep all from starting.

    Raises:
        LockTimeoutError: a step ran for too long.
    """
    add_locks(settings, lock_name(project))
    with engine(settings).begin() as connection:
        try:
            name = locks.c.name == lock_name(project)
            connection.execute(sa.select(locks.c.name).where(name).with_for_update())
        except LockTimeoutError as error:
            raise LockTimeoutError(_why_not_alone(settings, project)) from error
        yield


def _why_not_alone(settings: Settings, project: str) -> str:
    with engine(settings).connect() as connection:
        running = connection.execute(sa.text(SESSIONS), {"name": STEP}).all()
    named = ", ".join(f"pid {each.pid} (role {each.usename})" for each in running) or "none any more"
    return (
        f"steps of {project}, or another erasure, have run for too long, so nothing was removed yet. Sessions of "
        f"running steps: {named}. Type the command again when they have ended; they need no clearing"
    )


def _unfinished(connection: sa.Connection, project: str) -> list[int]:
    done = (
        sa
        .exists()
        .where(erasures.c.project == journal.c.project, erasures.c.sequence == journal.c.sequence)
        .where(erasures.c.place == FINISHED)
    )
    entries = sa.select(journal.c.sequence).where(journal.c.project == project, journal.c.kind == "erasure", ~done)
    return list(connection.scalars(entries.order_by(journal.c.sequence)))


def require_owner(settings: Settings) -> None:
    """Refuse to erase with a login that cannot remove predictions.

    Raises:
        ActionRequiredError: says which login is needed.
    """
    try:
        with engine(settings).connect() as connection:
            roles.require_owner(connection)
    except ActionRequiredError as error:
        raise ActionRequiredError(
            "predictions are in immutable tables, from which only the owner of the shared database can remove a "
            f"person. Set {DATABASE_OWNER_URL} for this command. Nothing was removed"
        ) from error


def record(settings: Settings, project: str, sequence: int, rows: Mapping[str, int]) -> None:
    """Record how many rows were removed where."""
    with engine(settings).begin() as connection:
        _record(connection, settings, project, sequence, rows)


def finish(settings: Settings, project: str, sequences: Iterable[int]) -> None:
    """Record that everything was searched again, and nothing was left."""
    with engine(settings).begin() as connection:
        for sequence in sequences:
            _record(connection, settings, project, sequence, {FINISHED: 0})


def _record(
    connection: sa.Connection, settings: Settings, project: str, sequence: int, rows: Mapping[str, int]
) -> None:
    about = {"project": project, "sequence": sequence, "run_id": settings.run_id}
    if rows:
        values = [{**about, "place": place, "rows": count} for place, count in rows.items()]
        connection.execute(sa.insert(erasures), values)


def count(
    settings: Settings, project: Project, models: Collection[str], person: Person, known: Pairs = frozenset()
) -> dict[str, int]:
    """Return how many rows of a person each table has; those with none are left out.

    Args:
        settings: where the database is.
        project: the project.
        models: its models.
        person: how the rows are recognised.
        known: day and `entity_id` of the rows of feeds with outcomes that are the person's.
    """
    with engine(settings).begin() as connection:
        found = {
            "predictions": _count(connection, _of_predictions(models, person)),
            project_entities(project).name: _count(connection, _of_entities(project, person)),
            "outcomes": _count(connection, _of_outcomes(project, person, known)),
            "performance_daily": _count(connection, _of_performance(models, person)),
            "lists of actions": len(_lists(connection, models, person)),
            "training_summaries": _count(connection, (schema.training_summaries, _had_labels(person))),
            **{table.name: _count(connection, _of_texts(table, names, person)) for table, names in SCRUBBED.items()},
        }
    return {name: number for name, number in found.items() if number}


def erase(
    settings: Settings,
    project: Project,
    models: Collection[str],
    person: Person,
    sequence: int,
    known: Pairs,
    quality: Mapping[str, Collection[int]],
    prepared: Mapping[tuple[date, str], Sequence[int]],
    reports: Collection[str] = (),
) -> dict[str, int]:
    """Remove the rows of a person in one transaction, and record it there; return how many of each table.

    Args:
        settings: with the login of the owner, and the id of this run.
        project: the project.
        models: its models.
        person: how the rows are recognised.
        sequence: the entry of the journal.
        known: day and `entity_id` of the rows of feeds with outcomes that are the person's.
        quality: the lines of each delivery that are the person's: examples of them are removed.
        prepared: rows of features of each horizon, from 0, that prepared days (by day and data view) will have.
        reports: URIs of pages of reports that have the person: the PDFs of these reports leave their messages.
    """
    found = count(settings, project, models, person, known)
    with engine(settings).begin() as connection:
        for model in sorted(models):
            lock(connection, f"publish {model}")
        lock(connection, f"outcomes {project.name}")
        lock(connection, f"quality {project.name}")
        _record(connection, settings, project.name, sequence, found)  # first: the trigger asks for it
        if "predictions" in found:
            _erase_predictions(connection, models, person)
        entities, theirs = _of_entities(project, person)
        connection.execute(sa.delete(entities).where(theirs))
        _erase_outcomes(connection, project, person, known)
        connection.execute(sa.delete(performance_daily).where(_of_performance(models, person)[1]))
        _erase_examples(connection, project, quality)
        for id_, payload in _lists(connection, models, person).items():
            is_one = schema.messages.c.id == id_
            connection.execute(sa.update(schema.messages).where(is_one).values(payload=payload))
        content = schema.messages.c.payload
        about = content["page"].astext.in_(list(reports)) & content.has_key("attachment")
        connection.execute(sa.update(schema.messages).where(about).values(payload=content.delete_path(["attachment"])))
        training_summaries.forget_labels(connection, _digests(person))
        for table, names in SCRUBBED.items():
            if table.name in found:
                _scrub(connection, table, names, person)
        for (day, data_view), rows in prepared.items():
            there = (prepared_days.c.project == project.name) & (prepared_days.c.day == day)
            of_view = prepared_days.c.data_view == data_view
            counts = {"rows": sum(rows), "horizon_rows": list(rows) if len(rows) > 1 else []}
            connection.execute(sa.update(prepared_days).where(there, of_view).values(**counts))
    return found


Part = tuple[sa.Table, sa.ColumnElement[bool]]
"""Some rows of a table."""


def project_entities(project: Project) -> sa.Table:
    """Return the table of a project's entities."""
    return schema.entities(project.name, *project.entity.public)


def _count(connection: sa.Connection, part: Part) -> int:
    table, condition = part
    return int(connection.scalar(sa.select(sa.func.count()).select_from(table).where(condition)) or 0)


def _has(column: sa.ColumnElement[Any], needles: Iterable[str]) -> sa.ColumnElement[bool]:
    text = sa.cast(column, sa.Text)
    return sa.or_(sa.false(), *(sa.func.strpos(text, needle) > 0 for needle in needles))


def _is_theirs(table: sa.Table, person: Person) -> sa.ColumnElement[bool]:
    """Return the condition of rows about the person's entities, by `entity_id` and the day that a row is about."""
    of_days: dict[date, list[str]] = {}
    for day, entity in person.entities:
        of_days.setdefault(day, []).append(entity)
    target_day = table.c.day + table.c.horizon if HORIZON in table.c else table.c.day
    of_entities = [(target_day == day) & table.c.entity_id.in_(ids) for day, ids in of_days.items()]
    return sa.or_(_has(table.c.entity_id, person.hashes), *of_entities)


def _of_predictions(models: Collection[str], person: Person) -> Part:
    return predictions, predictions.c.model.in_(list(models)) & _is_theirs(predictions, person)


def _of_entities(project: Project, person: Person) -> Part:
    table = project_entities(project)
    public = [_has(table.c[name], person.hashes) for name in project.entity.public]
    return table, sa.or_(_is_theirs(table, person), *public)


def _of_outcomes(project: Project, person: Person, known: Pairs) -> Part:
    """Return the outcomes that come from rows of the person."""
    theirs = Person(person.hashes, person.key, known)
    return outcomes, (outcomes.c.project == project.name) & _is_theirs(outcomes, theirs)


def _of_performance(models: Collection[str], person: Person) -> Part:
    table = performance_daily
    return table, table.c.model.in_(list(models)) & _has(table.c.slice_value, person.hashes)


def _lists(connection: sa.Connection, models: Collection[str], person: Person) -> dict[int, dict[str, Any]]:
    """Map each message of an action with rows of the person's entities to its content without them."""
    if not person.entities:
        return {}
    m = schema.messages.c
    lists = sa.select(m.id, m.payload).where(
        m.kind == KIND, m.payload["model"].astext.in_(list(models)), m.payload.has_key("top")
    )
    left = {id_: (before, without_rows(before, person.entities)) for id_, before in connection.execute(lists)}
    return {id_: after for id_, (before, after) in left.items() if after != before}


def _digests(person: Person) -> list[str]:
    return [label_digest(hashed) for hashed in person.hashes]


def _had_labels(person: Person) -> sa.ColumnElement[bool]:
    return training_summaries.having_labels(_digests(person))


def _of_texts(table: sa.Table, names: Sequence[str], person: Person) -> Part:
    return table, sa.or_(*(_has(table.c[name], person.hashes) for name in names))


def _erase_predictions(connection: sa.Connection, models: Collection[str], person: Person) -> None:
    """Remove predictions, and correct rows and digest of the batches that they were in."""
    removed = sa.delete(predictions).where(_of_predictions(models, person)[1]).returning(predictions.c.batch_id)
    found = pl.Series("batch_id", [str(each) for each in connection.scalars(removed)], pl.String)
    for batch_id, count_removed in found.value_counts(name="n").rows():
        rows = rows_of_batch(connection, batch_id)
        corrected = {"rows": rows.height, "digest": batch_digest(rows), "erased": batches.c.erased + count_removed}
        connection.execute(sa.update(batches).where(batches.c.batch_id == batch_id).values(**corrected))


def _erase_outcomes(connection: sa.Connection, project: Project, person: Person, known: Pairs) -> None:
    removing = sa.delete(outcomes).where(_of_outcomes(project, person, known)[1])
    changed = {tuple(row) for row in connection.execute(removing.returning(outcomes.c.outcome, outcomes.c.day))}
    for outcome, day in sorted(changed):
        of_day = (outcomes.c.project == project.name) & (outcomes.c.outcome == outcome) & (outcomes.c.day == day)
        left = sa.select(outcomes.c.entity_id, outcomes.c.value).where(of_day)
        types = {"entity_id": pl.String(), "value": pl.Float64()}
        rows = pl.DataFrame([tuple(row) for row in connection.execute(left)], schema=types, orient="row")
        there = (outcome_days.c.project == project.name) & (outcome_days.c.outcome == outcome)
        corrected = {"rows": rows.height, "digest": rows_digest(rows, "value")}
        connection.execute(sa.update(outcome_days).where(there, outcome_days.c.day == day).values(**corrected))


def _erase_examples(connection: sa.Connection, project: Project, lines: Mapping[str, Collection[int]]) -> None:
    """Remove the person's rows from the examples of results of validation."""
    table = quality_results
    of_deliveries = (table.c.project == project.name) & table.c.delivery_id.in_(list(lines))
    for id_, delivery, examples in connection.execute(
        sa.select(table.c.id, table.c.delivery_id, table.c.examples).where(of_deliveries)
    ).all():
        kept = [example for example in examples if example.get("row") not in lines[delivery]]
        if kept != examples:
            connection.execute(sa.update(table).where(table.c.id == id_).values(examples=kept))


def _scrub(connection: sa.Connection, table: sa.Table, names: Sequence[str], person: Person) -> None:
    is_immutable = table is schema.retrainings
    if is_immutable:
        connection.execute(sa.text(f"ALTER TABLE {table.name} DISABLE TRIGGER refuse_change"))
    for name in names:
        for needle in person.hashes:
            replaced = sa.func.replace(sa.cast(table.c[name], sa.Text), needle, ERASED)
            values = {name: sa.cast(replaced, table.c[name].type)}
            connection.execute(sa.update(table).where(_has(table.c[name], [needle])).values(values))
    if is_immutable:
        connection.execute(sa.text(f"ALTER TABLE {table.name} ENABLE TRIGGER refuse_change"))


def search(url: str, needles: Iterable[str], *, besides: Collection[str] = ()) -> dict[str, int]:
    """Return how many rows of each table of a database have one of these texts, whatever the column.

    Args:
        url: a database on PostgreSQL.
        needles: the texts.
        besides: tables that are not searched.
    """
    names = sa.text("SELECT oid::regclass::text, relname FROM pg_class WHERE relkind IN ('r', 'p') "
                    "AND NOT relispartition AND relpersistence <> 't' AND relnamespace NOT IN "
                    "('pg_catalog'::regnamespace, 'information_schema'::regnamespace)")  # fmt: skip
    found, texts = {}, list(needles)
    if not texts:  # nobody was erased yet
        return {}
    made = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg2"), poolclass=sa.NullPool)
    with made.begin() as connection:
        connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
        for quoted, name in connection.execute(names).all():
            if name in besides:
                continue
            having = " OR ".join(f"strpos(t::text, :needle{n}) > 0" for n in range(len(texts)))
            counting = f"SELECT count(*) FROM {quoted} t WHERE {having}"  # noqa: S608  # quoted by PostgreSQL
            values = {f"needle{n}": text for n, text in enumerate(texts)}
            if number := connection.scalar(sa.text(counting), values):
                found[name] = int(number)
    made.dispose()
    return found


def read_models(settings: Settings, project: str) -> list[str]:
    """Return the models of a project that have published, also those that are not declared any more."""
    with engine(settings).connect() as connection:
        return list(connection.scalars(sa.select(schema.models.c.model).where(schema.models.c.project == project)))


def read_versions(settings: Settings, models: Collection[str]) -> dict[str, list[int]]:
    """Map each model to its versions, in order."""
    table, found = schema.model_versions.c, dict[str, list[int]]()
    statement = sa.select(table.model, table.model_version).where(table.model.in_(list(models)))
    with engine(settings).connect() as connection:
        for model, version in connection.execute(statement.order_by(table.model, table.model_version)):
            found.setdefault(model, []).append(version)
    return found


def read_features_versions(
    settings: Settings, project: str, table: str, days: Collection[date]
) -> list[tuple[date, str, int]]:
    """Return day, data view and version of the features of some prepared days."""
    found = sa.select(
        prepared_days.c.day, prepared_days.c.data_view, prepared_days.c.table_versions[table].as_integer()
    )
    with engine(settings).connect() as connection:
        rows = connection.execute(found.where(prepared_days.c.project == project, prepared_days.c.day.in_(list(days))))
        return [(day, view, version) for day, view, version in rows if version is not None]

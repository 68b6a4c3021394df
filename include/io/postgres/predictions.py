"""Batches of predictions and the pointers that readers follow, in the shared database."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import adbc_driver_manager.dbapi
import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.config.model import Model
from include.core.interval import Interval
from include.core.names import entities_table
from include.core.project import Project
from include.core.records import PublishedDay, PublishMode, UnpublishedDay
from include.core.settings import Settings
from include.io.postgres.connection import LOCK, POSTGRESQL, engine, lock, read, stage, transaction
from include.io.postgres.migrations import entities as entity_tables


def batch_digest(rows: pl.DataFrame, *columns: str) -> str:
    """SHA-256 of one day's rows: how many, their `entity_id`s, then each column as little-endian float64 (null as
    NaN), all in the order of `entity_id`. The same from Arrow on its way in and from rows read back."""
    rows = rows.sort("entity_id")
    digest = hashlib.sha256(rows.height.to_bytes(8, "little"))
    digest.update("\0".join(rows["entity_id"]).encode())  # PostgreSQL's text cannot hold the separator
    for column in columns:
        digest.update(rows[column].to_numpy().astype("<f8").tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Batch:
    """The scores of one model version for one day, in brief."""

    batch_id: str
    day: date
    model_version: int
    rows: int
    digest: str
    as_of: datetime


def publish_batches(
    settings: Settings,
    project: Project,
    model: Model,
    batches: Sequence[Batch],
    scores: pl.DataFrame,
    entities: pl.DataFrame,
    mode: PublishMode,
) -> list[PublishedDay]:
    """Store batches and move the pointers of their days, in one transaction: readers see all of it or nothing.

    `scores`: day (date), entity_id (str), score and prediction (f64). `entities`: day, entity_id and the public
    columns. Sorted by day and entity_id the indexes are filled in order, and faster. A day is in `batches` once.
    A batch that is stored already is not stored again; mode `missing` leaves pointers and entities that are there.
    """
    stored = pl.DataFrame(
        [tuple(vars(b).values()) for b in batches],
        schema={
            "batch_id": pl.String,
            "day": pl.Date,
            "model_version": pl.Int32,
            "rows": pl.Int64,
            "digest": pl.String,
            "as_of": pl.Datetime("us", "UTC"),
        },
        orient="row",
    )
    with transaction(settings) as cursor:
        # what can be slow comes before the lock
        stage(
            cursor,
            "staged_batches",
            "batch_id text, day date, model_version integer, rows bigint, digest text, as_of timestamptz",
            stored,
        )
        stage(
            cursor,
            "staged_scores",
            "day date, entity_id text, score double precision, prediction double precision",
            scores.select("day", "entity_id", "score", "prediction"),
        )
        cursor.execute(LOCK, parameters=(f"publish {model.name}",))
        declared = (model.name, model.project, model.outcome, model.problem_type, model.title, model.owner)
        cursor.execute(
            "INSERT INTO models (model, project, outcome, problem_type, title, owner) VALUES ($1, $2, $3, $4, $5, $6) "
            "ON CONFLICT (model) DO NOTHING",
            parameters=declared,
        )
        cursor.execute(
            "UPDATE models SET project = $2, outcome = $3, problem_type = $4, title = $5, owner = $6 WHERE model = $1 "
            "AND (project, outcome, problem_type, title, owner) IS DISTINCT FROM ($2, $3, $4, $5, $6)",
            parameters=declared,
        )
        cursor.execute(
            "WITH made AS (INSERT INTO batches (batch_id, model, day, model_version, rows, digest, as_of, run_id) "
            "SELECT batch_id::uuid, $1, day, model_version, rows, digest, as_of, $2 FROM staged_batches ORDER BY day "
            "ON CONFLICT (batch_id) DO NOTHING RETURNING batch_id, model, day) "
            "INSERT INTO predictions (batch_id, model, day, entity_id, score, prediction) "
            "SELECT made.batch_id, made.model, made.day, s.entity_id, s.score, s.prediction "
            "FROM staged_scores s JOIN made ON made.day = s.day",
            parameters=(model.name, settings.run_id),
        )
        stage(cursor, "decided", "day date, batch_id uuid, replaced uuid, state text", pl.DataFrame())
        cursor.execute(
            "INSERT INTO decided SELECT s.day, s.batch_id::uuid, p.batch_id, CASE "
            "WHEN p.batch_id = s.batch_id::uuid THEN 'unchanged' "
            "WHEN p.batch_id IS NOT NULL AND $2 = 'missing' THEN 'kept' ELSE 'published' END "
            "FROM staged_batches s LEFT JOIN published p ON p.model = $1 AND p.day = s.day",
            parameters=(model.name, mode),
        )
        cursor.execute(
            "WITH moved AS (INSERT INTO publications (model, day, batch_id, replaced, mode, run_id, published_at) "
            "SELECT $1, day, batch_id, replaced, $2, $3, clock_timestamp() FROM decided "
            "WHERE state = 'published' ORDER BY day RETURNING model, day, batch_id, run_id, published_at) "
            "INSERT INTO published (model, day, batch_id, run_id, published_at) SELECT * FROM moved "
            "ON CONFLICT (model, day) DO UPDATE SET batch_id = excluded.batch_id, run_id = excluded.run_id, "
            "published_at = excluded.published_at",
            parameters=(model.name, mode, settings.run_id),
        )
        _write_entities(cursor, project, entities, mode)
        cursor.execute(
            "SELECT d.day, d.batch_id::text, d.state, s.rows, CASE WHEN d.state = 'kept' THEN (SELECT count(*) "
            "FROM (SELECT entity_id, score, prediction FROM predictions WHERE batch_id = d.batch_id) n "
            "FULL JOIN (SELECT entity_id, score, prediction FROM predictions WHERE batch_id = d.replaced) o "
            "USING (entity_id) WHERE (n.score, n.prediction) IS DISTINCT FROM (o.score, o.prediction)) ELSE 0 END "
            "FROM decided d JOIN staged_batches s ON s.day = d.day ORDER BY d.day"
        )
        return [
            PublishedDay(day=day, batch_id=batch_id, state=state, rows=rows, differing=differing)
            for day, batch_id, state, rows, differing in cursor.fetchall()
        ]


def _write_entities(
    cursor: adbc_driver_manager.dbapi.Cursor, project: Project, entities: pl.DataFrame, mode: PublishMode
) -> None:
    """Entities are added and corrected, never taken away: another model's batch may still be about them."""
    types = entity_tables.sql_types(project)
    quote = POSTGRESQL.identifier_preparer.quote_identifier
    declared = ", ".join(f"{quote(name)} {sql_type}" for name, sql_type in types.items())
    stage(cursor, "staged_entities", declared, entities.select(list(types)))
    cursor.execute(LOCK, parameters=(f"entities {project.name}",))

    corrected = project.entity.public if mode == "replace" else ()
    stored = sa.table(entities_table(project.name), *map(sa.column, types))
    staged = sa.table("staged_entities", *map(sa.column, types))
    both = staged.outerjoin(stored, (stored.c.day == staged.c.day) & (stored.c.entity_id == staged.c.entity_id))
    # rows that are as they were are kept away from ON CONFLICT, which would lock, and so write, each of them
    changed = [stored.c.day.is_(None), *(stored.c[name].is_distinct_from(staged.c[name]) for name in corrected)]
    inserting = postgresql.insert(stored).from_select(
        list(types), sa.select(*staged.c).select_from(both).where(sa.or_(*changed))
    )
    if corrected:
        inserting = inserting.on_conflict_do_update(
            index_elements=["day", "entity_id"], set_={name: inserting.excluded[name] for name in corrected}
        )
    else:
        inserting = inserting.on_conflict_do_nothing(index_elements=["day", "entity_id"])
    cursor.execute(str(inserting.compile(dialect=POSTGRESQL)))


def unpublish(
    settings: Settings, model: str, interval: Interval, since: datetime | None = None
) -> list[UnpublishedDay]:
    """Move the pointer of each day back to what was published before its newest publication that still stands, all in
    one transaction; a day that had nothing before has no pointer then. Left out are days without a pointer, and those
    whose newest publication is of before `since`."""
    history = sa.text(
        "SELECT day, batch_id::text, mode, published_at FROM publications "
        "WHERE model = :model AND day BETWEEN :start AND :end ORDER BY id"
    )
    about = {"model": model, "run_id": settings.run_id}
    undone = []
    with engine(settings).begin() as connection:
        lock(connection, f"publish {model}")
        standing: dict[date, list[tuple[str, datetime]]] = {}  # day -> batches, each in place of the one before
        bounds = {"start": interval.start, "end": interval.end}
        for day, batch, mode, at in connection.execute(history, {**about, **bounds}):
            batches = standing.setdefault(day, [])
            if mode == "unpublish":
                batches.pop()
            else:
                batches.append((batch, at))
        for day, (*before, (newest, at)) in sorted((day, batches) for day, batches in standing.items() if batches):
            if since and at < since:
                continue
            back_to = before[-1][0] if before else None
            values = {**about, "day": day, "batch_id": back_to, "replaced": newest}
            connection.execute(
                sa.text(
                    "INSERT INTO publications (model, day, batch_id, replaced, mode, run_id, published_at) VALUES "
                    "(:model, :day, CAST(:batch_id AS uuid), CAST(:replaced AS uuid), 'unpublish', :run_id, "
                    "clock_timestamp())"
                ),
                values,
            )
            change = (
                "UPDATE published SET batch_id = CAST(:batch_id AS uuid), run_id = :run_id, "
                "published_at = clock_timestamp()"
                if back_to
                else "DELETE FROM published"
            )
            connection.execute(sa.text(f"{change} WHERE model = :model AND day = :day"), values)
            undone.append(UnpublishedDay(day=day, batch_id=back_to, undone=newest))
    return undone


def stored_batches(settings: Settings, model: str, interval: Interval) -> pl.DataFrame:
    """Each batch of the days, published or not: batch_id (str), day, model_version, rows, digest."""
    return read(
        settings,
        "SELECT batch_id::text, day, model_version, rows, digest FROM batches "
        "WHERE model = $1 AND day BETWEEN $2 AND $3 ORDER BY day, created_at",
        model,
        interval.start,
        interval.end,
    )


def stored_predictions(settings: Settings, model: str, interval: Interval) -> pl.DataFrame:
    """The rows of `stored_batches`: batch_id (str), model, day, entity_id, score, prediction, in no order."""
    return read(
        settings,
        "SELECT p.batch_id::text, p.model, p.day, p.entity_id, p.score, p.prediction FROM predictions p "
        "JOIN batches b ON b.batch_id = p.batch_id WHERE b.model = $1 AND b.day BETWEEN $2 AND $3",
        model,
        interval.start,
        interval.end,
    )


def pointers(settings: Settings, model: str, interval: Interval) -> pl.DataFrame:
    """What is published: day, batch_id (str), run_id, published_at; of its batch of_model, of_day, model_version,
    rows, as_of (null when there is none); champion: the day's version by the ledger as it was at published_at."""
    return read(
        settings,
        "SELECT s.day, s.batch_id::text, s.run_id, s.published_at, b.model AS of_model, b.day AS of_day, "
        "b.model_version, b.rows, b.as_of, (SELECT p.model_version FROM promotions p WHERE p.model = s.model "
        "AND p.from_day <= s.day AND p.created_at <= s.published_at ORDER BY p.from_day DESC, p.id DESC LIMIT 1) "
        "AS champion FROM published s LEFT JOIN batches b ON b.batch_id = s.batch_id "
        "WHERE s.model = $1 AND s.day BETWEEN $2 AND $3 ORDER BY s.day",
        model,
        interval.start,
        interval.end,
    )


def undescribed(settings: Settings, project: Project, model: str, interval: Interval) -> dict[date, int]:
    """Day -> how many published predictions have no row in the view of entities; days without any are absent."""
    entities = sa.table(entities_table(project.name), sa.column("day"), sa.column("entity_id"))
    published = sa.table("published", sa.column("model"), sa.column("day"), sa.column("batch_id"))
    predictions = sa.table("predictions", sa.column("batch_id"), sa.column("entity_id"))
    joined = published.join(predictions, predictions.c.batch_id == published.c.batch_id).outerjoin(
        entities, (entities.c.day == published.c.day) & (entities.c.entity_id == predictions.c.entity_id)
    )
    counting = (
        sa
        .select(published.c.day, sa.func.count())
        .select_from(joined)
        .where(published.c.model == model, published.c.day.between(interval.start, interval.end))
        .where(entities.c.entity_id.is_(None))
        .group_by(published.c.day)
    )
    with engine(settings).connect() as connection:
        return dict(connection.execute(counting).all())

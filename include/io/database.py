"""The shared PostgreSQL database: what most steps need of it. `ledger.py` has the gate's decisions and the promotions,
`performance.py` what `monitor` keeps; only they speak SQL. Small reads and writes by SQLAlchemy, bulk ones as Arrow
through ADBC (`COPY` into a temporary table, then one statement).

Here belongs how rows are stored so that nothing is doubled, half there or overwritten by something older. What the
rows should be is decided in `include/steps`. SQL is never formatted from values; identifiers only come from names
that `include/config.py` has validated, quoted.

Whoever writes the same thing as another at once waits for it, on an advisory lock held to the end of the transaction:
`promote <model>`, `publish <model>`, then `entities <project>` (always in that order), `outcomes <project>`,
`quality <project>`, `performance <model>`.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

import adbc_driver_manager.dbapi
import adbc_driver_postgresql.dbapi
import polars as pl
import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.util.exc import CommandError
from sqlalchemy.dialects import postgresql

from include.config import Model, Project
from include.contracts import Interval, Knowledge, Night, PublishedDay, PublishMode, UnpublishedDay
from include.errors import NeedsAttention
from include.io.migrations import entities as entity_tables
from include.naming import entities_table
from include.settings import Settings

MIGRATIONS = Path(__file__).parent / "migrations"
POSTGRESQL = postgresql.dialect(paramstyle="named")  # with psycopg2's, a % in a name would be doubled

# --- connections ------------------------------------------------------------------------------------------------------


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
def _transaction(settings: Settings) -> Iterator[adbc_driver_manager.dbapi.Cursor]:
    """A cursor whose work is committed at the end, or not at all."""
    with adbc(settings) as connection, connection.cursor() as cursor:
        yield cursor
        connection.commit()


def _read(settings: Settings, statement: str, *parameters: Any) -> pl.DataFrame:
    with adbc(settings) as connection, connection.cursor() as cursor:
        cursor.execute(statement, parameters=parameters)
        return pl.DataFrame(cursor.fetch_arrow_table())


def _stage(cursor: adbc_driver_manager.dbapi.Cursor, table: str, columns: str, rows: pl.DataFrame) -> None:
    """COPY a frame into a temporary table that goes with the transaction. `columns` is SQL."""
    cursor.execute(f"CREATE TEMP TABLE {table} ({columns}) ON COMMIT DROP")
    if rows.height:
        cursor.adbc_ingest(table, rows.to_arrow(), mode="append", temporary=True)


LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"


def lock(connection: sa.Connection, what: str) -> None:
    """Wait for whoever else has this lock; it is held to the end of the transaction."""
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:what, 0))"), {"what": what})


# --- migrations -------------------------------------------------------------------------------------------------------


def migrate(settings: Settings, projects: Sequence[Project]) -> str:
    """Bring the database up to this code, and the tables of entities up to the projects; returns the revision.

    All in one transaction; a second one at once waits, and then finds nothing to do.
    Raises `BadConfig` when the type of a public column changed, `NeedsAttention` when the database is newer.
    """
    config = AlembicConfig()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with engine(settings).begin() as connection:
        lock(connection, "migrate")
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise NeedsAttention(f"the database was migrated by newer code than this; deploy that: {error}") from error
        for project in projects:
            entity_tables.extend(connection, project)
        return str(connection.scalar(sa.text("SELECT version_num FROM nightly_ml_version")))


# --- nights -----------------------------------------------------------------------------------------------------------


def record_nights(settings: Settings, nights: Iterable[Night]) -> None:
    """What is prepared now, in place of what these nights said before."""
    rows = [
        {**n.model_dump(exclude={"deliveries"}), "deliveries": list(n.deliveries), "run_id": settings.run_id}
        for n in sorted(nights, key=lambda n: (n.project, n.day, n.knowledge))  # one order, so that two cannot deadlock
    ]
    if not rows:
        return
    statement = sa.text(
        "INSERT INTO nights (project, day, knowledge, as_of, deliveries, table_versions, rows, run_id) "
        "VALUES (:project, :day, :knowledge, :as_of, :deliveries, :table_versions, :rows, :run_id) "
        "ON CONFLICT (project, day, knowledge) DO UPDATE SET as_of = excluded.as_of, "
        "deliveries = excluded.deliveries, table_versions = excluded.table_versions, rows = excluded.rows, "
        "run_id = excluded.run_id, prepared_at = clock_timestamp()"
    ).bindparams(sa.bindparam("table_versions", type_=postgresql.JSONB))
    with engine(settings).begin() as connection:
        connection.execute(statement, rows)


def nights(settings: Settings, project: str, interval: Interval, knowledge: Knowledge = "night") -> list[Night]:
    """The prepared nights of the interval, in order of days."""
    with engine(settings).connect() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT project, day, knowledge, as_of, deliveries, table_versions, rows FROM nights "
                "WHERE project = :project AND knowledge = :knowledge AND day BETWEEN :start AND :end ORDER BY day"
            ),
            {"project": project, "knowledge": knowledge, "start": interval.start, "end": interval.end},
        )
        return [
            Night(**{**r, "as_of": r["as_of"].astimezone(UTC), "deliveries": tuple(r["deliveries"])})
            for r in rows.mappings()
        ]


def missing_nights(settings: Settings, project: str, interval: Interval, knowledge: Knowledge = "night") -> list[date]:
    """The days of the interval that are not prepared yet."""
    prepared = {n.day for n in nights(settings, project, interval, knowledge)}
    return [day for day in interval.days if day not in prepared]


# --- audit ------------------------------------------------------------------------------------------------------------


def record_quality(settings: Settings, results: Sequence[Mapping[str, Any]]) -> None:
    """What was found in deliveries, in place of what was found in the same ones before.

    One mapping an expectation and delivery: project, feed, day, delivery_id, expectation, column (str, may be empty),
    severity ("critical" or "warning"), success (bool), rows and unexpected_rows (int), observed (str or None),
    quarantined_rows (int), examples (list of mappings).
    """
    if not results:
        return
    checked = sorted({(r["project"], r["delivery_id"]) for r in results})
    rows = [
        {
            **{name: value for name, value in r.items() if name not in ("column", "rows")},
            "column_name": r["column"] or None,
            "rows_evaluated": r["rows"],
            "run_id": settings.run_id,
        }
        for r in results
    ]
    with engine(settings).begin() as connection:
        for project in sorted({project for project, _ in checked}):
            lock(connection, f"quality {project}")
            of_project = [delivery_id for each, delivery_id in checked if each == project]
            old = "DELETE FROM quality_results WHERE project = :project AND delivery_id = ANY(:delivery_ids)"
            connection.execute(sa.text(old), {"project": project, "delivery_ids": of_project})
        # an insert of SQLAlchemy's own goes in statements of many rows, a text in one a row
        columns: list[sa.ColumnClause[Any]] = [sa.column(name) for name in rows[0] if name != "examples"]
        table = sa.table("quality_results", *columns, sa.column("examples", postgresql.JSONB))
        connection.execute(sa.insert(table), rows)


def record_step(
    settings: Settings,
    step: str,
    project: str,
    interval: Interval,
    *,
    state: Literal["success", "skipped", "failed"],
    started_at: datetime,
    ended_at: datetime,
    model: str | None = None,
    rows: int | None = None,
    version: int | None = None,
    error: BaseException | None = None,
) -> None:
    """Add one line to the audit of steps. Of an error only the class is kept: its text can hold data."""
    values = {
        "project": project,
        "model": model,
        "step": step,
        "interval_start": interval.start,
        "interval_end": interval.end,
        "state": state,
        "rows": rows,
        "seconds": (ended_at - started_at).total_seconds(),
        "version": version,
        "error_class": type(error).__name__ if error is not None else None,
        "run_id": settings.run_id,
        "started_at": started_at,
        "ended_at": ended_at,
    }
    with engine(settings).begin() as connection:
        connection.execute(sa.insert(sa.table("step_runs", *map(sa.column, values))), values)


def done_days(settings: Settings, step: str, project: str, model: str | None = None) -> set[date]:
    """The days that this run (`settings.run_id`) did by a step, since it last ended as a whole (`reprocess`)."""
    with engine(settings).connect() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT DISTINCT CAST(d.day AS date) FROM step_runs s "
                "CROSS JOIN LATERAL generate_series(s.interval_start, s.interval_end, interval '1 day') AS d(day) "
                "WHERE s.run_id = :run_id AND s.step = :step AND s.project = :project "
                "AND s.model IS NOT DISTINCT FROM :model AND s.state <> 'failed' AND s.id > (SELECT coalesce(max(id), "
                "0) FROM step_runs WHERE run_id = :run_id AND project = :project AND step = 'reprocess' "
                "AND state = 'success')"
            ),
            {"run_id": settings.run_id, "step": step, "project": project, "model": model},
        )
        return {day for (day,) in rows}


# --- batches ----------------------------------------------------------------------------------------------------------


def content_digest(rows: pl.DataFrame, *columns: str) -> str:
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
    with _transaction(settings) as cursor:
        # what can be slow comes before the lock
        _stage(
            cursor,
            "staged_batches",
            "batch_id text, day date, model_version integer, rows bigint, digest text, as_of timestamptz",
            stored,
        )
        _stage(
            cursor,
            "staged_scores",
            "day date, entity_id text, score double precision, prediction double precision",
            scores.select("day", "entity_id", "score", "prediction"),
        )
        cursor.execute(LOCK, parameters=(f"publish {model.name}",))
        declared = (model.name, model.project, model.outcome, model.task, model.title, model.owner)
        cursor.execute(
            "INSERT INTO models (model, project, outcome, task, title, owner) VALUES ($1, $2, $3, $4, $5, $6) "
            "ON CONFLICT (model) DO NOTHING",
            parameters=declared,
        )
        cursor.execute(
            "UPDATE models SET project = $2, outcome = $3, task = $4, title = $5, owner = $6 WHERE model = $1 "
            "AND (project, outcome, task, title, owner) IS DISTINCT FROM ($2, $3, $4, $5, $6)",
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
        _stage(cursor, "decided", "day date, batch_id uuid, replaced uuid, state text", pl.DataFrame())
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
    _stage(cursor, "staged_entities", declared, entities.select(list(types)))
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
            if mode == "undo":
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
                    "(:model, :day, CAST(:batch_id AS uuid), CAST(:replaced AS uuid), 'undo', :run_id, "
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
    return _read(
        settings,
        "SELECT batch_id::text, day, model_version, rows, digest FROM batches "
        "WHERE model = $1 AND day BETWEEN $2 AND $3 ORDER BY day, created_at",
        model,
        interval.start,
        interval.end,
    )


def stored_predictions(settings: Settings, model: str, interval: Interval) -> pl.DataFrame:
    """The rows of `stored_batches`: batch_id (str), model, day, entity_id, score, prediction, in no order."""
    return _read(
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
    return _read(
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


# --- outcomes ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OutcomeDay:
    """What one delivery says about the outcomes of a day, in brief; also of a delivery without rows."""

    day: date
    delivery_id: str
    available_at: datetime
    rows: int
    digest: str


def newest_outcomes(settings: Settings, project: str, outcome: str) -> dict[date, tuple[datetime, str]]:
    """Day -> (available_at, delivery_id) of the delivery that its stored outcomes are from."""
    with engine(settings).connect() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT day, available_at, delivery_id FROM outcome_days "
                "WHERE project = :project AND outcome = :outcome"
            ),
            {"project": project, "outcome": outcome},
        )
        return {day: (moment.astimezone(UTC), delivery_id) for day, moment, delivery_id in rows}


def replace_outcomes(
    settings: Settings, project: str, outcome: str, days: Sequence[OutcomeDay], values: pl.DataFrame
) -> list[date]:
    """Take the outcomes of days from newer deliveries; returns the days that changed.

    `values`: day (date), entity_id (str), value (f64, null: known to have none), of all the `days`.
    A day is replaced whole, where (available_at, delivery_id) is greater than what is stored, so that any order ends
    the same; or where the same delivery says something else than before, since the outcome is declared otherwise now.
    """
    staged = pl.DataFrame(
        [tuple(vars(d).values()) for d in days],
        schema={
            "day": pl.Date,
            "delivery_id": pl.String,
            "available_at": pl.Datetime("us", "UTC"),
            "rows": pl.Int64,
            "digest": pl.String,
        },
        orient="row",
    )
    with _transaction(settings) as cursor:
        columns = "day date, delivery_id text, available_at timestamptz, rows bigint, digest text"
        _stage(cursor, "staged_days", columns, staged)
        columns = "day date, entity_id text, value double precision"
        _stage(cursor, "staged_values", columns, values.select("day", "entity_id", "value"))
        cursor.execute(LOCK, parameters=(f"outcomes {project}",))
        _stage(cursor, "newer", "day date, delivery_id text, available_at timestamptz", pl.DataFrame())
        cursor.execute(
            "WITH taken AS (INSERT INTO outcome_days AS o "
            "(project, outcome, day, delivery_id, available_at, rows, digest, run_id) "
            "SELECT $1, $2, day, delivery_id, available_at, rows, digest, $3 FROM staged_days "
            "ON CONFLICT (project, outcome, day) DO UPDATE SET delivery_id = excluded.delivery_id, "
            "available_at = excluded.available_at, rows = excluded.rows, digest = excluded.digest, "
            "run_id = excluded.run_id, recorded_at = clock_timestamp() "
            'WHERE (o.available_at, o.delivery_id COLLATE "C") '
            '< (excluded.available_at, excluded.delivery_id COLLATE "C") '
            "OR (o.delivery_id = excluded.delivery_id AND o.digest <> excluded.digest) "
            "RETURNING day, delivery_id, available_at) "
            "INSERT INTO newer SELECT * FROM taken",
            parameters=(project, outcome, settings.run_id),
        )
        cursor.execute(
            "DELETE FROM outcomes WHERE project = $1 AND outcome = $2 AND day IN (SELECT day FROM newer)",
            parameters=(project, outcome),
        )
        cursor.execute(
            "INSERT INTO outcomes (project, outcome, day, entity_id, value, delivery_id, available_at) "
            "SELECT $1, $2, v.day, v.entity_id, v.value, n.delivery_id, n.available_at "
            "FROM staged_values v JOIN newer n ON n.day = v.day",
            parameters=(project, outcome),
        )
        cursor.execute("SELECT day FROM newer ORDER BY day")
        return [day for (day,) in cursor.fetchall()]

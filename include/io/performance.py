"""What `monitor` keeps in the shared database: performance, freshness, alerts. SQL beside `database.py`, by its rules.

What is measured, when it is too poor and what is said about it is decided in `include/monitoring.py`.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime

import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.config import Model, Project
from include.contracts import Alert, Freshness, Interval
from include.io.database import engine, lock
from include.naming import entities_table
from include.settings import Settings

CHUNK_DAYS = 31  # bounds memory when much is measured at once
MEASURED_BY = 1  # counted up when the metrics are computed otherwise, so that all days are measured again

_PERFORMANCE = sa.table(
    "performance_daily",
    *map(
        sa.column,
        (
            "model",
            "day",
            "model_version",
            "slice",
            "slice_value",
            "metric",
            "value",
            "rows",
            "digest",
            "run_id",
        ),
    ),
)


@dataclass(frozen=True)
class Due:
    """A day whose published batch, outcomes or way of measuring are not those that it was measured from."""

    day: date
    model_version: int
    digest: str


# --- performance ------------------------------------------------------------------------------------------------------


def replace_performance(
    settings: Settings, project: Project, model: Model, measure: Callable[[pl.DataFrame], pl.DataFrame]
) -> tuple[list[date], int]:
    """Measure each published day with recorded outcomes that is not measured yet, or was from another batch, other
    outcomes or by another declaration; returns these days and how many rows they have now.

    `measure` gets the predictions of one day: entity_id, score, prediction, outcome (f64, null: not known or none),
    and the slices' columns as text, in the order of entity_id. It returns slice, slice_value, metric, value, rows.
    All days are replaced in one transaction, so that any order of runs ends the same and a killed one leaves nothing.
    A corrected public column of an entity counts when batch or outcomes of its day change next.
    """
    written = 0
    with engine(settings).begin() as writing:
        lock(writing, f"performance {model.name}")
        # What a day is measured from and its digest are of one moment, which is after the lock was had.
        with engine(settings).connect().execution_options(isolation_level="REPEATABLE READ") as reading:
            due = _due(reading, project, model)
            for start in range(0, len(due), CHUNK_DAYS):
                part = due[start : start + CHUNK_DAYS]
                rows = _predictions(reading, project, model, [d.day for d in part])
                measured = [
                    {**row, "model": model.name, "run_id": settings.run_id, **vars(d)}
                    for d in part
                    for row in measure(rows.filter(pl.col("day") == d.day).drop("day")).iter_rows(named=True)
                ]
                clearing = sa.delete(_PERFORMANCE).where(
                    _PERFORMANCE.c.model == model.name, _PERFORMANCE.c.day.in_([d.day for d in part])
                )
                writing.execute(clearing)
                if measured:
                    writing.execute(sa.insert(_PERFORMANCE), measured)
                written += len(measured)
    return [d.day for d in due], written


def _due(connection: sa.Connection, project: Project, model: Model) -> list[Due]:
    rows = connection.execute(
        sa.text(
            "SELECT s.day, b.model_version, CAST(s.batch_id AS text), o.digest, (SELECT p.digest "
            "FROM performance_daily p WHERE p.model = s.model AND p.day = s.day LIMIT 1) AS measured_from "
            "FROM published s JOIN batches b ON b.batch_id = s.batch_id "
            "JOIN outcome_days o ON o.project = :project AND o.outcome = :outcome AND o.day = s.day "
            "WHERE s.model = :model ORDER BY s.day"
        ),
        {"project": project.name, "outcome": model.outcome, "model": model.name},
    )
    how = [MEASURED_BY, model.task, model.outcome, sorted(model.monitor.slices), model.monitor.min_rows]
    due = []
    for day, version, batch, outcomes, measured_from in rows:
        digest = hashlib.sha256(json.dumps([batch, outcomes, how]).encode()).hexdigest()
        if digest != measured_from:
            due.append(Due(day, version, digest))
    return due


def _predictions(connection: sa.Connection, project: Project, model: Model, days: Sequence[date]) -> pl.DataFrame:
    published = sa.table("published", *map(sa.column, ("model", "day", "batch_id")))
    predictions = sa.table("predictions", *map(sa.column, ("batch_id", "entity_id", "score", "prediction")))
    outcomes = sa.table("outcomes", *map(sa.column, ("project", "outcome", "day", "entity_id", "value")))
    slices = model.monitor.slices
    entities = sa.table(entities_table(project.name), *map(sa.column, ("day", "entity_id", *slices)))
    this = (outcomes.c.project == project.name) & (outcomes.c.outcome == model.outcome)
    joined = (
        published
        .join(predictions, predictions.c.batch_id == published.c.batch_id)
        .outerjoin(
            outcomes, this & (outcomes.c.day == published.c.day) & (outcomes.c.entity_id == predictions.c.entity_id)
        )
        .outerjoin(entities, (entities.c.day == published.c.day) & (entities.c.entity_id == predictions.c.entity_id))
    )
    columns = (
        published.c.day,
        predictions.c.entity_id,
        predictions.c.score,
        predictions.c.prediction,
        outcomes.c.value,
    )
    selecting = (
        sa
        .select(*columns, *(sa.cast(entities.c[name], sa.Text) for name in slices))
        .select_from(joined)
        .where(published.c.model == model.name, published.c.day.in_(days))
        .order_by(published.c.day, predictions.c.entity_id)
    )
    schema = {
        "day": pl.Date(),
        "entity_id": pl.String(),
        "score": pl.Float64(),
        "prediction": pl.Float64(),
        "outcome": pl.Float64(),
        **dict.fromkeys(slices, pl.String()),
    }
    return pl.DataFrame([tuple(row) for row in connection.execute(selecting)], schema=schema, orient="row")


@dataclass(frozen=True)
class DayValue:
    """A metric over all rows of a day."""

    day: date
    model_version: int
    value: float


def measured_days(settings: Settings, model: str, metric: str, *, until: date, min_rows: int) -> list[DayValue]:
    """The days up to `until` whose metric is defined, on at least `min_rows` rows; the newest first."""
    with engine(settings).connect() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT day, model_version, value FROM performance_daily WHERE model = :model AND metric = :metric "
                "AND slice = 'all' AND value IS NOT NULL AND rows >= :min_rows AND day <= :until ORDER BY day DESC"
            ),
            {"model": model, "metric": metric, "min_rows": min_rows, "until": until},
        )
        return [DayValue(*row) for row in rows]


# --- freshness --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Punctuality:
    """What the audit columns say of a day's scores: the champion that the ledger named by the deadline, when the day
    was first published (UTC), and the newest published day up to it."""

    day: date
    champion: int | None
    first_published_at: datetime | None
    newest_day: date | None


def punctuality(settings: Settings, model: str, deadlines: Mapping[date, datetime]) -> dict[date, Punctuality]:
    """Of each day, with the moment by which its scores are due."""
    with engine(settings).connect() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT d.day, (SELECT p.model_version FROM promotions p WHERE p.model = :model "
                "AND p.from_day <= d.day AND p.created_at <= d.deadline ORDER BY p.from_day DESC, p.id DESC LIMIT 1), "
                "(SELECT min(h.published_at) FROM publications h WHERE h.model = :model AND h.day = d.day), "
                "(SELECT max(s.day) FROM published s WHERE s.model = :model AND s.day <= d.day) "
                "FROM unnest(CAST(:days AS date[]), CAST(:moments AS timestamptz[])) AS d(day, deadline)"
            ),
            {"model": model, "days": list(deadlines), "moments": list(deadlines.values())},
        )
        return {
            day: Punctuality(day, champion, first.astimezone(UTC) if first else None, newest)
            for day, champion, first, newest in rows
        }


@dataclass(frozen=True)
class PreparedNight:
    """When a night was prepared last (UTC), and how many rows of features it has."""

    day: date
    rows: int
    prepared_at: datetime


def prepared_nights(settings: Settings, project: str, *, until: date) -> dict[date, PreparedNight]:
    """All nights up to a day."""
    with engine(settings).connect() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT day, rows, prepared_at FROM nights "
                "WHERE project = :project AND knowledge = 'night' AND day <= :until"
            ),
            {"project": project, "until": until},
        )
        return {day: PreparedNight(day, count, moment.astimezone(UTC)) for day, count, moment in rows}


def record_freshness(settings: Settings, project: str, found: Sequence[Freshness]) -> None:
    """In place of what was found for the same run days before; what is as it was is not written."""
    if not found:
        return
    statement = sa.text(
        "INSERT INTO freshness AS f (project, subject, day, newest_day, behind_days, late, sentence, run_id) "
        "VALUES (:project, :subject, :day, :newest_day, :behind_days, :late, :sentence, :run_id) "
        "ON CONFLICT (project, subject, day) DO UPDATE SET newest_day = excluded.newest_day, "
        "behind_days = excluded.behind_days, late = excluded.late, sentence = excluded.sentence, "
        "run_id = excluded.run_id, measured_at = clock_timestamp() "
        "WHERE (f.newest_day, f.behind_days, f.late, f.sentence) IS DISTINCT FROM "
        "(excluded.newest_day, excluded.behind_days, excluded.late, excluded.sentence)"
    )
    with engine(settings).begin() as connection:
        ordered = sorted(found, key=lambda f: (f.day, f.subject))  # one order, so that two cannot deadlock
        connection.execute(
            statement, [{**f.model_dump(), "project": project, "run_id": settings.run_id} for f in ordered]
        )


# --- alerts -----------------------------------------------------------------------------------------------------------


def raise_alerts(settings: Settings, project: str, alerts: Sequence[Alert]) -> tuple[Alert, ...]:
    """Record alerts, once each (subject, rule, run day); returns those that were not there yet."""
    table = sa.table("alerts", *map(sa.column, ("project", "subject", "rule", "day", "sentence", "run_id", "id")))
    raised = []
    with engine(settings).begin() as connection:
        for alert in sorted(alerts, key=lambda a: (a.day, a.subject, a.rule)):
            inserting = postgresql.insert(table).values(project=project, run_id=settings.run_id, **alert.model_dump())
            inserting = inserting.on_conflict_do_nothing(index_elements=["project", "subject", "rule", "day"])
            if connection.execute(inserting.returning(table.c.id)).one_or_none():
                raised.append(alert)
    return tuple(raised)


@contextmanager
def telling(settings: Settings, project: str, run_days: Interval) -> Iterator[tuple[Alert, ...]]:
    """The alerts of these run days that nobody was told of yet; they count as told when the block ends well.

    Until then another teller does not see them, and a killed one leaves them for the next: people are told at least
    once, and twice only by one that was killed between sending and the end of the block.
    """
    with engine(settings).begin() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT id, subject, rule, day, sentence FROM alerts WHERE project = :project "
                "AND day BETWEEN :start AND :end AND notified_at IS NULL ORDER BY id FOR UPDATE SKIP LOCKED"
            ),
            {"project": project, "start": run_days.start, "end": run_days.end},
        ).all()
        yield tuple(Alert(subject=r.subject, rule=r.rule, day=r.day, sentence=r.sentence) for r in rows)
        if rows:
            connection.execute(
                sa.text("UPDATE alerts SET notified_at = clock_timestamp() WHERE id = ANY(:ids)"),
                {"ids": [r.id for r in rows]},
            )

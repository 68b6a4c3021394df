"""Performance of published scores, in the shared database."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl
import sqlalchemy as sa

from include.config.model import Model
from include.core.interval import BLOCK_DAYS
from include.core.names import entities_table
from include.core.project import Project
from include.core.settings import Settings
from include.io.postgres.connection import engine, lock
from include.monitoring.records import DayValue

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
            for start in range(0, len(due), BLOCK_DAYS):
                part = due[start : start + BLOCK_DAYS]
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
    how = [MEASURED_BY, model.problem_type, model.outcome, sorted(model.monitor.slices), model.monitor.min_rows]
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

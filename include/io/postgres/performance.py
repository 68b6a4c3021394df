"""Performance of published predictions, in the shared database."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.core.feeds import HORIZON
from include.core.interval import BLOCK_DAYS
from include.core.project import Project
from include.core.schemas import PREDICTION_COLUMNS
from include.core.settings import Settings
from include.io.postgres import schema
from include.io.postgres.connection import engine, lock
from include.io.postgres.schema import batches, outcome_days, outcomes, performance_daily, predictions, published
from include.monitoring.records import DayValue, MonitoredModel

MEASURED_BY = 2  # increase it when the metrics are computed differently, so that all days are measured again


@dataclass(frozen=True)
class Due:
    """A day to be measured: its published batch, its outcomes or the declaration changed since the last time."""

    day: date
    model_version: int
    digest: str


def replace_performance(
    settings: Settings,
    project: Project,
    model: MonitoredModel,
    *,
    slices: Sequence[str],
    min_rows: int,
    measure: Callable[[pl.DataFrame], pl.DataFrame],
) -> tuple[int, int]:
    """Measure each published day with outcomes that was not measured yet, or whose basis has changed since.

    The basis is the published batch, the outcomes of its target days and what the model declares. A corrected public
    column of an entity counts only when the batch or the outcomes of its day change next. All days are replaced in one
    transaction: runs in any order end with the same rows, and a killed run leaves nothing behind.

    Args:
        settings: the database and the id of this run.
        project: the model's project.
        model: the model to measure.
        slices: public columns of the entity that `measure` gets too.
        min_rows: of a slice; a day is measured again when slices or rows are declared otherwise.
        measure: gets the predictions of one run date, sorted by horizon and entity_id: horizon, entity_id, the columns
            of predictions, outcome (f64, null if unknown or none), and the slices' columns as text. Returns slice,
            slice_value, metric, value, rows.

    Returns:
        The number of days that were measured, and of rows written.
    """
    written = 0
    problem = [model.problem_type, model.quantiles, model.classes]
    how = [MEASURED_BY, *problem, model.outcome, sorted(slices), min_rows]
    with engine(settings).begin() as writing:
        lock(writing, f"performance {model.name}")
        # The rows that a day is measured from and their digest must be of one moment, after the lock was acquired.
        with engine(settings).connect().execution_options(isolation_level="REPEATABLE READ") as reading:
            due = _read_due(reading, project, model, how)
            for start in range(0, len(due), BLOCK_DAYS):
                part = due[start : start + BLOCK_DAYS]
                rows = _read_predictions(reading, project, model, slices, [d.day for d in part])
                measured = [
                    {**row, "model": model.name, "run_id": settings.run_id, **vars(d)}
                    for d in part
                    for row in measure(rows.filter(pl.col("day") == d.day).drop("day")).iter_rows(named=True)
                ]
                table = performance_daily
                days = [d.day for d in part]
                writing.execute(sa.delete(table).where(table.c.model == model.name, table.c.day.in_(days)))
                if measured:
                    writing.execute(sa.insert(table), measured)
                written += len(measured)
    return len(due), written


def _read_due(connection: sa.Connection, project: Project, model: MonitoredModel, how: list[Any]) -> list[Due]:
    s, b, o, p = published.c, batches.c, outcome_days.c, performance_daily.c
    measured_from = sa.select(p.digest).where(p.model == s.model, p.day == s.day).limit(1).scalar_subquery()
    of_outcomes = sa.func.string_agg(o.digest, postgresql.aggregate_order_by(sa.literal(" "), o.day))
    target_days = o.day.between(s.day, s.day + b.horizon_days)
    statement = (
        sa
        .select(s.day, b.model_version, s.batch_id, of_outcomes, measured_from)
        .select_from(
            published.join(batches, b.batch_id == s.batch_id).join(
                outcome_days, (o.project == project.name) & (o.outcome == model.outcome) & target_days
            )
        )
        .where(s.model == model.name)
        .group_by(s.model, s.day, b.model_version, s.batch_id)
        .order_by(s.day)
    )
    due = []
    for day, version, batch, of_outcomes, before in connection.execute(statement):
        digest = hashlib.sha256(json.dumps([batch, of_outcomes, how]).encode()).hexdigest()
        if digest != before:
            due.append(Due(day, version, digest))
    return due


def _read_predictions(
    connection: sa.Connection, project: Project, model: MonitoredModel, slices: Sequence[str], days: Sequence[date]
) -> pl.DataFrame:
    entities = schema.entities(project.name, *slices)
    s, p, o, e = published.c, predictions.c, outcomes.c, entities.c
    of_outcome = (o.project == project.name) & (o.outcome == model.outcome)
    joined = (
        published
        .join(predictions, (p.batch_id == s.batch_id) & (p.day == s.day))
        .outerjoin(outcomes, of_outcome & (o.day == s.day + p.horizon) & (o.entity_id == p.entity_id))
        .outerjoin(entities, (e.day == s.day) & (e.horizon == p.horizon) & (e.entity_id == p.entity_id))
    )
    statement = (
        sa
        .select(s.day, p.horizon, p.entity_id, *schema.as_predicted(p), o.value)
        .add_columns(*(sa.cast(e[name], sa.Text) for name in slices))
        .select_from(joined)
        .where(s.model == model.name, s.day.in_(days))
        .order_by(s.day, p.horizon, p.entity_id)
    )
    frame_schema = {
        "day": pl.Date(),
        HORIZON: pl.Int32(),
        "entity_id": pl.String(),
        **PREDICTION_COLUMNS,
        "outcome": pl.Float64(),
        **dict.fromkeys(slices, pl.String()),
    }
    return pl.DataFrame([tuple(row) for row in connection.execute(statement)], schema=frame_schema, orient="row")


def read_measured_days(settings: Settings, model: str, metric: str, *, until: date, min_rows: int) -> list[DayValue]:
    """Return the days up to `until` whose metric is defined on at least `min_rows` rows, the newest first.

    A day with predictions for later days is left out as long as `until` is before the last of these.
    """
    p, s, b = performance_daily.c, published.c, batches.c
    batch = published.join(batches, b.batch_id == s.batch_id)
    horizon_days = sa.func.coalesce(b.horizon_days, 0)  # an unpublished day has no batch any more
    statement = (
        sa
        .select(p.day, p.model_version, p.value, horizon_days)
        .select_from(performance_daily.outerjoin(batch, (s.model == p.model) & (s.day == p.day)))
        .where(p.model == model, p.metric == metric, p.slice == "all", p.value.is_not(None))
        .where(p.rows >= min_rows, p.day + horizon_days <= until)
        .order_by(p.day.desc())
    )
    with engine(settings).connect() as connection:
        return [DayValue(*row) for row in connection.execute(statement)]

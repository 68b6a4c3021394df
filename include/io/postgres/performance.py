"""Performance of published predictions, in the shared database."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import adbc_driver_manager.dbapi
import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.core.feeds import HORIZON
from include.core.project import Project
from include.core.settings import Settings
from include.io.postgres import schema
from include.io.postgres.connection import engine, execute, lock, transaction
from include.io.postgres.schema import batches, outcome_days, performance_daily, published
from include.io.postgres.with_outcomes import read_whole_day, select_with_outcomes
from include.monitoring.records import DayValue, MonitoredModel

MEASURED_BY = 2  # increase it when the metrics are computed differently, so that all days are measured again


@dataclass(frozen=True)
class Due:
    """A day to be measured: its published batch, its outcomes or the declaration changed since the last time."""

    day: date
    batch_id: str
    model_version: int
    horizon_days: int
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
            slice_value, metric, value, rows. One run date is in memory at a time.

    Returns:
        The number of days that were measured, and of rows written.
    """
    written = 0
    problem = [model.problem_type, model.quantiles, model.classes]
    how = [MEASURED_BY, *problem, model.outcome, sorted(slices), min_rows]
    with engine(settings).begin() as writing:
        lock(writing, f"performance {model.name}")
        # The rows that a day is measured from and their digest must be of one moment, after the lock was acquired.
        with transaction(settings, of_one_moment=True) as reading:
            due = _read_due(reading, project, model, how)
            for each in due:
                measured = measure(_read_predictions(reading, project, model, slices, each))
                about = {
                    "model": model.name,
                    "day": each.day,
                    "model_version": each.model_version,
                    "digest": each.digest,
                    "run_id": settings.run_id,
                }
                own = (performance_daily.c.model == model.name) & (performance_daily.c.day == each.day)
                writing.execute(sa.delete(performance_daily).where(own))
                if rows := [row | about for row in measured.iter_rows(named=True)]:
                    writing.execute(sa.insert(performance_daily), rows)
                written += len(rows)
    return len(due), written


def _read_due(
    reading: adbc_driver_manager.dbapi.Cursor, project: Project, model: MonitoredModel, how: list[Any]
) -> list[Due]:
    s, b, o, p = published.c, batches.c, outcome_days.c, performance_daily.c
    measured_from = (
        sa.select(p.digest).where(p.model == s.model, p.day == s.day).limit(sa.literal_column("1")).scalar_subquery()
    )
    of_outcomes = sa.func.string_agg(o.digest, postgresql.aggregate_order_by(sa.literal_column("' '"), o.day))
    target_days = o.day.between(s.day, s.day + b.horizon_days)
    of_model = sa.literal(model.name, schema.TEXT)
    statement = (
        sa
        .select(s.day, sa.cast(s.batch_id, schema.TEXT), b.model_version, b.horizon_days, of_outcomes, measured_from)
        .select_from(
            published.join(batches, b.batch_id == s.batch_id).join(
                outcome_days, (o.project == project.name) & (o.outcome == model.outcome) & target_days
            )
        )
        .where(s.model == of_model)
        .group_by(s.model, s.day, b.model_version, b.horizon_days, s.batch_id)
        .order_by(s.day)
    )
    execute(reading, statement)
    due = []
    for day, batch, version, horizon_days, of_outcomes, before in reading.fetchall():
        digest = hashlib.sha256(json.dumps([batch, of_outcomes, how]).encode()).hexdigest()
        if digest != before:
            due.append(Due(day, batch, version, horizon_days, digest))
    return due


def _read_predictions(
    reading: adbc_driver_manager.dbapi.Cursor, project: Project, model: MonitoredModel, slices: Sequence[str], due: Due
) -> pl.DataFrame:
    rows = select_with_outcomes(project, model.outcome, due.batch_id, due.day, due.horizon_days, slices)
    return read_whole_day(reading, rows).sort(HORIZON, "entity_id")


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

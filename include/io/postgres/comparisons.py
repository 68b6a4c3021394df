"""The champion beside former champions and the dummy baseline, in the shared database."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.core.feeds import HORIZON
from include.core.project import Project
from include.core.schemas import PREDICTION_COLUMNS
from include.core.settings import Settings
from include.io.postgres import schema
from include.io.postgres.connection import engine, lock, transaction
from include.io.postgres.promotions import read_earlier_champions
from include.io.postgres.schema import (
    batches,
    champion_comparisons,
    outcome_days,
    outcomes,
    predictions,
    published,
)
from include.io.postgres.with_outcomes import read_whole_day, select_with_outcomes
from include.monitoring.degradation import ComparedDay, Comparison
from include.monitoring.records import MonitoredModel

MEASURED_BY = 1  # increase it when the losses are computed differently, so that all days are compared again


@dataclass(frozen=True)
class DueComparison:
    """A run date to compare: its published batch, the version that made it, and former champions, the newest first."""

    day: date
    batch_id: str
    version: int
    horizon_days: int
    former: tuple[int, ...]
    digest: str


def read_due(
    settings: Settings, project: Project, model: MonitoredModel, declared: Comparison, since: date
) -> list[DueComparison]:
    """Return the published run dates from `since` on, with outcomes, that were not compared yet or whose basis changed.

    The basis is the published batch, the outcomes of its target days, the former champions and what is declared.
    """
    s, b, o, c = published.c, batches.c, outcome_days.c, champion_comparisons.c
    compared_from = sa.select(c.digest).where(c.model == s.model, c.day == s.day).limit(1).scalar_subquery()
    of_outcomes = sa.func.string_agg(o.digest, postgresql.aggregate_order_by(sa.literal(" "), o.day))
    target_days = o.day.between(s.day, s.day + b.horizon_days)
    statement = (
        sa
        .select(s.day, sa.cast(s.batch_id, sa.Text), b.model_version, b.horizon_days, of_outcomes, compared_from)
        .select_from(
            published.join(batches, b.batch_id == s.batch_id).join(
                outcome_days, (o.project == project.name) & (o.outcome == model.outcome) & target_days
            )
        )
        .where(s.model == model.name, s.day >= since)
        .group_by(s.model, s.day, s.batch_id, b.model_version, b.horizon_days)
        .order_by(s.day)
    )
    with engine(settings).connect() as connection:
        rows = connection.execute(statement).all()
    champions = read_earlier_champions(settings, model.name, [row.day for row in rows], declared.last + 1)
    how = [MEASURED_BY, model.problem_type, model.quantiles, model.classes, model.outcome, declared.rows]
    due = []
    for day, batch_id, version, horizon_days, digests, before in rows:
        former = [each for each in champions.get(day, []) if each != version][: declared.last]
        basis = [batch_id, digests, former, sorted(declared.slices), how]
        digest = hashlib.sha256(json.dumps(basis).encode()).hexdigest()
        if digest != before:
            due.append(DueComparison(day, batch_id, version, horizon_days, tuple(former), digest))
    return due


def read_rows(
    settings: Settings, project: Project, model: MonitoredModel, due: DueComparison, declared: Comparison
) -> pl.DataFrame:
    """Return so many published rows of a run date that have an outcome, the same ones each time.

    Returns:
        day, horizon, entity_id, the columns of predictions, outcome (f64) and the slices' columns as text, sorted.
    """
    rows = select_with_outcomes(project, model.outcome, due.batch_id, due.day, due.horizon_days, declared.slices)
    key = sa.func.concat_ws(
        sa.literal_column("' '"), sa.literal_column(f"'{due.day}'"), predictions.c.horizon, predictions.c.entity_id
    )
    statement = (
        rows
        .where(outcomes.c.value.is_not(None))
        .order_by(sa.func.sha256(sa.func.convert_to(key, sa.literal_column("'UTF8'"))))
        .limit(sa.literal_column(str(declared.rows)))
    )
    with transaction(settings) as reading:
        found = read_whole_day(reading, statement)
    return found.select(pl.lit(due.day).alias("day"), pl.all()).sort(HORIZON, "entity_id")


def read_stored(settings: Settings, model: str, day: date, version: int, keys: pl.DataFrame) -> pl.DataFrame | None:
    """Return the stored predictions of another version for the same rows, as it made them for the day or as a shadow.

    Args:
        settings: the database.
        model: its name.
        day: the run date.
        version: the version.
        keys: horizon and entity_id of the rows.

    Returns:
        horizon, entity_id and the columns of predictions in the order of `keys`; None if rows are missing.
    """
    b, p = batches.c, predictions.c
    newest = (
        sa
        .select(b.batch_id)
        .where(b.model == model, b.day == day, b.model_version == version)
        .order_by(b.created_at.desc())
        .limit(1)
        .scalar_subquery()
    )
    statement = sa.select(p.horizon, p.entity_id, *schema.as_predicted(p)).where(
        p.batch_id == newest, p.day == day, p.entity_id.in_(keys["entity_id"].unique().to_list())
    )
    types: dict[str, Any] = {HORIZON: pl.Int32(), "entity_id": pl.String(), **PREDICTION_COLUMNS}
    with engine(settings).connect() as connection:
        found = pl.DataFrame([tuple(row) for row in connection.execute(statement)], schema=types, orient="row")
    joined = keys.select(HORIZON, "entity_id").join(found, on=[HORIZON, "entity_id"], maintain_order="left")
    return joined if joined.height == keys.height else None


def replace_comparisons(
    settings: Settings,
    model: MonitoredModel,
    compared: Mapping[DueComparison, Sequence[ComparedDay]],
) -> None:
    """Replace the comparisons of some run dates in one transaction."""
    table = champion_comparisons
    rows = [
        {
            "model": model.name,
            "day": due.day,
            "model_version": each.version,
            "slice": each.slice,
            "slice_value": each.value,
            "place": each.place,
            "champion_version": due.version,
            "last_day": each.last_day,
            "metric": model.problem.chosen_by,
            "rows": each.rows,
            "loss": each.loss,
            "digest": due.digest,
            "run_id": settings.run_id,
        }
        for due, of_day in compared.items()
        for each in of_day
    ]
    with engine(settings).begin() as connection:
        lock(connection, f"comparisons {model.name}")
        of_days = table.c.day.in_([due.day for due in compared])
        connection.execute(sa.delete(table).where(table.c.model == model.name, of_days))
        if rows:
            connection.execute(sa.insert(table), rows)


def read_compared(settings: Settings, model: str, *, since: date, until: date) -> list[ComparedDay]:
    """Return the comparisons of the run dates of a range, in order of days."""
    c = champion_comparisons.c
    columns = (c.day, c.last_day, c.place, c.model_version, c.slice, c.slice_value, c.rows, c.loss)
    statement = (
        sa
        .select(*columns)
        .where(c.model == model, c.day.between(since, until))
        .order_by(c.day, c.place, c.slice, c.slice_value)
    )
    with engine(settings).connect() as connection:
        return [ComparedDay(*row) for row in connection.execute(statement)]

"""Shadows, in the shared database: their measured days, and how each ended.

Their predictions are batches as all others (`predictions.py`) that no pointer names.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import date

import adbc_driver_manager.dbapi
import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.core.feeds import HORIZON
from include.core.interval import Interval
from include.core.project import Project
from include.core.settings import Settings
from include.gate.shadow import ShadowDay
from include.io.postgres.connection import engine, execute, lock, transaction
from include.io.postgres.schema import batches, outcome_days, outcomes, published, shadow_days, shadow_ends
from include.io.postgres.with_outcomes import read_whole_day, select_with_outcomes
from include.monitoring.records import MonitoredModel

MEASURED_BY = 1  # increase it when the losses are computed differently, so that all days are measured again


@dataclass(frozen=True)
class ShadowEnd:
    """How a shadow ended: see the comments of `schema.shadow_ends`."""

    model_version: int
    day: date
    champion_version: int | None
    passed: bool
    days: int
    rows: int
    measured: float | None
    threshold: float
    sentence: str


@dataclass(frozen=True)
class _Pair:
    """The batches of shadow and champion for a day whose outcomes are all known."""

    day: date
    own: str
    champion: str
    horizon_days: int
    digest: str


def replace_shadow_days(
    settings: Settings,
    project: Project,
    model: MonitoredModel,
    *,
    version: int,
    champion: int,
    days: Interval,
    until: date,
    measure: Callable[[pl.DataFrame, pl.DataFrame], tuple[float, float]],
) -> list[ShadowDay]:
    """Measure each day that shadow and champion scored and whose outcomes are known, if it changed since the last time.

    Args:
        settings: the database and the id of this run.
        project: the model's project.
        model: the model.
        version: the shadow.
        champion: the version that it is compared with. Of a day that has several batches of it, the published one
            counts, otherwise the newest.
        days: the run dates that may count.
        until: the newest day whose outcomes may count.
        measure: gets the rows of shadow and champion, at least one each and in the same order: the columns of
            predictions and outcome (f64, never null). Returns the mean loss of each.

    Returns:
        The measured days with at least one row, the oldest first.
    """
    table = shadow_days.c
    of_shadow = (table.model == model.name) & (table.model_version == version)
    columns = [table[each.name] for each in fields(ShadowDay)]
    with engine(settings).begin() as writing:
        lock(writing, f"shadow {model.name}")
        # Batches, outcomes and their digests must be of one moment, after the lock was acquired.
        with transaction(settings, of_one_moment=True) as reading:
            pairs = _read_pairs(reading, project, model, version, champion, days, until)
            found = writing.execute(sa.select(table.day, table.digest).where(of_shadow))
            before = {row.day: row.digest for row in found}
            changed = [pair for pair in pairs if before.get(pair.day) != pair.digest]
            gone = [day for day in before if day not in {pair.day for pair in pairs}]
            outdated = [*gone, *(pair.day for pair in changed)]
            writing.execute(sa.delete(shadow_days).where(of_shadow, table.day.in_(outdated)))
            for pair in changed:
                own, other = (_read_rows(reading, project, model, pair, b) for b in (pair.own, pair.champion))
                own, other = _same_rows(own, other)
                if own.is_empty():
                    continue
                loss, champion_loss = measure(own, other)
                writing.execute(
                    sa.insert(shadow_days).values(
                        model=model.name,
                        model_version=version,
                        day=pair.day,
                        champion_version=champion,
                        metric=model.problem.chosen_by,
                        rows=own.height,
                        loss=loss,
                        champion_loss=champion_loss,
                        digest=pair.digest,
                        run_id=settings.run_id,
                    )
                )
        measured = writing.execute(sa.select(*columns).where(of_shadow).order_by(table.day))
        return [ShadowDay(*row) for row in measured]


def read_ends(settings: Settings, model: str) -> dict[int, ShadowEnd]:
    """Return how each shadow of a model ended, by version."""
    with engine(settings).connect() as connection:
        return select_ends(connection, model)


def select_ends(connection: sa.Connection, model: str) -> dict[int, ShadowEnd]:
    """Return the same as `read_ends`, in the caller's transaction."""
    columns = [shadow_ends.c[each.name] for each in fields(ShadowEnd)]
    rows = connection.execute(sa.select(*columns).where(shadow_ends.c.model == model))
    return {row.model_version: ShadowEnd(**row._mapping) for row in rows}


def insert_end(connection: sa.Connection, model: str, end: ShadowEnd, run_id: str) -> None:
    """Record how a shadow ended, in the caller's transaction."""
    connection.execute(sa.insert(shadow_ends).values(model=model, run_id=run_id, **vars(end)))


def _read_pairs(
    reading: adbc_driver_manager.dbapi.Cursor,
    project: Project,
    model: MonitoredModel,
    version: int,
    champion: int,
    days: Interval,
    until: date,
) -> list[_Pair]:
    own, other = (_batch_of_days(model.name, each, days) for each in (version, champion))
    o = outcome_days.c
    horizon_days = sa.func.least(own.c.horizon_days, other.c.horizon_days)
    of_outcomes = sa.func.string_agg(o.digest, postgresql.aggregate_order_by(sa.literal_column("' '"), o.day))
    statement = (
        sa
        .select(
            own.c.day, sa.cast(own.c.batch_id, sa.Text), sa.cast(other.c.batch_id, sa.Text), horizon_days, of_outcomes
        )
        .select_from(
            own.join(other, other.c.day == own.c.day).join(
                outcome_days,
                (o.project == project.name)
                & (o.outcome == model.outcome)
                & o.day.between(own.c.day, own.c.day + horizon_days),
            )
        )
        .where(own.c.day + horizon_days <= until)
        .group_by(own.c.day, own.c.batch_id, other.c.batch_id, horizon_days)
        .having(sa.func.count() == horizon_days + 1)
        .order_by(own.c.day)
    )
    how = [MEASURED_BY, model.problem_type, model.quantiles, model.classes, model.outcome]
    execute(reading, statement)
    pairs = []
    for day, own_id, other_id, horizon, digests in reading.fetchall():
        digest = hashlib.sha256(json.dumps([own_id, other_id, digests, how]).encode()).hexdigest()
        pairs.append(_Pair(day, own_id, other_id, horizon, digest))
    return pairs


def _batch_of_days(model: str, version: int, days: Interval) -> sa.Subquery:
    """Select the batch of a version for each day: the published one if there are several, otherwise the newest."""
    b, s = batches.c, published.c
    return (
        sa
        .select(b.day, b.batch_id, b.horizon_days)
        .ext(postgresql.distinct_on(b.day))
        .select_from(batches.outerjoin(published, s.batch_id == b.batch_id))
        .where(b.model == model, b.model_version == version, b.day.between(days.start, days.end))
        .order_by(b.day, s.batch_id.is_not(None).desc(), b.created_at.desc())
        .subquery()
    )


def _read_rows(
    reading: adbc_driver_manager.dbapi.Cursor, project: Project, model: MonitoredModel, pair: _Pair, batch_id: str
) -> pl.DataFrame:
    """Return the rows of a batch whose outcome has a value: horizon, entity_id, columns of predictions, outcome."""
    rows = select_with_outcomes(project, model.outcome, batch_id, pair.day, pair.horizon_days)
    return read_whole_day(reading, rows.where(outcomes.c.value.is_not(None)))


def _same_rows(own: pl.DataFrame, other: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rows that both have, in the same order."""
    key = [HORIZON, "entity_id"]
    return tuple(a.join(b, on=key, how="semi").sort(key) for a, b in ((own, other), (other, own)))  # type: ignore[return-value]

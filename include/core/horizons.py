"""Horizons: how many days the day that a row is about is ahead of its run date. Pure.

A row of features, scores or predictions has a run date (`day`) and a `horizon`. Its target day is `day` + `horizon`;
its outcome is that of its target day. Without horizons, all rows are of horizon 0, and the run date is the target day.
"""

from collections.abc import Collection

import polars as pl

from include.core.feeds import HORIZON, TARGET_DAY
from include.core.project import Project

KEY = ("day", HORIZON, "entity_id")
"""What identifies a row of features, and a prediction of a model."""


def key_in(columns: Collection[str]) -> list[str]:
    """Return the columns of KEY that a table of features has: one without horizons has no `horizon`."""
    return [name for name in KEY if name in columns]


def with_horizon(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Add the horizon 0 to rows without one, which were made without horizons."""
    if HORIZON not in rows.collect_schema().names():
        return rows.with_columns(pl.lit(0, pl.Int32).alias(HORIZON))
    return rows.with_columns(pl.col(HORIZON).fill_null(0).cast(pl.Int32))


def target_day() -> pl.Expr:
    """Return the day that a row is about."""
    return (pl.col("day") + pl.duration(days=pl.col(HORIZON))).alias(TARGET_DAY)


def with_horizon_of_day(project: Project, known: pl.DataFrame) -> pl.DataFrame:
    """Return the deliveries of entities that have features, with their horizon.

    Args:
        project: the project.
        known: deliveries of the entity's feed, with `run_date` and `day`.
    """
    ahead = (pl.col("day") - pl.col("run_date")).dt.total_days() + project.feeds[project.entity.feed].delay_days
    with_horizon = known.with_columns(ahead.cast(pl.Int32).alias(HORIZON))
    return with_horizon.filter(pl.col(HORIZON).is_between(0, project.entity.horizon_days))

"""Made-up deliveries of a project, to try its `features.py` in a test. No value comes from a real delivery."""

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import polars as pl
from pyspark.sql import SparkSession

from include.core import schemas
from include.core.feeds import Feed
from include.core.outcomes import INCLUDED, included_column, outcomes_of
from include.core.project import Project
from include.features.feeds import Feeds, small_frame

ROWS = 12
"""The rows of a delivery."""


def made_up_feeds(session: SparkSession, project: Project, run_dates: Sequence[date]) -> Feeds:
    """Return what run dates know of made-up deliveries: one for each feed and day that one of them needs.

    A delivery depends on its feed and day only, so further run dates do not change it. Keys of all feeds have the same
    values, so rows of one feed find those of another.
    """
    known, rows = [], {}
    for name, feed in project.feeds.items():
        ages = (
            range(1)
            if feed.is_snapshot
            else range(feed.delay_days - feed.ahead_days, feed.delay_days + feed.lookback_days + 1)
        )
        first = min(run_dates)
        for run_date in run_dates:
            days = [first] if feed.is_snapshot else [run_date - timedelta(days=age) for age in ages]
            known += [(run_date, name, day, f"{name}/{day}", ROWS) for day in days]
        days = sorted({day for _, its, day, _, _ in known if its == name})
        frames = [_delivery(project, name, feed, day) for day in days]
        rows[name] = small_frame(session, _with_outcomes(project, name, pl.concat(frames)))
    kinds = {"run_date": pl.Date, "feed": pl.String, "day": pl.Date, "delivery_id": pl.String, "rows": pl.Int64}
    return Feeds(project, rows, pl.DataFrame(known, schema=kinds, orient="row"))


def _delivery(project: Project, name: str, feed: Feed, day: date) -> pl.DataFrame:
    rng = random.Random(f"{name} {day}")
    wide = _wide(project, feed)
    columns: dict[str, list[Any]] = {}
    for column, declared in feed.kept.items():
        is_key = column in feed.key or column in project.entity.key
        numbers = [n if column == wide else n % 3 if is_key or declared.type == "string" else rng.randrange(1, 60)
                   for n in range(ROWS)]  # fmt: skip
        columns[column] = [*_values(declared.type, column, numbers, day, project)]
    kinds = schemas.clean(project, feed)
    frame = pl.DataFrame(columns, schema={column: kinds[column] for column in columns})
    entity = [schemas.entity_id(project)] if "entity_id" in kinds else []
    placed = frame.with_columns(
        *entity, day=pl.lit(day), delivery_id=pl.lit(f"{name}/{day}"), _row=pl.int_range(pl.len(), dtype=pl.Int64)
    )
    return placed.select(*kinds)


def _wide(project: Project, feed: Feed) -> str | None:
    """Return the column of the key that is different in each row."""
    names = [name for name in (*project.entity.key, *feed.key) if name in feed.kept]
    return next((name for name in names if feed.kept[name].type in ("string", "integer", "double")), None)


def _values(kind: str, column: str, numbers: Sequence[int], day: date, project: Project) -> Iterator[Any]:
    noon = datetime.combine(day, time(12), project.zone).astimezone(UTC)
    for number in numbers:
        match kind:
            case "string":
                yield f"{column} {number}"
            case "integer":
                yield number
            case "double":
                yield number + 0.5
            case "boolean":
                yield number % 2 == 0
            case "date":
                yield day
            case _:
                yield noon + timedelta(minutes=number)


def _with_outcomes(project: Project, name: str, rows: pl.DataFrame) -> pl.DataFrame:
    added = dict(outcomes_of(project, name))
    if name == project.entity.feed and project.entity.where is not None:
        added[INCLUDED] = included_column(project)
    lazy = rows.lazy()
    for add in added.values():
        lazy = add(lazy)
    return lazy.collect()

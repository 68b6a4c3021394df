"""A small prepared installation for tests that start after `build_features`.

The results of earlier steps are written directly into Delta and PostgreSQL, a few ferries per day. Columns and types
are those of `include/core/schemas.py`.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import polars as pl
import sqlalchemy as sa

from include.core import schemas
from include.core.interval import Interval
from include.core.names import clean_table, features_table, scores_table
from include.core.project import Project
from include.core.records import PreparedDay
from include.core.settings import Settings
from include.io import postgres
from include.io.tables import Scope, Tables
from tests import deliveries

DAY = date(2013, 3, 1)


def as_of(day: date) -> datetime:
    """Return the `as_of` of a run date: 03:00 in New York, in winter."""
    return datetime.combine(day, time(8), UTC)


def delivery_id(feed: str, day: date, name: str = "a") -> str:
    return f"{feed}/{day}/{name}.csv.gz@0123456789abcdef"


def deliver(
    settings: Settings,
    project: Project,
    feed: str,
    day: date,
    rows: pl.DataFrame,
    *,
    available_from: datetime,
    name: str = "a",
    verdict: str = "accepted",
) -> str:
    """Enter a delivery into the journal and write its rows (key and values) to clean; return its id."""
    tables, delivery = Tables(settings), delivery_id(feed, day, name)
    about = {"available_from": available_from, "rows": rows.height, "verdict": verdict}
    deliveries.enter(settings, project, deliveries.delivery(feed, day, delivery, **about))
    scope = Scope.of_deliveries([day], [delivery])
    if not rows.is_empty():
        clean = rows.with_columns(
            day=pl.lit(day), delivery_id=pl.lit(delivery), _row=pl.int_range(pl.len(), dtype=pl.Int64)
        ).with_columns(schemas.entity_id(project))
        shape = schemas.clean(project, project.feeds[feed])
        absent = [pl.lit(None, kind).alias(column) for column, kind in shape.items() if column not in clean.columns]
        clean = clean.with_columns(absent).select(shape.keys())
        tables.replace(clean_table(project.name, feed), clean, scope, sort_by=["_row"])
    return delivery


def ferries_of(day: date, count: int = 4) -> pl.DataFrame:
    """Return key and destination of each ferry of a day."""
    return pl.DataFrame(
        {
            "company": ["UA"] * count,
            "ferry": list(range(count)),
            "origin": ["BAT"] * count,
            "dest": ["HOB"] * count,
            "departs_at": [datetime.combine(day, time(15), UTC)] * count,
        },
        schema={
            "company": pl.String,
            "ferry": pl.Int64,
            "origin": pl.String,
            "dest": pl.String,
            "departs_at": pl.Datetime("us", "UTC"),
        },
    )


def logbook_of(day: date, delays: Sequence[float | None]) -> pl.DataFrame:
    return ferries_of(day, len(delays)).with_columns(delay_minutes=pl.Series(delays, dtype=pl.Float64))


def prepare(settings: Settings, project: Project, *days: date, count: int = 4, recorded: bool = True) -> None:
    """Write the schedule, the features and, if `recorded`, the prepared day of each day."""
    tables = Tables(settings)
    for day in days:
        moment = as_of(day)
        rows = ferries_of(day, count)
        used = deliver(settings, project, "sailings", day, rows, available_from=moment - timedelta(hours=9))
        features = rows.select(
            pl.lit(day).alias("day"),
            schemas.entity_id(project),
            as_of=pl.lit(moment),
            data_view=pl.lit("point_in_time"),
        )
        table = features_table(project.name)
        written = tables.replace(table, features, Scope(Interval.of(day)), sort_by=["entity_id"])
        prepared_day = PreparedDay(
            project=project.name,
            day=day,
            data_view="point_in_time",
            as_of=moment,
            watermark=postgres.journal.read_watermark(settings, project.name),
            deliveries=(used,),
            table_versions={table: written.version},
            rows=count,
        )
        if recorded:
            postgres.days.record_prepared_days(settings, project.name, [prepared_day])


def score(settings: Settings, project: Project, model: str, *days: date, version: int = 1, count: int = 4) -> None:
    """Write scores of each day, as if of its prepared day's features."""
    tables, features = Tables(settings), features_table(project.name)
    for day in days:
        prepared = postgres.days.read_features(settings, project.name, Interval.of(day)).get(day)
        read = prepared.version if prepared else tables.version(features)
        scores = ferries_of(day, count).select(
            pl.lit(day).alias("day"),
            schemas.entity_id(project),
            model_version=pl.lit(version, pl.Int64),
            score=pl.col("ferry") / 10 + version / 100,
            prediction=(pl.col("ferry") > 1).cast(pl.Float64),
            as_of=pl.lit(as_of(day)),
            features_version=pl.lit(read, pl.Int64),
        )
        scope = Scope(Interval.of(day), {"model_version": [version]})
        tables.replace(scores_table(model), scores, scope, sort_by=["entity_id"])


def promoted(
    settings: Settings, model: str, version: int, from_day: date, **about: str
) -> postgres.promotions.PromotionEntry:
    """Add a promotion without a decision of the gate to the promotion history, as old releases did."""
    with postgres.promotions.open_promotion_history(settings, model) as book:
        return book.add(version, from_day, **{"by": "me", "why": "because", **about})


def select(settings: Settings, statement: str) -> list[dict[str, Any]]:
    with postgres.connection.engine(settings).connect() as connection:
        return [dict(row) for row in connection.execute(sa.text(statement)).mappings()]

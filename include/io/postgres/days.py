"""Prepared days in the shared database."""

from collections.abc import Iterable
from datetime import UTC, date

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.core.interval import Interval
from include.core.records import DataView, PreparedDay
from include.core.settings import Settings
from include.io.postgres import schema
from include.io.postgres.connection import engine


def record_prepared_days(settings: Settings, prepared_days: Iterable[PreparedDay]) -> None:
    """Store prepared days. They replace earlier rows about the same days."""
    # Always in the same order, so that two writers cannot deadlock.
    ordered = sorted(prepared_days, key=lambda n: (n.project, n.day, n.data_view))
    rows = [{**n.model_dump(), "deliveries": list(n.deliveries), "run_id": settings.run_id} for n in ordered]
    if not rows:
        return
    inserting = postgresql.insert(schema.prepared_days)
    replaced = ("as_of", "watermark", "deliveries", "table_versions", "rows", "run_id")
    statement = inserting.on_conflict_do_update(
        index_elements=["project", "day", "data_view"],
        set_={**{name: inserting.excluded[name] for name in replaced}, "prepared_at": sa.func.clock_timestamp()},
    )
    with engine(settings).begin() as connection:
        connection.execute(statement, rows)


def read_prepared_days(
    settings: Settings, project: str, interval: Interval, data_view: DataView = "point_in_time"
) -> list[PreparedDay]:
    """Return the prepared days of the interval, in order of days."""
    table = schema.prepared_days.c
    statement = (
        sa
        .select(*(table[name] for name in PreparedDay.model_fields))
        .where(table.project == project, table.data_view == data_view)
        .where(table.day.between(interval.start, interval.end))
        .order_by(table.day)
    )
    with engine(settings).connect() as connection:
        return [
            PreparedDay(**{**r, "as_of": r["as_of"].astimezone(UTC), "deliveries": tuple(r["deliveries"])})
            for r in connection.execute(statement).mappings()
        ]


def read_unprepared_days(
    settings: Settings, project: str, interval: Interval, data_view: DataView = "point_in_time"
) -> list[date]:
    """Return the days of the interval that are not prepared yet."""
    prepared = {n.day for n in read_prepared_days(settings, project, interval, data_view)}
    return [day for day in interval.days if day not in prepared]

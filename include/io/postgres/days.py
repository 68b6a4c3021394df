"""Prepared days in the shared database."""

from collections.abc import Iterable
from datetime import UTC, date

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.core.interval import Interval
from include.core.records import DataView, PreparedDay
from include.core.settings import Settings
from include.io.postgres.connection import engine


def record_prepared_days(settings: Settings, prepared_days: Iterable[PreparedDay]) -> None:
    """What is prepared now, in place of what these nights said before."""
    rows = [
        {**n.model_dump(exclude={"deliveries"}), "deliveries": list(n.deliveries), "run_id": settings.run_id}
        for n in sorted(
            prepared_days, key=lambda n: (n.project, n.day, n.data_view)
        )  # one order, so that two cannot deadlock
    ]
    if not rows:
        return
    statement = sa.text(
        "INSERT INTO prepared_days (project, day, data_view, as_of, deliveries, table_versions, rows, run_id) "
        "VALUES (:project, :day, :data_view, :as_of, :deliveries, :table_versions, :rows, :run_id) "
        "ON CONFLICT (project, day, data_view) DO UPDATE SET as_of = excluded.as_of, "
        "deliveries = excluded.deliveries, table_versions = excluded.table_versions, rows = excluded.rows, "
        "run_id = excluded.run_id, prepared_at = clock_timestamp()"
    ).bindparams(sa.bindparam("table_versions", type_=postgresql.JSONB))
    with engine(settings).begin() as connection:
        connection.execute(statement, rows)


def read_prepared_days(
    settings: Settings, project: str, interval: Interval, data_view: DataView = "point_in_time"
) -> list[PreparedDay]:
    """The prepared nights of the interval, in order of days."""
    with engine(settings).connect() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT project, day, data_view, as_of, deliveries, table_versions, rows FROM prepared_days "
                "WHERE project = :project AND data_view = :data_view AND day BETWEEN :start AND :end ORDER BY day"
            ),
            {"project": project, "data_view": data_view, "start": interval.start, "end": interval.end},
        )
        return [
            PreparedDay(**{**r, "as_of": r["as_of"].astimezone(UTC), "deliveries": tuple(r["deliveries"])})
            for r in rows.mappings()
        ]


def unprepared_days(
    settings: Settings, project: str, interval: Interval, data_view: DataView = "point_in_time"
) -> list[date]:
    """The days of the interval that are not prepared yet."""
    prepared = {n.day for n in read_prepared_days(settings, project, interval, data_view)}
    return [day for day in interval.days if day not in prepared]

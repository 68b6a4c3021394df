"""Prepared days in the shared database."""

from collections.abc import Iterable
from datetime import UTC, date

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.core.interval import Interval
from include.core.records import Knowledge, Night
from include.core.settings import Settings
from include.io.postgres.connection import engine


def record_nights(settings: Settings, nights: Iterable[Night]) -> None:
    """What is prepared now, in place of what these nights said before."""
    rows = [
        {**n.model_dump(exclude={"deliveries"}), "deliveries": list(n.deliveries), "run_id": settings.run_id}
        for n in sorted(nights, key=lambda n: (n.project, n.day, n.knowledge))  # one order, so that two cannot deadlock
    ]
    if not rows:
        return
    statement = sa.text(
        "INSERT INTO nights (project, day, knowledge, as_of, deliveries, table_versions, rows, run_id) "
        "VALUES (:project, :day, :knowledge, :as_of, :deliveries, :table_versions, :rows, :run_id) "
        "ON CONFLICT (project, day, knowledge) DO UPDATE SET as_of = excluded.as_of, "
        "deliveries = excluded.deliveries, table_versions = excluded.table_versions, rows = excluded.rows, "
        "run_id = excluded.run_id, prepared_at = clock_timestamp()"
    ).bindparams(sa.bindparam("table_versions", type_=postgresql.JSONB))
    with engine(settings).begin() as connection:
        connection.execute(statement, rows)


def nights(settings: Settings, project: str, interval: Interval, knowledge: Knowledge = "night") -> list[Night]:
    """The prepared nights of the interval, in order of days."""
    with engine(settings).connect() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT project, day, knowledge, as_of, deliveries, table_versions, rows FROM nights "
                "WHERE project = :project AND knowledge = :knowledge AND day BETWEEN :start AND :end ORDER BY day"
            ),
            {"project": project, "knowledge": knowledge, "start": interval.start, "end": interval.end},
        )
        return [
            Night(**{**r, "as_of": r["as_of"].astimezone(UTC), "deliveries": tuple(r["deliveries"])})
            for r in rows.mappings()
        ]


def missing_nights(settings: Settings, project: str, interval: Interval, knowledge: Knowledge = "night") -> list[date]:
    """The days of the interval that are not prepared yet."""
    prepared = {n.day for n in nights(settings, project, interval, knowledge)}
    return [day for day in interval.days if day not in prepared]

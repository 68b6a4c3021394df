"""What steps did and what validation found, in the shared database."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.core.interval import Interval
from include.core.settings import Settings
from include.io.postgres.connection import engine, lock


def record_quality(settings: Settings, results: Sequence[Mapping[str, Any]]) -> None:
    """What was found in deliveries, in place of what was found in the same ones before.

    One mapping an expectation and delivery: project, feed, day, delivery_id, expectation, column (str, may be empty),
    severity ("critical" or "warning"), success (bool), rows and unexpected_rows (int), observed (str or None),
    quarantined_rows (int), examples (list of mappings).
    """
    if not results:
        return
    checked = sorted({(r["project"], r["delivery_id"]) for r in results})
    rows = [
        {
            **{name: value for name, value in r.items() if name not in ("column", "rows")},
            "column_name": r["column"] or None,
            "rows_evaluated": r["rows"],
            "run_id": settings.run_id,
        }
        for r in results
    ]
    with engine(settings).begin() as connection:
        for project in sorted({project for project, _ in checked}):
            lock(connection, f"quality {project}")
            of_project = [delivery_id for each, delivery_id in checked if each == project]
            old = "DELETE FROM quality_results WHERE project = :project AND delivery_id = ANY(:delivery_ids)"
            connection.execute(sa.text(old), {"project": project, "delivery_ids": of_project})
        # an insert of SQLAlchemy's own goes in statements of many rows, a text in one a row
        columns: list[sa.ColumnClause[Any]] = [sa.column(name) for name in rows[0] if name != "examples"]
        table = sa.table("quality_results", *columns, sa.column("examples", postgresql.JSONB))
        connection.execute(sa.insert(table), rows)


def record_step(
    settings: Settings,
    step: str,
    project: str,
    interval: Interval,
    *,
    state: Literal["success", "skipped", "failed"],
    started_at: datetime,
    ended_at: datetime,
    model: str | None = None,
    rows: int | None = None,
    table_version: int | None = None,
    model_version: int | None = None,
    error: BaseException | None = None,
) -> None:
    """Add one line to the audit of steps. Of an error only the class is kept: its text can hold data."""
    values = {
        "project": project,
        "model": model,
        "step": step,
        "interval_start": interval.start,
        "interval_end": interval.end,
        "state": state,
        "rows": rows,
        "seconds": (ended_at - started_at).total_seconds(),
        "table_version": table_version,
        "model_version": model_version,
        "error_class": type(error).__name__ if error is not None else None,
        "run_id": settings.run_id,
        "started_at": started_at,
        "ended_at": ended_at,
    }
    with engine(settings).begin() as connection:
        connection.execute(sa.insert(sa.table("step_runs", *map(sa.column, values))), values)


def done_days(settings: Settings, step: str, project: str, model: str | None = None) -> set[date]:
    """The days that this run (`settings.run_id`) did by a step, since it last ended as a whole (`reprocess`)."""
    with engine(settings).connect() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT DISTINCT CAST(d.day AS date) FROM step_runs s "
                "CROSS JOIN LATERAL generate_series(s.interval_start, s.interval_end, interval '1 day') AS d(day) "
                "WHERE s.run_id = :run_id AND s.step = :step AND s.project = :project "
                "AND s.model IS NOT DISTINCT FROM :model AND s.state <> 'failed' AND s.id > (SELECT coalesce(max(id), "
                "0) FROM step_runs WHERE run_id = :run_id AND project = :project AND step = 'backfill_range' "
                "AND state = 'success')"
            ),
            {"run_id": settings.run_id, "step": step, "project": project, "model": model},
        )
        return {day for (day,) in rows}

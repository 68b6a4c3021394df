"""The runs of steps and the results of validation, in the shared database."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.core.installed import libraries_digest
from include.core.interval import Interval
from include.core.printable import printable
from include.core.settings import Settings
from include.io.postgres.connection import engine, lock
from include.io.postgres.schema import installed_libraries, quality_results, step_runs


def record_quality(settings: Settings, results: Sequence[Mapping[str, Any]]) -> None:
    """Replace the earlier results of these deliveries.

    Args:
        settings: the database and the id of this run.
        results: one mapping for each expectation and delivery: project, feed, day, delivery_id, expectation,
            column (str, may be empty), severity ("critical" or "warning"), success (bool), rows and unexpected_rows
            (int), observed (str or None), quarantined_rows (int), examples (list of mappings).
    """
    if not results:
        return
    checked = sorted({(r["project"], r["delivery_id"]) for r in results})
    rows = [
        {
            **{name: value for name, value in r.items() if name not in ("column", "rows")},
            "observed": None if r["observed"] is None else printable(r["observed"]),
            "column_name": r["column"] or None,
            "rows_evaluated": r["rows"],
            "run_id": settings.run_id,
        }
        for r in results
    ]
    with engine(settings).begin() as connection:
        for project in sorted({project for project, _ in checked}):
            lock(connection, f"quality {project}")
            delivery_ids = [delivery_id for each, delivery_id in checked if each == project]
            replaced = quality_results.c.delivery_id.in_(delivery_ids)
            connection.execute(sa.delete(quality_results).where(quality_results.c.project == project, replaced))
        connection.execute(sa.insert(quality_results), rows)


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
    core_seconds: float | None = None,
    peak_memory_mb: float | None = None,
    table_version: int | None = None,
    model_version: int | None = None,
    error: BaseException | None = None,
    libraries: Mapping[str, str] | None = None,
    **about: Any,
) -> None:
    """Add a row about a run of a step. Only the class of an error is stored, because its text can contain data.

    `libraries` has the versions that it ran with; `about` has further columns: part, ran_on, bytes_read, bytes_written,
    dbus, cost, currency.
    """
    digest = libraries_digest(libraries) if libraries else None
    values = {
        "project": project,
        "model": model,
        "step": step,
        "interval_start": interval.start,
        "interval_end": interval.end,
        "state": state,
        "rows": rows,
        "seconds": (ended_at - started_at).total_seconds(),
        "core_seconds": core_seconds,
        "peak_memory_mb": peak_memory_mb,
        "table_version": table_version,
        "model_version": model_version,
        "error_class": type(error).__name__ if error is not None else None,
        "run_id": settings.run_id,
        "started_at": started_at,
        "ended_at": ended_at,
        "libraries": digest,
        **about,
    }
    with engine(settings).begin() as connection:
        if libraries:
            found = {"digest": digest, "versions": dict(libraries)}
            connection.execute(postgresql.insert(installed_libraries).on_conflict_do_nothing(), found)
        connection.execute(sa.insert(step_runs), values)


def read_done_days(settings: Settings, step: str, project: str, model: str | None = None) -> set[date]:
    """Return the days that a step of this run (`settings.run_id`) has done since the run last ended as a whole.

    A run over a range records `backfill_range` as its last step, so clearing a run that ended does all days again.
    """
    runs, ends = step_runs.c, step_runs.alias("ends").c
    last_end = (
        sa
        .select(sa.func.coalesce(sa.func.max(ends.id), 0))
        .where(ends.run_id == settings.run_id, ends.project == project)
        .where(ends.step == "backfill_range", ends.state == "success")
        .scalar_subquery()
    )
    statement = (
        sa
        .select(runs.interval_start, runs.interval_end)
        .distinct()
        .where(runs.run_id == settings.run_id, runs.project == project, runs.model.is_not_distinct_from(model))
        .where(runs.step == step, runs.state != "failed", runs.id > last_end)
    )
    with engine(settings).connect() as connection:
        intervals = [Interval(start=start, end=end) for start, end in connection.execute(statement)]
    return {day for interval in intervals for day in interval.days}

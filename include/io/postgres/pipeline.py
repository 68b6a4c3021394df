"""What the pipeline itself took and cost, in the shared database."""

from collections.abc import Sequence
from datetime import UTC

import sqlalchemy as sa

from include.core.interval import Interval
from include.core.settings import Settings
from include.io.postgres.connection import engine
from include.io.postgres.schema import step_runs
from include.monitoring.pipeline.base import StepRun

MEASURED = ("seconds", "core_seconds", "peak_memory_mb", "bytes_read", "bytes_written", "rows")


def read_step_runs(settings: Settings, project: str, days: Interval) -> Sequence[StepRun]:
    """Return the successful runs of a project's steps for one of these days each, in the order of their recording."""
    runs = step_runs.c
    statement = (
        sa
        .select(step_runs)
        .where(runs.project == project, runs.state == "success", runs.interval_start == runs.interval_end)
        .where(runs.interval_end.between(days.start, days.end))
        .order_by(runs.id)
    )
    with engine(settings).connect() as connection:
        return [
            StepRun(
                step=row.step,
                model=row.model,
                part=row.part,
                remote=row.core_seconds is None,
                day=row.interval_start,
                started_at=row.started_at.astimezone(UTC),
                ended_at=row.ended_at.astimezone(UTC),
                values={name: float(value) for name in MEASURED if (value := getattr(row, name)) is not None},
            )
            for row in connection.execute(statement)
        ]

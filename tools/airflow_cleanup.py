"""Remove old rows of Airflow's own metadata: `airflow db clean`, with a day that no run still needs.

Tasks have no login to Airflow's database, so this is for an administrator or a timer of the machine, where the
scheduler runs (docs/maintenance.md). Airflow's own command decides what is removed, and keeps the newest scheduled run
of each DAG.
"""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

KEPT_DAYS = 400
"""A year and a month, so that a run can be compared with that of a year ago."""

KEPT_FROM_ENVIRONMENT = "NIGHTLY_AIRFLOW_KEPT_DAYS"
BATCH_ROWS = 10_000


def clean_before(now: datetime, kept_days: int, oldest_active: datetime | None) -> datetime:
    """Return the moment before which rows may go: none of a run that has not ended.

    Args:
        now: the time.
        kept_days: days to keep.
        oldest_active: when the oldest run began, or was queued, that has not ended.
    """
    before = now - timedelta(days=kept_days)
    return min(before, oldest_active) if oldest_active else before


def read_oldest_active() -> datetime | None:
    """Return when the oldest run began, or was queued, that has not ended; None if all have."""
    import sqlalchemy as sa
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.state import State

    began = sa.func.coalesce(DagRun.start_date, DagRun.queued_at, DagRun.run_after)
    with create_session() as session:
        return session.scalar(sa.select(sa.func.min(began)).where(DagRun.state.in_(State.unfinished_dr_states)))


def command(before: datetime, *, dry_run: bool) -> list[str]:
    """Return Airflow's command."""
    said = ["airflow", "db", "clean", "--clean-before-timestamp", before.astimezone(UTC).isoformat(timespec="seconds")]
    said += ["--skip-archive", "--yes", "--batch-size", str(BATCH_ROWS), "--error-on-cleanup-failure"]
    return [sys.executable, "-m", *said, *(["--dry-run"] if dry_run else [])]


def main(
    days: Annotated[
        int, typer.Option(min=30, envvar=KEPT_FROM_ENVIRONMENT, help="How many days of runs Airflow keeps.")
    ] = KEPT_DAYS,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and change nothing.")] = False,
) -> None:
    """Remove old rows of Airflow's own metadata."""
    before = clean_before(datetime.now(UTC), days, read_oldest_active())
    os.environ.setdefault("COLUMNS", "120")
    raise typer.Exit(subprocess.run(command(before, dry_run=dry_run), check=False).returncode)


if __name__ == "__main__":
    typer.run(main)

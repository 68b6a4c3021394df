"""How long it took from files to predictions, in the shared database."""

from typing import Any

import polars as pl
import sqlalchemy as sa

from include.core.interval import Interval
from include.core.settings import Settings
from include.io.postgres.connection import read

COLUMNS: dict[str, sa.types.TypeEngine[Any]] = {
    "model": sa.Text(),
    "day": sa.Date(),
    "landed_at": sa.DateTime(timezone=True),
    "ready_at": sa.DateTime(timezone=True),
    "published_at": sa.DateTime(timezone=True),
    "prepare_seconds": sa.Double(),
    "publish_seconds": sa.Double(),
    "seconds": sa.Double(),
    "reconstructed": sa.Boolean(),
}
"""The columns of the view `latency` that are read, and their types."""


def read_latency(settings: Settings, project: str, interval: Interval) -> pl.DataFrame:
    """Return the latency of each model and run date of a project, newest first (`COLUMNS`)."""
    view = sa.table("latency", sa.column("project", sa.Text()), *(sa.column(*each) for each in COLUMNS.items()))
    within = view.c.day.between(interval.start, interval.end)
    statement = sa.select(*(view.c[name] for name in COLUMNS)).where(view.c.project == project, within)
    return read(settings, statement.order_by(view.c.day.desc(), view.c.model))

"""What each version was trained on, in the shared database: a row is written once for each version."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.core.settings import Settings
from include.io.postgres.connection import engine
from include.io.postgres.schema import training_summaries


@dataclass(frozen=True)
class TrainingSummary:
    """What a version was trained on: see the comments of `schema.training_summaries`."""

    rows: int = 0
    inputs: Mapping[str, Any] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    constant: float | list[float] | None = None
    why: str = ""


def read_summary(settings: Settings, model: str, version: int) -> TrainingSummary | None:
    """Return what a version was trained on, None if it is not recorded yet."""
    table = training_summaries.c
    statement = sa.select(table.rows, table.inputs, table.types, table.constant, table.why).where(
        table.model == model, table.model_version == version
    )
    with engine(settings).connect() as connection:
        row = connection.execute(statement).mappings().one_or_none()
    return None if row is None else TrainingSummary(**row)


def record_summary(settings: Settings, model: str, version: int, summary: TrainingSummary) -> None:
    """Record what a version was trained on. What is recorded stays."""
    values = {"model": model, "model_version": version, "run_id": settings.run_id, **asdict(summary)}
    with engine(settings).begin() as connection:
        connection.execute(postgresql.insert(training_summaries).values(**values).on_conflict_do_nothing())

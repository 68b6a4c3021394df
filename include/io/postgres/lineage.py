"""What was recorded about versions and their batches, for `cli lineage`. Nothing is written."""

from collections.abc import Collection
from datetime import UTC, date, datetime

import sqlalchemy as sa

from include.core.lineage import BatchLine, GateLine, PromotionLine, VersionLine
from include.core.records import FitOrigin
from include.core.settings import Settings
from include.io.postgres import schema
from include.io.postgres.connection import engine
from include.io.postgres.model_files import read_names

_GATES, _PROMOTIONS, _BATCHES = schema.gates, schema.promotions, schema.batches


def read_version_lines(settings: Settings, model: str) -> list[VersionLine]:
    """Return the versions of a model, in the order of their numbers."""
    versions, fits = schema.model_versions, schema.fits
    names = read_names(settings, model)
    same = ("candidate", "mlflow_run", "trained_day", "adopted_from", "origin")
    statement = (
        sa
        .select(versions.c.model_version, versions.c.changed, *(fits.c[name] for name in same))
        .join_from(versions, fits)
        .where(versions.c.model == model)
        .order_by(versions.c.model_version)
    )
    with engine(settings).connect() as connection:
        rows = connection.execute(statement).mappings().all()
    return [
        VersionLine(
            **{**row, "origin": None if row["origin"] is None else FitOrigin.model_validate(row["origin"])},
            model=model,
            semantic_version=names.get(row["model_version"]),
        )
        for row in rows
    ]


def read_gate_lines(settings: Settings, model: str, version: int) -> list[GateLine]:
    """Return the decisions of the gate on a version, the oldest first."""
    c = _GATES.c
    statement = (
        sa
        .select(c.gate_id, c.passed, c.checks, c.champion_version.label("champion"), c.decided_at)
        .where(c.model == model, c.model_version == version)
        .order_by(c.decided_at)
    )
    with engine(settings).connect() as connection:
        return [GateLine(**row) for row in connection.execute(statement).mappings()]


def read_promotion_lines(settings: Settings, model: str, version: int) -> list[PromotionLine]:
    """Return the promotions of a version, the oldest first."""
    c = _PROMOTIONS.c
    statement = (
        sa.select(c.from_day, c.by, c.why, c.forced).where(c.model == model, c.model_version == version).order_by(c.id)
    )
    with engine(settings).connect() as connection:
        return [PromotionLine(**row) for row in connection.execute(statement).mappings()]


def read_batch_lines(
    settings: Settings, models: Collection[str], *, version: int | None = None, day: date | None = None
) -> list[BatchLine]:
    """Return batches of models, by day and then by time; of one version or one day, if given."""
    c, pointers, moves = _BATCHES.c, schema.published, schema.publications
    now = sa.exists().where(pointers.c.batch_id == c.batch_id)
    before = sa.exists().where(moves.c.batch_id == c.batch_id)
    state = sa.case((now, "published"), (before, "published before"), else_="not published").label("state")
    statement = (
        sa
        .select(c.batch_id, c.model, c.day, c.model_version, c.rows, c.as_of, c.created_at, state)
        .where(
            c.model.in_(list(models)),
            sa.true() if version is None else c.model_version == version,
            sa.true() if day is None else c.day == day,
        )
        .order_by(c.day, c.created_at)
    )
    with engine(settings).connect() as connection:
        rows = connection.execute(statement).mappings().all()
    return [BatchLine(**{**row, **{at: row[at].astimezone(UTC) for at in ("as_of", "created_at")}}) for row in rows]


def read_entered(settings: Settings, project: str) -> dict[int, datetime]:
    """Return when each record of a prepared day was entered into the journal, by its sequence number."""
    c = schema.journal.c
    statement = sa.select(c.sequence, c.recorded_at).where(c.project == project, c.kind == "prepared_day")
    with engine(settings).connect() as connection:
        return {row.sequence: row.recorded_at.astimezone(UTC) for row in connection.execute(statement)}


def read_latest(settings: Settings, project: str) -> dict[date, tuple[datetime, tuple[str, ...]]]:
    """Return the moment and the deliveries of each day that was prepared with the data view `latest`."""
    c = schema.prepared_days.c
    statement = sa.select(c.day, c.as_of, c.deliveries).where(c.project == project, c.data_view == "latest")
    with engine(settings).connect() as connection:
        return {row.day: (row.as_of.astimezone(UTC), tuple(row.deliveries)) for row in connection.execute(statement)}


def has_entity(settings: Settings, batch_id: str, day: date, entity_id: str) -> bool:
    """Return whether a batch has predictions of an entity."""
    c = schema.predictions.c
    statement = sa.select(sa.exists().where(c.batch_id == batch_id, c.day == day, c.entity_id == entity_id))
    with engine(settings).connect() as connection:
        return bool(connection.scalar(statement))

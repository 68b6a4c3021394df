"""Checks of published predictions that were built again, in the shared database."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, date, datetime

import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.core.feeds import HORIZON
from include.core.interval import Interval
from include.core.schemas import PREDICTION_COLUMNS
from include.core.settings import Settings
from include.io.postgres import schema
from include.io.postgres.connection import engine
from include.io.postgres.schema import batches, predictions, published, skew_checks
from include.monitoring.skew import SkewCheck


@dataclass(frozen=True)
class PublishedBatch:
    """A published batch, with the moment (UTC) up to which its features knew deliveries."""

    day: date
    batch_id: str
    model_version: int
    rows: int
    as_of: datetime
    erased: int


def read_unchecked(settings: Settings, model: str, days: Interval) -> list[PublishedBatch]:
    """Return the batches of these run dates that are published and not checked yet, in order of days.

    A check that failed is made again: a missing key or a service that refused is no finding about the batch.
    """
    s, b, c = published.c, batches.c, skew_checks.c
    of_batch = (c.model == s.model) & (c.day == s.day) & (c.batch_id == s.batch_id)
    checked = sa.exists().where(of_batch, c.state != "failed")
    statement = (
        sa
        .select(b.day, sa.cast(b.batch_id, sa.Text), b.model_version, b.rows, b.as_of, b.erased)
        .select_from(published.join(batches, b.batch_id == s.batch_id))
        .where(s.model == model, s.day.between(days.start, days.end), ~checked)
        .order_by(b.day)
    )
    with engine(settings).connect() as connection:
        return [
            PublishedBatch(day, batch_id, version, rows, as_of.astimezone(UTC), erased)
            for day, batch_id, version, rows, as_of, erased in connection.execute(statement)
        ]


def read_sample(settings: Settings, batch: PublishedBatch, rows: int) -> pl.DataFrame:
    """Return so many rows of a batch, those whose key and day have the least SHA-256: the same ones each time.

    Returns:
        horizon, entity_id and the columns of predictions, sorted by the first two.
    """
    p = predictions.c
    key = sa.func.concat_ws(" ", str(batch.day), p.horizon, p.entity_id)
    order = sa.func.sha256(sa.func.convert_to(key, "UTF8"))
    statement = (
        sa
        .select(p.horizon, p.entity_id, *schema.as_predicted(p))
        .where(p.batch_id == batch.batch_id, p.day == batch.day)
        .order_by(order)
        .limit(rows)
    )
    types = {HORIZON: pl.Int32(), "entity_id": pl.String(), **PREDICTION_COLUMNS}
    with engine(settings).connect() as connection:
        found = pl.DataFrame([tuple(row) for row in connection.execute(statement)], schema=types, orient="row")
    return found.sort(HORIZON, "entity_id")


def record_checks(settings: Settings, model: str, checks: Sequence[SkewCheck]) -> None:
    """Record checks in one transaction. What another run checked meanwhile stays, unless that check failed."""
    if not checks:
        return
    rows = [{**asdict(check), "model": model, "run_id": settings.run_id} for check in checks]
    inserting, key = postgresql.insert(skew_checks), ("model", "day", "batch_id")
    again = inserting.on_conflict_do_update(
        index_elements=key,
        set_={
            **{each.name: inserting.excluded[each.name] for each in fields(SkewCheck) if each.name not in key},
            "run_id": inserting.excluded.run_id,
            "checked_at": sa.func.clock_timestamp(),
        },
        where=skew_checks.c.state == "failed",
    )
    with engine(settings).begin() as connection:
        connection.execute(again, sorted(rows, key=lambda row: row["day"]))


def read_checks(settings: Settings, model: str, days: Interval) -> list[SkewCheck]:
    """Return the checks of the batches of these run dates that are published now, in order of days."""
    c, s = skew_checks.c, published.c
    statement = (
        sa
        .select(*(c[each.name] for each in fields(SkewCheck)))
        .select_from(skew_checks.join(published, (s.model == c.model) & (s.day == c.day) & (s.batch_id == c.batch_id)))
        .where(c.model == model, c.day.between(days.start, days.end))
        .order_by(c.day)
    )
    with engine(settings).connect() as connection:
        return [SkewCheck(**row) for row in connection.execute(statement).mappings()]

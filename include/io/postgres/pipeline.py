"""What the pipeline itself took and cost, in the shared database."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.core.interval import Interval
from include.core.prices import Prices
from include.core.settings import Settings
from include.io.postgres.connection import engine
from include.io.postgres.schema import (
    feed_punctuality,
    installed_libraries,
    predictions,
    published,
    quality_results,
    score_health,
    step_runs,
    storage_daily,
)
from include.monitoring.pipeline.base import DeliveryQuality, LibraryChange, Part, StepRun
from include.monitoring.records import FeedDay, MonitoredModel, ScoreHealth

PROBABILITIES = ("binary", "multiclass")
"""The problem types whose scores are from 0 to 1."""

SATURATED = 1e-9

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


def read_costs(settings: Settings, project: str, days: Interval, currency: str) -> dict[Part, dict[date, float]]:
    """Return what the runs that ended on each of these days cost, and storage on them, by part."""
    found: dict[Part, dict[date, float]] = {}
    tables: dict[Part, tuple[sa.Table, sa.ColumnElement[date]]] = {
        "steps": (step_runs, step_runs.c.ran_on),
        "storage": (storage_daily, storage_daily.c.day),
    }
    with engine(settings).connect() as connection:
        for part, (table, day) in tables.items():
            own = (table.c.project == project) & (table.c.currency == currency) & day.between(days.start, days.end)
            statement = sa.select(day, sa.func.sum(table.c.cost)).where(own).group_by(day)
            found[part] = {at: float(cost) for at, cost in connection.execute(statement)}
    return found


def is_stored_known(settings: Settings, project: str, day: date) -> bool:
    """Return whether the storage of a project was measured on a day."""
    known = sa.exists().where(storage_daily.c.project == project, storage_daily.c.day == day)
    with engine(settings).connect() as connection:
        return bool(connection.scalar(sa.select(known)))


def record_storage(settings: Settings, project: str, day: date, stored: int, prices: Prices | None) -> None:
    """Record the bytes of a project's tables on a day, once."""
    cost = {"cost": prices.storage_cost(stored), "currency": prices.currency} if prices else {}
    values = {"project": project, "day": day, "bytes": stored, "run_id": settings.run_id, **cost}
    with engine(settings).begin() as connection:
        connection.execute(postgresql.insert(storage_daily).values(values).on_conflict_do_nothing())


def read_library_changes(settings: Settings, project: str, until: datetime) -> list[LibraryChange]:
    """Return each change of libraries between two runs of steps that ended up to a moment, by its first time."""
    runs = step_runs.c
    before = sa.func.lag(runs.libraries).over(order_by=(runs.ended_at, runs.id))
    known = (
        sa
        .select(runs.ended_at, runs.libraries.label("after"), before.label("before"))
        .where(runs.project == project, runs.libraries.is_not(None), runs.ended_at <= until)
        .subquery()
    )
    first = (
        sa
        .select(known.c.before, known.c.after, sa.func.min(known.c.ended_at).label("first_at"))
        .where(known.c.before != known.c.after)
        .group_by(known.c.before, known.c.after)
        .subquery()
    )
    one, other = installed_libraries.alias("one"), installed_libraries.alias("other")
    statement = (
        sa
        .select(first, one.c.versions.label("old"), other.c.versions.label("new"))
        .join(one, one.c.digest == first.c.before)
        .join(other, other.c.digest == first.c.after)
        .order_by(first.c.first_at, first.c.before)
    )
    with engine(settings).connect() as connection:
        return [
            LibraryChange(row.before, row.after, row.old, row.new, row.first_at.astimezone(UTC))
            for row in connection.execute(statement)
        ]


def read_quality(
    settings: Settings, project: str, days: Interval, sequences: Mapping[str, int]
) -> dict[str, list[DeliveryQuality]]:
    """Return what validation found in the deliveries of these days, by feed, in the order of their numbers.

    Args:
        settings: the database.
        project: its name.
        days: of the deliveries.
        sequences: delivery -> its number in the journal; others are left out.
    """
    results = quality_results.c
    statement = (
        sa
        .select(
            results.feed,
            results.day,
            results.delivery_id,
            sa.func.coalesce(sa.func.max(results.rows_evaluated), 0),
            sa.func.coalesce(sa.func.sum(results.quarantined_rows), 0),
            sa.func.count().filter(~results.success),
        )
        .where(results.project == project, results.day.between(days.start, days.end))
        .group_by(results.feed, results.day, results.delivery_id)
    )
    found: dict[str, list[DeliveryQuality]] = {}
    with engine(settings).connect() as connection:
        for feed, day, delivery_id, rows, quarantined, failed in connection.execute(statement):
            if delivery_id in sequences:
                each = DeliveryQuality(feed, day, sequences[delivery_id], int(rows), int(quarantined), failed)
                found.setdefault(feed, []).append(each)
    return {feed: sorted(each, key=lambda one: one.sequence) for feed, each in found.items()}


def record_feed_days(settings: Settings, project: str, found: Sequence[FeedDay]) -> None:
    """Replace the earlier results of the same run dates. A row that would not change is not written."""
    if not found:
        return
    inserting = postgresql.insert(feed_punctuality)
    measured = ("supplier", "file_day", "due_at", "available_from", "late")
    changed = [feed_punctuality.c[name].is_distinct_from(inserting.excluded[name]) for name in measured]
    statement = inserting.on_conflict_do_update(
        index_elements=["project", "feed", "day"],
        set_={
            **{name: inserting.excluded[name] for name in (*measured, "run_id")},
            "measured_at": sa.func.clock_timestamp(),
        },
        where=sa.or_(*changed),
    )
    ordered = sorted(found, key=lambda each: (each.day, each.feed))  # so that two writers cannot deadlock
    with engine(settings).begin() as connection:
        connection.execute(
            statement, [{**asdict(each), "project": project, "run_id": settings.run_id} for each in ordered]
        )


def measure_scores(settings: Settings, model: MonitoredModel, days: Interval) -> list[ScoreHealth]:
    """Measure the published batches of these days that were not measured yet; return all, the oldest day first.

    A batch never changes, so it is measured once, in the database: nothing of its rows is read here.
    """
    of_model = (published.c.model == model.name) & published.c.day.between(days.start, days.end)
    p, h = predictions.c, score_health.c
    measured = sa.exists().where(h.batch_id == published.c.batch_id)
    counted = (
        sa
        .select(p.batch_id, published.c.day, p.score, sa.func.count().label("rows"))
        .join(published, (published.c.batch_id == p.batch_id) & (published.c.day == p.day))
        .where(of_model, ~measured)
        .group_by(p.batch_id, published.c.day, p.score)
        .subquery()
    )
    c, rows = counted.c, sa.func.sum(counted.c.rows)
    saturated = sa.func.sum(c.rows).filter((c.score <= SATURATED) | (c.score >= 1 - SATURATED))
    share = sa.cast(sa.func.coalesce(saturated, 0), sa.Double) / sa.cast(rows, sa.Double)
    each = sa.select(
        c.batch_id,
        sa.literal(model.name),
        c.day,
        sa.cast(rows, sa.BigInteger),
        sa.func.count(),
        sa.cast(sa.func.max(c.rows), sa.Double) / sa.cast(rows, sa.Double),
        share if model.problem_type in PROBABILITIES else sa.null(),
        sa.literal(settings.run_id),
    ).group_by(c.batch_id, c.day)
    columns = ("batch_id", "model", "day", "rows", "distinct_scores", "commonest_share", "saturated_share", "run_id")
    with engine(settings).begin() as connection:
        inserting = postgresql.insert(score_health).from_select(columns, each)
        connection.execute(inserting.on_conflict_do_nothing(index_elements=["batch_id"]))
        statement = (
            sa
            .select(h.day, h.rows, h.distinct_scores, h.commonest_share, h.saturated_share)
            .join(published, published.c.batch_id == h.batch_id)
            .where(of_model)
            .order_by(h.day)
        )
        return [ScoreHealth(*row) for row in connection.execute(statement)]

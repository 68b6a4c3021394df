"""Freshness of tables and predictions, in the shared database."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.core.records import Freshness
from include.core.settings import Settings
from include.io.postgres import schema
from include.io.postgres.connection import engine
from include.io.postgres.promotions import select_champion_as_of
from include.monitoring.records import Preparation, Punctuality


def read_punctuality(settings: Settings, model: str, deadlines: Mapping[date, datetime]) -> dict[date, Punctuality]:
    """Return whether the predictions of each day were published, and when.

    Args:
        settings: the database.
        model: its name.
        deadlines: day to the moment by which its predictions are due.
    """
    if not deadlines:
        return {}
    due = sa.values(sa.column("day", schema.DATE), sa.column("deadline", schema.MOMENT), name="due")
    due = due.data(list(deadlines.items()))
    moves, published = schema.publications.c, schema.published.c
    first = sa.select(sa.func.min(moves.published_at)).where(moves.model == model, moves.day == due.c.day)
    newest = sa.select(sa.func.max(published.day)).where(published.model == model, published.day <= due.c.day)
    champion = select_champion_as_of(model, due.c.day, due.c.deadline)
    statement = sa.select(due.c.day, champion, first.scalar_subquery(), newest.scalar_subquery())
    with engine(settings).connect() as connection:
        return {
            day: Punctuality(day, champion, first.astimezone(UTC) if first else None, newest)
            for day, champion, first, newest in connection.execute(statement)
        }


def read_preparations(settings: Settings, project: str, *, until: date) -> dict[date, Preparation]:
    """Return when each day up to `until` was prepared, and its rows."""
    table = schema.prepared_days.c
    statement = sa.select(table.day, table.rows, table.prepared_at).where(
        table.project == project, table.data_view == "point_in_time", table.day <= until
    )
    with engine(settings).connect() as connection:
        return {
            day: Preparation(day, rows, prepared_at.astimezone(UTC))
            for day, rows, prepared_at in connection.execute(statement)
        }


def record_freshness(settings: Settings, project: str, found: Sequence[Freshness]) -> None:
    """Replace the earlier results of the same run dates. A row that would not change is not written."""
    if not found:
        return
    inserting = postgresql.insert(schema.freshness)
    measured = ("newest_day", "behind_days", "late", "sentence")
    changed = [schema.freshness.c[name].is_distinct_from(inserting.excluded[name]) for name in measured]
    replaced = {name: inserting.excluded[name] for name in (*measured, "run_id")}
    statement = inserting.on_conflict_do_update(
        index_elements=["project", "subject", "day"],
        set_={**replaced, "measured_at": sa.func.clock_timestamp()},
        where=sa.or_(*changed),
    )
    # Always in the same order, so that two writers cannot deadlock.
    ordered = sorted(found, key=lambda f: (f.day, f.subject))
    with engine(settings).begin() as connection:
        connection.execute(
            statement, [{**f.model_dump(), "project": project, "run_id": settings.run_id} for f in ordered]
        )

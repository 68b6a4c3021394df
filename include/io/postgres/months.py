"""Months of predictions and entities in the shared database: made when they are needed, removed when `retention` says.

The database does both (`make_month`, `drop_month`), since the login of tasks owns no table. What still needs a month is
read here; which months may go follows in `operations.maintain`.
"""

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import adbc_driver_manager.dbapi
import sqlalchemy as sa

from include.core.errors import ActionRequiredError, LockTimeoutError
from include.core.names import entities_table
from include.core.periods import Period
from include.core.project import Project
from include.core.settings import Settings
from include.io.postgres import schema
from include.io.postgres.connection import engine, execute, lock, wait_at_most
from include.io.postgres.schema import batches, gates, models, outcome_days, promotions, published

PARTS = """
SELECT c.relname AS part, to_date(right(c.relname, 7), 'YYYY_MM') AS month, p.relname AS relation,
    pg_total_relation_size(c.oid) AS bytes
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
WHERE p.relnamespace = current_schema()::regnamespace AND p.relname IN ('predictions', :entities)
ORDER BY month, relation
"""

NOT_ANALYZED = """
SELECT p.relname FROM pg_class p
WHERE p.relnamespace = current_schema()::regnamespace AND p.relkind = 'p' AND p.relname IN ('predictions', :entities)
    AND coalesce(pg_stat_get_last_analyze_time(p.oid), '-infinity') < clock_timestamp() - interval '1 day'
ORDER BY p.relname
"""
"""Tables with months whose statistics for the planner are older than a day; all projects have `predictions` together.

PostgreSQL's autovacuum analyzes each month, but never the table that they are parts of.
"""

LOCK_SECONDS = 2
"""How long a month that is made or removed waits for others. For readers, `drop_month` waits half a second."""
DEADLOCK = "40P01"


@dataclass(frozen=True)
class StoredMonth:
    """What a project has of one month in one table.

    Attributes:
        relation: the table.
        month: the first day of the month.
        rows: the rows of the project.
        bytes: what they take, with indexes; estimated where other projects have rows of the month.
    """

    relation: str
    month: date
    rows: int
    bytes: int


def keep_months(cursor: adbc_driver_manager.dbapi.Cursor, table: str, days: Collection[date]) -> None:
    """Make the months of these days that a table lacks, and keep all of them to the end of the transaction."""
    for month in sorted({day.replace(day=1) for day in days}):
        execute(cursor, _make(table, month))
        cursor.fetchall()


def make_months(settings: Settings, project: Project, months: Collection[date]) -> list[str]:
    """Make the months of a project's tables that are missing, each in a transaction of its own.

    Returns:
        a sentence for each month that could not be made, because somebody else held a lock of its table for longer than
        two seconds. A later call makes it, and so does the first publish that needs it.
    """
    found = []
    for table in ("predictions", entities_table(project.name)):
        for month in sorted(months):
            try:
                with engine(settings).begin() as connection:
                    wait_at_most(connection, LOCK_SECONDS)
                    connection.execute(_make(table, month))
            except LockTimeoutError as error:
                found.append(f"{table} has no place for {month:%Y-%m} yet: {error}")
    return found


def _make(table: str, month: date) -> sa.Select[Any]:
    return sa.select(sa.func.make_month(sa.cast(table, schema.TEXT), sa.cast(month, schema.DATE)))


def read_months(settings: Settings, project: Project, before: date) -> list[StoredMonth]:
    """Return what a project has of the months that end before a day, the oldest first. This counts the rows."""
    entities = entities_table(project.name)
    with engine(settings).connect() as connection:
        parts = connection.execute(sa.text(PARTS), {"entities": entities}).all()
    found = []
    for part, month, relation, size in parts:
        if Period.containing("month", month).run_date > before:
            continue
        rows = sa.table(part, sa.column("model"))
        counting = sa.select(sa.func.count()).select_from(rows)
        of_project = counting.select_from(rows.join(models, models.c.model == rows.c.model))
        with suppress(ActionRequiredError), engine(settings).connect() as connection:  # another run removed it
            total = connection.scalar(counting) or 0
            own = total
            if relation != entities:
                own = connection.scalar(of_project.where(models.c.project == project.name)) or 0
            if own:
                found.append(StoredMonth(relation, month, own, size * own // total))
    return found


def read_kept(settings: Settings, project: str) -> int | None:
    """Return how many months of predictions the database keeps, as the newest `migrate` declared; None: for ever."""
    p = schema.projects.c
    with engine(settings).connect() as connection:
        kept: int | None = connection.scalar(sa.select(p.predictions_months).where(p.project == project))
    return kept


def read_needs(settings: Settings, project: Project, months: Collection[date]) -> dict[date, list[str]]:
    """Return by month what still needs it, in words.

    Published days whose outcomes are not complete, and the holdout days of the gate decision of the newest
    champion of a model.
    """
    found: dict[date, list[str]] = {}
    with engine(settings).connect() as connection:
        for month in sorted(months):
            last = Period.containing("month", month).days.end
            needs = [*_incomplete(connection, project, month, last), *_decisions(connection, project, month, last)]
            if needs:
                found[month] = needs
    return found


def _incomplete(connection: sa.Connection, project: Project, first: date, last: date) -> Sequence[str]:
    """Return sentences about published days without all of their outcomes."""
    s, b, m, o = published.c, batches.c, models.c, outcome_days.c
    days = (
        sa
        .select(m.model, m.outcome, s.day, b.horizon_days)
        .select_from(published.join(batches, b.batch_id == s.batch_id).join(models, m.model == s.model))
        .where(m.project == project.name, s.day.between(first, last))
        .order_by(m.model, s.day)
    )
    recorded = sa.select(o.outcome, o.day).where(o.project == project.name, o.day >= first, o.sequence > 0)
    known = {tuple(row) for row in connection.execute(recorded)}
    lacking: dict[str, list[date]] = {}
    for model, outcome, day, horizon_days in connection.execute(days):
        targets = (day + timedelta(days=n) for n in range(horizon_days + 1))
        declared = project.outcomes.get(outcome)
        if declared is not None and any(
            project.feeds[declared.feed].has_file_on(target) and (outcome, target) not in known for target in targets
        ):
            lacking.setdefault(model, []).append(day)
    return [
        f"outcomes of {model} are not complete for {len(days):,} published days, such as {days[0]}"
        for model, days in lacking.items()
    ]


def _decisions(connection: sa.Connection, project: Project, first: date, last: date) -> Sequence[str]:
    """Return sentences about gate decisions that rest on days of the month."""
    g, p, m = gates.c, promotions.c, models.c
    newest = (
        sa.select(sa.func.max(p.id)).join(models, m.model == p.model).where(m.project == project.name).group_by(p.model)
    )
    statement = (
        sa
        .select(p.model, p.model_version)
        .join(gates, g.gate_id == p.gate_id)
        .where(p.id.in_(newest), g.holdout_start <= last, g.holdout_end >= first)
        .order_by(p.model)
    )
    return [
        f"the gate decision of {model} version {version}, the newest champion, rests on days of it"
        for model, version in connection.execute(statement)
    ]


def read_dropped(settings: Settings, project: str) -> set[date]:
    """Return the months of a project that left the database at some time, by their first days."""
    d = schema.dropped_months.c
    statement = sa.select(d.month).where(d.project == project, d.relation == "predictions").distinct()
    with engine(settings).connect() as connection:
        return set(connection.scalars(statement))


def drop_month(settings: Settings, project: Project, month: date, by: str) -> bool:
    """Remove a month of a project's predictions and entities, and point readers to none of its days.

    Nobody publishes for the project meanwhile. What is there twice at once is removed once.

    Returns:
        False if somebody read or published in the tables, so that it would have waited for longer than half a second.
    """
    dropping = sa.select(
        sa.func.drop_month(
            sa.cast(project.name, schema.TEXT), sa.cast(month, schema.DATE), sa.cast(by, schema.TEXT),
            sa.cast(settings.run_id, schema.TEXT),
        )
    )  # fmt: skip
    try:
        with engine(settings).begin() as connection:
            wait_at_most(connection, LOCK_SECONDS)
            of_project = sa.select(models.c.model).where(models.c.project == project.name)
            for model in sorted(connection.scalars(of_project)):
                lock(connection, f"publish {model}")
            lock(connection, f"entities {project.name}")
            connection.execute(dropping)
    except LockTimeoutError:
        return False
    except sa.exc.OperationalError as error:
        if getattr(error.orig, "pgcode", None) != DEADLOCK:
            raise
        return False
    return True


def read_not_analyzed(settings: Settings, project: Project) -> list[str]:
    """Return the tables of a project whose statistics for the planner were not collected within a day."""
    with engine(settings).connect() as connection:
        return [*connection.scalars(sa.text(NOT_ANALYZED), {"entities": entities_table(project.name)})]


def analyze(settings: Settings, table: str) -> bool:
    """Collect the planner's statistics of a table over all of its months; readers and writers do not wait.

    Returns:
        False if somebody else analyzes or changes the table, so that it would have waited for more than two seconds.
    """
    try:
        with engine(settings).begin() as connection:
            connection.execute(sa.select(sa.func.analyze_months(sa.cast(table, schema.TEXT))))
    except LockTimeoutError:
        return False
    return True


def drop_runs(settings: Settings, project: str, before: date, rows: int) -> int:
    """Remove runs of a project's steps that ended before a day, at most so many rows; return how many."""
    s = schema.step_runs.c
    oldest = sa.select(s.id).where(s.project == project, s.ended_at < before).order_by(s.id).limit(rows)
    with engine(settings).begin() as connection:
        return connection.execute(sa.delete(schema.step_runs).where(s.id.in_(oldest))).rowcount


def count_runs(settings: Settings, project: str, before: date) -> int:
    """Return how many runs of a project's steps ended before a day."""
    s = schema.step_runs.c
    statement = sa.select(sa.func.count()).where(s.project == project, s.ended_at < before)
    with engine(settings).connect() as connection:
        return int(connection.scalar(statement) or 0)

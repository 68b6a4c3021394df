"""Trainings that monitoring asked for, in the shared database."""

from collections.abc import Sequence
from datetime import date, timedelta

import sqlalchemy as sa

from include.core.records import Alert
from include.core.settings import Settings
from include.io.postgres.connection import engine, lock
from include.io.postgres.schema import alerts, retrainings, step_runs

_BEGAN = sa.exists().where(
    step_runs.c.model == retrainings.c.model,
    step_runs.c.step == "fit",
    step_runs.c.interval_start <= retrainings.c.day,
    step_runs.c.interval_end >= retrainings.c.day,
)
"""Whether the training of a request began."""


def read_alerts(settings: Settings, project: str, model: str, day: date) -> list[Alert]:
    """Return the alerts about a model that were raised as of a run date, by rule."""
    c = alerts.c
    statement = sa.select(c.subject, c.rule, c.day, c.sentence).where(
        c.project == project, c.subject == model, c.day == day
    )
    with engine(settings).connect() as connection:
        return [Alert(**row) for row in connection.execute(statement.order_by(c.rule)).mappings()]


def request(
    settings: Settings, project: str, model: str, day: date, *, reasons: Sequence[Alert], cool_down_days: int
) -> tuple[str | None, date | None]:
    """Ask for a training of a run date, once.

    Only a request whose training began counts for the cool-down: the task of a request can end before it starts a run.

    Returns:
        Why it was asked for, by this run or an earlier one; and if it was not, the day of the request that is too near.
    """
    table = retrainings.c
    near = timedelta(days=cool_down_days)
    with engine(settings).begin() as connection:
        lock(connection, f"retrain {model}")
        statement = sa.select(table.day, table.why).where(
            table.model == model, table.day > day - near, table.day < day + near, _BEGAN | (table.day == day)
        )
        there = {row.day: row.why for row in connection.execute(statement)}
        if day in there:
            return there[day], None
        if there:
            return None, max(there)
        why = "; ".join(f"{alert.rule}: {alert.sentence}" for alert in reasons)
        rules = [alert.rule for alert in reasons]
        values = {"model": model, "day": day, "project": project, "rules": rules, "why": why}
        connection.execute(sa.insert(retrainings).values(**values, run_id=settings.run_id))
    return why, None


def why_replaced(settings: Settings, model: str, day: date, *, cool_down_days: int) -> str | None:
    """Return why the training of a request is not to begin any more; None if it is, or has begun before.

    A run can wait for longer than a day, so that another training was asked for meanwhile. The newest request counts,
    unless the training of another one began within the cool-down. Runs of a model's trainings follow each other, so
    each sees what the one before it did.
    """
    table = retrainings.c
    statement = sa.select(table.day, _BEGAN).where(table.model == model)
    with engine(settings).connect() as connection:
        began = {row[0]: row[1] for row in connection.execute(statement)}
    if began.get(day):
        return None
    if (newest := max(began, default=day)) > day:
        return f"a training of {newest} was asked for since"
    near = [other for other, has_begun in began.items() if has_begun and day - other < timedelta(days=cool_down_days)]
    return f"the training of {max(near)}, which was asked for before, began meanwhile" if near else None

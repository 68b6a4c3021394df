"""Trainings that monitoring asked for, in the shared database."""

from collections.abc import Sequence
from datetime import date, timedelta

import sqlalchemy as sa

from include.core.records import Alert
from include.core.settings import Settings
from include.io.postgres.connection import engine, lock
from include.io.postgres.schema import alerts, retrainings, step_runs


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
        began = sa.exists().where(
            step_runs.c.model == model,
            step_runs.c.step == "fit",
            step_runs.c.interval_start <= table.day,
            step_runs.c.interval_end >= table.day,
        )
        statement = sa.select(table.day, table.why).where(
            table.model == model, table.day > day - near, table.day < day + near, began | (table.day == day)
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

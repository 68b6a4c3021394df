"""Alerts, in the shared database."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.core.interval import Interval
from include.core.records import Alert
from include.core.settings import Settings
from include.io.postgres import schema
from include.io.postgres.connection import engine


def raise_alerts(settings: Settings, project: str, alerts: Sequence[Alert]) -> tuple[Alert, ...]:
    """Record alerts, one for each subject, rule and run date. Return those that were not recorded yet."""
    raised = []
    with engine(settings).begin() as connection:
        for alert in sorted(alerts, key=lambda a: (a.day, a.subject, a.rule)):
            statement = (
                postgresql
                .insert(schema.alerts)
                .values(project=project, run_id=settings.run_id, **alert.model_dump())
                .on_conflict_do_nothing(index_elements=["project", "subject", "rule", "day"])
                .returning(schema.alerts.c.id)
            )
            if connection.execute(statement).one_or_none():
                raised.append(alert)
    return tuple(raised)


@contextmanager
def unsent_alerts(settings: Settings, project: str, run_dates: Interval) -> Iterator[tuple[Alert, ...]]:
    """Hand out the alerts of these run dates that were not sent yet, and mark them as sent if the block succeeds.

    Until then they are locked, and other senders skip them. If the process dies, the next sender takes them: each alert
    is sent at least once, and twice only if a process died between sending and the end of the block.
    """
    table = schema.alerts.c
    statement = (
        sa
        .select(table.id, table.subject, table.rule, table.day, table.sentence)
        .where(table.project == project, table.notified_at.is_(None))
        .where(table.day.between(run_dates.start, run_dates.end))
        .order_by(table.id)
        .with_for_update(skip_locked=True)
    )
    with engine(settings).begin() as connection:
        rows = connection.execute(statement).all()
        yield tuple(Alert(subject=r.subject, rule=r.rule, day=r.day, sentence=r.sentence) for r in rows)
        if rows:
            sent = sa.update(schema.alerts).where(table.id.in_([r.id for r in rows]))
            connection.execute(sent.values(notified_at=sa.func.clock_timestamp()))

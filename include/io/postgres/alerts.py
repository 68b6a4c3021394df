"""Alerts, in the shared database."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.core.interval import Interval
from include.core.records import Alert
from include.core.settings import Settings
from include.io.postgres.connection import engine


def raise_alerts(settings: Settings, project: str, alerts: Sequence[Alert]) -> tuple[Alert, ...]:
    """Record alerts, once each (subject, rule, run day); returns those that were not there yet."""
    table = sa.table("alerts", *map(sa.column, ("project", "subject", "rule", "day", "sentence", "run_id", "id")))
    raised = []
    with engine(settings).begin() as connection:
        for alert in sorted(alerts, key=lambda a: (a.day, a.subject, a.rule)):
            inserting = postgresql.insert(table).values(project=project, run_id=settings.run_id, **alert.model_dump())
            inserting = inserting.on_conflict_do_nothing(index_elements=["project", "subject", "rule", "day"])
            if connection.execute(inserting.returning(table.c.id)).one_or_none():
                raised.append(alert)
    return tuple(raised)


@contextmanager
def unsent_alerts(settings: Settings, project: str, run_dates: Interval) -> Iterator[tuple[Alert, ...]]:
    """The alerts of these run days that nobody was told of yet; they count as told when the block ends well.

    Until then another teller does not see them, and a killed one leaves them for the next: people are told at least
    once, and twice only by one that was killed between sending and the end of the block.
    """
    with engine(settings).begin() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT id, subject, rule, day, sentence FROM alerts WHERE project = :project "
                "AND day BETWEEN :start AND :end AND notified_at IS NULL ORDER BY id FOR UPDATE SKIP LOCKED"
            ),
            {"project": project, "start": run_dates.start, "end": run_dates.end},
        ).all()
        yield tuple(Alert(subject=r.subject, rule=r.rule, day=r.day, sentence=r.sentence) for r in rows)
        if rows:
            connection.execute(
                sa.text("UPDATE alerts SET notified_at = clock_timestamp() WHERE id = ANY(:ids)"),
                {"ids": [r.id for r in rows]},
            )

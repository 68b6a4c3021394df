"""Alerts, in the shared database."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.core.outbox import Message
from include.core.records import Alert
from include.core.settings import Settings
from include.io.postgres import schema
from include.io.postgres.connection import engine
from include.io.postgres.messages import put


def raise_alerts(settings: Settings, project: str, alerts: Sequence[Alert]) -> tuple[Alert, ...]:
    """Record alerts, one for each subject, rule and run date, and one message with those that were not recorded yet.

    Returns:
        Those that were not recorded yet.
    """
    raised: dict[int, Alert] = {}
    with engine(settings).begin() as connection:
        for alert in sorted(alerts, key=lambda a: (a.day, a.subject, a.rule)):
            statement = (
                postgresql
                .insert(schema.alerts)
                .values(project=project, run_id=settings.run_id, **alert.model_dump())
                .on_conflict_do_nothing(index_elements=["project", "subject", "rule", "day"])
                .returning(schema.alerts.c.id)
            )
            if found := connection.scalar(statement):
                raised[found] = alert
        if raised:
            message_id = put(connection, _message(settings, project, [*raised.values()]))
            having = sa.update(schema.alerts).where(schema.alerts.c.id.in_([*raised]))
            connection.execute(having.values(message_id=message_id))
    return tuple(raised.values())


def _message(settings: Settings, project: str, alerts: Sequence[Alert]) -> Message:
    return Message.of_text(
        "\n\n".join(alert.sentence for alert in alerts),
        project,
        *((alert.subject, alert.rule, alert.day) for alert in alerts),
        kind="alerts",
        subject=", ".join(dict.fromkeys(alert.subject for alert in alerts)),
        run_id=settings.run_id,
    )

"""Alerts, in the shared database."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.config.loading import load_routing
from include.core.outbox import Message
from include.core.records import Alert
from include.core.routes import SEVERITIES, Routing, Severity
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
        routing = load_routing(project)
        for destinations, ids in _routed(routing, raised).items():
            made = _message(settings, project, [raised[each] for each in ids])
            subjects = {raised[each].subject for each in ids}
            about = subjects.pop() if len(subjects) == 1 else None
            severity = min((_severity(raised[each]) for each in ids), key=SEVERITIES.index)
            stored = [put(connection, routing.addressed(made, to, about, severity)) for to in destinations]
            having = sa.update(schema.alerts).where(schema.alerts.c.id.in_(ids))
            connection.execute(having.values(message_id=stored[0]))
    return tuple(raised.values())


def _routed(routing: Routing, raised: Mapping[int, Alert]) -> dict[tuple[str, ...], list[int]]:
    """Return which alerts go to which destinations: those that go the same way are one message."""
    found: dict[tuple[str, ...], list[int]] = {}
    for each, alert in raised.items():
        found.setdefault(routing.destinations(alert.subject, _severity(alert)), []).append(each)
    return found


def _severity(alert: Alert) -> Severity:
    severity: Severity = getattr(alert, "severity", "high")
    return severity


def _message(settings: Settings, project: str, alerts: Sequence[Alert]) -> Message:
    return Message.of_text(
        "\n\n".join(alert.sentence for alert in alerts),
        project,
        *((alert.subject, alert.rule, alert.day) for alert in alerts),
        kind="alerts",
        subject=", ".join(dict.fromkeys(alert.subject for alert in alerts)),
        run_id=settings.run_id,
    )

"""Alerts, in the shared database: each once a run date. People are sent the incident that an alert is part of."""

from collections.abc import Collection, Iterable, Sequence
from datetime import date

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.core.incidents import details_of
from include.core.records import Alert
from include.core.settings import Settings
from include.io.postgres import schema
from include.io.postgres.connection import engine
from include.io.postgres.incident_failures import as_told
from include.io.postgres.incident_looks import look
from include.io.postgres.incidents import lock_incidents

RECORDED = {"subject", "rule", "day", "sentence"}


def raise_alerts(
    settings: Settings,
    project: str,
    alerts: Sequence[Alert],
    *,
    scope: str = "",
    looked: Iterable[date] = (),
    blind: Collection[str] = (),
    as_of_now: bool = False,
) -> tuple[Alert, ...]:
    """Record alerts, one for each subject, rule and run date, and what they mean for incidents.

    Args:
        settings: the database and the id of this run.
        project: the project.
        alerts: what was found.
        scope: who looked, such as `monitor`: an incident of this scope that `alerts` lacks is over. Without one, nobody
            notices that a cause is gone.
        looked: the run dates that looked, also those without an alert.
        blind: models whose monitors failed, and `PROJECT` for those of the project. What they would have seen is not
            over.
        as_of_now: what is not found any more is over at once, and not only on the next run date.

    Returns:
        Those that were not recorded yet.
    """
    raised: dict[int, Alert] = {}
    days = tuple(looked)
    with engine(settings).begin() as connection:
        lock_incidents(connection, project)
        alerts = [as_told(connection, project, each) for each in alerts]
        for alert in sorted(alerts, key=lambda a: (a.day, a.subject, a.rule)):
            statement = (
                postgresql
                .insert(schema.alerts)
                .values(project=project, run_id=settings.run_id, **alert.model_dump(include=RECORDED))
                .on_conflict_do_nothing(index_elements=["project", "subject", "rule", "day"])
                .returning(schema.alerts.c.id)
            )
            if found := connection.scalar(statement):
                raised[found] = alert
        if alerts or (scope and days):
            run_id = settings.run_id
            look(connection, project, run_id, alerts, scope=scope, looked=days, blind=blind, as_of_now=as_of_now)
        for alert_id, alert in raised.items():
            _name_message(connection, project, scope, alert_id, alert)
    return tuple(raised.values())


def _name_message(connection: sa.Connection, project: str, scope: str, alert_id: int, alert: Alert) -> None:
    """Give an alert the newest message about its incident, which says when people were notified."""
    records = schema.incident_records.c
    message = sa.select(records.message_id).where(
        records.project == project,
        records.scope == scope,
        records.cause == details_of(alert).cause,
        records.merged_into.is_(None),
        records.first_day <= alert.day,
        records.last_day >= alert.day,
    )
    own = schema.alerts.c.id == alert_id
    connection.execute(sa.update(schema.alerts).where(own).values(message_id=message.limit(1).scalar_subquery()))

"""Incidents, in the shared database: their rows, what happens to them, and what people decide about them.

An incident, its event and its message are one transaction, and a lock of the project puts writers in a row. Others say
what there is: `incident_looks.py` what run dates saw, `incident_failures.py` which tasks failed.
"""

from dataclasses import asdict
from datetime import date, datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from include.config.loading import load_routing
from include.core.incidents import Details, Episode, EventKind, Incident, is_above, message_of, news
from include.core.outbox import storable
from include.core.routes import Routing
from include.io.postgres.connection import lock
from include.io.postgres.messages import NOW, put
from include.io.postgres.schema import incident_events, incident_records

RECORD = incident_records.c
DETAILS = ("rule", "subject", "occurrence", "severity", "what", "effect", "command", "runbook", "owner", "badness")


class Cause(NamedTuple):
    """What tells incidents apart."""

    project: str
    scope: str
    cause: str

    @property
    def condition(self) -> sa.ColumnElement[bool]:
        """The condition for the rows of its incidents."""
        return sa.and_(*(RECORD[name] == value for name, value in self._asdict().items()))


def lock_incidents(connection: sa.Connection, project: str) -> None:
    """Wait until no other writer changes incidents of the project, and keep them out to the end of the transaction."""
    lock(connection, f"incidents {project}")


def as_incident(row: sa.Row[Any]) -> Incident:
    """Return the incident that a row of `incident_records` is."""
    details = {name: getattr(row, name) for name in DETAILS} | {"models": tuple(row.models), "more": tuple(row.more)}
    names = (
        *("id", "project", "first_day", "last_day", "recovered_day", "opened_at", "recovered_at", "acknowledged_by"),
        *("snoozed_until", "snoozed_severity", "sent_severity", "sent_badness"),
    )
    return Incident(details=Details(**details), **{name: getattr(row, name) for name in names})


def store(
    connection: sa.Connection, cause: Cause, details: Details, episode: Episode, before: Incident | None
) -> Incident:
    """Write the row of an incident, unless it is that already; return it."""
    content = {name: storable(v) if isinstance(v, str) else v for name, v in asdict(details).items()}
    values = {**content, "models": [*details.models], "more": [*details.more], **asdict(episode)}
    if before is None:
        closed = {"recovered_at": NOW} if episode.recovered_day else {}
        adding = sa.insert(incident_records).values(**cause._asdict(), **values, **closed)
        return as_incident(connection.execute(adding.returning(*incident_records.c)).one())
    was_open, is_open = before.recovered_day is None, episode.recovered_day is None
    if was_open and not is_open:
        values |= {"recovered_at": NOW}
    elif is_open and not was_open:  # what people decided was about the time before
        values |= {"recovered_at": None, "acknowledged_by": None, "snoozed_until": None, "snoozed_severity": None}
    own = RECORD.id == before.id
    given = {name: value for name, value in values.items() if name != "recovered_at"}
    changed = [RECORD[name].is_distinct_from(sa.literal(value, RECORD[name].type)) for name, value in given.items()]
    connection.execute(sa.update(incident_records).where(own, sa.or_(*changed)).values(**values))
    return as_incident(connection.execute(sa.select(incident_records).where(own)).one())


def report(
    connection: sa.Connection, before: Incident | None, after: Incident, run_id: str, day: date | None
) -> int | None:
    """Write what is new about an incident, and its message; return the message."""
    event, is_sent = news(before, after, read_now(connection))
    return None if event is None else add_event(connection, after, event, run_id, day=day, is_sent=is_sent)


def read_now(connection: sa.Connection) -> datetime:
    """Return the time of the database."""
    now: datetime = connection.scalars(sa.select(NOW)).one()
    return now


def add_event(
    connection: sa.Connection,
    incident: Incident,
    event: EventKind,
    run_id: str,
    *,
    day: date | None = None,
    is_sent: bool = True,
    why: str = "",
    **decided: Any,
) -> int | None:
    """Write an event of an incident and, if people are told of it, its message; return the message.

    Args:
        connection: the caller's transaction.
        incident: the incident after the event.
        event: what happened.
        run_id: the Airflow run.
        day: the run date that noticed it.
        is_sent: whether people are told of it.
        why: why an update is sent.
        **decided: by, why and until of a decision, as columns of `incident_events`.
    """
    message_id, own, details = None, RECORD.id == incident.id, incident.details
    if is_sent:
        count = sa.select(sa.func.count()).where(incident_events.c.incident_id == incident.id)
        was_snoozed = event == "updated" and incident.snoozed_until is not None
        has_woken = was_snoozed and not is_above(details.severity, incident.snoozed_severity or details.severity)
        why = why or ("still there after the snooze" if has_woken else "")
        message = message_of(incident, event, run_id=run_id, number=connection.scalar(count), why=why)
        routing = load_routing(incident.project) if incident.project else Routing()
        severity = details.severity
        if event == "recovered" and incident.sent_severity and is_above(incident.sent_severity, severity):
            severity = incident.sent_severity  # whoever was told of it hears that it is over
        addressed = routing.messages(message, details.models, severity, details.owner)
        message_id, *_ = [put(connection, each) for each in addressed]
        told: dict[str, Any] = {"message_id": message_id, "sent_severity": details.severity}
        told["sent_badness"] = details.badness
        if was_snoozed:
            told |= {"snoozed_until": None, "snoozed_severity": None}
        connection.execute(sa.update(incident_records).where(own).values(**told))
    row = {"incident_id": incident.id, "kind": event, "day": day, "severity": details.severity}
    connection.execute(
        sa.insert(incident_events).values(**row, message_id=message_id, run_id=storable(run_id), **decided)
    )
    return message_id


def read_incident(connection: sa.Connection, number: int) -> Incident | None:
    """Return an incident, None if there is none of this number."""
    row = connection.execute(sa.select(incident_records).where(RECORD.id == number)).one_or_none()
    if row is not None and row.merged_into is not None and row.merged_into != number:
        return read_incident(connection, row.merged_into)
    return as_incident(row) if row is not None else None


def decide(
    connection: sa.Connection,
    incident: Incident,
    kind: EventKind,
    run_id: str,
    *,
    by: str,
    why: str,
    until: datetime | None,
) -> None:
    """Record what a person decided about an incident."""
    values: dict[str, Any] = {"acknowledged_by": storable(by)}
    if kind == "snoozed":
        values = {"snoozed_until": until, "snoozed_severity": incident.details.severity}
    elif kind == "closed":
        values |= {"recovered_day": RECORD.last_day, "recovered_at": NOW}
    connection.execute(sa.update(incident_records).where(RECORD.id == incident.id).values(**values))
    decided = {"by": storable(by), "why": storable(why), "until": until}
    row = {"incident_id": incident.id, "kind": kind, "severity": incident.details.severity, "run_id": storable(run_id)}
    connection.execute(sa.insert(incident_events).values(**row, **decided))


def read_incidents(connection: sa.Connection, *, is_open: bool) -> list[dict[str, Any]]:
    """Return the rows of the view `incidents`, the most severe and newest first."""
    order = "array_position(ARRAY['critical', 'high', 'low'], severity), incident DESC"
    view = sa.select(sa.text("*")).select_from(sa.text("incidents")).order_by(sa.text(order))
    if is_open:
        view = view.where(sa.text("state <> 'recovered'"))
    return [dict(row) for row in connection.execute(view).mappings()]

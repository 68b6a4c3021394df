"""What people do about incidents: acknowledge, snooze, close, and the list of them."""

from datetime import datetime, timedelta
from typing import Literal

from include.core.base import Record
from include.core.errors import ActionRequiredError
from include.core.incidents import EventKind, Incident
from include.core.printable import printable
from include.core.settings import Settings, utc_now
from include.io import postgres

Action = Literal["acknowledge", "snooze", "close"]

KINDS: dict[Action, EventKind] = {"acknowledge": "acknowledged", "snooze": "snoozed", "close": "closed"}

MOST_DAYS = 90
"""The longest snooze: what matters to nobody for longer is a rule that should go."""


class IncidentDecision(Record):
    """What a person decided about an incident, in a sentence."""

    incident: int
    action: Action
    by: str
    why: str
    sentence: str


def decide_incident(
    settings: Settings, number: int, action: Action, *, by: str, why: str, until: datetime | None = None
) -> IncidentDecision:
    """Record what a person decides about an incident: that they take care of it, that it can wait, or that it is over.

    Args:
        settings: the database.
        number: the incident, as its messages name it.
        action: acknowledge: updates are sent only if its severity rises; its recovery is sent. snooze: nothing is sent
            until a moment. close: a failed task that nobody is going to repeat; other incidents end by themselves.
        by: who decides.
        why: why.
        until: the end of a snooze (UTC).

    Raises:
        ActionRequiredError: there is no such open incident, or who, why or the end of the snooze is missing or wrong.
    """
    if not by.strip() or not why.strip():
        raise ActionRequiredError(f"{action} needs who decides and why: --by NAME --why REASON")
    if action == "snooze":
        _require_end(until)
    with postgres.connection.engine(settings).begin() as connection:
        found = postgres.incidents.read_incident(connection, number)
        if found is None:
            raise ActionRequiredError(f"there is no incident {number}; type: python -m include.cli incidents")
        postgres.incidents.lock_incidents(connection, found.project)
        incident = postgres.incidents.read_incident(connection, number) or found
        if incident.recovered_day is not None:
            raise ActionRequiredError(
                f"incident {number} ({incident.details.subject}) is over: {incident.recovered_at:%Y-%m-%d %H:%M} UTC"
            )
        if action == "close" and not incident.details.occurrence:
            raise ActionRequiredError(
                f"incident {number} is {incident.details.rule} of {incident.details.subject}: it ends by itself on the "
                "first run date without its cause. To hear nothing of it until then, snooze it"
            )
        end = until if action == "snooze" else None
        postgres.incidents.decide(connection, incident, KINDS[action], settings.run_id, by=by, why=why, until=end)
    return IncidentDecision(
        incident=number, action=action, by=by, why=why, sentence=_sentence(incident, action, by, until)
    )


def end_of_snooze(days: float | None, until: datetime | None) -> datetime | None:
    """Return the end of a snooze that is given as days from now or as a moment (UTC).

    Raises:
        ActionRequiredError: both are given.
    """
    if days is not None and until is not None:
        raise ActionRequiredError("give --days or --until, not both")
    return until if days is None else utc_now() + timedelta(days=days)


def lines_of(settings: Settings, *, is_open: bool) -> list[str]:
    """Return incidents as lines for a person, the most severe first."""
    with postgres.connection.engine(settings).connect() as connection:
        rows = postgres.incidents.read_incidents(connection, is_open=is_open)
    lines = []
    for row in rows:
        until = f" until {row['snoozed_until']:%Y-%m-%d %H:%M} UTC" if row["state"] == "snoozed" else ""
        by = f" by {row['acknowledged_by']}" if row["state"] == "acknowledged" else ""
        lines += [
            f"{row['incident']} [{row['severity']}] {row['state']}{by}{until}, since {row['first_day']}: {row['what']}",
            f"    readers: {row['effect']}",
            *([f"    runbook: {row['runbook']}"] if row["runbook"] else []),
        ]
    return [printable(line) for line in lines]


def _require_end(until: datetime | None) -> None:
    if until is None:
        raise ActionRequiredError("snooze needs its end: --days 3, or --until 2026-03-04T08:00:00 (UTC)")
    now = utc_now()
    if not now < until <= now + timedelta(days=MOST_DAYS):
        raise ActionRequiredError(
            f"the end of a snooze, {until:%Y-%m-%d %H:%M} UTC, must be within the next {MOST_DAYS} days"
        )


def _sentence(incident: Incident, action: Action, by: str, until: datetime | None) -> str:
    name = f"incident {incident.id} ({incident.details.subject}, {incident.details.rule})"
    if action == "acknowledge":
        return f"{name} is acknowledged by {by}; an update is sent if its severity rises, and its recovery is sent"
    if action == "close":
        return f"{name} is closed by {by}"
    return f"{name} is snoozed until {until:%Y-%m-%d %H:%M} UTC; only a higher severity is sent before"

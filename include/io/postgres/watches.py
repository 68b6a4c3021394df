"""The heartbeat of the watcher, and what it must read besides, in the shared database."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.dialects import postgresql

from include.io.postgres import schema
from include.io.postgres.connection import impatient_engine

WATCHER = "watcher"
SPARE = timedelta(minutes=2)


class Look(NamedTuple):
    """When the watcher last looked, how often it does, and what it found."""

    looked_at: datetime
    every: timedelta
    findings: list[str]

    def is_dead(self, now: datetime) -> bool:
        """Return whether it has missed three looks, as the view `watcher_status` says."""
        return now >= self.looked_at + 3 * self.every + SPARE


class Stuck(NamedTuple):
    """The messages that wait for one destination for too long."""

    destination: str
    messages: int
    oldest: int
    since: datetime
    last_error: str | None


def record_look(database_url: SecretStr, now: datetime, every: timedelta, findings: Sequence[str]) -> None:
    """Record that the watcher has looked."""
    values = {"looked_at": now, "every_seconds": int(every.total_seconds()), "findings": [*findings]}
    adding = postgresql.insert(schema.watches).values(watcher=WATCHER, **values)
    with impatient_engine(database_url.get_secret_value()).begin() as connection:
        connection.execute(adding.on_conflict_do_update(index_elements=["watcher"], set_=values))


def read_look(database_url: SecretStr) -> Look | None:
    """Return when the watcher last looked; None if it never did."""
    row = schema.watches.c
    statement = sa.select(row.looked_at, row.every_seconds, row.findings).where(row.watcher == WATCHER)
    with impatient_engine(database_url.get_secret_value()).begin() as connection:
        found = connection.execute(statement).one_or_none()
    return Look(found[0].astimezone(UTC), timedelta(seconds=found[1]), found[2]) if found else None


def find_stuck(database_url: SecretStr, before: datetime) -> list[Stuck]:
    """Return the destinations for which messages wait that were stored before a moment, with the oldest of them."""
    row = schema.messages.c
    statement = (
        sa
        .select(
            row.destination,
            sa.func.count(),
            sa.func.min(row.id),
            sa.func.min(row.created_at),
            sa.func.max(row.last_error),
        )
        .where(row.sent_at.is_(None), row.given_up_at.is_(None), row.created_at < before)
        .group_by(row.destination)
        .order_by(row.destination)
    )
    with impatient_engine(database_url.get_secret_value()).begin() as connection:
        return [Stuck(*found) for found in connection.execute(statement)]


def read_newest_step(database_url: SecretStr, project: str) -> datetime | None:
    """Return when the newest step of a project ended; None if none ever ran."""
    row = schema.step_runs.c
    statement = sa.select(sa.func.max(row.ended_at)).where(row.project == project)
    with impatient_engine(database_url.get_secret_value()).begin() as connection:
        found: datetime | None = connection.scalar(statement)
    return found.astimezone(UTC) if found else None

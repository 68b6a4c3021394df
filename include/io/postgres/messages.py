"""The outbox, in the shared database: messages that wait to be sent. `include/io/outbox.py` sends them.

No transaction is open while a message is sent. A sender takes a message by counting a try and by moving the time of the
next one by LEASE, in a transaction of its own. If it dies, the next sender takes the message after that. So a message
is sent at least once, and twice only if a sender died, or lost the database, between sending and recording it.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from pydantic import JsonValue, SecretStr
from sqlalchemy.dialects import postgresql

from include.core.outbox import Message, storable
from include.io.postgres import schema
from include.io.postgres.connection import impatient_engine

LEASE = timedelta(minutes=1)
"""How long a message belongs to the sender that took it: longer than one try can last."""

NOW = sa.func.clock_timestamp()
COLUMN = schema.messages.c
IS_UNSENT = COLUMN.sent_at.is_(None) & COLUMN.given_up_at.is_(None)


class TakenMessage(NamedTuple):
    """A message that this process may send now. `attempts` counts this try."""

    id: int
    key: str
    kind: str
    channel: str
    destination: str
    payload: dict[str, JsonValue]
    subject: str
    attempts: int
    last_error: str | None
    is_expired: bool


def put(connection: sa.Connection, message: Message) -> int:
    """Store a message in the caller's transaction, unless it is stored already. Return its id."""
    values = message.model_dump(exclude={"kept_for"}) | {"deadline": NOW + message.kept_for}
    adding = postgresql.insert(schema.messages).values(**values).on_conflict_do_nothing(index_elements=["key"])
    added: int | None = connection.scalar(adding.returning(COLUMN.id))
    if added is not None:
        return added
    present: int = connection.scalars(sa.select(COLUMN.id).where(COLUMN.key == message.key)).one()
    return present


class Outbox:
    """The messages of one shared database. Each method is a transaction of its own, which waits only for seconds."""

    def __init__(self, database_url: SecretStr) -> None:
        self._engine = impatient_engine(database_url.get_secret_value())

    def put(self, message: Message) -> int:
        """Store a message that has no other transaction; return its id."""
        with self._engine.begin() as connection:
            return put(connection, message)

    def find_destinations(self) -> list[str]:
        """Return the connections for which messages are due now."""
        due = sa.select(COLUMN.destination).distinct().where(IS_UNSENT, COLUMN.not_before <= NOW)
        with self._engine.begin() as connection:
            return sorted(connection.scalars(due))

    def take(
        self, destinations: Collection[str], channels: Collection[str], only: int | None = None
    ) -> TakenMessage | None:
        """Take the oldest message that is due, so that no other sender has it; None if there is none.

        Args:
            destinations: the connections that have an address.
            channels: those that this code can serve.
            only: take this message or none.
        """
        due, held = schema.messages.alias("due"), schema.messages.alias("held")
        oldest = (
            sa
            .select(due.c.id)
            .where(due.c.sent_at.is_(None), due.c.given_up_at.is_(None), due.c.not_before <= NOW)
            .where(due.c.destination.in_(destinations), due.c.channel.in_(channels))
            .where(~sa.exists().where(held.c.destination == due.c.destination, held.c.hold_until > NOW))
            .order_by(due.c.id)
            .limit(1)
            .with_for_update(skip_locked=True, of=due)
        )
        if only is not None:
            oldest = oldest.where(due.c.id == only)
        taking = (
            sa
            .update(schema.messages)
            .where(COLUMN.id == oldest.scalar_subquery())
            .values(attempts=COLUMN.attempts + 1, not_before=NOW + LEASE)
            .returning(
                *(COLUMN[name] for name in TakenMessage._fields if name != "is_expired"),
                (COLUMN.deadline < NOW).label("is_expired"),
            )
        )
        with self._engine.begin() as connection:
            found = connection.execute(taking).one_or_none()
        return TakenMessage(*found) if found else None

    def mark_sent(self, message: TakenMessage) -> None:
        """Record that the receiver has accepted the message, also if another sender has taken it since."""
        is_first = (COLUMN.id == message.id) & COLUMN.sent_at.is_(None)
        self._update(is_first, sent_at=NOW, given_up_at=None, last_error=None)

    def postpone(self, message: TakenMessage, reason: str, wait: timedelta, hold: timedelta | None = None) -> bool:
        """Record a failed try, and when the next may be; give the message up if that is after its deadline.

        Args:
            message: the message.
            reason: why it failed.
            wait: the time until the next try.
            hold: the time for which no message may go to the same destination.

        Returns:
            Whether there will be another try.
        """
        is_late = NOW + wait > COLUMN.deadline
        values = {
            "last_error": storable(reason),
            "not_before": NOW + wait,
            "given_up_at": sa.case((is_late, NOW)),
            **({"hold_until": NOW + hold} if hold else {}),
        }
        return self._update(_is_taken_by(message), **values) is None

    def give_up(self, message: TakenMessage, reason: str) -> None:
        """Record that the message will not be tried again."""
        self._update(_is_taken_by(message), given_up_at=NOW, last_error=storable(reason))

    def explain(self, destination: str, reason: str) -> None:
        """Say why nothing is sent to a destination. It counts as no try."""
        waiting = IS_UNSENT & (COLUMN.destination == destination) & COLUMN.last_error.is_distinct_from(reason)
        self._update(waiting, last_error=reason)

    def renew(self, since: datetime) -> int:
        """Let messages that were given up since then be tried again, for as long as at first; return how many."""
        given_up = COLUMN.given_up_at >= since
        values = {"given_up_at": None, "not_before": NOW, "deadline": NOW + (COLUMN.deadline - COLUMN.created_at)}
        with self._engine.begin() as connection:
            found: int = connection.execute(sa.update(schema.messages).where(given_up).values(**values)).rowcount
        return found

    def read_unsent(self) -> list[dict[str, Any]]:
        """Return what waits and what was given up, oldest first, as the view `outbox` has it."""
        view = sa.text("SELECT * FROM outbox WHERE state <> 'sent' ORDER BY id")
        with self._engine.begin() as connection:
            return [dict(row) for row in connection.execute(view).mappings()]

    def _update(self, condition: sa.ColumnElement[bool], **values: Any) -> datetime | None:
        """Change the delivery state of messages; return when the message was given up, if it was."""
        changing = sa.update(schema.messages).where(condition).values(**values).returning(COLUMN.given_up_at)
        with self._engine.begin() as connection:
            found: datetime | None = connection.scalar(changing)
        return found


def _is_taken_by(message: TakenMessage) -> sa.ColumnElement[bool]:
    """Return the condition that no other sender has taken or sent the message since."""
    return (COLUMN.id == message.id) & (COLUMN.attempts == message.attempts) & IS_UNSENT

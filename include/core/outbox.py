"""Messages to people and other systems: what one is, what an answer to it means, and when it is tried again.

Pure. The outbox itself is a table (`include/io/postgres/messages.py`), and `include/io/outbox.py` sends.
"""

import hashlib
import json
import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Literal, Self

from pydantic import JsonValue

from include.core.base import Record

ALERTS = "nightly_alerts"
"""The connection of the webhook that people on call read."""

TEXT = "chat"
"""The channel of a message with a text, the only content that there is. How the text reaches a destination is said by
its connection, when it is sent (`include/io/channels`); the word is as old as the outbox."""

FIRST_WAIT = timedelta(minutes=1)
MAX_WAIT = timedelta(hours=1)
MAX_TEXT = 20_000
"""The most characters of a text: Slack refuses more than 40,000, and a refused message takes its alerts with it."""
KEPT_FOR = timedelta(hours=24)
"""How long a message is tried: on-call reads yesterday's failures in the views, not in the chat."""

TEMPORARY = frozenset({408, 425, 429})
"""The client errors that say nothing against the message itself."""


class Message(Record):
    """A message to be sent once.

    Attributes:
        key: names the message for good: a second one with the same key is not stored, and it is sent as the header
            `Idempotency-Key`. Made with `key_of`.
        kind: what the message is about: task_failed, run_failed, alerts, recovered, question, watch, champion_changed
            or test.
        channel: what the content is: `chat` is a text. The connection says how it is delivered.
        destination: the name of the connection with the address, which is a secret.
        payload: the text (`text`), and what the message is about: `project`, `model`, `owner`, `severity`, and of some
            kinds more, for programs.
        subject: the task, DAG, model or table that it is about.
        run_id: the Airflow run that caused it, or by-hand.
        task: the task that caused it, if there is one: `<dag>.<task>`.
        kept_for: how long it is tried before it is given up.
    """

    key: str
    kind: str
    channel: Literal["chat"] = "chat"
    destination: str = ALERTS
    payload: dict[str, JsonValue]
    subject: str
    run_id: str
    task: str | None = None
    kept_for: timedelta = KEPT_FOR

    @classmethod
    def of_text(cls, text: str, *parts: object, kind: str, subject: str, run_id: str, task: str | None = None) -> Self:
        """Return the message with this text to people on call; `parts` tell it apart from others of its kind."""
        return cls(
            key=key_of(kind, *parts),
            kind=kind,
            payload={"text": storable(text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} …")},
            subject=storable(subject),
            run_id=storable(run_id),
            task=task,
        )


class Attempt(Record):
    """The result of one try to send.

    Attributes:
        outcome: `sent`; `later`: it may succeed if it is tried again; `never`: it would be refused again.
        reason: why it was not sent, without address and without anything that the receiver said.
        asked_wait: how long the receiver asked to wait (`Retry-After`).
    """

    outcome: Literal["sent", "later", "never"]
    reason: str = ""
    asked_wait: timedelta | None = None


def key_of(kind: str, *parts: object) -> str:
    """Return the idempotency key of the message of this kind about these things, in ASCII, as headers need it."""
    content = json.dumps([str(part) for part in parts])
    return f"{kind}-{hashlib.sha256(content.encode()).hexdigest()[:32]}"


def storable(text: str) -> str:
    """Return the text as PostgreSQL can store it: U+FFFD in place of U+0000 and of half characters."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")


def attempt_of(status: int, headers: Mapping[str, str], now: datetime) -> Attempt:
    """Return what an HTTP answer means for the message.

    A redirect is not followed, because a message belongs to the address that the connection has.
    """
    if 200 <= status < 300:
        return Attempt(outcome="sent")
    reason = f"answered {status}"
    if status >= 500 or status in TEMPORARY:
        return Attempt(outcome="later", reason=reason, asked_wait=read_retry_after(headers, now))
    return Attempt(outcome="never", reason=reason)


def read_retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """Return the wait that `Retry-After` asks for, in seconds or as a date; None without one that can be understood.

    A date counts from the receiver's own clock, if the answer has its `Date`.
    """
    asked = headers.get("Retry-After", "").strip()
    if asked.isascii() and asked.isdigit():
        return timedelta(seconds=min(int(asked[:9]), 10**8))
    moment = _read_date(asked)
    if moment is None:
        return None
    return max(timedelta(0), moment - (_read_date(headers.get("Date", "")) or now))


def _read_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, IndexError, TypeError):  # the last two for some texts that are no dates
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def wait_after(attempts: int, asked: timedelta | None = None) -> timedelta:
    """Return how long to wait after the n-th try: twice as long each time, with jitter, and never less than asked."""
    doubled: int = 2 ** min(attempts - 1, 20)
    backed_off = min(MAX_WAIT, FIRST_WAIT * doubled) * random.uniform(0.5, 1)
    return max(backed_off, asked + timedelta(seconds=random.uniform(0, 1))) if asked else backed_off

"""Send messages, each by the channel of its destination (`include/io/channels`).

`send_due` sends what waits in the outbox. Whoever has stored a message calls it at once, and the DAG `outbox` calls it
every few minutes. `send_directly` is for a message that could not be stored, because the shared database is down.

An address is a secret. No error, log line or row contains one, nor what a receiver answered beside its status.
"""

import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

from sqlalchemy.exc import SQLAlchemyError

from include.core.base import Record
from include.core.errors import ActionRequiredError
from include.core.outbox import TEXT, Attempt, Message, wait_after
from include.io.channels import channel_of
from include.io.channels.base import Channel, Sendable
from include.io.postgres.messages import Outbox, TakenMessage

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

FIND_ADDRESS = Callable[[str], str | None]
"""Returns the address that a connection has, as `channel_of` reads it; None without the connection."""

TRY_SECONDS = 10
"""The longest time that a receiver may take, whatever it does. It must be well below `messages.LEASE`."""

AT_ONCE = 16
"""Destinations that are sent to at once."""

DIRECT_TRIES = 3
DIRECT_SECONDS = 20
"""Without an outbox, no try begins later: Airflow ends a callback of a run after 50 seconds."""
DIRECT_WAIT = 2.0
"""Without an outbox: seconds before the second try."""


class Dispatched(Record):
    """What one call of `send_due` did, each message in a sentence."""

    sent: tuple[int, ...] = ()
    waiting: tuple[str, ...] = ()
    given_up: tuple[str, ...] = ()


def send_due(outbox: Outbox, find_address: FIND_ADDRESS, *, seconds: float, first: int | None = None) -> Dispatched:
    """Send the messages that are due, the oldest first, until none is left or `seconds` have passed.

    Destinations do not wait for each other. After a failure, no other message is sent to the same destination in this
    call. Messages to a connection that does not exist wait until it does.

    Args:
        outbox: the messages.
        find_address: finds the address of a connection.
        seconds: no further message is begun after this time.
        first: the message to begin with, whether or not it is the oldest.
    """
    waiting: list[str] = []
    channels = _channels(outbox, find_address, waiting)
    found = all_at_once(_Sending(outbox, time.monotonic() + seconds, first).send_all, channels.items())
    return Dispatched(
        sent=tuple(number for each in found for number in each.sent),
        waiting=(*waiting, *(sentence for each in found for sentence in each.waiting)),
        given_up=tuple(sentence for each in found for sentence in each.given_up),
    )


def all_at_once(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Do something for each of several destinations at once, so that a slow one does not delay the others.

    What is done must have a limit of time of its own.
    """
    listed = list(items)
    if len(listed) < 2:
        return [work(each) for each in listed]
    with ThreadPoolExecutor(min(len(listed), AT_ONCE)) as pool:
        return list(pool.map(work, listed))


@dataclass(frozen=True)
class _Sending:
    """One call of `send_due`: no message is begun after the moment `end`."""

    outbox: Outbox
    end: float
    first: int | None

    def send_all(self, destination: tuple[str, Channel]) -> Dispatched:
        """Send what is due to one destination, until a message fails."""
        name, channel = destination
        sent: list[int] = []
        waiting: list[str] = []
        given_up: list[str] = []
        order = [self.first, None] if self.first is not None else [None]
        while order and time.monotonic() < self.end:
            message = self.outbox.take([name], [TEXT], order[0])
            if order[0] is not None or message is None:
                order.pop(0)
            if message is None:
                continue
            attempt = _try(self.outbox, channel, message)
            if attempt.outcome == "sent":
                sent.append(message.id)
                continue
            sentence = f"message {message.id} about {message.subject}: {attempt.reason}"
            (waiting if attempt.outcome == "later" else given_up).append(sentence)
            if not message.is_expired:
                break
        return Dispatched(sent=tuple(sent), waiting=tuple(waiting), given_up=tuple(given_up))


def send_directly(address: str, message: Message) -> Attempt:
    """Send a message that is in no outbox: a few tries within a minute. Return the last one.

    Raises:
        ActionRequiredError: the address cannot be used.
    """
    from tenacity import RetryCallState, Retrying, retry_if_result, stop_after_attempt, stop_before_delay

    def wait(state: RetryCallState) -> float:
        asked = _result_of(state).asked_wait or timedelta(0)
        return max(DIRECT_WAIT * state.attempt_number, asked.total_seconds())

    channel = channel_of(message.destination, address)
    tries = Retrying(
        wait=wait,
        stop=stop_after_attempt(DIRECT_TRIES) | stop_before_delay(DIRECT_SECONDS),
        retry=retry_if_result(lambda attempt: attempt.outcome == "later"),
        retry_error_callback=_result_of,
    )
    return tries(send, channel, message)


def _result_of(state: Any) -> Attempt:
    return cast(Attempt, state.outcome.result())


def send(channel: Channel, message: Sendable) -> Attempt:
    """Try once to send a message."""
    return channel.send(message, TRY_SECONDS)


def _channels(outbox: Outbox, find_address: FIND_ADDRESS, waiting: list[str]) -> dict[str, Channel]:
    """Return the channels of the destinations for which something is due; say in the outbox which have none."""
    found = {}
    for destination in outbox.find_destinations():
        try:
            address = find_address(destination)
            if address is None:
                raise ActionRequiredError(f"there is no connection {destination}")
            found[destination] = channel_of(destination, address)
        except ActionRequiredError as error:
            outbox.explain(destination, str(error))
            waiting.append(f"messages to {destination}: {error}")
    return found


def _try(outbox: Outbox, channel: Channel, message: TakenMessage) -> Attempt:
    """Send a message that was taken, and record the result."""
    if message.is_expired:
        before = f"; before that: {message.last_error}" if message.last_error else ""
        attempt = Attempt(outcome="never", reason=f"not sent before its deadline{before}")
    else:
        attempt = send(channel, message)
    if attempt.outcome == "sent":
        try:
            outbox.mark_sent(message)
        except SQLAlchemyError as error:  # to raise would only make the caller send it once more
            log.warning(
                "message %s was sent, but not recorded (%s); it is sent twice", message.id, type(error).__name__
            )
    elif attempt.outcome == "never":
        outbox.give_up(message, attempt.reason)
    else:
        wait = wait_after(message.attempts, attempt.asked_wait)
        if not outbox.postpone(message, attempt.reason, wait, attempt.asked_wait):
            return Attempt(outcome="never", reason=f"{attempt.reason}; the next try would be after its deadline")
    return attempt

"""Send messages: the only place that calls an address of a person's or another system's.

`send_due` sends what waits in the outbox. Whoever has stored a message calls it at once, and the DAG `outbox` calls it
every few minutes. `send_directly` is for a message that could not be stored, because the shared database is down.

An address is a secret. No error, log line or row contains one, nor what a receiver answered beside its status.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, cast
from urllib.parse import urlsplit

from pydantic import JsonValue
from sqlalchemy.exc import SQLAlchemyError

from include.core.base import Record
from include.core.errors import ActionRequiredError
from include.core.outbox import Attempt, Message, judge_answer, wait_after
from include.core.printable import slack
from include.core.settings import utc_now
from include.io.postgres.messages import Outbox, TakenMessage

log = logging.getLogger(__name__)

FIND_ADDRESS = Callable[[str], str | None]
"""Returns the address that a connection has, None without the connection."""

TRY_SECONDS = 10
"""The longest time of one try, whatever the receiver does. It must be well below `messages.LEASE`."""

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

    After a failure, no other message is sent to the same destination in this call. Messages to a connection that does
    not exist wait until it does.

    Args:
        outbox: the messages.
        find_address: finds the address of a connection.
        seconds: no further message is begun after this time.
        first: the message to begin with, whether or not it is the oldest.
    """
    sent: list[int] = []
    waiting: list[str] = []
    given_up: list[str] = []
    end = time.monotonic() + seconds
    addresses = _addresses(outbox, find_address, waiting)
    order = [first, None] if first is not None else [None]
    while addresses and order and time.monotonic() < end:
        message = outbox.take([*addresses], [*CHANNELS], order[0])
        if order[0] is not None or message is None:
            order.pop(0)
        if message is None:
            continue
        attempt = _try(outbox, addresses[message.destination], message)
        if attempt.outcome == "sent":
            sent.append(message.id)
            continue
        sentence = f"message {message.id} about {message.subject}: {attempt.reason}"
        (waiting if attempt.outcome == "later" else given_up).append(sentence)
        if not message.is_expired:
            del addresses[message.destination]
    return Dispatched(sent=tuple(sent), waiting=tuple(waiting), given_up=tuple(given_up))


def send_directly(address: str, message: Message) -> Attempt:
    """Send a message that is in no outbox: a few tries within a minute. Return the last one.

    Raises:
        ActionRequiredError: the address is no URL.
    """
    from tenacity import RetryCallState, Retrying, retry_if_result, stop_after_attempt, stop_before_delay

    def wait(state: RetryCallState) -> float:
        asked = _result_of(state).asked_wait or timedelta(0)
        return max(DIRECT_WAIT * state.attempt_number, asked.total_seconds())

    require_url(message.destination, address)
    tries = Retrying(
        wait=wait,
        stop=stop_after_attempt(DIRECT_TRIES) | stop_before_delay(DIRECT_SECONDS),
        retry=retry_if_result(lambda attempt: attempt.outcome == "later"),
        retry_error_callback=_result_of,
    )
    return tries(send, address, message.channel, message.payload, message.key)


def _result_of(state: Any) -> Attempt:
    return cast(Attempt, state.outcome.result())


def require_url(destination: str, address: str) -> None:
    """Check that the address of a connection can be one, without showing it.

    Raises:
        ActionRequiredError: says what the connection must have.
    """
    try:
        is_url = urlsplit(address).scheme in ("http", "https") and bool(urlsplit(address).hostname)
    except ValueError:
        is_url = False
    if not is_url:
        raise ActionRequiredError(f"connection {destination}: its password must be the URL of the webhook, https://…")


def send(address: str, channel: str, payload: Mapping[str, JsonValue], key: str) -> Attempt:
    """Try once to send a message."""
    import httpx

    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)  # at INFO it logs the address of each request
    content = CHANNELS[channel](payload)
    headers = {"Idempotency-Key": key}
    try:
        answer = asyncio.run(_post(address, content, headers))
    except TimeoutError:
        return Attempt(outcome="later", reason=f"no answer within {TRY_SECONDS} s")
    except httpx.InvalidURL:
        return Attempt(outcome="never", reason="InvalidURL")
    except httpx.HTTPError as error:
        return Attempt(outcome="later", reason=type(error).__name__)
    return judge_answer(answer.status_code, answer.headers, utc_now())


async def _post(address: str, content: object, headers: Mapping[str, str]) -> Any:
    """Post JSON. The limit is for the whole call: a receiver that drips bytes would outlast those of httpx."""
    import httpx

    async with asyncio.timeout(TRY_SECONDS), httpx.AsyncClient(timeout=None) as client:
        return await client.post(address, json=content, headers=dict(headers))


def _as_chat(payload: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return what a Slack-compatible webhook gets: it reads angle brackets and ampersands as markup."""
    return {"text": slack(str(payload["text"]))}


CHANNELS: dict[str, Callable[[Mapping[str, JsonValue]], object]] = {"chat": _as_chat, "webhook": dict}
"""For each channel, the function that makes the content of the request."""


def _addresses(outbox: Outbox, find_address: FIND_ADDRESS, waiting: list[str]) -> dict[str, str]:
    """Return the addresses of the destinations for which something is due; say in the outbox which have none."""
    found = {}
    for destination in outbox.find_destinations():
        try:
            address = find_address(destination)
            if address is None:
                raise ActionRequiredError(f"there is no connection {destination}")
            require_url(destination, address)
            found[destination] = address
        except ActionRequiredError as error:
            outbox.explain(destination, str(error))
            waiting.append(f"messages to {destination}: {error}")
    return found


def _try(outbox: Outbox, address: str, message: TakenMessage) -> Attempt:
    """Send a message that was taken, and record the result."""
    if message.is_expired:
        before = f"; before that: {message.last_error}" if message.last_error else ""
        attempt = Attempt(outcome="never", reason=f"not sent before its deadline{before}")
    else:
        attempt = send(address, message.channel, message.payload, message.key)
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

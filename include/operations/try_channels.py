"""try_channels: send a marked test message to destinations, and say what became of each."""

import time
from collections.abc import Iterable
from uuid import uuid4

from include.core.base import Record
from include.core.errors import ActionRequiredError
from include.core.outbox import Attempt, Message
from include.io import outbox
from include.io.channels import channel_of


class Tried(Record):
    """What became of a test message."""

    destination: str
    channel: str
    result: str
    milliseconds: int
    is_sent: bool


def try_channels(destinations: Iterable[str], find_address: outbox.FIND_ADDRESS) -> list[Tried]:
    """Send a test message to each destination, once and not by the outbox."""
    return [_try(destination, find_address(destination)) for destination in destinations]


def _try(destination: str, address: str | None) -> Tried:
    text = (
        f"TEST: this is a test message of nightly-ml to {destination}. Nothing is wrong, and there is nothing to do. "
        "Somebody typed: alert test"
    )
    made = Message.of_text(text, uuid4(), kind="test", subject="TEST", run_id="by-hand")
    kind, begun = "", time.monotonic()
    try:
        if address is None:
            raise ActionRequiredError(f"there is no connection {destination}")
        channel = channel_of(destination, address)
        kind = channel.kind
        attempt = outbox.send(channel, made.model_copy(update={"destination": destination}))
    except ActionRequiredError as error:
        attempt = Attempt(outcome="never", reason=str(error))
    return Tried(
        destination=destination,
        channel=kind,
        result=attempt.reason or attempt.outcome,
        milliseconds=round((time.monotonic() - begun) * 1000),
        is_sent=attempt.outcome == "sent",
    )

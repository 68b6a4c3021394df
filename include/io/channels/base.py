"""What all channels have in common."""

import base64
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self, cast
from urllib.parse import urlsplit

from pydantic import ConfigDict, JsonValue, SecretStr

from include.core.errors import ActionRequiredError
from include.core.outbox import Attempt
from include.core.variants import Variant

if TYPE_CHECKING:
    import httpx


class Sendable(Protocol):
    """What a channel reads of a message: one to be stored, or one that was taken from the outbox."""

    @property
    def key(self) -> str:
        """The idempotency key."""

    @property
    def kind(self) -> str:
        """What the message is about, such as task_failed."""

    @property
    def subject(self) -> str:
        """The task, DAG, model or table that it is about."""

    @property
    def payload(self) -> dict[str, JsonValue]:
        """The text, and the labels by which it was routed."""


@dataclass(frozen=True)
class Attachment:
    """A file that a message has. It is stored with the message, so that what is sent is what was stored."""

    name: str
    type: str
    content: bytes

    @property
    def in_payload(self) -> dict[str, JsonValue]:
        """The part of a payload that has it."""
        return {
            "attachment": {"name": self.name, "type": self.type, "content": base64.b64encode(self.content).decode()}
        }

    @classmethod
    def of(cls, message: Sendable) -> Self | None:
        """Return the file of a message, None if it has none."""
        found = message.payload.get("attachment")
        if not found:
            return None
        given = cast(dict[str, str], found)
        return cls(given["name"], given["type"], base64.b64decode(given["content"]))


def without_attachment(payload: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return what a channel sends that takes no files."""
    return {name: value for name, value in payload.items() if name != "attachment"}


class Channel(Variant, ABC):
    """A destination with its address, which never prints."""

    model_config = ConfigDict(hide_input_in_errors=True)

    url: SecretStr

    @abstractmethod
    def require_usable(self, destination: str) -> None:
        """Check the address, without calling or showing it.

        Args:
            destination: the name of the connection.

        Raises:
            ActionRequiredError: says what the connection must have.
        """

    @abstractmethod
    def send(self, message: Sendable, seconds: float) -> Attempt:
        """Try once to send a message.

        Args:
            message: the message.
            seconds: the longest time that the receiver may take, whatever it does.

        Returns:
            The result. Its reason has neither the address nor anything that the receiver said, except its status.
        """


def require_http_url(destination: str, url: str) -> None:
    """Check that a URL is one of HTTP, without showing it.

    Raises:
        ActionRequiredError: says what the connection must have.
    """
    try:
        is_url = urlsplit(url).scheme in ("http", "https") and bool(urlsplit(url).hostname)
    except ValueError:
        is_url = False
    if not is_url:
        raise ActionRequiredError(f"connection {destination}: its password must be the URL of the webhook, https://…")


def post(url: str, content: bytes, headers: Mapping[str, str], seconds: float) -> Attempt:
    """Post JSON once. A redirect is not followed."""
    from include.core.outbox import attempt_of
    from include.core.settings import utc_now

    async def call(client: "httpx.AsyncClient") -> Attempt:
        answer = await client.post(url, content=content, headers={"Content-Type": "application/json", **headers})
        return attempt_of(answer.status_code, answer.headers, utc_now())

    return attempt(call, seconds)


def attempt(call: "Callable[[httpx.AsyncClient], Coroutine[Any, Any, Attempt]]", seconds: float) -> Attempt:
    """Return what became of a call by HTTP.

    The limit is for the whole call: a receiver that drips bytes would outlast those of httpx.
    """
    import asyncio
    import logging

    import httpx

    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)  # at INFO it logs the address of each request

    async def limited() -> Attempt:
        async with asyncio.timeout(seconds), httpx.AsyncClient(timeout=None) as client:
            return await call(client)

    try:
        return asyncio.run(limited())
    except TimeoutError:
        return Attempt(outcome="later", reason=f"no answer within {seconds:g} s")
    except httpx.InvalidURL:
        return Attempt(outcome="never", reason="InvalidURL")
    except httpx.HTTPError as error:
        return Attempt(outcome="later", reason=type(error).__name__)

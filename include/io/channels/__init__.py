"""Channels: the ways in which a message reaches a destination. One file for each kind.

The connection of a destination says its kind. Which destinations a message has is said by `include/core/routes.py`, and
when it is tried again by `include/io/outbox.py`.
"""

import json
from typing import Any

from pydantic import ValidationError

from include.core.errors import ActionRequiredError, nearest
from include.io.channels.apprise import Apprise
from include.io.channels.base import Channel
from include.io.channels.chat import Chat
from include.io.channels.power_bi import PowerBi
from include.io.channels.webhook import Webhook

KINDS: dict[str, type[Channel]] = {
    kind.model_fields["kind"].default: kind for kind in (Chat, Apprise, Webhook, PowerBi)
}


def channel_of(destination: str, address: str) -> Channel:
    """Return the channel of a connection.

    Args:
        destination: the name of the connection.
        address: what `find_address` returns for it: the URL of a chat's webhook, or JSON such as
            `{"channel": "apprise", "url": "mailtos://…"}`.

    Raises:
        ActionRequiredError: says what the connection must have, without showing what it has.
    """
    settings: dict[str, Any] = {"url": address}
    if address.lstrip().startswith("{"):
        try:
            settings = json.loads(address)
        except ValueError:
            raise ActionRequiredError(f"connection {destination}: its address is neither a URL nor JSON") from None
    kind = str(settings.pop("channel", "chat"))
    if kind not in KINDS:
        raise ActionRequiredError(
            f"connection {destination}: `channel` in its extra names no channel{nearest(kind, KINDS)}"
        )
    try:
        channel = KINDS[kind].model_validate(settings)
    except ValidationError as error:  # not chained, because its text has the values
        wrong = ", ".join(sorted({".".join(map(str, problem["loc"])) for problem in error.errors()}))
        known = [name for name in KINDS[kind].model_fields if name not in ("kind", "url")]
        has = f"the password is the URL, and its extra has `channel`{''.join(f' and `{name}`' for name in known)}"
        raise ActionRequiredError(
            f"connection {destination}: wrong or missing for the channel {kind}: {wrong}; {has}"
        ) from None
    channel.require_usable(destination)
    return channel

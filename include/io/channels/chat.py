"""chat: a Slack-compatible webhook."""

import json
from typing import Literal

from include.core.outbox import Attempt
from include.core.printable import slack
from include.io.channels.base import Channel, Sendable, post, require_http_url


class Chat(Channel):
    """Posts `{"text": …}`. It is the channel of a connection that names none."""

    kind: Literal["chat"] = "chat"

    def require_usable(self, destination: str) -> None:
        """Refuse an address that is no URL of HTTP."""
        require_http_url(destination, self.url.get_secret_value())

    def send(self, message: Sendable, seconds: float) -> Attempt:
        """Post the text; the receiver reads angle brackets and ampersands as markup."""
        content = json.dumps({"text": slack(str(message.payload["text"]))}).encode()
        return post(self.url.get_secret_value(), content, {"Idempotency-Key": message.key}, seconds)

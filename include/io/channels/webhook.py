"""webhook: signed JSON, for a receiver of your own.

docs/notifications.md has the check of a receiver, which a test runs.
"""

import hashlib
import hmac
import json
from typing import Literal

from pydantic import Field, SecretStr

from include.core.outbox import Attempt
from include.core.settings import utc_now
from include.io.channels.base import Channel, Sendable, post, require_http_url, without_attachment


class Webhook(Channel):
    """Posts the message with its labels as JSON, signed with a secret that the receiver has too."""

    kind: Literal["webhook"] = "webhook"
    secret: SecretStr = Field(min_length=16)

    def require_usable(self, destination: str) -> None:
        """Refuse an address that is no URL of HTTP."""
        require_http_url(destination, self.url.get_secret_value())

    def send(self, message: Sendable, seconds: float) -> Attempt:
        """Post the message. Each try has the same key, and a timestamp and signature of its own."""
        about = {"key": message.key, "kind": message.kind, "subject": message.subject}
        content = json.dumps(
            {**without_attachment(message.payload), **about}, ensure_ascii=False, sort_keys=True
        ).encode()
        timestamp = str(int(utc_now().timestamp()))
        headers = {
            "Idempotency-Key": message.key,
            "X-Nightly-Timestamp": timestamp,
            "X-Nightly-Signature": sign(self.secret.get_secret_value(), timestamp, content),
        }
        return post(self.url.get_secret_value(), content, headers, seconds)


def sign(secret: str, timestamp: str, content: bytes) -> str:
    """Return the signature of a request: HMAC-SHA256 of the timestamp, a dot and the body."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + content, hashlib.sha256).hexdigest()

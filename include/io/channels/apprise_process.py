"""The process in which apprise sends one message: `apprise.py` starts it, asks on its standard input, and ends it.

It answers with one line of JSON. Nothing else of it is read: apprise's log lines can have parts of the address.
"""

import base64
import json
import logging
import os
import re
import signal
import sys
from typing import Any

STATUS = re.compile(r"\berror=(\d{3})\b|\bcode=(\d{3})\b")
"""How most plugins log the status that a service answered. Not public; test_channels.py notices a change."""

SMTP_REFUSED = re.compile(r"\((\d{3}), b['\"]")
"""How Python prints an answer of SMTP, which the plugin for e-mail logs."""


class Collector(logging.Handler):
    """Keeps the lines of apprise's log."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self.lines.append(record.getMessage())


def find_status(lines: list[str]) -> dict[str, Any]:
    """Return the last status in the lines of a log, with its protocol."""
    for line in reversed(lines):
        if found := SMTP_REFUSED.search(line):
            return {"status": int(found[1]), "protocol": "SMTP"}
        if found := STATUS.search(line):
            return {"status": int(found[1] or found[2]), "protocol": "HTTP"}
    return {}


def send(order: dict[str, Any], log: Collector) -> dict[str, Any]:
    """Send the message of an order; return what became of it."""
    import apprise

    asset = apprise.AppriseAsset(
        app_id="nightly-ml",
        app_desc="nightly-ml",
        async_mode=False,
        http_redirects=False,  # a message belongs to the address that the connection has
        allow_templates=False,
        storage_mode="memory",
    )
    service = apprise.Apprise.instantiate(order["url"], asset=asset)
    if service is None:
        return {"unknown": True}
    if "overflow=" not in order["url"]:
        service.overflow_mode = apprise.OverflowMode.TRUNCATE  # a text in parts would be repeated as a whole
    if "cto=" not in order["url"]:
        service.socket_connect_timeout = order["seconds"]
    if "rto=" not in order["url"]:
        service.socket_read_timeout = order["seconds"]
    everyone = apprise.Apprise(asset=asset)
    everyone.add(service)
    attached = order.get("attachment") if service.attachment_support else None
    result = everyone.notify(
        body=order["text"],
        title=order["title"],
        body_format=apprise.NotifyFormat.TEXT,
        timeout=order["seconds"],
        attach=_file(attached) if attached else None,
    )
    return {"sent": True} if bool(result) else {"sent": False, **find_status(log.lines)}


def _file(given: dict[str, str]) -> Any:
    """Return the file of a message, held in memory."""
    from apprise import AppriseAttachment
    from apprise.attachment.memory import AttachMemory

    content = base64.b64decode(given["content"])
    found = AppriseAttachment()
    found.add(AttachMemory(content=content, name=given["name"], mimetype=given["type"]))
    return found


def main() -> None:
    """Import apprise, say that it is ready, and serve one order."""
    import apprise

    apprise.Apprise.instantiate("json://localhost")  # loads all plugins, which takes most of the time
    log = Collector()
    logger = logging.getLogger("apprise")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(log)
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a plugin prints is no answer
    print("ready", file=output, flush=True)
    order = json.loads(sys.stdin.readline())
    signal.alarm(int(order["seconds"]) + 2)  # the process that asks may be killed
    print(json.dumps(send(order, log)), file=output, flush=True)
    os._exit(0)  # a thread of apprise may hang


if __name__ == "__main__":
    main()

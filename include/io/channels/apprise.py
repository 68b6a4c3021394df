"""apprise: e-mail, Teams, PagerDuty and whatever else the library apprise has a URL for.

The library runs in a process of its own (`apprise_process.py`). Its calls block without a common limit of time, and its
log lines can have the address: a process can be ended, and its output is dropped.
"""

import json
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from include.core.errors import ActionRequiredError
from include.core.outbox import TEMPORARY, Attempt
from include.io.channels.base import Channel, Sendable

START_SECONDS = 20
"""The longest time until the process is ready to send. With the time of a try it must be below `messages.LEASE`."""

NEW_LINE = "\n"
TITLE = 100
"""Characters of a title: a phone shows fewer, and a mail server may fold or encode more."""

ROOT = Path(__file__).parents[3]
IMPOSSIBLE = frozenset({"file", "syslog", "dbus", "qt", "kde", "glib", "gnome", "macosx", "windows", "none"})
"""Schemes that do something on this machine and reach nobody."""


class Apprise(Channel):
    """Sends one text to one URL of apprise, with the file of the message where the service takes files."""

    kind: Literal["apprise"] = "apprise"

    def require_usable(self, destination: str) -> None:
        """Refuse what cannot be a URL; apprise itself says when it is sent whether it knows the rest."""
        try:
            scheme = urlsplit(self.url.get_secret_value()).scheme
        except ValueError:
            scheme = ""
        if not scheme or scheme in IMPOSSIBLE:
            raise ActionRequiredError(
                f"connection {destination}: its password must be one URL of apprise that reaches people, such as "
                "mailtos://…; https://appriseit.com has the list"
            )

    def send(self, message: Sendable, seconds: float) -> Attempt:
        """Send the text with its first line as title, in a process that is ended when the time is over."""
        text = str(message.payload["text"])
        order = {
            "url": self.url.get_secret_value(),
            "title": f"nightly-ml: {textwrap.shorten(text.partition(NEW_LINE)[0], TITLE, placeholder=' ...')}",
            "text": text,
            "seconds": seconds,
            "attachment": message.payload.get("attachment"),
        }
        answer = _ask(order, seconds)
        return answer if isinstance(answer, Attempt) else attempt_of(answer)


def attempt_of(answer: Mapping[str, Any]) -> Attempt:
    """Return what an answer of the process means.

    apprise says only that a service failed. The status of HTTP or SMTP is taken from its log, where a plugin writes it;
    without one, the message is tried again until its deadline.
    """
    if answer.get("unknown"):
        return Attempt(outcome="never", reason="apprise cannot use this URL")
    if answer.get("sent"):
        return Attempt(outcome="sent")
    status, protocol = answer.get("status"), answer.get("protocol", "")
    if status is None:
        return Attempt(outcome="later", reason="apprise could not send it")
    if protocol == "SMTP":
        return Attempt(outcome="never" if status >= 500 else "later", reason=f"answered {status} by SMTP")
    is_final = 300 <= status < 500 and status not in TEMPORARY
    return Attempt(outcome="never" if is_final else "later", reason=f"answered {status}")


def _ask(order: Mapping[str, Any], seconds: float) -> Attempt | dict[str, Any]:
    """Run the process; return its answer, or the attempt if there is none."""
    # the variables of this process have secrets that the plugins of a library need not see
    kept = {name: value for name, value in os.environ.items() if name in KEPT}
    process = subprocess.Popen(
        [sys.executable, "-m", "include.io.channels.apprise_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env={**kept, "PYTHONPATH": str(ROOT)},
    )
    ended_by_us = threading.Event()

    def end() -> None:
        ended_by_us.set()
        process.kill()

    with process:
        assert process.stdin is not None and process.stdout is not None
        timer = threading.Timer(START_SECONDS, end)
        timer.start()
        try:
            is_ready = process.stdout.readline() == b"ready\n"
            timer.cancel()
            if is_ready:
                timer = threading.Timer(seconds, end)
                timer.start()
                process.stdin.write(json.dumps(order).encode() + b"\n")
                process.stdin.flush()
                line = process.stdout.readline()
                if line:
                    return dict(json.loads(line))
        except (OSError, ValueError):
            pass
        finally:
            timer.cancel()
            process.kill()
    if ended_by_us.is_set() and is_ready:
        return Attempt(outcome="later", reason=f"no answer within {seconds:g} s")
    return Attempt(outcome="later", reason="apprise could not be started")


KEPT = frozenset({
    *("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
})
"""The variables that the process gets: how to find Python, certificates and a proxy."""

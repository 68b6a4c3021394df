"""The base class of all services of a stack: name, command, settings, ports and health check."""

import hashlib
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

import httpx

from tools.stack.layout import StackLayout


class Service(ABC):
    """One program of a stack. A new kind of service is a subclass and one entry in `services.py`."""

    name: ClassVar[str]
    """The name for people; the log has this name too."""

    package: ClassVar[str]
    """The installed distribution that it runs. The service is restarted when its version changes."""

    usual_ports: ClassVar[Mapping[str, int]] = {}
    """The ports at which it listens: for each name, the preferred number."""

    def __init__(self, layout: StackLayout) -> None:
        self.layout = layout

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command that starts it. Secrets go to `settings`: everyone can read a command line."""

    @abstractmethod
    def settings(self) -> dict[str, str]:
        """Return its environment variables, besides those that all services inherit."""

    @abstractmethod
    def is_healthy(self, started_at: datetime) -> bool:
        """Return whether the service works; its process is alive and was started at this moment."""

    def digest(self) -> str:
        """Return a digest of everything whose change requires a restart of the service."""
        running = json.dumps([version(self.package), self.command(), sorted(self.settings().items())])
        return hashlib.sha256(running.encode()).hexdigest()


def find_program(name: str) -> str:
    """Return the path of a program that is installed beside this Python."""
    return str(Path(sys.executable).parent / name)


@cache
def http_client() -> httpx.Client:
    """Return the shared HTTP client for services, without a proxy. Creating one takes longer than most requests."""
    return httpx.Client(trust_env=False, timeout=10)


def answers(url: str, headers: Mapping[str, str] | None = None) -> bool:
    """Return whether a GET request to `url` succeeds."""
    with suppress(httpx.HTTPError):
        return http_client().get(url, headers=headers).is_success
    return False

"""The Spark Connect server of a stack (`tools/spark_server.py` has its command).

Tasks share it; otherwise each would start a JVM of its own, which costs 15 core-seconds. It takes about 1.7 GB.
"""

import shlex
import socket
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import ClassVar

from tools.spark_server import SPARK_SETTINGS, spark_server, with_token
from tools.stack.service import Service


class Spark(Service):
    """The server of Spark Connect."""

    name = "spark"
    package = "pyspark"
    usual_ports: ClassVar[Mapping[str, int]] = {"spark": 15002}

    def command(self) -> list[str]:
        """Return the command of the server."""
        return spark_server(self.layout.state.ports["spark"])

    def settings(self) -> dict[str, str]:
        """Return where Spark and its configuration are, a folder for its temporary files, and its token."""
        folder, token = self.layout.home / "spark", with_token(self.layout.keys.spark_token)
        options = f"-Djava.io.tmpdir={shlex.quote(str(folder))}"
        return SPARK_SETTINGS | token | {"SPARK_LOCAL_DIRS": str(folder), "SPARK_SUBMIT_OPTS": options}

    def is_healthy(self, started_at: datetime) -> bool:
        """Return whether the server listens, which it does once its Spark session exists."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.layout.state.ports["spark"]), timeout=5):
            return True
        return False

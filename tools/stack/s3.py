"""The S3 server of a stack (`tools/s3.py` is the server). It runs only on request, in place of folders.

It keeps everything in memory, so its content ends with it.
"""

import sys
from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar

from tools.s3 import TOKEN, TOKEN_HEADER
from tools.stack.layout import BUCKET, ROOT
from tools.stack.service import Service, answers, http_client


class S3(Service):
    """An S3 server for those who have the stack's keys."""

    name = "s3"
    package = "moto"
    usual_ports: ClassVar[Mapping[str, int]] = {"s3": 9000}

    def command(self) -> list[str]:
        """Return the command of the server."""
        return s3_server(self.layout.state.ports["s3"])

    def settings(self) -> dict[str, str]:
        """Return the session token, without which the server refuses a request."""
        return {TOKEN: self.layout.keys.s3_session_token}

    def is_healthy(self, started_at: datetime) -> bool:
        """Return whether the server answers."""
        return answers(f"{self.layout.s3_url}/moto-api/", self._headers)

    def make_bucket(self) -> None:
        """Create the bucket of landing, tables and artifacts, if it is missing."""
        http_client().put(f"{self.layout.s3_url}/{BUCKET}", headers=self._headers).raise_for_status()

    @property
    def _headers(self) -> dict[str, str]:
        return {TOKEN_HEADER: self.layout.keys.s3_session_token}


def s3_server(port: int) -> list[str]:
    """Return the command of an S3 server."""
    return [sys.executable, str(ROOT / "tools" / "s3.py"), str(port)]

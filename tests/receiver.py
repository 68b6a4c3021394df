"""A webhook for tests: it answers as planned, and keeps what it accepted.

In the process of a test (`receiving`), or as a process of its own that can be killed and started again:
`python -m tests.receiver PORT FILE`, which appends each accepted request to the file as a JSON line.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

PATH = "/services/T000/B000/token-that-nobody-may-see"


@dataclass
class Answer:
    """One planned answer. `drops`: close the connection; `drips`: send the headers a byte a `seconds`."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0
    drops: bool = False
    drips: bool = False
    body: bytes = b""


@dataclass
class Request:
    path: str
    key: str | None
    body: Any
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes = b""

    @property
    def text(self) -> str:
        return str(self.body["text"])


class Receiver(ThreadingHTTPServer):
    """A Slack-compatible webhook. It gives the planned answers first, and then `status`."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.planned: list[Answer] = []
        self.status = 200
        self.seconds = 0.0
        self.asked: list[Request] = []
        self.got: list[Request] = []
        self.on_accept: Callable[[Request], None] = self.got.append

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{PATH}"

    @property
    def texts(self) -> list[str]:
        return [request.text for request in self.got]

    @property
    def keys(self) -> list[str | None]:
        return [request.key for request in self.got]


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        request = Request(self.path, self.headers["Idempotency-Key"], self._read(raw), dict(self.headers), raw)
        self.server.asked.append(request)
        planned = self.server.planned
        answer = planned.pop(0) if planned else Answer(self.server.status, seconds=self.server.seconds)
        if answer.drops:
            self.close_connection = True
            self.connection.close()
            return
        if answer.drips:
            self._drip(answer.seconds)
            return
        time.sleep(answer.seconds)
        if answer.status < 300:
            self.server.on_accept(request)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    def _read(self, raw: bytes) -> Any:
        """Return JSON, or the fields of a form."""
        if self.headers["Content-Type"] == "application/x-www-form-urlencoded":
            return dict(parse_qsl(raw.decode()))
        return json.loads(raw)

    def _drip(self, seconds: float) -> None:
        with suppress(OSError):  # the sender has hung up
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            for _ in range(1000):
                time.sleep(seconds)
                self.wfile.write(b"x")
                self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def receiving(port: int = 0) -> Iterator[Receiver]:
    server = Receiver(port)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def main() -> None:
    port, file = int(sys.argv[1]), Path(sys.argv[2])

    def keep(request: Request) -> None:
        with file.open("a", encoding="utf-8") as accepted:
            accepted.write(json.dumps({"key": request.key, "text": request.text}) + "\n")

    server = Receiver(port)
    server.on_accept = keep
    server.serve_forever()


if __name__ == "__main__":
    main()

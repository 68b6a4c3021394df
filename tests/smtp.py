"""A mail server for tests: it answers as planned, hangs, drips or speaks TLS, and keeps what it accepted."""

import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

REPLIES = {
    "EHLO": "250 here",
    "MAIL": "250 ok",
    "RCPT": "250 ok",
    "DATA": "354 go on",
    ".": "250 ok",
    "QUIT": "221 bye",
}


class MailServer(socketserver.ThreadingTCPServer):
    """A mail server that accepts everything, but for what `replies` say of a command; `.` is the end of a message."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.replies: dict[str, str] = {}
        self.hangs_after = ""
        self.drips = 0.0
        self.accepted: list[str] = []
        self.tls = tls

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def get_request(self) -> tuple[socket.socket, object]:
        connected, address = super().get_request()
        return (self.tls.wrap_socket(connected, server_side=True) if self.tls else connected), address

    def handle_error(self, *_: object) -> None:
        pass


class _Session(socketserver.StreamRequestHandler):
    server: MailServer

    def handle(self) -> None:
        with suppress(OSError):
            if self.server.drips:
                self._drip()
            self._say("220 here")
            while line := self.rfile.readline().decode().strip():
                command = line.split(" ")[0].upper()
                if command == self.server.hangs_after:
                    time.sleep(60)
                reply = self.server.replies.get(command, REPLIES.get(command, "250 ok"))
                self._say(reply)
                if command == "DATA" and reply.startswith("354"):
                    text = [each.decode() for each in iter(self.rfile.readline, b".\r\n")]
                    reply = self.server.replies.get(".", REPLIES["."])
                    if reply.startswith("250"):
                        self.server.accepted.append("".join(text))
                    self._say(reply)
                if command == "QUIT":
                    return

    def _say(self, reply: str) -> None:
        self.wfile.write(reply.encode() + b"\r\n")

    def _drip(self) -> None:
        for _ in range(300):
            self.wfile.write(b"2")
            self.wfile.flush()
            time.sleep(self.server.drips)


@contextmanager
def mail_server(tls: tuple[Path, Path] | None = None) -> Iterator[MailServer]:
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
    server = MailServer(context)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()

"""Run `airflow` commands as forks of one process that has imported Airflow already, which takes seconds of a core.

A command is what the executable calls, `airflow.__main__.main`, in a process of its own.
"""

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO


@dataclass
class Command:
    """A command that was started, like `subprocess.Popen`."""

    pid: int
    stdout: IO[str]
    ended: socket.socket
    returncode: int | None = field(default=None, init=False)

    def communicate(self) -> str:
        """Wait for the end; return what the command printed and was not read yet."""
        with self.stdout, self.ended:
            said = self.stdout.read()
            self.returncode = int(self.ended.recv(16))
        return said


class Airflow:
    """A process that forks commands."""

    def __init__(self, address: str) -> None:
        self._address = address

    def start(self, *words: str, without: str | None = None) -> Command:
        """Start a command without a terminal, optionally without a variable of the environment."""
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._address)
        reads, writes = os.pipe()
        socket.send_fds(server, [json.dumps({"words": words, "without": without}).encode()], [writes])
        os.close(writes)
        return Command(int(server.recv(16)), os.fdopen(reads, encoding="utf-8"), server)

    def run(self, *words: str, without: str | None = None) -> tuple[int | None, str]:
        """Run a command to its end; return its exit code and output."""
        command = self.start(*words, without=without)
        said = command.communicate()
        return command.returncode, said


@contextmanager
def forking(environment: Mapping[str, str], folder: Path) -> Iterator[Airflow]:
    """Start the process in a folder, with this environment."""
    address = str(folder / "airflow.socket")
    server = subprocess.Popen([sys.executable, "-P", __file__, address], env=environment, cwd=folder)
    try:
        while not Path(address).exists():
            assert server.poll() is None, "the process that forks commands has ended"
            time.sleep(0.05)
        yield Airflow(address)
    finally:
        server.terminate()
        server.wait(10)


def _serve(address: str) -> None:
    from airflow.cli import cli_parser

    cli_parser.get_parser()  # imports the commands of all providers; nothing connects to a database
    with socket.socket(socket.AF_UNIX) as server, selectors.DefaultSelector() as waiting:
        server.bind(address)
        server.listen()
        waiting.register(server, selectors.EVENT_READ)
        while True:
            for key, _ in waiting.select():
                if key.fileobj is server:
                    caller, _ = server.accept()
                    pid = _fork(caller)
                    caller.send(str(pid).encode())
                    waiting.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, caller))
                else:
                    pid, caller = key.data
                    waiting.unregister(key.fileobj)
                    os.close(key.fd)
                    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                    with caller:
                        caller.send(str(code).encode())


def _fork(caller: socket.socket) -> int:
    request, (writes,), _, _ = socket.recv_fds(caller, 65536, 1)
    pid = os.fork()
    if pid:
        os.close(writes)
        return pid
    asked = json.loads(request)
    os.environ.pop(asked["without"] or "", None)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(writes, 1)
    os.dup2(writes, 2)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os._exit(_run(asked["words"]))


def _run(words: list[str]) -> int:
    from airflow.__main__ import main

    sys.argv = ["airflow", *words]
    code: object = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:  # noqa: BLE001 (as the interpreter does at the end of a process)
        traceback.print_exc()
        code = 1
    if not isinstance(code, int):
        print(code, file=sys.stderr)  # noqa: T201
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    _serve(sys.argv[1])

"""Start servers for tests at a free port, and end them after the block."""

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from tools.stack import find_free_port


@contextmanager
def serving(command: Callable[[int], Sequence[str]], **options: Any) -> Iterator[tuple[int, psutil.Popen]]:
    """Start a server with `command` for a port, wait until it answers, and yield port and process."""
    port = find_free_port()
    process = psutil.Popen(command(port), **options)
    try:
        while True:
            assert process.poll() is None
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield port, process
    finally:
        process.kill()
        process.wait()

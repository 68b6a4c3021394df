"""Servers of a test: started at a free port, ended with the block."""

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from tools.stack import find_free_port


@contextmanager
def serving(command: Callable[[int], Sequence[str]], **options: Any) -> Iterator[tuple[int, psutil.Popen]]:
    """Port and process of a server that answers there; `command` says for a port how it is started."""
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

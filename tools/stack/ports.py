"""Ports of a stack, which other stacks and strangers use as well."""

import fcntl
import os
import socket
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir


def choose_ports(ports: Mapping[str, int], usual: Mapping[str, int], held: Collection[str]) -> dict[str, int]:
    """Return a port for each name in `usual`: the present one, else the usual one, else any that is free.

    Args:
        ports: The ports so far, by name; those that `usual` does not name stay.
        usual: The number that is preferred, by name, of each port that is needed.
        held: Names of ports at which a running service of the stack listens; they stay as well.
    """
    chosen = dict(ports)
    for name, number in usual.items():
        if name not in held:
            wanted = [*filter(None, [ports.get(name), number])]
            chosen[name] = next(filter(is_free, wanted), None) or find_free_port()
    return chosen


def is_free(port: int) -> bool:
    """Tell whether nobody listens at `port`."""
    with socket.socket() as probe:
        # Without it, connections that linger after a server ended would still hold the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def find_free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


@contextmanager
def one_start_at_a_time(say: Callable[[str], object]) -> Iterator[None]:
    """Wait until no other stack of this user starts: a port that it chose is free until its service listens."""
    with (Path(gettempdir()) / f"nightly-start-{os.getuid()}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another stack to start")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield

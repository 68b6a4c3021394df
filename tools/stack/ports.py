"""Choose the ports of a stack; other stacks and programs use ports as well."""

import fcntl
import os
import socket
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from include.io.ports import find_owners


def choose_ports(ports: Mapping[str, int], usual: Mapping[str, int], held: Collection[str]) -> dict[str, int]:
    """Return a port for each name in `usual`: the current one, else the usual one, else any free one.

    Args:
        ports: The current ports, by name; those not in `usual` are kept.
        usual: The preferred number of each needed port, by name.
        held: The names of ports at which a running service of the stack listens; these are kept as well.
    """
    chosen = dict(ports)
    for name, number in usual.items():
        if name not in held:
            wanted = [*filter(None, [ports.get(name), number])]
            chosen[name] = next(filter(is_free, wanted), None) or find_free_port()
    return chosen


def is_free(port: int) -> bool:
    """Return whether `port` is free."""
    with socket.socket() as probe:
        # Without this, connections that linger after a server ended would still hold the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def is_others(port: int) -> bool:
    """Return whether another user of the machine listens at a port, who must not be sent a secret."""
    owners = find_owners(port)
    return bool(owners) and not owners <= {0, os.geteuid()}


def find_free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


@contextmanager
def one_start_at_a_time(say: Callable[[str], object]) -> Iterator[None]:
    """Wait until no other stack of this user is starting: its chosen ports look free until its services listen."""
    # Not in /tmp, where another user could make the file first and keep it locked.
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nightly-ml"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "start.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another stack to start")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield

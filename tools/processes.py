"""Find and end the processes of a local stack. Nothing here starts a process.

A process belongs to a stack when its environment carries the stack's marker, and it is its owner's. Children inherit
the marker. An unrelated process that got a reused process number does not have it, so no number is trusted by itself.
Another user can set the marker too: root would see such processes, and wait for them or end them.
"""

import os
import pwd
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

MARKER = "NIGHTLY_STACK"
"""The environment variable with the stack's home folder."""

SYSTEM_USER = "pgserver"
"""The user that runs PostgreSQL when root starts it: PostgreSQL refuses to run as root."""

KILL_SECONDS = 10


def find_processes(home: Path) -> list[psutil.Process]:
    """Return every living process of the stack at `home`, except the current one."""
    return [process for process in psutil.process_iter() if process.pid != os.getpid() and belongs_to(process, home)]


def belongs_to(process: psutil.Process, home: Path) -> bool:
    """Return whether `process` is alive and part of the stack at `home`."""
    with suppress(psutil.Error):  # it has ended, or it belongs to another user
        return (
            is_alive(process)
            and process.uids().real in _owners()
            and (process.environ().get(MARKER) == str(home) or is_postgres(process, home / "postgres"))
        )
    return False


def _owners() -> set[int]:
    """Return the users of a stack: this one, and if it is root, the one that runs PostgreSQL for it."""
    owners = {os.geteuid()}
    if os.geteuid() == 0:
        with suppress(KeyError):
            owners.add(pwd.getpwnam(SYSTEM_USER).pw_uid)
    return owners


def is_postgres(process: psutil.Process, data: Path) -> bool:
    """Return whether `process` is the PostgreSQL server of the folder `data`, or one of that server's children.

    The children write their title over the environment they inherited, so the marker cannot be read there.
    """
    with suppress(psutil.Error):
        return is_alive(process) and process.name() == "postgres" and process.cwd() == str(data)
    return False


def is_alive(process: psutil.Process) -> bool:
    """Return whether `process` runs. A process that ended but was not waited for does not run."""
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def end(processes: Iterable[psutil.Process], grace_seconds: float) -> list[psutil.Process]:
    """Terminate `processes`, kill those that still run after `grace_seconds`, and return the killed ones."""
    asked = list(processes)
    for process in asked:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    stubborn = await_end(asked, grace_seconds)
    kill(stubborn)
    return stubborn


def kill(processes: Iterable[psutil.Process]) -> None:
    """Kill `processes` and wait until they are gone."""
    killed = list(processes)
    for process in killed:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    await_end(killed, KILL_SECONDS)


def await_end(processes: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait at most `seconds` for `processes` to end, and return those that still run.

    `psutil.wait_procs` is not used: if the init process reaps nothing, it would wait for dead processes in vain.
    """
    deadline = time.monotonic() + seconds
    running = list(processes)
    while (running := [process for process in running if is_alive(process)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return running


def read_end(log: Path, lines: int = 20) -> str:
    """Return the last lines of the file `log`."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

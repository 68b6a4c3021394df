"""Measure the core-seconds of all descendants of a process, however short-lived. Linux only."""

import ctypes
import resource
from contextlib import suppress

import psutil

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Become the parent of all descendants whose own parent ends.

    These are PostgreSQL, which is started as a daemon, and JVMs that outlive their task. This way, the time that a
    process used is always in its own times or in those of the process that waited for it.
    """
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError("prctl(PR_SET_CHILD_SUBREAPER) failed")


def used() -> float:
    """Return the core-seconds (user and system) of all descendants, ended ones included, without this process."""
    _reap()
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = ended.ru_utime + ended.ru_stime
    return total + sum(map(_used_by, psutil.Process().children(recursive=True)))


def used_by_tree(process: psutil.Process) -> float:
    """Return the core-seconds of a process and its descendants, those that it waited for included."""
    return _used_by(process) + sum(map(_used_by, process.children(recursive=True)))


def _used_by(process: psutil.Process) -> float:
    with suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)
    return 0.0


def _reap() -> None:
    """Wait for adopted orphans that ended, because `subprocess` does not know them."""
    known = {process.pid for process in psutil.Process().children()}
    for pid in known:
        with suppress(psutil.Error):
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                with suppress(psutil.TimeoutExpired):
                    psutil.Process(pid).wait(0)

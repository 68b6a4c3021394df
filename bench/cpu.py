"""Core-seconds of everything that a process has started, however far down and however short-lived. Linux only."""

import ctypes
import resource
from contextlib import suppress

import psutil

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Become the parent of all descendants whose own parent ends: PostgreSQL, which is started as a daemon, and JVMs
    that outlive their task. So what a process used is always in its own times, or in those of who waited for it.
    """
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError("prctl(PR_SET_CHILD_SUBREAPER) failed")


def used() -> float:
    """Core-seconds, user and system, of all descendants until now, the dead ones included; not of this process."""
    _reap()
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = ended.ru_utime + ended.ru_stime
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def _reap() -> None:
    """Wait for adopted orphans that ended; `subprocess` knows nothing of them."""
    known = {process.pid for process in psutil.Process().children()}
    for pid in known:
        with suppress(psutil.Error):
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                with suppress(psutil.TimeoutExpired):
                    psutil.Process(pid).wait(0)

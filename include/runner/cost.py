"""Measure what a step costs: CPU time and peak memory. Deciding what to do with it does not belong here."""

import resource
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc/self")  # Linux only


@dataclass(frozen=True)
class Cost:
    """The cost of a step.

    Attributes:
        core_seconds: user and system CPU time of this process and of its child processes that have ended.
        peak_memory_mb: highest resident memory of this process in MiB, without its children; None where the platform
            cannot reset the peak, since it would then belong to an earlier step.
    """

    core_seconds: float
    peak_memory_mb: float | None


class Meter:
    """Measure the cost from here on. Two meters in one process at once disturb each other's peak memory."""

    def __init__(self) -> None:
        self._before = _read_core_seconds()
        self._peak_is_ours = _reset_peak_memory()

    def read(self) -> Cost:
        """Return the cost since the start."""
        peak = _read_peak_memory_mb() if self._peak_is_ours else None
        return Cost(core_seconds=_read_core_seconds() - self._before, peak_memory_mb=peak)


def _read_core_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _reset_peak_memory() -> bool:
    """Reset the kernel's peak (VmHWM) to the memory resident now. `ru_maxrss` cannot be reset, so it is not used."""
    with suppress(OSError):
        (PROC / "clear_refs").write_text("5", encoding="ascii")
        return True
    return False


def _read_peak_memory_mb() -> float | None:
    with suppress(OSError):
        for line in (PROC / "status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024  # the kernel reports KiB
    return None

"""Measure what a step takes: CPU time, peak memory and bytes. What it costs in money says `core.prices`."""

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
        bytes_read: bytes that this process and its ended child processes read from files and pipes, libraries included;
            None where the platform does not count them. What a library reads from a network is mostly not counted.
        bytes_written: bytes that they wrote likewise.
    """

    core_seconds: float | None = None
    peak_memory_mb: float | None = None
    bytes_read: int | None = None
    bytes_written: int | None = None


class Meter:
    """Measure the cost from here on. Two meters in one process at once disturb each other's peak memory."""

    def __init__(self) -> None:
        self._before = _read_core_seconds()
        self._bytes_before = _read_bytes()
        self._peak_is_ours = _reset_peak_memory()

    def read(self) -> Cost:
        """Return the cost since the start."""
        peak = _read_peak_memory_mb() if self._peak_is_ours else None
        read, written = (
            None if now is None or before is None else now - before
            for now, before in zip(_read_bytes(), self._bytes_before, strict=True)
        )
        return Cost(_read_core_seconds() - self._before, peak, read, written)


def _read_core_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _read_bytes() -> tuple[int | None, int | None]:
    """Return how many bytes were read and written so far."""
    with suppress(OSError):
        lines = (PROC / "io").read_text(encoding="ascii").splitlines()
        counted = dict(line.split(": ") for line in lines)
        return int(counted["rchar"]), int(counted["wchar"])
    return None, None


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

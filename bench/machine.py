"""The machine that a benchmark runs on, and whether other programs used it at the same time. Linux only."""

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench import cpu

MOST_OTHERS = 0.1
"""The share of the cores that other programs and the hypervisor may take while figures are measured."""


def describe() -> str:
    """Return processor, cores, memory and Python."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    models = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    memory = psutil.virtual_memory().total / 2**30
    model = models[0] if models else platform.machine()
    return f"{model}, {_cores()} cores, {memory:.0f} GB of memory, Python {platform.python_version()}"


@dataclass(frozen=True)
class Load:
    """What else the machine did while something was measured.

    Attributes:
        others: share of the cores that processes took which are not descendants of this one.
        stolen: share of the cores that the hypervisor gave to others.
        before: load average of a minute, at the start.
        after: likewise at the end; the benchmark's own processes are in it.
    """

    others: float
    stolen: float
    before: float
    after: float

    @property
    def is_trusted(self) -> bool:
        """Whether the machine was free enough for figures that can be compared with goals."""
        return self.others + self.stolen <= MOST_OTHERS

    def __str__(self) -> str:
        words = f"others took {self.others:.0%} of the cores, the hypervisor {self.stolen:.0%}"
        return f"{words}; load {self.before:.1f} before, {self.after:.1f} after"


class LoadMeter:
    """Measure the load from here on. `cpu.adopt_orphans` must have been called."""

    def __init__(self) -> None:
        self._began, self._before = time.monotonic(), os.getloadavg()[0]
        self._own, self._busy, self._stolen = _own(), *_machine()

    def read(self) -> Load:
        """Return the load since the start."""
        total = (time.monotonic() - self._began) * _cores()
        busy, stolen = _machine()
        others = (busy - self._busy) - (_own() - self._own)
        return Load(max(others, 0) / total, (stolen - self._stolen) / total, self._before, os.getloadavg()[0])


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _own() -> float:
    times = psutil.Process().cpu_times()
    return cpu.used() + times.user + times.system


def _machine() -> tuple[float, float]:
    """Return core-seconds of all programs, and those that the hypervisor took, since the machine started."""
    times = psutil.cpu_times()
    return times.user + times.nice + times.system + times.irq + times.softirq, times.steal

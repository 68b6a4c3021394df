"""Start, find and end the process groups of a stack.

Each service leads a session and a group of its own. Tasks lead groups of their own as well.
"""

import os
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from tools import processes
from tools.stack.layout import StackError

GRACE_SECONDS = 15
START_SECONDS = 10


class ProcessGroups:
    """The processes of the stack at `home`, except those of the PostgreSQL server in the folder `database`."""

    def __init__(self, home: Path, database: Path) -> None:
        self.home = home
        self.database = database

    def launch(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> int:
        """Start a service that writes to the file `log`, and return its process number.

        For a moment after its start, a process has no environment yet by which `find` could know it: wait for that.
        """
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                env=environment,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while process.poll() is None and self.find(process.pid) is None and time.monotonic() < deadline:
            time.sleep(0.001)
        return process.pid

    def find(self, pid: int) -> psutil.Process | None:
        """Return the process that `launch` started with this number, if it still runs.

        A service leads its session; no other process of the stack can do this with the same number.
        """
        with suppress(psutil.Error, ProcessLookupError):
            process = psutil.Process(pid)
            if processes.belongs_to(process, self.home) and os.getsid(process.pid) == process.pid:
                return process
        return None

    def end(self, leaders: Collection[int]) -> list[psutil.Process]:
        """End the groups that these processes lead, and return the processes that had to be killed.

        Supervisors end the groups of their tasks. If a child of a task (such as a JVM) ended before the task, the task
        could take this for a result.
        """
        return self._end([process for process in self.find_all() if _get_group(process) in leaders])

    def end_orphans(self, leaders: Collection[int]) -> None:
        """End every process outside the sessions of `leaders`.

        A killed service leaves such processes behind. They may hold a port, or continue a task that is started again.
        """
        self._end([process for process in self.find_all() if _get_session(process) not in leaders])

    def end_all(self) -> list[psutil.Process]:
        """End every process, and return those that had to be killed."""
        return self._end(self.find_all())

    def kill_all(self) -> list[psutil.Process]:
        """Kill every process, including PostgreSQL's, and return them."""
        killed: list[psutil.Process] = []
        for _ in range(5):  # A process may have started another one just before it was killed.
            if not (left := processes.find_processes(self.home)):
                return killed
            processes.kill(left)
            killed += left
        raise StackError(f"cannot be killed: {', '.join(str(process.pid) for process in left)}")

    def find_all(self) -> list[psutil.Process]:
        """Return every living process."""
        found = processes.find_processes(self.home)
        return [process for process in found if not processes.is_postgres(process, self.database)]

    def _end(self, asked: Sequence[psutil.Process]) -> list[psutil.Process]:
        return processes.end(asked, GRACE_SECONDS)


def measure_memory(process: psutil.Process | None) -> int:
    """Return the bytes that a process and its descendants do not share with any other process; 0 for no process."""
    total = 0
    if process is not None:
        with suppress(psutil.Error):
            for part in (process, *process.children(recursive=True)):
                with suppress(psutil.Error):
                    total += part.memory_full_info().uss
    return total


def _get_group(process: psutil.Process) -> int | None:
    with suppress(ProcessLookupError):
        return os.getpgid(process.pid)
    return None


def _get_session(process: psutil.Process) -> int | None:
    with suppress(ProcessLookupError):
        return os.getsid(process.pid)
    return None

"""The services of a stack are found from the moment on in which they are launched."""

from pathlib import Path

from tools import processes
from tools.stack.groups import ProcessGroups


def test_a_service_is_found_as_soon_as_it_is_launched(tmp_path: Path) -> None:
    """Otherwise a stack that looks at once would say that the service has ended."""
    groups = ProcessGroups(tmp_path, tmp_path / "postgres")
    environment = {processes.MARKER: str(tmp_path)}
    launched = {}
    try:
        for _ in range(20):
            pid = groups.launch(["/bin/sleep", "60"], environment, tmp_path / "log")
            launched[pid] = groups.find(pid)
        assert all(launched.values())
    finally:
        processes.kill(processes.find_processes(tmp_path))

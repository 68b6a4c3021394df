"""What the product knows of the days: asked of `python -m dags.cli outlook`, in the DAG's bundle.

The extension is installed without the bundle's code, and a bundle of another commit has its own. That command also
reads the connections.
"""

import json
import logging
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

SECONDS = 300
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outlook:
    """`kind`: what the DAG does, None for one that is not the product's. `waits`: day -> what its run would wait for,
    and `cure`: the command that makes it. `published`: model -> days that readers see."""

    kind: str | None = None
    waits: dict[str, list[str]] = field(default_factory=dict)
    cure: str | None = None
    published: dict[str, list[str]] = field(default_factory=dict)


class Unknown(Exception):
    """The product could not be asked; the text says why."""


def ask(bundle: str, dag_id: str, start: str, end: str) -> Outlook:
    """The outlook of the days from `start` to `end`. Raises `Unknown`."""
    root = _root(bundle)
    if not (root / "dags" / "cli.py").is_file():
        return Outlook()
    command = [sys.executable, "-m", "dags.cli", "outlook", "--dag", dag_id, "--start", start, "--end", end]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unknown(str(error)) from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        raise Unknown(said[-1])
    return Outlook(**json.loads(done.stdout))


def _root(bundle: str) -> Path:
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    try:
        found = DagBundlesManager().get_bundle(bundle)
        found.initialize()
        return Path(found.path)
    except Exception as error:  # whatever keeps a bundle from being fetched
        raise Unknown(f"bundle {bundle}: {error}") from error

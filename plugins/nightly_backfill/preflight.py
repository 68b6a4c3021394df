"""Run `python -m dags.cli preflight` in the DAG's bundle: which data is missing, and which days are published.

It runs as a process, because this extension is installed without the bundle's code, and each bundle has its own. That
command also reads the connections.
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
class PreflightOutput:
    """The output of `preflight`.

    Attributes:
        kind: prepare, train, score and so on; None for a DAG that is not the product's.
        waits: for each day, the data that its run would wait for.
        fix: the command that makes this data.
        published: for each model, the days that readers see.
    """

    kind: str | None = None
    waits: dict[str, list[str]] = field(default_factory=dict)
    fix: str | None = None
    published: dict[str, list[str]] = field(default_factory=dict)


class UnknownError(Exception):
    """`preflight` failed or could not run; the text says why."""


def run(bundle: str, dag_id: str, start: str, end: str) -> PreflightOutput:
    """Run `preflight` for the days from `start` to `end`.

    Raises:
        UnknownError: it failed or could not run.
    """
    root = _root(bundle)
    if not (root / "dags" / "cli.py").is_file():
        return PreflightOutput()
    command = [sys.executable, "-m", "dags.cli", "preflight", "--dag", dag_id, "--start", start, "--end", end]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnknownError(str(error)) from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        raise UnknownError(said[-1])
    return PreflightOutput(**json.loads(done.stdout))


def _root(bundle: str) -> Path:
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    try:
        found = DagBundlesManager().get_bundle(bundle)
        found.initialize()
        return Path(found.path)
    except Exception as error:  # the backend of the bundle decides what it raises
        raise UnknownError(f"bundle {bundle}: {error}") from error

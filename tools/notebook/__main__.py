"""Open the notebook with the rights of a reader: no secret but that login reaches its process."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import typer

NOTEBOOK = Path(__file__).with_name("prepared.py")
PASSED_ON = ("PATH", "HOME", "LANG", "DISPLAY", "BROWSER", "PYTHONPATH", "NIGHTLY_PROJECTS")
PLACES = ("NIGHTLY_TABLES", "NIGHTLY_STORAGE_OPTIONS")
NOT_THERE = {
    "NIGHTLY_LANDING": "none://",
    "NIGHTLY_ARTIFACTS": "none://",
    "NIGHTLY_JOURNAL": "none://",
    "NIGHTLY_MLFLOW_TRACKING_URI": "none://",
    "NIGHTLY_HASH_KEY": "none",
}
"""Settings that a reader does not have."""


def environment(given: Mapping[str, str], project: str) -> dict[str, str]:
    """Return the variables of the notebook's process.

    Raises:
        KeyError: the variables of a stack are not set.
    """
    found = {name: given[name] for name in (*PASSED_ON, *PLACES) if name in given}
    found |= {"NIGHTLY_TABLES": given["NIGHTLY_TABLES"], "NIGHTLY_DATABASE_URL": given["OPS_READER_URL"]}
    return {**found, **NOT_THERE, "NOTEBOOK_PROJECT": project, "MARIMO_SKIP_UPDATE_CHECK": "1"}


def main(project: str) -> None:
    """Replace this process by that of the notebook."""
    try:
        variables = environment(os.environ, project)
    except KeyError as missing:
        typer.secho(f"{missing.args[0]} is not set. Start the stack (make start), then: make notebook", err=True)
        raise SystemExit(2) from None
    command = [sys.executable, "-m", "marimo", "edit", "--host", "127.0.0.1", str(NOTEBOOK)]
    os.execve(sys.executable, command, variables)


if __name__ == "__main__":
    main(sys.argv[1])

"""The environment variables of a stack, for its services and for a person's shell (the file `env`).

The product learns where its data is in two ways. Services get Airflow connections, which DAGs must resolve
(`airflow.py`); shells get `NIGHTLY_*` variables for `python -m include.cli`.
"""

import json
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from tools import processes
from tools.postgres import WRITER, find_binaries
from tools.stack.layout import StackLayout
from tools.stack.sources import find_sources
from tools.stack.state import write_private

PROJECTS = "NIGHTLY_PROJECTS"
# Without bytecode, imports take three times as long.
LEFT_OUT_OF_SHELLS = ("PYTHONDONTWRITEBYTECODE", "SPARK_REMOTE", processes.MARKER)


def of_service(layout: StackLayout, settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a service: the caller's, the service's own settings, and the marker of the stack."""
    # The caller's shell may have sourced `env`, but DAGs must not see the product's variables. PYTHONPATH may lead to
    # another `include`.
    left_out = {*LEFT_OUT_OF_SHELLS, *of_product(layout), "PYTHONPATH"} - {PROJECTS}
    inherited = {
        name: value
        for name, value in _inherit(*left_out).items()
        if name == PROJECTS or not name.startswith("NIGHTLY_")
    }
    for name in ("NO_PROXY", "no_proxy"):  # Tasks talk to the API server.
        inherited[name] = ",".join(filter(None, [inherited.get(name), "127.0.0.1,localhost"]))
    # Without SPT_NOENV, a process that sets its title would overwrite its environment, and with it the marker.
    return inherited | {processes.MARKER: str(layout.home), "SPT_NOENV": "1"} | dict(settings)


def of_command(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a command in a shell that sourced `env` with these settings."""
    inherited = _inherit(*LEFT_OUT_OF_SHELLS)
    path = os.pathsep.join([_find_programs(), inherited.get("PATH", os.defpath)])
    return inherited | dict(settings) | {"PATH": path}


def write(file: Path, settings: Mapping[str, str]) -> None:
    """Write the file `env` for a person's shell. It lacks the marker, because `stop` would end that shell."""
    lines = [
        "# Written by tools.stack. After `. env`, the shell's airflow, mlflow, psql and include.cli use this stack.",
        f"unset {' '.join(LEFT_OUT_OF_SHELLS)}",
        f'export PATH={shlex.quote(_find_programs())}:"$PATH"',
    ]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in sorted(settings.items())]
    write_private(file, "\n".join(lines) + "\n")


def of_product(layout: StackLayout) -> dict[str, str]:
    """Return the variables with which the product's command line, `psql` and `mlflow` find the stack's data."""
    storage, url = layout.storage_options(), layout.postgres.url
    sources = {name: f"sqlite:///{file}" for name, file in find_sources(layout.home).items()}
    return {
        **({"NIGHTLY_STORAGE_OPTIONS": json.dumps(storage)} if storage else {}),
        **({"NIGHTLY_SOURCES": json.dumps(sources)} if sources else {}),
        **({PROJECTS: os.environ[PROJECTS]} if os.environ.get(PROJECTS) else {}),
        "DATABASE_URL": url("nightly", "nightly"),
        "MLFLOW_TRACKING_URI": url("mlflow", "mlflow"),
        "NIGHTLY_ARTIFACTS": layout.place("artifacts"),
        "NIGHTLY_DATABASE_OWNER_URL": url("nightly", "nightly"),
        "NIGHTLY_DATABASE_URL": url(WRITER, "nightly"),
        "NIGHTLY_HASH_KEY": layout.keys.hash_key,
        "NIGHTLY_JOURNAL": layout.place("journal"),
        "NIGHTLY_LANDING": layout.place("landing"),
        "NIGHTLY_MLFLOW_TRACKING_URI": url("mlflow", "mlflow"),
        "NIGHTLY_TABLES": layout.place("tables"),
        "OPS_READER_URL": url("ops_reader", "nightly"),
        "READER_URL": url("reader", "nightly"),
    }


def _inherit(*left_out: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in left_out}


def _find_programs() -> str:
    """Return the folders of `airflow`, `mlflow` and `psql`, as PATH lists them."""
    return os.pathsep.join([str(Path(sys.executable).parent), str(find_binaries())])

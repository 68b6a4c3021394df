"""The databases that feeds of example projects are extracted from: a SQLite file for each connection.

`simulate` makes the file and puts the rows of each day into it. A project of your own has its own connections.
"""

from contextlib import suppress
from pathlib import Path

from include.config.loading import is_simulated, load_project, project_names
from include.core.errors import ConfigError


def find_sources(home: Path) -> dict[str, Path]:
    """Map the connections of all example projects to the files of their databases."""
    names: set[str] = set()
    for project in project_names():
        with suppress(ConfigError):  # the page of the DAG, and every command for the project, say what is wrong
            if is_simulated(loaded := load_project(project)):
                names.update(loaded.connections)
    return {name: home / "sources" / f"{name}.sqlite" for name in sorted(names)}

"""A bundle that is a folder, as Airflow's own, and whose DAG files are parsed when something changes that they read.

Airflow parses a DAG file at once after an edit. It does not know that the file imports `include` and reads YAML, so all
files would have to be parsed again and again: with 50 models, this took a fifth of a core, all the time.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow.dag_processing.bundles.local import LocalDagBundle

READ = ("dags", "include", "plugins/nightly_pages")
"""The folders of the bundle that DAG files import or read."""

FileState = tuple[int, int, int]
"""The times of a file and of its record, in nanoseconds, and its size."""


class FolderBundle(LocalDagBundle):
    """A folder and the folders of projects that `NIGHTLY_PROJECTS` names.

    It looks for changes every `refresh_interval` seconds, so `[dag_processor] min_file_process_interval` can be long.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._seen: dict[str, FileState] | None = None

    def refresh(self) -> None:
        """Request that all DAG files are parsed, if a file that they read changed since the last call."""
        found = dict(self._files())
        if self._seen is not None and found != self._seen:
            self._request_parsing()
        self._seen = found

    def _files(self) -> Iterator[tuple[str, FileState]]:
        projects = [each for each in os.environ.get("NIGHTLY_PROJECTS", "").split(os.pathsep) if each]
        for top in (*READ, *projects):
            for folder, inside, files in os.walk(self.path / top):
                inside[:] = [each for each in inside if each != "__pycache__" and not each.startswith(".")]
                for name in files:
                    path = Path(folder, name)
                    try:
                        status = path.stat()
                    except OSError:  # removed meanwhile, or a link to nothing
                        continue
                    yield str(path), (status.st_mtime_ns, status.st_ctime_ns, status.st_size)

    def _request_parsing(self) -> None:
        # a task makes a bundle too, and needs none of them
        from airflow.models.dagbag import DagPriorityParsingRequest
        from airflow.utils.file import list_py_file_paths
        from airflow.utils.session import create_session
        from sqlalchemy import select

        files = {str(Path(path).relative_to(self.path)) for path in list_py_file_paths(self.path)}
        requested = DagPriorityParsingRequest.relative_fileloc
        with create_session() as session:
            there = session.scalars(select(requested).where(DagPriorityParsingRequest.bundle_name == self.name))
            session.add_all(DagPriorityParsingRequest(self.name, file) for file in sorted(files - {*there}))

"""The connection to MLflow: its URIs and environment variables, for one thread at a time, and downloads.

The other modules of this package decide what is read and written through it.
"""

import os
import posixpath
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from include.core.errors import ActionRequiredError
from include.core.settings import Settings
from include.io import storage

DATABRICKS = "databricks"  # a tracking URI of Databricks begins with this
UNITY_CATALOG = "databricks-uc"

_URIS = threading.RLock()  # held while the process uses the URIs of one connection

SET_BY_MLFLOW = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
"""Environment variables that MLflow sets along with its URIs."""


def write_again(write: Callable[[], None]) -> None:
    """Write to MLflow, and once more if it refuses.

    Of two processes that add the same row at once, MLflow refuses the second, which finds the row when it writes again.
    """
    try:
        write()
    except MlflowException:
        write()


class MlflowConnection:
    """MLflow's tracking and registry at the URIs of the settings."""

    def __init__(self, settings: Settings) -> None:
        self.tracking_uri = settings.mlflow_tracking_uri.get_secret_value()
        registry_uri = settings.mlflow_registry_uri
        self.registry_uri = registry_uri.get_secret_value() if registry_uri else self.tracking_uri
        self.artifacts = settings.artifacts.rstrip("/")
        self.catalog = settings.catalog if self.registry_uri == UNITY_CATALOG else None
        self.run_id = settings.run_id
        self._variables = storage.mlflow_variables(settings)
        self._client = MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.registry_uri)

    @property
    def on_databricks(self) -> bool:
        """True if the tracking server is that of Databricks."""
        return self.tracking_uri.startswith(DATABRICKS)

    def registered_name(self, model: str) -> str:
        """Return the name of a registered model; in Unity Catalog it begins with catalog and schema."""
        return f"{self.catalog}.{model}" if self.catalog else model

    def prepare(self) -> None:
        """Create MLflow's tables where its database has none."""
        with self.reached() as client:
            client.search_experiments(max_results=1)

    @contextmanager
    def reached(self) -> Iterator[MlflowClient]:
        """Yield the client, with the URIs and environment variables of the process set for it.

        Parts of MLflow (logging a model, `models:/` URIs) use only the URIs of the process, and environment variables
        for artifacts. Both are restored afterwards. One thread at a time.
        """
        with _URIS:
            before = {name: os.environ.get(name) for name in (*SET_BY_MLFLOW, *self._variables)}
            try:
                _set(self._variables)
                mlflow.set_tracking_uri(self.tracking_uri)
                mlflow.set_registry_uri(self.registry_uri)
                yield self._client
            finally:
                mlflow.set_tracking_uri(None)  # type: ignore[arg-type]  # None unsets it
                mlflow.set_registry_uri(None)  # type: ignore[arg-type]
                _set(before)

    @contextmanager
    def downloaded(self, uri: str, *, foreign: bool = False) -> Iterator[str | None]:
        """Yield a temporary folder with the files of a model (`models:/…`), None if there are none.

        One that a person names to adopt it is `foreign`: any URI, whose files can be anywhere.
        """
        with self.reached(), tempfile.TemporaryDirectory(prefix="nightly-model-") as folder:
            # For local artifacts MLflow would otherwise return the original folder, and write files into it.
            try:
                path = mlflow.artifacts.download_artifacts(
                    artifact_uri=uri if foreign else self._location(uri),
                    dst_path=folder,
                    tracking_uri=self.tracking_uri,
                    registry_uri=self.registry_uri,
                )
            except (MlflowException, OSError) as error:
                if not _is_missing(error):
                    raise
                path = None
            yield path

    def upload(self, model_id: str, location: str, folder: str) -> None:
        """Put the files of a logged model where MLflow keeps them. It is asked once where that is: `location`."""
        if self.on_databricks:  # its storage is reached only by the id of the model
            self._client.log_model_artifacts(model_id, folder)
        else:
            get_artifact_repository(self.below_artifacts(location), self.tracking_uri).log_artifacts(folder)

    def upload_text(self, run_id: str, folder: str, name: str, text: str) -> str:
        """Add a file to the artifacts of a run, and return the id of the run's experiment."""
        return self.upload_bytes(run_id, folder, name, text.encode())

    def upload_bytes(self, run_id: str, folder: str, name: str, content: bytes) -> str:
        """Add a file to the artifacts of a run, and return the id of the run's experiment."""
        about = self._client.get_run(run_id).info
        with tempfile.TemporaryDirectory(prefix="nightly-page-") as draft:
            file = Path(draft, name)
            file.write_bytes(content)
            if self.on_databricks:
                self._client.log_artifact(run_id, str(file), folder)
            else:
                location = self.below_artifacts(about.artifact_uri)
                get_artifact_repository(location, self.tracking_uri).log_artifact(str(file), folder)
        return str(about.experiment_id)

    def download_text(self, run_id: str, path: str) -> str | None:
        """Return a file of the artifacts of a run, None if there is none."""
        with self.reached(), tempfile.TemporaryDirectory(prefix="nightly-page-") as folder:
            try:
                if self.on_databricks:
                    found = self._client.download_artifacts(run_id, path, folder)
                else:
                    location = self.below_artifacts(self._client.get_run(run_id).info.artifact_uri)
                    found = get_artifact_repository(location, self.tracking_uri).download_artifacts(path, folder)
            except (MlflowException, OSError) as error:
                if not _is_missing(error):
                    raise
                return None
            return Path(found).read_text(encoding="utf-8")

    def below_artifacts(self, location: str) -> str:
        """Return a place that MLflow names, if it is below that of artifacts.

        Raises:
            ActionRequiredError: it is elsewhere. Whoever writes to MLflow's database could have files of tasks
                overwritten, files of this machine copied, or a server asked in the name of tasks.
        """
        if not _plain(location).startswith(f"{_plain(self.artifacts)}/"):
            raise ActionRequiredError(
                f"MLflow says that files are at {location}, which is not below {self.artifacts} (connection "
                "nightly_artifacts), so nothing was read or written there. If the artifacts were moved, move them "
                "back, or write the new place into the tables experiments, runs, logged_models and model_versions; "
                "otherwise somebody changed MLflow's database: find out who, and restore it from the backup"
            )
        return location

    def _location(self, uri: str) -> str:
        """Return where MLflow has the files of a model; `models:/…` itself, if they are on Databricks."""
        if self.on_databricks or self.registry_uri.startswith(DATABRICKS):
            return uri
        name, _, version = uri.removeprefix("models:/").rpartition("/")
        if name:
            return self.below_artifacts(self._client.get_model_version_download_uri(name, version))
        return self.below_artifacts(self._client.get_logged_model(version).artifact_location)


def _plain(location: str) -> str:
    """Return a path or URI without links, `..` and escapes, so that two can be compared."""
    parts = urlsplit(location)
    if not parts.scheme or (parts.scheme == "file" and not parts.netloc):  # MLflow unescapes both
        return os.path.realpath(url2pathname(location.removeprefix("file:").removeprefix("//")))
    if parts.query or parts.fragment:
        return ""
    return f"{parts.scheme}://{parts.netloc}{posixpath.normpath(unquote(parts.path))}".rstrip("/")


def _is_missing(error: MlflowException | OSError) -> bool:
    """Return whether a download failed because there is no such file. Each kind of store says it in another way."""
    if isinstance(error, OSError):
        return isinstance(error, FileNotFoundError)
    missing = ("No such artifact", "(404)")  # the second is S3's
    return error.error_code == "RESOURCE_DOES_NOT_EXIST" or any(said in str(error) for said in missing)


def strings(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the values as MLflow keeps tags and parameters: as text."""
    return {name: str(value) for name, value in values.items()}


def _set(variables: Mapping[str, str | None]) -> None:
    """Set environment variables of this process; None removes one."""
    for name, value in variables.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value

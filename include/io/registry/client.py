"""The connection to MLflow: its URIs and environment variables, for one thread at a time, and downloads.

The other modules of this package decide what is read and written through it.
"""

import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from include.core.settings import Settings
from include.io import storage

DATABRICKS = "databricks"  # a tracking URI of Databricks begins with this
UNITY_CATALOG = "databricks-uc"

_URIS = threading.RLock()  # held while the process uses the URIs of one connection

SET_BY_MLFLOW = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
"""Environment variables that MLflow sets along with its URIs."""


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
    def downloaded(self, uri: str) -> Iterator[str | None]:
        """Yield a temporary folder with the files of a model (`models:/…`), None if there are none."""
        with self.reached(), tempfile.TemporaryDirectory(prefix="nightly-model-") as folder:
            # For local artifacts MLflow would otherwise return the original folder, and write files into it.
            try:
                path = mlflow.artifacts.download_artifacts(
                    artifact_uri=uri, dst_path=folder, tracking_uri=self.tracking_uri, registry_uri=self.registry_uri
                )
            except (MlflowException, OSError) as error:
                if not _is_missing(error):
                    raise
                path = None
            yield path


def _is_missing(error: MlflowException | OSError) -> bool:
    """Return whether a download failed because there is no such file. Each kind of store says it in another way."""
    if isinstance(error, OSError):
        return isinstance(error, FileNotFoundError)
    return error.error_code == "RESOURCE_DOES_NOT_EXIST" or "No such artifact" in str(error)


def strings(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the values as MLflow keeps tags and parameters: as text."""
    return {name: str(value) for name, value in values.items()}


def _set(variables: Mapping[str, str | None]) -> None:
    """Set environment variables of this process; None removes one."""
    for name, value in variables.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value

"""Read a model that was fitted elsewhere, by its MLflow run, its registered version or its folder.

It may come from anybody. Names and versions in its files are compared, and none of them decides what is loaded: a file
of skops is loaded with the types that the repository names, and a pickle is not loaded unless a person says why.
`include/operations/adopt_model.py` decides what becomes of it.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from pydoc import locate
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from mlflow.exceptions import MlflowException
from mlflow.models import Model as LoggedFiles
from mlflow.types import DataType

from include.core.errors import ActionRequiredError, DataError
from include.io.registry.client import MlflowConnection
from include.io.registry.models import load_skops, load_trusted_pickle, unknown_types
from include.training.serialization import Cloudpickle, Serialization, Skops

URI = re.compile(r"^(runs|models):/.+$")
UNPICKLE = Path(__file__).with_name("unpickle.py")
UNPICKLE_SECONDS = 600
PASSED_ON = ("PATH", "LANG", "LC_ALL", "NIGHTLY_PROJECTS")
"""The environment variables of the process that loads a pickle. None of them is a secret."""

DO_NOT_SCORE = ("cloudpickle", "mlflow", "skops")
"""Packages that store models; another version of them changes no score."""

_KINDS = {
    **dict.fromkeys((DataType.double, DataType.float, DataType.integer, DataType.long, DataType.boolean), "number"),
    DataType.string: "text",
}


@dataclass(frozen=True)
class ForeignModel:
    """A scikit-learn model that was fitted elsewhere: its file, read once, and what the files beside it say of it.

    Attributes:
        source: where it is, as the person named it.
        run_id: the MLflow run that logged it, None if the files do not say.
        file: the name of the estimator's file.
        content: of that file.
        created_at: when it was logged, None if the files do not say.
        columns: its input columns in order, with `number`, `text` or another type; None without a signature that
            names them.
        versions: the versions of the libraries that it was fitted with, by package; without those that only store.
    """

    source: str
    run_id: str | None
    file: str
    content: bytes
    created_at: datetime | None
    columns: Mapping[str, str] | None
    versions: Mapping[str, str]

    @property
    def digest(self) -> str:
        """The sha256 of the estimator's file."""
        return sha256(self.content).hexdigest()

    @property
    def is_pickle(self) -> bool:
        """Whether the file is anything but a zip, which a file of skops is."""
        return self.content[:4] != b"PK\x03\x04"

    @property
    def other_libraries(self) -> list[str]:
        """Say which libraries have another version here than where it was fitted."""
        if "scikit-learn" not in self.versions:
            return ["scikit-learn of an unknown version"]
        return [
            f"{name} {was} (here {here})"
            for name, was in sorted(self.versions.items())
            if (here := _installed(name)) not in (was, None)
        ]

    def estimator(self, serialization: Serialization, trusted_because: str | None) -> Any:
        """Load the estimator.

        A pickle becomes skops in a process of its own, and is then loaded as such. Where `model.yaml` declares
        cloudpickle, every step loads a pickle, so the file is loaded here.

        Args:
            serialization: how `model.yaml` says that the model is saved.
            trusted_because: why a person trusts the pickle; None: nobody does.

        Raises:
            ActionRequiredError: it is a pickle that nobody trusts, or has types that the repository does not name.
            DataError: it cannot be loaded here.
        """
        if not self.is_pickle:
            allowed = serialization if isinstance(serialization, Skops) else Skops()
            return self._of_skops(self.content, allowed)
        if trusted_because is None:
            raise ActionRequiredError(
                f"{self.source} is a pickle ({self.file}): loading it runs whatever its file says, with all rights "
                "of this login. Nothing of it was loaded. If you know who made it and how it came here, give the "
                'reason: --trust-pickle "REASON". It is then loaded once, and stored without a pickle. Or log it again '
                'where it was fitted: mlflow.sklearn.log_model(…, serialization_format="skops")'
            )
        if isinstance(serialization, Cloudpickle):
            try:
                return load_trusted_pickle(self.content, serialization)
            except Exception as error:  # whatever a pickle raises
                raise DataError(self._not_loaded(f"{type(error).__name__}: {error}")) from error
        with TemporaryDirectory(prefix="nightly-unpickled-") as folder:
            return self._of_skops(self._unpickled(Path(folder)), serialization)

    def _of_skops(self, content: bytes, serialization: Skops) -> Any:
        try:
            unknown = unknown_types(serialization, content)
        except Exception as error:  # whatever a damaged file makes skops raise
            raise DataError(f"{self.source}: {self.file} is no file of skops: {error}") from error
        if unknown:
            listed = ", ".join(unknown)
            own = [name for name in unknown if not locate(name)]
            if own:
                raise ActionRequiredError(
                    f"{self.source} has classes or functions that cannot be imported here: {', '.join(own)}. Nothing "
                    "of it was stored. Move them to the top level of a module, such as the model's estimator.py, and "
                    "log the model again with them; a class of a notebook (__main__) exists nowhere else"
                )
            raise ActionRequiredError(
                f"{self.source} has types that model.yaml does not allow: {listed}. Nothing of it was stored. Read "
                "what they do when they are made; if loading them is safe, declare them in model.yaml: serialization: "
                f"{{kind: skops, types: [{listed}]}}, and adopt it again"
            )
        try:
            return load_skops(content, serialization)
        except Exception as error:  # whatever another version of a library raises
            raise DataError(self._not_loaded(f"{type(error).__name__}: {error}")) from error

    def _unpickled(self, folder: Path) -> bytes:
        """Load the pickle in a process of its own, and return the estimator as skops."""
        pickled, target = folder / "model.pkl", folder / "model.skops"
        pickled.write_bytes(self.content)
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        environment |= {"PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(folder), "TMPDIR": str(folder)}
        command = [sys.executable, "-P", str(UNPICKLE), str(pickled), str(target)]
        try:
            done = subprocess.run(
                command,
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=UNPICKLE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DataError(self._not_loaded(f"it took more than {UNPICKLE_SECONDS} s")) from error
        if done.returncode or not target.is_file():
            said = done.stderr.decode(errors="replace").strip().splitlines()
            why = said[-1][:500] if said else f"its process ended with code {done.returncode}"
            raise DataError(
                f"{self._not_loaded(why)} Classes of your own must be importable here, as in the model's estimator.py"
            )
        return target.read_bytes()

    def _not_loaded(self, why: str) -> str:
        libraries = f"It was fitted with {', '.join(self.other_libraries)}. " if self.other_libraries else ""
        return f"{self.source} cannot be loaded here: {why}. {libraries}Nothing of it was stored."


@contextmanager
def foreign_model(connection: MlflowConnection, source: str) -> Iterator[ForeignModel]:
    """Yield a model that was fitted elsewhere; nothing of it is loaded yet.

    Args:
        connection: MLflow.
        source: `runs:/<run>/<name>`, `models:/<name>/<version>`, another `models:/` URI, or a folder with `MLmodel`.

    Raises:
        ActionRequiredError: there is no such model, or it is not one of scikit-learn.
    """
    if not URI.match(source):
        folder = Path(source)
        if "://" in source or not (folder / "MLmodel").is_file():
            raise ActionRequiredError(
                f"--source {source}: no folder with a file MLmodel. Name a run (runs:/<run id>/model), a registered "
                "version (models:/<name>/<version>) or a folder. From another MLflow server, fetch the folder first: "
                "mlflow artifacts download --artifact-uri URI --dst-path FOLDER"
            )
        yield _described(source, folder)
        return
    try:
        with connection.downloaded(source, foreign=True) as path:
            if path is None or not (Path(path) / "MLmodel").is_file():
                raise ActionRequiredError(_absent(source))
            yield _described(source, Path(path))
    except MlflowException as error:
        raise ActionRequiredError(f"{_absent(source)}: {error}") from error


def _absent(source: str) -> str:
    return f"--source {source}: MLflow has no such model, or none of its files"


def _described(source: str, folder: Path) -> ForeignModel:
    """Read what the files say, and run none of them."""
    try:
        described = LoggedFiles.load(str(folder))
        flavor = described.flavors.get("sklearn")
    except (yaml.YAMLError, MlflowException, TypeError, ValueError, AttributeError) as error:
        raise ActionRequiredError(f"{source}: MLmodel cannot be read: {error}") from error
    if flavor is None:
        raise ActionRequiredError(
            f"{source} is not a model of scikit-learn: it has {', '.join(described.flavors) or 'no flavor'}. Log it "
            "with mlflow.sklearn.log_model"
        )
    file = folder / str(flavor.get("pickled_model"))
    if file.parent != folder or not file.is_file():
        raise ActionRequiredError(f"{source}: there is no file {str(flavor.get('pickled_model'))!r} beside MLmodel")
    return ForeignModel(
        source=source,
        run_id=described.run_id or None,
        file=file.name,
        content=file.read_bytes(),
        created_at=_moment(described.utc_time_created),
        columns=_columns(described),
        versions=_versions(folder, flavor),
    )


def _moment(text: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _columns(described: LoggedFiles) -> Mapping[str, str] | None:
    schema = described.get_input_schema()
    if schema is None or not schema.has_input_names():
        return None
    return {column.name: _KINDS.get(column.type, str(column.type)) for column in schema.inputs}


def _versions(folder: Path, flavor: Mapping[str, Any]) -> dict[str, str]:
    pinned: dict[str, str] = {}
    if (folder / "requirements.txt").is_file():
        for line in (folder / "requirements.txt").read_text(encoding="utf-8", errors="replace").splitlines():
            name, pin, number = line.partition(";")[0].strip().partition("==")
            if pin:
                pinned[re.sub(r"[-_.]+", "-", name.strip()).lower()] = number.strip()
    if version := flavor.get("sklearn_version"):
        pinned["scikit-learn"] = str(version)
    return {name: number for name, number in pinned.items() if name not in DO_NOT_SCORE}


def _installed(name: str) -> str | None:
    try:
        return installed_version(name)
    except PackageNotFoundError:
        return None

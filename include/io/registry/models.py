"""Write fitted models to files, load them, and predict with them. Only this module turns files and rows into scores.

Nothing else loads a model. `open_verified` downloads the files, reads them once, compares their digest with the one
that was recorded at the fit, and loads what it compared. What the files say about themselves (format, trusted types) is
not asked: the repository says it.
"""

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, packages_distributions
from importlib.metadata import version as installed_version
from pathlib import Path
from pydoc import locate
from tempfile import TemporaryDirectory
from typing import Any, Self

import cloudpickle
import mlflow.sklearn
import numpy as np
import polars as pl
import skops.io
import yaml
from mlflow.exceptions import MlflowException
from mlflow.models import Model as LoggedFiles
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from skops.io.exceptions import UntrustedTypesFoundException
from threadpoolctl import threadpool_limits

from include.config.model import Model
from include.core.errors import ActionRequiredError, ConfigError, DataError
from include.io.registry.client import MlflowConnection
from include.training.problem_types import ProblemType, get_problem_type
from include.training.reasons import explain, typical_row
from include.training.serialization import Cloudpickle, Serialization, Skops
from include.training.training_set import estimator_inputs

# MLflow warns at each save of a pickle that it can run code. A model has to say why it needs one.
logging.getLogger("mlflow.sklearn").setLevel(logging.ERROR)

REQUIREMENTS = ("cloudpickle", "numpy", "pandas", "scikit-learn", "scipy", "skops")
"""The packages that each logged model needs, at the locked versions. MLflow would take 20 s to infer them."""
_OF_REQUIREMENTS = frozenset({"cloudpickle", "numpy", "pandas", "sklearn", "scipy", "skops"})

SKOPS_FILE, PICKLE_FILE = "model.skops", "model.pkl"  # as MLflow names them
REFERENCE_FILE = "reference.parquet"
REFERENCE_ROWS = 64
REFERENCE_SCORE = "__score"
CALL_ROWS = 4096
"""Rows that an estimator gets at once. More cost small batches time, and fewer cost large ones time."""
ADDED_BY_DOWNLOAD = "registered_model_meta"  # MLflow writes this file beside those of a version

SAME_SCORES = {"rtol": 1e-9, "atol": 1e-12}
"""How close the scores of reference rows must be.

A float64 addition rounds by 1.1e-16 of its result, and other processors and linear algebra libraries add in another
order: over some thousand terms that is less than 1e-12. Another behaviour of a library differs by far more than 1e-9.
"""


@dataclass(frozen=True)
class LoadedModel:
    """An estimator with everything it needs to predict, as it was when the model was logged.

    Attributes:
        estimator: a fitted scikit-learn estimator.
        numeric: its numeric input columns.
        categorical: its input columns with labels.
        problem_type: the kind of problem, which gives the scores their meaning.
        quantiles: what it predicts (quantile problems).
        classes: the labels, in the order of their numbers (multiclass problems).
        decision_threshold: a score of at least this is predicted as 1 (binary problems).
        horizon_days: the largest horizon that it was fitted on.
        reference_rows: how many rows were scored when it was loaded, and compared with the stored scores.
        libraries: the version of each package that it was fitted with, as its files say.
        typical: one row with the usual value of each input, by the reference rows; None before it was stored.
    """

    estimator: Any
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    problem_type: str
    decision_threshold: float
    quantiles: tuple[float, ...] = ()
    classes: tuple[str, ...] = ()
    horizon_days: int = 0
    reference_rows: int = 0
    libraries: Mapping[str, str] = field(default_factory=dict, compare=False)
    typical: pl.DataFrame | None = field(default=None, compare=False)

    @classmethod
    def of(cls, model: Model, estimator: Any) -> Self:
        """Return an estimator that was fitted in this process, with the declarations of its model."""
        return cls(
            estimator=estimator,
            numeric=model.numeric,
            categorical=model.categorical,
            problem_type=model.problem_type,
            decision_threshold=model.decision_threshold,
            quantiles=model.quantiles,
            classes=model.classes,
            horizon_days=model.horizon_days,
        )

    @property
    def problem(self) -> ProblemType:
        """The problem type."""
        return get_problem_type(self.problem_type).of(quantiles=self.quantiles, classes=self.classes)

    @property
    def predicts(self) -> dict[str, Any]:
        """What the scores mean: problem type, quantiles and classes, as JSON has them."""
        return {"problem_type": self.problem_type, "quantiles": [*self.quantiles], "classes": [*self.classes]}

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that `predict` needs."""
        return (*self.numeric, *self.categorical)

    def predict(self, rows: pl.DataFrame) -> np.ndarray:
        """Score rows. The score of a row does not depend on the other rows, nor on how rows are cut, to the bit.

        Linear algebra adds in another order for another number of threads or rows. So estimators run on one thread, and
        always get `CALL_ROWS` rows: the last one is repeated where fewer are left.

        Args:
            rows: a frame with at least the columns `inputs`.

        Returns:
            Float64, one row for each row: scores, as the problem type says.
        """
        with threadpool_limits(1):
            starts = range(0, max(rows.height, 1), CALL_ROWS)
            return np.concatenate([self._predict_once(rows.slice(start, CALL_ROWS)) for start in starts])

    def _predict_once(self, rows: pl.DataFrame) -> np.ndarray:
        repeated = rows
        if 0 < rows.height < CALL_ROWS:
            repeated = rows[np.minimum(np.arange(CALL_ROWS), rows.height - 1)]
        features = estimator_inputs(repeated, self.numeric, self.categorical)
        return self.problem.predict(self.estimator, features)[: rows.height]

    def explain(self, rows: pl.DataFrame, top: int) -> list[str]:
        """Return the strongest contributions to the score of each row, as JSON: see `include/training/reasons.py`."""
        assert self.typical is not None  # of files that were loaded
        return explain(self.predict, self.problem, rows, self.typical, top)


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model: sha256 of their names and contents, by which a change is noticed, and their size.

    `contents` maps each name to what was read then. A model is loaded from it: the folder may have changed since, for
    other containers share the temporary files of tasks.
    """

    digest: str
    megabytes: float
    contents: Mapping[str, bytes] = field(repr=False, compare=False)

    @classmethod
    def within(cls, folder: Path) -> Self:
        """Return those of a folder."""
        digest, contents = sha256(), {}
        for file in sorted(f for f in folder.rglob("*") if f.is_file() and f != folder / ADDED_BY_DOWNLOAD):
            name, content = str(file.relative_to(folder)), file.read_bytes()
            digest.update(f"{name} {len(content)}\n".encode() + content)
            contents[name] = content
        return cls(digest.hexdigest(), sum(map(len, contents.values())) / 1e6, contents)


@dataclass(frozen=True)
class LoggedModel:
    """Where MLflow has a model, and how messages name it and what replaces it.

    Attributes:
        uri: `models:/…`.
        name: such as `version 3 of late_ferry`.
        instead: what to type, if it cannot be used.
    """

    uri: str
    name: str
    instead: str

    @classmethod
    def of_version(cls, model: str, version: int, registered_name: str) -> Self:
        """Return a version of a registered model."""
        return cls(
            f"models:/{registered_name}/{version}",
            f"version {version} of {model}",
            f"make a new version: python -m include.cli gate --model {model} --day DAY, then python -m include.cli "
            f"promote --model {model} --version N --from-day DAY --by NAME --why REASON (and --force, if the gate "
            "failed because it cannot load the champion)",
        )

    @classmethod
    def of_fit(cls, model: str, run_id: str, model_id: str) -> Self:
        """Return the model that a fit logged."""
        instead = f"fit it again: mlflow runs delete --run-id {run_id}, then run fit"
        return cls(f"models:/{model_id}", f"the fit of {model} in run {run_id}", instead)


@dataclass(frozen=True)
class VerifiedModel:
    """The files of a model, which were compared with the digest of its fit; another process can load them too."""

    files: ModelFiles
    logged: LoggedModel
    serialization: Serialization

    def load(self) -> "LoadedModel":
        """Load them, as `load_files` does."""
        return load_files(self.files, self.logged, self.serialization)


def reference_rows(rows: pl.DataFrame, inputs: tuple[str, ...], seed: int) -> pl.DataFrame:
    """Return up to `REFERENCE_ROWS` rows of model inputs, each column shuffled by itself.

    They have the values that the model meets, and no row is about one entity.
    """
    chosen = rows.select(inputs).sample(min(REFERENCE_ROWS, rows.height), seed=seed)
    shuffled = [chosen[name].sample(fraction=1, shuffle=True, seed=seed + n) for n, name in enumerate(inputs)]
    return pl.DataFrame(shuffled)


@contextmanager
def saved(model: Model, candidate: str, estimator: Any, reference: pl.DataFrame) -> Iterator[tuple[Path, LoggedFiles]]:
    """Yield a private folder with the files of a fitted model, and the `MLmodel` that is to be completed in it.

    The files are loaded once, as every step will load them, and score the reference rows as the estimator does.

    Raises:
        ConfigError: the way of serialization that model.yaml declares cannot take the estimator.
    """
    where = f"{model.folder / 'model.yaml'}: candidates, {candidate}"
    scores = LoadedModel.of(model, estimator).predict(reference).reshape(reference.height, -1)
    rows = reference.with_columns(pl.Series(f"{REFERENCE_SCORE}_{n}", column) for n, column in enumerate(scores.T))
    with TemporaryDirectory(prefix="nightly-model-") as folder:
        path, described = Path(folder) / "model", LoggedFiles()
        try:
            mlflow.sklearn.save_model(
                estimator,
                str(path),
                mlflow_model=described,
                signature=_signature(model),
                pip_requirements=[f"{name}=={installed_version(name)}" for name in packages_of(estimator)],
                serialization_format=model.stored.kind,
                skops_trusted_types=_trusted(model.stored),
                pyfunc_predict_fn=get_problem_type(model.problem_type).predict_method,
                metadata={
                    "problem_type": model.problem_type,
                    "decision_threshold": model.decision_threshold,
                    "quantiles": list(model.quantiles),
                    "classes": list(model.classes),
                    "horizon_days": model.horizon_days,
                },
            )
        except MlflowException as error:
            raise ConfigError(f"{where}: {_why_not_saved(model.stored, estimator, error)}") from error
        rows.write_parquet(path / REFERENCE_FILE)
        load_files(
            ModelFiles.within(path),
            LoggedModel(str(path), f"candidate {candidate} of {model.name}", "change the estimator"),
            model.stored,
        )
        yield path, described


def packages_of(estimator: Any) -> list[str]:
    """Return the packages that a model needs: `REQUIREMENTS`, and those of the parts of its estimator."""
    parts = [estimator, *(estimator.get_params(deep=True).values() if hasattr(estimator, "get_params") else ())]
    modules = {str(getattr(part, "__module__", None) or type(part).__module__).split(".")[0] for part in parts}
    if not (others := modules - _OF_REQUIREMENTS - {*sys.stdlib_module_names}):
        return [*REQUIREMENTS]
    installed = packages_distributions()  # a module of the product is of no package, or of the product's wheel
    found = {installed[name][0] for name in others if name in installed and name != "include"}
    return [*REQUIREMENTS, *sorted(found - {*REQUIREMENTS})]


def open_verified(
    connection: MlflowConnection, logged: LoggedModel, digest: str, serialization: Serialization
) -> LoadedModel:
    """Load a model, if its files are those of the digest that was recorded at its fit.

    The digest is compared on what was read, and that is loaded: nothing can change it in between. No file is
    parsed or run before.

    Args:
        connection: MLflow.
        logged: which model.
        digest: what the shared database recorded.
        serialization: how model.yaml says that the model is saved.

    Raises:
        ActionRequiredError: there are no such files, they are others, or model.yaml does not allow to load them.
        DataError: the libraries here score the reference rows otherwise than those of the fit.
    """
    return verified(connection, logged, digest, serialization).load()


def verified(
    connection: MlflowConnection, logged: LoggedModel, digest: str, serialization: Serialization
) -> VerifiedModel:
    """Return the files of a model, if they are those of the digest; see `open_verified`."""
    return VerifiedModel(verified_files(connection, logged, digest), logged, serialization)


def verified_files(connection: MlflowConnection, logged: LoggedModel, digest: str) -> ModelFiles:
    """Return digest and size of the files of a model, if they are those that were recorded at its fit.

    Raises:
        ActionRequiredError: as `open_verified` does.
    """
    with downloaded(connection, logged) as path:
        return _verified(path, logged, digest)


def _verified(path: Path, logged: LoggedModel, digest: str) -> ModelFiles:
    found = ModelFiles.within(path)
    if found.digest != digest:
        raise ActionRequiredError(
            f"{logged.name} is not what was fitted: its files in MLflow have the digest {found.digest}, and the "
            f"shared database recorded {digest}. Nothing of it was loaded. Files were replaced in the artifact "
            "store, or the registered model was deleted and made again, so that the number is another model now. "
            "Find out who did that, and restore MLflow's database and artifacts from the backup; or "
            f"{logged.instead}"
        )
    return found


@contextmanager
def downloaded(connection: MlflowConnection, logged: LoggedModel) -> Iterator[Path]:
    """Yield a private folder with the files of a model.

    Raises:
        ActionRequiredError: there are none.
    """
    with connection.downloaded(logged.uri) as folder:
        if folder is None or not (Path(folder) / "MLmodel").exists():  # some stores give an empty folder
            raise ActionRequiredError(
                f"the files of {logged.name} ({logged.uri}) are gone from the artifact store. Restore the store from "
                f"the backup; or {logged.instead}"
            )
        yield Path(folder)


def load_files(files: ModelFiles, logged: LoggedModel, serialization: Serialization) -> LoadedModel:
    """Load files, and compare what they score with the stored scores of the reference rows.

    Raises:
        ActionRequiredError: model.yaml does not allow to load them.
        DataError: the libraries here cannot load them, or score the reference rows otherwise.
    """
    described = LoggedFiles.from_dict(yaml.safe_load(files.contents["MLmodel"]))
    columns, metadata = described.get_input_schema().inputs, described.metadata or {}
    try:
        loaded = LoadedModel(
            estimator=_estimator(files.contents, logged, serialization),
            numeric=tuple(c.name for c in columns if c.type is DataType.double),
            categorical=tuple(c.name for c in columns if c.type is DataType.string),
            problem_type=metadata["problem_type"],
            decision_threshold=float(metadata["decision_threshold"]),
            quantiles=tuple(metadata["quantiles"]),
            classes=tuple(metadata["classes"]),
            horizon_days=int(metadata.get("horizon_days", 0)),
        )
        rows = pl.read_parquet(files.contents[REFERENCE_FILE])
        stored = rows.select(pl.selectors.starts_with(REFERENCE_SCORE)).to_numpy()
        now = loaded.predict(rows).reshape(stored.shape)
    except ActionRequiredError:
        raise
    except Exception as error:  # whatever another version of a library raises
        raise DataError(
            f"{logged.name} cannot be used here: {type(error).__name__}: {error}. {_libraries(files.contents)}. "
            f"Nothing was scored. Install the lock that it was fitted with; or {logged.instead}"
        ) from error
    differing = ~np.isclose(now, stored, **SAME_SCORES, equal_nan=True).all(axis=1)
    if differing.any():
        largest = np.nanmax(np.abs(now - stored))
        raise DataError(
            f"{logged.name} scores {differing.sum()} of its {len(stored)} reference rows otherwise here than when it "
            f"was fitted, by up to {largest:.3g}. {_libraries(files.contents)}. Nothing was scored. Install the lock "
            f"that it was fitted with; or {logged.instead}"
        )
    typical = typical_row(rows, loaded.numeric, loaded.categorical)
    libraries = _libraries_of_fit(files.contents)
    return replace(loaded, reference_rows=rows.height, libraries=libraries, typical=typical)


def _estimator(contents: Mapping[str, bytes], logged: LoggedModel, serialization: Serialization) -> Any:
    """Load the estimator in the way that model.yaml declares, whatever the files say."""
    name = PICKLE_FILE if isinstance(serialization, Cloudpickle) else SKOPS_FILE
    if name not in contents:
        there = next((found for found in (SKOPS_FILE, PICKLE_FILE) if found in contents), "no file of a model")
        raise ActionRequiredError(
            f"{logged.name} has {there}, and model.yaml says serialization: {serialization.kind}, so it is not loaded; "
            f"{logged.instead}"
        )
    if isinstance(serialization, Cloudpickle):
        return cloudpickle.loads(contents[name])
    try:
        return load_skops(contents[name], serialization)
    except UntrustedTypesFoundException:
        unknown = ", ".join(unknown_types(serialization, contents[name]))
        raise ActionRequiredError(
            f"{logged.name} has types that model.yaml does not allow: {unknown}; so it is not loaded. If "
            "you trust them, declare them: serialization: {kind: skops, types: [" + unknown + "]}; else "
            f"{logged.instead}"
        ) from None


def _trusted(serialization: Serialization) -> list[str] | None:
    return serialization.trusted if isinstance(serialization, Skops) else None


def unknown_types(serialization: Skops, content: bytes) -> list[str]:
    """Return the types in a file of skops that the repository does not name; nothing of the file is loaded."""
    return sorted(set(skops.io.get_untrusted_types(data=content)) - set(serialization.trusted))


def load_skops(content: bytes, serialization: Skops) -> Any:
    """Load an estimator, unless the file has types that the repository does not name: then nothing of it is loaded.

    Raises:
        UntrustedTypesFoundException: it has; see `unknown_types`.
    """
    return skops.io.loads(content, trusted=serialization.trusted)


def load_trusted_pickle(content: bytes, serialization: Cloudpickle) -> Any:
    """Load a pickle that was made elsewhere and that a person trusts, for a model whose `model.yaml` declares pickles.

    Loading it runs what its file says.
    """
    return cloudpickle.loads(content)


def _why_not_saved(serialization: Serialization, estimator: Any, error: MlflowException) -> str:
    why = str(error.__cause__ or error)
    if isinstance(serialization, Skops) and isinstance(error.__context__, UntrustedTypesFoundException):
        unknown = unknown_types(serialization, skops.io.dumps(estimator))
        if all(locate(name) for name in unknown):
            return (
                f"the fitted model has types that are not trusted: {', '.join(unknown)}. Read what their constructors "
                "do; if loading them is safe, declare them in model.yaml: serialization: {kind: skops, types: ["
                + ", ".join(unknown)
                + "]}. Nothing was logged"
            )
        why = ", ".join(unknown)
    move = (
        "It takes classes and functions at the top level of a module only, so move yours there; if that is impossible, "
        "declare serialization: {kind: cloudpickle, reason: …}. "
    )
    advice = move if isinstance(serialization, Skops) else ""
    return f"{serialization.kind} cannot save the estimator: {why}. {advice}Nothing was logged"


def _libraries_of_fit(contents: Mapping[str, bytes]) -> dict[str, str]:
    listed = contents.get("requirements.txt", b"").decode()  # as MLflow names it
    return dict(line.split("==", 1) for line in listed.split() if "==" in line)


def _libraries(contents: Mapping[str, bytes]) -> str:
    """Say which libraries of the fit are others here."""
    of_fit = _libraries_of_fit(contents)
    here = {name: installed_version(name) for name in REQUIREMENTS}
    for name in of_fit:
        with suppress(PackageNotFoundError):
            here[name] = installed_version(name)
    others = [f"{name} {was} (here {here.get(name, 'none')})" for name, was in of_fit.items() if here.get(name) != was]
    return f"It was fitted with {', '.join(others)}" if others else "It was fitted with the same versions of libraries"


def _signature(model: Model) -> ModelSignature:
    """Return the signature of a model. All numbers are doubles, since an integer column cannot hold a missing value."""
    columns: list[Any] = [ColSpec(DataType.double, name) for name in model.numeric]
    columns += [ColSpec(DataType.string, name) for name in model.categorical]
    return ModelSignature(inputs=Schema(columns), outputs=Schema([ColSpec(DataType.double)]))

"""MLflow: runs of fits with all that they came from, and versions of models. The only module that imports it.

Here belongs how a fit and a version are found again, so that a step that was killed and started again, or two at
once, make one version. What is fitted, measured and promoted is decided in `include/steps`. MLflow is reached by the
URIs of `Settings` only, whatever the environment says, and nothing is logged that was not handed over (no autolog).

**Once, without a lock.** A step on Databricks reaches MLflow and nothing else, so there is no lock to take.
- A *run* may be doubled, and that does no harm: it is written whole and marked FINISHED last, and the fit of a digest
  is the run that finished first. Readers of one digest agree on it as soon as there is one. What a killed step left
  behind is marked KILLED by the next that finishes.
- A *version* may not be. Numbers grow and are never used again, and a version is visible when its number is given.
  So: look for a version of the digest; create one; look again. The lowest number stays, and whoever sees a higher one
  of the same digest deletes it. Only then is it tagged as evaluated, which `promote` asks for: a version that may yet
  be deleted never becomes champion. (In Unity Catalog a version is visible before it is READY, so that two at once
  might both be kept; then the one evaluated first is found by all later steps, and an evaluated one is not deleted.)
"""

import json
import logging
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when MLflow is imported
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
import mlflow.sklearn
import polars as pl
from deltalake import DeltaTable, QueryBuilder
from mlflow import MlflowClient
from mlflow.data.dataset_source import DatasetSource
from mlflow.data.dataset_source_registry import register_dataset_source
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model as LoggedFiles
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from include.config.model import Model
from include.core.errors import ActionRequiredError
from include.core.names import experiment
from include.core.records import GateDecision
from include.core.settings import Settings, utc_now
from include.io import storage
from include.training.config import Candidate

log = logging.getLogger(__name__)

# It warns at each save that pickles can run code. These are our own, and skops does not take every estimator.
logging.getLogger("mlflow.sklearn").setLevel(logging.ERROR)

REQUIREMENTS = ("cloudpickle", "numpy", "pandas", "scikit-learn", "scipy")
"""What a logged model needs to be loaded, as locked here. MLflow would take 20 s to infer it."""

DATABRICKS = "databricks"  # what a tracking URI there begins with
UNITY_CATALOG = "databricks-uc"
WORKSPACE_FOLDER = "/Shared/nightly-ml"

_URIS = threading.RLock()  # held while the URIs of the process are ours

MLFLOW_SETS = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")  # along with its URIs
DIGEST = "fit_digest"
EVALUATED = "evaluated_in_run"
CHAMPION = "champion"
MAX_TAG = 4000  # Databricks takes 4096 bytes
ADDED_BY_DOWNLOAD = "registered_model_meta"  # MLflow writes it beside the files of a version


class DeltaPart(DatasetSource):
    """The rows of a Delta table at a version that fulfil a predicate. MLflow's own source has no predicate and drops
    version 0."""

    def __init__(self, path: str, version: int, predicate: str) -> None:
        self.path, self.version, self.predicate = path, version, predicate

    @staticmethod
    def _get_source_type() -> str:
        return "delta_part"

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:
        return False  # never guessed from a string

    @classmethod
    def _resolve(cls, raw_source: Any) -> "DeltaPart":
        raise NotImplementedError

    def load(self, **options: Any) -> pl.DataFrame:
        """The rows; `options` go to `DeltaTable` (storage_options)."""
        table = DeltaTable(self.path, version=self.version, **options)
        query = f"SELECT * FROM part WHERE {self.predicate}"  # noqa: S608  # delta-rs's own dialect, written by Scope
        return pl.DataFrame(QueryBuilder().register("part", table).execute(query).read_all())

    def to_dict(self) -> dict[str, Any]:
        return {"path": self.path, "version": self.version, "predicate": self.predicate}

    @classmethod
    def from_dict(cls, source_dict: dict[Any, Any]) -> "DeltaPart":
        return cls(**source_dict)


register_dataset_source(DeltaPart)  # type: ignore[arg-type]  # it takes the class, whatever its annotation says


@dataclass(frozen=True)
class Input:
    """A dataset that a fit read."""

    name: str
    source: DeltaPart
    rows: int
    context: str = "training"


@dataclass(frozen=True)
class Fit:
    """All that is logged of a fit."""

    model: Model
    candidate: Candidate
    digest: str
    estimator: Any
    tags: Mapping[str, Any]
    metrics: Mapping[str, float]
    inputs: Sequence[Input]
    started_at: datetime


@dataclass(frozen=True)
class FitRun:
    """A finished run: what was logged of a fit."""

    run_id: str
    model_id: str
    digest: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Version:
    """A version of a registered model."""

    model: str
    version: int
    run_id: str
    tags: Mapping[str, str]

    @property
    def evaluated(self) -> bool:
        return EVALUATED in self.tags


@dataclass(frozen=True)
class Loaded:
    """A model as it was logged: the estimator, its input columns, and the threshold it was judged with."""

    estimator: Any
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    problem_type: Literal["binary", "regression"]
    decision_threshold: float


@dataclass(frozen=True)
class Files:
    """The files of a version: `digest` (sha256 of names and contents) tells whether they are those that were judged."""

    digest: str
    megabytes: float


class Registry:
    """MLflow's tracking and registry at the places of the settings."""

    def __init__(self, settings: Settings) -> None:
        self.tracking_uri = settings.mlflow_tracking_uri.get_secret_value()
        registry_uri = settings.mlflow_registry_uri
        self.registry_uri = registry_uri.get_secret_value() if registry_uri else self.tracking_uri
        self.artifacts = settings.artifacts.rstrip("/")
        self.catalog = settings.catalog if self.registry_uri == UNITY_CATALOG else None
        self.run_id = settings.run_id
        self._variables = storage.mlflow_variables(settings)
        self._client = MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.registry_uri)

    def prepare(self) -> None:
        """Make MLflow's tables where its store is a database without: two clients at once would both make them."""
        with self._reached() as client:
            client.search_experiments(max_results=1)

    # --- fits ---------------------------------------------------------------------------------------------------------

    def find_fit(self, model: Model, digest: str) -> FitRun | None:
        """The run of this digest that finished first; None when none has."""
        with self._reached() as client:
            return self._first_finished(client, self._experiment_id(client, model), digest)

    def get_fit(self, run_id: str) -> FitRun:
        """A finished fit by the id of its run. Raises `ActionRequiredError` when there is none."""
        with self._reached() as client:
            try:
                run = client.get_run(run_id)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                raise ActionRequiredError(f"MLflow has no run {run_id}; run fit again") from error
            if run.info.status != "FINISHED" or not run.outputs or not run.outputs.model_outputs:
                raise ActionRequiredError(
                    f"MLflow run {run_id} is {run.info.status}, not a finished fit; run fit again"
                )
            return _fit_run(run)

    def log_fit(self, fit: Fit) -> FitRun:
        """Log a fit whole, and return the fit of its digest: this one, unless another has finished before it."""
        with self._reached() as client:
            experiment_id = self._experiment_id(client, fit.model)
            run_id = client.create_run(
                experiment_id,
                start_time=_milliseconds(fit.started_at),
                run_name=fit.candidate.name,
                tags={DIGEST: fit.digest, **_strings(fit.tags)},
            ).info.run_id
            params = _strings(fit.candidate.params)
            client.log_batch(run_id, params=[Param(name, value) for name, value in params.items()])
            client.log_inputs(run_id, [_dataset(item) for item in fit.inputs])
            logged = client.create_logged_model(
                experiment_id,
                name=fit.candidate.name,
                source_run_id=run_id,
                tags={DIGEST: fit.digest},
                params=params,
                model_type=fit.model.problem_type,
            )
            mlflow.sklearn.log_model(
                fit.estimator,
                name=fit.candidate.name,
                model_id=logged.model_id,
                run_id=run_id,
                signature=_signature(fit.model),
                pip_requirements=[f"{name}=={installed_version(name)}" for name in REQUIREMENTS],
                serialization_format="cloudpickle",  # MLflow's default differs between here and Databricks
                pyfunc_predict_fn="predict_proba" if fit.model.problem_type == "binary" else "predict",
                metadata={"problem_type": fit.model.problem_type, "decision_threshold": fit.model.decision_threshold},
            )
            # after the model, or log_model would log those of the run once more
            now = _milliseconds(utc_now())
            metrics = [Metric(name, value, now, 0, model_id=logged.model_id) for name, value in fit.metrics.items()]
            client.log_batch(run_id, metrics=metrics)
            client.set_terminated(run_id)  # last: FINISHED says that all of it is there
            winner = self._first_finished(client, experiment_id, fit.digest)
            assert winner is not None
            self._mark_killed(client, experiment_id, fit.digest)
            return winner

    def _first_finished(self, client: MlflowClient, experiment_id: str, digest: str) -> FitRun | None:
        found = client.search_runs(
            [experiment_id],
            filter_string=f"tags.{DIGEST} = '{digest}' and attributes.status = 'FINISHED'",
            max_results=100,
        )
        runs = sorted(found, key=lambda run: (run.info.end_time, run.info.run_id))
        return _fit_run(runs[0]) if runs else None

    def _mark_killed(self, client: MlflowClient, experiment_id: str, digest: str) -> None:
        """Runs of a digest that is fitted need not go on. Should one be alive, it marks itself FINISHED at its end."""
        unfinished = f"tags.{DIGEST} = '{digest}' and attributes.status = 'RUNNING'"
        for run in client.search_runs([experiment_id], filter_string=unfinished):
            log.info("run %s of the same fit was left unfinished; marked as killed", run.info.run_id)
            client.set_terminated(run.info.run_id, status="KILLED")

    def _experiment_id(self, client: MlflowClient, model: Model) -> str:
        name = experiment(model.project, model.name)
        location: str | None = f"{self.artifacts}/{model.project}/{model.name}"
        if self.tracking_uri.startswith(DATABRICKS):
            name, location = f"{WORKSPACE_FOLDER}/{name}", None  # a folder of the workspace, and its own storage
        found = client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(client.create_experiment(name, artifact_location=location))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = client.get_experiment_by_name(name)  # another was first
                assert found is not None
        if found.lifecycle_stage == "deleted":
            raise ActionRequiredError(
                f"MLflow experiment {name} was deleted; `mlflow experiments restore -x {found.experiment_id}` first"
            )
        return str(found.experiment_id)

    # --- versions -----------------------------------------------------------------------------------------------------

    def register(self, model: Model, fit: FitRun, tags: Mapping[str, Any]) -> Version:
        """The version of the logged model of a fit, tagged as evaluated; made when there is none."""
        name = self._named(model.name)
        with self._reached() as client:
            self._ensure_registered(client, model)
            if not self._versions_of(client, name, fit):
                client.create_model_version(
                    name,
                    source=f"models:/{fit.model_id}",
                    run_id=fit.run_id,
                    tags={DIGEST: fit.digest, **_strings(tags)},
                    model_id=fit.model_id,
                )
            found = self._versions_of(client, name, fit)
            kept = min(found, key=lambda version: (not version.evaluated, version.version))
            for version in found:
                if version is not kept and not version.evaluated:
                    log.info("%s: version %d doubles version %d; deleted", model.name, version.version, kept.version)
                    self._delete(client, version)
            if not kept.evaluated:
                try:
                    client.set_model_version_tag(name, str(kept.version), EVALUATED, self.run_id)
                except MlflowException:  # of two that set a new tag at once, MLflow fails the second
                    if not _version(client.get_model_version(name, str(kept.version))).evaluated:
                        raise
            return _version(client.get_model_version(name, str(kept.version)))

    def get_version(self, model: str, version: int) -> Version:
        """Raises `ActionRequiredError`, naming the newest versions, when there is no such version."""
        with self._reached() as client:
            try:
                return _version(client.get_model_version(self._named(model), str(version)))
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                newest = sorted((int(v.version) for v in self._versions(client, self._named(model))), reverse=True)[:5]
                there = (
                    f"the newest are {', '.join(map(str, newest))}" if newest else "run evaluate first, there is none"
                )
                raise ActionRequiredError(f"{model} has no version {version} in the registry; {there}") from error

    def aliased(self, model: str, alias: str = CHAMPION) -> int | None:
        """The version that an alias points to, None when it points to none."""
        with self._reached() as client:
            try:
                return int(client.get_model_version_by_alias(self._named(model), alias).version)
            except MlflowException as error:
                if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    raise
                return None

    def point(self, model: str, version: int, alias: str = CHAMPION) -> None:
        """Make an alias point to a version."""
        with self._reached() as client:
            try:
                client.set_registered_model_alias(self._named(model), alias, str(version))
            except MlflowException:  # of two that set a new alias at once, MLflow fails the second
                if int(client.get_model_version_by_alias(self._named(model), alias).version) != version:
                    raise

    def load_fit(self, fit: FitRun) -> Loaded:
        """The model that a fit logged."""
        return self._load(f"models:/{fit.model_id}")

    def load_version(self, model: str, version: int) -> Loaded:
        """A version of a registered model. Raises `ActionRequiredError` when there is no such version."""
        self.get_version(model, version)
        return self._load(f"models:/{self._named(model)}/{version}")

    def files(self, model: str, version: int) -> Files:
        """The files of a version as the registry holds them now. Raises `ActionRequiredError` when there is no version."""
        self.get_version(model, version)
        digest, size = sha256(), 0
        with self._downloaded(f"models:/{self._named(model)}/{version}") as path:
            for file in sorted(f for f in Path(path).rglob("*") if f.is_file() and f.name != ADDED_BY_DOWNLOAD):
                content = file.read_bytes()
                digest.update(f"{file.relative_to(path)} {len(content)}\n".encode() + content)
                size += len(content)
        return Files(digest=digest.hexdigest(), megabytes=size / 1e6)

    def record_gate(self, model: str, version: int, decision: GateDecision) -> None:
        """The decision as tags of the version, and its checks as tags and a table of its run."""
        name = self._named(model)
        verdict = "passed" if decision.passed else f"rejected: {decision.why_not}"
        tags = {"gate": verdict[:MAX_TAG], "gate_id": decision.gate_id, "gate_champion": str(decision.champion)}
        with self._reached() as client:
            run_id = str(client.get_model_version(name, str(version)).run_id)
            for tag, value in tags.items():
                client.set_model_version_tag(name, str(version), tag, value)
                client.set_tag(run_id, tag, value)
            table = {
                column: [getattr(check, column) for check in decision.checks]
                for column in ("name", "subject", "passed", "measured", "threshold", "sentence")
            }
            client.log_dict(run_id, {"columns": list(table), "data": list(zip(*table.values(), strict=True))},
                            f"gate/{decision.gate_id}.json")  # fmt: skip

    def _load(self, uri: str) -> Loaded:
        with self._downloaded(uri) as path:
            files = LoggedFiles.load(path)
            estimator = mlflow.sklearn.load_model(path)
        columns, metadata = files.get_input_schema().inputs, files.metadata or {}
        return Loaded(
            estimator=estimator,
            numeric=tuple(c.name for c in columns if c.type is DataType.double),
            categorical=tuple(c.name for c in columns if c.type is DataType.string),
            problem_type=metadata["problem_type"],
            decision_threshold=float(metadata["decision_threshold"]),
        )

    @contextmanager
    def _downloaded(self, uri: str) -> Iterator[str]:
        with self._reached(), tempfile.TemporaryDirectory(prefix="nightly-model-") as folder:
            # into a folder of its own: of local files MLflow would else return the originals, and write beside them
            yield mlflow.artifacts.download_artifacts(
                artifact_uri=uri, dst_path=folder, tracking_uri=self.tracking_uri, registry_uri=self.registry_uri
            )

    def _named(self, model: str) -> str:
        """The name of a registered model: Unity Catalog's says where it is."""
        return f"{self.catalog}.{model}" if self.catalog else model

    def _ensure_registered(self, client: MlflowClient, model: Model) -> None:
        try:
            client.get_registered_model(self._named(model.name))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
        else:
            return
        try:
            client.create_registered_model(
                self._named(model.name), tags={"project": model.project}, description=model.title
            )
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"):  # another was first
                raise

    def _versions(self, client: MlflowClient, name: str) -> Iterator[ModelVersion]:
        token = None
        while True:
            page = client.search_model_versions(f"name = '{name}'", page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _versions_of(self, client: MlflowClient, name: str, fit: FitRun) -> list[Version]:
        """The versions of a fit's digest. Found by run, since Unity Catalog's search knows no tags."""
        experiment_id = client.get_run(fit.run_id).info.experiment_id
        runs = client.search_runs([experiment_id], filter_string=f"tags.{DIGEST} = '{fit.digest}'")
        of_digest = {run.info.run_id for run in runs}
        found = []
        for listed in self._versions(client, name):
            if listed.run_id in of_digest and listed.status == "READY":
                try:
                    found.append(_version(client.get_model_version(name, listed.version)))
                except MlflowException as error:
                    if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # deleted since it was listed
                        raise
        return found

    def _delete(self, client: MlflowClient, version: Version) -> None:
        try:
            client.delete_model_version(self._named(version.model), str(version.version))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # another deleted it
                raise

    @contextmanager
    def _reached(self) -> Iterator[MlflowClient]:
        """The client; and, since parts of MLflow (logging a model, `models:/` URIs) know only the process's URIs,
        these as well, put back afterwards with the environment variables that MLflow sets along, and those by which it
        reaches its artifacts; one thread at a time."""
        with _URIS:
            before = {name: os.environ.get(name) for name in (*MLFLOW_SETS, *self._variables)}
            try:
                _set(self._variables)
                mlflow.set_tracking_uri(self.tracking_uri)
                mlflow.set_registry_uri(self.registry_uri)
                yield self._client
            finally:
                mlflow.set_tracking_uri(None)  # type: ignore[arg-type]  # None unsets it
                mlflow.set_registry_uri(None)  # type: ignore[arg-type]
                _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    """In the environment of this process; None takes away."""
    for name, value in variables.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def _fit_run(run: Any) -> FitRun:
    return FitRun(
        run_id=run.info.run_id,
        model_id=run.outputs.model_outputs[-1].model_id,
        digest=run.data.tags[DIGEST],
        tags=run.data.tags,
    )


def _version(found: ModelVersion) -> Version:
    # the model's own name, of which Unity Catalog's has more
    return Version(
        model=found.name.rpartition(".")[2], version=int(found.version), run_id=str(found.run_id), tags=dict(found.tags)
    )


def _signature(model: Model) -> ModelSignature:
    """All numbers as double, integers too: one that is missing would have no integer to stand for it."""
    columns: list[Any] = [ColSpec(DataType.double, name) for name in model.numeric]
    columns += [ColSpec(DataType.string, name) for name in model.categorical]
    return ModelSignature(inputs=Schema(columns), outputs=Schema([ColSpec(DataType.double)]))


def _strings(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in values.items()}


def _dataset(item: Input) -> DatasetInput:
    source = item.source.to_json()
    entity = Dataset(
        name=item.name,
        # MLflow keeps one dataset a name and digest, with its first source: so the digest is the source's
        digest=sha256(source.encode()).hexdigest()[:16],
        source_type=DeltaPart._get_source_type(),
        source=source,
        profile=json.dumps({"num_rows": item.rows}),
    )
    return DatasetInput(dataset=entity, tags=[InputTag(MLFLOW_DATASET_CONTEXT, item.context)])


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)

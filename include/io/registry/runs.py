"""The runs of fits: written completely, found again by digest. `include/steps` decides what a fit contains."""

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import polars as pl
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import Model as LoggedFiles

from include.config.model import Model
from include.core.errors import ActionRequiredError
from include.core.names import experiment
from include.core.settings import utc_now
from include.io.registry.client import MlflowConnection, strings, write_again
from include.io.registry.datasets import FitInput, mlflow_input
from include.io.registry.models import ModelFiles, saved
from include.training.config import Candidate

log = logging.getLogger(__name__)

WORKSPACE_FOLDER = "/Shared/nightly-ml"
DIGEST = "fit_digest"
MODEL_DIGEST = "model_digest"

READ_BACK = (
    *("project", "model", "candidate", "day", "as_of", "data_view", "entity_fraction"),
    *("interval_start", "interval_end", "watermark"),
    *("features_version", "outcome_version", "first_features_version", "data_digest"),
    *("config_digest", "lock_digest", "git_commit"),
    # of an adopted model
    *("fit_end", "validation_start", "validation_end", "holdout_start"),
    *("adopted_from", "adopted_run", "adopted_file", "adopted_by", "adopted_why", "adopted_notes", "trusted_pickle"),
)
"""The tags that steps read back from the run of a fit. The shared database has their digest."""

SEARCH_BEST = "search_best"
READ_BACK_IF_THERE = (SEARCH_BEST, "search_trials")
"""Such tags that only some fits have; a fit without them keeps its digest."""


@dataclass(frozen=True)
class Fit:
    """Everything that is logged of a fit. `reference` is rows whose scores every loading of the model compares."""

    model: Model
    candidate: Candidate
    digest: str
    estimator: Any
    tags: Mapping[str, Any]
    metrics: Mapping[str, float]
    inputs: Sequence[FitInput]
    reference: pl.DataFrame
    started_at: datetime


@dataclass(frozen=True)
class FitRun:
    """A finished run of a fit, with everything that was logged.

    Attributes:
        run_id: the run.
        model_id: the logged model.
        digest: of everything that decides the fit.
        model_digest: of the files. It is what MLflow says, unless this process has just logged them.
        tags: of the run. They are what MLflow says, too, unless `get_fit` compared them.
        logged_here: whether this process has just logged it.
    """

    run_id: str
    model_id: str
    digest: str
    model_digest: str
    tags: Mapping[str, str]
    logged_here: bool = False

    @property
    def tags_digest(self) -> str:
        """Digest of the tags that steps read back."""
        values: list[Any] = [self.tags.get(name) for name in READ_BACK]
        values += [[name, self.tags[name]] for name in READ_BACK_IF_THERE if name in self.tags]
        return sha256(json.dumps(values).encode()).hexdigest()


def find_fit(
    connection: MlflowConnection, model: Model, digest: str, recorded: Collection[str] | None = None
) -> FitRun | None:
    """Return the run of this digest that finished first, None when none has finished.

    Args:
        connection: where to look.
        model: whose fit it is.
        digest: of everything that decides the fit.
        recorded: the runs that the shared database knows; a run that it does not know may be somebody else's. None
            where the database cannot be asked: the worker that records the fit compares then.
    """
    with connection.reached() as client:
        return _first_finished(client, experiment_id_of(connection, client, model), digest, recorded)


def get_fit(connection: MlflowConnection, run_id: str, tags_digest: str | None = None) -> FitRun:
    """Return a finished fit by the id of its run.

    Args:
        connection: where to look.
        run_id: the run.
        tags_digest: of the tags that are read back, as the shared database recorded it at the fit. None: it was
            recorded without, by an older version of the product.

    Raises:
        ActionRequiredError: when there is no such run, it is not a finished fit, or its tags are others.
    """
    with connection.reached() as client:
        try:
            run = client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise ActionRequiredError(f"MLflow has no run {run_id}; run fit again") from error
        if run.info.status != "FINISHED" or not run.outputs or not run.outputs.model_outputs:
            raise ActionRequiredError(f"MLflow run {run_id} is {run.info.status}, not a finished fit; run fit again")
        found = _fit_run(run)
    if tags_digest not in (None, found.tags_digest):
        raise ActionRequiredError(
            f"MLflow run {run_id} does not say what the fit said that made it: the shared database has another digest "
            f"of its tags ({', '.join(READ_BACK)}). Somebody changed the run in MLflow. Find out who, delete the run "
            f"(mlflow runs delete --run-id {run_id}), and run fit again"
        )
    return found


def log_fit(connection: MlflowConnection, fit: Fit) -> FitRun:
    """Log a fit and return it, as it was here: not what MLflow says of it, and no other run of its digest.

    Raises:
        ConfigError: the estimator cannot be saved as model.yaml says. Nothing is logged then.
    """
    name = fit.candidate.name
    with connection.reached() as client, saved(fit.model, name, fit.estimator, fit.reference) as (path, described):
        experiment_id = experiment_id_of(connection, client, fit.model)
        run_id = client.create_run(
            experiment_id,
            start_time=milliseconds(fit.started_at),
            run_name=name,
            tags={DIGEST: fit.digest, **strings(fit.tags)},
        ).info.run_id
        params = strings(fit.candidate.shown)
        client.log_batch(run_id, params=[Param(name, value) for name, value in params.items()])
        inputs = [mlflow_input(item) for item in fit.inputs]
        write_again(lambda: client.log_inputs(run_id, inputs))
        model_id, model_digest = _log_model(connection, client, fit, path, described, experiment_id, run_id, params)
        now = milliseconds(utc_now())
        metrics = [Metric(name, value, now, 0, model_id=model_id) for name, value in fit.metrics.items()]
        client.log_batch(run_id, metrics=metrics, tags=[RunTag(MODEL_DIGEST, model_digest)])
        client.set_terminated(run_id)  # last: FINISHED means that the run is complete
        _mark_killed(client, experiment_id, fit.digest)
        return FitRun(run_id, model_id, fit.digest, model_digest, strings(fit.tags), logged_here=True)


def _log_model(
    connection: MlflowConnection,
    client: MlflowClient,
    fit: Fit,
    path: Path,
    described: LoggedFiles,
    experiment_id: str,
    run_id: str,
    params: Mapping[str, str],
) -> tuple[str, str]:
    """Log the files of a model; return the id of the logged model and the digest of the files."""
    logged = client.create_logged_model(
        experiment_id,
        name=fit.candidate.name,
        source_run_id=run_id,
        tags={DIGEST: fit.digest},
        params=dict(params),
        model_type=fit.model.problem_type,
    )
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    described.run_id, described.model_id, described.model_uuid = run_id, logged.model_id, logged.model_id
    described.artifact_path = logged.artifact_location
    described.save(str(path / "MLmodel"))
    model_digest = ModelFiles.within(path).digest  # of what is here, before MLflow has it
    connection.upload(logged.model_id, logged.artifact_location, str(path))
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    return str(logged.model_id), model_digest


def _first_finished(
    client: MlflowClient, experiment_id: str, digest: str, recorded: Collection[str] | None
) -> FitRun | None:
    found = client.search_runs(
        [experiment_id],
        filter_string=f"tags.{DIGEST} = '{digest}' and attributes.status = 'FINISHED'",
        max_results=100,
    )
    known = [run for run in found if recorded is None or run.info.run_id in recorded]
    runs = sorted(known, key=lambda run: (run.info.end_time, run.info.run_id))
    return _fit_run(runs[0]) if runs else None


def _mark_killed(client: MlflowClient, experiment_id: str, digest: str) -> None:
    """Mark the unfinished runs of a digest that has its fit. A run that is still alive marks itself FINISHED later.

    The last tag of a run comes before it is FINISHED. So a run that ended between the search and the mark is seen to be
    complete, and is FINISHED again.
    """
    unfinished = f"tags.{DIGEST} = '{digest}' and attributes.status = 'RUNNING'"
    for run in client.search_runs([experiment_id], filter_string=unfinished):
        run_id = run.info.run_id
        if not _is_complete(client, run_id):
            log.info("MLflow run %s of the same fit was left unfinished; marked as KILLED", run_id)
            client.set_terminated(run_id, status="KILLED")
        if _is_complete(client, run_id):
            client.set_terminated(run_id)


def _is_complete(client: MlflowClient, run_id: str) -> bool:
    return MODEL_DIGEST in client.get_run(run_id).data.tags


def experiment_id_of(connection: MlflowConnection, client: MlflowClient, model: Model) -> str:
    """Return the experiment of a model; create it if there is none."""
    name = experiment(model.project, model.name)
    location: str | None = f"{connection.artifacts}/{model.project}/{model.name}"
    if connection.on_databricks:
        name, location = f"{WORKSPACE_FOLDER}/{name}", None  # a folder of the workspace, which has its own storage
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)  # another process created it first
            assert found is not None
    if found.lifecycle_stage == "deleted":
        raise ActionRequiredError(
            f"MLflow experiment {name} is deleted. Run: mlflow experiments restore -x {found.experiment_id}"
        )
    return str(found.experiment_id)


def _fit_run(run: Any) -> FitRun:
    return FitRun(
        run_id=run.info.run_id,
        model_id=run.outputs.model_outputs[-1].model_id,
        digest=run.data.tags[DIGEST],
        model_digest=run.data.tags.get(MODEL_DIGEST, ""),
        tags=run.data.tags,
    )


def milliseconds(moment: datetime) -> int:
    """Return a moment as MLflow keeps it."""
    return int(moment.timestamp() * 1000)

"""The trials of searches: nested runs, by which a search that was killed goes on. `training/search` decides them.

Whoever writes to MLflow could store a trial with a forged loss. It would make the search choose other settings, but
only within the declared ranges; and what is fitted with them is gated as any other model.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

from mlflow.entities import Metric, Param, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from include.config.model import Model
from include.core.settings import utc_now
from include.io.registry.client import MlflowConnection, strings
from include.io.registry.runs import experiment_id_of, milliseconds
from include.training.search import Searched, Trial

DIGEST = "search_digest"
TRIAL = "search_trial"


@dataclass(frozen=True)
class SearchRun:
    """The run of a search, below which its trials are.

    Attributes:
        run_id: the run.
        experiment_id: where it is.
        trials: those that finished, by number.
    """

    run_id: str
    experiment_id: str
    trials: Mapping[int, Trial]


def open_search(connection: MlflowConnection, model: Model, digest: str, tags: Mapping[str, Any]) -> SearchRun:
    """Return the search of a fit with the trials that are there; begin it if there is none.

    Args:
        connection: where to look.
        model: whose fit it is.
        digest: of everything that decides the fit, and so the search.
        tags: what a new run says of itself.
    """
    with connection.reached() as client:
        experiment_id = experiment_id_of(connection, client, model)
        found = client.search_runs(
            [experiment_id], f"tags.{DIGEST} = '{digest}'", order_by=["attributes.start_time ASC"], max_results=1
        )
        if not found:
            name = f"search {tags['candidate']}"
            run = client.create_run(experiment_id, run_name=name, tags={DIGEST: digest, **strings(tags)})
            return SearchRun(run.info.run_id, experiment_id, {})
        run_id = found[0].info.run_id
        below = client.search_runs(
            [experiment_id],
            f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run_id}' and attributes.status = 'FINISHED'",
            order_by=["attributes.start_time DESC"],  # of two of one number, the first stays
            max_results=5000,
        )
        trials = [_read(run.data.tags.get(TRIAL, "")) for run in below]
        return SearchRun(run_id, experiment_id, {trial.number: trial for trial in trials if trial})


def log_trial(connection: MlflowConnection, search: SearchRun, trial: Trial) -> None:
    """Store a trial; it counts when its run is finished."""
    with connection.reached() as client:
        name = f"trial {trial.number}"
        run = client.create_run(search.experiment_id, run_name=name, tags={MLFLOW_PARENT_RUN_ID: search.run_id})
        now, run_id = milliseconds(utc_now()), run.info.run_id
        measured = {"seconds": trial.seconds} | ({"loss": trial.loss} if isfinite(trial.loss) else {})
        client.log_batch(
            run_id,
            metrics=[Metric(name, value, now, 0) for name, value in measured.items()],
            params=[Param(name, value) for name, value in strings(trial.params).items()],
            tags=[RunTag(TRIAL, _written(trial))],
        )
        client.set_terminated(run_id)  # last: FINISHED means that the trial is complete


def close_search(connection: MlflowConnection, search: SearchRun, searched: Searched) -> None:
    """Say what the search found."""
    with connection.reached() as client:
        best = Metric("loss", searched.best.loss, milliseconds(utc_now()), 0)
        params = [Param(name, value) for name, value in strings(searched.best.params).items()]
        tags = [RunTag("search_trials", searched.words), RunTag("search_best", f"trial {searched.best.number}")]
        client.log_batch(search.run_id, metrics=[best], params=params, tags=tags)
        client.set_terminated(search.run_id)


def _written(trial: Trial) -> str:
    loss = trial.loss if isfinite(trial.loss) else None
    return json.dumps({
        "number": trial.number, "params": dict(trial.params), "loss": loss, "seconds": trial.seconds, "why": trial.why
    })  # fmt: skip


def _read(text: str) -> Trial | None:
    """Return a trial; None if somebody else wrote the text, so that the trial is made again."""
    try:
        said = json.loads(text)
        loss = inf if said["loss"] is None else float(said["loss"])
        return Trial(int(said["number"]), dict(said["params"]), loss, float(said["seconds"]), str(said["why"]))
    except (ValueError, TypeError, KeyError):
        return None

"""reproduce: train a version again and compare its scores with those of the registered one. Nothing is written."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime

import numpy as np
import polars as pl

from include.config.loading import load_project
from include.config.model import Model
from include.core.errors import ActionRequiredError, ConfigError, DataError
from include.core.interval import Interval
from include.core.project import Project
from include.core.records import Reproduced
from include.core.settings import Settings
from include.io import postgres
from include.io.journal import read_journal
from include.io.postgres.model_files import RecordedFit
from include.io.registry import FitRun, LoadedModel, Registry, Version
from include.io.training_sets import training_set_of_run
from include.steps.fit import fitted_candidate, lock_digest, train
from include.training.training_set import earlier_by

MAX_CAUSES = 5  # changes of data that a message names


def reproduce(model: Model, version: int, settings: Settings) -> Reproduced:
    """Fit the candidate of a version again on the rows that the version saw, and score these rows with both.

    The rows are read from the tables as they are now or, where they changed, at the table versions of its run. The fit
    of an adopted model cannot be repeated; only its scores are compared with those of its adoption.

    Raises:
        DataError: an adopted model scores its reference rows otherwise than at its adoption.
        ActionRequiredError: when there is no such version, its rows are not found, or this code no longer has its
            candidate; the message names what changed since the version was made, and the commit that made it.
    """
    registry = Registry(settings)
    found = registry.get_version(model.name, version)
    recorded = postgres.model_files.read_versions(settings, model.name, [version])[version]
    loaded = registry.load(found, recorded.model_digest, model)
    if recorded.adopted_from is not None:
        return _adopted(found, recorded, loaded)
    run = registry.get_fit(recorded.mlflow_run, recorded.tags_digest)
    day, commit = date.fromisoformat(run.tags["day"]), run.tags["git_commit"]
    project = load_project(model.project).model_copy(
        update={"entity_fraction": float(run.tags.get("entity_fraction", 1))}
    )
    of_code = {  # everything that decides a fit, with its digest then and now
        "model.yaml or estimator.py": (run.tags["config_digest"], model.digest),
        "requirements.txt or Python": (run.tags["lock_digest"], lock_digest()),
        "commit": (commit, settings.git_commit),
    }
    changed = tuple(what for what, (was, now) in of_code.items() if was != now and "unknown" not in (was, now))
    try:
        training_set = training_set_of_run(project, model, Interval.of(day), settings, run)
        fitted = train(model, fitted_candidate(model, run.tags), training_set)
    except (ConfigError, DataError) as error:
        since = "; ".join([*(f"{what} changed" for what in changed), *_changed_data(project, model, run, settings)])
        raise ActionRequiredError(
            f"{model.name}: version {version} cannot be trained again by this code: {error}. "
            f"Since it was made: {since or 'nothing that the journal or the digests show'}. "
            f"Commit {commit} made it; check out that commit and run reproduce there"
        ) from error
    parts = training_set.parts(training_set.interval)
    before, again = _scores((loaded, LoadedModel.of(model, fitted)), parts)
    return Reproduced(
        model=model.name,
        model_version=version,
        candidate=run.tags["candidate"],
        day=day,
        rows=training_set.count,
        differing=int((before != again).reshape(len(before), -1).any(axis=1).sum()),
        largest_difference=float(np.abs(before - again).max()),
        changed=changed,
    )


def _scores(models: Sequence[LoadedModel], parts: Iterable[pl.DataFrame]) -> list[np.ndarray]:
    """Return the scores of rows by each model. Parts without rows are left out, because estimators refuse them."""
    scored = [[model.predict(part) for model in models] for part in parts if part.height]
    return [np.concatenate(each) for each in zip(*scored, strict=True)]


def _adopted(version: Version, recorded: RecordedFit, loaded: LoadedModel) -> Reproduced:
    """Return that the reference rows of an adopted model score the same: loading it has compared them."""
    return Reproduced(
        model=recorded.model,
        model_version=version.version,
        candidate=recorded.candidate,
        day=date.fromisoformat(version.tags["day"]),
        rows=loaded.reference_rows,
        differing=0,
        largest_difference=0.0,
        changed=(),
        note=f"the fit cannot be repeated: version {version.version} was fitted elsewhere and adopted from "
        f"{recorded.adopted_from}, and which rows it was fitted on is not known here. Its files are those of the "
        "adoption, and its reference rows score as they did then",
    )


def _changed_data(project: Project, model: Model, run: FitRun, settings: Settings) -> list[str]:
    """Say what the journal has about the rows of a fit that it did not have then: deliveries of outcomes, repairs."""
    days = Interval.model_validate({"start": run.tags["interval_start"], "end": run.tags["interval_end"]})
    now = read_journal(settings, project)
    then = now.at(int(run.tags["watermark"]))
    of_outcome = now.deliveries.filter(
        pl.col("feed") == project.outcomes[model.outcome].feed,
        pl.col("day").is_between(days.start, days.end),
        pl.col("available_from") <= datetime.fromisoformat(run.tags["as_of"]),
    )
    verdicts = dict(then.deliveries.select("delivery_id", "verdict").iter_rows())
    found = []
    for delivery_id, verdict, why in of_outcome.select("delivery_id", "verdict", "why").iter_rows():
        before = verdicts.get(delivery_id)
        if "accepted" in (before, verdict) and before != verdict:
            reason = f": {why}" if why else ""
            found.append(f"{delivery_id} was {before or 'not landed'} then, and is {verdict} now{reason}")
    run_dates = earlier_by(days, model.horizon_days)
    for day, record in now.records.items():
        earlier = then.records.get(day)
        if day in run_dates.days and (earlier is None or earlier.number != record.number):
            found.append(f"{day} was {'repaired' if earlier else 'prepared'} after the fit")
    more = [f"and {len(found) - MAX_CAUSES} more changes"] if len(found) > MAX_CAUSES else []
    return [*found[:MAX_CAUSES], *more]

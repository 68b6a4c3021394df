"""reproduce: train a version again and compare its scores with those of the registered one. Nothing is written."""

from datetime import date

import numpy as np

from include.config.loading import load_project
from include.config.model import Model
from include.core.errors import ActionRequiredError, ConfigError, DataError
from include.core.interval import Interval
from include.core.records import Reproduced
from include.core.settings import Settings
from include.io.registry import LoadedModel, Registry
from include.io.training_sets import training_set_of_run
from include.steps.fit import lock_digest, named_candidate, train


def reproduce(model: Model, version: int, settings: Settings) -> Reproduced:
    """Fit the candidate of a version again on the rows that the version saw, and score these rows with both.

    The rows are read from the tables as they are now or, where they changed, at the table versions of its run.

    Raises:
        ActionRequiredError: when there is no such version, its rows are not found, or this code no longer has its
            candidate; the message names the commit that made the version.
    """
    registry = Registry(settings)
    found = registry.get_version(model.name, version)
    run = registry.get_fit(found.run_id)
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
        fitted = train(model, named_candidate(model, run.tags["candidate"]), training_set)
    except (ConfigError, DataError) as error:
        raise ActionRequiredError(
            f"{model.name}: version {version} cannot be trained again by this code: {error}. "
            f"Commit {commit} made it; check out that commit and run reproduce there"
        ) from error
    before = registry.load(found).predict(training_set.rows)
    again = LoadedModel.of(model, fitted).predict(training_set.rows)
    return Reproduced(
        model=model.name,
        model_version=version,
        candidate=run.tags["candidate"],
        day=day,
        rows=training_set.rows.height,
        differing=int((before != again).sum()),
        largest_difference=float(np.abs(before - again).max()),
        changed=changed,
    )

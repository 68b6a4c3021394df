"""reproduce: is a version what its code and rows make? It is trained anew and compared; nothing is written."""

from datetime import date

import numpy as np
from threadpoolctl import threadpool_limits

from include.config.loading import load_project
from include.config.model import Model
from include.core.errors import ActionRequiredError, ConfigError, DataError
from include.core.interval import Interval
from include.core.records import Reproduced
from include.core.settings import Settings
from include.io.registry import Registry
from include.io.tables import Tables
from include.io.training_sets import training_set_of_run
from include.steps.fit import lock_digest, named_candidate, train
from include.training import evaluation


def reproduce(model: Model, version: int, settings: Settings) -> Reproduced:
    """Fit the candidate of a version once more on the rows that the version saw, and let both score all of them.

    The rows are read by what the version's run says: as they are now, or, where they changed, at its versions of the
    tables. Raises `ActionRequiredError` when there is no such version, its rows are in neither, or this code has no such
    candidate any more; the message names the commit that made it.
    """
    registry = Registry(settings)
    run = registry.get_fit(registry.get_version(model.name, version).run_id)
    day, commit = date.fromisoformat(run.tags["day"]), run.tags["git_commit"]
    project = load_project(model.project).model_copy(
        update={"entity_fraction": float(run.tags.get("entity_fraction", 1))}
    )
    of_code = {  # then and now
        "model.yaml or estimator.py": (run.tags["config_digest"], model.digest),
        "requirements.txt": (run.tags["lock_digest"], lock_digest()),
        "commit": (commit, settings.git_commit),
    }
    changed = tuple(what for what, (was, now) in of_code.items() if was != now and "unknown" not in (was, now))
    try:
        training_set = training_set_of_run(project, model, Interval.of(day), Tables(settings), run)
        fitted = train(model, named_candidate(model, run.tags["candidate"]), training_set)
    except (ConfigError, DataError) as error:
        raise ActionRequiredError(
            f"{model.name}: version {version} cannot be trained again by this code: {error}. "
            f"Commit {commit} made it; check that out and try there"
        ) from error
    logged = registry.load_version(model.name, version)
    with threadpool_limits(1):
        before = evaluation.predict(
            logged.problem_type,
            logged.estimator,
            evaluation.inputs(training_set.rows, logged.numeric, logged.categorical),
        )
        again = evaluation.predict(
            model.problem_type, fitted, evaluation.inputs(training_set.rows, model.numeric, model.categorical)
        )
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

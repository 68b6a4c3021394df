"""evaluate: judge the fitted candidates on later days than they saw; the best becomes a version of the model."""

import logging
from collections.abc import Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from include.config.loading import load_project
from include.config.model import Model
from include.core.errors import ActionRequiredError, DataError
from include.core.interval import Interval
from include.core.project import Project
from include.core.records import Evaluated, Fitted
from include.core.settings import Settings
from include.io.registry import FitRun, Registry
from include.io.tables import Tables
from include.io.training_sets import training_set_of_run
from include.training import evaluation
from include.training.evaluation import CHOSEN_BY
from include.training.training_set import LABEL

log = logging.getLogger(__name__)


def evaluate(model: Model, interval: Interval, settings: Settings, *, fitted: Sequence[Fitted]) -> Evaluated:
    """Judge the models that `fit` logged for the run day, and register the best one as it was logged.

    The best has the least log_loss (classification) or mae (regression), the first in `model.yaml` among equals. What
    is registered is that logged model, never another fit; the same again finds the same version. The rows are those
    that the fits saw, also when the tables have changed since. On a sample of the entities nothing is registered, so
    that there is no version that could be promoted or score.

    `interval` and `rows` of the result are of the days holdout. Raises `ActionRequiredError` when nothing was fitted or
    a run is not there, `DataError` when the candidates saw different data or the days judged are not later.
    """
    if not fitted:
        raise ActionRequiredError(f"{model.name}: no candidate was fitted for {interval}; run fit first")
    project, tables, registry = load_project(model.project), Tables(settings), Registry(settings)
    order = [candidate.name for candidate in model.candidates]
    fits = sorted(fitted, key=lambda f: order.index(f.candidate) if f.candidate in order else len(order))
    runs = [registry.get_fit(f.run_id) for f in fits]
    _require_comparable(project, model, interval, fits, runs)
    training_set = training_set_of_run(project, model, interval, tables, runs[0])

    holdout = training_set.holdout_rows
    truth = holdout[LABEL].to_numpy()
    measured = []
    for each, run in zip(fits, runs, strict=True):
        loaded = registry.load_fit(run)
        with threadpool_limits(1):
            features = evaluation.inputs(holdout, loaded.numeric, loaded.categorical)
            score = evaluation.predict(model.problem_type, loaded.estimator, features)
        if not np.isfinite(score).all():
            raise DataError(f"{model.name}: {each.candidate} scores rows of {training_set.holdout} as NaN or infinite")
        measured.append(evaluation.metrics(model.problem_type, truth, score))
    by = CHOSEN_BY[model.problem_type]
    best = min(range(len(fits)), key=lambda n: measured[n][by])
    for each, metrics in zip(fits, measured, strict=True):
        log.info("%s %s on %s: %s", model.name, each.candidate, training_set.holdout,
                 ", ".join(f"{name} {value:.4g}" for name, value in metrics.items() if name != "rows"))  # fmt: skip

    found = Evaluated(
        interval=training_set.holdout,
        rows=holdout.height,
        model=model.name,
        candidate=fits[best].candidate,
        run_id=runs[best].run_id,
        metrics=measured[best],
    )
    if project.entity_fraction < 1:
        log.info("%s: %s has the least %s, on a sample of %g of the entities: no version is made of it", model.name,
                 found.candidate, by, project.entity_fraction)  # fmt: skip
        return found
    version = registry.register(
        model,
        runs[best],
        {
            **{name: value for name, value in runs[best].tags.items() if name in CARRIED},
            "chosen_by": by,
            "holdout_end": training_set.holdout.end,
            **{f"holdout_{name}": value for name, value in measured[best].items()},
        },
    )
    log.info("%s: %s has the least %s; version %d", model.name, found.candidate, by, version.version)
    return found.model_copy(update={"model_version": version.version, "run_id": version.run_id})


CARRIED = (
    *("project", "model", "candidate", "day", "as_of", "interval_start", "fit_end", "holdout_start"),
    *("deliveries_version", "features_version", "outcome_version", "data_digest"),
    *("data_view", "entity_fraction", "config_digest", "lock_digest", "git_commit", "seed"),
)
"""The tags of a run that its version carries too."""


def _require_comparable(
    project: Project, model: Model, interval: Interval, fits: Sequence[Fitted], runs: Sequence[FitRun]
) -> None:
    """All are of this model and run day, saw the same rows, and are judged on days later than all they saw."""
    for each, run in zip(fits, runs, strict=True):
        where = f"{model.name}: candidate {each.candidate}, MLflow run {each.run_id},"
        if (each.model, run.tags.get("model"), run.digest) != (model.name, model.name, each.digest):
            raise DataError(f"{where} is not the fit it says it is; run fit again")
        if run.tags.get("day") != str(interval.end) or interval.start != interval.end:
            raise DataError(f"{where} is of the run day {run.tags.get('day')}, not of {interval}; evaluate that day")
        if float(run.tags.get("entity_fraction", 1)) != project.entity_fraction:
            raise DataError(
                f"{where} was fitted on a sample of {run.tags['entity_fraction']} of the entities, and project.yaml says "
                f"{project.entity_fraction:g} now; run fit again"
            )
        if each.holdout.start <= each.interval.end:
            raise DataError(f"{where} was fitted on days to {each.interval.end} and would be judged on {each.holdout}")
    if len({run.tags.get("data_digest") for run in runs}) > 1:
        raise DataError(
            f"{model.name}: the rows of {interval} changed between the fits of {', '.join(f.candidate for f in fits)}, "
            "so that they cannot be compared; run fit again for all candidates"
        )

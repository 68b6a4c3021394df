"""evaluate: compare the fitted candidates on the holdout days; the best becomes a version of the model."""

import logging
from collections.abc import Sequence

import numpy as np

from include.config.loading import load_project
from include.config.model import Model
from include.core.errors import ActionRequiredError, DataError
from include.core.interval import Interval
from include.core.project import Project
from include.core.records import Evaluated, Fitted
from include.core.settings import Settings
from include.io import postgres
from include.io.registry import FitRun, Registry
from include.io.training_sets import taken_up, training_set_of_run
from include.training.problem_types import get_problem_type
from include.training.training_set import LABEL

log = logging.getLogger(__name__)


def evaluate(model: Model, interval: Interval, settings: Settings, *, fitted: Sequence[Fitted]) -> Evaluated:
    """Compare the models that `fit` logged for a run date on the holdout days, and register the best as it was logged.

    The best has the least log_loss (binary) or mae (regression); among equals, the first in `model.yaml`. The version
    is that logged model, never another fit, and running the step again finds the same version. The rows are those that
    the fits saw, even if the tables have changed since. With an entity fraction nothing is registered, so that no
    version of a trial can be promoted or score.

    Returns:
        The best candidate; `interval` and `rows` describe the holdout days.

    Raises:
        ActionRequiredError: when nothing was fitted, or MLflow does not have a run.
        DataError: when the candidates saw different data, or the holdout days are not later than the days fitted.
    """
    if not fitted:
        raise ActionRequiredError(f"{model.name}: no candidate was fitted for {interval}; run fit first")
    project, registry = load_project(model.project), Registry(settings)
    order = [candidate.name for candidate in model.candidates]
    fits = sorted(fitted, key=lambda f: order.index(f.candidate) if f.candidate in order else len(order))
    runs = [registry.get_fit(f.run_id) for f in fits]
    interval = taken_up(project, model, interval, settings, runs[0].tags.get("day"))
    _require_comparable(project, model, interval, fits, runs)
    training_set = training_set_of_run(project, model, interval, settings, runs[0])

    holdout = training_set.holdout_rows
    truth = holdout[LABEL].to_numpy()
    problem_type, measured = get_problem_type(model.problem_type), []
    for each, run in zip(fits, runs, strict=True):
        recorded = postgres.model_files.read_fit(settings, model.name, run.run_id)
        score = registry.load(run, recorded.model_digest, model).predict(holdout)
        if not np.isfinite(score).all():
            raise DataError(f"{model.name}: {each.candidate} scores rows of {training_set.holdout} as NaN or infinite")
        measured.append(problem_type.metrics(truth, score))
    by = problem_type.chosen_by
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
        log.info("%s: %s has the least %s; with entity_fraction %g no version is registered", model.name,
                 found.candidate, by, project.entity_fraction)  # fmt: skip
        return found
    numbered = postgres.model_files.read_versions(settings, model.name)
    version = registry.register(
        model,
        runs[best],
        {
            **{name: value for name, value in runs[best].tags.items() if name in CARRIED},
            "chosen_by": by,
            "holdout_end": training_set.holdout.end,
            **{f"holdout_{name}": value for name, value in measured[best].items()},
        },
        taken={number: fit.mlflow_run for number, fit in numbered.items()},
    )
    registered = postgres.model_files.read_fit(settings, model.name, version.run_id)
    if registered.fit_digest != runs[best].digest:
        raise DataError(
            f"{model.name}: MLflow says that version {version.version} is run {version.run_id}, which is another fit; "
            "somebody changed the version in MLflow. Delete it there, and run evaluate again"
        )
    postgres.model_files.record_version(settings, model.name, version.version, version.run_id)
    log.info("%s: %s has the least %s; version %d", model.name, found.candidate, by, version.version)
    return found.model_copy(update={"model_version": version.version, "run_id": version.run_id})


CARRIED = (
    *("project", "model", "candidate", "day", "as_of", "interval_start", "fit_end", "holdout_start"),
    *("watermark", "features_version", "outcome_version", "data_digest", "model_digest"),
    *("data_view", "entity_fraction", "config_digest", "lock_digest", "git_commit", "seed"),
)
"""The tags that are copied from a run to its version."""


def _require_comparable(
    project: Project, model: Model, interval: Interval, fits: Sequence[Fitted], runs: Sequence[FitRun]
) -> None:
    """Refuse fits of another model or run date, of different rows, or with holdout days that are not later."""
    for each, run in zip(fits, runs, strict=True):
        where = f"{model.name}: candidate {each.candidate}, MLflow run {each.run_id},"
        if (each.model, run.tags.get("model"), run.digest) != (model.name, model.name, each.digest):
            raise DataError(f"{where} is not the fit it says it is; run fit again")
        if run.tags.get("day") != str(interval.end) or interval.start != interval.end:
            raise DataError(f"{where} has the run date {run.tags.get('day')}, not {interval}; evaluate that day")
        if float(run.tags.get("entity_fraction", 1)) != project.entity_fraction:
            raise DataError(
                f"{where} was fitted with entity_fraction {run.tags['entity_fraction']}, and project.yaml has "
                f"{project.entity_fraction:g} now; run fit again"
            )
        if each.holdout.start <= each.interval.end:
            raise DataError(f"{where} was fitted on days to {each.interval.end}, and its holdout is {each.holdout}")
    if len({run.tags.get("data_digest") for run in runs}) > 1:
        raise DataError(
            f"{model.name}: the rows of {interval} changed between the fits of {', '.join(f.candidate for f in fits)}, "
            "so that they cannot be compared; run fit again for all candidates"
        )

"""evaluate: compare the fitted candidates on the validation days; the best becomes a version of the model."""

import logging
from collections.abc import Sequence

import numpy as np
import polars as pl

from include.config.loading import load_project
from include.config.model import Model
from include.core.errors import ActionRequiredError, DataError
from include.core.interval import Interval
from include.core.project import Project
from include.core.records import Evaluated, Fitted
from include.core.settings import Settings
from include.io import postgres
from include.io.registry import FitRun, LoadedModel, Registry
from include.io.training_sets import taken_up, training_set_of_run
from include.steps.training_summary import summary_of
from include.training.training_set import LABEL

log = logging.getLogger(__name__)


def evaluate(model: Model, interval: Interval, settings: Settings, *, fitted: Sequence[Fitted]) -> Evaluated:
    """Compare the models that `fit` logged for a run date, and register the best as it was logged.

    They are compared on the validation days, where the best has the least loss of the problem type; among
    equals, the first in `model.yaml` wins. It is then measured on the holdout days, where nothing is chosen: the gate
    decides on them. The version is that logged model, never another fit, and running the step again finds the same
    version. The rows are those that the fits saw, even if the tables have changed since. With an entity fraction
    nothing is registered, so that no version of a trial can be promoted or score.

    Returns:
        The best candidate.

    Raises:
        ActionRequiredError: when nothing was fitted, or MLflow does not have a run.
        DataError: when the candidates saw different data, or were fitted on days that are not before those compared.
    """
    if not fitted:
        raise ActionRequiredError(f"{model.name}: no candidate was fitted for {interval}; run fit first")
    project, registry = load_project(model.project), Registry(settings)
    order = [candidate.name for candidate in model.candidates]
    fits = sorted(fitted, key=lambda f: order.index(f.candidate) if f.candidate in order else len(order))
    recorded = [postgres.model_files.read_fit(settings, model.name, f.run_id) for f in fits]
    runs = [registry.get_fit(fit.mlflow_run, fit.tags_digest) for fit in recorded]
    interval = taken_up(project, model, interval, settings, runs[0].tags.get("day"))
    _require_comparable(project, model, interval, fits, runs)
    training_set = training_set_of_run(project, model, interval, settings, runs[0])

    loaded = [registry.load(run, fit.model_digest, model) for run, fit in zip(runs, recorded, strict=True)]
    validation = training_set.validation_rows
    measured = [
        _measure(model, each.candidate, own, validation, training_set.validation)
        for each, own in zip(fits, loaded, strict=True)
    ]
    by = model.problem.chosen_by
    best = min(range(len(fits)), key=lambda n: measured[n][by])
    holdout = training_set.holdout_rows
    found = Evaluated(
        interval=training_set.holdout,
        rows=holdout.height,
        model=model.name,
        candidate=fits[best].candidate,
        run_id=runs[best].run_id,
        validation=training_set.validation,
        validation_metrics=measured[best],
        metrics=_measure(model, fits[best].candidate, loaded[best], holdout, training_set.holdout),
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
            **{f"validation_{name}": value for name, value in found.validation_metrics.items()},
            **{f"holdout_{name}": value for name, value in found.metrics.items()},
        },
        taken={number: fit.mlflow_run for number, fit in numbered.items()},
    )
    registered = postgres.model_files.read_fit(settings, model.name, version.run_id)
    if registered.fit_digest != runs[best].digest:
        raise DataError(
            f"{model.name}: MLflow says that version {version.version} is run {version.run_id}, which is another fit; "
            "somebody changed the version in MLflow. Delete it there, and run evaluate again"
        )
    named = postgres.model_files.record_version(settings, model.name, version.version, version.run_id)
    trained = summary_of(model, loaded[best], training_set, int(runs[best].tags["features_version"]), settings)
    postgres.training_summaries.record_summary(settings, model.name, version.version, trained)
    if named is not None:
        registry.tag(version, "semantic_version", named)
    log.info("%s: %s has the least %s; version %d (%s)", model.name, found.candidate, by, version.version, named)
    return found.model_copy(update={"model_version": version.version, "run_id": version.run_id})


CARRIED = (
    *("project", "model", "candidate", "day", "as_of", "interval_start", "fit_end"),
    *("validation_start", "validation_end", "holdout_start"),
    *("watermark", "features_version", "outcome_version", "data_digest", "model_digest"),
    *("data_view", "entity_fraction", "config_digest", "lock_digest", "git_commit", "seed"),
    *("adopted_from", "adopted_run", "adopted_by", "adopted_why", "trusted_pickle"),
)
"""The tags that are copied from a run to its version."""


def _measure(model: Model, candidate: str, loaded: LoadedModel, rows: pl.DataFrame, days: Interval) -> dict[str, float]:
    """Return the metrics of a candidate on rows of these days."""
    score = loaded.predict(rows)
    if not np.isfinite(score).all():
        raise DataError(f"{model.name}: {candidate} scores rows of {days} as NaN or infinite")
    metrics = model.problem.metrics(rows[LABEL].to_numpy(), score)
    shown = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items() if name != "rows")
    log.info("%s %s on %s: %s", model.name, candidate, days, shown)
    return metrics


def _require_comparable(
    project: Project, model: Model, interval: Interval, fits: Sequence[Fitted], runs: Sequence[FitRun]
) -> None:
    """Refuse fits of another model or run date, of different rows, or with days to compare on that are not later."""
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
        if not each.interval.end < each.validation.start <= each.validation.end < each.holdout.start:
            raise DataError(
                f"{where} was fitted on days to {each.interval.end}, its validation days are {each.validation} and its "
                f"holdout days {each.holdout}: each must be later than those before"
            )
    if len({run.tags.get("data_digest") for run in runs}) > 1:
        raise DataError(
            f"{model.name}: the rows of {interval} changed between the fits of {', '.join(f.candidate for f in fits)}, "
            "so that they cannot be compared; run fit again for all candidates"
        )

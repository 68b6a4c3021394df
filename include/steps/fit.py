"""fit: fit one candidate on the labelled days that a run date knew, and log it to MLflow."""

import hashlib
import importlib
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from math import inf, isfinite
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from threadpoolctl import threadpool_limits

from include.config.loading import load_model, load_project
from include.config.model import Model
from include.core.code import code_digest
from include.core.errors import ActionRequiredError, ConfigError, DataError, nearest
from include.core.interval import Interval
from include.core.journal import Entry
from include.core.lineage import outcomes_of_fit, records_of_fit
from include.core.project import Project
from include.core.records import DataView, FitOrigin, Fitted
from include.core.settings import NO_DATABASE, Settings, utc_now
from include.core.yaml_file import place
from include.io import postgres
from include.io.journal import read_journal
from include.io.registry import SEARCH_BEST, DeltaPart, Fit, FitInput, FitRun, LoadedModel, Registry, reference_rows
from include.io.tables import Scope, Tables
from include.io.training_sets import ReadAt, read_at, read_training_set, record_of, sources
from include.training import labelled_rows
from include.training import training_set as training_set_module
from include.training.config import Candidate
from include.training.declaration import declared_parts
from include.training.declared import pipeline, rows_to_fit
from include.training.search import Searched, Trial, folds, search
from include.training.training_set import LABEL, TrainingSet

log = logging.getLogger(__name__)

LOCKS = [folder / "requirements.txt" for folder in Path(__file__).parents[1:3]]  # in the wheel: inside `include`
PYTHON = "{}.{}".format(*sys.version_info)  # the lock has other versions of some packages for another Python


def fit(
    model: Model,
    interval: Interval,
    settings: Settings,
    *,
    candidate: str,
    data_view: DataView = "point_in_time",
    watermark: int | None = None,
) -> Fitted:
    """Fit a candidate for the run date `interval`, measure it on the validation days, and log both.

    A fit is keyed by the digest of everything that decides it: the labelled rows, the run date and what it knew,
    `model.yaml`, `estimator.py`, the locked environment and the code of this file. A finished fit of the same digest is
    used again, if it was recorded. So running the step again changes nothing, even after other days were written to the
    tables; nor do deliveries, decisions and repairs of other days that came after the first fit of the run date.
    Watermark and table versions are tags, not part of the key: a backfill has others for the same rows. A run date that
    adds no label takes up the fit of the run date before. `watermark` is the newest entry of the journal to use; None:
    the newest there is.

    Returns:
        The fit; its `rows` and `interval` describe the fitted days.

    Raises:
        ActionRequiredError: when `interval` has more than one day.
        NotReadyError: when there are too few labelled days.
        ConfigError: when `model.yaml` has no such candidate, or the estimator has no such parameter.
        DataError: as `build_training_set` does, or when all rows have one outcome.
    """
    chosen = named_candidate(model, candidate)
    if interval.start != interval.end:
        raise ActionRequiredError(
            f"{model.name}: a training has one run date, and {interval} has {len(interval.days)}; "
            "train each day by itself, in ascending order, since each training has a champion to beat"
        )
    project, tables, registry = load_project(model.project), Tables(settings), Registry(settings)
    # Before the tables, so that these have the rows of every entry.
    journal = read_journal(settings, project, watermark)
    if data_view == "point_in_time":
        day = training_set_module.trained_day(project, model, interval.end, journal)
        if day < interval.end:
            log.info("%s: %s adds no label; the training of %s is taken up", model.name, interval, day)
        interval = Interval.of(day)
    names, state = sources(project, model), read_at(project, model, interval.end, settings, journal, data_view)
    training_set = read_training_set(project, model, interval, settings, state, data_view)
    if training_set.missing:
        missing = ", ".join(map(str, training_set.missing))
        log.warning("%s: no labelled rows of %s; trained without them", model.name, missing)
    data_digest = training_set.digest
    digest = _digest(project, model, chosen, training_set, data_digest)
    run = registry.find_fit(model, digest, recorded_runs(digest, settings))
    origin = origin_of(project, model, candidate, training_set, state, settings)
    if run:
        log.info("%s %s: already fitted, MLflow run %s", model.name, candidate, run.run_id)
    else:
        deliveries = _deliveries(project, model, state, origin)
        parts = [
            FitInput(
                name=names[what],
                source=DeltaPart(tables.uri(names[what]), state.versions[what], Scope(days, where).sql()),
                rows=training_set.count,
                deliveries=deliveries[what],
                origin=_tags(project, model, what, origin),
            )
            for what, days, where in (
                ("features", training_set.run_dates, {"data_view": sorted({"point_in_time", data_view})}),
                ("outcome", training_set.interval, {}),
            )
        ]
        tags = provenance(project, model, training_set, data_digest, state, settings)
        settled = chosen
        if chosen.search is not None:
            searched = _search(model, chosen, training_set, digest, {**tags, "candidate": candidate}, registry)
            settled = chosen.with_settings(searched.best.params)
            tags |= {SEARCH_BEST: json.dumps(dict(searched.best.params)), "search_trials": searched.words}
        run = _fit(model, settled, training_set, digest, parts, tags, registry)
    return Fitted(
        interval=training_set.fit,
        rows=len(training_set.fitted_labels),
        model=model.name,
        candidate=candidate,
        run_id=run.run_id,
        digest=digest,
        model_digest=run.model_digest,
        tags_digest=run.tags_digest,
        trained_day=interval.end,
        logged=run.logged_here,
        validation=training_set.validation,
        holdout=training_set.holdout,
        horizon_days=training_set.horizon_days,
        read=record_of(project, model, interval.end, settings, state, data_view),
        origin=origin,
    )


def origin_of(
    project: Project, model: Model, candidate: str, training_set: TrainingSet, state: ReadAt, settings: Settings
) -> FitOrigin:
    """Return what a fit comes from, for the shared database."""
    return FitOrigin(
        git_commit=settings.git_commit,
        declared=declared_parts(model, project.outcomes[model.outcome].sql, candidate),
        data_view=training_set.data_view,
        as_of=training_set.as_of,
        watermark=state.watermark,
        days=training_set.interval,
        run_dates=training_set.run_dates,
        missing=training_set.missing,
        features_version=state.versions["features"],
        first_features_version=state.first,
        outcome_version=state.versions["outcome"],
    )


def _deliveries(project: Project, model: Model, state: ReadAt, origin: FitOrigin) -> dict[str, tuple[str, ...]]:
    """Return the deliveries that each table of a training set was made from, as records and verdicts were then."""
    records = records_of_fit(state.then, origin)
    return {
        "features": tuple({each for record in records for each in record.deliveries}),
        "outcome": outcomes_of_fit(state.then, project.outcomes[model.outcome].feed, origin),
    }


def _tags(project: Project, model: Model, what: str, origin: FitOrigin) -> dict[str, str]:
    """Return where a table of a training set came from, and the code that read it, as tags of MLflow."""
    feeds = project.feeds if what == "features" else [project.outcomes[model.outcome].feed]
    return {
        "project": project.name,
        "feeds": " ".join(feeds)[:500],  # MLflow's limit
        "git_commit": origin.git_commit,
        "as_of": origin.as_of.isoformat(),
        "watermark": str(origin.watermark),
        "data_view": origin.data_view,
    }


def record_fit(fitted: Fitted, settings: Settings) -> None:
    """Record the files of a fit, which alone may be loaded as that fit, and what its training read.

    Raises:
        ActionRequiredError: MLflow has the fit and nobody recorded it, so that anybody may have put it there; or MLflow
            says of a recorded fit that it has other files or tags.
    """
    if not fitted.logged and not postgres.model_files.knows_fit(settings, fitted):
        raise ActionRequiredError(
            f"{fitted.model}: MLflow has run {fitted.run_id} of this fit, and the shared database does not. Either fit "
            "was killed before it recorded the run, or somebody else put it there, so it is not used. Type "
            f"mlflow runs delete --run-id {fitted.run_id}, and run fit again"
        )
    postgres.model_files.record_fit(settings, fitted)
    record_training(fitted, settings)


def record_training(fitted: Fitted, settings: Settings) -> None:
    """Enter the record of the training into the journal, unless it has one: later fits of the run date read the same.

    A candidate that read another state at the same time is refused by `evaluate` if its rows differ.
    """
    if fitted.read is None:
        return
    project = load_model(fitted.model).project
    with postgres.journal.write_journal(settings, project) as journal:
        if journal.known().training_of(fitted.model, fitted.read.day) is None:
            journal.add([Entry.training(fitted.read)])


def recorded_runs(digest: str, settings: Settings) -> list[str] | None:
    """Return the recorded runs of a fit; None on Databricks, from where the shared database cannot be asked."""
    if settings.database_url.get_secret_value() == NO_DATABASE:
        return None
    return postgres.model_files.runs_of_fit(settings, digest)


def _fit(
    model: Model,
    candidate: Candidate,
    training_set: TrainingSet,
    digest: str,
    inputs: list[FitInput],
    provenance: dict[str, Any],
    registry: Registry,
) -> FitRun:
    fitted, started = len(training_set.fitted_labels), utc_now()
    estimator = train(model, candidate, training_set)
    compared = training_set.validation_rows
    own = LoadedModel.of(model, estimator)
    metrics = model.problem.metrics(compared[LABEL].to_numpy(), own.predict(compared))
    seconds = (utc_now() - started).total_seconds()
    run = registry.log_fit(
        Fit(
            model=model,
            candidate=candidate,
            digest=digest,
            estimator=estimator,
            tags={**provenance, "candidate": candidate.name},
            metrics={
                **{f"validation_{name}": value for name, value in metrics.items()},
                "fitted_rows": fitted,
                "fit_seconds": seconds,
            },
            inputs=inputs,
            reference=reference_rows(compared, own.inputs, model.seed),
            started_at=started,
        )
    )
    shown = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items() if name != "rows")
    log.info("%s %s: fitted on %d rows of %s in %.1f s; validation %s: %s", model.name, candidate.name, fitted,
             training_set.fit, seconds, training_set.validation, shown)  # fmt: skip
    return run


def _search(
    model: Model,
    candidate: Candidate,
    training_set: TrainingSet,
    digest: str,
    tags: Mapping[str, Any],
    registry: Registry,
) -> Searched:
    """Return the best settings of a candidate, by days to fit on that are predicted from the days before them."""
    declared = candidate.search
    assert declared is not None
    rows = training_set.labelled
    days: list[date] = np.unique(rows.target_days[rows.within(training_set.fit)]).tolist()
    run = registry.open_search(model, digest, tags)
    try:
        cut = folds(days, declared.folds, model.validation_days)
        parts = [replace(training_set, fit=fit, validation=compared) for fit, compared in cut]
        searched = search(
            declared,
            lambda number, params: _try(model, candidate, parts, number, params),
            run.trials,
            lambda trial: registry.log_trial(run, trial),
        )
    except ValueError as error:
        raise DataError(f"{_line(model, candidate)}: {candidate.name}: {error}") from error
    registry.close_search(run, searched)
    log.info("%s %s: searched, %s; %s is best: %s", model.name, candidate.name, searched.words,
             f"trial {searched.best.number}", dict(searched.best.params))  # fmt: skip
    return searched


def _try(
    model: Model, candidate: Candidate, parts: Sequence[TrainingSet], number: int, params: Mapping[str, Any]
) -> Trial:
    started, losses = utc_now(), []
    try:
        for part in parts:
            own = LoadedModel.of(model, train(model, candidate.with_settings(params), part))
            compared = part.validation_rows
            measured = model.problem.metrics(compared[LABEL].to_numpy(), own.predict(compared))
            losses.append(measured.get(model.problem.chosen_by, inf))
        loss, why = fmean(losses), "" if isfinite(fmean(losses)) else "the loss is not finite"
    except (ConfigError, DataError, ValueError) as error:  # the last also if it predicts NaN or infinite numbers
        loss, why = inf, str(error)
    if why:
        log.warning("%s %s: trial %d, %s: %s", model.name, candidate.name, number, dict(params), why)
    return Trial(number, params, loss, (utc_now() - started).total_seconds(), why)


def fitted_candidate(model: Model, tags: Mapping[str, str]) -> Candidate:
    """Return the candidate of a fit with the settings that its search found, by the tags of its run."""
    candidate = named_candidate(model, tags["candidate"])
    if SEARCH_BEST not in tags:
        return candidate
    try:
        return candidate.with_settings(json.loads(tags[SEARCH_BEST]))
    except ValueError as error:  # model.yaml has another estimator now
        found = tags[SEARCH_BEST]
        raise ConfigError(
            f"{_line(model, candidate)}: {candidate.name} no longer takes the settings {found}"
        ) from error


def train(model: Model, candidate: Candidate, training_set: TrainingSet) -> BaseEstimator:
    """Return the candidate, fitted on the fit days of a training set.

    Raises:
        ConfigError: when the estimator has no such parameter.
        DataError: when all rows have one outcome.
    """
    estimator = _build(model, candidate)
    _require_classes(model, training_set.fitted_labels)
    inputs, labels = training_set.fit_inputs(model.numeric, model.categorical)
    with threadpool_limits(1):  # with more threads, sums are added in another order and differ in the last bits
        if candidate.estimator is None:
            return estimator.fit(inputs, labels)
        try:
            stays = rows_to_fit(candidate.transforms, inputs)
            if not stays.all():
                inputs, labels = inputs[stays], labels[stays]
            return estimator.fit(inputs, labels)
        except ValueError as error:
            raise DataError(f"{_line(model, candidate)}: {candidate.name}: {error}") from error


def _line(model: Model, candidate: Candidate) -> str:
    """Return where `model.yaml` declares a candidate."""
    names = [each.name for each in model.candidates]
    return place(model.folder / "model.yaml", "candidates", str(names.index(candidate.name)))


def provenance(
    project: Project,
    model: Model,
    training_set: TrainingSet,
    data_digest: str,
    state: ReadAt,
    settings: Settings,
) -> dict[str, Any]:
    """Return the tags that say where a fit came from; `evaluate` and `reproduce` read versions and data digest back."""
    return {
        "project": model.project,
        "model": model.name,
        "day": training_set.day,
        "as_of": training_set.as_of.isoformat(),
        "data_view": training_set.data_view,
        "entity_fraction": project.entity_fraction,
        "interval_start": training_set.interval.start,
        "interval_end": training_set.interval.end,
        "fit_end": training_set.fit.end,
        "validation_start": training_set.validation.start,
        "validation_end": training_set.validation.end,
        "holdout_start": training_set.holdout.start,
        "missing_days": " ".join(map(str, training_set.missing)) or "none",
        **state.tags,
        "data_digest": data_digest,
        "config_digest": model.digest,
        "lock_digest": lock_digest(),
        "git_commit": settings.git_commit,
        "seed": model.seed,
        "run_id": settings.run_id,
    }


def _digest(project: Project, model: Model, candidate: Candidate, training_set: TrainingSet, data_digest: str) -> str:
    parts = {
        "project": project.name,
        # A trial on a fraction is another fit, even if the fraction contains all rows.
        "entity_fraction": project.entity_fraction,
        "model": model.name,
        "candidate": candidate.name,
        "config": model.digest,  # of model.yaml and estimator.py
        "outcome": project.outcomes[model.outcome].sql,
        "day": str(training_set.day),
        "as_of": training_set.as_of.isoformat(),
        "fit": str(training_set.fit),
        "validation": str(training_set.validation),
        "holdout": str(training_set.holdout),
        "rows": data_digest,
        "lock": lock_digest(),
        "code": code_digest([Path(__file__), labelled_rows, training_set_module]),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def lock_digest() -> str:
    """Return the sha256 of the locked environment: requirements.txt and the Python (3.11, …) that chooses from it."""
    found = [lock for lock in LOCKS if lock.exists()]
    return hashlib.sha256(found[0].read_bytes() + PYTHON.encode()).hexdigest() if found else "none"


def named_candidate(model: Model, name: str) -> Candidate:
    """Return the candidate of this name; raise `ConfigError`, with the nearest name, when there is none."""
    for candidate in model.candidates:
        if candidate.name == name:
            return candidate
    there = [c.name for c in model.candidates]
    raise ConfigError(f"{model.folder / 'model.yaml'}: no candidate {name!r}{nearest(name, there)}")


def _build(model: Model, candidate: Candidate) -> BaseEstimator:
    if candidate.estimator is not None:
        return pipeline(candidate.estimator, candidate.transforms, model.problem, model.seed)
    module = importlib.import_module(f"include.projects.{model.project}.models.{model.name}.estimator")
    try:
        return module.build(candidate.params, model.numeric, model.categorical, model.seed)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{model.folder / 'model.yaml'}: candidates, {candidate.name}: {error}") from error


def _require_classes(model: Model, labels: np.ndarray) -> None:
    if model.problem.needs_different_outcomes and len(np.unique(labels)) < 2:
        raise DataError(
            f"{model.name}: all {len(labels)} rows to fit on have the outcome {labels[0]:g}; "
            f"check the SQL of outcome {model.outcome} in project.yaml"
        )

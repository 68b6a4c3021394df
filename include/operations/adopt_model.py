"""adopt_model: bring in a model that was fitted elsewhere, as a fit like any other.

`evaluate`, `gate`, `promote` and `score` then treat it as they treat a fit of the product.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from include.config.loading import load_model, load_project
from include.config.model import Model
from include.core.errors import ActionRequiredError, DataError
from include.core.interval import Interval
from include.core.journal import Entry
from include.core.project import Project
from include.core.records import Adopted
from include.core.settings import Settings, utc_now
from include.io import postgres
from include.io.journal import read_journal
from include.io.registry import (
    SAME_SCORES,
    Fit,
    FitRun,
    ForeignModel,
    LoadedModel,
    Registry,
    reference_rows,
)
from include.io.training_sets import read_at, read_training_set, record_of
from include.steps.fit import lock_digest, origin_of, provenance, record_fit, recorded_runs
from include.training import training_set as training_set_module
from include.training.adopted import has_named_columns, wrong_columns, wrong_estimator, wrong_output
from include.training.config import Candidate
from include.training.training_set import LABEL, TrainingSet, estimator_inputs

log = logging.getLogger(__name__)

ADOPTED = "adopted"
"""The candidate of a model that was fitted elsewhere."""


def adopt_model(
    model: Model,
    interval: Interval,
    settings: Settings,
    *,
    source: str,
    by: str,
    why: str,
    trained_until: date | None = None,
    trust_pickle: str | None = None,
    scores: Path | None = None,
) -> Adopted:
    """Log a model that was fitted elsewhere as a fit of the run date `interval`, on whose days it is then measured.

    Its input columns, classes and scores of prepared rows must be those of `model.yaml`. Nothing of it is loaded but
    types that the repository names. Adopting the same file for the same run date again finds the same fit.

    Args:
        model: the model that it becomes a version of.
        interval: the run date: its validation and holdout days measure it.
        settings: where tables, MLflow and the shared database are.
        source: `runs:/…` or `models:/…` in MLflow, or a folder with `MLmodel`.
        by: who decides.
        why: the reason.
        trained_until: the newest day whose outcomes it has seen; None: the day on which it was logged, at which it
            cannot have seen a later one.
        trust_pickle: why its pickle may be loaded; None: no pickle is loaded.
        scores: a file of rows with the model's input columns and what it scored where it was fitted, in `score`, or in
            `score_0`, `score_1`, … if there are several. Needed if a library has another version here.

    Raises:
        ActionRequiredError: who or why is missing; there is no such model; it is a pickle that nobody trusts, or has
            types that the repository does not name; it may have seen days that would measure it.
        DataError: it does not fit `model.yaml`, or scores otherwise here than where it was fitted.
        NotReadyError: there are too few labelled days.
    """
    _require_person(model, interval, by=by, why=why, trust_pickle=trust_pickle)
    project, registry = load_project(model.project), Registry(settings)
    project.refuse_entity_fraction("adopt_model")
    journal = read_journal(settings, project)
    day = training_set_module.trained_day(project, model, interval.end, journal)
    state = read_at(project, model, interval.end, settings, journal, "point_in_time")
    rows = read_training_set(project, model, Interval.of(day), settings, state, "point_in_time")
    with registry.foreign_model(source) as foreign:
        until = _trained_until(project, model, rows, foreign, trained_until)
        digest = _digest(model, rows, foreign, until)
        run = registry.find_fit(model, digest, recorded_runs(digest, settings))
        if run is None:
            estimator, notes = _checked(model, rows, foreign, trust_pickle, scores)
            about = {
                **provenance(project, model, rows, rows.digest, state, settings),
                "fit_end": until,
                "adopted_from": source,
                "adopted_run": foreign.run_id or "unknown",
                "adopted_file": foreign.digest,
                "adopted_by": by,
                "adopted_why": why,
                "adopted_notes": " ".join(notes) or "none",
                "trusted_pickle": trust_pickle if foreign.is_pickle else "none",
            }
            run = _log(model, estimator, rows, digest, about, registry)
            log.info("%s: adopted %s, MLflow run %s", model.name, source, run.run_id)
        else:
            log.info("%s: %s is adopted already, MLflow run %s", model.name, source, run.run_id)
        return _record(model, run, rows.horizon_days, logged=run.logged_here).model_copy(
            update={
                "read": record_of(project, model, interval.end, settings, state, "point_in_time"),
                "origin": origin_of(project, model, ADOPTED, rows, state, settings),
            }
        )


def record_adoption(adopted: Adopted, settings: Settings) -> None:
    """Record the files of an adopted model, what measures it, and the decision of the person, each once.

    Raises:
        ActionRequiredError: as `record_fit` does.
    """
    record_fit(adopted, settings)
    project = load_model(adopted.model).project
    subject = f"{adopted.model} {adopted.run_id}"
    with postgres.journal.write_journal(settings, project) as journal:
        if subject in journal.known().entries.filter(kind="decision")["subject"]:
            return
        entry = {
            "decision": "adopt",
            "model": adopted.model,
            "mlflow_run": adopted.run_id,
            "fit_digest": adopted.digest,
            "model_digest": adopted.model_digest,
            "source": adopted.source,
            "source_run": adopted.source_run,
            "source_digest": adopted.source_digest,
            "trained_until": str(adopted.interval.end),
            "trusted_pickle": adopted.trusted_pickle,
        }
        journal.add([Entry(kind="decision", subject=subject, entry=entry, by=adopted.by, why=adopted.why)])


def read_adopted(model: Model, version: int, settings: Settings) -> Adopted:
    """Return the adoption that a version is, to evaluate and gate it again.

    Raises:
        ActionRequiredError: there is no such version, or it was not adopted.
    """
    recorded = postgres.model_files.read_versions(settings, model.name, [version])[version]
    if recorded.adopted_from is None:
        raise ActionRequiredError(
            f"version {version} of {model.name} was not adopted but fitted here; leave out --version: "
            f"python -m include.cli gate --model {model.name} --day DAY"
        )
    run = Registry(settings).get_fit(recorded.mlflow_run, recorded.tags_digest)
    return _record(model, run, recorded.horizon_days, logged=False)


def _require_person(model: Model, interval: Interval, *, by: str, why: str, trust_pickle: str | None) -> None:
    if not by.strip() or not why.strip():
        raise ActionRequiredError("adopt_model needs who decides and why: --by NAME --why REASON")
    if trust_pickle is not None and not trust_pickle.strip():
        raise ActionRequiredError(
            '--trust-pickle needs the reason why its pickle may be loaded: --trust-pickle "REASON"'
        )
    if interval.start != interval.end:
        raise ActionRequiredError(f"{model.name}: a model is adopted for one run date, not for {interval}")


def _trained_until(
    project: Project, model: Model, rows: TrainingSet, foreign: ForeignModel, claimed: date | None
) -> date:
    """Return the newest day that a model may have seen; refuse one on which it would be measured.

    Raises:
        ActionRequiredError: it may have seen a validation or holdout day, or nothing says when it was logged.
    """
    if claimed is None:
        if foreign.created_at is None:
            raise ActionRequiredError(
                f"{foreign.source} does not say when it was logged, so every day may be in its training. Give the "
                "newest day whose outcomes it was fitted on: --trained-until DAY"
            )
        until = foreign.created_at.astimezone(ZoneInfo(project.timezone)).date()
        said = f"it was logged on {until}, and nothing says that it was fitted on earlier days only"
    else:
        until, said = claimed, f"--trained-until {claimed}"
    if until < rows.validation.start:
        return until
    later = rows.day + (until - rows.validation.start) + timedelta(days=1)
    raise ActionRequiredError(
        f"{foreign.source} may have seen days that would measure it: {said}, and the validation days of {rows.day} "
        f"begin on {rows.validation.start}, its holdout days on {rows.holdout.start}. A version is measured only on "
        f"days that it has not seen. Adopt it for a later run date, --day {later} or later"
        + ("" if claimed else ", or say which day its training ended on: --trained-until DAY")
    )


def _digest(model: Model, rows: TrainingSet, foreign: ForeignModel, until: date) -> str:
    """Digest what decides an adoption. The code here does not count: it checks, and changes no file."""
    parts = {
        "adopted": foreign.digest,
        "project": model.project,
        "model": model.name,
        "config": model.digest,
        "day": str(rows.day),
        "trained_until": str(until),
        "validation": str(rows.validation),
        "holdout": str(rows.holdout),
        "rows": rows.digest,
        "lock": lock_digest(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _checked(
    model: Model, rows: TrainingSet, foreign: ForeignModel, trust_pickle: str | None, scores: Path | None
) -> tuple[Any, list[str]]:
    """Return the estimator if it fits `model.yaml`, and what could not be checked.

    Raises:
        ActionRequiredError, DataError: as `adopt_model` does.
    """
    declared = model.folder / "model.yaml"
    notes = []
    if foreign.columns is None:
        notes.append("It has no signature that names its columns.")
    elif problems := wrong_columns(model, foreign.columns, "its signature"):
        raise DataError([f"{foreign.source} does not fit {declared}:", *problems])
    estimator = foreign.estimator(model.stored, trust_pickle)
    compared = estimator_inputs(rows.validation_rows, model.numeric, model.categorical)
    problems = wrong_estimator(model, estimator) or wrong_output(model, estimator, compared)
    if problems:
        raise DataError([f"{foreign.source} does not fit {declared}:", *problems])
    if not has_named_columns(estimator):
        notes.append("It was fitted on columns without names, and is given those of model.yaml in their order.")
    notes += _same_scores(model, estimator, foreign, scores)
    for note in notes:
        log.warning("%s: %s", foreign.source, note)
    return estimator, notes


def _same_scores(model: Model, estimator: Any, foreign: ForeignModel, file: Path | None) -> list[str]:
    """Compare scores with those of the place where a model was fitted, if a library differs or there is a file.

    Raises:
        ActionRequiredError: a library differs and there is no file, or the file cannot be read.
        DataError: scores differ.
    """
    others = ", ".join(foreign.other_libraries)
    if file is None:
        if others:
            raise ActionRequiredError(
                f"{foreign.source} was fitted with {others}, so its scores may be others here. Score rows where it was "
                f"fitted, write their columns ({', '.join(model.features)}) and the scores (score, or score_0, "
                "score_1, … if there are several) to a Parquet file, and give it: --scores FILE"
            )
        return ["Its libraries have the same versions here; no scores of the place where it was fitted were compared."]
    rows = _read_scores(model, file)
    told = rows.select(pl.selectors.matches(r"^score(_\d+)?$")).to_numpy().astype(np.float64)
    own = LoadedModel.of(model, estimator).predict(rows.select(model.features)).reshape(rows.height, -1)
    if told.shape != own.shape:
        raise DataError(f"{file} has {told.shape[1]} columns of scores, and {model.problem_type} has {own.shape[1]}")
    differing = ~np.isclose(own, told, **SAME_SCORES, equal_nan=False).all(axis=1)
    if differing.any():
        raise DataError(
            f"{foreign.source} scores {differing.sum()} of {len(own)} rows of {file} otherwise here than where it was "
            f"fitted, by up to {np.nanmax(np.abs(own - told)):.3g}; it was fitted with "
            f"{others or 'the same libraries'}. Fit it again with the libraries of requirements.txt"
        )
    return [f"It was fitted with {others}; {len(own)} rows score the same here."] if others else []


def _read_scores(model: Model, file: Path) -> pl.DataFrame:
    try:
        rows = pl.read_parquet(file)
        selected = rows.select(
            *(pl.col(name).cast(pl.Float64) for name in model.numeric),
            *(pl.col(name).cast(pl.String) for name in model.categorical),
            pl.selectors.matches(r"^score(_\d+)?$"),
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ActionRequiredError(
            f"--scores {file}: not a Parquet file with the columns {', '.join(model.features)} and score: {error}"
        ) from error
    if selected.is_empty() or selected.width == len(model.features):
        raise ActionRequiredError(f"--scores {file}: it has no rows, or no column score")
    return selected


def _log(
    model: Model, estimator: Any, rows: TrainingSet, digest: str, about: Mapping[str, Any], registry: Registry
) -> FitRun:
    own, compared = LoadedModel.of(model, estimator), rows.validation_rows
    metrics = model.problem.metrics(compared[LABEL].to_numpy(), own.predict(compared))
    fit = Fit(
        model=model,
        candidate=Candidate(name=ADOPTED, params={"source": about["adopted_from"], "trained_until": about["fit_end"]}),
        digest=digest,
        estimator=estimator,
        tags={**about, "candidate": ADOPTED},
        metrics={f"validation_{name}": value for name, value in metrics.items()},
        inputs=[],
        reference=reference_rows(compared, own.inputs, model.seed),
        started_at=utc_now(),
    )
    return registry.log_fit(fit)


def _record(model: Model, run: FitRun, horizon_days: int, *, logged: bool) -> Adopted:
    tags = run.tags
    run_there, trusted = tags["adopted_run"], tags["trusted_pickle"]
    return Adopted(
        interval=Interval.of(date.fromisoformat(tags["fit_end"])),
        rows=0,
        model=model.name,
        candidate=ADOPTED,
        run_id=run.run_id,
        digest=run.digest,
        model_digest=run.model_digest,
        tags_digest=run.tags_digest,
        trained_day=date.fromisoformat(tags["day"]),
        horizon_days=horizon_days,
        logged=logged,
        validation=Interval(
            start=date.fromisoformat(tags["validation_start"]), end=date.fromisoformat(tags["validation_end"])
        ),
        holdout=Interval(start=date.fromisoformat(tags["holdout_start"]), end=date.fromisoformat(tags["interval_end"])),
        source=tags["adopted_from"],
        source_run=None if run_there == "unknown" else run_there,
        source_digest=tags["adopted_file"],
        trusted_pickle=None if trusted == "none" else trusted,
        by=tags["adopted_by"],
        why=tags["adopted_why"],
        notes=() if tags["adopted_notes"] == "none" else (tags["adopted_notes"],),
    )

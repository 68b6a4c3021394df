"""report_version: write the training report of a version that the gate has decided on."""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import date

import numpy as np
import polars as pl

from include.config.loading import load_project
from include.config.model import Model
from include.core.errors import DataError
from include.core.interval import Interval
from include.core.names import features_table
from include.core.records import GateDecision, Reported
from include.core.settings import Settings
from include.io import postgres
from include.io.registry import LoadedModel, Registry, Version
from include.io.tables import Tables
from include.io.training_sets import taken_up, training_set_of_run, with_inputs
from include.report.page import make_report
from include.report.subject import ReportedVersion, ReportSubject

log = logging.getLogger(__name__)


def report_version(model: Model, interval: Interval, settings: Settings, *, decision: GateDecision) -> Reported:
    """Write the training report of the version that `decision` is about, as an artifact of its MLflow run.

    Rows and scores are those that the gate saw. The same version and decision give the same bytes, so running the step
    again changes nothing. A version of an entity fraction has no report, as it has no version.

    Raises:
        DataError: the decision has no version, or its holdout rows can no longer be read.
    """
    if decision.model_version is None:
        raise DataError(f"{model.name}: {decision.subject} was not registered, so there is nothing to report on")
    project, registry = load_project(model.project), Registry(settings)
    found = registry.get_version(model.name, decision.model_version)
    interval = taken_up(project, model, interval, settings, found.tags.get("day"))
    recorded = postgres.model_files.read_versions(settings, model.name, [found.version])[found.version]
    run = registry.get_fit(recorded.mlflow_run, recorded.tags_digest)
    training_set = training_set_of_run(project, model, interval, settings, run)
    loaded = registry.load(found, recorded.model_digest, model)
    rows = training_set.holdout_rows
    to_beat, missing = None, None
    if decision.champion is not None:
        features = Tables(settings).scan(features_table(project.name), int(run.tags["features_version"]))

        def with_columns(inputs: Sequence[str]) -> pl.DataFrame:
            there = [name for name in inputs if name in features.collect_schema().names()]
            return with_inputs(rows, features, there, training_set.data_view)

        to_beat, missing = _champion(model, registry, settings, decision.champion, loaded, with_columns)
    subject = ReportSubject(
        model=model,
        project=project,
        decision=decision,
        fit=training_set.fit,
        validation=training_set.validation,
        holdout=training_set.holdout,
        fitted_rows=training_set.fitted_rows,
        holdout_rows=rows,
        challenger=_reported(found, loaded, loaded.predict(rows), run.tags),
        predict=loaded.predict,
        to_beat=to_beat,
        champion_missing=missing,
        missing_days=training_set.missing,
    )
    report = make_report(subject)
    experiment_id, path = registry.record_report(found, decision.gate_id, report.html, report.facts)
    log.info("%s %s: training report %s in MLflow run %s", model.name, decision.subject, path, found.run_id)
    return Reported(
        interval=Interval.of(date.fromisoformat(found.tags["day"])),
        rows=rows.height,
        model_version=found.version,
        model=model.name,
        gate_id=decision.gate_id,
        run_id=found.run_id,
        experiment_id=experiment_id,
        report=path,
        digest=hashlib.sha256(report.html.encode()).hexdigest(),
    )


def _champion(
    model: Model,
    registry: Registry,
    settings: Settings,
    version: int,
    challenger: LoadedModel,
    with_columns: Callable[[Sequence[str]], pl.DataFrame],
) -> tuple[ReportedVersion, str | None]:
    """Return the champion with its scores, and why it has none of these rows.

    `with_columns` returns the holdout rows with the columns that it needs, if the features have them.
    """
    found = registry.get_version(model.name, version)
    recorded = postgres.model_files.read_versions(settings, model.name, [version])[version]
    tags = registry.get_fit(recorded.mlflow_run, recorded.tags_digest).tags
    loaded = registry.load(found, recorded.model_digest, model)
    rows = with_columns(loaded.inputs)
    absent = [name for name in loaded.inputs if name not in rows.columns]
    own, other = ((each.problem_type, each.quantiles) for each in (loaded, challenger))
    score, missing = np.empty(0), None
    if absent:
        missing = f"champion {version} needs {', '.join(absent)}, which the features do not have now"
    elif own != other or loaded.classes != challenger.classes[: len(loaded.classes)]:
        missing = f"champion {version} has another problem_type, other quantiles or other labels"
    else:
        score = loaded.predict(rows)
        if added := len(challenger.classes) - len(loaded.classes):
            score = np.pad(score, [(0, 0), (0, added)])
    return _reported(found, loaded, score, tags), missing


def _reported(version: Version, loaded: LoadedModel, score: np.ndarray, tags: Mapping[str, str]) -> ReportedVersion:
    return ReportedVersion(
        version=version.version,
        score=score,
        decision_threshold=loaded.decision_threshold,
        numeric=loaded.numeric,
        categorical=loaded.categorical,
        tags=tags,
        libraries=loaded.libraries,
    )

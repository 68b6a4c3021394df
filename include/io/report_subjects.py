"""Read what a report about a version is about: its rows as the gate saw them, and its scores of them."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import polars as pl

from include.config.loading import load_project
from include.config.model import Model
from include.core.interval import Interval
from include.core.names import features_table
from include.core.records import GateDecision
from include.core.settings import Settings
from include.gate.resampling import sample_of
from include.io import postgres
from include.io.registry import LoadedModel, Registry, Version
from include.io.tables import Tables
from include.io.training_sets import taken_up, training_set_of_run, with_inputs
from include.report.subject import MAX_FITTED, ReportedVersion, ReportSubject


def read_subject(
    model: Model, interval: Interval, settings: Settings, registry: Registry, found: Version, decision: GateDecision
) -> ReportSubject:
    """Return a version with the rows and scores that the gate saw, and with the champion that it was compared with.

    Args:
        model: its model.
        interval: the run date of the decision.
        settings: where everything is.
        registry: MLflow.
        found: the version.
        decision: of the gate, on this version.

    Raises:
        DataError: its holdout rows can no longer be read.
    """
    project = load_project(model.project)
    interval = taken_up(project, model, interval, settings, found.tags.get("day"))
    recorded = postgres.model_files.read_versions(settings, model.name, [found.version])[found.version]
    run = registry.get_fit(recorded.mlflow_run, recorded.tags_digest)
    training_set = training_set_of_run(project, model, interval, settings, run)
    loaded = registry.load(found, recorded.model_digest, model)
    rows, fitted_truth = training_set.holdout_rows, training_set.fitted_labels
    to_beat, missing = None, None
    if decision.champion is not None:
        features = Tables(settings).scan(features_table(project.name), int(run.tags["features_version"]))

        def with_columns(inputs: Sequence[str]) -> pl.DataFrame:
            there = [name for name in inputs if name in features.collect_schema().names()]
            return with_inputs(rows, features, there, training_set.data_view)

        to_beat, missing = _champion(model, registry, settings, decision.champion, loaded, with_columns)
    return ReportSubject(
        model=model,
        project=project,
        decision=decision,
        fit=training_set.fit,
        validation=training_set.validation,
        holdout=training_set.holdout,
        fitted_rows=training_set.fitted_at(sample_of(len(fitted_truth), MAX_FITTED, model.seed), model.features),
        fitted_truth=fitted_truth,
        holdout_rows=rows,
        challenger=reported(found, loaded, loaded.predict(rows), run.tags),
        predict=loaded.predict,
        to_beat=to_beat,
        champion_missing=missing,
        missing_days=training_set.missing,
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
    return reported(found, loaded, score, tags), missing


def reported(version: Version, loaded: LoadedModel, score: np.ndarray, tags: Mapping[str, str]) -> ReportedVersion:
    """Return a version with its scores of the holdout rows."""
    return ReportedVersion(
        version=version.version,
        score=score,
        decision_threshold=loaded.decision_threshold,
        numeric=loaded.numeric,
        categorical=loaded.categorical,
        tags=tags,
        libraries=loaded.libraries,
    )

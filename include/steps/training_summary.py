"""What a version was trained on, in a few numbers, in the shared database.

`evaluate` records it while the training rows are in memory, so that monitors read kilobytes. Of versions of older
releases, the rows are read once.
"""

import logging
from datetime import date

import numpy as np

from include.config.loading import load_project
from include.config.model import Model
from include.core.errors import ActionRequiredError
from include.core.interval import Interval
from include.core.names import features_table
from include.core.settings import Settings
from include.io import postgres
from include.io.postgres.training_summaries import TrainingSummary
from include.io.registry import LoadedModel, Registry
from include.io.tables import Tables
from include.io.training_sets import training_set_of_run
from include.monitoring.skew import summarise
from include.training.training_set import TrainingSet

log = logging.getLogger(__name__)


def summary_of_version(model: Model, version: int, loaded: LoadedModel, settings: Settings) -> TrainingSummary:
    """Return what a version was trained on. Its rows are read at most once; if they are gone, the summary says so."""
    found = postgres.training_summaries.read_summary(settings, model.name, version)
    if found is None:
        try:
            found = _summarise(model, version, loaded, settings)
        except (ActionRequiredError, FileNotFoundError) as error:  # files of an old version of a table are gone
            log.warning("%s: the training rows of version %d are not known any more: %s", model.name, version, error)
            found = TrainingSummary(why=str(error), predicts=loaded.predicts)
        postgres.training_summaries.record_summary(settings, model.name, version, found)
    return found


def _summarise(model: Model, version: int, loaded: LoadedModel, settings: Settings) -> TrainingSummary:
    recorded = postgres.model_files.read_versions(settings, model.name, [version])[version]
    if recorded.adopted_from is not None:
        why = f"adopted from {recorded.adopted_from}: its training rows are not known here"
        return TrainingSummary(why=why, predicts=loaded.predicts)
    run = Registry(settings).get_fit(recorded.mlflow_run, recorded.tags_digest)
    project = load_project(model.project)
    interval = Interval.of(date.fromisoformat(run.tags["day"]))
    training_set = training_set_of_run(project, model, interval, settings, run)
    return summary_of(model, loaded, training_set, int(run.tags["features_version"]), settings)


def summary_of(
    model: Model, loaded: LoadedModel, training_set: TrainingSet, features_version: int, settings: Settings
) -> TrainingSummary:
    """Return what a model was trained on, from its training set."""
    constant = model.problem.constant(training_set.fitted_labels)
    trained = Tables(settings).scan(features_table(model.project), features_version).collect_schema()
    return TrainingSummary(
        rows=training_set.count,
        inputs=summarise(training_set.parts(training_set.interval), loaded.numeric, loaded.categorical),
        types={name: str(trained[name]) for name in loaded.inputs if name in trained},
        constant=np.asarray(constant, dtype=np.float64).tolist(),
        predicts=loaded.predicts,
    )

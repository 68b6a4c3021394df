"""The labelled rows of a training, read from the tables. What a training may see is decided in `learning.py`."""

from collections.abc import Mapping
from contextlib import suppress
from typing import cast

from include.config.model import Model
from include.core.errors import DataError, NotReadyError
from include.core.interval import Interval
from include.core.names import clean_table, deliveries_table, features_table
from include.core.project import Project
from include.core.records import DataView
from include.io.registry import FitRun
from include.io.tables import Tables
from include.training import training_set
from include.training.training_set import TrainingSet


def sources(project: Project, model: Model) -> dict[str, str]:
    """What a snapshot is read from -> name of the table."""
    return {
        "deliveries": deliveries_table(project.name),
        "features": features_table(project.name, project.entity_fraction),
        "outcome": clean_table(project.outcomes[model.outcome].feed),
    }


def versions_now(project: Project, model: Model, tables: Tables) -> dict[str, int]:
    """What a snapshot is read from -> version of the table, now."""
    return {what: tables.version(name) for what, name in sources(project, model).items()}


def read_training_set(
    project: Project,
    model: Model,
    interval: Interval,
    tables: Tables,
    versions: Mapping[str, int],
    data_view: DataView,
) -> TrainingSet:
    """The rows of the run day `interval` at versions of the tables. Raises as `learning.build_training_set` does."""
    names = sources(project, model)
    return training_set.build_training_set(
        project,
        model,
        interval.end,
        deliveries=tables.scan(names["deliveries"], versions["deliveries"]).collect(),
        features=tables.scan(names["features"], versions["features"]),
        clean=tables.scan(names["outcome"], versions["outcome"]),
        data_view=data_view,
    )


def training_set_of_run(project: Project, model: Model, interval: Interval, tables: Tables, run: FitRun) -> TrainingSet:
    """The rows that the fits saw: as they are now, or, when they changed, at the versions that the run names.

    Raises `DataError` when they are in neither."""
    then = {what: int(run.tags[f"{what}_version"]) for what in sources(project, model)}
    data_view = cast(DataView, run.tags.get("data_view", "point_in_time"))
    for versions in (versions_now(project, model, tables), then):
        with suppress(DataError, NotReadyError):  # by now a delivery may be refused, or days be gone
            training_set = read_training_set(project, model, interval, tables, versions, data_view)
            if training_set.digest == run.tags["data_digest"]:
                return training_set
    raise DataError(
        f"{model.name}: the rows of {run.tags['interval_start']} to {run.tags['interval_end']} are not those that "
        f"MLflow run {run.run_id} was fitted on (model.yaml or the outcome's SQL changed since); run fit again"
    )

"""Read the labelled rows of a training from the tables. `include/training/training_set.py` decides which rows."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

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

_NEWEST: list[tuple[Any, TrainingSet]] = []
"""The last training set that this process built, with its key. Only one is kept, because it may be large."""


def sources(project: Project, model: Model) -> dict[str, str]:
    """Return the tables of a training set, by content."""
    return {
        "deliveries": deliveries_table(project.name),
        "features": features_table(project.name, project.entity_fraction),
        "outcome": clean_table(project.outcomes[model.outcome].feed),
    }


def versions_now(project: Project, model: Model, tables: Tables) -> dict[str, int]:
    """Return the current versions of those tables."""
    return {what: tables.version(name) for what, name in sources(project, model).items()}


def read_training_set(
    project: Project,
    model: Model,
    interval: Interval,
    tables: Tables,
    versions: Mapping[str, int],
    data_view: DataView,
) -> TrainingSet:
    """Return the rows of the run date `interval` at these versions of the tables.

    A process that fits several candidates, evaluates them and runs the gate asks for the same rows each time; they
    are built once. A Delta table does not change at a version, so nothing else has to be compared. The whole model
    is compared, candidates, seed and gate included: this is simpler than a list of relevant fields, and costs no more.

    Raises:
        DataError, NotReadyError: as `training_set.build_training_set` does.
    """
    key = (tables.root, project, model, interval, dict(versions), data_view)
    if not _NEWEST or _NEWEST[0][0] != key:
        _NEWEST.clear()  # before the next one is built, so that there are never two in memory
        names = sources(project, model)
        built = training_set.build_training_set(
            project,
            model,
            interval.end,
            deliveries=tables.scan(names["deliveries"], versions["deliveries"]).collect(),
            features=tables.scan(names["features"], versions["features"]),
            clean=tables.scan(names["outcome"], versions["outcome"]),
            data_view=data_view,
        )
        _NEWEST.append((key, built))
    return _NEWEST[0][1]


def training_set_of_run(project: Project, model: Model, interval: Interval, tables: Tables, run: FitRun) -> TrainingSet:
    """Return the rows that a fit saw: read from the tables as they are now, or at the versions that its run names.

    The current versions come first, since the older ones may be vacuumed.

    Raises:
        DataError: when neither has the rows.
    """
    now, then = (
        versions_now(project, model, tables),
        {what: int(run.tags[f"{what}_version"]) for what in sources(project, model)},
    )
    data_view = cast(DataView, run.tags.get("data_view", "point_in_time"))
    for versions in (now, then) if now != then else (now,):
        with suppress(DataError, NotReadyError):  # since the fit, a delivery may have been refused or days removed
            found = read_training_set(project, model, interval, tables, versions, data_view)
            if found.digest == run.tags["data_digest"]:
                return found
    raise DataError(
        f"{model.name}: the rows of {run.tags['interval_start']} to {run.tags['interval_end']} are not those that "
        f"MLflow run {run.run_id} was fitted on (model.yaml or the outcome's SQL has changed since); run fit again"
    )

"""The labelled rows that a fit saw, read again from the tables. What a training may see is decided in `learning.py`."""

from contextlib import suppress

from include import learning
from include.config import Model, Project
from include.contracts import Interval
from include.errors import BadData, NotYet
from include.io.registry import FitRun
from include.io.tables import Tables
from include.learning import Snapshot
from include.naming import clean_table, deliveries_table, features_table


def snapshot_of(project: Project, model: Model, interval: Interval, tables: Tables, run: FitRun) -> Snapshot:
    """The rows that the fits saw: as they are now, or, when they changed, at the versions that the run names.

    Raises `BadData` when they are in neither."""
    names = {
        "deliveries": deliveries_table(project.name),
        "features": features_table(project.name),
        "outcome": clean_table(project.outcomes[model.outcome].feed),
    }
    now = {what: tables.version(name) for what, name in names.items()}
    then = {what: int(run.tags[f"{what}_version"]) for what in names}
    for version in (now, then):
        with suppress(BadData, NotYet):  # by now a delivery may be refused, or days be gone
            snapshot = learning.take_snapshot(
                project,
                model,
                interval.end,
                deliveries=tables.scan(names["deliveries"], version["deliveries"]).collect(),
                features=tables.scan(names["features"], version["features"]),
                clean=tables.scan(names["outcome"], version["outcome"]),
            )
            if snapshot.digest == run.tags["data_digest"]:
                return snapshot
    raise BadData(
        f"{model.name}: the rows of {run.tags['interval_start']} to {run.tags['interval_end']} are not those that "
        f"MLflow run {run.run_id} was fitted on (model.yaml or the outcome's SQL changed since); run fit again"
    )

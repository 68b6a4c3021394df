"""Read the labelled rows of a training from the tables. `include/training/training_set.py` decides which rows."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple, cast

from include.config.model import Model
from include.core.errors import DataError, NotReadyError
from include.core.interval import Interval
from include.core.names import clean_table, features_table
from include.core.project import Project
from include.core.records import DataView
from include.core.settings import Settings
from include.io.journal import read_journal, read_watermark
from include.io.registry import FitRun
from include.io.tables import Tables
from include.training import training_set
from include.training.training_set import TrainingSet

_NEWEST: list[tuple[Any, TrainingSet]] = []
"""The last training set that this process built, with its key. Only one is kept, because it may be large."""


def sources(project: Project, model: Model) -> dict[str, str]:
    """Return the tables of a training set, by content."""
    return {
        "features": features_table(project.name, project.entity_fraction),
        "outcome": clean_table(project.name, project.outcomes[model.outcome].feed),
    }


class ReadAt(NamedTuple):
    """The state from which a training set is read: the journal's watermark, and the version of each table."""

    watermark: int
    versions: Mapping[str, int]

    @property
    def tags(self) -> dict[str, int]:
        """The tags by which a fit's run names this state."""
        return {"watermark": self.watermark, **{f"{what}_version": number for what, number in self.versions.items()}}


def read_at_now(project: Project, model: Model, settings: Settings, watermark: int | None = None) -> ReadAt:
    """Return the current state; a watermark limits what is read of the journal."""
    if watermark is None:  # before the tables, so that these have the rows of every entry
        watermark = read_watermark(settings, project)
    tables = Tables(settings)
    versions = {what: tables.version(name) for what, name in sources(project, model).items()}
    return ReadAt(watermark, versions)


def read_training_set(
    project: Project, model: Model, interval: Interval, settings: Settings, read_at: ReadAt, data_view: DataView
) -> TrainingSet:
    """Return the rows of the run date `interval` at this state of journal and tables.

    A process that fits several candidates, evaluates them and runs the gate asks for the same rows each time; they
    are built once. Neither a Delta table at a version nor the journal up to a watermark changes, so nothing else has
    to be compared. The whole model is compared, candidates, seed and gate included: this is simpler than a list of
    relevant fields, and costs no more.

    Raises:
        DataError, NotReadyError: as `training_set.build_training_set` does.
    """
    tables = Tables(settings)
    key = (tables.root, project, model, interval, read_at.tags, data_view)
    if not _NEWEST or _NEWEST[0][0] != key:
        _NEWEST.clear()  # before the next one is built, so that there are never two in memory
        names = sources(project, model)
        built = training_set.build_training_set(
            project,
            model,
            interval.end,
            journal=read_journal(settings, project, read_at.watermark),
            features=tables.scan(names["features"], read_at.versions["features"]),
            clean=tables.scan(names["outcome"], read_at.versions["outcome"]),
            data_view=data_view,
        )
        _NEWEST.append((key, built))
    return _NEWEST[0][1]


def taken_up(project: Project, model: Model, interval: Interval, settings: Settings, trained: str | None) -> Interval:
    """Return the run date of a training that a run date uses: `trained` if it takes that one up, otherwise its own."""
    if trained == str(interval.end):
        return interval
    day = training_set.trained_day(project, model, interval.end, read_journal(settings, project))
    return Interval.of(day) if trained == str(day) else interval


def training_set_of_run(
    project: Project, model: Model, interval: Interval, settings: Settings, run: FitRun
) -> TrainingSet:
    """Return the rows that a fit saw: read from journal and tables as they are now, or as its run names them.

    The current state comes first, since older versions of tables may be vacuumed.

    Raises:
        DataError: when neither has the rows.
    """
    names = sources(project, model)
    then = ReadAt(int(run.tags["watermark"]), {what: int(run.tags[f"{what}_version"]) for what in names})
    now = read_at_now(project, model, settings)
    data_view = cast(DataView, run.tags.get("data_view", "point_in_time"))
    for read_at in (now, then) if now != then else (now,):
        with suppress(DataError, NotReadyError):  # since the fit, a delivery may have been refused or days removed
            found = read_training_set(project, model, interval, settings, read_at, data_view)
            if found.digest == run.tags["data_digest"]:
                return found
    raise DataError(
        f"{model.name}: the rows of {run.tags['interval_start']} to {run.tags['interval_end']} are not those that "
        f"MLflow run {run.run_id} was fitted on (model.yaml or the outcome's SQL has changed since); run fit again"
    )

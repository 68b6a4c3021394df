"""Read the labelled rows of a training from the tables. `include/training/training_set.py` decides which rows."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Any, cast

import polars as pl

from include.config.model import Model
from include.core.errors import DataError, NotReadyError
from include.core.horizons import KEY, with_horizon
from include.core.interval import Interval
from include.core.journal import Known
from include.core.names import clean_table, features_table
from include.core.project import Project
from include.core.records import DataView, TrainingRecord
from include.core.settings import Settings
from include.io.journal import read_journal
from include.io.registry import FitRun
from include.io.tables import Tables
from include.training import training_set
from include.training.training_set import TrainingSet

log = logging.getLogger(__name__)

_NEWEST: list[tuple[Any, TrainingSet]] = []
"""The last training set that this process built, with its key. Only one is kept, because it may be large."""


def sources(project: Project, model: Model) -> dict[str, str]:
    """Return the tables of a training set, by content."""
    return {
        "features": features_table(project.name, project.entity_fraction),
        "outcome": clean_table(project.name, project.outcomes[model.outcome].feed),
    }


@dataclass(frozen=True)
class ReadAt:
    """The state from which a training set is read.

    Attributes:
        watermark: the newest entry of the journal to use.
        versions: the version of each table.
        first: the version of the features that the first fit of the run date read. Days that were repaired since then
            are read from it.
        journal: the journal, up to the watermark or further.
    """

    watermark: int
    versions: Mapping[str, int]
    first: int
    journal: Known = field(compare=False)

    @cached_property
    def then(self) -> Known:
        """The journal up to the watermark."""
        return self.journal.at(self.watermark)

    @property
    def tags(self) -> dict[str, int]:
        """The tags by which a fit's run names this state."""
        versions = {f"{what}_version": number for what, number in self.versions.items()}
        return {"watermark": self.watermark, **versions, "first_features_version": self.first}


def read_at(
    project: Project, model: Model, day: date, settings: Settings, journal: Known, data_view: DataView
) -> ReadAt:
    """Return the state from which the training of a run date reads: that of its record, otherwise the current one."""
    tables, names = Tables(settings), sources(project, model)
    versions = {what: tables.version(name) for what, name in names.items()}
    record = journal.training_of(model.name, day) if has_record(project, data_view) else None
    if record is None:
        return ReadAt(journal.watermark, versions, versions["features"], journal)
    log.info("%s: %s reads what its first fit read, the journal up to %d", model.name, day, record.watermark)
    same = record.features_id == tables.id(names["features"])  # otherwise the table was made again since
    return ReadAt(record.watermark, versions, record.features_version if same else versions["features"], journal)


def record_of(
    project: Project, model: Model, day: date, settings: Settings, read_at: ReadAt, data_view: DataView
) -> TrainingRecord | None:
    """Return the record of a training that reads from this state; None if it has none."""
    if not has_record(project, data_view):
        return None
    return TrainingRecord(
        model=model.name,
        day=day,
        watermark=read_at.watermark,
        features_id=Tables(settings).id(features_table(project.name)),
        features_version=read_at.first,
    )


def has_record(project: Project, data_view: DataView) -> bool:
    """Return whether trainings have a record: not those on a fraction of the entities, nor with later corrections."""
    return project.entity_fraction == 1 and data_view == "point_in_time"


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
    key = (tables.root, project, model, interval, read_at, data_view)
    if not _NEWEST or _NEWEST[0][0] != key:
        _NEWEST.clear()  # before the next one is built, so that there are never two in memory
        names = sources(project, model)
        built = training_set.build_training_set(
            project,
            model,
            interval.end,
            journal=read_at.then,
            features=_features(project, tables, names["features"], read_at),
            clean=tables.scan(names["outcome"], read_at.versions["outcome"]),
            data_view=data_view,
        )
        _NEWEST.append((key, built))
    return _NEWEST[0][1]


def _features(project: Project, tables: Tables, name: str, read_at: ReadAt) -> pl.LazyFrame:
    """Return the features of prepared days, as their records were at the watermark."""
    newest = tables.scan(name, read_at.versions["features"])
    if project.entity_fraction < 1:  # these days have no records
        return newest
    then, now = read_at.then.records, read_at.journal.records
    same = [day for day, record in then.items() if now[day] == record]
    repaired = then.keys() - set(same)
    own = pl.col("data_view") == "point_in_time"
    rows = newest.filter(~own | pl.col("day").is_in(same))
    if not repaired:
        return rows
    log.info("%s: %d days were repaired since; they are read as they were", name, len(repaired))
    before = tables.scan(name, read_at.first).filter(own, pl.col("day").is_in([*repaired]))
    return pl.concat([rows, before], how="diagonal")


def taken_up(project: Project, model: Model, interval: Interval, settings: Settings, trained: str | None) -> Interval:
    """Return the run date of a training that a run date uses: `trained` if it takes that one up, otherwise its own."""
    if trained == str(interval.end):
        return interval
    day = training_set.trained_day(project, model, interval.end, read_journal(settings, project))
    return Interval.of(day) if trained == str(day) else interval


def training_set_of_run(
    project: Project, model: Model, interval: Interval, settings: Settings, run: FitRun
) -> TrainingSet:
    """Return the rows that a fit saw: read by the record of its training, or as its run names them.

    The record comes first, since older versions of tables may be vacuumed.

    Raises:
        DataError: when neither has the rows.
    """
    data_view = cast(DataView, run.tags.get("data_view", "point_in_time"))
    journal = read_journal(settings, project)
    versions = {what: int(run.tags[f"{what}_version"]) for what in sources(project, model)}
    then = ReadAt(int(run.tags["watermark"]), versions, int(run.tags["first_features_version"]), journal)
    now = read_at(project, model, interval.end, settings, journal, data_view)
    for state in (now, then) if now != then else (now,):
        with suppress(DataError, NotReadyError):  # since the fit, a delivery may have been refused or days removed
            found = read_training_set(project, model, interval, settings, state, data_view)
            if found.has_digest(run.tags["data_digest"]):
                return found
    erased = any(sequence > int(run.tags["watermark"]) for sequence in journal.erased.hashes.values())
    why = "a person was erased since, or " if erased else ""
    raise DataError(
        f"{model.name}: the rows of {run.tags['interval_start']} to {run.tags['interval_end']} are not those that "
        f"MLflow run {run.run_id} was fitted on ({why}model.yaml or the outcome's SQL has changed since); run fit again"
    )


def with_inputs(rows: pl.DataFrame, features: pl.LazyFrame, inputs: Sequence[str], data_view: DataView) -> pl.DataFrame:
    """Return the same rows with the columns that an older champion needs beside those of the model."""
    more = [name for name in inputs if name not in rows.columns]
    if not more:
        return rows
    of_days = with_horizon(
        features.filter(
            pl.col("day").is_in(rows["day"].unique().to_list()), pl.col("data_view").is_in(["point_in_time", data_view])
        )
    )
    made = of_days.select(*KEY, *more, "data_view").collect().sort("data_view")
    made = made.unique(KEY, keep="first", maintain_order=True)
    return rows.join(made.select(*KEY, *more), on=KEY, how="left", maintain_order="left")

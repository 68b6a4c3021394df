"""A part of the step monitor: what monitors of the pipeline itself read of the shared database."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property, partial

import polars as pl

from include.config.loading import model_names
from include.config.project import WatchedProject
from include.core.interval import Interval
from include.core.names import clean_table, features_table, quarantine_table, raw_table, scores_table
from include.core.project import Project
from include.core.settings import Settings, utc_now
from include.core.stack import is_late
from include.io import postgres, rewritten, storage
from include.io.journal import read_journal
from include.io.tables import Tables
from include.monitoring.pipeline import ProjectWatch
from include.monitoring.pipeline.base import Arrival, DeliveryQuality, LibraryChange, Part, StepRun
from include.monitoring.records import Findings

QUALITY_DAYS = 90
"""How far back the results of validation are read: the history of a rule, and days without deliveries."""


VIEWS = ("point_in_time", "latest")

Running = Callable[[str, Callable[[], Findings]], Sequence[Findings]]
"""Runs a monitor, which has a name for people, and returns what it finds; nothing if it fails."""


def watch_pipeline(project: Project, interval: Interval, settings: Settings, running: Running) -> list[Findings]:
    """Run the monitors of the pipeline itself, each by `running`."""
    if not isinstance(project, WatchedProject):
        return []
    running(f"storage of {project.name}", partial(_measure_storage, project, settings))
    known = read_journal(settings, project)
    arrivals: dict[tuple[str, date], list[Arrival]] = {}
    landed = known.entries.filter(pl.col("kind") == "delivery")
    of_entry = (pl.col("entry").str.json_path_match(f"$.{name}").alias(name) for name in ("columns", "types"))
    differs = landed.select("sequence", *of_entry)
    of_files = known.deliveries.filter(~is_late()).join(differs, on="sequence", how="left")
    for feed, day, sequence, moment, columns, types in of_files.select(
        "feed", "day", "sequence", "available_from", "columns", "types"
    ).iter_rows():
        arrival = Arrival(sequence, moment, tuple(json.loads(columns or "[]")), json.loads(types or "{}"))
        arrivals.setdefault((feed, day), []).append(arrival)
    watch = _ProjectWatch(
        project,
        interval,
        {day: record.watermark for day, record in known.records.items()},
        arrivals,
        settings,
        dict(known.deliveries.select("delivery_id", "sequence").iter_rows()),
    )
    found = (running(f"{each.kind} of {project.name}", partial(each.run, watch)) for each in project.all_monitors)
    return [each for of_monitor in found for each in of_monitor]


def _measure_storage(project: Project, settings: Settings) -> Findings:
    """Record the bytes of the project's tables, once a day; listing them costs a request for a thousand files."""
    today = project.day_of(utc_now())
    if not postgres.pipeline.is_stored_known(settings, project.name, today):
        tables = Tables(settings)
        of_layers = tuple(name(project.name, "") for name in (raw_table, clean_table, quarantine_table))
        scores = {scores_table(model, view) for model in model_names(project.name) for view in VIEWS}
        features = features_table(project.name)
        own = [
            table
            for table in rewritten.names_of(settings, tables)
            if table.startswith((*of_layers, f"{features}_fraction_")) or table in {features, *scores}
        ]
        filesystem, root = storage.filesystem(settings, tables.root)
        files = [file for table in own for file in filesystem.find(f"{root}/{table}", detail=True).values()]
        stored = sum(int(file["size"]) for file in files)
        postgres.pipeline.record_storage(settings, project.name, today, stored, project.prices)
    return Findings()


@dataclass(frozen=True)
class _ProjectWatch(ProjectWatch):
    """What monitors of the pipeline are given, read from the shared database."""

    settings: Settings
    sequences: Mapping[str, int]

    @cached_property
    def quality(self) -> Mapping[str, Sequence[DeliveryQuality]]:
        days = self.interval.shifted(start=-QUALITY_DAYS)
        return postgres.pipeline.read_quality(self.settings, self.project.name, days, self.sequences)

    def library_changes(self, until: datetime) -> Sequence[LibraryChange]:
        return postgres.pipeline.read_library_changes(self.settings, self.project.name, until)

    def costs(self, days: Interval, currency: str) -> Mapping[Part, Mapping[date, float]]:
        return postgres.pipeline.read_costs(self.settings, self.project.name, days, currency)

    def step_runs(self, days: Interval) -> Sequence[StepRun]:
        return postgres.pipeline.read_step_runs(self.settings, self.project.name, days)

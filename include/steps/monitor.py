"""monitor: measure published scores and the freshness of tables and scores, and raise alerts.

The step `outcomes`, which runs before, joins the outcomes. The DAG sends the alerts.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property

import polars as pl

from include.config.loading import load_model, model_names
from include.config.project import WatchedProject
from include.core.interval import Interval
from include.core.names import clean_table, features_table, raw_table
from include.core.project import Project
from include.core.records import Freshness, Monitored
from include.core.settings import Settings
from include.core.stack import is_late
from include.io import postgres
from include.io.journal import read_journal
from include.io.tables import Tables
from include.monitoring.base import Watch
from include.monitoring.pipeline import ProjectWatch
from include.monitoring.pipeline.base import Arrival, DeliveryQuality, LibraryChange, StepRun
from include.monitoring.records import DayValue, Findings, Preparation, Punctuality, ScoreHealth
from include.monitoring.tables import table_freshness

log = logging.getLogger(__name__)

QUALITY_DAYS = 90
"""How far back the results of validation are read: the history of a rule, and days without deliveries."""


def monitor(project: Project, interval: Interval, settings: Settings) -> Monitored:
    """Run the monitors of each model, and record how fresh tables are, for each run date of the interval.

    Performance follows from what is published and recorded now, not from the interval: each day whose batch or outcomes
    are not those that it was measured from is measured again. So runs in any order end the same, and a repeated run
    changes nothing. Freshness and rules are as of each run date, and count no later days. An alert is raised once a run
    date while its rule is broken.
    """
    prepared_days = postgres.freshness.read_preparations(settings, project.name, until=interval.end)
    found = []
    for model in (load_model(name) for name in model_names(project.name)):
        watch = _Watch(project, model.monitored, interval, prepared_days, settings)
        of_model = [each.run(watch) for each in model.all_monitors]
        days, rows = sum(each.days for each in of_model), sum(each.rows for each in of_model)
        log.info("%s: %d days measured, %d rows", model.name, days, rows)
        found += of_model
    found += _of_pipeline(project, interval, settings)
    freshness = [
        *_tables(project, interval, prepared_days, settings),
        *(fresh for each in found for fresh in each.freshness),
    ]
    for fresh in freshness:
        log.log(logging.WARNING if fresh.late else logging.INFO, "%s", fresh.sentence)
    postgres.freshness.record_freshness(settings, project.name, freshness)
    feed_days = [each for of_one in found for each in of_one.feed_days]
    postgres.pipeline.record_feed_days(settings, project.name, feed_days)
    alerts = [alert for each in found for alert in each.alerts]
    return Monitored(
        interval=interval,
        rows=sum(each.rows for each in found),
        days=sum(each.days for each in found),
        alerts=postgres.alerts.raise_alerts(settings, project.name, alerts),
    )


@dataclass(frozen=True)
class _Watch(Watch):
    """What monitors are given, read from the shared database."""

    settings: Settings

    def measure(
        self, slices: Sequence[str], min_rows: int, measure_day: Callable[[pl.DataFrame], pl.DataFrame]
    ) -> tuple[int, int]:
        return postgres.performance.replace_performance(
            self.settings, self.project, self.model, slices=slices, min_rows=min_rows, measure=measure_day
        )

    def measured_days(self, metric: str, min_rows: int) -> list[DayValue]:
        return postgres.performance.read_measured_days(
            self.settings,
            self.model.name,
            metric,
            until=self.outcome_feed.needed_day(self.interval.end),
            min_rows=min_rows,
        )

    def punctuality(self, deadlines: Mapping[date, datetime]) -> dict[date, Punctuality]:
        return postgres.freshness.read_punctuality(self.settings, self.model.name, deadlines)

    def score_health(self, days: Interval) -> Sequence[ScoreHealth]:
        return postgres.pipeline.measure_scores(self.settings, self.model, days)


def _of_pipeline(project: Project, interval: Interval, settings: Settings) -> list[Findings]:
    """Run the monitors of the pipeline itself."""
    if not isinstance(project, WatchedProject):
        return []
    known = read_journal(settings, project)
    arrivals: dict[tuple[str, date], list[Arrival]] = {}
    landed = known.entries.filter(pl.col("kind") == "delivery")
    differs = landed.select("sequence", columns=pl.col("entry").str.json_path_match("$.columns"))
    of_files = known.deliveries.filter(~is_late()).join(differs, on="sequence", how="left")
    for feed, day, sequence, moment, columns in of_files.select(
        "feed", "day", "sequence", "available_from", "columns"
    ).iter_rows():
        arrivals.setdefault((feed, day), []).append(Arrival(sequence, moment, tuple(json.loads(columns or "[]"))))
    watch = _ProjectWatch(
        project,
        interval,
        {day: record.watermark for day, record in known.records.items()},
        arrivals,
        settings,
        dict(known.deliveries.select("delivery_id", "sequence").iter_rows()),
    )
    return [each.run(watch) for each in project.all_monitors]


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

    def costs(self, days: Interval, currency: str) -> Mapping[date, float]:
        return postgres.pipeline.read_costs(self.settings, self.project.name, days, currency)

    def step_runs(self, days: Interval) -> Sequence[StepRun]:
        return postgres.pipeline.read_step_runs(self.settings, self.project.name, days)


def _tables(
    project: Project, interval: Interval, prepared_days: Mapping[date, Preparation], settings: Settings
) -> list[Freshness]:
    """Return the freshness of tables. A delivery without rows counts in raw and clean; in features it does not."""
    tables = Tables(settings)
    landed, accepted = _deliveries(project, settings)
    features = tables.days(features_table(project.name))
    prepared, filled = (
        sorted(prepared_days),
        sorted(day for day, prepared_day in prepared_days.items() if prepared_day.rows),
    )
    found = []
    for run_date in interval.days:
        expected_days = project.expected(run_date)
        for feed, declared in project.feeds.items():
            for table, days in ((raw_table(project.name, feed), landed), (clean_table(project.name, feed), accepted)):
                of_feed = expected_days.get(feed), days.get(feed, [])
                found.append(table_freshness(table, run_date, *of_feed, required=declared.required))
        expected = max((day for day in filled if day <= run_date), default=None)
        found.append(table_freshness(features_table(project.name), run_date, expected, features))
        found.append(table_freshness("prepared_days", run_date, run_date, prepared))
    return found


def _deliveries(project: Project, settings: Settings) -> tuple[dict[str, Sequence[date]], dict[str, Sequence[date]]]:
    """Map each feed to the sorted days of its deliveries, first for those in raw, then for those in clean."""
    deliveries = read_journal(settings, project).deliveries.filter(~is_late()).select("feed", "day", "verdict")

    def days(verdicts: Sequence[str]) -> dict[str, Sequence[date]]:
        within = deliveries.filter(pl.col("verdict").is_in(verdicts))
        return {feed: part["day"].unique().sort().to_list() for (feed,), part in within.group_by("feed")}

    return days(["landed", "held", "accepted", "refused", "withdrawn"]), days(["accepted"])

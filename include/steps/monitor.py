"""monitor: measure published scores and the freshness of tables and scores, and raise alerts.

The step `outcomes`, which runs before, joins the outcomes. The DAG sends the alerts.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import Any

import polars as pl
from mlflow.exceptions import MlflowException

from include.config.loading import load_model, model_names
from include.config.model import Model
from include.core.incidents import PROJECT, SCORES_LATE
from include.core.interval import Interval
from include.core.names import clean_table, features_table, raw_table
from include.core.point_in_time import accepted
from include.core.project import Project
from include.core.records import Alert, Freshness, Monitored
from include.core.settings import Settings
from include.core.stack import is_late
from include.io import postgres
from include.io.drift import DriftSource
from include.io.journal import read_journal
from include.io.tables import Tables
from include.monitoring.base import Watch
from include.monitoring.causes import LateFeed, Origins, late_feeds, name_causes, name_faulty
from include.monitoring.degradation import Ages, ComparedDay, Comparison, DegradationMonitor
from include.monitoring.drift import DriftMonitor
from include.monitoring.drift_summary import Summarised
from include.monitoring.estimate import ExpectedMetric
from include.monitoring.performance import PerformanceMonitor
from include.monitoring.records import DayValue, Findings, Preparation, Punctuality, ScoreHealth
from include.monitoring.skew import SkewCheck, SkewMonitor
from include.monitoring.tables import table_freshness
from include.steps.compare_champions import champion_ages, compare_champions
from include.steps.watch_pipeline import watch_pipeline

log = logging.getLogger(__name__)

SCOPE = "monitor"
"""Whose looks decide whether a cause is gone: `incident_looks`."""

SLOW = (DriftMonitor, DegradationMonitor)
"""Monitors that read tables and load versions, for long in the first run. The alerts of the others do not wait."""


def monitor(project: Project, interval: Interval, settings: Settings) -> Monitored:
    """Run the monitors of each model, and record how fresh tables are, for each run date of the interval.

    Performance follows from what is published and recorded now, not from the interval: each day whose batch or outcomes
    are not those that it was measured from is measured again. So runs in any order end the same, and a repeated run
    changes nothing. Freshness and rules are as of each run date, and count no later days. An alert is raised once a run
    date while its rule is broken; its incident is sent once, and recovers on the first run date without it.

    Raises:
        Exception: that of the first monitor that failed, when the alerts of all others are raised.
    """
    prepared_days = postgres.freshness.read_preparations(settings, project.name, until=interval.end)
    models, trying = [load_model(name) for name in model_names(project.name)], _Trying()

    def run_monitors(*, slow: bool) -> tuple[list[Findings], list[Alert]]:
        found, alerts = list[Findings](), list[Alert]()
        for model in models:
            watch = open_watch(project, model, interval, settings, prepared_days)
            kinds = [each for each in model.all_monitors if not isinstance(each, SkewMonitor)]
            own = {f"{each.kind} of {model.name}": each for each in kinds if isinstance(each, SLOW) == slow}
            of_model: list[Findings] = []
            for name, each in own.items():
                of_model += trying.run(name, partial(each.run, watch), model.name)
            found += of_model
            alerts += alerts_about(model, of_model)
        return found, alerts

    found, alerts = run_monitors(slow=False)
    of_pipeline = watch_pipeline(project, interval, settings, trying.run)
    found += of_pipeline
    alerts += [alert for each in of_pipeline for alert in each.alerts]
    _record_freshness(project, interval, settings, prepared_days, found)
    alerts = with_causes(project, settings, alerts)
    raised = postgres.alerts.raise_alerts(settings, project.name, alerts, scope=SCOPE)
    also, more = run_monitors(slow=True)
    more = with_faulty_feeds(project, more)
    raised += postgres.alerts.raise_alerts(
        settings, project.name, [*alerts, *more], scope=SCOPE, looked=interval.days, blind=trying.blind
    )
    trying.require_none_failed()
    rows, days = sum(each.rows for each in [*found, *also]), sum(each.days for each in found)
    log.info("%s: %d days measured, %d rows", project.name, days, rows)
    return Monitored(interval=interval, rows=rows, days=days, alerts=raised)


def _record_freshness(
    project: Project,
    interval: Interval,
    settings: Settings,
    prepared_days: Mapping[date, Preparation],
    found: Sequence[Findings],
) -> None:
    """Record how fresh tables, scores and deliveries are."""
    freshness = [
        *_tables(project, interval, prepared_days, settings),
        *(fresh for each in found for fresh in each.freshness),
    ]
    for fresh in freshness:
        log.log(logging.WARNING if fresh.late else logging.INFO, "%s", fresh.sentence)
    postgres.freshness.record_freshness(settings, project.name, freshness)
    postgres.pipeline.record_feed_days(settings, project.name, [day for each in found for day in each.feed_days])


class _Trying:
    """Runs monitors one by one. One that fails does not keep the alerts of the others back."""

    def __init__(self) -> None:
        self.errors: dict[str, Exception] = {}
        self.blind: set[str] = set()
        """The models, or `PROJECT`, that a monitor failed of: what it would have found is not known."""

    def run(self, name: str, monitor: Callable[[], Findings], of: str = PROJECT) -> Sequence[Findings]:
        """Return what a monitor of a model, or of the project, finds; nothing if it fails."""
        try:
            return [monitor()]
        except Exception as error:
            log.exception("Monitor %s failed; the others go on.", name)
            self.errors[name] = error
            self.blind.add(of)
            return []

    def require_none_failed(self) -> None:
        """Raise the error of the first monitor that failed, when everything else is recorded."""
        for error in self.errors.values():
            error.add_note(
                f"Monitors that failed: {', '.join(self.errors)}. What the others found is recorded, and their alerts "
                "are in the outbox. It is safe to run the step again."
            )
            raise error


def alerts_about(model: Model, found: Sequence[Findings]) -> list[Alert]:
    """Return the alerts that monitors of a model raised, with what its incidents need to know of the model."""
    about = {"tier": model.tier, "models": (model.name,)}
    return [alert.model_copy(update=about) for each in found for alert in each.alerts]


def open_watch(
    project: Project,
    model: Model,
    interval: Interval,
    settings: Settings,
    prepared_days: Mapping[date, Preparation],
) -> Watch:
    """Return what the monitors of a model may read of the shared database."""
    return _Watch(project, model.monitored, interval, prepared_days, settings, model)


@dataclass(frozen=True)
class _Watch(Watch):
    """What monitors are given, read from the shared database."""

    settings: Settings
    declared: Model

    @property
    def slices(self) -> tuple[str, ...]:
        performance = (each for each in self.declared.all_monitors if isinstance(each, PerformanceMonitor))
        return next((each.slices for each in performance), ())

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

    def skew_checks(self, days: Interval) -> list[SkewCheck]:
        return postgres.skew.read_checks(self.settings, self.model.name, days)

    def compare(self, declared: Comparison, since: date) -> None:
        try:
            days = compare_champions(self.project, self.declared, self.settings, declared, since)
        except MlflowException as error:  # the other monitors do not need MLflow
            log.warning("%s is compared with former champions by the next run: %s", self.model.name, error)
        else:
            log.info("%s: %d days compared with former champions", self.model.name, days)

    def compared_days(self, *, since: date) -> list[ComparedDay]:
        end = self.interval.end
        return postgres.comparisons.read_compared(self.settings, self.model.name, since=since, until=end)

    def champions(self, days: Sequence[date]) -> Ages:
        return champion_ages(self.model.name, list(days), self.settings)

    def score_health(self, days: Interval) -> Sequence[ScoreHealth]:
        return postgres.pipeline.measure_scores(self.settings, self.model, days)

    def estimates(self, metric: str, days: Interval) -> Sequence[ExpectedMetric]:
        return postgres.estimates.estimate(self.settings, self.model, days, metric)

    def summaries(self, slices: Sequence[str], min_rows: int, days_before: int) -> Summarised | None:
        of = DriftSource(self.project, self.model, self.settings, tuple(slices), min_rows)
        return of.summarised(self.interval, days_before)

    def record_drift(self, rows: Mapping[date, Sequence[Mapping[str, Any]]]) -> int:
        return postgres.drift.replace_drift(self.settings, self.model.name, rows)


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


def with_causes(project: Project, settings: Settings, alerts: Sequence[Alert]) -> list[Alert]:
    """Return the alerts, those about late scores with the late feed that is their cause, if there is one."""
    if not any(alert.rule == SCORES_LATE for alert in alerts):
        return [*alerts]
    prepared_days = postgres.freshness.read_preparations(
        settings, project.name, until=max(alert.day for alert in alerts)
    )
    deliveries = accepted(read_journal(settings, project).deliveries.filter(~is_late()))
    moments = deliveries.group_by("feed", "day").agg(pl.col("available_from").min())
    first_at = {(feed, day): at for feed, day, at in moments.iter_rows()}

    def late(day: date) -> dict[str, LateFeed]:
        prepared = prepared_days.get(day)
        return late_feeds(project, day, first_at, prepared.prepared_at if prepared else None)

    return name_causes(alerts, late)


def with_faulty_feeds(project: Project, alerts: Sequence[Alert]) -> list[Alert]:
    """Return the alerts, those about drift with the feed that models have in common, so that it is one incident."""
    if not any(alert.drifted for alert in alerts):
        return [*alerts]
    try:
        origins = Origins(project, (project.folder / "features.py").read_text(encoding="utf-8"))
    except (OSError, SyntaxError) as error:  # the alerts do not need it
        log.warning("%s: it is not known which features are of which feed: %s", project.name, error)
        origins = Origins(project, "")
    return name_faulty(alerts, origins)


def _deliveries(project: Project, settings: Settings) -> tuple[dict[str, Sequence[date]], dict[str, Sequence[date]]]:
    """Map each feed to the sorted days of its deliveries, first for those in raw, then for those in clean."""
    deliveries = read_journal(settings, project).deliveries.filter(~is_late()).select("feed", "day", "verdict")

    def days(verdicts: Sequence[str]) -> dict[str, Sequence[date]]:
        within = deliveries.filter(pl.col("verdict").is_in(verdicts))
        return {feed: part["day"].unique().sort().to_list() for (feed,), part in within.group_by("feed")}

    return days(["landed", "held", "accepted", "refused", "withdrawn"]), days(["accepted"])

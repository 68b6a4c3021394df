"""monitor: measure published scores and the freshness of tables and scores, and raise alerts.

The step `outcomes`, which runs before, joins the outcomes. The DAG sends the alerts.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import partial

import polars as pl

from include.config.loading import load_model, model_names
from include.config.model import Model
from include.core.interval import Interval
from include.core.names import clean_table, deliveries_table, features_table, raw_table
from include.core.project import Project
from include.core.records import Alert, Freshness, Monitored
from include.core.settings import Settings
from include.io import postgres
from include.io.tables import Tables
from include.monitoring import freshness, performance
from include.monitoring.records import Preparation

log = logging.getLogger(__name__)


def monitor(project: Project, interval: Interval, settings: Settings) -> Monitored:
    """Measure all models of the project, and apply the rules of `model.yaml` to each run date of the interval.

    Performance depends on what is published and recorded now, not on the interval: a day is measured again if its batch
    or its outcomes changed since it was measured. So run dates in any order give the same result, and running one again
    changes nothing. Freshness and rules are as of each run date, and ignore later days. While a rule is broken, one
    alert is raised for each run date; `include/monitoring` decides when scores are late.
    """
    models = [load_model(name) for name in model_names(project.name)]
    measured, rows = 0, 0
    for model in models:
        days, written = postgres.performance.replace_performance(
            settings, project, model, partial(performance.measure_day, model)
        )
        measured, rows = measured + len(days), rows + written
        log.info("%s: %d days measured, %d rows", model.name, len(days), written)

    prepared_days = postgres.freshness.read_preparations(settings, project.name, until=interval.end)
    found = _tables(project, interval, prepared_days, settings)
    alerts: list[Alert] = []
    for model in models:
        scores = _scores(project, model, interval, prepared_days, settings)
        found += scores
        alerts += [
            freshness.late_alert(model, fresh)
            for fresh in scores
            if fresh.late and freshness.is_live(project, fresh.day, _prepared_at(prepared_days, fresh.day))
        ]
        alerts += _find_broken_rules(project, model, interval, settings)
    for fresh in found:
        log.log(logging.WARNING if fresh.late else logging.INFO, "%s", fresh.sentence)
    postgres.freshness.record_freshness(settings, project.name, found)
    raised = postgres.alerts.raise_alerts(settings, project.name, alerts)
    return Monitored(interval=interval, rows=rows, days=measured, alerts=raised)


def _find_broken_rules(project: Project, model: Model, interval: Interval, settings: Settings) -> list[Alert]:
    feed = project.feeds[project.outcomes[model.outcome].feed]
    alerts = []
    for rule in model.monitor.rules:
        measured = postgres.performance.read_measured_days(
            settings,
            model.name,
            rule.metric,
            until=feed.needed_day(interval.end),
            min_rows=model.monitor.min_rows,
        )
        for run_date in interval.days:
            until = feed.needed_day(run_date)
            alert = performance.breach(model, rule, [m for m in measured if m.day <= until], run_date)
            alerts += [alert] if alert else []
    return alerts


def _scores(
    project: Project, model: Model, interval: Interval, prepared_days: Mapping[date, Preparation], settings: Settings
) -> list[Freshness]:
    published_for = interval.shifted(start=-1, end=-1)
    due = {day: project.at(day, model.monitor.publish_by) for day in published_for.days}
    return [
        freshness.scores_freshness(project, model, day + timedelta(days=1), state, prepared=day in prepared_days)
        for day, state in sorted(postgres.freshness.read_punctuality(settings, model.name, due).items())
    ]


def _tables(
    project: Project, interval: Interval, prepared_days: Mapping[date, Preparation], settings: Settings
) -> list[Freshness]:
    """Return the freshness of tables. A delivery without rows counts in raw and clean; in features it does not."""
    tables = Tables(settings)
    landed, accepted = _deliveries(project, tables)
    features = tables.days(features_table(project.name))
    prepared, filled = (
        sorted(prepared_days),
        sorted(day for day, prepared_day in prepared_days.items() if prepared_day.rows),
    )
    found = []
    for run_date in interval.days:
        required = project.required(run_date)
        for feed in project.feeds:
            for table, days in ((raw_table(feed), landed), (clean_table(feed), accepted)):
                found.append(freshness.table_freshness(table, run_date, required.get(feed), days.get(feed, [])))
        expected = max((day for day in filled if day <= run_date), default=None)
        found.append(freshness.table_freshness(features_table(project.name), run_date, expected, features))
        found.append(freshness.table_freshness("prepared_days", run_date, run_date, prepared))
    return found


def _deliveries(project: Project, tables: Tables) -> tuple[dict[str, Sequence[date]], dict[str, Sequence[date]]]:
    """Map each feed to the sorted days of its deliveries, first for those in raw, then for those in clean."""
    table = deliveries_table(project.name)
    if not tables.exists(table):
        return {}, {}
    deliveries = tables.scan(table).select("feed", "day", "verdict").collect()

    def days(verdicts: Sequence[str]) -> dict[str, Sequence[date]]:
        within = deliveries.filter(pl.col("verdict").is_in(verdicts))
        return {feed: part["day"].unique().sort().to_list() for (feed,), part in within.group_by("feed")}

    return days(["landed", "accepted", "refused"]), days(["accepted"])


def _prepared_at(prepared_days: Mapping[date, Preparation], day: date) -> datetime | None:
    return prepared_days[day].prepared_at if day in prepared_days else None

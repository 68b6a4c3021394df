"""outcomes: write the outcomes that became known to PostgreSQL.

This step decides from which delivery the outcomes of a day come, and computes them.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
from pyspark.sql import SparkSession

from include.core import schemas
from include.core.errors import ConfigError, DataError
from include.core.interval import Interval, grouped_by_rows
from include.core.point_in_time import accepted, current_as_of, earliest
from include.core.project import Project
from include.core.records import DataView, Recorded
from include.core.settings import Settings
from include.core.stack import deliveries_in
from include.io import postgres, spark
from include.io.journal import read_journal
from include.io.postgres.outcomes import NO_DELIVERY, OutcomeDay, OutcomeDelivery
from include.io.postgres.predictions import rows_digest
from include.io.tables import Tables
from include.steps.outcome_values import OutcomeRows

log = logging.getLogger(__name__)

GROUP_ROWS = 1_000_000
"""How many rows are held at once; more if one day has more."""


def outcomes(
    project: Project, interval: Interval, settings: Settings, *, data_view: DataView = "point_in_time"
) -> Recorded:
    """Record the outcomes that the run dates of the interval know.

    These are the outcomes of the days whose files the run dates need, and corrections of days that were recorded
    before. If the delivery of a day was withdrawn or refused since, its outcomes are removed, and those of the delivery
    that is current without it come back. An outcome without a row is not known yet. An outcome with a null value is
    known to have no value, such as the delay of what was cancelled. Run dates in any order, or at once, give the same
    end result. The record's `rows` counts the outcomes written.

    Raises:
        DataError: a day is not prepared, or a delivery has an entity twice or a value that is not finite.
    """
    prepared_days = postgres.days.read_prepared_days(settings, project.name, interval, data_view)
    if missing := sorted(set(interval.days) - {n.day for n in prepared_days}):
        days = ", ".join(map(str, missing[:10]))
        raise DataError(f"{project.name}: not prepared: {days}; run build_features for these days first")
    as_of = {n.day: n.as_of for n in prepared_days}
    rows, again, on_spark = 0, False, project.run_on.get("outcomes") == "spark"
    changed = set[date]()
    # Look again after recording: a later run date at the same time could not correct what was not recorded yet, and
    # this one could not use what the later one knows. A person may also have withdrawn meanwhile what was recorded.
    while True:
        changed |= _set_aside(project, max(as_of), settings)
        known, sizes = _known(project, as_of, data_view, settings, again=again)
        if not known:
            break
        with spark.job() if on_spark else nullcontext() as job:
            for name, of_days in known.items():
                counts = {day: _count(of.delivery_id, sizes) for day, of in of_days.items()}
                for group in grouped_by_rows(counts, GROUP_ROWS):
                    part = {each: of_days[each] for each in group}
                    values = _values(project, name, Tables(settings), part, job)
                    for day in record_outcomes(project, name, values, part, settings):
                        changed.add(day)
                        rows += values.filter(pl.col("day") == day).height
        again = True
    log.info("%s: outcomes of %d days recorded, %d rows", interval, len(changed), rows)
    return Recorded(interval=interval, rows=rows, days=len(changed))


def record_outcomes(
    project: Project,
    outcome: str,
    values: pl.DataFrame,
    deliveries: Mapping[date, OutcomeDelivery],
    settings: Settings,
) -> list[date]:
    """Record the outcomes of whole days, if their delivery is newer than the recorded one.

    Args:
        project: the project.
        outcome: the name of the outcome.
        values: a frame with day (date), entity_id (str) and value (f64; null: known to have no value).
        deliveries: for each day, the delivery that its values come from, also for a day without values.
        settings: where the database is.

    Returns:
        The days that changed.

    Raises:
        DataError: values are wrong. Nothing is written then.
    """
    per_day = values.group_by("day").agg(
        rows=pl.len(),
        entities=pl.col("entity_id").drop_nulls().n_unique(),
        wrong=(~pl.col("value").is_finite()).sum(),  # null is not counted: it means that there is no value
    )
    for day, rows, entities, wrong in per_day.sort("day").iter_rows():
        if day not in deliveries:
            raise DataError(f"{project.name}, {outcome}: there are values of {day}, but no delivery of that day")
        where = f"{project.name}, {outcome} of {day} from {deliveries[day].delivery_id}"
        if rows != entities:
            raise DataError(f"{where}: {rows} rows of {entities} entities; there must be one row for each entity")
        if wrong:
            raise DataError(f"{where}: {wrong} of {rows} values are NaN or infinite; use null where there is no value")
    of_day = {day: part for (day,), part in values.partition_by("day", as_dict=True).items()}
    days = []
    for day, of in sorted(deliveries.items()):
        part = of_day.get(day, values.clear())
        digest = rows_digest(part, "value")
        days.append(OutcomeDay(day, of.delivery_id, of.available_from, of.sequence, part.height, digest))
    if labels := project.outcomes[outcome].labels:
        names = dict(enumerate(labels))
        values = values.with_columns(label=pl.col("value").cast(pl.Int64).replace_strict(names, return_dtype=pl.String))
    return postgres.outcomes.replace_outcomes(settings, project.name, outcome, days, values)


def _set_aside(project: Project, run_date: date, settings: Settings) -> set[date]:
    """Remove the outcomes that come from deliveries that are not accepted any more; return their days.

    Days that the run date does not need yet are left to a later run, which records what counts instead.
    """
    days = set[date]()
    stored = {name: postgres.outcomes.read_newest_outcomes(settings, project.name, name) for name in project.outcomes}
    counting = set(accepted(read_journal(settings, project).deliveries)["delivery_id"]) | {NO_DELIVERY.delivery_id}
    for name, of_days in stored.items():
        last = project.feeds[project.outcomes[name].feed].needed_day(run_date)
        there = {of.delivery_id for day, of in of_days.items() if day <= last}
        gone = {state for state in there if not counting.issuperset(deliveries_in(state))}
        if gone:
            lost = sorted({each for state in gone for each in deliveries_in(state)} - counting)
            log.warning("%s: outcomes of %s are removed: these do not count any more", name, ", ".join(lost))
            days |= {*postgres.outcomes.set_aside_outcomes(settings, project.name, name, gone)}
    return days


Deliveries = dict[date, OutcomeDelivery]
"""The delivery of outcomes of each day."""


def _known(
    project: Project, as_of: Mapping[date, datetime], data_view: DataView, settings: Settings, *, again: bool
) -> tuple[dict[str, Deliveries], dict[str, int]]:
    """Map each outcome to the deliveries to record; with `again`, only to those newer than the recorded ones.

    Returns:
        That, and the number of rows of each delivery.
    """
    # Read the recorded outcomes first: a run date that has recorded some is prepared, and its deliveries are listed.
    stored = {name: postgres.outcomes.read_newest_outcomes(settings, project.name, name) for name in project.outcomes}
    after = Interval(start=max(as_of) + timedelta(days=1), end=date.max)
    later = {n.day: n.as_of for n in postgres.days.read_prepared_days(settings, project.name, after, data_view)}
    earlier = _prepared_before(project, min(as_of), data_view, settings)
    deliveries = read_journal(settings, project).deliveries
    known = {}
    for name, outcome in project.outcomes.items():
        newest = _newest(project, outcome.feed, deliveries, as_of, earlier, later, stored[name])
        there = stored[name] if again else {}
        known[name] = {day: of for day, of in newest.items() if day not in there or there[day].is_older_than(of)}
    sizes = dict(deliveries.select("delivery_id", "rows").iter_rows())
    return {name: of_days for name, of_days in known.items() if of_days}, sizes


def _count(state: str, sizes: Mapping[str, int]) -> int:
    return sum(sizes[each] for each in deliveries_in(state))


def _prepared_before(project: Project, day: date, data_view: DataView, settings: Settings) -> list[date]:
    """Return the earlier prepared days, if some of them may not have known their own file: that of an optional feed."""
    optional = any(not project.feeds[outcome.feed].required for outcome in project.outcomes.values())
    if not optional or day <= project.first_day:
        return []
    before = Interval(start=project.first_day, end=day - timedelta(days=1))
    return [prepared.day for prepared in postgres.days.read_prepared_days(settings, project.name, before, data_view)]


def _newest(
    project: Project,
    feed: str,
    deliveries: pl.DataFrame,
    as_of: Mapping[date, datetime],
    prepared_before: Sequence[date],
    prepared_later: Mapping[date, datetime],
    stored: Deliveries,
) -> Deliveries:
    """Return the newest delivery for each day to record.

    These are the days whose file a run date of the interval needs, also if it came after the cutoff of the next run
    date, and recorded days with a newer delivery. Of a feed that no run waits for, these are also the days whose file
    came after their own run. A delivery counts if a run date of the interval knows it, or a later prepared run date
    whose own day is recorded or has no file of its own.
    """
    declared = project.feeds[feed]
    needed = declared.needed_day
    waited_for = {day: declared.required and declared.has_file_on(needed(day)) for day in prepared_later}
    later = [moment for day, moment in prepared_later.items() if needed(day) in stored or not waited_for[day]]
    found = deliveries.select("delivery_id", "available_from", "sequence").iter_rows()
    places = {each: (moment, sequence) for each, moment, sequence in found}

    def of_state(state: str) -> OutcomeDelivery:
        moments, sequences = zip(*(places[each] for each in deliveries_in(state)), strict=True)
        return OutcomeDelivery(max(moments), max(sequences), state)

    own = {needed(run_date): moment for run_date, moment in as_of.items()}
    days_known_at: dict[datetime, list[date]] = {}
    latest = max([*as_of.values(), *later])
    before = stored.keys() if declared.required else stored.keys() | {needed(day) for day in prepared_before}
    days_known_at[latest] = sorted(day for day in before if day < min(own))
    moments = [max(later)] if later else []
    for day in sorted(own, reverse=True):
        # a run date knows nothing of days after the one it needs, however late it runs
        moments.append(max([own[day], *moments[-1:]]))
        days_known_at.setdefault(moments[-1], []).append(day)
    known: Deliveries = {}
    for moment, days in days_known_at.items():
        if days:
            newest = current_as_of(deliveries, feed, Interval(start=min(days), end=max(days)), moment)
            for day in newest.keys() & set(days):
                of = of_state(newest[day])
                if day in own or day not in stored or stored[day].is_older_than(of):
                    known[day] = of
    late = [day for day in own if declared.required and day not in known]
    known |= {day: of_state(each) for day, each in earliest(deliveries, feed, late).items()}
    return dict(sorted(known.items()))


def _values(
    project: Project,
    outcome: str,
    tables: Tables,
    deliveries: Mapping[date, OutcomeDelivery],
    job: tuple[SparkSession, Path] | None,
) -> pl.DataFrame:
    """Return the values of an outcome, made by Spark if a job is given."""
    feed = project.outcomes[outcome].feed
    if not schemas.has_entity(project, project.feeds[feed]):
        path = project.folder / "project.yaml"
        raise ConfigError(f"{path}: outcomes.{outcome}: feed {feed} lacks a column of the entity's key")
    rows = OutcomeRows(project, outcome, tables, {day: of.delivery_id for day, of in deliveries.items()})
    found = rows.by_spark(*job) if job else rows.by_worker()
    labels = project.outcomes[outcome].labels
    if undeclared := found.filter(pl.col("value") < 0).height if labels else 0:
        raise DataError(
            f"{project.name}, {outcome}: {undeclared} of {found.height} outcomes have a label other than "
            f"{', '.join(labels)}; correct the SQL, or add the label at the end of `labels` in project.yaml and let an "
            "expectation quarantine rows of others"
        )
    return found

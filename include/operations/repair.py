"""repair: give prepared days a new record, with what the journal knows by now.

A prepared day keeps what it knew: a delivery that is accepted or withdrawn later does not change it until a person
decides so. The next `build_features` of the day builds from the new record.
"""

import logging
from datetime import date

import polars as pl

from include.core.errors import DataError
from include.core.interval import Interval
from include.core.journal import Entry
from include.core.point_in_time import known_at
from include.core.project import Project
from include.core.records import DayRecord, Repaired
from include.core.settings import Settings
from include.operations.decide import enter_decision

log = logging.getLogger(__name__)


def repair(project: Project, interval: Interval, settings: Settings, *, by: str, why: str) -> Repaired:
    """Add a record with the same `as_of` and the newest watermark to each prepared day that would use other deliveries.

    Doing so again changes nothing. Days that are not prepared have nothing to repair.

    Raises:
        ActionRequiredError: who or why is missing, or the database is behind the export.
        DataError: a day would lack a required feed. No day is repaired.
    """
    with enter_decision(project, settings, "repair", by=by, why=why) as journal:
        known = journal.known()
        records = {day: known.records[day] for day in interval.days if day in known.records}
        by_now = known_at(project, known.deliveries, {day: record.as_of for day, record in records.items()})
        _require_feeds(project, records, by_now)
        used = dict(by_now.group_by("run_date").agg(pl.col("delivery_id").sort()).iter_rows())
        new = [
            record.model_copy(
                update={
                    "number": record.number + 1,
                    "watermark": known.watermark,
                    "deliveries": tuple(used.get(day, ())),
                }
            )
            for day, record in records.items()
            if tuple(used.get(day, ())) != record.deliveries
        ]
        journal.add([Entry.prepared_day(record, by=by, why=why) for record in new])
    days = tuple(record.day for record in new)
    log.info("%s: %d of %d prepared days have a new record", interval, len(days), len(records))
    return Repaired(interval=interval, days=days, by=by, why=why)


def _require_feeds(project: Project, records: dict[date, DayRecord], by_now: pl.DataFrame) -> None:
    there = set(by_now.select("run_date", "feed", "day").iter_rows())
    problems: dict[date, str] = {}
    for day in records:
        required = project.required_days(day)
        if absent := [f"{feed} of {needed}" for feed, needed in required if (day, feed, needed) not in there]:
            problems[day] = (
                f"{project.name}: {day} would have no accepted delivery of {', '.join(absent)}; accept one, or "
                "let one be delivered"
            )
    if problems:
        raise DataError.of_days(problems)

"""validate: check each delivery against `expectations.yaml`.

Valid rows become typed rows in `clean_<project>__<feed>`. Rows that break a critical expectation go to
`quarantine_<project>__<feed>`. A delivery that is wrong as a whole is refused.
"""

import logging
from collections.abc import Sequence

import polars as pl

from include.core.errors import DataError
from include.core.interval import Interval
from include.core.journal import Known
from include.core.names import clean_table, quarantine_table
from include.core.point_in_time import accepted, as_of_days
from include.core.project import Project
from include.core.records import Refusal, Validated
from include.core.settings import Settings
from include.io.journal import read_journal
from include.io.tables import Scope, Tables
from include.steps.verdicts import give_verdicts

log = logging.getLogger(__name__)


def validate(project: Project, interval: Interval, settings: Settings) -> Validated:
    """Give a verdict to every delivery that has none.

    Refused deliveries that the run dates of the interval would read get a new verdict, because the rule may have been
    fixed. Accepted deliveries keep theirs: `revalidate` validates those again. Those that lack rows in clean and
    quarantine together, as after a restore of the journal or a killed run, are validated again too. Results go to
    `quality_results`.

    Raises:
        DataError: a day of the interval has no accepted delivery of a required feed, so it cannot be prepared. The
            message names the expectations that failed.
    """
    journal = read_journal(settings, project)
    waiting = _waiting(project, interval, journal, Tables(settings))
    found = give_verdicts(project, waiting, settings, listed=journal.deliveries, erased=journal.erased)
    counts = (found.accepted, len(found.refused), found.quarantined, found.warnings)
    log.info("%s: %d deliveries accepted, %d refused, %d rows in quarantine, %d warnings", interval, *counts)
    if not waiting.is_empty():  # otherwise there are no new verdicts
        journal = read_journal(settings, project)
    _require_accepted(project, interval, journal, found.refused)
    return Validated(
        interval=interval,
        rows=found.rows,
        accepted=found.accepted,
        refused=found.refused,
        warnings=found.warnings,
        quarantined=found.quarantined,
    )


def _waiting(project: Project, interval: Interval, journal: Known, tables: Tables) -> pl.DataFrame:
    """Return the deliveries to validate: rows of `schemas.DELIVERIES`, by day.

    Rows are counted only of deliveries that the run dates of the interval read, because counting reads the tables.
    """
    wanted = pl.col("verdict") == "landed"
    for name in project.feeds:
        read = (pl.col("feed") == name) & _may_be_read(project, name, interval, journal.deliveries)
        wanted |= (pl.col("verdict") == "refused") & read
        wanted |= pl.col("delivery_id").is_in(_incomplete(project, name, read, interval, journal, tables))
    return journal.deliveries.filter(wanted, pl.col("feed").is_in(list(project.feeds))).sort(
        "day", "feed", "delivery_id"
    )


def _may_be_read(project: Project, name: str, interval: Interval, deliveries: pl.DataFrame) -> pl.Expr:
    """Return whether the run dates of the interval may read a delivery of the feed.

    Of a snapshot, it is the one that the first of them knows at its cutoff, or a newer one.
    """
    feed = project.feeds[name]
    if not feed.is_snapshot:
        return pl.col("day").is_between(feed.window(interval.start).start, feed.window(interval.end).end)
    cutoff = project.cutoff_at(interval.start)
    known = accepted(deliveries).filter(pl.col("feed") == name, pl.col("available_from") <= cutoff)
    oldest = known["available_from"].max()
    return pl.lit(True) if oldest is None else pl.col("available_from") >= oldest


def _incomplete(
    project: Project, name: str, read: pl.Expr, interval: Interval, journal: Known, tables: Tables
) -> list[str]:
    """Return the deliveries of a feed that lack rows, as after a restore of the journal or a killed run.

    A delivery that the record of a prepared day names has its rows even if it was withdrawn since, so that the day can
    be built again.
    """
    records = [journal.records[day] for day in interval.days if day in journal.records]
    named = {delivery_id for record in records for delivery_id in record.deliveries}
    has_rows = ((pl.col("verdict") == "accepted") & read) | (
        (pl.col("verdict") != "refused") & (pl.col("feed") == name) & pl.col("delivery_id").is_in(named)
    )
    deliveries = journal.deliveries.filter(has_rows, pl.col("rows") > 0)
    if deliveries.is_empty():
        return []
    scope = Scope.of_deliveries(deliveries["day"].to_list(), deliveries["delivery_id"].to_list())
    split = (clean_table(project.name, name), quarantine_table(project.name, name))
    written = tables.count(split, scope, "delivery_id")
    return [each for each, rows in deliveries.select("delivery_id", "rows").iter_rows() if written[each] != rows]


def _require_accepted(project: Project, interval: Interval, journal: Known, refused: Sequence[Refusal]) -> None:
    try:
        as_of_days(project, journal, interval)
    except DataError as error:
        raise DataError([*error.lines, *(r.why for r in refused)], error.by_day) from error

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
from include.core.point_in_time import as_of_days
from include.core.project import Project
from include.core.records import Refusal, Validated
from include.core.settings import Settings
from include.io.journal import read_journal
from include.io.tables import Tables
from include.steps.verdicts import give_verdicts

log = logging.getLogger(__name__)


def validate(project: Project, interval: Interval, settings: Settings) -> Validated:
    """Give a verdict to every delivery that has none.

    Refused deliveries that the run dates of the interval would read get a new verdict, because the rule may have been
    fixed. Accepted deliveries keep theirs: `revalidate` validates those again. Accepted ones whose rows are gone, as
    after a restore of the journal, are validated again too. Results go to `quality_results`.

    Raises:
        DataError: a day of the interval has no accepted delivery of a required feed, so it cannot be prepared. The
            message names the expectations that failed.
    """
    journal = read_journal(settings, project)
    waiting = _waiting(project, interval, journal.deliveries, Tables(settings))
    found = give_verdicts(project, waiting, settings, listed=journal.deliveries)
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


def _waiting(project: Project, interval: Interval, listed: pl.DataFrame, tables: Tables) -> pl.DataFrame:
    """Return the deliveries to validate: rows of `schemas.DELIVERIES`, by day."""
    wanted = pl.col("verdict") == "landed"
    for name, feed in project.feeds.items():
        read = pl.col("day").is_between(feed.window(interval.start).start, feed.window(interval.end).end)
        there = [*tables.days(clean_table(project.name, name)), *tables.days(quarantine_table(project.name, name))]
        gone = (pl.col("verdict") == "accepted") & (pl.col("rows") > 0) & ~pl.col("day").is_in(there)
        wanted |= ((pl.col("verdict") == "refused") | gone) & (pl.col("feed") == name) & read
    return listed.filter(wanted, pl.col("feed").is_in(list(project.feeds))).sort("day", "feed", "delivery_id")


def _require_accepted(project: Project, interval: Interval, journal: Known, refused: Sequence[Refusal]) -> None:
    try:
        as_of_days(project, journal, interval)
    except DataError as error:
        raise DataError("\n".join([str(error), *(r.why for r in refused)]), error.by_day) from error

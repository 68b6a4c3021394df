"""validate: check each delivery against `expectations.yaml`.

Valid rows become typed rows in `clean_<feed>`. Rows that break a critical expectation go to `quarantine_<feed>`. A
delivery that is wrong as a whole is refused.
"""

import logging
from collections.abc import Sequence

import polars as pl

from include.core.errors import DataError
from include.core.interval import Interval
from include.core.names import deliveries_table
from include.core.point_in_time import as_of_days
from include.core.project import Project
from include.core.records import Refusal, Validated
from include.core.settings import Settings
from include.io.tables import Tables
from include.steps.verdicts import give_verdicts

log = logging.getLogger(__name__)


def validate(project: Project, interval: Interval, settings: Settings) -> Validated:
    """Give a verdict to every delivery that has none.

    Refused deliveries that the run dates of the interval would read get a new verdict, because the rule may have been
    fixed. Accepted deliveries keep theirs: `revalidate` validates those again. Results go to `quality_results`.

    Raises:
        DataError: a day of the interval has no accepted delivery of a required feed, so it cannot be prepared. The
            message names the expectations that failed.
    """
    tables = Tables(settings)
    listed = tables.scan(deliveries_table(project.name)).collect()
    waiting = _waiting(project, interval, listed)
    found = give_verdicts(project, waiting, settings, listed=listed)
    counts = (found.accepted, len(found.refused), found.quarantined, found.warnings)
    log.info("%s: %d deliveries accepted, %d refused, %d rows in quarantine, %d warnings", interval, *counts)
    if not waiting.is_empty():  # otherwise there are no new verdicts
        listed = tables.scan(deliveries_table(project.name)).collect()
    _require_accepted(project, interval, listed, found.refused)
    return Validated(
        interval=interval,
        rows=found.rows,
        table_version=found.version,
        accepted=found.accepted,
        refused=found.refused,
        warnings=found.warnings,
        quarantined=found.quarantined,
    )


def _waiting(project: Project, interval: Interval, listed: pl.DataFrame) -> pl.DataFrame:
    """Return the deliveries to validate: rows of `schemas.DELIVERIES`, by day."""
    wanted = pl.col("verdict") == "landed"
    for name, feed in project.feeds.items():
        read = pl.col("day").is_between(feed.window(interval.start).start, feed.window(interval.end).end)
        wanted |= (pl.col("verdict") == "refused") & (pl.col("feed") == name) & read
    return listed.filter(wanted, pl.col("feed").is_in(list(project.feeds))).sort("day", "feed", "delivery_id")


def _require_accepted(project: Project, interval: Interval, listed: pl.DataFrame, refused: Sequence[Refusal]) -> None:
    try:
        as_of_days(project, listed, interval)
    except DataError as error:
        raise DataError("\n".join([str(error), *(r.why for r in refused)]), error.by_day) from error

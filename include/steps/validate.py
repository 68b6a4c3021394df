"""validate: hold each delivery against `expectations.yaml`. Rows that pass become typed rows in `clean_<feed>`, rows
that break a critical expectation go to `quarantine_<feed>`, and a delivery that is wrong as a whole is refused.
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
    """Give a verdict to every delivery that has none, and again to those refused that the nights of the interval
    would read, since the rule may be mended. Accepted ones are not judged again: that is `revalidate`.

    Each result goes to `quality_results`. Raises `DataError`, naming the expectations, when a day of the interval is
    left without an accepted delivery of a required feed: nothing is made of such a night.
    """
    tables = Tables(settings)
    listed = tables.scan(deliveries_table(project.name)).collect()
    waiting = _waiting(project, interval, listed)
    found = give_verdicts(project, waiting, settings, listed=listed)
    counts = (found.accepted, len(found.refused), found.quarantined, found.warnings)
    log.info("%s: %d deliveries accepted, %d refused, %d rows in quarantine, %d warnings", interval, *counts)
    if not waiting.is_empty():  # only then are there new verdicts
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
    """The deliveries to judge: rows of `schemas.DELIVERIES`, by day."""
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

"""revalidate: after a rule was fixed, validate quarantined rows and refused deliveries again.

Nothing is repaired or rebuilt here; the log says what to repair and rebuild.
"""

import logging
from datetime import date

import polars as pl

from include.core.errors import ConfigError, nearest
from include.core.interval import Interval
from include.core.names import quarantine_table
from include.core.project import Project
from include.core.records import Revalidated
from include.core.settings import Settings
from include.io.journal import read_journal
from include.io.tables import Tables
from include.operations.outdated import FEATURES, OutOfDate, find_out_of_date, rerun_commands
from include.steps.verdicts import give_verdicts

log = logging.getLogger(__name__)


def revalidate(project: Project, interval: Interval, settings: Settings, *, feed: str | None = None) -> Revalidated:
    """Validate deliveries again by the current expectations; running it twice changes nothing.

    These are the refused deliveries, and the accepted ones with rows in quarantine, of files of these days, of one feed
    or of all.
    """
    if feed is not None and feed not in project.feeds:
        raise ConfigError(f"{project.name} has no feed {feed!r}{nearest(feed, project.feeds)}")
    feeds, tables = [feed] if feed else list(project.feeds), Tables(settings)
    before = _quarantined(project, tables, feeds, interval)
    there = before.select("feed", "delivery_id").unique()
    of_feeds = pl.col("feed").is_in(feeds) & pl.col("day").is_between(interval.start, interval.end)
    known = read_journal(settings, project)
    listed = known.deliveries
    chosen = listed.filter(of_feeds)
    accepted = chosen.filter(pl.col("verdict") == "accepted").join(there, on=["feed", "delivery_id"], how="semi")
    waiting = pl.concat([accepted, chosen.filter(pl.col("verdict") == "refused")]).sort("day", "feed", "delivery_id")

    given = give_verdicts(project, waiting, settings, listed=listed, erased=known.erased)
    after = _quarantined(project, tables, feeds, interval)
    journal = read_journal(settings, project)
    now = journal.deliveries.filter(of_feeds)
    verdicts = dict(now.select("delivery_id", "verdict").rows())
    back, stay = 0, 0
    changed: set[tuple[str, date]] = set()
    for delivery in waiting.iter_rows(named=True):
        name, delivery_id = delivery["feed"], delivery["delivery_id"]
        kept, held = _rows(before, name, delivery_id), _rows(after, name, delivery_id)
        taken = verdicts[delivery_id] == "accepted"
        if taken:
            back += delivery["rows"] - len(held) if delivery["verdict"] == "refused" else len(kept - held)
            stay += len(held)
        if taken != (delivery["verdict"] == "accepted") or (taken and kept != held):
            changed.add((name, delivery["day"]))
    log.info("%s: %d rows came back, %d stay in quarantine, %d refused", interval, back, stay, len(given.refused))
    found = _out_of_date(project, changed, max(journal.records, default=date.min), settings)
    days = Interval.covering({each.day for each in found})
    if found:
        parts = ", ".join(map(str, days))
        log.warning(
            "features of run dates %s are out of date, and so are their outcomes and scores: %s", parts, found[0].why
        )
    for command in rerun_commands(project, found):
        log.warning("run: %s", command)
    return Revalidated(
        interval=interval,
        rows=back,
        revalidated=waiting.height,
        stay=stay,
        refused=given.refused,
        out_of_date=tuple(days),
    )


def _quarantined(project: Project, tables: Tables, feeds: list[str], interval: Interval) -> pl.DataFrame:
    """Return the quarantined rows: columns feed, delivery_id and _row."""
    inside = pl.col("day").is_between(interval.start, interval.end)
    found = [pl.DataFrame(schema={"feed": pl.String, "delivery_id": pl.String, "_row": pl.Int64})]
    for feed in feeds:
        if tables.exists(quarantine_table(project.name, feed)):
            rows = tables.scan(quarantine_table(project.name, feed)).filter(inside)
            found.append(rows.select(pl.lit(feed).alias("feed"), "delivery_id", "_row").collect())
    return pl.concat(found)


def _rows(quarantined: pl.DataFrame, feed: str, delivery_id: str) -> set[int]:
    return set(quarantined.filter(pl.col("feed") == feed, pl.col("delivery_id") == delivery_id)["_row"])


def _out_of_date(project: Project, changed: set[tuple[str, date]], last: date, settings: Settings) -> list[OutOfDate]:
    """Return the run dates up to `last` that are out of date and may read a file of one of these days, by day.

    Corrections that only `data: latest` would use are not named here: no verdict has to do with them.
    """
    reading: set[date] = set()
    for name, day in changed:
        reading.update(project.feeds[name].run_dates(day, last))
    return [
        each
        for part in Interval.covering(reading)
        for each in find_out_of_date(project, part, settings)
        if each.what == FEATURES and each.data_view != "latest"
    ]

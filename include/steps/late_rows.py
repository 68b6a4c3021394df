"""Divide a file into the rows of its own day, and the late rows of earlier days, which correct those days.

Each of those days gets a delivery of its own, which counts from the same moment as the file. Rows of another date that
the feed does not take stay in the file's own delivery; `validate` quarantines them.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

import polars as pl

from include.core import schemas
from include.core.interval import Interval
from include.core.journal import SET_ASIDE
from include.core.project import Project
from include.core.stack import is_late
from include.steps.entries import Taken


def with_late_rows(project: Project, taken: Iterable[Taken], landed: Collection[str]) -> list[Taken]:
    """Return each file without the late rows that its feed takes, and after it a delivery for each of their days.

    A file that the journal has already is divided as it was then, whatever its feed declares by now.

    Args:
        project: the project.
        taken: the files.
        landed: all delivery ids of the journal.
    """
    return [part for item in taken for part in _parts(project, item, landed)]


def without_file(listed: pl.DataFrame, reach: Mapping[str, Interval | None]) -> list[str]:
    """Return a sentence for each feed and day with late rows that do not count, because there is no file of the day.

    Args:
        listed: the deliveries of the journal (columns of `schemas.DELIVERIES`).
        reach: the days to look at, None for all.
    """
    unused = pl.col("verdict").is_in([*SET_ASIDE, "refused"])
    late = listed.filter(is_late(), ~unused).join(listed.filter(~is_late(), ~unused), on=["feed", "day"], how="anti")
    rows = late.group_by("feed", "day").agg(pl.col("rows").sum()).sort("feed", "day").rows()
    asked = [one for one in rows if one[0] in reach and ((days := reach[one[0]]) is None or one[1] in days.days)]
    return [f"{n} late rows of feed {feed} for {day} wait for the file of that day" for feed, day, n in asked]


def _parts(project: Project, item: Taken, landed: Collection[str]) -> Iterator[Taken]:
    feed, file_day = project.feeds[item.found.feed], item.found.day
    there = item.delivery_id in landed
    if feed.day_column is None or not (there or feed.late_rows):
        yield item
        return
    value = schemas.typed(pl.col(feed.day_column), feed.columns[feed.day_column], feed.format, project.timezone)
    dates = item.records.select(schemas.local_date(feed, value, project.timezone)).to_series()
    ids = {day: f"{item.delivery_id}#{day}" for day in dates.unique().drop_nulls().sort()}
    late = {day: id_ for day, id_ in ids.items() if (id_ in landed if there else feed.takes_late_rows(file_day, day))}
    yield replace(item, records=item.records.filter(~dates.is_in([*late]).fill_null(value=False))) if late else item
    for day, delivery_id in late.items():
        found, records = replace(item.found, day=day), item.records.filter(dates == day)
        yield replace(item, found=found, delivery_id=delivery_id, records=records, correction="late_rows", erased=0)

"""What a night knew: `as_of` of a day and the delivery in force at a moment. Pure functions of the deliveries table.

It all follows from landing (`available_at`) and the verdicts, never from a clock, so a replay finds the same.
"""

from datetime import date, datetime

import polars as pl

from include.config import Project
from include.contracts import Interval
from include.errors import BadData


def as_of(project: Project, deliveries: pl.DataFrame, day: date) -> datetime:
    """The later of the cutoff on `day` and, over the required feeds, the earliest `available_at` of an accepted
    delivery (UTC). `deliveries` has the columns of `schemas.DELIVERIES`.

    Raises `BadData` naming each required feed and day that has no accepted delivery.
    """
    accepted = deliveries.filter(pl.col("verdict") == "accepted")
    moments, missing = [project.cutoff_at(day)], []
    for feed, needed in project.required(day).items():
        first = accepted.filter((pl.col("feed") == feed) & (pl.col("day") == needed))["available_at"].min()
        if isinstance(first, datetime):
            moments.append(first)
        else:
            missing.append(f"{feed} of {needed}")
    if missing:
        raise BadData(
            f"{project.name}: the night of {day} has no accepted delivery of {', '.join(missing)}; "
            f"run land and validate for {day}, and see data_quality for what was refused"
        )
    return max(moments)


def in_force(deliveries: pl.DataFrame, feed: str, days: Interval, moment: datetime) -> dict[date, str]:
    """Day -> `delivery_id` of the newest accepted delivery available by `moment`; days without one are absent."""
    known = deliveries.filter(
        (pl.col("verdict") == "accepted")
        & (pl.col("feed") == feed)
        & pl.col("day").is_between(days.start, days.end)
        & (pl.col("available_at") <= moment)
    ).sort("available_at", "delivery_id")
    return dict(known.select("day", "delivery_id").iter_rows())


def known_deliveries(project: Project, deliveries: pl.DataFrame, interval: Interval) -> pl.DataFrame:
    """For each run day of the interval and each feed, the deliveries in force for the days its features may read.

    Returns columns run_day (date), feed (str), day (date), delivery_id (str), sorted by all of them.
    Raises as `as_of` does.
    """
    rows = []
    for run_day in interval.days:
        moment = as_of(project, deliveries, run_day)
        for name, feed in project.feeds.items():
            in_window = in_force(deliveries, name, feed.window(run_day), moment)
            rows += [(run_day, name, day, delivery) for day, delivery in sorted(in_window.items())]
    schema = {"run_day": pl.Date(), "feed": pl.String(), "day": pl.Date(), "delivery_id": pl.String()}
    return pl.DataFrame(rows, schema=schema, orient="row")

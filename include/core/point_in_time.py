"""What a night knew: `as_of` of a day and the delivery in force at a moment. Pure functions of the deliveries table.

It all follows from landing (`available_at`) and the verdicts, never from a clock, so a replay finds the same. With
data_view `latest`, a day knows also what was corrected since: of the days that its night may read, the newest.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import polars as pl

from include.core.errors import DataError
from include.core.interval import Interval
from include.core.project import Project
from include.core.records import DataView


def as_of(project: Project, deliveries: pl.DataFrame, day: date, data_view: DataView = "point_in_time") -> datetime:
    """The later of the cutoff on `day` and, over the required feeds, the earliest `available_at` of an accepted
    delivery (UTC). `deliveries` has the columns of `schemas.DELIVERIES`.

    Raises `DataError` naming each required feed and day that has no accepted delivery.
    """
    return as_of_days(project, deliveries, Interval.of(day), data_view)[day]


def as_of_days(
    project: Project, deliveries: pl.DataFrame, interval: Interval, data_view: DataView = "point_in_time"
) -> dict[date, datetime]:
    """`as_of` of each day; raises for all days at once (the first ten are named).

    With data_view `latest` it is moved on to the newest accepted delivery of all that the day's features may read.
    """
    moments = (
        accepted(deliveries)
        .group_by("feed", "day")
        .agg(first=pl.col("available_at").min(), last=pl.col("available_at").max())
    )
    available = {(feed, day): first for feed, day, first, _ in moments.iter_rows()}
    newest = {(feed, day): last for feed, day, _, last in moments.iter_rows()}
    known: dict[date, datetime] = {}
    problems: dict[date, str] = {}
    for day in interval.days:
        required = project.required(day).items()
        if missing := [f"{feed} of {needed}" for feed, needed in required if (feed, needed) not in available]:
            problems[day] = (
                f"{project.name}: the night of {day} has no accepted delivery of {', '.join(missing)}; "
                f"run land and validate for {day}, and see data_quality for what was refused"
            )
        else:
            known[day] = max([project.cutoff_at(day), *(available[needed] for needed in required)])
            if data_view == "latest":
                read = [(name, each) for name, feed in project.feeds.items() for each in feed.window(day).days]
                known[day] = max([known[day], *(newest[one] for one in read if one in newest)])
    if problems:
        more = [f"… and {len(problems) - 10} more nights"] if len(problems) > 10 else []
        raise DataError("\n".join([*[*problems.values()][:10], *more]), problems)
    return known


def accepted(deliveries: pl.DataFrame) -> pl.DataFrame:
    """Those that expectations let through."""
    return deliveries.filter(pl.col("verdict") == "accepted")


def current_as_of(deliveries: pl.DataFrame, feed: str, days: Interval, moment: datetime) -> dict[date, str]:
    """Day -> `delivery_id` of the newest accepted delivery available by `moment`; days without one are absent."""
    wanted = pl.DataFrame({"feed": feed, "day": days.days, "as_of": moment.astimezone(UTC)})
    return dict(_newest(deliveries, wanted).select("day", "delivery_id").iter_rows())


def known_deliveries(
    project: Project, deliveries: pl.DataFrame, interval: Interval, data_view: DataView = "point_in_time"
) -> pl.DataFrame:
    """For each run day of the interval and each feed, the deliveries in force for the days its features may read.

    Returns columns run_date (date), feed (str), day (date), delivery_id (str), sorted by all of them.
    Raises as `as_of` does.
    """
    wanted = [
        (run_date, name, day, moment)
        for run_date, moment in as_of_days(project, deliveries, interval, data_view).items()
        for name, feed in project.feeds.items()
        for day in feed.window(run_date).days
    ]
    schema = {"run_date": pl.Date(), "feed": pl.String(), "day": pl.Date(), "as_of": pl.Datetime("us", "UTC")}
    known = _newest(deliveries, pl.DataFrame(wanted, schema=schema, orient="row"))
    return known.select("run_date", "feed", "day", "delivery_id").sort(pl.all())


def rows_before(deliveries: pl.DataFrame, feed: str) -> Callable[[date, datetime, int], list[int]]:
    """A function of a day, a moment and a number of days: how many rows were delivered for each of so many days before
    the day, by the newest delivery available by the moment; days without one are left out.

    It follows from landing alone: refused deliveries count, those that could not be read do not, and the order in
    which deliveries are judged means nothing.
    """
    of_feed = deliveries.filter(pl.col("feed") == feed, pl.col("verdict") != "unreadable")
    ordered = of_feed.sort("available_at", "delivery_id").select("day", "available_at", "rows")
    delivered: dict[date, list[tuple[datetime, int]]] = {}
    for day, available_at, rows in ordered.iter_rows():
        delivered.setdefault(day, []).append((available_at, rows))

    def before(day: date, moment: datetime, days: int) -> list[int]:
        found: list[int] = []
        for n in range(days, 0, -1):
            known = [rows for at, rows in delivered.get(day - timedelta(days=n), ()) if at <= moment]
            found += known[-1:]
        return found

    return before


def _newest(deliveries: pl.DataFrame, wanted: pl.DataFrame) -> pl.DataFrame:
    """The rows of `wanted` (feed, day, `as_of`) that have one, with the newest accepted delivery available by then; of
    two at the same moment always the same one."""
    known = accepted(deliveries).select("feed", "day", "available_at", "delivery_id")
    joined = wanted.join(known, on=["feed", "day"]).filter(pl.col("available_at") <= pl.col("as_of"))
    ordered = joined.sort("available_at", "delivery_id")
    return ordered.unique(wanted.columns, keep="last", maintain_order=True)

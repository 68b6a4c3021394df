"""Compute the `as_of` of a run date, and the deliveries that are current as of a moment.

These are pure functions of what the journal has at a watermark. A prepared day has a record, which no later entry
changes. For other days, results depend on `available_from` and the verdicts, never on the clock, so a backfill finds
the same. With the data view `latest`, a day also uses what was corrected since: the newest delivery of each day that
its features may read.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

import polars as pl

from include.core.errors import DataError
from include.core.interval import Interval
from include.core.journal import SET_ASIDE, Known
from include.core.project import Project
from include.core.records import DataView
from include.core.stack import is_late, is_whole, ordered, stacks, states


def as_of(project: Project, journal: Known, day: date, data_view: DataView = "point_in_time") -> datetime:
    """Return the moment (UTC) up to which a run date knows deliveries.

    It is that of the day's record. Without one it is the cutoff on `day`, or later: the moment when each required feed
    has an accepted delivery. If that is not before the cutoff of the next run date, it stays the cutoff on `day`, so
    that the moments of run dates keep their order; `known_at` admits the late delivery.

    Args:
        project: the project.
        journal: what the journal has.
        day: the run date.
        data_view: `latest` moves the moment on to the newest delivery that the day's features may read.

    Raises:
        DataError: names each required feed and day that has no accepted delivery.
    """
    return as_of_days(project, journal, Interval.of(day), data_view)[day]


def as_of_days(
    project: Project, journal: Known, interval: Interval, data_view: DataView = "point_in_time"
) -> dict[date, datetime]:
    """Return `as_of` of each day.

    Raises:
        DataError: names the first ten days that lack a delivery; `by_day` has all of them.
    """
    moments = (
        accepted(journal.deliveries)
        .group_by("feed", "day")
        .agg(first=pl.col("available_from").filter(~is_late()).min(), last=pl.col("available_from").max())
        .drop_nulls("first")
    )
    available = {(feed, day): first for feed, day, first, _ in moments.iter_rows()}
    newest = {(feed, day): last for feed, day, _, last in moments.iter_rows()}
    dated = {name for name, feed in project.snapshots.items() if feed.dated}
    known: dict[date, datetime] = {}
    problems: dict[date, str] = {}
    for day in interval.days:
        if data_view == "point_in_time" and day in journal.records:
            known[day] = journal.records[day].as_of
            continue
        required = project.required_days(day)
        if missing := [(feed, needed) for feed, needed in required if (feed, needed) not in available]:
            named = ", ".join(f"{feed} of {needed}" for feed, needed in missing)
            steps = sorted({"extract" if project.feeds[feed].source else "land" for feed, _ in missing})
            problems[day] = (
                f"{project.name}: {day} has no accepted delivery of {named}; run {', '.join(steps)} and validate for "
                f"{day}, and look in the view data_quality for refused deliveries{_set_aside(journal, missing)}"
            )
        else:
            cutoff = project.cutoff_at(day)
            complete = max([cutoff, *(available[needed] for needed in required)])
            known[day] = complete if complete < project.cutoff_at(day + timedelta(days=1)) else cutoff
            if data_view == "latest":
                daily = {name: feed for name, feed in project.feeds.items() if not feed.is_snapshot}
                read = [(name, each) for name, feed in daily.items() for each in feed.window(day).days]
                states = [at for (feed, of), at in newest.items() if feed in dated and of <= day]
                known[day] = max([known[day], *states, *(newest[one] for one in read if one in newest)])
    if problems:
        raise DataError.of_days(problems)
    return known


def _set_aside(journal: Known, missing: Sequence[tuple[str, date]]) -> str:
    """Say which delivery of a missing feed and day nothing uses until a person decides: another run does not help."""
    aside = journal.deliveries.filter(~is_late(), pl.col("verdict").is_in(SET_ASIDE)).sort("sequence")
    newest = aside.unique(["feed", "day"], keep="last", maintain_order=True)
    return "".join(
        f"; {delivery_id} is {verdict} ({why}): accept it, or let another one be delivered"
        for feed, of, delivery_id, verdict, why in newest.select("feed", "day", "delivery_id", "verdict", "why").rows()
        if (feed, of) in missing
    )


def accepted(deliveries: pl.DataFrame) -> pl.DataFrame:
    """Return the deliveries that passed their expectations."""
    return deliveries.filter(pl.col("verdict") == "accepted")


def current_as_of(deliveries: pl.DataFrame, feed: str, days: Interval, moment: datetime) -> dict[date, str]:
    """Map each day to the id of the state that is current as of `moment`; days without a file are absent.

    It is the `delivery_id`, or the id of several (`stack.state_id`).
    """
    wanted = pl.DataFrame({"feed": feed, "day": days.days, "as_of": moment.astimezone(UTC)})
    current = _current(deliveries, wanted).with_columns(run_date=pl.col("as_of"))
    return dict(states(current).select("day", "delivery_id").iter_rows())


def known_deliveries(
    project: Project, journal: Known, interval: Interval, data_view: DataView = "point_in_time"
) -> pl.DataFrame:
    """Return the deliveries that the features of each run date may read: the current stack of each feed and day.

    Those of a prepared day are the ones that its record names, even if they were withdrawn or corrected since.

    Returns:
        A frame with the columns run_date (date), feed (str), day (date), delivery_id (str) and rank (int, 0 for the
        oldest of a stack), sorted by all of them.

    Raises:
        DataError: as in `as_of`.
    """
    moments = as_of_days(project, journal, interval, data_view)
    recorded = moments.keys() & journal.records.keys() if data_view == "point_in_time" else set()
    of_records = recorded_deliveries(journal.deliveries, {day: journal.records[day].deliveries for day in recorded})
    others = {day: moment for day, moment in moments.items() if day not in recorded}
    return pl.concat([of_records, known_at(project, journal.deliveries, others, data_view)]).sort(pl.all())


def recorded_deliveries(deliveries: pl.DataFrame, used: Mapping[date, Sequence[str]]) -> pl.DataFrame:
    """Return the deliveries that records of run dates name, with the columns of `known_at`."""
    named = [(run_date, delivery_id) for run_date, ids in used.items() for delivery_id in ids]
    schema = {"run_date": pl.Date(), "delivery_id": pl.String()}
    found = pl.DataFrame(named, schema=schema, orient="row").join(deliveries, on="delivery_id")
    return ordered(found).with_columns(_RANK.over("run_date", "feed", "day")).select(_KNOWN)


def known_at(
    project: Project,
    deliveries: pl.DataFrame,
    moments: Mapping[date, datetime],
    data_view: DataView = "point_in_time",
) -> pl.DataFrame:
    """Return the deliveries that the features of run dates may read, current as of the moment of each.

    Of a feed of days there is a stack for each day of the window, of a snapshot the newest of any day. A required feed
    of which nothing had come by that moment was late: its earliest accepted delivery is admitted, and never a
    correction of it.

    Args:
        project: the project.
        deliveries: a frame with the columns of `schemas.DELIVERIES`.
        moments: the moment (UTC) of each run date.
        data_view: with `latest`, a snapshot that came after the cutoff counts only if its path says that it is of a day
            up to the run date. Any other is a later state, and corrects nothing.

    Returns:
        A frame with the columns run_date (date), feed (str), day (date), delivery_id (str) and rank (int, 0 for the
        oldest of a stack), sorted by all of them.
    """
    wanted = [
        (run_date, name, day, moment)
        for run_date, moment in moments.items()
        for name, feed in project.feeds.items()
        if not feed.is_snapshot
        for day in feed.window(run_date).days
    ]
    schema = {"run_date": pl.Date(), "feed": pl.String(), "day": pl.Date(), "as_of": pl.Datetime("us", "UTC")}
    known = _current(deliveries, pl.DataFrame(wanted, schema=schema, orient="row")).select(_KNOWN)
    required = [(run_date, name, day) for run_date in moments for name, day in project.required_days(run_date)]
    needed = {"run_date": pl.Date(), "feed": pl.String(), "day": pl.Date()}
    late = (
        pl
        .DataFrame(required, schema=needed, orient="row")
        .join(known, on=[*needed], how="anti")
        .join(first_accepted(deliveries), on=["feed", "day"])
    )
    of_snapshots = _snapshots(project, deliveries, moments, data_view)
    alone = [each.with_columns(rank=pl.lit(0, pl.Int64)).select(_KNOWN) for each in (late, of_snapshots)]
    return pl.concat([known, *alone]).sort(pl.all())


def _snapshots(
    project: Project, deliveries: pl.DataFrame, moments: Mapping[date, datetime], data_view: DataView
) -> pl.DataFrame:
    """Return the newest delivery of each snapshot up to the moment of each run date, whatever its day."""
    wanted = [
        (run_date, name, moment, project.cutoff_at(run_date), feed.dated)
        for run_date, moment in moments.items()
        for name, feed in project.snapshots.items()
    ]
    moment = pl.Datetime("us", "UTC")
    schema = {"run_date": pl.Date(), "feed": pl.String(), "as_of": moment, "cutoff": moment, "dated": pl.Boolean()}
    not_later = (pl.col("dated") & (pl.col("day") <= pl.col("run_date"))) | (
        pl.col("available_from") <= pl.col("cutoff")
    )
    counts = not_later if data_view == "latest" else pl.lit(True)
    return _newest(deliveries, pl.DataFrame(wanted, schema=schema, orient="row"), counts)


def earliest(deliveries: pl.DataFrame, feed: str, days: Sequence[date]) -> dict[date, str]:
    """Map each day to the `delivery_id` that was accepted and came first; days without one are absent."""
    of_feed = first_accepted(deliveries).filter(pl.col("feed") == feed, pl.col("day").is_in(list(days)))
    return dict(of_feed.select("day", "delivery_id").iter_rows())


def first_accepted(deliveries: pl.DataFrame) -> pl.DataFrame:
    """Return the accepted file of each feed and day that came first. Late rows of a day are no file of it."""
    files = ordered(accepted(deliveries).filter(~is_late()))
    return files.unique(["feed", "day"], keep="first", maintain_order=True)


def counting_rows(deliveries: pl.DataFrame) -> pl.DataFrame:
    """Return the deliveries whose number of rows says how many a day has: whole files, and the first file of a day.

    Held and withdrawn deliveries are left out.
    """
    files = ordered(deliveries.filter(~is_late(), ~pl.col("verdict").is_in(SET_ASIDE)))
    return files.filter(is_whole() | pl.struct("feed", "day").is_first_distinct())


def rows_before(
    deliveries: pl.DataFrame, feed: str, *, snapshot: bool = False
) -> Callable[[date, datetime, int, int], list[int]]:
    """Return a function of a day, a moment, a number of days and a step that looks up earlier row counts.

    It returns, for each of that many days before the day, the rows of the newest delivery that was available at the
    moment; days without one are left out. With a step of 7, it looks at days of the same weekday only. Refused
    deliveries count too, so the order in which deliveries are validated does not matter; held and withdrawn ones do
    not count, nor do those that only add rows to a day.

    Of a snapshot, it returns the rows of so many deliveries that became available before the moment, whatever their day
    and the step.
    """
    of_feed = counting_rows(deliveries.filter(pl.col("feed") == feed)).select("day", "available_from", "rows")
    delivered: dict[date, list[tuple[datetime, int]]] = {}
    for day, available_from, rows in of_feed.iter_rows():
        delivered.setdefault(day, []).append((available_from, rows))
    moments, counts = of_feed["available_from"].to_list(), of_feed["rows"].to_list()

    def before(day: date, moment: datetime, days: int, step: int = 1) -> list[int]:
        if snapshot:
            end = bisect_left(moments, moment)
            return counts[max(0, end - days) : end]
        found: list[int] = []
        for n in range(days // step * step, 0, -step):
            known = [rows for at, rows in delivered.get(day - timedelta(days=n), ()) if at <= moment]
            found += known[-1:]
        return found

    return before


_KNOWN = ("run_date", "feed", "day", "delivery_id", "rank")
"""The columns of what run dates know."""

_RANK = pl.int_range(pl.len(), dtype=pl.Int64).alias("rank")


def _current(deliveries: pl.DataFrame, wanted: pl.DataFrame) -> pl.DataFrame:
    """Add the current stack to each row of `wanted` (feed, day and `as_of`): a row for each delivery, with its rank."""
    joined = wanted.join(accepted(deliveries), on=["feed", "day"])
    return stacks(joined.filter(pl.col("available_from") <= pl.col("as_of")), wanted.columns)


def _newest(deliveries: pl.DataFrame, wanted: pl.DataFrame, counts: pl.Expr | bool = True) -> pl.DataFrame:
    """Add the current delivery to each row of `wanted` (feed and `as_of`), whatever its day.

    Rows without a delivery are left out, and so are deliveries that do not count. Of two deliveries available at
    the same moment, the one that was landed later is current.
    """
    known = accepted(deliveries).select("feed", "day", "available_from", "sequence", "delivery_id")
    joined = wanted.join(known, on="feed").filter(pl.col("available_from") <= pl.col("as_of"), counts)
    return joined.sort("available_from", "sequence").unique(wanted.columns, keep="last", maintain_order=True)

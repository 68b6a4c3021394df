"""What a run date knows nothing of: days of its window, and snapshots. Pure.

It stops a run only where the project says so (`max_unknown_share`), so people are warned.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime

import polars as pl

from include.core.feeds import Feed
from include.core.interval import Interval
from include.core.parts import Part, listed, missing_hours
from include.core.point_in_time import first_accepted
from include.core.project import Project


def unknown_days(project: Project, known: pl.DataFrame, interval: Interval) -> dict[str, dict[date, list[date]]]:
    """Map each feed to the run dates that lack files of its calendar in their window, and to those files' days.

    Args:
        project: the project.
        known: run_date (date), feed (str) and day (date) of each delivery that a run date may read.
        interval: the run dates.
    """
    there = set(known.select("run_date", "feed", "day").iter_rows())
    found: dict[str, dict[date, list[date]]] = {}
    for name, feed in project.feeds.items():
        for run_date in interval.days:
            if lost := [day for day in _expected(project, feed, run_date) if (run_date, name, day) not in there]:
                found.setdefault(name, {})[run_date] = lost
    return found


def _expected(project: Project, feed: Feed, run_date: date) -> list[date]:
    """Return the days in the window of a run date of which a file is expected."""
    return [day for day in feed.window(run_date).days if day >= project.first_day and feed.has_file_on(day)]


def counts_from(deliveries: pl.DataFrame) -> dict[tuple[str, date], datetime]:
    """Map each feed and day with an accepted delivery to the moment (UTC) from which the first one counts."""
    first = first_accepted(deliveries).select("feed", "day", "available_from")
    return {(feed, day): moment for feed, day, moment in first.iter_rows()}


def of_days(
    unknown: Mapping[str, Mapping[date, Sequence[date]]], counting: Mapping[tuple[str, date], datetime]
) -> dict[date, dict[str, str]]:
    """Map each run date and feed to what the run date lacks, and why.

    Args:
        unknown: the result of `unknown_days`.
        counting: the result of `counts_from`: its files are there by now, but the run date could not know them.
    """
    said: dict[date, dict[str, str]] = {}
    for feed, by_run_date in unknown.items():
        for run_date, days in by_run_date.items():
            listed = ", ".join(map(str, days[-3:]))
            more = f"{len(days) - 3} earlier days and " if len(days) > 3 else ""
            late = [day for day in days if (feed, day) in counting]
            why = ""
            if late:
                moment = f"{counting[feed, late[-1]]:%Y-%m-%d %H:%M} UTC"
                why = (
                    f"; {len(late)} of {len(days)} have an accepted delivery by now that it could not know: "
                    f"that of {late[-1]} counts from {moment}"
                )
            said.setdefault(run_date, {})[feed] = f"knows no accepted file of {more}{listed}, and goes on without{why}"
    return said


def too_late(
    project: Project,
    unknown: Mapping[str, Mapping[date, Sequence[date]]],
    counting: Mapping[tuple[str, date], datetime],
    recorded: Collection[date],
) -> dict[date, str]:
    """Map each run date that may not be prepared to a sentence: too many files of its window count only later.

    It is a sign that times are wrong, as when history was copied with the time of copying as its claim. A file that
    never came does not count here, and neither does a run date that has a record.

    Args:
        project: the project.
        unknown: the result of `unknown_days`.
        counting: the result of `counts_from`.
        recorded: the run dates that have a record.
    """
    problems: dict[date, str] = {}
    for name, by_run_date in unknown.items():
        allowed = project.feeds[name].max_unknown_share
        if allowed is None:
            continue
        for run_date, days in by_run_date.items():
            late = [day for day in days if (name, day) in counting]
            expected = _expected(project, project.feeds[name], run_date)
            if run_date in recorded or len(late) <= allowed * len(expected):
                continue
            moment = f"{counting[name, late[-1]]:%Y-%m-%d %H:%M} UTC"
            problems[run_date] = (
                f"{project.name}: {len(late)} of the {len(expected)} days of {name} that {run_date} may read came too "
                f"late for it, and feeds.{name}.max_unknown_share allows {allowed:g}: that of {late[-1]} counts from "
                f"{moment}. If the times are wrong, withdraw these deliveries and deliver them with the right claims, "
                f"or declare feeds.{name}.live_from before they are landed; if they are right, raise the share"
            )
    return problems


def of_snapshots(project: Project, known: pl.DataFrame, interval: Interval) -> dict[date, dict[str, str]]:
    """Map each run date to the snapshots that it does not know yet, or knows only an old delivery of.

    Args:
        project: the project.
        known: run_date (date), feed (str) and day (date) of each delivery that a run date may read.
        interval: the run dates.
    """
    said: dict[date, dict[str, str]] = {}
    for name, feed in project.snapshots.items():
        of_feed = dict(known.filter(pl.col("feed") == name).select("run_date", "day").iter_rows())
        for run_date in interval.days:
            if run_date not in of_feed:
                said.setdefault(run_date, {})[name] = "knows no accepted snapshot, and goes on without its columns"
                continue
            age = (run_date - of_feed[run_date]).days
            if feed.max_age_days is not None and age > feed.max_age_days:
                limit = f"max_age_days is {feed.max_age_days}"
                said.setdefault(run_date, {})[name] = f"knows a snapshot that is {age} days old, and {limit}"
    return said


def of_parts(project: Project, known: pl.DataFrame, sets: Mapping[str, Sequence[Part]]) -> dict[date, dict[str, str]]:
    """Map each run date to the feeds that it knows without some hours, because parts are taken at the cutoff.

    Args:
        project: the project.
        known: run_date (date), feed (str), day (date) and delivery_id (str) of each delivery that a run date may read.
        sets: the parts of each delivery that is a set.
    """
    found: dict[tuple[date, str], list[str]] = {}
    for name in (name for name, feed in project.feeds.items() if feed.parts == "at_cutoff"):
        of_feed = known.filter(pl.col("feed") == name).select("run_date", "day", "delivery_id").unique().sort("day")
        for run_date, day, delivery_id in of_feed.iter_rows():
            if hours := missing_hours(project, day, [part.name for part in sets.get(delivery_id, ())]):
                found.setdefault((run_date, name), []).append(f"{day} without the hours {listed(hours)}")
    said: dict[date, dict[str, str]] = {}
    for (run_date, name), days in found.items():
        more = f" and {len(days) - 3} more days" if len(days) > 3 else ""
        said.setdefault(run_date, {})[name] = f"knows {', '.join(days[-3:])}{more}"
    return said


def together(*said: Mapping[date, Mapping[str, str]]) -> dict[date, dict[str, str]]:
    """Return all of what was said about each run date and feed."""
    joined: dict[date, dict[str, str]] = {}
    for each in said:
        for run_date, of_feeds in each.items():
            for feed, text in of_feeds.items():
                there = joined.setdefault(run_date, {})
                there[feed] = f"{there[feed]}; it {text}" if feed in there else text
    return joined


def sentences(said: Mapping[date, Mapping[str, str]]) -> list[str]:
    """Return a sentence for each feed, about the newest run date; the view `data_quality` has all of them."""
    by_feed: dict[str, list[date]] = {}
    for run_date in sorted(said):
        for feed in said[run_date]:
            by_feed.setdefault(feed, []).append(run_date)
    return [
        f"{feed}: {run_dates[-1]} {said[run_dates[-1]][feed]}"
        + (f" ({len(run_dates) - 1} more run dates lack something: view data_quality)" if run_dates[1:] else "")
        for feed, run_dates in by_feed.items()
    ]

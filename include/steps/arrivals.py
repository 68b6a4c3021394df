"""Find which files the run dates wait for. The sensor of the DAGs and `land` ask the same question here."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime

import polars as pl

from include.core.errors import DeliveryError
from include.core.intake import NotYetError, require_past
from include.core.interval import Interval
from include.core.parts import why_incomplete
from include.core.project import Project
from include.core.settings import Settings
from include.core.stack import is_late
from include.io import postgres
from include.io.journal import read_journal
from include.io.landing import Found, Landing, Listing
from include.steps.objects import claim_of, why_not_whole


def missing_files(project: Project, run_date: date, settings: Settings) -> dict[str, str]:
    """Map each feed whose file is missing to what the run date waits for."""
    return _by_feed(missing_days(project, run_date, settings))


def missing_days(project: Project, run_date: date, settings: Settings) -> dict[tuple[str, date], str]:
    """Map each feed and day whose file is missing to a sentence about what the run date waits for."""
    return _missing_in_landing(project, Interval.of(run_date), settings).get(run_date, {})


def missing_by_day(project: Project, interval: Interval, settings: Settings) -> dict[date, list[str]]:
    """Map each run date that waits to its sentences. For several days, each feed is listed only once."""
    found = _missing_in_landing(project, interval, settings)
    return {day: [*_by_feed(of_day).values()] for day, of_day in found.items()}


def _missing_in_landing(
    project: Project, interval: Interval, settings: Settings
) -> dict[date, dict[tuple[str, date], str]]:
    landing, one = Landing(project, settings), interval.start == interval.end
    required: dict[str, list[date]] = {}
    for day in interval.days:
        for name, needed in project.required_file_days(day):
            required.setdefault(name, []).append(needed)
    listing = landing.look({
        name: Interval(start=min(days), end=max(days)) if one else None for name, days in required.items()
    })
    listed, now = read_journal(settings, project).deliveries, postgres.journal.read_clock(settings)
    return missing(project, interval, landing, listing, listed, now)


def missing(
    project: Project, interval: Interval, landing: Landing, listing: Listing, listed: pl.DataFrame, now: datetime
) -> dict[date, dict[tuple[str, date], str]]:
    """Map each run date to the feeds and days of its missing files, with a sentence for each.

    A file is missing until the moment that its sidecar claims, and where there is only something that cannot be a
    delivery. A delivery in raw is not missing, even if its file was removed from landing to save space.

    Args:
        project: the project.
        interval: the run dates.
        landing: where sidecars are read.
        listing: what is there of the required feeds.
        listed: the deliveries of the journal (columns of `schemas.DELIVERIES`).
        now: the database's time.
    """
    landed = set(listed.filter(pl.col("verdict") != "refused", ~is_late()).select("feed", "day").iter_rows())
    there: dict[tuple[str, date], list[Found]] = {}
    for each in listing.found:
        there.setdefault((each.feed, each.day), []).append(each)
    found: dict[date, dict[tuple[str, date], str]] = {}
    for day in interval.days:
        for feed, needed in project.required_file_days(day):
            if (feed, needed) in landed:
                continue
            objects = there.get((feed, needed), [])
            whys = [_why_not_yet(landing, each, now) for each in objects]
            if objects and project.feeds[feed].parts:
                names = {str(each.part) for each, why in zip(objects, whys, strict=True) if not why}
                marked = (feed, needed) in listing.markers
                if incomplete := why_incomplete(project, feed, needed, names, marked=marked, now=now):
                    found.setdefault(day, {})[feed, needed] = _joined([incomplete, *filter(None, whys)])
            elif all(whys):  # also if there is no file at all
                looked = f"no file of feed {feed} for {needed} (looked for {landing.pattern(feed, needed)})"
                unusable = [each.why for each in listing.unusable if (each.feed, each.day) == (feed, needed)]
                found.setdefault(day, {})[feed, needed] = _joined([why for why in whys if why] or [looked, *unusable])
    return found


def _by_feed(missing: Mapping[tuple[str, date], str]) -> dict[str, str]:
    of_feeds: dict[str, list[str]] = {}
    for (feed, _), sentence in missing.items():
        of_feeds.setdefault(feed, []).append(sentence)
    return {feed: _joined(sentences) for feed, sentences in of_feeds.items()}


def _joined(sentences: Sequence[str]) -> str:
    more = f"; … and {len(sentences) - 5} more" if len(sentences) > 5 else ""
    return "; ".join(sentences[:5]) + more


def _why_not_yet(landing: Landing, found: Found, now: datetime) -> str | None:
    """Return a sentence about an object whose claim is ahead, or that is not whole yet; None for any other."""
    try:
        claim = claim_of(landing, found)
        if claim is not None:
            require_past(found.uri, claim, now)
        else:
            return why_not_whole(landing.project, found, landing, now)
    except NotYetError as error:
        return str(error)
    except DeliveryError:
        return None  # the object is read, and refused by name
    return None

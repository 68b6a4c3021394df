"""Decide from when a new delivery counts, and whether it waits for a person. Pure: the caller gives the moments.

`available_from` is computed once, when the delivery is landed. It is never later than the landing itself.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from include.core.errors import DeliveryError
from include.core.feeds import Feed
from include.core.project import Project

MAX_AHEAD = timedelta(hours=24)
"""How far a claim may be ahead of the database's clock. Until then the object waits; beyond it the claim is wrong."""


class NotYetError(DeliveryError):
    """A file that is needed has not arrived, or its claim says that it counts only later.

    Nobody has to do anything but wait, so `dags/` retries the step.
    """


@dataclass(frozen=True)
class Earlier:
    """A delivery of the same feed and day, or of the same snapshot, that is in the journal."""

    delivery_id: str
    key: str
    available_from: datetime
    refused: bool = False

    @property
    def other_rows(self) -> str:
        """Why an extraction waits whose query should have given the rows of this one."""
        return (
            f"another run extracted other rows, {self.delivery_id}, at the same time, and both count from the cutoff; "
            "a query that binds :as_of, or that is immutable, gives the same rows whenever it is run"
        )


def available_from(
    project: Project, feed: str, day: date, uri: str, *, claim: datetime | None, modified_at: datetime, now: datetime
) -> datetime:
    """Return the moment (UTC) from which an object counts.

    1. The supplier's claim, if there is one.
    2. Else, if the first run date that needs the object is before `live_from`: `arrives` (by default the cutoff) on
       that run date, so that the order and time of copying history mean nothing.
    3. Else the object's own time. A snapshot whose path says no day has no other.

    Args:
        project: the project.
        feed: the name of the feed.
        day: the day of the object.
        uri: the object, for messages.
        claim: `available_at` of the sidecar, None without one.
        modified_at: the object's own time.
        now: the database's time of the landing.

    Raises:
        NotYetError: the claim is up to 24 hours ahead.
        DeliveryError: the claim is further ahead, or there is neither a claim nor `live_from`.
    """
    declared = project.feeds[feed]
    if claim is not None:
        require_past(uri, claim, now)
        return claim
    if not declared.dated:
        return min(modified_at, now)
    if declared.live_from is None:
        raise DeliveryError(
            f"{uri}: it has no sidecar, so nothing says from when it counts; let the supplier deliver sidecars, or "
            f"declare in project.yaml from which run date on feed {feed} is live: "
            f"feeds.{feed}.live_from: {now:%Y-%m-%d}"
        )
    usual = moment_of_history(project, feed, day)
    return min(modified_at if usual is None else usual, now)


def moment_of_history(project: Project, feed: str, day: date) -> datetime | None:
    """Return from when an object without a claim counts whose first run date is before `live_from`, else None."""
    declared = project.feeds[feed]
    return usual_moment(project, feed, day) if declared.dated and is_history(declared, day) else None


def usual_moment(project: Project, feed: str, day: date) -> datetime:
    """Return the time (UTC) at which a feed arrives, or else the cutoff, of the first run date that needs the day."""
    declared = project.feeds[feed]
    return project.at(declared.first_run_date(day), declared.arrives or project.cutoff)


def is_history(feed: Feed, day: date) -> bool:
    """Return whether a day is first needed before the feed's `live_from`, so that times of objects mean nothing."""
    return feed.live_from is not None and feed.first_run_date(day) < feed.live_from


def require_past(uri: str, claim: datetime, now: datetime) -> None:
    """Raise if a claim is ahead of the database's clock.

    Raises:
        NotYetError: it is up to 24 hours ahead.
        DeliveryError: it is further ahead.
    """
    if claim - now > MAX_AHEAD:
        raise DeliveryError(
            f"{uri}: its sidecar claims available_at {claim:%Y-%m-%dT%H:%M:%SZ}, more than 24 hours after now "
            f"({now:%Y-%m-%dT%H:%M:%SZ}); correct the sidecar"
        )
    if claim > now:
        raise NotYetError(
            f"{uri}: its sidecar claims available_at {claim:%Y-%m-%dT%H:%M:%SZ}, which is still ahead; it is landed "
            "after that moment"
        )


def reason_to_hold(
    project: Project,
    feed: str,
    day: date,
    key: str,
    moment: datetime,
    earlier: Sequence[Earlier],
    now: datetime,
    *,
    is_live: bool = False,
) -> str | None:
    """Return why a delivery waits for a decision of a person; None if it does not.

    It waits if it would replace a delivery that became available after it, which a supplier's wrong clock or a copy
    tool can cause, or if it overwrites an object of a day more than `corrections_days` after the object was due. Of
    history neither makes it wait until a live run date is prepared, because it may be copied in any order. At any time
    it waits if another object counts from the same moment, unless its own name says that it is newer.

    Args:
        project: the project.
        feed: the name of the feed.
        day: the day of the delivery.
        key: its object.
        moment: its `available_from`.
        earlier: the deliveries of the same feed and day, or of the same snapshot, that are landed or refused.
        now: the database's time of the landing.
        is_live: whether a run date from the feed's `live_from` on is prepared.
    """
    declared = project.feeds[feed]
    counting = [each for each in earlier if not each.refused]
    for each in counting:
        if each.key == key or each.available_from != moment:
            continue
        same = f"it counts from the same moment as {each.delivery_id}, {moment:%Y-%m-%d %H:%M:%S} UTC"
        if declared.versions is None:
            return (
                f"{same}, and nothing says which one is newer; withdraw one of them, or declare that the greater name "
                f"is newer: feeds.{feed}.versions: by_name"
            )
        if name_order(each.key) > name_order(key):
            return f"{same}, whose greater name says that it is newer; withdraw this one"
    if is_history(declared, day) and not is_live:
        return None
    if (
        declared.source is not None and declared.source.claims
    ):  # its day is extracted once, unless two runs do so at once
        return next((each.other_rows for each in counting if each.key == key), None)
    newest = max(counting, key=lambda each: each.available_from, default=None)
    if newest is not None and newest.available_from > moment:
        follows = (
            "which it would replace; once accepted, it counts only if that one is withdrawn"
            if declared.correction == "replace"
            else "to which it would be added; once accepted, it counts only for keys that no newer one has"
        )
        return (
            f"it says that it became available at {moment:%Y-%m-%d %H:%M:%S} UTC, before {newest.delivery_id} "
            f"({newest.available_from:%Y-%m-%d %H:%M:%S} UTC), {follows}"
        )
    age = (project.day_of(now) - day).days - declared.delay_days  # the plan of a day may change until that day
    if declared.dated and age > declared.corrections_days and any(each.key == key for each in earlier):
        allowed = declared.corrections_days
        return f"the object was overwritten {age} days after it was due, and corrections_days is {allowed}"
    return None


def name_order(key: str) -> list[tuple[int, str]]:
    """Return the order of names, in which numbers are compared as numbers."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", key)]

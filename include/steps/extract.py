"""extract: run the queries of feeds that have a source, and take each result into raw tables as a delivery.

A day is extracted when a run date needs it and it has no delivery. Days that may still change are asked again for
`corrections_days`; equal rows are no new delivery. How a query is run is in `io/sources`.
"""

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import polars as pl

from include.core import schemas
from include.core.erasure import without_erased
from include.core.errors import ActionRequiredError, DeliveryError, UnreachableError, UnreadableError
from include.core.extraction import checksum, first_cutoff, in_order, key_of, values_of
from include.core.feeds import Feed
from include.core.intake import NotYetError, available_from
from include.core.interval import BLOCK_DAYS, Interval
from include.core.project import Project
from include.core.records import Extracted
from include.core.settings import Settings
from include.io import postgres
from include.io.hash_key import read_hash_key
from include.io.journal import read_journal
from include.io.landing import Found
from include.io.sources.queries import run_query, try_query
from include.io.tables import Tables
from include.steps.entries import (
    Entered,
    Taken,
    alerts_about,
    delivery_id_of,
    enter,
    held_deliveries,
    write_raw,
)

log = logging.getLogger(__name__)

MAX_NAMED = 50
BLOCK_BYTES = 256_000_000
"""Rows that are held before they are written: at most so many bytes, and one delivery more."""

One = tuple[str, date]
"""A feed and a day."""


def extract(project: Project, interval: Interval, settings: Settings) -> Extracted:
    """Extract what the run dates of the interval read and what may have changed since it was extracted.

    What the run dates wait for is asked first. A single run date that lacks it asks nothing else, so that waiting is
    cheap. If other days have changed, it is asked again after them, unless its rows claim the cutoff: a run date knows
    the corrections that its own run found. In a longer interval, a day that cannot be extracted does not keep others
    from it.

    Raises:
        NotYetError: a query gave no row for a day that a run date waits for.
        UnreachableError: the database of such a day does not answer.
        DeliveryError: such a day cannot be extracted. All errors name the days; what could be extracted was entered.
    """
    asking = _Asking(project, settings, Entered(read_journal(settings, project)))
    covered = _covered(asking.total.known.deliveries)
    due = [one for one in _due(project, interval) if one not in covered]
    read: list[Taken] = []
    if interval.start == interval.end:
        read = list(asking.read(due))
        _require(project, interval, asking)
    rest = [*_unextracted(project, interval, covered), *_changing(project, interval, covered, asking.now)]
    asking.ask([one for one in dict.fromkeys(rest) if one not in set(due)])
    if asking.total.new:
        read = [taken for taken in read if _claims(project.feeds[taken.found.feed])]
    asking.enter(read)
    entered = {(taken.found.feed, taken.found.day) for taken in read}
    asking.ask([one for one in due if one not in entered])
    held = _alert(project, interval, settings, asking.total.known.deliveries)
    _require(project, interval, asking)
    total, left = asking.total, [problem.sentence for problem in asking.left.values()]
    for sentence in left[:MAX_NAMED]:
        log.warning("not extracted: %s", sentence)
    log.info("%s: %d new deliveries with %d rows, %d as before", interval, total.new, total.rows, asking.known)
    return Extracted(
        interval=interval,
        rows=total.rows,
        new=total.new,
        known=asking.known,
        left=tuple(left[:MAX_NAMED]),
        held=tuple(held[:MAX_NAMED]),
    )


def missing_rows(project: Project, run_date: date, settings: Settings) -> dict[str, str]:
    """Map each feed whose query gave no row yet to what the run date waits for."""
    covered = _covered(read_journal(settings, project).deliveries)
    missing: dict[str, list[str]] = {}
    for feed, day in reversed(_due(project, Interval.of(run_date))):
        if (feed, day) not in covered:
            missing.setdefault(feed, []).append(str(day))
    return {feed: f"the query of feed {feed} gave no row for {', '.join(days)}" for feed, days in missing.items()}


def failing_by_day(project: Project, interval: Interval, settings: Settings) -> dict[date, list[str]]:
    """Map each run date that waits for a day of a query to a sentence for each such query that cannot be run.

    Each query is tried once, for the first of these days, and no row is read.
    """
    covered = _covered(read_journal(settings, project).deliveries)
    waiting: dict[str, list[date]] = {}
    first: dict[str, date] = {}
    for run_date in interval.days:
        for feed, day in project.required_days(run_date):
            if feed in project.sql_feeds and (feed, day) not in covered:
                first.setdefault(feed, day)
                if run_date not in waiting.setdefault(feed, []):
                    waiting[feed].append(run_date)
    failing: dict[date, list[str]] = {}
    for feed, run_dates in waiting.items():
        declared = project.feeds[feed]
        assert declared.source is not None
        try:
            values = values_of(project, feed, first[feed])
            try_query(declared, values, settings, project.timezone)
        except (UnreachableError, UnreadableError) as error:
            why = str(error).removeprefix(": ")
            sentence = f"feed {feed} cannot be extracted (connection {declared.source.connection}): {why}"
            for run_date in run_dates:
                failing.setdefault(run_date, []).append(sentence)
    return failing


@dataclass(frozen=True)
class _Problem:
    """Why a feed and day was not extracted; `error` is the class of error that it is for a run date that needs it."""

    sentence: str
    error: type[ActionRequiredError]


@dataclass
class _Asking:
    """The queries of one run of the step: what was entered, what gave the known rows, and what was not extracted."""

    project: Project
    settings: Settings
    total: Entered
    known: int = 0
    left: dict[One, _Problem] = field(default_factory=dict)
    _down: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.now = postgres.journal.read_clock(self.settings)
        self._tables = Tables(self.settings)
        self._key = read_hash_key(self.settings, self.project.name)

    def ask(self, ones: Sequence[One]) -> None:
        """Extract these feeds and days, and enter what has rows."""
        block: list[Taken] = []
        for taken in self.read(ones):
            block.append(taken)
            if len(block) >= BLOCK_DAYS or sum(item.found.size for item in block) >= BLOCK_BYTES:
                self.enter(block)
                block = []
        self.enter(block)

    def read(self, ones: Sequence[One]) -> Iterator[Taken]:
        """Yield the rows of these feeds and days; keep in `left` what is wrong with the others."""
        for one in ones:
            try:
                yield self._extract(*one)
            except NotYetError as error:
                self.left[one] = _Problem(str(error), NotYetError)
            except UnreachableError as error:
                self.left[one] = _Problem(str(error), UnreachableError)
            except DeliveryError as error:
                self.left[one] = _Problem(str(error), DeliveryError)

    def enter(self, block: list[Taken]) -> None:
        """Write rows to raw tables, and enter them into the journal, unless it has them."""
        ids = set(self.total.known.deliveries["delivery_id"])
        fresh = [item for item in block if item.delivery_id not in ids]
        self.known += len(block) - len(fresh)
        if fresh:
            write_raw(self.project, self._tables, fresh, self._key)
            self.total = enter(self.project, self.total, fresh, [], self.settings, self.now, self._key)

    def _extract(self, feed: str, day: date) -> Taken:
        """Run the query of a feed for a day.

        Raises:
            NotYetError: it gave no row, or the moment up to which it asks is still ahead.
            UnreachableError: the database does not answer; it is not tried again for other days.
            DeliveryError: query or result are wrong.
        """
        declared = self.project.feeds[feed]
        assert declared.source is not None
        connection, key = declared.source.connection, key_of(feed, declared, day)
        uri = f"{key} (connection {connection})"
        cutoff = first_cutoff(self.project, feed, day)
        if _claims(declared) and cutoff > self.now:
            raise NotYetError(f"{uri}: it is extracted after its cutoff, {cutoff:%Y-%m-%d %H:%M} UTC")
        if connection in self._down:
            raise UnreachableError(f"{uri}: {self._down[connection]}")
        asked = postgres.journal.read_clock(self.settings)  # of two runs at once, the one that asked later is newer
        try:
            values, timezone = values_of(self.project, feed, day), self.project.timezone
            records = in_order(run_query(declared, values, self.settings, timezone), declared)
        except UnreachableError as error:
            self._down[connection] = f"the database does not answer ({error})"
            raise UnreachableError(f"{uri}: {self._down[connection]}") from None
        except UnreadableError as error:
            raise DeliveryError(f"{uri}{error}") from None
        except (Exception, pl.exceptions.PanicException) as error:  # noqa: BLE001 (polars raises the last as BaseException)
            why = f"{uri}: the result cannot be read ({type(error).__name__}); cast its columns in source.query"
            raise DeliveryError(why) from None  # the text of the error may have a value of a row
        if records.is_empty():
            raise NotYetError(f"{uri}: the query gave no row for {day}")
        _require_day(self.project, feed, day, records)
        digest, size = checksum(records)
        ids, newest = self._earlier(feed, day, key)
        claim = cutoff if _claims(declared) else None
        moment = available_from(self.project, feed, day, uri, claim=claim, modified_at=asked, now=asked)
        found = Found(feed, day, key, uri, size, asked)
        kept = without_erased(declared, records, self.total.known.erased, self._key)
        dropped = records.height - kept.height
        return Taken(found, delivery_id_of(key, digest, newest, ids), digest, moment, kept, erased=dropped)

    def _earlier(self, feed: str, day: date, key: str) -> tuple[Collection[str], tuple[str, str] | None]:
        """Return all delivery ids, and id and checksum of the newest delivery of this key."""
        deliveries = self.total.known.deliveries
        same = deliveries.filter(pl.col("feed") == feed, pl.col("key") == key)
        newest = same.select("delivery_id", "sha256").rows()[-1:]
        return set(deliveries["delivery_id"]), newest[0] if newest else None


def _claims(feed: Feed) -> bool:
    return feed.source is not None and feed.source.claims


def _covered(deliveries: pl.DataFrame) -> set[One]:
    """Return what has a delivery. A day whose deliveries were refused or withdrawn is asked again."""
    counting = deliveries.filter(~pl.col("verdict").is_in(["refused", "withdrawn"]))
    return set(counting.select("feed", "day").iter_rows())


def _due(project: Project, interval: Interval) -> list[One]:
    """Return what the run dates wait for, each once although several of them may wait for it, the newest first."""
    days = reversed(interval.days)
    ones = (one for day in days for one in project.required_days(day) if one[0] in project.sql_feeds)
    return list(dict.fromkeys(ones))


def _unextracted(project: Project, interval: Interval, covered: Collection[One]) -> Iterator[One]:
    """Yield what the run dates may read and has no delivery, the newest first."""
    for name, feed in project.sql_feeds.items():
        if feed.is_snapshot:
            days = interval.days if feed.dated else []
        else:
            first, last = feed.window(interval.start).start, feed.window(interval.end).end
            days = [day for day in Interval(start=first, end=last).days if feed.has_file_on(day)]
        yield from ((name, day) for day in reversed(days) if day >= project.first_day and (name, day) not in covered)


def _changing(project: Project, interval: Interval, covered: Collection[One], now: datetime) -> Iterator[One]:
    """Yield what may have other rows by now: the state of now, and recent days that no cutoff or promise fixes."""
    today = project.day_of(now)
    for name, feed in project.sql_feeds.items():
        if not feed.dated:
            yield name, today
        elif not _claims(feed):
            newest, last = feed.needed_day(today), feed.needed_day(interval.end)
            recent = [newest - timedelta(days=n) for n in range(feed.ahead_days + feed.corrections_days + 1)]
            yield from ((name, day) for day in recent if day <= last and (name, day) in covered)


def _require_day(project: Project, feed: str, day: date, records: pl.DataFrame) -> None:
    """Refuse a result with more rows of another date than declared; `validate` quarantines the others."""
    declared = project.feeds[feed]
    wrong = schemas.too_many_of_another_date(records, declared, day, project.timezone)
    if not wrong.is_empty():
        raise DeliveryError(
            f"{key_of(feed, declared, day)}: {wrong.height} of {records.height} rows have a {declared.day_column} that "
            f"is not on {day} in {project.timezone}; correct the WHERE of feeds.{feed}.source.query"
        )


def _alert(project: Project, interval: Interval, settings: Settings, deliveries: pl.DataFrame) -> list[str]:
    """Raise an alert for each feed with deliveries that wait for a decision; return their sentences."""
    of_feeds = deliveries.filter(pl.col("feed").is_in(list(project.sql_feeds)))
    held = held_deliveries(project, of_feeds)
    alerts, day = alerts_about(held, interval.end), interval.end
    postgres.alerts.raise_alerts(settings, project.name, alerts, scope="extract", looked=[day], as_of_now=True)
    return [sentence for sentences in held.values() for sentence in sentences]


def _require(project: Project, interval: Interval, asking: _Asking) -> None:
    """Raise if a run date waits for a day that was not extracted."""
    by_day: dict[date, str] = {}
    kinds: set[type[ActionRequiredError]] = set()
    for day in interval.days:
        problems = [asking.left[one] for one in project.required_days(day) if one in asking.left]
        if problems:
            by_day[day] = "; ".join(problem.sentence for problem in problems)
            kinds |= {problem.error for problem in problems}
    for kind in (DeliveryError, UnreachableError, NotYetError):  # the first needs a person, the others another try
        if kind in kinds:
            raise kind.of_days(by_day)

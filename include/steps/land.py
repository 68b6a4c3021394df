"""land: write deliveries to `raw_<project>__<feed>`, with personal data protected, and enter them into the journal.

This step finds what is wrong with a file as a whole; `validate` finds what is wrong with its values. An object that
cannot be landed is refused by name and does not affect the others. How one object is read is in `objects.py`, which
files a run date waits for in `arrivals.py`.
"""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta

import polars as pl

from include.core.errors import DeliveryError
from include.core.intake import NotYetError
from include.core.interval import Interval
from include.core.journal import Known
from include.core.parts import sets_of
from include.core.project import Project
from include.core.records import Landed, Refusal
from include.core.settings import Settings
from include.core.stack import is_late
from include.io import postgres
from include.io.hash_key import read_hash_key
from include.io.journal import read_journal
from include.io.landing import Found, Landing, Listing
from include.io.postgres.journal import SeenObject
from include.io.tables import Tables
from include.steps.arrivals import missing
from include.steps.entries import Entered, NotLanded, Taken, alerts_about, enter, held_deliveries, write_raw
from include.steps.late_rows import with_late_rows, without_file
from include.steps.late_sidecars import contradictions
from include.steps.objects import is_landed, read_object
from include.steps.sets import SetReader, changed_slots, without_parts

log = logging.getLogger(__name__)

CHUNK_FILES = 300  # files read at a time, a quarter of a year of three feeds: this limits the memory of a range run
CHUNK_BYTES = 256_000_000
"""How many bytes of rows are kept before they are written: each of many files may be as large as its limit."""
MAX_NAMED = 50
"""How many refused or held objects the log and the record name: thousands would be megabytes, each night again."""


def land(project: Project, interval: Interval, settings: Settings, *, sweep: bool = False) -> Landed:
    """Land every new object of the days in reach: what the features of the run dates may read, and corrections.

    Corrections are looked for `corrections_days` further back. From when each counts is in its `available_from`. An
    object that was landed and has not changed since is left alone. An object that cannot be landed stays where it is,
    and is tried again by the next run. A delivery that needs a decision of a person is entered as held, and an alert
    says so.

    Args:
        project: the project.
        interval: the run dates.
        settings: places and connections.
        sweep: look at all days up to the end of the interval, and require nothing. What nightly runs do not reach is
            found, such as a correction of last year.

    Raises:
        NotYetError: a file of a required feed has not arrived, or its claim is still ahead. Nothing was landed.
        DeliveryError: a file of a required feed cannot be landed. It names the file, the line and what to do. All other
            objects were landed.
    """
    landing, tables, known = Landing(project, settings), Tables(settings), read_journal(settings, project)
    reach = {name: None if sweep else _in_reach(project, name, interval, known) for name in project.file_feeds}
    listing = landing.look(reach)
    last = {name: feed.needed_day(interval.end) for name, feed in project.feeds.items()}
    found = [f for f in listing.found if project.feeds[f.feed].is_snapshot or f.day <= last[f.feed]]
    now, key = postgres.journal.read_clock(settings), read_hash_key(settings, project.name)
    if not sweep:
        _require_files(missing(project, interval, landing, listing, known.deliveries, now))
    listed_keys = {each.key for each in (*found, *listing.markers.values())}
    seen = postgres.journal.read_seen_objects(settings, project.name, None if sweep else listed_keys)
    postgres.journal.forget_objects(settings, project.name, _refused_and_gone(seen, listing, reach))
    changed = changed_slots([f for f in found if f.part], listing.markers.values(), seen)
    fresh = [f for f in found if ((f.feed, f.day) in changed if f.part else not is_landed(seen.get(f.key), f))]

    total = Entered(known)
    waiting = _by_slot(sorted(fresh, key=lambda f: (f.day, f.feed, f.key)))
    while waiting:
        landed = set(total.known.deliveries["delivery_id"])
        sets = SetReader(project, landing, tables, total.known, sets_of(total.known.entries), seen, now, key)
        taken, left, waiting = _take_some(sets, waiting, listing)
        taken, ties = _without_ties(project, taken, landed)
        taken, alike = without_parts(project, tables, taken, total.known.deliveries, key)
        taken = with_late_rows(project, taken, landed)
        write_raw(project, tables, taken, key)
        total = enter(project, total, taken, [*left, *ties, *alike], settings, now, key)
        del taken  # before the next ones are read
    refused = [each.refusal for each in total.left if not each.waits]
    refused += [Refusal(**vars(each)) for each in listing.unusable if each.day <= last[each.feed]]
    refused.sort(key=lambda each: each.day, reverse=True)  # only the first ones are named, so tonight's come first
    listed = total.known.deliveries
    held = held_deliveries(project, listed)
    for feed, sentences in contradictions(project, landing, found, seen, total.known).items():
        held.setdefault(feed, []).extend(sentences)
    asked = [text for sentences in held.values() for text in sentences]
    _log("waits", [each.why for each in total.left if each.waits], logging.INFO)
    _log("refused", [refusal.why for refusal in refused])
    _log("held", asked)
    _log("not used", without_file(listed, reach))
    alerts, day = alerts_about(held, interval.end), interval.end
    postgres.alerts.raise_alerts(settings, project.name, alerts, scope="land", looked=[day], as_of_now=True)
    log.info(
        "%s: %d new deliveries with %d rows, %d known, %d refused, %d held",
        interval, total.new, total.rows, len(found) - len(fresh), len(refused), len(asked),
    )  # fmt: skip
    if not sweep:
        _require_landed(project, interval, total.left, listed)
    return Landed(
        interval=interval,
        rows=total.rows,
        new=total.new,
        known=len(found) - len(fresh),
        refused=tuple(refused[:MAX_NAMED]),
        held=tuple(asked[:MAX_NAMED]),
        unnamed=len(refused[MAX_NAMED:]) + len(asked[MAX_NAMED:]),
    )


def _in_reach(project: Project, name: str, interval: Interval, known: Known) -> Interval | None:
    """Return the days of a feed whose objects the run dates look at; None for all.

    The state of a snapshot that the first run date knows may be of any day: days are looked at from the newest state
    on that is landed and not after it, so that no run date in between misses one. Tomorrow's may have come already.
    """
    feed = project.feeds[name]
    if not feed.is_snapshot:
        first = feed.window(interval.start).start
        return Interval(start=_back(first, feed.corrections_days), end=feed.needed_day(interval.end))
    of_feed = known.deliveries.filter(pl.col("feed") == name, pl.col("day") <= interval.start)
    if not feed.dated or of_feed.is_empty():
        return None
    first = min(max(of_feed["day"].to_list()), _back(interval.start, feed.corrections_days))
    return Interval(start=first, end=interval.end + timedelta(days=1))


def _refused_and_gone(
    seen: Mapping[str, SeenObject], listing: Listing, reach: Mapping[str, Interval | None]
) -> list[str]:
    """Return the keys of refused objects that were looked for and are not there any more."""
    there = {each.key for each in (*listing.found, *listing.markers.values())}
    refused = [each for each in seen.values() if each.why and each.feed in reach and each.key not in there]
    return [each.key for each in refused if (days := reach[each.feed]) is None or days.start <= each.day <= days.end]


def _back(day: date, days: int) -> date:
    return day - timedelta(days=min(days, (day - date.min).days))


def _log(what: str, sentences: Sequence[str], level: int = logging.WARNING) -> None:
    for sentence in sentences[:MAX_NAMED]:
        log.log(level, "%s: %s", what, sentence)
    if sentences[MAX_NAMED:]:
        log.log(level, "%s: … and %d more", what, len(sentences[MAX_NAMED:]))


def _first(sentences: Sequence[str]) -> list[str]:
    more = [f"… and {len(sentences) - 10} more"] if len(sentences) > 10 else []
    return [*sentences[:10], *more]


def _require_files(missing: Mapping[date, Mapping[tuple[str, date], str]]) -> None:
    """Raise if a run date lacks the file of a required feed."""
    if missing:
        sentences = [sentence for of_day in missing.values() for sentence in of_day.values()]
        by_day = {day: "; ".join(of_day.values()) for day, of_day in missing.items()}
        raise NotYetError([*_first(sentences), "Once they are there, run the same step again."], by_day)


def _require_landed(project: Project, interval: Interval, left: Sequence[NotLanded], listed: pl.DataFrame) -> None:
    """Raise if a day needs an object that was not landed, and no delivery covers its feed and day."""
    covered = set(listed.filter(~is_late()).select("feed", "day").iter_rows())
    refused = {(each.found.feed, each.found.day) for each in left}
    waiting = {(each.found.feed, each.found.day) for each in left if each.waits}
    fatal: dict[date, list[str]] = {}
    lacks: set[tuple[str, date]] = set()
    for day in interval.days:
        needed = (set(project.required_days(day)) - covered) & refused
        if needed:
            fatal[day] = [each.why for each in left if (each.found.feed, each.found.day) in needed]
            lacks |= needed
    if fatal:
        sentences = [*dict.fromkeys(why for whys in fatal.values() for why in whys)]
        by_day = {day: "; ".join(_first(whys)) for day, whys in fatal.items()}
        raise (NotYetError if lacks <= waiting else DeliveryError)(_first(sentences), by_day)


def _by_slot(found: Iterable[Found]) -> list[list[Found]]:
    """Return the objects of each feed and day."""
    slots: dict[tuple[str, date], list[Found]] = {}
    for each in found:
        slots.setdefault((each.feed, each.day), []).append(each)
    return list(slots.values())


def _take_some(
    sets: SetReader, waiting: Sequence[list[Found]], listing: Listing
) -> tuple[list[Taken], list[NotLanded], list[list[Found]]]:
    """Read objects until they are many, or have many bytes; return those that remain too.

    The objects of a feed and day stay together, because they are compared. If they have too many bytes, those that
    are read later are compared with those that are landed, and one that is older than these waits for a decision.
    """
    project, known = sets.project, sets.known
    columns = known.deliveries.select("feed", "day", "key", "delivery_id", "sha256")
    newest = {
        (*project.slot(feed, day), key): (delivery_id, sha) for feed, day, key, delivery_id, sha in columns.iter_rows()
    }
    ids = set(known.deliveries["delivery_id"])
    taken: list[Taken] = []
    left: list[NotLanded] = []
    files = size = 0
    for n, objects in enumerate(waiting):
        feed, day = objects[0].feed, objects[0].day
        if files >= CHUNK_FILES or size >= CHUNK_BYTES:
            return taken, left, [*waiting[n:]]
        if objects[0].part:
            of_set, wrong = sets.take(objects, listing.markers.get((feed, day)))
            taken, left = [*taken, *of_set], [*left, *wrong]
            size += sum(item.bytes for item in of_set)
        for at, found in enumerate([] if objects[0].part else objects):
            if at and size >= CHUNK_BYTES:
                return taken, left, [objects[at:], *waiting[n + 1 :]]
            before = newest.get((*project.slot(feed, day), found.key))
            try:
                taken.append(read_object(project, found, sets.landing, sets.now, before, ids, known.erased, sets.key))
                size += taken[-1].bytes
            except DeliveryError as error:
                left.append(NotLanded(found, str(error), waits=isinstance(error, NotYetError)))
        files += len(objects)
    return taken, left, []


def _without_ties(project: Project, taken: list[Taken], landed: Collection[str]) -> tuple[list[Taken], list[NotLanded]]:
    """Refuse objects of one feed and day with the same `available_from`, of which nothing says which one is newer.

    Objects that are landed already and only have another time by now, as after a move of the landing, are left alone.
    """
    same: dict[tuple[str, date | None, datetime], list[Taken]] = {}
    for item in taken:
        if item.delivery_id in landed:
            continue
        same.setdefault((*project.slot(item.found.feed, item.found.day), item.available_from), []).append(item)
    ties = []
    for (feed, day, moment), items in same.items():
        if project.feeds[feed].versions is None and len({item.sha256 for item in items}) > 1:
            uris = ", ".join(sorted(item.found.uri for item in items)[:10])
            why = (
                f"{len(items)} files of feed {feed}{f' for {day}' if day else ''} have the same time, "
                f"{moment:%Y-%m-%d %H:%M:%S} UTC, so nothing says which one is newer: {uris}; remove all but one, or "
                f"declare that the greater name is newer: feeds.{feed}.versions: by_name"
            )
            ties += [NotLanded(item.found, why) for item in items]
    wrong = {tie.found.uri for tie in ties}
    return [item for item in taken if item.found.uri not in wrong], ties

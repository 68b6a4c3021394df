"""land: write deliveries to `raw_<project>__<feed>`, with personal data protected, and enter them into the journal.

This step finds what is wrong with a file as a whole; `validate` finds what is wrong with its values. An object that
cannot be landed is refused by name and does not affect the others.
"""

import hashlib
import hmac
import logging
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TypeVar

import polars as pl

from include.core import schemas
from include.core.errors import DeliveryError, UnreadableError
from include.core.feeds import Feed
from include.core.formats import values
from include.core.formats.unpack import too_large
from include.core.intake import Earlier, NotYetError, available_from, reason_to_hold, require_past
from include.core.interval import Interval
from include.core.journal import SET_ASIDE, Entry
from include.core.names import raw_table
from include.core.project import Project
from include.core.records import Alert, Landed, Refusal
from include.core.settings import Settings
from include.io import postgres
from include.io.journal import read_journal
from include.io.landing import Found, Landing, Sidecar, sha256
from include.io.postgres.journal import SeenObject
from include.io.tables import Scope, Tables

log = logging.getLogger(__name__)

T = TypeVar("T")

CHUNK_FILES = 300  # files read at a time, a quarter of a year of three feeds: this limits the memory of a range run
UNREADABLE = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
"""Errors about one object. Any other error while reading bytes is about the storage, and ends the step."""
HELD = "delivery_held"
"""The rule of the alert about deliveries that wait for a decision."""


@dataclass(frozen=True)
class _Refused:
    """An object that is not landed now, and why. One that `waits` is landed by a later run without anybody's doing."""

    found: Found
    why: str
    waits: bool = False

    @property
    def refusal(self) -> Refusal:
        """The record for other steps."""
        return Refusal(feed=self.found.feed, day=self.found.day, uri=self.found.uri, why=self.why)


@dataclass(frozen=True)
class _Taken:
    """An object that was read and is valid; `records` has all declared columns as text, not protected yet."""

    found: Found
    delivery_id: str
    sha256: str
    available_from: datetime
    records: pl.DataFrame


def land(project: Project, interval: Interval, settings: Settings) -> Landed:
    """Land every new object that the features of a run date up to the end of the interval may read.

    Corrections are landed too; from when each counts is in its `available_from`. An object that was landed and has not
    changed since is left alone. An object that cannot be landed stays where it is, and is tried again by the next run.
    A delivery that needs a decision of a person is entered as held, and an alert says so.

    Raises:
        NotYetError: a file of a required feed has not arrived, or its claim is still ahead. Nothing was landed.
        DeliveryError: a file of a required feed cannot be landed. It names the file, the line and what to do. All other
            objects were landed.
    """
    landing, tables = Landing(project, settings), Tables(settings)
    found = [
        f for name, feed in project.feeds.items() for f in landing.find(name) if f.day <= feed.needed_day(interval.end)
    ]
    listed = read_journal(settings, project).deliveries
    now, key = postgres.journal.read_clock(settings), settings.hash_key.get_secret_value().encode()
    _require_files(project, interval, landing, found, listed, now)
    seen = postgres.journal.read_seen_objects(settings, project.name)
    fresh = [f for f in found if not _is_landed(seen.get(f.key), f)]

    total = _Entered()
    for chunk in _chunks(fresh):
        taken, left = _take(project, chunk, landing, listed, now)
        taken, ties = _without_ties(project, taken)
        _write(project, tables, taken, key)
        total += _enter(project, taken, [*left, *ties], settings, now)
    for each in total.left:
        log.log(
            logging.INFO if each.waits else logging.WARNING, "%s: %s", "waits" if each.waits else "refused", each.why
        )
    listed = read_journal(settings, project).deliveries
    held = _held(project, listed)
    for sentence in (text for sentences in held.values() for text in sentences):
        log.warning("held: %s", sentence)
    postgres.alerts.raise_alerts(settings, project.name, _alerts(held, interval.end))
    refused = tuple(each.refusal for each in total.left if not each.waits)
    known = len(found) - len(fresh)
    log.info(
        "%s: %d new deliveries with %d rows, %d known, %d refused, %d held",
        interval, total.new, total.rows, known, len(refused), sum(map(len, held.values())),
    )  # fmt: skip
    _require_landed(project, interval, total.left, listed)
    return Landed(
        interval=interval,
        rows=total.rows,
        new=total.new,
        known=known,
        refused=refused,
        held=tuple(text for sentences in held.values() for text in sentences),
    )


def missing_files(project: Project, run_date: date, settings: Settings) -> dict[str, str]:
    """Map each feed whose file is missing to a sentence about what the run date waits for."""
    return _missing_in_landing(project, Interval.of(run_date), settings).get(run_date, {})


def missing_by_day(project: Project, interval: Interval, settings: Settings) -> dict[date, list[str]]:
    """Map each run date that waits to its sentences. For several days, each feed is listed only once."""
    return {day: [*feeds.values()] for day, feeds in _missing_in_landing(project, interval, settings).items()}


def _missing_in_landing(project: Project, interval: Interval, settings: Settings) -> dict[date, dict[str, str]]:
    landing, one = Landing(project, settings), interval.start == interval.end
    required = {name: needed for day in interval.days for name, needed in project.required(day).items()}
    found = [file for name, needed in required.items() for file in landing.find(name, needed if one else None)]
    listed, now = read_journal(settings, project).deliveries, postgres.journal.read_clock(settings)
    return _missing(project, interval, landing, found, listed, now)


def _missing(
    project: Project, interval: Interval, landing: Landing, found: list[Found], listed: pl.DataFrame, now: datetime
) -> dict[date, dict[str, str]]:
    """Map each run date to its missing feeds, with a sentence for each.

    A file is missing until the moment that its sidecar claims. A delivery in raw is not missing, even if its file was
    removed from landing to save space.
    """
    landed = set(listed.filter(pl.col("verdict") != "refused").select("feed", "day").iter_rows())
    there: dict[tuple[str, date], list[Found]] = {}
    for each in found:
        there.setdefault((each.feed, each.day), []).append(each)
    missing: dict[date, dict[str, str]] = {}
    for day in interval.days:
        for feed, needed in project.required(day).items():
            if (feed, needed) in landed:
                continue
            whys = [_why_not_yet(landing, each, now) for each in there.get((feed, needed), [])]
            if all(whys):  # also if there is no file at all
                waits = "; ".join(why for why in whys if why)
                sentence = f"no file of feed {feed} for {needed} (looked for {landing.pattern(feed, needed)})"
                missing.setdefault(day, {})[feed] = waits or sentence
    return missing


def _why_not_yet(landing: Landing, found: Found, now: datetime) -> str | None:
    """Return a sentence about an object whose claim is still ahead, None for any other."""
    try:
        claim = _claim(landing, found)
        if claim is not None:
            require_past(found.uri, claim, now)
    except NotYetError as error:
        return str(error)
    except DeliveryError:
        return None  # the object is read, and refused by name
    return None


def _require_files(
    project: Project, interval: Interval, landing: Landing, found: list[Found], listed: pl.DataFrame, now: datetime
) -> None:
    missing = _missing(project, interval, landing, found, listed, now)
    if missing:
        sentences = [sentence for of_day in missing.values() for sentence in of_day.values()]
        more = f"\n… and {len(sentences) - 10} more" if len(sentences) > 10 else ""
        listing = "\n".join(sentences[:10])
        by_day = {day: "; ".join(of_day.values()) for day, of_day in missing.items()}
        raise NotYetError(f"{listing}{more}\nOnce they are there, run the same step again.", by_day)


def _require_landed(project: Project, interval: Interval, left: Sequence[_Refused], listed: pl.DataFrame) -> None:
    """Raise if a day needs an object that was not landed, and no delivery covers its feed and day."""
    covered = set(listed.select("feed", "day").iter_rows())
    refused = {(each.found.feed, each.found.day) for each in left}
    waiting = {(each.found.feed, each.found.day) for each in left if each.waits}
    fatal: dict[date, list[str]] = {}
    lacks: set[tuple[str, date]] = set()
    for day in interval.days:
        needed = (set(project.required(day).items()) - covered) & refused
        if needed:
            fatal[day] = [each.why for each in left if (each.found.feed, each.found.day) in needed]
            lacks |= needed
    if fatal:
        sentences = dict.fromkeys(why for whys in fatal.values() for why in whys)
        by_day = {day: "; ".join(whys) for day, whys in fatal.items()}
        raise (NotYetError if lacks <= waiting else DeliveryError)("\n".join(sentences), by_day)


def _is_landed(seen: SeenObject | None, found: Found) -> bool:
    """Return whether an object was landed and has not changed since. A refused one is tried again."""
    if seen is None or seen.delivery_id is None:
        return False
    return (seen.size, seen.modified_at) == (found.size, found.modified_at)


def _chunks(fresh: list[Found]) -> Iterator[list[Found]]:
    """Yield the objects a chunk at a time; objects of one feed and day stay together, because they are compared."""
    chunk: list[Found] = []
    ordered = sorted(fresh, key=lambda f: (f.day, f.feed, f.key))
    for n, found in enumerate(ordered):
        begins = n == 0 or (ordered[n - 1].day, ordered[n - 1].feed) != (found.day, found.feed)
        if begins and len(chunk) >= CHUNK_FILES:
            yield chunk
            chunk = []
        chunk.append(found)
    if chunk:
        yield chunk


def _take(
    project: Project, chunk: list[Found], landing: Landing, listed: pl.DataFrame, now: datetime
) -> tuple[list[_Taken], list[_Refused]]:
    """Read objects. Any error about an object refuses it and leaves the others alone."""
    taken, left = [], []
    newest = {key: (delivery_id, sha) for key, delivery_id, sha in listed.select("key", "delivery_id", "sha256").rows()}
    ids = set(listed["delivery_id"])
    for found in chunk:
        try:
            taken.append(_read(project, found, landing, now, newest.get(found.key), ids))
        except DeliveryError as error:
            left.append(_Refused(found, _storable(str(error)), waits=isinstance(error, NotYetError)))
    return taken, left


def _storable(text: str) -> str:
    """Return a text that PostgreSQL can store; a supplier's names may have a NUL, or bytes that are not UTF-8."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")


def _without_ties(project: Project, taken: list[_Taken]) -> tuple[list[_Taken], list[_Refused]]:
    """Refuse objects of one feed and day with the same `available_from`, of which nothing says which one is newer."""
    same: dict[tuple[str, date, datetime], list[_Taken]] = {}
    for item in taken:
        same.setdefault((item.found.feed, item.found.day, item.available_from), []).append(item)
    ties = []
    for (feed, day, moment), items in same.items():
        if project.feeds[feed].versions is None and len({item.sha256 for item in items}) > 1:
            uris = ", ".join(sorted(item.found.uri for item in items)[:10])
            why = (
                f"{len(items)} files of feed {feed} for {day} have the same time, {moment:%Y-%m-%d %H:%M:%S} UTC, so "
                f"nothing says which one is newer: {uris}; remove all but one, or declare that the greater name is "
                f"newer: feeds.{feed}.versions: by_name"
            )
            ties += [_Refused(item.found, why) for item in items]
    wrong = {tie.found.uri for tie in ties}
    return [item for item in taken if item.found.uri not in wrong], ties


def _write(project: Project, tables: Tables, taken: list[_Taken], key: bytes) -> None:
    """Write raw, before the journal: a delivery in the journal has all its rows."""
    for feed, declared in project.feeds.items():
        of_feed = [item for item in taken if item.found.feed == feed]
        if of_feed:
            scope = Scope.of_deliveries([i.found.day for i in of_feed], [i.delivery_id for i in of_feed])
            marked = [
                i.records.with_columns(day=pl.lit(i.found.day), delivery_id=pl.lit(i.delivery_id)) for i in of_feed
            ]
            frame = _protect(declared, pl.concat(marked), key).select(schemas.raw(declared).keys())
            tables.replace(raw_table(project.name, feed), frame, scope, sort_by=["day", "delivery_id", "_row"])


@dataclass(frozen=True)
class _Entered:
    """What was entered into the journal, over all chunks so far."""

    new: int = 0
    rows: int = 0
    left: tuple[_Refused, ...] = ()

    def __add__(self, other: "_Entered") -> "_Entered":
        return _Entered(self.new + other.new, self.rows + other.rows, self.left + other.left)


def _enter(project: Project, taken: list[_Taken], left: list[_Refused], settings: Settings, now: datetime) -> _Entered:
    """Enter deliveries into the journal in one transaction, and record which objects were read.

    A delivery that another run has entered meanwhile keeps its entry.
    """
    new, rows = 0, 0
    with postgres.journal.write_journal(settings, project.name) as writer:
        listed = writer.known().deliveries
        ids = set(listed["delivery_id"])
        earlier = _earlier(listed)
        entries = []
        for item in sorted(taken, key=_order):
            if item.delivery_id in ids:
                continue
            found = item.found
            before = earlier.setdefault((found.feed, found.day), [])
            why = reason_to_hold(project, found.feed, found.day, found.key, item.available_from, before, now)
            before.append(Earlier(item.delivery_id, found.key, item.available_from))
            ids.add(item.delivery_id)
            entries.append(_entry(item, why))
            new, rows = new + 1, rows + item.records.height
        writer.add(entries)
        writer.see([
            *(_seen(item.found, delivery_id=item.delivery_id) for item in taken),
            *(_seen(each.found, why=each.why) for each in left if not each.waits),
        ])
    return _Entered(new, rows, tuple(left))


def _seen(found: Found, *, delivery_id: str | None = None, why: str | None = None) -> SeenObject:
    return SeenObject(found.key, found.feed, found.day, found.size, found.modified_at, delivery_id, why)


def _earlier(listed: pl.DataFrame) -> dict[tuple[str, date], list[Earlier]]:
    """Map each feed and day to its deliveries that could be replaced."""
    found: dict[tuple[str, date], list[Earlier]] = {}
    there = listed.filter(~pl.col("verdict").is_in(SET_ASIDE))
    for feed, day, *about in there.select("feed", "day", "delivery_id", "key", "available_from").iter_rows():
        found.setdefault((feed, day), []).append(Earlier(*about))
    return found


def _order(item: _Taken) -> tuple[object, ...]:
    """Return the order of entries of one listing: by time, then by name, with numbers in it compared as numbers."""
    numbers = [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", item.found.key)]
    return item.available_from, numbers


def _entry(item: _Taken, hold: str | None) -> Entry:
    return Entry(
        kind="delivery",
        subject=item.delivery_id,
        entry={
            "feed": item.found.feed,
            "day": str(item.found.day),
            "key": item.found.key,
            "uri": item.found.uri,
            "sha256": item.sha256,
            "size": item.found.size,
            "rows": item.records.height,
            "available_from": item.available_from.astimezone(UTC).isoformat(timespec="microseconds"),
            "verdict": "held" if hold else "landed",
        },
        why=hold,
    )


def _held(project: Project, listed: pl.DataFrame) -> dict[str, list[str]]:
    """Map each feed to a sentence for each of its deliveries that wait for a decision."""
    held: dict[str, list[str]] = {}
    waiting = listed.filter(pl.col("verdict") == "held")
    for feed, uri, why, delivery_id in waiting.select("feed", "uri", "why", "delivery_id").iter_rows():
        held.setdefault(feed, []).append(
            f"{uri}: {why}; to use it: python -m include.cli accept --project {project.name} "
            f"--delivery {shlex.quote(delivery_id)} --by NAME --why REASON"
        )
    return held


def _alerts(held: Mapping[str, Sequence[str]], run_date: date) -> list[Alert]:
    """Return an alert for each feed. They come from the journal, so each night asks again until somebody decides."""
    alerts = []
    for feed, sentences in held.items():
        more = f" … and {len(sentences) - 3} more" if len(sentences) > 3 else ""
        many = "1 delivery" if len(sentences) == 1 else f"{len(sentences)} deliveries"
        sentence = (
            f"feed {feed}: {many} to be decided on: {' '.join(sentences[:3])}{more}. "
            "Runbook: docs/runbooks/delivery-held.md"
        )
        alerts.append(Alert(subject=feed, rule=HELD, day=run_date, sentence=sentence))
    return alerts


def _read(
    project: Project,
    found: Found,
    landing: Landing,
    now: datetime,
    newest: tuple[str, str] | None,
    ids: set[str],
) -> _Taken:
    """Read and check one object.

    Args:
        project: the project.
        found: the object.
        landing: where it is.
        now: the database's time of the landing.
        newest: `delivery_id` and sha256 of the newest delivery of this object, None if it was never landed.
        ids: all delivery ids of the journal.

    Raises:
        DeliveryError: names file, line and what to do. It never contains a value of a row, except a date, because
            a column may contain personal data that belongs in another one.
    """
    feed = project.feeds[found.feed]
    if found.size > feed.limits.max_bytes:
        raise DeliveryError(f"{found.uri}{too_large(feed.limits)}")
    content, sidecar = _guarded(found, lambda: landing.read(found)), _sidecar(landing, found)
    digest = sha256(content)
    if sidecar:
        _check_sidecar(found, sidecar, len(content), digest)
    claim = _claim(landing, found)
    modified_at = found.modified_at
    moment = available_from(project, found.feed, found.day, found.uri, claim=claim, modified_at=modified_at, now=now)
    records = _records(found, feed, content)
    if sidecar and sidecar.rows != records.height:
        raise DeliveryError(
            f"{found.uri}: the file has {records.height} rows, the sidecar promises "
            f"{sidecar.rows}; deliver the file again, or the right sidecar"
        )
    _check_day(project, found, feed, records)
    return _Taken(found, _delivery_id(found, digest, newest, ids), digest, moment, records)


def _delivery_id(found: Found, digest: str, newest: tuple[str, str] | None, ids: set[str]) -> str:
    """Return the object's key and the start of its sha256, with a number if the same bytes came back after others."""
    if newest is not None and newest[1] == digest:
        return newest[0]
    first = f"{found.key}@{digest[:16]}"
    again = (f"{first}.{n}" for n in range(2, len(ids) + 3))
    return first if first not in ids else next(each for each in again if each not in ids)


def _sidecar(landing: Landing, found: Found) -> Sidecar | None:
    return _guarded(found, lambda: landing.sidecar(found))


def _claim(landing: Landing, found: Found) -> datetime | None:
    """Return the claim of an object's sidecar in UTC, None without a sidecar."""
    sidecar = _sidecar(landing, found)
    return None if sidecar is None else _guarded(found, lambda: sidecar.available_at.astimezone(UTC))


def _guarded(found: Found, read: Callable[[], T]) -> T:
    """Refuse an object that cannot be read; other errors of the storage end the step."""
    try:
        return read()
    except UNREADABLE as error:
        raise DeliveryError(f"{found.uri}: it cannot be read ({type(error).__name__}); correct or remove it") from error
    except OverflowError as error:
        raise DeliveryError(f"{found.uri}.json: a time is out of range; correct the sidecar") from error


def _check_sidecar(found: Found, sidecar: Sidecar, size: int, digest: str) -> None:
    for what, promised, got in [
        ("feed", sidecar.feed, found.feed),
        ("day", sidecar.day, found.day),
        ("size in bytes", sidecar.size, size),
        ("checksum (sha256)", sidecar.sha256, digest),
    ]:
        if promised != got:
            raise DeliveryError(
                f"{found.uri}: wrong {what}: the sidecar promises {promised}, the file has {got}; "
                "deliver the file again, or the right sidecar"
            )


def _records(found: Found, feed: Feed, content: bytes) -> pl.DataFrame:
    """Return all declared columns as text, with `_row`."""
    try:
        contents = feed.format.read(content, found.key, feed.layout)
    except UnreadableError as error:
        raise DeliveryError(f"{found.uri}{error}") from error
    except Exception as error:  # noqa: BLE001 (any error refuses the object; its text may have a value of a row)
        why = f"{found.uri}: it cannot be parsed ({type(error).__name__}); deliver the file again"
        raise DeliveryError(why) from None
    if contents.remark:
        log.warning("%s: %s", found.uri, contents.remark)
    return contents.records


def _check_day(project: Project, found: Found, feed: Feed, records: pl.DataFrame) -> None:
    """Refuse a file with rows of another date. `validate` handles timestamps that cannot be parsed or stored."""
    days = schemas.typed(pl.col(feed.day_column), feed.columns[feed.day_column], feed.format, project.timezone)
    if feed.columns[feed.day_column].type == "timestamp":
        days = days.dt.convert_time_zone(project.timezone).dt.date()
    wrong = records.select("_row", day=days).filter(pl.col("day") != found.day)
    if not wrong.is_empty():
        line, day = wrong.row(0)
        raise DeliveryError(
            f"{found.uri}, {feed.format.unit} {line}: {feed.day_column} is on {day} in {project.timezone}, "
            f"but the file is for {found.day} ({wrong.height} of {records.height} rows have another date); "
            "deliver it under its own day"
        )


def _protect(feed: Feed, records: pl.DataFrame, key: bytes) -> pl.DataFrame:
    """Check the format of identifiers, then replace them by their HMAC-SHA256 (first 128 bits, hex).

    `_malformed` names the identifiers of a row that had a wrong format. Raw tables have no sensitive columns.
    """
    identifiers = {name: column for name, column in feed.kept.items() if column.data_class == "identifier"}
    records = records.with_columns(values.present(pl.col(name), feed.format) for name in identifiers)
    malformed: list[pl.Expr] = [pl.lit(None, pl.String())]
    hashed: list[pl.Expr] = []
    for name, column in identifiers.items():
        written = records[name].drop_nulls().unique().to_list()
        # use Python's `re`, not polars: project.yaml is checked with Python's syntax, and that of polars differs
        wrong = [value for value in written if column.format and not re.fullmatch(column.format, value)]
        malformed.append(pl.when(pl.col(name).is_in(wrong)).then(pl.lit(name)))
        keyed = {value: hmac.new(key, value.encode(), hashlib.sha256).hexdigest()[:32] for value in written}
        hashed.append(pl.col(name).replace_strict(keyed, default=None, return_dtype=pl.String()))
    joined = pl.concat_str(malformed, separator=",", ignore_nulls=True).replace("", None)
    return records.with_columns(joined.alias("_malformed"), *hashed)

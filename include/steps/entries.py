"""What `land` and `extract` have in common: write deliveries to raw tables, and enter them into the journal.

How rows are got is theirs; here is what becomes of them: personal data is protected, a delivery has all its rows before
it has an entry, one that needs a decision of a person is held, and an alert says so.
"""

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import partial

import polars as pl

from include.core import schemas
from include.core.feeds import Feed
from include.core.intake import Earlier, moment_of_history, name_order, reason_to_hold
from include.core.journal import SET_ASIDE, Entry, Known
from include.core.names import raw_table
from include.core.parts import Part
from include.core.personal import HashKey, protect
from include.core.project import Project
from include.core.records import Alert, Refusal
from include.core.settings import Settings
from include.core.stack import Correction, is_late, of_file
from include.io import postgres
from include.io.landing import Found
from include.io.postgres.journal import SeenObject
from include.io.tables import Scope, Tables

HELD = "delivery_held"
"""The rule of the alert about deliveries that wait for a decision."""


BYTES_OF_A_VALUE = 16
"""What polars takes for a text besides its characters, which are all that it estimates."""


@dataclass(frozen=True)
class Taken:
    """An object that was read and is valid, or a set of them.

    Attributes:
        found: the object.
        delivery_id: the id of the delivery.
        sha256: of its content.
        available_from: the moment (UTC) from which it counts.
        records: the columns that raw tables have, as text, not protected yet.
        parts: the parts of a set, none of another delivery.
        objects: the objects of a set, its marker and older versions included.
        kept: rows of a set that are in the raw table already, with its columns.
        doubt: why a set waits for a decision of a person, None if nothing is known against it.
        erased: how many rows were left out just now, because they are those of erased persons.
        correction: what it is to the deliveries of its day before it. Late rows of an earlier day are a delivery of
            their own, which has the object of their file.
        differs: how the columns of the file differ from the declared ones, in words.
        types: the types of columns as delivered, as far as they are known.
    """

    found: Found
    delivery_id: str
    sha256: str
    available_from: datetime
    records: pl.DataFrame
    correction: Correction = "replace"
    parts: tuple[Part, ...] = ()
    objects: tuple[Found, ...] = ()
    kept: pl.DataFrame | None = None
    doubt: str | None = None
    erased: int = 0
    differs: tuple[str, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Return how many rows the delivery has."""
        return self.records.height + (0 if self.kept is None else self.kept.height)

    @property
    def bytes(self) -> int:
        """Return about how many bytes of memory its rows take: their text, and 16 more for each value."""
        frames = [self.records, *([] if self.kept is None else [self.kept])]
        return sum(int(rows.estimated_size()) + BYTES_OF_A_VALUE * rows.height * rows.width for rows in frames)


@dataclass(frozen=True)
class NotLanded:
    """An object that is not landed now, and why. A later run lands one that `waits`; nobody has to do anything."""

    found: Found
    why: str
    waits: bool = False

    @property
    def refusal(self) -> Refusal:
        """The record for other steps."""
        return Refusal(feed=self.found.feed, day=self.found.day, uri=self.found.uri, why=self.why)


def delivery_id_of(key: str, digest: str, newest: tuple[str, str] | None, ids: Collection[str]) -> str:
    """Return the key and the start of the sha256, with a number if the same bytes came back after others.

    Args:
        key: of the object.
        digest: its sha256.
        newest: `delivery_id` and sha256 of the newest delivery of this object, None if it has none.
        ids: all delivery ids of the journal.
    """
    if newest is not None and newest[1] == digest:
        return newest[0]
    first = f"{key}@{digest[:16]}"
    again = (f"{first}.{n}" for n in range(2, len(ids) + 3))
    return first if first not in ids else next(each for each in again if each not in ids)


BLOCK_ROWS = 200_000
"""Rows that are protected and written at a time."""


def write_raw(project: Project, tables: Tables, taken: list[Taken], key: HashKey) -> None:
    """Write raw, before the journal: a delivery in the journal has all its rows."""
    for feed, declared in project.feeds.items():
        of_feed = sorted((i for i in taken if i.found.feed == feed), key=lambda i: (i.found.day, i.delivery_id))
        if of_feed:
            scope = Scope.of_deliveries([i.found.day for i in of_feed], [i.delivery_id for i in of_feed])
            blocks = partial(_raw_blocks, declared, of_feed, key)
            tables.write_blocks(raw_table(project.name, feed), blocks, schemas.raw(declared), scope)


def _raw_blocks(feed: Feed, taken: Sequence[Taken], key: HashKey) -> Iterator[pl.DataFrame]:
    """Yield protected rows by day, delivery and row. A block has the rows of many small deliveries, or of a large one.

    A set with rows that are in the raw table already is a block of its own.
    """
    waiting: list[pl.DataFrame] = []
    for item in taken:
        mark = {"day": pl.lit(item.found.day), "delivery_id": pl.lit(item.delivery_id)}
        for rows in item.records.iter_slices(BLOCK_ROWS) if item.kept is None else ():
            waiting.append(rows.with_columns(**mark))
            if sum(each.height for each in waiting) >= BLOCK_ROWS:
                yield _raw(feed, waiting, key)
                waiting = []
        if item.kept is not None:
            if waiting:
                yield _raw(feed, waiting, key)
                waiting = []
            new = _raw(feed, [item.records.with_columns(**mark)], key)
            yield pl.concat([new, item.kept.with_columns(**mark).select(new.columns)]).sort("_row")
    if waiting:
        yield _raw(feed, waiting, key)


def _raw(feed: Feed, records: Sequence[pl.DataFrame], key: HashKey) -> pl.DataFrame:
    return protect(feed, pl.concat(records), key).select(schemas.raw(feed).keys())


@dataclass(frozen=True)
class Entered:
    """What the journal knows by now, what was entered over all chunks so far, and which objects were not landed."""

    known: Known
    new: int = 0
    rows: int = 0
    left: tuple[NotLanded, ...] = ()


def enter(
    project: Project,
    so_far: Entered,
    taken: list[Taken],
    left: list[NotLanded],
    settings: Settings,
    now: datetime,
    key: HashKey,
) -> Entered:
    """Enter deliveries into the journal in one transaction, and record which objects were read.

    A delivery that another run has entered meanwhile keeps its entry.
    """
    rows = 0
    with postgres.journal.write_journal(settings, project.name) as writer:
        before_it = writer.known(so_far.known)
        listed = before_it.deliveries
        ids = set(listed["delivery_id"])
        earlier, live = _earlier(project, listed), _live_feeds(project, before_it)
        taken = _without_hindsight(project, taken, listed, live, now)
        entries, holds = [], dict[str, str | None]()
        for item in sorted(taken, key=_order):  # late rows stay after their file
            if item.delivery_id in ids:
                continue
            found = item.found
            if item.correction == "late_rows":
                why = holds.get(found.key)
            else:
                before = earlier.setdefault(project.slot(found.feed, found.day), [])
                why = item.doubt or reason_to_hold(
                    project,
                    found.feed,
                    found.day,
                    found.key,
                    item.available_from,
                    before,
                    now,
                    is_live=found.feed in live,
                )
                before.append(Earlier(item.delivery_id, found.key, item.available_from))
                holds[found.key] = why
            ids.add(item.delivery_id)
            entries.append(_entry(item, why, key))
            rows += item.rows
        writer.add(entries)
        writer.see([
            *(
                _seen(each, delivery_id=item.delivery_id)
                for item in taken
                if item.correction != "late_rows"
                for each in item.objects or (item.found,)
            ),
            *(_seen(each.found, why=each.why) for each in left if not each.waits),
        ])
        known = writer.known(so_far.known)
    return Entered(known, so_far.new + len(entries), so_far.rows + rows, (*so_far.left, *left))


def _live_feeds(project: Project, known: Known) -> set[str]:
    """Return the feeds of which a run date from `live_from` on is prepared."""
    newest = max(known.records, default=date.min)
    return {name for name, feed in project.feeds.items() if feed.live_from is not None and feed.live_from <= newest}


def _without_hindsight(
    project: Project, taken: Sequence[Taken], listed: pl.DataFrame, live: Collection[str], now: datetime
) -> list[Taken]:
    """Let other content of history count from its own time, once live run dates may have used what was there.

    From the cutoff of its day, a repair of a live run date would know it.
    """
    used = set(listed.filter(~is_late(), pl.col("verdict") != "refused").select("feed", "day").iter_rows())
    ids = set(listed["delivery_id"])

    def moment(item: Taken) -> datetime:
        found = item.found
        is_again = found.feed in live and (found.feed, found.day) in used and item.delivery_id not in ids
        no_claim = not found.sidecar and item.available_from == moment_of_history(project, found.feed, found.day)
        return min(found.modified_at, now) if is_again and no_claim else item.available_from

    return [replace(item, available_from=moment(item)) for item in taken]


def _seen(found: Found, *, delivery_id: str | None = None, why: str | None = None) -> SeenObject:
    return SeenObject(
        found.key, found.feed, found.day, found.size, found.modified_at, delivery_id, why, sidecar=found.sidecar
    )


def _earlier(project: Project, listed: pl.DataFrame) -> dict[tuple[str, date | None], list[Earlier]]:
    """Map each feed and slot to its deliveries that could be replaced, and those that were refused."""
    found: dict[tuple[str, date | None], list[Earlier]] = {}
    files = listed.filter(~is_late(), ~pl.col("verdict").is_in(SET_ASIDE))
    there = files.with_columns(refused=pl.col("verdict") == "refused")
    names = ["feed", "day", "delivery_id", "key", "available_from", "refused"]
    for feed, day, *about in there.select(names).iter_rows():
        found.setdefault(project.slot(feed, day), []).append(Earlier(*about))
    return found


def _order(item: Taken) -> tuple[object, ...]:
    """Return the order of entries of one listing: by time, then by name."""
    return item.available_from, name_order(item.found.key)


def _entry(item: Taken, hold: str | None, key: HashKey) -> Entry:
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
            "rows": item.rows,
            "available_from": item.available_from.astimezone(UTC).isoformat(timespec="microseconds"),
            "correction": item.correction,
            "verdict": "held" if hold else "landed",
            "hash_key": key.fingerprint,
            **({"parts": [part.entry() for part in item.parts]} if item.parts else {}),
            **({"erased": item.erased} if item.erased else {}),
            **({"columns": [*item.differs]} if item.differs else {}),
            **({"types": dict(item.types)} if item.types else {}),
        },
        why=hold,
    )


def held_deliveries(project: Project, listed: pl.DataFrame) -> dict[str, list[str]]:
    """Map each feed to a sentence for each of its deliveries that wait for a decision."""
    held: dict[str, list[str]] = {}
    waiting = listed.filter(pl.col("verdict") == "held").with_columns(file=of_file())
    ids = set(waiting["delivery_id"])
    for feed, uri, why, delivery_id, file in waiting.select("feed", "uri", "why", "delivery_id", "file").iter_rows():
        if file != delivery_id and file in ids:
            continue  # late rows: a decision about their file holds for them
        held.setdefault(feed, []).append(
            f"{uri}: {why}; to use it: python -m include.cli accept --project {project.name} "
            f"--delivery {shlex.quote(delivery_id)} --by NAME --why REASON"
        )
    return held


def alerts_about(held: Mapping[str, Sequence[str]], run_date: date) -> list[Alert]:
    """Return an alert for each feed. They come from the journal, so each night asks again until somebody decides."""
    alerts = []
    for feed, sentences in held.items():
        more = f" … and {len(sentences) - 3} more" if len(sentences) > 3 else ""
        many = "1 delivery" if len(sentences) == 1 else f"{len(sentences)} deliveries"
        sentence = (
            f"feed {feed}: {many} to be decided on: {' '.join(sentences[:3])}{more}. "
            "Runbook: docs/runbooks/delivery-held.md"
        )
        effect = "scores are made without them, until somebody decides"
        alerts.append(Alert(subject=feed, rule=HELD, day=run_date, sentence=sentence, effect=effect))
    return alerts

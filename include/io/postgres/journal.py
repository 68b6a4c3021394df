"""The journal and the list of objects that were read, in the shared database.

Whoever adds an entry holds the lock `journal <project>` until the entry is committed. So the order of sequence numbers
is the order of commits, and nothing appears below a watermark later.
"""

import json
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from operator import itemgetter
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.core.errors import ActionRequiredError
from include.core.journal import ENTRIES, Entry, Known
from include.core.settings import DATABASE_OWNER_URL, Settings
from include.io.postgres.connection import engine, lock
from include.io.postgres.schema import journal, journal_blocks, objects

ENTRIES_OF_A_BLOCK = 250
"""As the migration of `journal_blocks` says it."""

_EXPORTED = ("sequence", "kind", "subject", "entry", "by", "why", "run_id", "recorded_at")


@dataclass(frozen=True)
class SeenObject:
    """An object of the landing that was read: what it became (`delivery_id`), or why it was refused.

    `sidecar` says whether its sidecar was there then.
    """

    key: str
    feed: str
    day: date
    size: int
    modified_at: datetime
    delivery_id: str | None = None
    why: str | None = None
    sidecar: bool = False


class JournalWriter:
    """The journal of a project under its lock: nobody else adds an entry meanwhile."""

    def __init__(self, connection: sa.Connection, project: str, run_id: str) -> None:
        self.connection, self._project, self._run_id = connection, project, run_id

    def known(self, before: Known | None = None) -> Known:
        """Return the whole journal as of now: `before` itself if nothing was added since that was read."""
        watermark = _watermark(self.connection, self._project)
        if before is not None and before.watermark == watermark:
            return before
        return Known.of(watermark, _entries(self.connection, self._project, watermark))

    def add(self, entries: Sequence[Entry]) -> list[int]:
        """Add entries in this order; return their sequence numbers."""
        first = _watermark(self.connection, self._project) + 1
        rows = [
            {
                "project": self._project,
                "sequence": first + n,
                **entry.model_dump(mode="json"),
                "run_id": self._run_id,
            }
            for n, entry in enumerate(entries)
        ]
        if rows:
            self.connection.execute(sa.insert(journal), rows)
        return [row["sequence"] for row in rows]

    def see(self, seen: Sequence[SeenObject]) -> None:
        """Record objects that were read, in place of what was recorded about the same objects."""
        if not seen:
            return
        inserting = postgresql.insert(objects)
        replaced = ("feed", "day", "size", "modified_at", "delivery_id", "why", "sidecar", "run_id")
        statement = inserting.on_conflict_do_update(
            index_elements=["project", "key"],
            set_={**{name: inserting.excluded[name] for name in replaced}, "seen_at": sa.func.clock_timestamp()},
        )
        about = {"project": self._project, "run_id": self._run_id}
        self.connection.execute(statement, [{**vars(each), **about} for each in seen])


@contextmanager
def write_journal(settings: Settings, project: str) -> Iterator[JournalWriter]:
    """Open the journal in a transaction that is committed at the end, or not at all. Others wait."""
    with engine(settings).begin() as connection:
        lock(connection, f"journal {project}")
        yield JournalWriter(connection, project, settings.run_id)


def add_entries(settings: Settings, project: str, entries: Sequence[Entry]) -> int:
    """Add entries and return the watermark after them."""
    with write_journal(settings, project) as writer:
        added = writer.add(entries)
    return added[-1] if added else read_watermark(settings, project)


def read_clock(settings: Settings) -> datetime:
    """Return the database's time (UTC). It is the only clock that decides when a delivery counts."""
    with engine(settings).connect() as connection:
        now: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        return now.astimezone(UTC)


def read_fingerprint(settings: Settings) -> str | None:
    """Return the fingerprint of the keys that stored identifiers are hashed with, None at first.

    It is that of the newest delivery, or of the newest rotation that was finished after it.
    """
    fingerprint, state = journal.c.entry["hash_key"].as_string(), journal.c.entry["state"].as_string()
    hashed = (journal.c.kind == "delivery") | ((journal.c.kind == "decision") & (state == "finished"))
    statement = (
        sa
        .select(fingerprint)
        .where(hashed, fingerprint.is_not(None))
        .order_by(journal.c.recorded_at.desc(), journal.c.sequence.desc())
        .limit(1)
    )
    with engine(settings).connect() as connection:
        found: str | None = connection.scalar(statement)
        return found


def read_watermark(settings: Settings, project: str) -> int:
    """Return the newest sequence number, 0 for an empty journal."""
    with engine(settings).connect() as connection:
        return _watermark(connection, project)


def read_entries(settings: Settings, project: str, watermark: int | None = None) -> pl.DataFrame:
    """Return the entries up to a watermark, by default all: the columns of `core.journal.ENTRIES`."""
    with engine(settings).connect() as connection:
        return _entries(connection, project, watermark)


def read_seen_objects(settings: Settings, project: str, keys: Collection[str] | None = None) -> dict[str, SeenObject]:
    """Map the key of each object that was read to what was recorded about it.

    Args:
        settings: the database.
        project: its name.
        keys: only these objects, and all that were refused; None for all.
    """
    names = list(SeenObject.__dataclass_fields__)
    statement = sa.select(*(objects.c[name] for name in names)).where(objects.c.project == project)
    if keys is not None:
        wanted = sa.cast(sorted(keys), postgresql.ARRAY(sa.Text))
        statement = statement.where((objects.c.key == sa.func.any(wanted)) | objects.c.why.is_not(None))
    with engine(settings).connect() as connection:
        found = [dict(row._mapping) for row in connection.execute(statement)]
    return {row["key"]: SeenObject(**{**row, "modified_at": row["modified_at"].astimezone(UTC)}) for row in found}


def forget_objects(settings: Settings, project: str, keys: Collection[str]) -> None:
    """Remove what was recorded about objects that are not there any more."""
    if keys:
        gone = sa.delete(objects).where(objects.c.project == project, objects.c.key.in_(keys))
        with engine(settings).begin() as connection:
            connection.execute(gone)


def read_lines(settings: Settings, project: str, after: int) -> list[dict[str, Any]]:
    """Return whole entries with a higher sequence number, as JSON objects, in order."""
    statement = (
        sa
        .select(*(journal.c[name] for name in _EXPORTED))
        .where(journal.c.project == project, journal.c.sequence > after)
        .order_by(journal.c.sequence)
    )
    with engine(settings).connect() as connection:
        found = [dict(row._mapping) for row in connection.execute(statement)]
    return [{**row, "recorded_at": row["recorded_at"].astimezone(UTC).isoformat()} for row in found]


def restore_lines(settings: Settings, project: str, lines: Sequence[Mapping[str, Any]]) -> int:
    """Add exported entries, with their sequence numbers, to a journal that ends before them; return how many.

    Entries that the journal has already must be the same. Newer ones, which are not exported yet, stay. They keep the
    time of their first writing, which only the owner of the database may say.

    Raises:
        ActionRequiredError: a sequence number is missing, the journal has another entry of that number, or the login
            may not say when an entry was written.
    """
    numbers = [line["sequence"] for line in lines]
    if numbers != list(range(1, len(numbers) + 1)):
        absent = sorted(set(range(1, max(numbers, default=0) + 1)) - set(numbers))
        raise ActionRequiredError(
            f"{project}: the export of the journal lacks entries, the first is {absent[0]}; restore its files"
        )
    with engine(settings.as_owner()).begin() as connection:
        if not connection.scalar(sa.text("SELECT has_column_privilege('journal', 'recorded_at', 'INSERT')")):
            raise ActionRequiredError(
                f"{project}: only the owner of the shared database can restore a journal, because its entries keep the "
                f"time at which they were first written. Set {DATABASE_OWNER_URL} for this command, as for migrate. "
                "Nothing was restored"
            )
        lock(connection, f"journal {project}")
        there = _watermark(connection, project)
        present = sa.select(journal.c.sequence, journal.c.subject, journal.c.entry).where(journal.c.project == project)
        exported = {line["sequence"]: (line["subject"], json.dumps(line["entry"], sort_keys=True)) for line in lines}
        for number, subject, entry in connection.execute(present):
            if number in exported and exported[number] != (subject, json.dumps(entry, sort_keys=True)):
                raise ActionRequiredError(
                    f"{project}: entry {number} of the journal in the database is not the exported one; "
                    "restore into a database without entries of this project"
                )
        missing = [{**line, "project": project} for line in lines if line["sequence"] > there]
        if missing:
            connection.execute(sa.insert(journal), missing)
    return len(missing)


def _watermark(connection: sa.Connection, project: str) -> int:
    newest = sa.select(sa.func.coalesce(sa.func.max(journal.c.sequence), 0)).where(journal.c.project == project)
    return int(connection.scalar(newest) or 0)


def _entries(connection: sa.Connection, project: str, watermark: int | None) -> pl.DataFrame:
    """Return the entries up to a watermark: from their blocks, and one by one those that are in no block yet."""
    upto = sa.true() if watermark is None else journal.c.sequence <= watermark
    blocks = sa.select(journal_blocks.c.entries).where(journal_blocks.c.project == project)
    if watermark is not None:  # the last of these blocks may go beyond it
        blocks = blocks.where(journal_blocks.c.last_sequence < watermark + ENTRIES_OF_A_BLOCK)
    packed = connection.scalars(blocks.order_by(journal_blocks.c.last_sequence))
    rows = [tuple(entry) for text in packed for entry in json.loads(text)]
    after = rows[-1][0] if rows else 0
    statement = (
        sa
        .select(journal.c.sequence, journal.c.kind, journal.c.subject, sa.cast(journal.c.entry, sa.Text), journal.c.why)
        .where(journal.c.project == project, journal.c.sequence > after, upto)
        .order_by(journal.c.sequence)
    )
    rows += [tuple(row) for row in connection.execute(statement)]
    if watermark is not None:
        rows = rows[: bisect_right(rows, watermark, key=itemgetter(0))]
    return pl.DataFrame(rows, schema=ENTRIES, orient="row")

"""The promotion history, in the shared database: the source of truth about champions.

This module reads and writes it under locks, so that no decision is based on rows that are just changing.
`include/steps/promote.py` decides what may be promoted.
"""

from bisect import bisect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter

from include.core.interval import Interval
from include.core.journal import Entry
from include.core.lifecycle import BY_PRODUCT, State
from include.core.records import BY_GATE
from include.core.settings import Settings
from include.io.postgres import schema
from include.io.postgres.connection import engine, lock
from include.io.postgres.journal import JournalWriter
from include.io.postgres.shadows import ShadowEnd, insert_end, select_ends
from include.io.postgres.version_moves import (
    PendingVersion,
    RecordedDecision,
    VersionMove,
    move_version,
    read_state,
    select_decision,
    select_moves,
    select_pending,
)


@dataclass(frozen=True)
class PromotionEntry:
    """One promotion: `model_version` is the champion from `from_day` on."""

    id: int
    model: str
    model_version: int
    from_day: date
    by: str
    why: str
    run_id: str
    created_at: datetime
    trained_day: date | None  # run date of its training
    gate_id: str | None
    forced: bool
    counts_from: date | None = None  # first run date whose training has to beat it, if a shadow delayed that
    rolled_back_from: int | None = None  # of a rollback: the champion that it replaced

    @property
    def decided_day(self) -> date:
        """The first run date whose training must take this promotion into account.

        For a promotion by the gate, it is the run date of the version's training, or the day after its end as a shadow:
        a training of the same run date cannot know whether it was written before or after. For one by a person, it is
        the first day of the promotion: a backfill cannot know that about an earlier training either.
        """
        if self.by != BY_GATE:
            return self.from_day
        return self.counts_from or self.trained_day or self.from_day - timedelta(days=1)


ROWS = TypeAdapter(list[PromotionEntry])
"""Converts rows of the promotion history to JSON and back."""

_PROMOTIONS = schema.promotions
_COLUMNS = [_PROMOTIONS.c[field.name] for field in fields(PromotionEntry)]
_NEWEST = (_PROMOTIONS.c.from_day.desc(), _PROMOTIONS.c.id.desc())


class PromotionHistory:
    """The promotion history of one model, under a lock: nobody else can promote or publish meanwhile."""

    def __init__(self, connection: sa.Connection, model: str, run_id: str) -> None:
        self._connection, self._model, self._run_id = connection, model, run_id

    def newest(self) -> PromotionEntry | None:
        """Return the newest champion."""
        return self._first(sa.true())

    def on(self, day: date) -> PromotionEntry | None:
        """Return the champion of a day."""
        return self._first(_PROMOTIONS.c.from_day <= day)

    def by_gate(self, gate_id: str) -> PromotionEntry | None:
        """Return the promotion that followed from this gate decision without a person."""
        return self._first(sa.and_(_PROMOTIONS.c.gate_id == gate_id, _PROMOTIONS.c.by == BY_GATE))

    def decided_by_gate(self, version: int) -> PromotionEntry | None:
        """Return the newest promotion of a version that followed from a gate decision without a person."""
        return self._first(sa.and_(_PROMOTIONS.c.model_version == version, _PROMOTIONS.c.by == BY_GATE))

    def champion_to_beat(self, version: int, day: date) -> int | None:
        """Return the champion that a version trained on a run date must beat: see `read_champion_to_beat`."""
        return _find_champion_to_beat(self._connection, self._model, version, day)

    def newest_published_day(self) -> date | None:
        """Return the last day with published predictions, None before the first."""
        published = schema.published.c
        statement = sa.select(sa.func.max(published.day)).where(published.model == self._model)
        newest: date | None = self._connection.scalar(statement)
        return newest

    def add(
        self, version: int, from_day: date, *, by: str, why: str, forced: bool = False, **about: Any
    ) -> PromotionEntry:
        """Add a row, with the moves of the versions that it makes and replaces as the champion, and return it.

        If the newest row of that `from_day` has this version already, that row is returned instead. A rollback to an
        earlier version from the same day is a new row.

        Raises:
            ActionRequiredError: the state of the version does not allow it, and it is not forced by a person.
        """
        there = self._first(_PROMOTIONS.c.from_day == from_day)
        if there is not None and there.model_version == version:
            return there
        before, state = self.newest(), self.state(version)
        row = {"model": self._model, "model_version": version, "from_day": from_day, "run_id": self._run_id}
        values = {**row, "by": by, "why": why, "forced": forced, **about}
        added = _row(self._connection.execute(sa.insert(_PROMOTIONS).values(**values).returning(*_COLUMNS)).one())
        of = {"promotion_id": added.id, "gate_id": added.gate_id}
        self.move(version, State.CHAMPION, by=by, why=why, force=forced, current=state, **of)
        if before is not None and before.model_version != version:
            of_earlier_days = from_day < before.from_day
            old, new = (version, before.model_version) if of_earlier_days else (before.model_version, version)
            newest = f"version {new} is the newest champion"
            self.move(old, State.REPLACED, by=BY_PRODUCT, why=newest, current=State.CHAMPION, **of)
        return added

    @property
    def connection(self) -> sa.Connection:
        """The transaction, for what must be committed together with the promotions."""
        return self._connection

    def from_days_after(self, day: date) -> list[date]:
        """Return the days after `day` from which the history has a champion, in ascending order."""
        from_day = _PROMOTIONS.c.from_day
        later = sa.select(from_day).where(_PROMOTIONS.c.model == self._model, from_day > day)
        return [*self._connection.scalars(later.distinct().order_by(from_day))]

    def before(self, entry: PromotionEntry) -> PromotionEntry | None:
        """Return the newest champion of another version than that of an entry."""
        return self._first(_PROMOTIONS.c.model_version != entry.model_version)

    def undone_by_person(self, version: int, model_digest: str) -> PromotionEntry | None:
        """Return the newest promotion by which a person replaced a version, or one with the same files."""
        replaced = [
            move.promotion_id
            for move in self.moves()
            if move.state is State.REPLACED and (move.model_version == version or move.model_digest == model_digest)
        ]
        return self._first(_PROMOTIONS.c.id.in_(replaced) & _PROMOTIONS.c.by.not_in((BY_GATE, BY_PRODUCT)))

    def state(self, version: int) -> State:
        """Return the state of a version."""
        return read_state(self._connection, self._model, version)

    def shadow_ends(self) -> dict[int, ShadowEnd]:
        """Return how each shadow ended, by version."""
        return select_ends(self._connection, self._model)

    def end_shadow(self, end: ShadowEnd) -> None:
        """Record how a shadow ended."""
        insert_end(self._connection, self._model, end, self._run_id)

    def moves(self, version: int | None = None) -> list[VersionMove]:
        """Return the moves of a version, or of all versions, the oldest first."""
        return select_moves(self._connection, self._model, version)

    def pending(self) -> list[PendingVersion]:
        """Return the pending versions, the one with the oldest run date first."""
        return select_pending(self._connection, self._model)

    def recorded_decision(self, project: str, digest: str) -> RecordedDecision | None:
        """Return what a person decided about a version with these files, None if nobody did."""
        return select_decision(self._connection, project, self._model, digest)

    def enter(self, project: str, entry: Entry) -> None:
        """Add an entry to the journal in the same transaction: who decided, and what follows, are one."""
        lock(self._connection, f"journal {project}")
        JournalWriter(self._connection, project, self._run_id).add([entry])

    def of_version(self, version: int) -> PromotionEntry | None:
        """Return the newest promotion of a version, None if it was never the champion."""
        return self._first(_PROMOTIONS.c.model_version == version)

    def move(self, version: int, to: State, *, by: str, why: str, **about: Any) -> VersionMove | None:
        """Move a version to a state: see `move_version`. Promotions go through `add`, which calls this.

        Returns:
            The move, None if the version has that state already.

        Raises:
            ActionRequiredError: the move is not allowed.
        """
        return move_version(self._connection, self._model, version, to, by=by, why=why, run_id=self._run_id, **about)

    def _first(self, where: Any) -> PromotionEntry | None:
        statement = sa.select(*_COLUMNS).where(_PROMOTIONS.c.model == self._model, where).order_by(*_NEWEST).limit(1)
        found = self._connection.execute(statement).one_or_none()
        return None if found is None else _row(found)


@contextmanager
def open_promotion_history(settings: Settings, model: str) -> Iterator[PromotionHistory]:
    """Open the promotion history in a transaction that is committed at the end, or not at all. Others wait."""
    with engine(settings).begin() as connection:
        lock(connection, f"promote {model}")
        lock(connection, f"publish {model}")
        yield PromotionHistory(connection, model, settings.run_id)


def read_champion_to_beat(settings: Settings, model: str, version: int, day: date) -> int | None:
    """Return the champion that a version trained on a run date must beat, None before the first.

    It is the newest other version of the promotions that were decided up to that day (`PromotionEntry.decided_day`).
    So a backfilled run date is compared with the champion that it had, whatever was promoted later.
    """
    with engine(settings).connect() as connection:
        return _find_champion_to_beat(connection, model, version, day)


def read_former_champions(settings: Settings, model: str, version: int, day: date, most: int) -> list[int]:
    """Return the champions before the one that a version must beat, at most so many, the newest first.

    They are of the promotions that were decided up to that day, as the champion to beat is.
    """
    with engine(settings).connect() as connection:
        return champions_of(_newest_first(connection, model), version, day)[1 : most + 1]


def read_earlier_champions(settings: Settings, model: str, days: Sequence[date], most: int) -> dict[date, list[int]]:
    """Map each day to the champion of that day and those before it, at most so many of these, the newest first.

    Champions that a rollback replaced are left out, as in `champions_of`. Days before the first promotion are absent.
    """
    with engine(settings).connect() as connection:
        rows = _newest_first(connection, model)
    found = {}
    for day in days:
        until = [row for row in rows if row.from_day <= day]
        if until:
            champion = until[0].model_version
            found[day] = [champion, *champions_of(until, champion, date.max)[:most]]
    return found


def champions_of(rows: Sequence[PromotionEntry], version: int, day: date) -> list[int]:
    """Return the other versions that were champion by what was decided up to a day, the newest first.

    A champion that a rollback replaced is left out: a person said that it was wrong, so it is no measure of others.

    Args:
        rows: the promotion history, the newest row first.
        version: the version to leave out.
        day: the run date of its training.
    """
    found, undone = dict[int, None](), set[int]()
    for row in rows:
        if row.decided_day <= day:
            if row.rolled_back_from is not None and row.rolled_back_from not in found:
                undone.add(row.rolled_back_from)
            if row.model_version != version and row.model_version not in undone:
                found[row.model_version] = None
    return list(found)


def read_champions(settings: Settings, model: str, interval: Interval) -> dict[date, int]:
    """Return the champion of each day by the promotion history; days before the first promotion are absent."""
    statement = (
        sa
        .select(_PROMOTIONS.c.from_day, _PROMOTIONS.c.model_version)
        .where(_PROMOTIONS.c.model == model, _PROMOTIONS.c.from_day <= interval.end)
        .order_by(_PROMOTIONS.c.from_day, _PROMOTIONS.c.id)
    )
    with engine(settings).connect() as connection:
        rows = connection.execute(statement).all()
    first_days = [row.from_day for row in rows]
    found = {day: bisect(first_days, day) for day in interval.days}
    return {day: rows[count - 1].model_version for day, count in found.items() if count}


def read_versions(settings: Settings, model: str, interval: Interval, which: str) -> dict[date, int]:
    """Return the version to score each day with; days without one are absent.

    Args:
        settings: the database.
        model: its name.
        interval: the days to score.
        which: `champion` for the champion of each day, `newest` for the newest champion, or the number of a version.
    """
    if which == "champion":
        return read_champions(settings, model, interval)
    version = read_newest_champion(settings, model) if which == "newest" else int(which)
    return {} if version is None else dict.fromkeys(interval.days, version)


def read_newest_champion(settings: Settings, model: str) -> int | None:
    """Return the newest champion, even if its first day is still to come; None before the first."""
    return read_champions(settings, model, Interval.of(date.max)).get(date.max)


def select_champion_as_of(
    model: str, day: sa.ColumnElement[date], moment: sa.ColumnElement[datetime]
) -> sa.ScalarSelect[int]:
    """Return a subquery: the champion of a day by the promotion history as it was at a moment."""
    return (
        sa
        .select(_PROMOTIONS.c.model_version)
        .where(_PROMOTIONS.c.model == model, _PROMOTIONS.c.from_day <= day, _PROMOTIONS.c.created_at <= moment)
        .order_by(*_NEWEST)
        .limit(1)
        .scalar_subquery()
    )


def read_manual_promotions(settings: Settings, model: str) -> list[PromotionEntry]:
    """Return the promotions and rollbacks that people made, in the order in which they made them."""
    with engine(settings).connect() as connection:
        return _select_manual(connection, model)


def restore_promotions(settings: Settings, model: str, rows: Sequence[PromotionEntry]) -> int:
    """Add promotions that people made to a history that lacks them, and return how many it lacked.

    They keep their time and order. The gate decisions that they rested on are not restored: a backfill makes
    them again.
    """

    def identify(row: PromotionEntry) -> tuple[int, date, datetime]:
        return row.model_version, row.from_day, row.created_at

    with engine(settings).begin() as connection:
        lock(connection, f"promote {model}")
        present = {identify(row) for row in _select_manual(connection, model)}
        missing = [row for row in rows if identify(row) not in present]
        for row in missing:
            values = {name: value for name, value in vars(row).items() if name not in ("id", "gate_id")}
            connection.execute(sa.insert(_PROMOTIONS).values(**values))
    return len(missing)


def _select_manual(connection: sa.Connection, model: str) -> list[PromotionEntry]:
    statement = sa.select(*_COLUMNS).where(_PROMOTIONS.c.model == model, _PROMOTIONS.c.by != BY_GATE)
    return [_row(found) for found in connection.execute(statement.order_by(_PROMOTIONS.c.id))]


def _find_champion_to_beat(connection: sa.Connection, model: str, version: int, day: date) -> int | None:
    rows = _newest_first(connection, model)
    return next((row.model_version for row in rows if row.model_version != version and row.decided_day <= day), None)


def _newest_first(connection: sa.Connection, model: str) -> list[PromotionEntry]:
    statement = sa.select(*_COLUMNS).where(_PROMOTIONS.c.model == model).order_by(*_NEWEST)
    return [_row(found) for found in connection.execute(statement)]


def _row(found: Any) -> PromotionEntry:
    return PromotionEntry(**{**found._mapping, "created_at": found.created_at.astimezone(UTC)})

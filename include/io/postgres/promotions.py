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
from include.io.postgres import messages, schema
from include.io.postgres.champions import read_change, registered_name
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

    def __init__(self, connection: sa.Connection, model: str, run_id: str, registered: str) -> None:
        self._connection, self._model, self._run_id, self._registered = connection, model, run_id, registered

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
        self,
        version: int,
        from_day: date,
        *,
        by: str,
        why: str,
        forced: bool = False,
        announce_to: str | None = None,
        **about: Any,
    ) -> PromotionEntry:
        """Add a row, with the moves of the versions that it makes and replaces as the champion, and return it.

        If the newest row of that `from_day` has this version already, that row is returned instead. A rollback to an
        earlier version from the same day is a new row. If the newest champion is another one now, a message to the
        connection `announce_to` says so; it is in the outbox if and only if the promotion is committed.

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
        if announce_to and (change := read_change(self._connection, added, self._registered)):
            messages.put(self._connection, change.message(announce_to, self._run_id))
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

    def undone_by_person(self, version: int, model_digest: str, day: date) -> PromotionEntry | None:
        """Return the newest promotion by which a person replaced a version, or one with the same files, on a day.

        One from a later day on does not count: in a backfill of a restored installation, the version is the champion of
        the days before it.
        """
        replaced = [
            move.promotion_id
            for move in self.moves()
            if move.state is State.REPLACED and (move.model_version == version or move.model_digest == model_digest)
        ]
        by_person = _PROMOTIONS.c.by.not_in((BY_GATE, BY_PRODUCT))
        undoes = _PROMOTIONS.c.id.in_(replaced) | (_PROMOTIONS.c.rolled_back_from == version)  # also without its moves
        return self._first(undoes & by_person & (_PROMOTIONS.c.from_day <= day))

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

    def enter_promotions(self, project: str, rows: Sequence[PromotionEntry], digest: str) -> None:
        """Add the decision of a person that made these promotions to the journal, in the same transaction.

        The entry has what `restore_decided` needs to write promotions and moves again.
        """
        if rows:
            ids = {row.id for row in rows}
            moves = [move for move in self.moves() if move.promotion_id in ids]
            self.enter(project, entry_of(rows, moves, digest))

    def champion_since(self, gate_id: str) -> PromotionEntry | None:
        """Return the newest promotion if it was made after a decision of the gate, which knows another champion."""
        return _find_champion_since(self._connection, self._model, gate_id)

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
        yield PromotionHistory(connection, model, settings.run_id, registered_name(settings, model))


def read_champion_to_beat(settings: Settings, model: str, version: int, day: date) -> int | None:
    """Return the champion that a version trained on a run date must beat, None before the first.

    It is the newest other version of the promotions that were decided up to that day (`PromotionEntry.decided_day`).
    So a backfilled run date is compared with the champion that it had, whatever was promoted later.
    """
    with engine(settings).connect() as connection:
        return _find_champion_to_beat(connection, model, version, day)


def read_champion_since(settings: Settings, model: str, gate_id: str) -> PromotionEntry | None:
    """Return the same as `PromotionHistory.champion_since`."""
    with engine(settings).connect() as connection:
        return _find_champion_since(connection, model, gate_id)


def read_champion_since_pending(settings: Settings, model: str, version: int) -> int | None:
    """Return the champion that was made after the gate's decision by which a version is pending, None if there is none.

    People decide about the version, so figures against the champion before say nothing to them.
    """
    with engine(settings).connect() as connection:
        gates = [each.move.gate_id for each in select_pending(connection, model) if each.move.model_version == version]
        since = _find_champion_since(connection, model, str(gates[0])) if gates else None
    return None if since is None else since.model_version


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


@dataclass(frozen=True)
class ChampionShift:
    """What a row of the promotion history changes: `model_version` is the champion from `from_day` on."""

    model_version: int
    from_day: date
    rolled_back_from: int | None
    by: str
    why: str


def select_shifts(model: str) -> sa.Select[Any]:
    """Select the fields of `ChampionShift` of all rows, in the order in which they were written."""
    columns = [_PROMOTIONS.c[field.name] for field in fields(ChampionShift)]
    return sa.select(*columns).where(_PROMOTIONS.c.model == model).order_by(_PROMOTIONS.c.id)


def rolled_back_from(history: Sequence[ChampionShift], day: date) -> dict[int, ChampionShift]:
    """Return the versions that a rollback took from the champions of a day, each with that rollback.

    A version that is the champion of the day again is none of them. Rollbacks from a later day on do not count, so a
    past day can be published with the champion that it had.

    Args:
        history: the promotion history, in the order in which it was written.
        day: the day.
    """
    champion: ChampionShift | None = None
    undone: dict[int, ChampionShift] = {}
    for row in history:
        if row.from_day > day or (champion is not None and row.from_day < champion.from_day):
            continue
        if row.rolled_back_from is not None:
            undone[row.rolled_back_from] = row
            if champion is not None:
                undone[champion.model_version] = row
        undone.pop(row.model_version, None)
        champion = row
    return undone


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


def entry_of(rows: Sequence[PromotionEntry], moves: Sequence[VersionMove], digest: str) -> Entry:
    """Return the entry of the journal for promotions that one decision of a person made, in the order of writing.

    Args:
        rows: the promotions, all of one version.
        moves: the moves that belong to them.
        digest: of the files of the version.
    """
    first = rows[0]
    decision = "roll back" if first.rolled_back_from else "force promotion" if first.forced else "promote"
    places = {row.id: place for place, row in enumerate(rows)}
    from_day = min(row.from_day for row in rows)
    entry = {
        "decision": decision,
        "model": first.model,
        "model_version": first.model_version,
        "model_digest": digest,
        "from_day": str(from_day),
        "trained_day": None if first.trained_day is None else str(first.trained_day),
        "forced": first.forced,
        "rolled_back_from": first.rolled_back_from,
        "promotions": [{"from_day": str(row.from_day), "created_at": row.created_at.isoformat()} for row in rows],
        "moves": [
            {
                **{name: getattr(move, name) for name in ("model_version", "by", "why", "model_digest")},
                "from_state": str(move.from_state),
                "state": str(move.state),
                "promotion": places[int(move.promotion_id or 0)],
                "created_at": move.created_at.isoformat(),
            }
            for move in moves
        ],
    }
    subject = f"{first.model} version {first.model_version} from {from_day}"
    return Entry(kind="decision", subject=subject, entry=entry, by=first.by, why=first.why)


def restore_decided(settings: Settings, project: str) -> int:
    """Add the promotions, rollbacks and moves of the journal that the promotion history lacks; return how many rows.

    They keep their time and order, which only the owner of the database may say. The gate decisions that they rested on
    are not restored: a backfill makes them again. Approvals are not restored either: a backfill applies them.
    """
    journal = schema.journal.c
    statement = (
        sa
        .select(journal.entry, journal.by, journal.why, journal.run_id)
        .where(journal.project == project, journal.kind == "decision", journal.entry.has_key("promotions"))
        .order_by(journal.sequence)
    )
    with engine(settings.as_owner()).begin() as connection:
        decided = connection.execute(statement).all()
        for model in sorted({row.entry["model"] for row in decided}):
            lock(connection, f"promote {model}")
            lock(connection, f"publish {model}")
        return sum(_restore(connection, *row) for row in decided)


def read_renumbered(settings: Settings, model: str) -> list[tuple[str, int]]:
    """Return the decisions about champions whose version has other files here than those that were decided about.

    A restore writes the numbers that versions had, and trainings in another order make other numbers.

    Returns:
        What each decision is about, and the number of its version.
    """
    j, v, f = schema.journal.c, schema.model_versions.c, schema.fits.c
    version = sa.cast(j.entry["model_version"].as_string(), sa.Integer)
    joined = schema.journal.join(
        schema.model_versions, (v.model == j.entry["model"].as_string()) & (v.model_version == version)
    ).join(schema.fits, f.mlflow_run == v.mlflow_run)
    statement = (
        sa
        .select(j.subject, v.model_version)
        .select_from(joined)
        .where(j.kind == "decision", j.entry.has_key("promotions"), v.model == model)
        .where(f.model_digest != j.entry["model_digest"].as_string())
        .order_by(j.sequence)
    )
    with engine(settings).connect() as connection:
        return [(subject, number) for subject, number in connection.execute(statement)]


def _restore(connection: sa.Connection, entry: dict[str, Any], by: str, why: str, run_id: str) -> int:
    """Add the promotions of one entry that are missing, with their moves; return how many."""
    copied = ("model", "model_version", "trained_day", "forced", "rolled_back_from")
    about = {**{name: entry[name] for name in copied}, "by": by, "why": why, "run_id": run_id}
    about["trained_day"] = about["trained_day"] and date.fromisoformat(about["trained_day"])
    added = 0
    for place, made in enumerate(entry["promotions"]):
        when = {
            "from_day": date.fromisoformat(made["from_day"]),
            "created_at": datetime.fromisoformat(made["created_at"]),
        }
        same = {**when, "model": entry["model"], "model_version": entry["model_version"]}
        if connection.scalar(sa.select(_PROMOTIONS.c.id).filter_by(**same)) is not None:
            continue
        inserting = sa.insert(_PROMOTIONS).values(**about, **when).returning(_PROMOTIONS.c.id)
        promotion_id = connection.scalar(inserting)
        added += 1
        for move in (each for each in entry["moves"] if each["promotion"] == place):
            values = {name: value for name, value in move.items() if name != "promotion"}
            values["created_at"] = datetime.fromisoformat(move["created_at"])
            values |= {"model": entry["model"], "promotion_id": promotion_id, "run_id": run_id}
            connection.execute(sa.insert(schema.version_moves).values(**values))
    return added


def _select_manual(connection: sa.Connection, model: str) -> list[PromotionEntry]:
    statement = sa.select(*_COLUMNS).where(_PROMOTIONS.c.model == model, _PROMOTIONS.c.by != BY_GATE)
    return [_row(found) for found in connection.execute(statement.order_by(_PROMOTIONS.c.id))]


def _find_champion_to_beat(connection: sa.Connection, model: str, version: int, day: date) -> int | None:
    rows = _newest_first(connection, model)
    return next((row.model_version for row in rows if row.model_version != version and row.decided_day <= day), None)


def _find_champion_since(connection: sa.Connection, model: str, gate_id: str) -> PromotionEntry | None:
    gates = schema.gates.c
    decided = connection.execute(sa.select(gates.champion_version, gates.decided_at).where(gates.gate_id == gate_id))
    gate, rows = decided.one_or_none(), _newest_first(connection, model)
    if gate is None or not rows or rows[0].model_version == gate.champion_version:
        return None
    return rows[0] if rows[0].created_at > gate.decided_at else None


def _newest_first(connection: sa.Connection, model: str) -> list[PromotionEntry]:
    statement = sa.select(*_COLUMNS).where(_PROMOTIONS.c.model == model).order_by(*_NEWEST)
    return [_row(found) for found in connection.execute(statement)]


def _row(found: Any) -> PromotionEntry:
    return PromotionEntry(**{**found._mapping, "created_at": found.created_at.astimezone(UTC)})

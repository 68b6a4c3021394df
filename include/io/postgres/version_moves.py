"""The moves of versions between the states of `include/core/lifecycle.py`, in the shared database.

Whether a version is or was the champion is what the promotion history says; its other states are what its newest move
says. So a restored promotion history needs no moves, nor does an installation that is older than this table.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from include.core.lifecycle import State, check_move
from include.core.settings import Settings
from include.io.postgres.connection import engine
from include.io.postgres.schema import fits, gates, journal, model_versions, promotions, version_moves


@dataclass(frozen=True)
class VersionMove:
    """One move of a version. `model_digest` is that of the files it had then, None if no fit of it is recorded."""

    id: int
    model: str
    model_version: int
    from_state: State
    state: State
    by: str
    why: str
    model_digest: str | None
    gate_id: str | None
    promotion_id: int | None
    expires_at: datetime | None
    run_id: str
    created_at: datetime


@dataclass(frozen=True)
class PendingVersion:
    """A version that waits: its move to pending, and the run date of its training."""

    move: VersionMove
    trained_day: date
    is_overdue: bool  # by the database's clock


@dataclass(frozen=True)
class RecordedDecision:
    """What a person decided about the files of a pending version."""

    approved: bool
    by: str
    why: str
    from_day: date | None  # of an approval: the first day of the promotion


_COLUMNS = [version_moves.c[field.name] for field in fields(VersionMove)]


def move_version(
    connection: sa.Connection,
    model: str,
    version: int,
    to: State,
    *,
    by: str,
    why: str,
    run_id: str,
    current: State | None = None,
    force: bool = False,
    gate_id: str | None = None,
    promotion_id: int | None = None,
    expires_in: timedelta | None = None,
) -> VersionMove | None:
    """Move a version to a state, in the caller's transaction, which holds the lock of `open_promotion_history`.

    A version that has the state already stays as it is, so that a repeated step writes no second move.

    Args:
        connection: the transaction.
        model: its name.
        version: the version to move.
        to: the state that it gets. `CHAMPION` and `REPLACED` are for `PromotionHistory.add`, which adds the promotion.
        by: a person, `BY_GATE` or `BY_PRODUCT`.
        why: the reason, for people.
        run_id: the run that moves it.
        current: its state, if the caller knows it; by default it is read.
        force: whether a person makes it the champion whatever was decided.
        gate_id: the decision of the gate that the move follows from, if any.
        promotion_id: the row of the promotion history that the move belongs to, if any.
        expires_in: for `PENDING`, how long a person can decide, by the database's clock; None for ever.

    Returns:
        The move, None if nothing was written.

    Raises:
        ActionRequiredError: the move is not allowed.
    """
    current = read_state(connection, model, version) if current is None else current
    if current is to:
        return None
    check_move(model, version, current, to, by=by, force=force)
    values = {
        "model": model,
        "model_version": version,
        "from_state": str(current),
        "state": str(to),
        "by": by,
        "why": why,
        "model_digest": read_digest(connection, model, version),
        "gate_id": gate_id,
        "promotion_id": promotion_id,
        "expires_at": None if expires_in is None else sa.func.clock_timestamp() + expires_in,
        "run_id": run_id,
    }
    return _row(connection.execute(sa.insert(version_moves).values(**values).returning(*_COLUMNS)).one())


def read_state(connection: sa.Connection, model: str, version: int) -> State:
    """Return the state of a version; one that the shared database does not know is registered."""
    return _states(connection, model, [version]).get(version, State.REGISTERED)


def read_states(settings: Settings, model: str) -> dict[int, State]:
    """Return the state of each version of a model that was registered, gated, moved or promoted."""
    with engine(settings).connect() as connection:
        return _states(connection, model)


def read_moves(settings: Settings, model: str, version: int | None = None) -> list[VersionMove]:
    """Return the moves of a version, or of all versions of a model, the oldest first."""
    with engine(settings).connect() as connection:
        return select_moves(connection, model, version)


def select_moves(connection: sa.Connection, model: str, version: int | None = None) -> list[VersionMove]:
    """Return the same as `read_moves`, in the caller's transaction."""
    statement = sa.select(*_COLUMNS).where(version_moves.c.model == model).order_by(version_moves.c.id)
    if version is not None:
        statement = statement.where(version_moves.c.model_version == version)
    return [_row(found) for found in connection.execute(statement)]


def select_pending(connection: sa.Connection, model: str) -> list[PendingVersion]:
    """Return the pending versions of a model, the one with the oldest run date first."""
    newest = {move.model_version: move for move in select_moves(connection, model)}
    pending = [move for move in newest.values() if move.state is State.PENDING]
    now = connection.scalar(sa.select(sa.func.clock_timestamp()))
    decided = sa.select(gates.c.gate_id, gates.c.day).where(gates.c.gate_id.in_([move.gate_id for move in pending]))
    days = {str(row.gate_id): row.day for row in connection.execute(decided)}
    states = _states(connection, model)
    found = [
        PendingVersion(
            move, days[str(move.gate_id)], is_overdue=bool(move.expires_at and now and move.expires_at <= now)
        )
        for move in pending
        if states[move.model_version] is State.PENDING and str(move.gate_id) in days
    ]
    return sorted(found, key=lambda each: (each.trained_day, each.move.id))


def select_decision(connection: sa.Connection, project: str, model: str, digest: str) -> RecordedDecision | None:
    """Return the newest decision of a person about a pending version with these files, as the journal has it."""
    entry = journal.c.entry
    statement = (
        sa
        .select(entry["decision"].as_string(), entry["from_day"].as_string(), journal.c.by, journal.c.why)
        .where(journal.c.project == project, journal.c.kind == "decision")
        .where(entry["model"].as_string() == model, entry["model_digest"].as_string() == digest)
        .where(entry["decision"].as_string().in_(("approve", "decline")))
        .order_by(journal.c.sequence.desc())
        .limit(1)
    )
    found = connection.execute(statement).one_or_none()
    if found is None:
        return None
    decision, from_day, by, why = found
    return RecordedDecision(decision == "approve", by, why, date.fromisoformat(from_day) if from_day else None)


def _states(connection: sa.Connection, model: str, versions: Sequence[int] | None = None) -> dict[int, State]:
    def newest(table: sa.Table, value: Any, *order: Any) -> dict[int, Any]:
        statement = sa.select(table.c.model_version, value).where(table.c.model == model).order_by(*order)
        if versions is not None:
            statement = statement.where(table.c.model_version.in_(versions))
        return {row[0]: row[1] for row in connection.execute(statement)}

    found = dict.fromkeys(newest(model_versions, model_versions.c.model), State.REGISTERED)
    decided = newest(gates, gates.c.passed, gates.c.decided_at)  # of versions older than the table of moves
    found |= {version: State.REGISTERED if passed else State.REJECTED for version, passed in decided.items()}
    moved = newest(version_moves, version_moves.c.state, version_moves.c.id)
    found |= {version: State(state) for version, state in moved.items()}
    champion = connection.scalar(
        sa
        .select(promotions.c.model_version)
        .where(promotions.c.model == model)
        .order_by(promotions.c.from_day.desc(), promotions.c.id.desc())
        .limit(1)
    )
    promoted = newest(promotions, promotions.c.model)
    return found | {version: State.CHAMPION if version == champion else State.REPLACED for version in promoted}


def read_digest(connection: sa.Connection, model: str, version: int) -> str | None:
    """Return the digest of the files of a version, None if no fit of it is recorded."""
    versions = model_versions.c
    statement = (
        sa
        .select(fits.c.model_digest)
        .join(model_versions, versions.mlflow_run == fits.c.mlflow_run)
        .where(versions.model == model, versions.model_version == version)
    )
    digest: str | None = connection.scalar(statement)
    return digest


def _row(found: Any) -> VersionMove:
    values = dict(found._mapping)
    values["from_state"], values["state"] = State(values["from_state"]), State(values["state"])
    for name in ("created_at", "expires_at"):
        values[name] = values[name] and values[name].astimezone(UTC)
    return VersionMove(**values)

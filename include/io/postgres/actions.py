"""The messages of actions, stored in the transaction that changes what readers see.

`include/core/actions.py` says what they are.

Two kinds of transactions do that: publishing writes through ADBC, and unpublishing and rollback through SQLAlchemy. So
these functions get a function that executes a statement and returns its rows.
"""

import json
from collections.abc import Callable, Collection, Sequence
from datetime import date
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.config.loading import load_project
from include.config.model import Model
from include.core.actions import KIND, BaseAction, Move, TopK, is_due, message_of, wanted_columns
from include.core.feeds import HORIZON
from include.core.outbox import Message
from include.core.project import Project
from include.core.schemas import PREDICTION_COLUMNS
from include.io.postgres import schema
from include.io.postgres.connection import execute
from include.io.postgres.schema import batches, messages, predictions, publications

Run = Callable[[sa.Executable], Sequence[Any]]
"""Executes a statement that returns rows, and returns them."""

NOW = sa.func.clock_timestamp()


def through_adbc(cursor: Any) -> Run:
    """Return how statements are executed in a transaction of ADBC."""

    def run(statement: sa.Executable) -> Sequence[Any]:
        execute(cursor, statement)
        rows: Sequence[Any] = cursor.fetchall()
        return rows

    return run


def through(connection: sa.Connection) -> Run:
    """Return how statements are executed in a transaction of SQLAlchemy."""
    return lambda statement: connection.execute(statement).all()


def put_actions(run: Run, model: Model, days: Collection[date], run_id: str) -> int:
    """Store the messages about the newest move of each of these days, which the same transaction made.

    Args:
        run: executes a statement in that transaction.
        model: whose `actions` count.
        days: the run dates that moved.
        run_id: the run that moved them.

    Returns:
        How many messages were stored.
    """
    if not model.actions or not days:
        return 0
    project, stored = load_project(model.project), 0
    for move in _moves(run, model.name, days):
        for action in model.actions:
            if is_due(action, move, project, sent_before=_is_sent(run, action, move)):
                top = _top(run, action, move, project) if isinstance(action, TopK) and move.batch_id else []
                _put(run, message_of(action, move, top, project=project, run_id=run_id))
                stored += 1
    return stored


def _moves(run: Run, model: str, days: Collection[date]) -> list[Move]:
    p, b = publications.c, batches.c
    statement = (
        sa
        .select(p.id, p.day, sa.cast(p.batch_id, sa.Text), sa.cast(p.replaced, sa.Text), b.model_version, b.rows)
        .add_columns(p.published_at)
        .select_from(publications.outerjoin(batches, b.batch_id == p.batch_id))
        .where(p.model == model, p.day.between(min(days), max(days)))
        .order_by(p.id)
    )
    newest = {row[1]: row for row in run(statement)}
    return [
        Move(
            publication=number, model=model, day=day, batch_id=batch, replaced=replaced, model_version=version,
            rows=rows or 0, moved_at=moved_at,
        )
        for day, (number, _, batch, replaced, version, rows, moved_at) in sorted(newest.items())
        if day in days
    ]  # fmt: skip


def _is_sent(run: Run, action: BaseAction, move: Move) -> bool:
    """Return whether an earlier message of the action is about the run date, sent or not."""
    about = messages.c.payload
    order = action.order if isinstance(action, TopK) else None
    statement = (
        sa
        .select(messages.c.id)
        .where(messages.c.kind == sa.literal_column(f"'{KIND}'"), messages.c.destination == action.to)
        .where(about["model"].astext == move.model, about["run_date"].astext == str(move.day))
        .where(about["action"].astext == action.kind, about["order"].astext.is_not_distinct_from(order))
        .limit(1)
    )
    return bool(run(statement))


def _top(run: Run, action: TopK, move: Move, project: Project) -> list[dict[str, Any]]:
    """Return the rows of a list, best first; equal scores are in the order of horizon and entity."""
    names = wanted_columns(action, project)
    p, entities = predictions.c, schema.entities(project.name, *project.entity.public)
    of = [p[name] if name in (*PREDICTION_COLUMNS, HORIZON, "entity_id") else entities.c[name] for name in names]
    score = p.score.desc() if action.order == "highest" else p.score.asc()
    same = (entities.c.day == p.day) & (entities.c.horizon == p.horizon) & (entities.c.entity_id == p.entity_id)
    statement = (
        sa
        .select(*of)
        .select_from(predictions.outerjoin(entities, same))
        .where(p.batch_id == sa.cast(sa.literal(move.batch_id, schema.TEXT), schema.UUID), p.day == move.day)
        .order_by(score, p.horizon, p.entity_id)
        .limit(sa.literal_column(str(action.k)))
    )
    return [dict(zip(names, row, strict=True)) for row in run(statement)]


def _put(run: Run, message: Message) -> None:
    """Store a message as `messages.put` does, with parameters that ADBC has types for."""
    seconds = int(message.kept_for.total_seconds())
    payload = sa.cast(sa.literal(json.dumps(message.payload), schema.TEXT), schema.JSONB)
    named = message.model_dump(exclude={"kept_for", "payload", "task"})
    adding = (
        postgresql
        .insert(messages)
        .values(**named, payload=payload, deadline=NOW + sa.text(f"interval '{seconds} seconds'"))
        .on_conflict_do_nothing(index_elements=["key"])
        .returning(messages.c.id)
    )
    run(adding)

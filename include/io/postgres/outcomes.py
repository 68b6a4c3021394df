"""Outcomes, in the shared database."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from typing import NamedTuple

import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.core.settings import Settings
from include.io.postgres import schema
from include.io.postgres.connection import engine, execute, frame_of, lock, lock_in, stage, temporary_table, transaction
from include.io.postgres.predictions import rows_digest
from include.io.postgres.schema import outcome_days, outcomes


@dataclass(frozen=True)
class OutcomeDay:
    """A summary of a delivery's outcomes of a day. A delivery without rows has one too."""

    day: date
    delivery_id: str
    available_from: datetime
    sequence: int
    rows: int
    digest: str


@cache
def _no_outcomes() -> str:
    """Return the digest of no rows. polars starts threads for it, so it is not computed when this is imported."""
    return rows_digest(pl.DataFrame(schema={"entity_id": pl.String, "value": pl.Float64}), "value")


_STAGED_DAYS = temporary_table(
    "staged_days",
    sa.Column("day", schema.DATE),
    sa.Column("delivery_id", schema.TEXT),
    sa.Column("available_from", schema.MOMENT),
    sa.Column("sequence", schema.BIGINT),
    sa.Column("rows", schema.BIGINT),
    sa.Column("digest", schema.TEXT),
)
_STAGED_VALUES = temporary_table(
    "staged_values",
    sa.Column("day", schema.DATE),
    sa.Column("entity_id", schema.TEXT),
    sa.Column("value", schema.DOUBLE),
    sa.Column("label", schema.TEXT),
)
_NEWER = temporary_table(
    "newer",
    sa.Column("day", schema.DATE),
    sa.Column("delivery_id", schema.TEXT),
    sa.Column("available_from", schema.MOMENT),
)


class OutcomeDelivery(NamedTuple):
    """What outcomes of a day come from: a delivery, or a stack of them.

    Of a stack, `available_from` and `sequence` are the newest, and `delivery_id` names all (`core.stack.state_id`).
    """

    available_from: datetime
    sequence: int
    delivery_id: str

    def is_older_than(self, other: "OutcomeDelivery") -> bool:
        """Return whether the other one is newer, or of the same moment and made of other deliveries."""
        return (self[:2] < other[:2]) or (self[:2] == other[:2] and self.delivery_id != other.delivery_id)


NO_DELIVERY = OutcomeDelivery(datetime.min.replace(tzinfo=UTC), 0, "")
"""Older than any delivery. It stands for a day whose delivery does not count any more."""


def read_newest_outcomes(settings: Settings, project: str, outcome: str) -> dict[date, OutcomeDelivery]:
    """Return for each day the delivery that its stored outcomes come from; `NO_DELIVERY` if that was set aside."""
    table = outcome_days.c
    statement = sa.select(table.day, table.available_from, table.sequence, table.delivery_id).where(
        table.project == project, table.outcome == outcome
    )
    with engine(settings).connect() as connection:
        return {
            day: OutcomeDelivery(available_from.astimezone(UTC), sequence, delivery_id) if sequence else NO_DELIVERY
            for day, available_from, sequence, delivery_id in connection.execute(statement)
        }


def set_aside_outcomes(settings: Settings, project: str, outcome: str, deliveries: Collection[str]) -> list[date]:
    """Remove the outcomes of deliveries that do not count any more; return their days.

    The days stay in `outcome_days` with the sequence 0, so that any delivery takes their place and that performance is
    measured again.
    """
    table = outcome_days
    marking = (
        sa
        .update(table)
        .where(table.c.project == project, table.c.outcome == outcome, table.c.sequence > 0)
        .where(table.c.delivery_id.in_(list(deliveries)))
        .values(
            sequence=0, rows=0, digest=_no_outcomes(), run_id=settings.run_id, recorded_at=sa.func.clock_timestamp()
        )
        .returning(table.c.day)
    )
    with engine(settings).begin() as connection:
        lock(connection, f"outcomes {project}")
        days = sorted(connection.scalars(marking))
        connection.execute(
            sa.delete(outcomes).where(
                outcomes.c.project == project, outcomes.c.outcome == outcome, outcomes.c.day.in_(days)
            )
        )
    return days


def replace_outcomes(
    settings: Settings, project: str, outcome: str, days: Sequence[OutcomeDay], values: pl.DataFrame
) -> list[date]:
    """Store the outcomes of days that come from newer deliveries.

    A day is replaced as a whole if (available_from, sequence) is greater than what is stored, so that runs in any
    order end with the same rows. It is also replaced if the stored delivery was set aside, or if the same delivery now
    gives other outcomes, because the outcome's declaration has changed.

    Args:
        settings: the database and the id of this run.
        project: its name.
        outcome: its name.
        days: one for each day that has a delivery.
        values: day (date), entity_id (str), value (f64, null if it is known that there is none), of all `days`; label
            (str), if the outcome has labels.

    Returns:
        The days that changed.
    """
    if not days:
        return []
    first, last = min(each.day for each in days), max(each.day for each in days)
    with transaction(settings) as cursor:
        # Before the lock, since it can be slow.
        stage(cursor, _STAGED_DAYS, frame_of(_STAGED_DAYS, days))
        label = pl.col("label") if "label" in values.columns else pl.lit(None, pl.String).alias("label")
        stage(cursor, _STAGED_VALUES, values.select("day", "entity_id", "value", label))
        lock_in(cursor, f"outcomes {project}")
        stage(cursor, _NEWER)
        taken = _take_newer_days(project, outcome, settings.run_id)
        execute(cursor, sa.insert(_NEWER).from_select(list(_NEWER.c.keys()), sa.select(*taken.c)))
        execute(
            cursor,
            sa
            .delete(outcomes)
            .where(outcomes.c.project == project, outcomes.c.outcome == outcome)
            .where(outcomes.c.day.between(first, last))  # else PostgreSQL reads the outcomes of all years
            .where(outcomes.c.day.in_(sa.select(_NEWER.c.day))),
        )
        execute(cursor, _insert_values(project, outcome))
        execute(cursor, sa.select(_NEWER.c.day).order_by(_NEWER.c.day))
        return [day for (day,) in cursor.fetchall()]


def _take_newer_days(project: str, outcome: str, run_id: str) -> sa.CTE:
    """Return the statement that stores the staged days that are newer, and returns them."""
    staged = _STAGED_DAYS.c
    about = [sa.literal(value, schema.TEXT) for value in (project, outcome, run_id)]
    inserting = postgresql.insert(outcome_days).from_select(
        ["project", "outcome", "run_id", *staged.keys()], sa.select(*about, *staged)
    )
    old, new = outcome_days.c, inserting.excluded

    def rank(row: sa.ColumnCollection[str, sa.ColumnElement[object]]) -> sa.Tuple:
        return sa.tuple_(row["available_from"], row["sequence"])

    replacing = inserting.on_conflict_do_update(
        index_elements=["project", "outcome", "day"],
        set_={
            **{name: new[name] for name in ("delivery_id", "available_from", "sequence", "rows", "digest", "run_id")},
            "recorded_at": sa.func.clock_timestamp(),
        },
        where=(old.sequence == 0)
        | (rank(old) < rank(new))
        | ((rank(old) == rank(new)) & ((old.delivery_id != new.delivery_id) | (old.digest != new.digest))),
    )
    newest = sa.func.split_part(old.delivery_id, "\n", 1).label("delivery_id")
    return replacing.returning(old.day, newest, old.available_from).cte("taken")


def _insert_values(project: str, outcome: str) -> sa.Insert:
    """Return the statement that stores the staged outcomes of the newer days."""
    staged, newer = _STAGED_VALUES.c, _NEWER.c
    selecting = sa.select(
        sa.literal(project, schema.TEXT),
        sa.literal(outcome, schema.TEXT),
        staged.day,
        staged.entity_id,
        staged.value,
        staged.label,
        newer.delivery_id,
        newer.available_from,
    ).select_from(_STAGED_VALUES.join(_NEWER, newer.day == staged.day))
    names = ["project", "outcome", "day", "entity_id", "value", "label", "delivery_id", "available_from"]
    return sa.insert(outcomes).from_select(names, selecting)

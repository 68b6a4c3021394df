"""The predictions of a batch with what came true, in the shared database."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import adbc_driver_manager.dbapi
import polars as pl
import sqlalchemy as sa

from include.core.project import Project
from include.io.postgres import schema
from include.io.postgres.connection import execute
from include.io.postgres.schema import outcomes, predictions


def select_with_outcomes(
    project: Project, outcome: str, batch_id: str, day: date, horizon_days: int, slices: Sequence[str] = ()
) -> sa.Select[Any]:
    """Select the predictions of a batch with what came true, for `read_whole_day`, in no order.

    The condition on days is repeated for each table, so that PostgreSQL reads only the rows of these days.

    Returns:
        horizon, entity_id, the columns of predictions, outcome (null: not known, or known to have none), and public
        columns of the entity, `slices`, as text.
    """
    entities = schema.entities(project.name, *slices)
    p, o, e = predictions.c, outcomes.c, entities.c
    first, last = (sa.literal(each, schema.DATE) for each in (day, day + timedelta(days=horizon_days)))
    of_outcome = (o.project == project.name) & (o.outcome == outcome) & o.day.between(first, last)
    joined = predictions.outerjoin(outcomes, of_outcome & (o.day == p.day + p.horizon) & (o.entity_id == p.entity_id))
    if slices:
        same = (e.day == first) & (e.horizon == p.horizon) & (e.entity_id == p.entity_id)
        joined = joined.outerjoin(entities, same)
    return (
        sa
        .select(p.horizon, p.entity_id, *schema.as_predicted(p), o.value.label("outcome"))
        .add_columns(*(sa.cast(e[name], schema.TEXT).label(name) for name in slices))
        .select_from(joined)
        .where(p.batch_id == sa.cast(sa.literal(batch_id, schema.TEXT), schema.UUID), p.day == first)
    )


def read_whole_day(cursor: adbc_driver_manager.dbapi.Cursor, statement: sa.Select[Any]) -> pl.DataFrame:
    """Return what `select_with_outcomes` selects, in the transaction of a cursor.

    PostgreSQL thinks that a day which its statistics do not know yet has one row, and compares all rows of one table
    with all of another: with 9,000 rows a day it took 40 times as long. So the rest of the transaction joins by hash.
    """
    cursor.execute("SELECT set_config('enable_nestloop', 'off', true)")
    cursor.fetchall()
    execute(cursor, statement)
    return pl.DataFrame(cursor.fetch_arrow_table())

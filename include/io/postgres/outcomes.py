"""True outcomes, in the shared database."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import polars as pl
import sqlalchemy as sa

from include.core.settings import Settings
from include.io.postgres.connection import LOCK, engine, stage, transaction


@dataclass(frozen=True)
class OutcomeDay:
    """What one delivery says about the outcomes of a day, in brief; also of a delivery without rows."""

    day: date
    delivery_id: str
    available_at: datetime
    rows: int
    digest: str


def newest_outcomes(settings: Settings, project: str, outcome: str) -> dict[date, tuple[datetime, str]]:
    """Day -> (available_at, delivery_id) of the delivery that its stored outcomes are from."""
    with engine(settings).connect() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT day, available_at, delivery_id FROM outcome_days "
                "WHERE project = :project AND outcome = :outcome"
            ),
            {"project": project, "outcome": outcome},
        )
        return {day: (moment.astimezone(UTC), delivery_id) for day, moment, delivery_id in rows}


def replace_outcomes(
    settings: Settings, project: str, outcome: str, days: Sequence[OutcomeDay], values: pl.DataFrame
) -> list[date]:
    """Take the outcomes of days from newer deliveries; returns the days that changed.

    `values`: day (date), entity_id (str), value (f64, null: known to have none), of all the `days`.
    A day is replaced whole, where (available_at, delivery_id) is greater than what is stored, so that any order ends
    the same; or where the same delivery says something else than before, since the outcome is declared otherwise now.
    """
    staged = pl.DataFrame(
        [tuple(vars(d).values()) for d in days],
        schema={
            "day": pl.Date,
            "delivery_id": pl.String,
            "available_at": pl.Datetime("us", "UTC"),
            "rows": pl.Int64,
            "digest": pl.String,
        },
        orient="row",
    )
    with transaction(settings) as cursor:
        columns = "day date, delivery_id text, available_at timestamptz, rows bigint, digest text"
        stage(cursor, "staged_days", columns, staged)
        columns = "day date, entity_id text, value double precision"
        stage(cursor, "staged_values", columns, values.select("day", "entity_id", "value"))
        cursor.execute(LOCK, parameters=(f"outcomes {project}",))
        stage(cursor, "newer", "day date, delivery_id text, available_at timestamptz", pl.DataFrame())
        cursor.execute(
            "WITH taken AS (INSERT INTO outcome_days AS o "
            "(project, outcome, day, delivery_id, available_at, rows, digest, run_id) "
            "SELECT $1, $2, day, delivery_id, available_at, rows, digest, $3 FROM staged_days "
            "ON CONFLICT (project, outcome, day) DO UPDATE SET delivery_id = excluded.delivery_id, "
            "available_at = excluded.available_at, rows = excluded.rows, digest = excluded.digest, "
            "run_id = excluded.run_id, recorded_at = clock_timestamp() "
            'WHERE (o.available_at, o.delivery_id COLLATE "C") '
            '< (excluded.available_at, excluded.delivery_id COLLATE "C") '
            "OR (o.delivery_id = excluded.delivery_id AND o.digest <> excluded.digest) "
            "RETURNING day, delivery_id, available_at) "
            "INSERT INTO newer SELECT * FROM taken",
            parameters=(project, outcome, settings.run_id),
        )
        cursor.execute(
            "DELETE FROM outcomes WHERE project = $1 AND outcome = $2 AND day IN (SELECT day FROM newer)",
            parameters=(project, outcome),
        )
        cursor.execute(
            "INSERT INTO outcomes (project, outcome, day, entity_id, value, delivery_id, available_at) "
            "SELECT $1, $2, v.day, v.entity_id, v.value, n.delivery_id, n.available_at "
            "FROM staged_values v JOIN newer n ON n.day = v.day",
            parameters=(project, outcome),
        )
        cursor.execute("SELECT day FROM newer ORDER BY day")
        return [day for (day,) in cursor.fetchall()]

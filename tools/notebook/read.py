"""What the notebook reads: features from Delta, predictions and outcomes from the views of the shared database."""

from datetime import date

import polars as pl
import sqlalchemy as sa

from include.core.names import features_table
from include.core.settings import Settings
from include.io.postgres.connection import engine
from include.io.tables import Tables


def prepared_days(settings: Settings, project: str) -> pl.DataFrame:
    """Return the prepared days of a project, the newest first."""
    return _query(
        settings,
        "SELECT day, rows, left_out, as_of, prepared_at FROM prepared_day_status "
        "WHERE project = :project AND data_view = 'point_in_time' ORDER BY day DESC",
        project=project,
    )


def features(settings: Settings, project: str, day: date) -> pl.DataFrame:
    """Return the features of a prepared day, as the table has them now."""
    rows = Tables(settings).scan(features_table(project)).filter(day=day, data_view="point_in_time")
    return rows.drop("data_view").sort("entity_id").collect()


def predictions(settings: Settings, model: str, day: date) -> pl.DataFrame:
    """Return the published predictions of a day, with outcomes as far as they are known."""
    statement = "SELECT * FROM predictions_with_outcomes WHERE model = :model AND day = :day ORDER BY entity_id"
    return _query(settings, statement, model=model, day=day)


def _query(settings: Settings, statement: str, **given: object) -> pl.DataFrame:
    with engine(settings).connect() as connection:
        found = connection.execute(sa.text(statement), given)
        columns = list(found.keys())
        return pl.DataFrame([tuple(row) for row in found], schema=columns, orient="row", infer_schema_length=None)

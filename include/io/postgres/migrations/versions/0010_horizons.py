"""Horizons: predictions for the days after a run date.

`horizon` is part of the key of predictions and entities. Batches and fits say the largest one, and prepared days count
the rows of each. All that is stored so far is of horizon 0.

Columns and comments are repeated from `include/io/postgres/schema.py`: see the first migration.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

TABLES = """
ALTER TABLE predictions ADD COLUMN horizon integer NOT NULL DEFAULT 0 CHECK (horizon >= 0);
ALTER TABLE predictions DROP CONSTRAINT predictions_pkey, ADD PRIMARY KEY (batch_id, horizon, entity_id);
ALTER TABLE batches ADD COLUMN horizon_days integer NOT NULL DEFAULT 0 CHECK (horizon_days >= 0);
ALTER TABLE fits ADD COLUMN horizon_days integer NOT NULL DEFAULT 0 CHECK (horizon_days >= 0);
ALTER TABLE prepared_days ADD COLUMN horizon_rows bigint[] NOT NULL DEFAULT '{}';
DO $$
DECLARE
    entities text;
BEGIN
    FOR entities IN
        SELECT relname FROM pg_class
        WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace AND relname LIKE 'entities\\_%'
    LOOP
        IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = entities::regclass AND attname = 'horizon') THEN
            EXECUTE format('ALTER TABLE %I RENAME COLUMN horizon TO horizon_before_0010', entities);
        END IF;
        EXECUTE format('ALTER TABLE %I ADD COLUMN horizon integer NOT NULL DEFAULT 0', entities);
        EXECUTE format(
            'ALTER TABLE %I DROP CONSTRAINT %I, ADD PRIMARY KEY (day, horizon, entity_id)', entities,
            (SELECT conname FROM pg_constraint WHERE conrelid = entities::regclass AND contype = 'p')
        );
    END LOOP;
END $$;
"""

VIEWS = """
CREATE OR REPLACE VIEW current_predictions AS
SELECT s.model, s.day, p.entity_id, p.score, p.prediction, b.model_version, b.as_of, s.published_at,
    p.lower, p.upper, p.label, p.probabilities, p.horizon, s.day + p.horizon AS target_day
FROM published s
JOIN batches b ON b.batch_id = s.batch_id
JOIN predictions p ON p.batch_id = s.batch_id;

CREATE OR REPLACE VIEW predictions_with_outcomes AS
SELECT s.model, s.day, p.entity_id, p.score, p.prediction, b.model_version, b.as_of, s.published_at,
    m.outcome,
    o.entity_id IS NOT NULL AS outcome_known,
    o.value AS outcome_value,
    CASE WHEN m.problem_type IN ('binary', 'multiclass') THEN p.prediction = o.value END AS correct,
    CASE WHEN m.problem_type IN ('regression', 'count', 'quantile') THEN p.prediction - o.value END AS error,
    o.available_from AS outcome_available_from,
    p.lower, p.upper, p.label, p.probabilities,
    o.label AS outcome_label,
    CASE m.problem_type WHEN 'quantile' THEN o.value BETWEEN p.lower AND p.upper END AS within_limits,
    p.horizon, s.day + p.horizon AS target_day
FROM published s
JOIN batches b ON b.batch_id = s.batch_id
JOIN models m ON m.model = s.model
JOIN predictions p ON p.batch_id = s.batch_id
LEFT JOIN outcomes o
    ON o.project = m.project AND o.outcome = m.outcome AND o.day = s.day + p.horizon AND o.entity_id = p.entity_id;

-- The newest batch that reaches a target day is chosen first: only its rows of that day are read.
CREATE VIEW newest_predictions AS
SELECT n.model, n.target_day, p.entity_id, p.score, p.prediction, p.lower, p.upper, p.label, p.probabilities,
    n.day, p.horizon, n.model_version, n.as_of, n.published_at
FROM (
    SELECT DISTINCT ON (s.model, s.day + h.horizon) s.model, s.day + h.horizon AS target_day, s.day, h.horizon,
        s.batch_id, b.model_version, b.as_of, s.published_at
    FROM published s
    JOIN batches b ON b.batch_id = s.batch_id
    CROSS JOIN LATERAL generate_series(0, b.horizon_days) AS h (horizon)
    ORDER BY s.model, s.day + h.horizon, s.day DESC
) n
JOIN predictions p ON p.batch_id = n.batch_id AND p.horizon = n.horizon;

GRANT SELECT ON newest_predictions TO reader, ops_reader;
"""

DAY = "Run date, a calendar day in the project's timezone; with horizon 0, the day that the predictions are for."
HORIZON = "Days from the run date to the day that the row is about."
TARGET_DAY = "Calendar day that the prediction is for: day + horizon."
ENTITY = "Key of the entity as text; unique within day and horizon."
COLUMNS = {
    **{f"{table}.day": DAY for table in ("batches", "predictions", "published", "publications", "performance_daily")},
    **{f"{view}.day": DAY for view in ("current_predictions", "predictions_with_outcomes")},
    **{f"{view}.day": DAY for view in ("model_performance", "publication_history")},
    **{f"{name}.entity_id": ENTITY for name in ("predictions", "current_predictions", "predictions_with_outcomes")},
    **{f"{name}.horizon": HORIZON for name in ("predictions", "current_predictions", "predictions_with_outcomes")},
    **{f"{view}.target_day": TARGET_DAY for view in ("current_predictions", "predictions_with_outcomes")},
    "batches.horizon_days": "Largest horizon that the version predicts.",
    "fits.horizon_days": "Largest horizon of the rows of the fit.",
    "prepared_days.horizon_rows": "Rows of features of each horizon, from 0; empty where all rows are of horizon 0.",
    "newest_predictions.model": "Name of the model.",
    "newest_predictions.target_day": TARGET_DAY,
    "newest_predictions.entity_id": "Key of the entity as text; unique within the target day.",
    "newest_predictions.day": "Run date that made the prediction: the newest one that reaches the target day.",
    "newest_predictions.horizon": HORIZON,
    "newest_predictions.model_version": "Registry version of the model that made the predictions.",
    "newest_predictions.as_of": "The features used only what was available up to this moment.",
    "newest_predictions.published_at": "Time from which readers see this batch.",
}
RELATIONS = {
    "VIEW current_predictions": "Published predictions: one row for each model, run date, horizon and entity. Join "
    "<project>_entities on (day, horizon, entity_id) to divide them by public columns.",
    "VIEW predictions_with_outcomes": "Published predictions with the true result where it is known: one row for each "
    "model, run date, horizon and entity.",
    "VIEW newest_predictions": "The newest published predictions for each day: one row for each model, target day and "
    "entity, of the newest run date that reaches the day.",
}
COPIED = ("score", "prediction", "lower", "upper", "label", "probabilities")


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(VIEWS)
    for relation, about in RELATIONS.items():
        op.execute(f"COMMENT ON {relation} IS {_literal(about)}")
    for column, about in COLUMNS.items():
        op.execute(f"COMMENT ON COLUMN {column} IS {_literal(about)}")
    for name in COPIED:
        described = sa.text(
            "SELECT col_description(attrelid, attnum) FROM pg_attribute "
            "WHERE attrelid = 'current_predictions'::regclass AND attname = :name"
        )
        about = op.get_bind().scalar(described, {"name": name})
        op.execute(f"COMMENT ON COLUMN newest_predictions.{name} IS {_literal(about)}")


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

"""The strongest reasons of each prediction: a column of its batch, and the view `prediction_reasons`.

Columns and comments are repeated from `include/io/postgres/schema.py`: see the first migration.
"""

from alembic import op

revision = "0028"
down_revision = "0027"

STATEMENTS = """
ALTER TABLE predictions ADD COLUMN reasons jsonb;
COMMENT ON COLUMN predictions.reasons IS 'The strongest reasons of the score; null without `explanations`.';

CREATE VIEW prediction_reasons AS
SELECT s.model, s.day, p.horizon, s.day + p.horizon AS target_day, p.entity_id, r.rank::integer AS rank,
    r.reason ->> 0 AS input, (r.reason ->> 1)::double precision AS contribution,
    (p.reasons ->> 'base')::double precision AS base, (p.reasons ->> 'rest')::double precision AS rest,
    b.model_version, s.published_at
FROM published s
JOIN batches b ON b.batch_id = s.batch_id
JOIN predictions p ON p.batch_id = s.batch_id
CROSS JOIN LATERAL jsonb_array_elements(p.reasons -> 'top') WITH ORDINALITY AS r (reason, rank);
COMMENT ON VIEW prediction_reasons IS
    'The strongest reasons of each published prediction of models with `explanations`: one row for each prediction and '
    'rank. Base, rest and contributions add up to the score: log-odds for probabilities, the logarithm for counts, '
    'else the outcome''s unit.';
COMMENT ON COLUMN prediction_reasons.model IS 'Name of the model.';
COMMENT ON COLUMN prediction_reasons.day IS
    'Run date, a calendar day in the project''s timezone; with horizon 0, the day that the predictions are for.';
COMMENT ON COLUMN prediction_reasons.horizon IS 'Days from the run date to the day that the row is about.';
COMMENT ON COLUMN prediction_reasons.target_day IS 'Calendar day that the prediction is for: day + horizon.';
COMMENT ON COLUMN prediction_reasons.entity_id IS 'Key of the entity as text; unique within day and horizon.';
COMMENT ON COLUMN prediction_reasons.rank IS '1 for the strongest reason.';
COMMENT ON COLUMN prediction_reasons.input IS 'Feature of the model.';
COMMENT ON COLUMN prediction_reasons.contribution IS
    'By how much the feature moves the score from that of a typical row; above 0: upwards. Multiclass: of the '
    'predicted label.';
COMMENT ON COLUMN prediction_reasons.base IS 'Score of a typical row: medians and the most frequent labels.';
COMMENT ON COLUMN prediction_reasons.rest IS 'Sum of the contributions of all other features.';
COMMENT ON COLUMN prediction_reasons.model_version IS 'Registry version of the model that made the predictions.';
COMMENT ON COLUMN prediction_reasons.published_at IS 'Time from which readers see this batch.';
GRANT SELECT ON prediction_reasons TO reader, ops_reader;
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

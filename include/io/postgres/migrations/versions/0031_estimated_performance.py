"""Performance of classification as the scores themselves expect it, before outcomes are known."""

from alembic import op

revision = "0031"
down_revision = "0030"

STATEMENTS = """
CREATE TABLE performance_estimates (
    batch_id uuid NOT NULL,
    model text NOT NULL,
    day date NOT NULL,
    metric text NOT NULL,
    value double precision,
    rows bigint NOT NULL CHECK (rows > 0),
    run_id text NOT NULL,
    estimated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (batch_id, metric)
);
CREATE INDEX ON performance_estimates (model, day);
COMMENT ON TABLE performance_estimates IS
    'What each metric of a published batch will be if its scores are calibrated probabilities.';
COMMENT ON COLUMN performance_estimates.batch_id IS 'Batch that was measured.';
COMMENT ON COLUMN performance_estimates.model IS 'Name of the model.';
COMMENT ON COLUMN performance_estimates.day IS 'Run date.';
COMMENT ON COLUMN performance_estimates.metric IS 'roc_auc, brier or log_loss of binary; accuracy of multiclass.';
COMMENT ON COLUMN performance_estimates.value IS 'Expected metric; null where it is not defined.';
COMMENT ON COLUMN performance_estimates.rows IS 'Number of predictions.';
COMMENT ON COLUMN performance_estimates.run_id IS 'Airflow run that wrote the row, or by-hand.';
COMMENT ON COLUMN performance_estimates.estimated_at IS 'Time of the estimate.';

CREATE VIEW estimated_performance AS
SELECT e.model, e.day, b.model_version, e.metric, e.value AS estimated, p.value AS came_true,
    e.value - p.value AS error, e.rows, p.rows AS rows_with_outcome
FROM performance_estimates e
JOIN published s ON s.batch_id = e.batch_id AND s.model = e.model AND s.day = e.day
JOIN batches b ON b.batch_id = e.batch_id
LEFT JOIN performance_daily p ON p.model = e.model AND p.day = e.day AND p.model_version = b.model_version
    AND p.slice = 'all' AND p.slice_value = 'all' AND p.metric = e.metric;
COMMENT ON VIEW estimated_performance IS
    'Performance of published predictions as their scores expect it, and how wrong that was where outcomes are known.';
COMMENT ON COLUMN estimated_performance.model IS 'Name of the model.';
COMMENT ON COLUMN estimated_performance.day IS 'Run date of the predictions.';
COMMENT ON COLUMN estimated_performance.model_version IS 'Version that made them.';
COMMENT ON COLUMN estimated_performance.metric IS 'roc_auc, brier or log_loss of binary; accuracy of multiclass.';
COMMENT ON COLUMN estimated_performance.estimated IS
    'The metric that is expected if the scores are calibrated probabilities.';
COMMENT ON COLUMN estimated_performance.came_true IS 'The metric by outcomes; null until they are known.';
COMMENT ON COLUMN estimated_performance.error IS 'Estimate minus what came true; null until outcomes are known.';
COMMENT ON COLUMN estimated_performance.rows IS 'Predictions of the day.';
COMMENT ON COLUMN estimated_performance.rows_with_outcome IS 'Those whose outcome is known.';

GRANT SELECT ON estimated_performance TO ops_reader;
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

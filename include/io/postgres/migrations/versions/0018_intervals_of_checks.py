"""Intervals of what the checks of the gate measure.

Columns and comments are repeated from `include/io/postgres/schema.py`: see the first migration.
"""

from alembic import op

revision = "0018"
down_revision = "0017"

STATEMENTS = """
ALTER TABLE gate_results ADD COLUMN low double precision, ADD COLUMN high double precision;
ALTER TABLE gate_results ADD CHECK ((low IS NULL) = (high IS NULL) AND low <= high);
COMMENT ON COLUMN gate_results.low IS
    'Lower end of the interval that has the measured value in 90 % of resamples of days; null if it has none.';
COMMENT ON COLUMN gate_results.high IS
    'Upper end of the interval that has the measured value in 90 % of resamples of days; null if it has none.';

CREATE OR REPLACE VIEW gate_checks AS
SELECT gate_id, model, model_version, day, number, name, subject, measured, threshold, r.passed, sentence, low, high
FROM gate_results r JOIN gates USING (gate_id);
COMMENT ON COLUMN gate_checks.low IS
    'Lower end of the interval that has the measured value in 90 % of resamples of days; null if it has none.';
COMMENT ON COLUMN gate_checks.high IS
    'Upper end of the interval that has the measured value in 90 % of resamples of days; null if it has none.';
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

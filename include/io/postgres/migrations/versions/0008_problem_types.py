"""Decisions of the gate name the validation days, on which the candidate was chosen, beside the later holdout days.

Columns and comments are repeated from `include/io/postgres/schema.py`: see the first migration.
"""

from alembic import op

revision = "0008"
down_revision = "0004"

PERIODS = """
ALTER TABLE gates ADD COLUMN validation_start date, ADD COLUMN validation_end date;
-- Earlier releases chose the candidate on the holdout days.
ALTER TABLE gates DISABLE TRIGGER refuse_change;
UPDATE gates SET validation_start = holdout_start, validation_end = holdout_end;
ALTER TABLE gates ENABLE TRIGGER refuse_change;
ALTER TABLE gates ALTER COLUMN validation_start SET NOT NULL, ALTER COLUMN validation_end SET NOT NULL;
COMMENT ON COLUMN gates.gate_id IS
    'Identifier derived from version, champion, rules, validation days and holdout days.';
COMMENT ON COLUMN gates.validation_start IS 'First validation day, on which the candidate was chosen.';
COMMENT ON COLUMN gates.validation_end IS 'Last validation day.';

CREATE OR REPLACE VIEW gate_decisions AS
SELECT gate_id, model, model_version, day, candidate, champion_version, passed, checks,
    (SELECT string_agg(sentence, '; ' ORDER BY number) FROM gate_results r WHERE r.gate_id = g.gate_id AND NOT
    r.passed)
        AS why_not,
    holdout_start, holdout_end, rows, run_id, decided_at, model_digest, validation_start, validation_end FROM gates g;
COMMENT ON COLUMN gate_decisions.validation_start IS 'First validation day, on which the candidate was chosen.';
COMMENT ON COLUMN gate_decisions.validation_end IS 'Last validation day.';
"""


def upgrade() -> None:
    op.execute(PERIODS)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

"""Problem types multiclass, count and quantile; the validation days of decisions of the gate.

Predictions have limits, or a label and the probability of each. Decisions name the days on which the candidate was
chosen, beside the later holdout days.

Columns and comments are repeated from `include/io/postgres/schema.py`: see the first migration.
"""

from alembic import op

revision = "0008"
down_revision = "0007"

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


SCORE = (
    "Binary: probability of 1, from 0 to 1. Multiclass: probability of the predicted label. Otherwise the predicted "
    "value, in the outcome''s unit."
)
PREDICTION = (
    "Binary: 1 if the score reaches the decision threshold, else 0. Multiclass: number of the label. Otherwise the "
    "score."
)
ADDED = {
    "lower": "Quantile: the lower limit, in the outcome''s unit. Otherwise null.",
    "upper": "Quantile: the upper limit, in the outcome''s unit. Otherwise null.",
    "label": "Multiclass: the predicted label. Otherwise null.",
    "probabilities": "Multiclass: probability of each label. Otherwise null.",
}
OUTCOME_LABEL = "The true result in words, of an outcome with labels; otherwise null."

TYPES = """
ALTER TABLE models DROP CONSTRAINT models_problem_type_check;
ALTER TABLE models ADD CONSTRAINT models_problem_type_check
    CHECK (problem_type IN ('binary', 'multiclass', 'regression', 'count', 'quantile'));
COMMENT ON COLUMN models.problem_type IS 'Problem type: binary, multiclass, regression, count or quantile.';
ALTER TABLE predictions ADD COLUMN lower double precision, ADD COLUMN upper double precision,
    ADD COLUMN label text, ADD COLUMN probabilities jsonb;
ALTER TABLE outcomes ADD COLUMN label text;

CREATE OR REPLACE VIEW current_predictions AS
SELECT s.model, s.day, p.entity_id, p.score, p.prediction, b.model_version, b.as_of, s.published_at,
    p.lower, p.upper, p.label, p.probabilities
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
    CASE m.problem_type WHEN 'quantile' THEN o.value BETWEEN p.lower AND p.upper END AS within_limits
FROM published s
JOIN batches b ON b.batch_id = s.batch_id
JOIN models m ON m.model = s.model
JOIN predictions p ON p.batch_id = s.batch_id
LEFT JOIN outcomes o
    ON o.project = m.project AND o.outcome = m.outcome AND o.day = s.day AND o.entity_id = p.entity_id;

COMMENT ON COLUMN predictions_with_outcomes.outcome_value IS
    'The true result, in its unit; 1 or 0 if it is binary, the number of its label if it has labels.';
COMMENT ON COLUMN predictions_with_outcomes.correct IS
    'Binary and multiclass: true if the prediction equals the outcome. Null otherwise and without a value.';
COMMENT ON COLUMN predictions_with_outcomes.error IS
    'Regression, count and quantile: prediction minus outcome. Null otherwise and without a value.';
COMMENT ON COLUMN predictions_with_outcomes.within_limits IS
    'Quantile: true if the outcome is from lower to upper. Null otherwise and without a value.';
"""


def upgrade() -> None:
    op.execute(PERIODS)
    op.execute(TYPES)
    for relation in ("predictions", "current_predictions", "predictions_with_outcomes"):
        for column, comment in {"score": SCORE, "prediction": PREDICTION, **ADDED}.items():
            op.execute(f"COMMENT ON COLUMN {relation}.{column} IS '{comment}'")
    for column in ("outcomes.label", "predictions_with_outcomes.outcome_label"):
        op.execute(f"COMMENT ON COLUMN {column} IS '{OUTCOME_LABEL}'")


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

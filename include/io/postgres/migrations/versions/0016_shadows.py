"""Shadows: how pending versions compare with the champion on the days that both scored, and how each ended.

The predictions of a shadow are batches that no pointer names, so no reader sees them. A promotion that follows from a
shadow says from which run date on it counts, because trainings before that day did not have to beat it.

Columns and comments are repeated from `include/io/postgres/schema.py`: see the first migration.
"""

from alembic import op

revision = "0016"
down_revision = "0015"

STATEMENTS = """
CREATE TABLE shadow_days (
    model text NOT NULL,
    model_version integer NOT NULL,
    day date NOT NULL,
    champion_version integer NOT NULL,
    metric text NOT NULL,
    rows bigint NOT NULL CHECK (rows > 0),
    loss double precision NOT NULL,
    champion_loss double precision NOT NULL,
    digest text NOT NULL CHECK (digest ~ '^[0-9a-f]{64}$'),
    run_id text NOT NULL,
    measured_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (model, model_version, day),
    CHECK (model_version <> champion_version)
);
COMMENT ON TABLE shadow_days IS
    'How shadows compare with the champion, by day. A day is measured again when a batch or its outcomes change.';
COMMENT ON COLUMN shadow_days.model IS 'Name of the model.';
COMMENT ON COLUMN shadow_days.model_version IS 'Version that is the shadow.';
COMMENT ON COLUMN shadow_days.day IS
    'Run date, a calendar day in the project''s timezone; with horizon 0, the day that the predictions are for.';
COMMENT ON COLUMN shadow_days.champion_version IS 'Champion that it is compared with.';
COMMENT ON COLUMN shadow_days.metric IS 'Name of the loss, by which candidates are chosen, too.';
COMMENT ON COLUMN shadow_days.rows IS 'Rows that both predicted and whose outcome is known.';
COMMENT ON COLUMN shadow_days.loss IS 'Mean loss of the shadow on these rows.';
COMMENT ON COLUMN shadow_days.champion_loss IS 'Mean loss of the champion on the same rows.';
COMMENT ON COLUMN shadow_days.digest IS 'Digest of both batches and the outcomes.';
COMMENT ON COLUMN shadow_days.run_id IS 'Airflow run that wrote the row, or by-hand.';
COMMENT ON COLUMN shadow_days.measured_at IS 'Time of the measurement.';

CREATE TABLE shadow_ends (
    model text NOT NULL,
    model_version integer NOT NULL,
    day date NOT NULL,
    champion_version integer,
    passed boolean NOT NULL,
    days integer NOT NULL CHECK (days >= 0),
    rows bigint NOT NULL CHECK (rows >= 0),
    measured double precision,
    threshold double precision NOT NULL,
    sentence text NOT NULL CHECK (sentence <> ''),
    run_id text NOT NULL,
    ended_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (model, model_version),
    CHECK (NOT passed OR measured IS NOT NULL)
);
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON shadow_ends
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
COMMENT ON TABLE shadow_ends IS 'How each shadow ended, with the figures. Immutable.';
COMMENT ON COLUMN shadow_ends.model IS 'Name of the model.';
COMMENT ON COLUMN shadow_ends.model_version IS 'Version that was the shadow.';
COMMENT ON COLUMN shadow_ends.day IS 'Run date on which it was decided.';
COMMENT ON COLUMN shadow_ends.champion_version IS 'Champion that it was compared with; null if there was none.';
COMMENT ON COLUMN shadow_ends.passed IS 'True if it was not worse than the champion.';
COMMENT ON COLUMN shadow_ends.days IS 'Days whose outcomes were known.';
COMMENT ON COLUMN shadow_ends.rows IS 'Rows that both predicted and whose outcome was known.';
COMMENT ON COLUMN shadow_ends.measured IS
    'Share by which its loss was over the champion''s, at worst; null if it expired.';
COMMENT ON COLUMN shadow_ends.threshold IS 'Largest share allowed, as in the check champion of the gate.';
COMMENT ON COLUMN shadow_ends.sentence IS 'The result in words.';
COMMENT ON COLUMN shadow_ends.run_id IS 'Airflow run that wrote the row, or by-hand.';
COMMENT ON COLUMN shadow_ends.ended_at IS 'Time of the decision.';

CREATE VIEW shadow_performance AS
SELECT model, model_version, champion_version, day, metric, rows, loss, champion_loss,
    CASE WHEN champion_loss > 0 THEN loss / champion_loss - 1 END AS difference, measured_at
FROM shadow_days;
COMMENT ON VIEW shadow_performance IS
    'How pending versions compare with the champion on the run dates that both scored, unpublished.';
COMMENT ON COLUMN shadow_performance.model IS 'Name of the model.';
COMMENT ON COLUMN shadow_performance.model_version IS 'Version that is the shadow.';
COMMENT ON COLUMN shadow_performance.champion_version IS 'Champion that it is compared with.';
COMMENT ON COLUMN shadow_performance.day IS
    'Run date, a calendar day in the project''s timezone; with horizon 0, the day that the predictions are for.';
COMMENT ON COLUMN shadow_performance.metric IS 'Name of the loss, by which candidates are chosen, too.';
COMMENT ON COLUMN shadow_performance.rows IS 'Rows that both predicted and whose outcome is known.';
COMMENT ON COLUMN shadow_performance.loss IS 'Mean loss of the shadow on these rows.';
COMMENT ON COLUMN shadow_performance.champion_loss IS 'Mean loss of the champion on the same rows.';
COMMENT ON COLUMN shadow_performance.difference IS
    'Share by which the loss is over the champion''s; below 0 is better; null if the champion has no loss.';
COMMENT ON COLUMN shadow_performance.measured_at IS 'Time of the measurement.';

CREATE VIEW shadow_decisions AS
SELECT model, model_version, champion_version, day, passed, days, rows, measured, threshold, sentence, ended_at
FROM shadow_ends;
COMMENT ON VIEW shadow_decisions IS 'How each shadow ended, with the figures.';
COMMENT ON COLUMN shadow_decisions.model IS 'Name of the model.';
COMMENT ON COLUMN shadow_decisions.model_version IS 'Version that was the shadow.';
COMMENT ON COLUMN shadow_decisions.champion_version IS 'Champion that it was compared with; null if there was none.';
COMMENT ON COLUMN shadow_decisions.day IS 'Run date on which it was decided.';
COMMENT ON COLUMN shadow_decisions.passed IS 'True if it was not worse than the champion.';
COMMENT ON COLUMN shadow_decisions.days IS 'Days whose outcomes were known.';
COMMENT ON COLUMN shadow_decisions.rows IS 'Rows that both predicted and whose outcome was known.';
COMMENT ON COLUMN shadow_decisions.measured IS
    'Share by which its loss was over the champion''s, at worst; null if it expired.';
COMMENT ON COLUMN shadow_decisions.threshold IS 'Largest share allowed, as in the check champion of the gate.';
COMMENT ON COLUMN shadow_decisions.sentence IS 'The result in words.';
COMMENT ON COLUMN shadow_decisions.ended_at IS 'Time of the decision.';

GRANT SELECT ON shadow_performance, shadow_decisions TO ops_reader;

ALTER TABLE promotions ADD COLUMN counts_from date;
COMMENT ON COLUMN promotions.counts_from IS
    'First run date whose training has to beat it, if a shadow delayed that; otherwise null.';
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

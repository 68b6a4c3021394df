"""Skew and degradation: checks of published rows, what versions were trained on, former champions, asked trainings.

Columns and comments are repeated from `include/io/postgres/schema.py`: see the first migration.
"""

from alembic import op

revision = "0023"
down_revision = "0022"

STATEMENTS = """
CREATE TABLE skew_checks (
    model text NOT NULL,
    day date NOT NULL,
    batch_id uuid NOT NULL,
    model_version integer NOT NULL,
    state text NOT NULL,
    why text NOT NULL,
    rows bigint NOT NULL,
    exact boolean NOT NULL,
    missing bigint NOT NULL,
    features jsonb NOT NULL,
    scores jsonb NOT NULL,
    signature jsonb NOT NULL,
    unseen jsonb NOT NULL,
    outside jsonb NOT NULL,
    far jsonb NOT NULL,
    run_id text NOT NULL,
    checked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (model, day, batch_id),
    CHECK (state IN ('compared', 'skipped', 'failed'))
);
COMMENT ON TABLE skew_checks IS
    'Published predictions that were built again from the raw tables and compared, one row for each batch. It '
    'has no values of rows.';
COMMENT ON COLUMN skew_checks.model IS 'Name of the model.';
COMMENT ON COLUMN skew_checks.day IS 'Run date of the published predictions.';
COMMENT ON COLUMN skew_checks.batch_id IS 'Batch that was checked.';
COMMENT ON COLUMN skew_checks.model_version IS 'Version that made it.';
COMMENT ON COLUMN skew_checks.state IS 'compared, skipped, or failed: nothing could be built again.';
COMMENT ON COLUMN skew_checks.why IS 'Why nothing was compared; empty otherwise.';
COMMENT ON COLUMN skew_checks.rows IS 'Published rows that were compared.';
COMMENT ON COLUMN skew_checks.exact IS 'True if they had to be equal to the bit, false if up to the last bits.';
COMMENT ON COLUMN skew_checks.missing IS 'Rows that are on one side only.';
COMMENT ON COLUMN skew_checks.features IS 'Rows that differ, by column of the features.';
COMMENT ON COLUMN skew_checks.scores IS 'Rows that differ, by column of the predictions.';
COMMENT ON COLUMN skew_checks.signature IS 'Columns that are other than in training, in sentences.';
COMMENT ON COLUMN skew_checks.unseen IS 'Share of rows with a label that training did not have, by input.';
COMMENT ON COLUMN skew_checks.outside IS 'Share of rows with a number outside of those of training, by input.';
COMMENT ON COLUMN skew_checks.far IS
    'Share of rows with a number further outside than the range of training is wide, by input.';
COMMENT ON COLUMN skew_checks.run_id IS 'Airflow run that wrote the row, or by-hand.';
COMMENT ON COLUMN skew_checks.checked_at IS 'Time of the check.';

CREATE TABLE training_summaries (
    model text NOT NULL,
    model_version integer NOT NULL,
    rows bigint NOT NULL,
    inputs jsonb NOT NULL,
    types jsonb NOT NULL,
    constant jsonb,
    why text NOT NULL,
    run_id text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (model, model_version)
);
COMMENT ON TABLE training_summaries IS
    'What each version was trained on, in a few numbers, for comparison with what it scores. Labels are digests.';
COMMENT ON COLUMN training_summaries.model IS 'Name of the model.';
COMMENT ON COLUMN training_summaries.model_version IS 'Version in the registry.';
COMMENT ON COLUMN training_summaries.rows IS 'Labelled rows of its training; 0 if they are not known any more.';
COMMENT ON COLUMN training_summaries.inputs IS 'By input: least and greatest number, or digests of the labels.';
COMMENT ON COLUMN training_summaries.types IS 'Type of each column of the features that it was trained on.';
COMMENT ON COLUMN training_summaries.constant IS
    'The dummy baseline: the best constant on the rows that it was fitted on; null if they are not known any more.';
COMMENT ON COLUMN training_summaries.why IS 'Why the rows are not known; empty otherwise.';
COMMENT ON COLUMN training_summaries.run_id IS 'Airflow run that wrote the row, or by-hand.';
COMMENT ON COLUMN training_summaries.recorded_at IS 'Time at which the row was written.';

CREATE TABLE champion_comparisons (
    model text NOT NULL,
    day date NOT NULL,
    model_version integer NOT NULL,
    slice text NOT NULL,
    slice_value text NOT NULL,
    place integer NOT NULL,
    champion_version integer NOT NULL,
    last_day date NOT NULL,
    metric text NOT NULL,
    rows bigint NOT NULL,
    loss double precision NOT NULL,
    digest text NOT NULL,
    run_id text NOT NULL,
    measured_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (model, day, model_version, slice, slice_value),
    CHECK (rows > 0)
);
COMMENT ON TABLE champion_comparisons IS
    'The champion, former champions and the dummy baseline on the same published rows with known outcomes, by '
    'run date. A day is measured again when its batch, its outcomes or what it is compared with change.';
COMMENT ON COLUMN champion_comparisons.model IS 'Name of the model.';
COMMENT ON COLUMN champion_comparisons.day IS 'Run date of the published predictions.';
COMMENT ON COLUMN champion_comparisons.model_version IS
    'Version that scored the rows; 0 is the dummy baseline of the champion.';
COMMENT ON COLUMN champion_comparisons.slice IS 'Column by which the rows are divided, or the word all.';
COMMENT ON COLUMN champion_comparisons.slice_value IS 'Value of that column, or the word all.';
COMMENT ON COLUMN champion_comparisons.place IS
    '-1: the dummy baseline; 0: the champion; 1: the champion before, 2: the one before that.';
COMMENT ON COLUMN champion_comparisons.champion_version IS 'Version whose predictions are published.';
COMMENT ON COLUMN champion_comparisons.last_day IS 'Last day that the run date predicts.';
COMMENT ON COLUMN champion_comparisons.metric IS 'Name of the loss, by which candidates are chosen, too.';
COMMENT ON COLUMN champion_comparisons.rows IS 'Rows that all of them scored and whose outcome is known.';
COMMENT ON COLUMN champion_comparisons.loss IS 'Mean loss on these rows.';
COMMENT ON COLUMN champion_comparisons.digest IS 'Digest of batch, outcomes, versions and declaration.';
COMMENT ON COLUMN champion_comparisons.run_id IS 'Airflow run that wrote the row, or by-hand.';
COMMENT ON COLUMN champion_comparisons.measured_at IS 'Time of the measurement.';

CREATE TABLE retrainings (
    model text NOT NULL,
    day date NOT NULL,
    project text NOT NULL,
    rules jsonb NOT NULL,
    why text NOT NULL,
    run_id text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (model, day),
    CHECK (why <> '')
);
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON retrainings
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
COMMENT ON TABLE retrainings IS
    'Trainings that monitoring asked for, one for each model and run date. Immutable.';
COMMENT ON COLUMN retrainings.model IS 'Name of the model.';
COMMENT ON COLUMN retrainings.day IS 'Run date of the training.';
COMMENT ON COLUMN retrainings.project IS 'Name of the project.';
COMMENT ON COLUMN retrainings.rules IS 'Rules whose alerts ask for it.';
COMMENT ON COLUMN retrainings.why IS 'Reason in words.';
COMMENT ON COLUMN retrainings.run_id IS 'Airflow run that wrote the row, or by-hand.';
COMMENT ON COLUMN retrainings.requested_at IS 'Time at which it was asked for.';

CREATE VIEW skew AS
SELECT c.model, c.day, c.model_version, c.state, c.why, c.rows, c.exact, c.missing, c.features, c.scores, c.signature,
    c.unseen, c.outside, c.far, c.checked_at
FROM skew_checks c JOIN published p ON p.batch_id = c.batch_id AND p.model = c.model AND p.day = c.day;
COMMENT ON VIEW skew IS
    'Published predictions that were built again from the raw tables and compared, and what the version meets '
    'that it was not trained on.';
COMMENT ON COLUMN skew.model IS 'Name of the model.';
COMMENT ON COLUMN skew.day IS 'Run date of the published predictions.';
COMMENT ON COLUMN skew.model_version IS 'Version that made it.';
COMMENT ON COLUMN skew.state IS 'compared, skipped, or failed: nothing could be built again.';
COMMENT ON COLUMN skew.why IS 'Why nothing was compared; empty otherwise.';
COMMENT ON COLUMN skew.rows IS 'Published rows that were compared.';
COMMENT ON COLUMN skew.exact IS 'True if they had to be equal to the bit, false if up to the last bits.';
COMMENT ON COLUMN skew.missing IS 'Rows that are on one side only.';
COMMENT ON COLUMN skew.features IS 'Rows that differ, by column of the features.';
COMMENT ON COLUMN skew.scores IS 'Rows that differ, by column of the predictions.';
COMMENT ON COLUMN skew.signature IS 'Columns that are other than in training, in sentences.';
COMMENT ON COLUMN skew.unseen IS 'Share of rows with a label that training did not have, by input.';
COMMENT ON COLUMN skew.outside IS 'Share of rows with a number outside of those of training, by input.';
COMMENT ON COLUMN skew.far IS
    'Share of rows with a number further outside than the range of training is wide, by input.';
COMMENT ON COLUMN skew.checked_at IS 'Time of the check.';

CREATE VIEW champion_performance AS
SELECT c.model, c.day, c.champion_version, c.model_version, c.place, c.slice, c.slice_value, c.metric, c.rows, c.loss,
    own.loss AS champion_loss, CASE WHEN c.loss > 0 THEN own.loss / c.loss - 1 END AS excess, c.measured_at
FROM champion_comparisons c JOIN champion_comparisons own ON own.model = c.model AND own.day = c.day
    AND own.place = 0 AND own.slice = c.slice AND own.slice_value = c.slice_value;
COMMENT ON VIEW champion_performance IS
    'The champion of each run date beside former champions and the dummy baseline, on the same rows.';
COMMENT ON COLUMN champion_performance.model IS 'Name of the model.';
COMMENT ON COLUMN champion_performance.day IS 'Run date of the published predictions.';
COMMENT ON COLUMN champion_performance.champion_version IS 'Version whose predictions are published.';
COMMENT ON COLUMN champion_performance.model_version IS
    'Version that scored the rows; 0 is the dummy baseline of the champion.';
COMMENT ON COLUMN champion_performance.place IS
    '-1: the dummy baseline; 0: the champion; 1: the champion before, 2: the one before that.';
COMMENT ON COLUMN champion_performance.slice IS 'Column by which the rows are divided, or the word all.';
COMMENT ON COLUMN champion_performance.slice_value IS 'Value of that column, or the word all.';
COMMENT ON COLUMN champion_performance.metric IS 'Name of the loss, by which candidates are chosen, too.';
COMMENT ON COLUMN champion_performance.rows IS 'Rows that all of them scored and whose outcome is known.';
COMMENT ON COLUMN champion_performance.loss IS 'Mean loss on these rows.';
COMMENT ON COLUMN champion_performance.champion_loss IS 'Mean loss of the champion on the same rows.';
COMMENT ON COLUMN champion_performance.excess IS
    'Share by which the loss of the champion is over it; below 0 is better; null if it has no loss.';
COMMENT ON COLUMN champion_performance.measured_at IS 'Time of the measurement.';

CREATE VIEW retraining_requests AS
SELECT project, model, day, rules, why, run_id, requested_at FROM retrainings;
COMMENT ON VIEW retraining_requests IS
    'Trainings that monitoring asked for, and why.';
COMMENT ON COLUMN retraining_requests.project IS 'Name of the project.';
COMMENT ON COLUMN retraining_requests.model IS 'Name of the model.';
COMMENT ON COLUMN retraining_requests.day IS 'Run date of the training.';
COMMENT ON COLUMN retraining_requests.rules IS 'Rules whose alerts ask for it.';
COMMENT ON COLUMN retraining_requests.why IS 'Reason in words.';
COMMENT ON COLUMN retraining_requests.run_id IS 'Airflow run that wrote the row, or by-hand.';
COMMENT ON COLUMN retraining_requests.requested_at IS 'Time at which it was asked for.';

GRANT SELECT ON skew, champion_performance, retraining_requests TO ops_reader;
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

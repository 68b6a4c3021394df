"""Drift: summaries of a day by feature, the edges that they count between, and how far days are from a reference.

Columns and comments are repeated from `include/io/postgres/schema.py`: see the first migration.
"""

from alembic import op

revision = "0020"
down_revision = "0019"

STATEMENTS = """
CREATE TABLE drift_edges (
    model text NOT NULL,
    role text NOT NULL,
    feature text NOT NULL,
    edges double precision[] NOT NULL,
    labels text[] NOT NULL,
    center double precision NOT NULL,
    scale double precision NOT NULL,
    low double precision NOT NULL,
    high double precision NOT NULL,
    discrete boolean NOT NULL,
    model_version integer NOT NULL,
    run_id text NOT NULL,
    frozen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (model, role, feature)
);
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON drift_edges
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
COMMENT ON TABLE drift_edges IS
    'How values are counted, by feature, frozen from the training data of a model''s first champion. Immutable.';
COMMENT ON COLUMN drift_edges.model IS 'Name of the model.';
COMMENT ON COLUMN drift_edges.role IS 'input, prediction or outcome.';
COMMENT ON COLUMN drift_edges.feature IS 'Name of the feature, or of what is predicted.';
COMMENT ON COLUMN drift_edges.edges IS
    'Of a number: the edges between which values are counted, ascending; empty of a label.';
COMMENT ON COLUMN drift_edges.labels IS 'Of a label: those with a count of their own; all others are counted together.';
COMMENT ON COLUMN drift_edges.center IS 'Mean of the training data.';
COMMENT ON COLUMN drift_edges.scale IS 'Standard deviation of the training data; 1 if it is 0.';
COMMENT ON COLUMN drift_edges.low IS 'Smallest value of the training data.';
COMMENT ON COLUMN drift_edges.high IS 'First number over the greatest value of the training data.';
COMMENT ON COLUMN drift_edges.discrete IS 'True if the training data have a few distinct values only.';
COMMENT ON COLUMN drift_edges.model_version IS 'Version whose training data were used.';
COMMENT ON COLUMN drift_edges.run_id IS 'Airflow run that wrote the row, or by-hand.';
COMMENT ON COLUMN drift_edges.frozen_at IS 'Time at which they were frozen.';

CREATE TABLE drift_summaries (
    model text NOT NULL,
    day date NOT NULL,
    role text NOT NULL,
    feature text NOT NULL,
    slice text NOT NULL,
    slice_value text NOT NULL,
    rows bigint NOT NULL,
    missing bigint NOT NULL,
    counts bigint[] NOT NULL,
    low double precision,
    high double precision,
    total double precision NOT NULL,
    squares double precision NOT NULL,
    fingerprint text,
    digest text NOT NULL,
    run_id text NOT NULL,
    summarised_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (model, day, role, feature, slice, slice_value)
);
COMMENT ON TABLE drift_summaries IS
    'Summaries of a day by feature, which add up. A day is summarised again when its data change.';
COMMENT ON COLUMN drift_summaries.model IS 'Name of the model.';
COMMENT ON COLUMN drift_summaries.day IS
    'Calendar day of the values: the run date of inputs and predictions, the day of outcomes.';
COMMENT ON COLUMN drift_summaries.role IS 'input, prediction or outcome.';
COMMENT ON COLUMN drift_summaries.feature IS 'Name of the feature, or of what is predicted.';
COMMENT ON COLUMN drift_summaries.slice IS 'Column by which the rows are divided, or the word all.';
COMMENT ON COLUMN drift_summaries.slice_value IS 'Value of that column, or the word all.';
COMMENT ON COLUMN drift_summaries.rows IS 'Rows, those without a value included.';
COMMENT ON COLUMN drift_summaries.missing IS 'Rows without a value.';
COMMENT ON COLUMN drift_summaries.counts IS 'Rows between the edges, or with each label and with any other.';
COMMENT ON COLUMN drift_summaries.low IS 'Smallest value; null of a label, and if there is none.';
COMMENT ON COLUMN drift_summaries.high IS 'Greatest value.';
COMMENT ON COLUMN drift_summaries.total IS 'Sum of (value - center) / scale.';
COMMENT ON COLUMN drift_summaries.squares IS 'Sum of the squares of it.';
COMMENT ON COLUMN drift_summaries.fingerprint IS 'Digest of all values; null where equal days are no surprise.';
COMMENT ON COLUMN drift_summaries.digest IS
    'Digest of what the day was summarised from; it is summarised again when that changes.';
COMMENT ON COLUMN drift_summaries.run_id IS 'Airflow run that wrote the row, or by-hand.';
COMMENT ON COLUMN drift_summaries.summarised_at IS 'Time of the summary.';

CREATE TABLE drift_daily (
    model text NOT NULL,
    day date NOT NULL,
    role text NOT NULL,
    feature text NOT NULL,
    slice text NOT NULL,
    slice_value text NOT NULL,
    reference text NOT NULL,
    days integer NOT NULL,
    model_version integer,
    rows bigint NOT NULL,
    shift double precision,
    spread double precision,
    shape double precision,
    psi double precision,
    missing double precision,
    outside double precision,
    new double precision,
    vanished double precision,
    strength double precision,
    digest text NOT NULL,
    run_id text NOT NULL,
    measured_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (model, day, role, feature, slice, slice_value, reference)
);
COMMENT ON TABLE drift_daily IS 'How far each feature is from a reference period on each run date.';
COMMENT ON COLUMN drift_daily.model IS 'Name of the model.';
COMMENT ON COLUMN drift_daily.day IS 'Run date.';
COMMENT ON COLUMN drift_daily.role IS 'input, prediction or outcome.';
COMMENT ON COLUMN drift_daily.feature IS 'Name of the feature, or of what is predicted; (rows) for the number of rows.';
COMMENT ON COLUMN drift_daily.slice IS 'Column by which the rows are divided, or the word all.';
COMMENT ON COLUMN drift_daily.slice_value IS 'Value of that column, or the word all.';
COMMENT ON COLUMN drift_daily.reference IS
    'weeks: the same weekdays of the four weeks before. training: the training data of the version.';
COMMENT ON COLUMN drift_daily.days IS 'How many of the newest days are compared together.';
COMMENT ON COLUMN drift_daily.model_version IS 'Version that predicted on the day; null if none did.';
COMMENT ON COLUMN drift_daily.rows IS 'Rows of these days.';
COMMENT ON COLUMN drift_daily.shift IS
    'Wasserstein distance, in standard deviations of the training data; null of a label.';
COMMENT ON COLUMN drift_daily.spread IS
    'Logarithm of the ratio of standard deviations, without its sign; null of a label.';
COMMENT ON COLUMN drift_daily.shape IS 'Jensen-Shannon distance (base 2), from 0 to 1.';
COMMENT ON COLUMN drift_daily.psi IS 'Population stability index.';
COMMENT ON COLUMN drift_daily.missing IS 'Difference of the shares of rows without a value.';
COMMENT ON COLUMN drift_daily.outside IS
    'Share of values outside the range of the training data, beyond that of the reference; null of a label.';
COMMENT ON COLUMN drift_daily.new IS
    'Share of labels that the training data lack, beyond that of the reference; null of a number.';
COMMENT ON COLUMN drift_daily.vanished IS
    'Share, in the reference, of labels that no row has any more; null of a number.';
COMMENT ON COLUMN drift_daily.strength IS
    'Greatest effect as a multiple of its limit; from 1 on it is large. Null if it is not compared with a limit.';
COMMENT ON COLUMN drift_daily.digest IS
    'Digest of the results of the run date; they are written again when it changes.';
COMMENT ON COLUMN drift_daily.run_id IS 'Airflow run that wrote the row, or by-hand.';
COMMENT ON COLUMN drift_daily.measured_at IS 'Time of the measurement.';

CREATE VIEW drift AS
SELECT model, day, role, feature, slice, slice_value, reference, days, model_version, rows, shift, spread, shape, psi,
    missing, outside, new, vanished, strength, measured_at
FROM drift_daily;
COMMENT ON VIEW drift IS
    'How far inputs, predictions and outcomes are from the weeks before and from the training data, by run date.';
COMMENT ON COLUMN drift.model IS 'Name of the model.';
COMMENT ON COLUMN drift.day IS 'Run date.';
COMMENT ON COLUMN drift.role IS 'input, prediction or outcome.';
COMMENT ON COLUMN drift.feature IS 'Name of the feature, or of what is predicted; (rows) for the number of rows.';
COMMENT ON COLUMN drift.slice IS 'Column by which the rows are divided, or the word all.';
COMMENT ON COLUMN drift.slice_value IS 'Value of that column, or the word all.';
COMMENT ON COLUMN drift.reference IS
    'weeks: the same weekdays of the four weeks before. training: the training data of the version.';
COMMENT ON COLUMN drift.days IS 'How many of the newest days are compared together.';
COMMENT ON COLUMN drift.model_version IS 'Version that predicted on the day; null if none did.';
COMMENT ON COLUMN drift.rows IS 'Rows of these days.';
COMMENT ON COLUMN drift.shift IS 'Wasserstein distance, in standard deviations of the training data; null of a label.';
COMMENT ON COLUMN drift.spread IS 'Logarithm of the ratio of standard deviations, without its sign; null of a label.';
COMMENT ON COLUMN drift.shape IS 'Jensen-Shannon distance (base 2), from 0 to 1.';
COMMENT ON COLUMN drift.psi IS 'Population stability index.';
COMMENT ON COLUMN drift.missing IS 'Difference of the shares of rows without a value.';
COMMENT ON COLUMN drift.outside IS
    'Share of values outside the range of the training data, beyond that of the reference; null of a label.';
COMMENT ON COLUMN drift.new IS
    'Share of labels that the training data lack, beyond that of the reference; null of a number.';
COMMENT ON COLUMN drift.vanished IS 'Share, in the reference, of labels that no row has any more; null of a number.';
COMMENT ON COLUMN drift.strength IS
    'Greatest effect as a multiple of its limit; from 1 on it is large. Null if it is not compared with a limit.';
COMMENT ON COLUMN drift.measured_at IS 'Time of the measurement.';
GRANT SELECT ON drift TO reader, ops_reader;
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

"""What the pipeline itself takes and costs, how punctual suppliers are, and how healthy scores are.

Columns and comments are repeated from `include/io/postgres/schema.py`: see the first migration.
"""

from alembic import op

revision = "0024"
down_revision = "0023"

STATEMENTS = """
ALTER TABLE step_runs
    ADD COLUMN part text,
    ADD COLUMN ran_on date,
    ADD COLUMN bytes_read bigint,
    ADD COLUMN bytes_written bigint,
    ADD COLUMN libraries text,
    ADD COLUMN dbus double precision CHECK (dbus >= 0),
    ADD COLUMN cost double precision CHECK (cost >= 0),
    ADD COLUMN currency text CHECK (currency ~ '^[A-Z]{3}$'),
    ADD CHECK ((cost IS NULL) = (currency IS NULL));
CREATE INDEX ON step_runs (project, ran_on);
COMMENT ON COLUMN step_runs.part IS 'Candidate that the step fitted; null for other steps.';
COMMENT ON COLUMN step_runs.ran_on IS 'Calendar day of the end, in the project''s timezone.';
COMMENT ON COLUMN step_runs.bytes_read IS
    'Bytes that the worker process and its ended child processes read from files and pipes. Null for a step on '
    'Databricks and where the platform does not count them.';
COMMENT ON COLUMN step_runs.bytes_written IS 'Bytes that they wrote likewise.';
COMMENT ON COLUMN step_runs.libraries IS 'Installed versions, in installed_libraries; null if unknown.';
COMMENT ON COLUMN step_runs.dbus IS 'Databricks units: databricks.dbu_per_hour times the elapsed time.';
COMMENT ON COLUMN step_runs.cost IS 'Cost by the prices declared when it ran; null without prices.';
COMMENT ON COLUMN step_runs.currency IS 'Currency of the cost.';

CREATE TABLE installed_libraries (
    digest text NOT NULL CHECK (digest ~ '^[0-9a-f]{64}$'),
    versions jsonb NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (digest)
);
COMMENT ON TABLE installed_libraries IS
    'The versions of libraries that steps ran with. Rows are only added.';
COMMENT ON COLUMN installed_libraries.digest IS 'Digest of the versions.';
COMMENT ON COLUMN installed_libraries.versions IS
    'Version of Python and of each library that results depend on.';
COMMENT ON COLUMN installed_libraries.seen_at IS 'Time at which a step ran with them first.';

CREATE TABLE feed_punctuality (
    project text NOT NULL,
    feed text NOT NULL,
    day date NOT NULL,
    supplier text NOT NULL,
    file_day date NOT NULL,
    due_at timestamptz NOT NULL,
    available_from timestamptz,
    late boolean NOT NULL,
    run_id text NOT NULL,
    measured_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (project, feed, day),
    CHECK (late = (available_from IS NULL OR available_from > due_at))
);
COMMENT ON TABLE feed_punctuality IS
    'Whether each feed''s delivery came in time, as the record of the run date knew it.';
COMMENT ON COLUMN feed_punctuality.project IS 'Name of the project.';
COMMENT ON COLUMN feed_punctuality.feed IS 'Name of the feed.';
COMMENT ON COLUMN feed_punctuality.day IS 'Run date.';
COMMENT ON COLUMN feed_punctuality.supplier IS
    'Who delivers it, as project.yaml says; by default the feed.';
COMMENT ON COLUMN feed_punctuality.file_day IS 'Day of the delivery that was due.';
COMMENT ON COLUMN feed_punctuality.due_at IS 'Time by which it was due.';
COMMENT ON COLUMN feed_punctuality.available_from IS
    'Time from which the first delivery counts; null if there was none when the run date was prepared.';
COMMENT ON COLUMN feed_punctuality.late IS 'True if there was none by the time it was due.';
COMMENT ON COLUMN feed_punctuality.run_id IS 'Airflow run that wrote the row, or by-hand.';
COMMENT ON COLUMN feed_punctuality.measured_at IS 'Time of the measurement.';

CREATE TABLE score_health (
    batch_id uuid NOT NULL,
    model text NOT NULL,
    day date NOT NULL,
    rows bigint NOT NULL CHECK (rows > 0),
    distinct_scores bigint NOT NULL,
    commonest_share double precision NOT NULL CHECK (commonest_share BETWEEN 0 AND 1),
    saturated_share double precision CHECK (saturated_share BETWEEN 0 AND 1),
    run_id text NOT NULL,
    measured_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (batch_id)
);
COMMENT ON TABLE score_health IS
    'Numeric health of the scores of each published batch. Infinite scores are never written.';
COMMENT ON COLUMN score_health.batch_id IS 'Batch that was measured.';
COMMENT ON COLUMN score_health.model IS 'Name of the model.';
COMMENT ON COLUMN score_health.day IS
    'Run date, a calendar day in the project''s timezone; with horizon 0, the day that the predictions are for.';
COMMENT ON COLUMN score_health.rows IS 'Number of predictions.';
COMMENT ON COLUMN score_health.distinct_scores IS 'Number of different scores.';
COMMENT ON COLUMN score_health.commonest_share IS 'Share of the rows that have the commonest score.';
COMMENT ON COLUMN score_health.saturated_share IS
    'Share of the rows whose score is 0 or 1 to nine digits; null if scores are no probabilities.';
COMMENT ON COLUMN score_health.run_id IS 'Airflow run that wrote the row, or by-hand.';
COMMENT ON COLUMN score_health.measured_at IS 'Time of the measurement.';
CREATE INDEX ON score_health (model, day);

CREATE OR REPLACE VIEW step_history AS
SELECT id, project, model, step, interval_start, interval_end, state, rows, seconds, core_seconds, peak_memory_mb,
    table_version, model_version, error_class, run_id, started_at, ended_at, part, ran_on, bytes_read, bytes_written,
    libraries, dbus, cost, currency
FROM step_runs;
COMMENT ON COLUMN step_history.part IS 'Candidate that the step fitted; null for other steps.';
COMMENT ON COLUMN step_history.ran_on IS 'Calendar day of the end, in the project''s timezone.';
COMMENT ON COLUMN step_history.bytes_read IS
    'Bytes that the worker process and its ended child processes read from files and pipes. Null for a step on '
    'Databricks and where the platform does not count them.';
COMMENT ON COLUMN step_history.bytes_written IS 'Bytes that they wrote likewise.';
COMMENT ON COLUMN step_history.libraries IS
    'Installed versions, in installed_libraries; null if unknown.';
COMMENT ON COLUMN step_history.dbus IS
    'Databricks units: databricks.dbu_per_hour times the elapsed time.';
COMMENT ON COLUMN step_history.cost IS 'Cost by the prices declared when it ran; null without prices.';
COMMENT ON COLUMN step_history.currency IS 'Currency of the cost.';

CREATE VIEW pipeline_cost AS
SELECT project, coalesce(ran_on, (ended_at AT TIME ZONE 'UTC')::date) AS day, step, model, count(*) AS runs,
    count(*) FILTER (WHERE state = 'failed') AS failed_runs, sum(rows)::bigint AS rows, sum(seconds) AS seconds,
    sum(core_seconds) AS core_seconds, sum(dbus) AS dbus, max(peak_memory_mb) AS peak_memory_mb,
    sum(bytes_read)::bigint AS bytes_read, sum(bytes_written)::bigint AS bytes_written, sum(cost) AS cost, currency
FROM step_runs
GROUP BY project, coalesce(ran_on, (ended_at AT TIME ZONE 'UTC')::date), step, model, currency;
COMMENT ON VIEW pipeline_cost IS 'What the runs of each step took and cost, by the day on which they ended.';
COMMENT ON COLUMN pipeline_cost.project IS 'Name of the project.';
COMMENT ON COLUMN pipeline_cost.day IS
    'Calendar day on which the runs ended, in the project''s timezone; of a backfill, the day on which it ran.';
COMMENT ON COLUMN pipeline_cost.step IS 'Name of the step.';
COMMENT ON COLUMN pipeline_cost.model IS 'Name of the model; null for steps of a project.';
COMMENT ON COLUMN pipeline_cost.runs IS 'Runs of the step, failed and skipped ones included.';
COMMENT ON COLUMN pipeline_cost.failed_runs IS 'Runs that failed.';
COMMENT ON COLUMN pipeline_cost.rows IS 'Rows that they wrote or read.';
COMMENT ON COLUMN pipeline_cost.seconds IS 'Elapsed time in seconds, added up.';
COMMENT ON COLUMN pipeline_cost.core_seconds IS 'CPU time on the worker, in seconds; null on Databricks.';
COMMENT ON COLUMN pipeline_cost.dbus IS 'Databricks units; null on the worker.';
COMMENT ON COLUMN pipeline_cost.peak_memory_mb IS 'Highest resident memory of a run, in MiB.';
COMMENT ON COLUMN pipeline_cost.bytes_read IS
    'Bytes that the worker processes read from files and pipes.';
COMMENT ON COLUMN pipeline_cost.bytes_written IS 'Bytes that they wrote likewise.';
COMMENT ON COLUMN pipeline_cost.cost IS 'Cost by the prices declared when they ran; null without prices.';
COMMENT ON COLUMN pipeline_cost.currency IS 'Currency of the cost.';

CREATE VIEW supplier_punctuality AS
WITH recent AS (
    SELECT *, dense_rank() OVER (PARTITION BY project ORDER BY day DESC) AS back FROM feed_punctuality
)
SELECT project, supplier, feed, count(*) FILTER (WHERE back <= 28) AS due,
    count(*) FILTER (WHERE back <= 28 AND late) AS late,
    count(*) FILTER (WHERE back <= 28 AND available_from IS NULL) AS missing,
    count(*) FILTER (WHERE back <= 28 AND late)::double precision / nullif(count(*) FILTER (WHERE back <= 28), 0)
        AS late_share,
    count(*) FILTER (WHERE back > 28 AND late)::double precision / nullif(count(*) FILTER (WHERE back > 28), 0)
        AS late_share_before,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM available_from - due_at)::double precision / 60)
        FILTER (WHERE back <= 28 AND late AND available_from IS NOT NULL) AS minutes_late,
    max(day) FILTER (WHERE late) AS last_late_day, max(day) AS newest_day
FROM recent WHERE back <= 56
GROUP BY project, supplier, feed;
COMMENT ON VIEW supplier_punctuality IS
    'How often each supplier was late, over the newest 28 run dates of a project and the 28 before.';
COMMENT ON COLUMN supplier_punctuality.project IS 'Name of the project.';
COMMENT ON COLUMN supplier_punctuality.supplier IS
    'Who delivers the feed, as project.yaml says; by default the feed.';
COMMENT ON COLUMN supplier_punctuality.feed IS 'Name of the feed.';
COMMENT ON COLUMN supplier_punctuality.due IS 'Deliveries that were due on the newest 28 run dates.';
COMMENT ON COLUMN supplier_punctuality.late IS 'Those that had not come by the time they were due.';
COMMENT ON COLUMN supplier_punctuality.missing IS
    'Those that had not come when the run date was prepared.';
COMMENT ON COLUMN supplier_punctuality.late_share IS 'Share of the deliveries that were late.';
COMMENT ON COLUMN supplier_punctuality.late_share_before IS
    'The same share on the 28 run dates before; null if nothing was due.';
COMMENT ON COLUMN supplier_punctuality.minutes_late IS
    'Median of the minutes by which late deliveries came too late; null if none was, or none came.';
COMMENT ON COLUMN supplier_punctuality.last_late_day IS
    'Newest run date with a late delivery, of these 56; null if there is none.';
COMMENT ON COLUMN supplier_punctuality.newest_day IS 'Newest run date on which something was due.';

GRANT SELECT ON pipeline_cost, supplier_punctuality TO ops_reader;
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

"""What the pages in Airflow show and no view had: zones of projects, the problem type, feeds day by day, deliveries.

`model_status` gets its column at its end, whatever columns it has by now: its definition is read from the catalog.
"""

from alembic import op

revision = "0032"
down_revision = "0031"

STATEMENTS = """
CREATE TABLE projects (
    project text PRIMARY KEY,
    title text NOT NULL,
    timezone text NOT NULL,
    migrated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE projects IS
    'What each project declares, as of the newest migration. Pages show dates in its timezone.';
COMMENT ON COLUMN projects.project IS 'Name of the project.';
COMMENT ON COLUMN projects.title IS 'Display name of the project.';
COMMENT ON COLUMN projects.timezone IS 'Timezone in which its days begin.';
COMMENT ON COLUMN projects.migrated_at IS 'Time at which the declaration was last recorded.';

CREATE VIEW project_status AS
SELECT p.project, p.title, p.timezone, d.day AS newest_prepared_day, d.rows, d.left_out, d.prepared_at
FROM projects p
LEFT JOIN LATERAL (SELECT day, rows, left_out, prepared_at FROM prepared_days
    WHERE project = p.project AND data_view = 'point_in_time' ORDER BY day DESC LIMIT 1) d ON true;
COMMENT ON VIEW project_status IS 'Each project of the installation: its timezone and its newest prepared day.';
COMMENT ON COLUMN project_status.project IS 'Name of the project.';
COMMENT ON COLUMN project_status.title IS 'Display name of the project.';
COMMENT ON COLUMN project_status.timezone IS 'Timezone in which its days begin.';
COMMENT ON COLUMN project_status.newest_prepared_day IS 'Newest prepared run date; null before the first.';
COMMENT ON COLUMN project_status.rows IS 'Rows of its features.';
COMMENT ON COLUMN project_status.left_out IS
    'Entities without features and scores, because entity.where is not true for them.';
COMMENT ON COLUMN project_status.prepared_at IS 'Time at which it was last prepared.';

CREATE VIEW feed_days AS
SELECT project, feed, supplier, day, file_day, due_at, available_from, late,
    extract(epoch FROM available_from - due_at)::double precision / 60 AS minutes_after_due, measured_at
FROM feed_punctuality;
COMMENT ON VIEW feed_days IS 'Whether each feed''s delivery came in time, for each run date.';
COMMENT ON COLUMN feed_days.project IS 'Name of the project.';
COMMENT ON COLUMN feed_days.feed IS 'Name of the feed.';
COMMENT ON COLUMN feed_days.supplier IS 'Who delivers the feed, as project.yaml says; by default the feed.';
COMMENT ON COLUMN feed_days.day IS 'Run date.';
COMMENT ON COLUMN feed_days.file_day IS 'Day of the delivery that was due.';
COMMENT ON COLUMN feed_days.due_at IS 'Time by which it was due.';
COMMENT ON COLUMN feed_days.available_from IS
    'Time from which the first delivery counts; null if there was none when the run date was prepared.';
COMMENT ON COLUMN feed_days.late IS 'True if there was none by the time it was due.';
COMMENT ON COLUMN feed_days.minutes_after_due IS
    'Minutes from the time at which it was due to its arrival; below 0 it came before; null if it did not come.';
COMMENT ON COLUMN feed_days.measured_at IS 'Time of the measurement.';

CREATE VIEW delivery_history AS
SELECT project, sequence, entry ->> 'feed' AS feed, (entry ->> 'day')::date AS day, subject AS delivery_id,
    entry ->> 'key' AS key, (entry ->> 'rows')::bigint AS rows, (entry ->> 'size')::bigint AS bytes,
    (entry ->> 'available_from')::timestamptz AS available_from, entry -> 'columns' AS other_columns,
    entry ->> 'verdict' AS landed_as, run_id, recorded_at
FROM journal WHERE kind = 'delivery';
COMMENT ON VIEW delivery_history IS
    'Every delivery that was landed: its size, and how its columns differ from the declared ones.';
COMMENT ON COLUMN delivery_history.project IS 'Name of the project.';
COMMENT ON COLUMN delivery_history.sequence IS 'Entry of the journal.';
COMMENT ON COLUMN delivery_history.feed IS 'Name of the feed.';
COMMENT ON COLUMN delivery_history.day IS 'Calendar day of the delivery, in the project''s timezone.';
COMMENT ON COLUMN delivery_history.delivery_id IS 'Delivery: its key and the start of its SHA-256.';
COMMENT ON COLUMN delivery_history.key IS 'Path of the object below landing/<project>/.';
COMMENT ON COLUMN delivery_history.rows IS 'Rows of the delivery.';
COMMENT ON COLUMN delivery_history.bytes IS 'Size in bytes.';
COMMENT ON COLUMN delivery_history.available_from IS 'Time from which the delivery counts.';
COMMENT ON COLUMN delivery_history.other_columns IS
    'How its columns differ from the declared ones, in sentences; null if they do not.';
COMMENT ON COLUMN delivery_history.landed_as IS
    'landed, or held: it waited for a decision. journal_entries has what was decided later.';
COMMENT ON COLUMN delivery_history.run_id IS 'Airflow run that wrote the row, or by-hand.';
COMMENT ON COLUMN delivery_history.recorded_at IS 'Time at which it was landed.';

GRANT SELECT ON project_status, feed_days, delivery_history TO ops_reader;

DO $$
BEGIN
    EXECUTE format(
        'CREATE OR REPLACE VIEW model_status AS SELECT before.*, declared.problem_type FROM (%s) AS before '
        'LEFT JOIN models declared ON declared.model = before.model',
        rtrim(pg_get_viewdef('model_status'::regclass), '; ')
    );
END $$;
COMMENT ON COLUMN model_status.problem_type IS 'Problem type: binary, multiclass, regression, count or quantile.';

CREATE INDEX performance_of_all ON performance_daily (model, metric, day) WHERE slice = 'all';
CREATE INDEX alerts_subject ON alerts (project, subject, id);
CREATE INDEX journal_deliveries ON journal (project, (entry ->> 'feed'), (entry ->> 'day')) WHERE kind = 'delivery';
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

"""The view `latency`, and an index by which actions find what was sent about a run date before.

Comments are repeated from `include/io/postgres/schema.py`: see the first migration.
"""

from alembic import op

revision = "0033"
down_revision = "0032"

VIEW = """
CREATE VIEW latency AS
SELECT timed.project, timed.model, timed.day, timed.landed_at, timed.ready_at, timed.prepared_at, timed.published_at,
    extract(epoch FROM timed.prepared_at - timed.ready_at)::double precision AS prepare_seconds,
    extract(epoch FROM timed.published_at - timed.prepared_at)::double precision AS publish_seconds,
    extract(epoch FROM timed.published_at - timed.ready_at)::double precision AS seconds,
    timed.reconstructed, timed.run_id
FROM (
    SELECT m.project, first.model, first.day, landed.at AS landed_at,
        greatest(landed.at, (j.entry ->> 'as_of')::timestamptz) AS ready_at, j.recorded_at AS prepared_at,
        first.published_at, (j.entry ->> 'reconstructed')::boolean AS reconstructed, first.run_id
    FROM (
        SELECT DISTINCT ON (model, day) model, day, published_at, run_id
        FROM publications WHERE batch_id IS NOT NULL ORDER BY model, day, id
    ) first
    JOIN models m ON m.model = first.model
    JOIN journal j ON j.project = m.project AND j.kind = 'prepared_day'
        AND j.subject = to_char(first.day, 'YYYY-MM-DD') || ' record 1'
    CROSS JOIN LATERAL (
        SELECT max(coalesce(o.modified_at, d.recorded_at)) AS at
        FROM jsonb_array_elements_text(j.entry -> 'deliveries') AS used (delivery_id)
        JOIN journal d ON d.project = j.project AND d.kind = 'delivery' AND d.subject = used.delivery_id
        LEFT JOIN objects o ON o.project = j.project AND o.key = d.entry ->> 'key' AND o.delivery_id = d.subject
    ) landed
) timed;
COMMENT ON VIEW latency IS
    'How long it took from the landing of the last file that a run date needed to its first published predictions: one '
    'row for each model and run date.';
COMMENT ON COLUMN latency.project IS 'Name of the project.';
COMMENT ON COLUMN latency.model IS 'Name of the model.';
COMMENT ON COLUMN latency.day IS 'Run date.';
COMMENT ON COLUMN latency.landed_at IS
    'Time of the newest file in the landing that the run date used; of a query, or of a file that was corrected since, '
    'the time at which it was landed in raw tables.';
COMMENT ON COLUMN latency.ready_at IS
    'Time from which nothing had to be waited for: that time, or the cutoff if the file was there before it.';
COMMENT ON COLUMN latency.prepared_at IS 'Time at which the run date was first prepared.';
COMMENT ON COLUMN latency.published_at IS 'Time at which its first predictions were published.';
COMMENT ON COLUMN latency.prepare_seconds IS 'Seconds from ready_at to prepared_at: landing, validation, features.';
COMMENT ON COLUMN latency.publish_seconds IS 'Seconds from prepared_at to published_at: scoring and publishing.';
COMMENT ON COLUMN latency.seconds IS 'The latency: seconds from ready_at to published_at.';
COMMENT ON COLUMN latency.reconstructed IS
    'True if the day was prepared after the cutoff of the next run date, as in a backfill: then the latency says how '
    'long it was not run, and not how fast a run is.';
COMMENT ON COLUMN latency.run_id IS 'Airflow run that published them, or by-hand.';
GRANT SELECT ON latency TO ops_reader;
"""

MESSAGES = """
CREATE INDEX messages_of_actions ON messages ((payload ->> 'model'), (payload ->> 'run_date')) WHERE kind = 'action';
COMMENT ON COLUMN messages.kind IS
    'What the message is about: task_failed, run_failed, alerts, question, watch, action.';
COMMENT ON COLUMN outbox.kind IS
    'What the message is about: task_failed, run_failed, alerts, question, watch, action.';
"""


def upgrade() -> None:
    op.execute(VIEW)
    op.execute(MESSAGES)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

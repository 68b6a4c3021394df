"""The heartbeat of the watcher, and what `channel` of a message means since destinations have channels.

Columns and comments are repeated from `include/io/postgres/schema.py`: see the first migration.
"""

from alembic import op

revision = "0022"
down_revision = "0021"

TABLE = """
CREATE TABLE watches (
    watcher text PRIMARY KEY,
    looked_at timestamptz NOT NULL,
    every_seconds integer NOT NULL,
    findings jsonb NOT NULL
);
COMMENT ON TABLE watches IS
    'When the watcher last looked at deadlines, Airflow and the outbox, and what it found.';
COMMENT ON COLUMN watches.watcher IS 'Name of the watcher.';
COMMENT ON COLUMN watches.looked_at IS 'Time at which it last looked, by its clock.';
COMMENT ON COLUMN watches.every_seconds IS 'How often it looks, in seconds.';
COMMENT ON COLUMN watches.findings IS 'What was wrong then: a list of sentences.';

CREATE VIEW watcher_status AS
SELECT watcher, looked_at, every_seconds,
    looked_at > clock_timestamp() - make_interval(secs => 3 * every_seconds + 120) AS is_alive, findings
FROM watches;
COMMENT ON VIEW watcher_status IS 'Whether the watcher still looks at deadlines, Airflow and the outbox.';
COMMENT ON COLUMN watcher_status.watcher IS 'Name of the watcher.';
COMMENT ON COLUMN watcher_status.looked_at IS 'Time at which it last looked, by its clock.';
COMMENT ON COLUMN watcher_status.every_seconds IS 'How often it looks, in seconds.';
COMMENT ON COLUMN watcher_status.is_alive IS 'False if it has missed three looks: start it again.';
COMMENT ON COLUMN watcher_status.findings IS 'What was wrong then: a list of sentences.';
GRANT SELECT ON watcher_status TO ops_reader;
"""

MESSAGES = """
COMMENT ON COLUMN messages.kind IS
    'What the message is about: task_failed, run_failed, alerts, question, watch.';
COMMENT ON COLUMN messages.channel IS
    'What the content is: chat, a text. The connection says how it is delivered.';
COMMENT ON COLUMN outbox.kind IS
    'What the message is about: task_failed, run_failed, alerts, question, watch.';
COMMENT ON COLUMN outbox.channel IS
    'What the content is: chat, a text. The connection says how it is delivered.';
"""


def upgrade() -> None:
    op.execute(TABLE)
    op.execute(MESSAGES)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

"""The view `outbox` names the file of a message instead of showing its content."""

from alembic import op

revision = "0029"
down_revision = "0028"

VIEW = """
CREATE OR REPLACE VIEW outbox AS
SELECT id,
    CASE WHEN sent_at IS NOT NULL THEN 'sent' WHEN given_up_at IS NOT NULL THEN 'given up' ELSE 'waiting' END AS state,
    kind, subject, task, run_id, channel, destination,
    CASE WHEN payload ? 'attachment' THEN jsonb_set(payload, '{attachment}', payload #> '{attachment,name}')
        ELSE payload END AS payload,
    created_at,
    CASE WHEN sent_at IS NULL AND given_up_at IS NULL THEN not_before END AS next_try_at, attempts, last_error, sent_at,
    given_up_at, key
FROM messages;
COMMENT ON COLUMN outbox.payload IS 'The content; of a file that is attached, its name.';
"""


def upgrade() -> None:
    op.execute(VIEW)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

"""The outbox: messages are stored with what caused them, and sent from there.

The message that has an alert knows when it was sent. `notified_at` of alerts keeps what was known before.

Columns and comments are repeated from `include/io/postgres/schema.py`: see the first migration. Which columns the role
`writer` may change is in `roles.py`.
"""

from alembic import op

revision = "0005"
down_revision = "0004"

TABLE = """
CREATE TABLE messages (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL UNIQUE,
    kind text NOT NULL,
    channel text NOT NULL,
    destination text NOT NULL CHECK (destination !~ '://'),
    payload jsonb NOT NULL,
    subject text NOT NULL,
    run_id text NOT NULL,
    task text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    not_before timestamptz NOT NULL DEFAULT clock_timestamp(),
    deadline timestamptz NOT NULL,
    hold_until timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    last_error text,
    sent_at timestamptz,
    given_up_at timestamptz,
    CHECK (sent_at IS NULL OR given_up_at IS NULL)
);
CREATE INDEX messages_unsent ON messages (id) WHERE sent_at IS NULL AND given_up_at IS NULL;
CREATE INDEX messages_held ON messages (destination, hold_until) WHERE hold_until IS NOT NULL;
ALTER TABLE alerts ADD COLUMN message_id bigint REFERENCES messages;
"""

COMMENTS: dict[str | None, str] = {
    None: "The outbox: everything that is sent, from the transaction with its cause until the receiver accepted it.",
    "id": "Order in which the rows were written.",
    "key": "Idempotency key: a message is stored once, and sent with this header.",
    "kind": "What the message is about: task_failed, run_failed, alerts.",
    "channel": "How it is delivered: chat, a Slack-compatible webhook.",
    "destination": "Name of the connection with the address. The address itself is a secret.",
    "payload": "The content.",
    "subject": "Task, DAG, model or table that the message is about.",
    "run_id": "Airflow run that caused it, or by-hand.",
    "task": "Task that caused it, as <dag>.<task>; null if no single one did.",
    "created_at": "Time at which the message was stored.",
    "not_before": "Time from which the next try may start. A sender that takes the message moves it by a minute.",
    "deadline": "Time after which the message is given up.",
    "hold_until": "Time until which the receiver asked not to be called (Retry-After): no message goes there before.",
    "attempts": "Number of tries that were begun.",
    "last_error": "Why the last try failed; null if none did. It has neither address nor data.",
    "sent_at": "Time at which the receiver had accepted it; null until then.",
    "given_up_at": "Time at which it was given up; null unless it was.",
}

VIEWS = """
DROP VIEW alert_history;
CREATE VIEW alert_history AS
SELECT a.id, a.project, a.subject, a.rule, a.day, a.sentence, a.run_id, a.raised_at,
    coalesce(m.sent_at, a.notified_at) AS notified_at
FROM alerts a LEFT JOIN messages m ON m.id = a.message_id;
COMMENT ON COLUMN alerts.notified_at IS
    'Time at which a notifier took the alert, before alerts had messages; null for all since then.';

CREATE VIEW outbox AS
SELECT id,
    CASE WHEN sent_at IS NOT NULL THEN 'sent' WHEN given_up_at IS NOT NULL THEN 'given up' ELSE 'waiting' END AS state,
    kind, subject, task, run_id, channel, destination, payload, created_at,
    CASE WHEN sent_at IS NULL AND given_up_at IS NULL THEN not_before END AS next_try_at, attempts, last_error, sent_at,
    given_up_at, key
FROM messages;
GRANT SELECT ON alert_history, outbox TO ops_reader;
"""

OF_ALERTS: dict[str | None, str] = {
    None: "Alerts that were raised, and when people were notified.",
    "id": "Order in which the rows were written.",
    "project": "Name of the project.",
    "subject": "Model or table that the alert is about.",
    "rule": "Rule that was broken.",
    "day": "Run date.",
    "sentence": "The message.",
    "run_id": "Airflow run that wrote the row, or by-hand.",
    "raised_at": "Time at which the alert was raised.",
    "notified_at": "Time at which its message was accepted; null until then. The view outbox says why.",
}

OF_OUTBOX: dict[str | None, str] = {
    None: "Messages: what waits to be sent, what was given up, and what was sent.",
    **{
        name: COMMENTS[name]
        for name in (
            *("id", "kind", "subject", "task", "run_id", "channel", "destination", "payload", "created_at"),
            *("attempts", "last_error", "sent_at", "given_up_at", "key"),
        )
    },
    "state": "waiting, sent, or given up: the receiver refused it for good, or its deadline passed.",
    "next_try_at": "Time from which the next try may start; null if there will be none.",
}


def _describe(kind: str, name: str, comments: dict[str | None, str]) -> None:
    for column, text in comments.items():
        what = f"{kind} {name}" if column is None else f"COLUMN {name}.{column}"
        op.execute(f"COMMENT ON {what} IS '{text}'")


def upgrade() -> None:
    op.execute(TABLE)
    _describe("TABLE", "messages", COMMENTS)
    op.execute("COMMENT ON COLUMN alerts.message_id IS 'Message that has the alert.'")
    op.execute(VIEWS)
    _describe("VIEW", "alert_history", OF_ALERTS)
    _describe("VIEW", "outbox", OF_OUTBOX)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

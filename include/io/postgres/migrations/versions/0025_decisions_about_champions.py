"""Promotions, forced promotions and rollbacks of people are entries of the journal.

`human_actions` takes them from there; the promotion history only has those that are older, or were restored by
`restore_promotions`. A rollback is what `rolled_back_from` says, whatever the version was before.

The view is written in full: what a pattern would find in its definition depends on how PostgreSQL prints it.
"""

from alembic import op

revision = "0025"
down_revision = "0024"

STATEMENTS = """
CREATE OR REPLACE VIEW human_actions AS
SELECT recorded_at AS decided_at, project, entry ->> 'model' AS model,
    CASE kind WHEN 'erasure' THEN 'erase' ELSE coalesce(entry ->> 'decision', 'repair') END AS action,
    CASE kind WHEN 'erasure' THEN 'a person, entry ' || sequence ELSE subject END AS subject, by, why, run_id
FROM journal
WHERE kind IN ('decision', 'erasure') OR (kind = 'prepared_day' AND by IS NOT NULL)
UNION ALL
SELECT p.created_at, m.project, p.model,
    CASE WHEN p.rolled_back_from IS NOT NULL THEN 'roll back' WHEN p.forced THEN 'force promotion' ELSE 'promote' END,
    'version ' || p.model_version || ' from ' || p.from_day, p.by, p.why, p.run_id
FROM promotions p
LEFT JOIN models m ON m.model = p.model
LEFT JOIN version_moves v ON v.promotion_id = p.id AND v.state = 'champion'
WHERE p.by <> 'gate' AND (p.forced OR v.from_state IS DISTINCT FROM 'pending') AND NOT EXISTS (
    SELECT FROM journal j
    WHERE j.kind = 'decision' AND j.entry ->> 'model' = p.model
        AND j.entry ->> 'model_version' = p.model_version::text AND j.by = p.by AND j.why = p.why
        AND j.entry -> 'promotions' @> jsonb_build_array(jsonb_build_object('from_day', p.from_day)))
UNION ALL
SELECT e.happened_at, nullif(i.project, ''), NULL,
    CASE e.kind WHEN 'acknowledged' THEN 'acknowledge' WHEN 'snoozed' THEN 'snooze' ELSE 'close' END,
    'incident ' || i.id || ': ' || i.subject, e.by, e.why, e.run_id
FROM incident_events e
JOIN incident_records i ON i.id = e.incident_id
WHERE e.by IS NOT NULL;
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

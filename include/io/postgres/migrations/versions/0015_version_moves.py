"""The life of a version: every move between its states, by whom and why.

No moves are made up for versions that are older: whether they are or were the champion is in the promotions, and
whether the gate rejected them is in its decisions (docs/decisions/0039-the-life-of-a-version.md).

Columns and comments are repeated from `include/io/postgres/schema.py`: see the first migration.
"""

from alembic import op

revision = "0015"
down_revision = "0014"

STATEMENTS = """
CREATE TABLE version_moves (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model text NOT NULL,
    model_version integer NOT NULL CHECK (model_version > 0),
    from_state text NOT NULL,
    state text NOT NULL CHECK (state IN ('registered', 'rejected', 'pending', 'champion', 'declined', 'superseded',
        'expired', 'replaced')),
    by text NOT NULL CHECK (by <> ''),
    why text NOT NULL CHECK (why <> ''),
    model_digest text CHECK (model_digest ~ '^[0-9a-f]{64}$'),
    gate_id uuid REFERENCES gates,
    promotion_id bigint REFERENCES promotions,
    expires_at timestamptz,
    run_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (state <> from_state)
);
CREATE INDEX ON version_moves (model, model_version, id);
CREATE INDEX ON version_moves (promotion_id);
COMMENT ON TABLE version_moves IS
    'The moves of versions between the states of their life. Whether a version is or was the champion is what the '
    'promotions say. Immutable.';
COMMENT ON COLUMN version_moves.id IS 'Order in which the rows were written.';
COMMENT ON COLUMN version_moves.model IS 'Name of the model.';
COMMENT ON COLUMN version_moves.model_version IS 'Version in the registry.';
COMMENT ON COLUMN version_moves.from_state IS 'State of the version before.';
COMMENT ON COLUMN version_moves.state IS
    'State from then on: registered, rejected, pending, champion, declined, superseded, expired or replaced.';
COMMENT ON COLUMN version_moves.by IS 'Person who decided, gate, or nightly-ml for what follows from a rule.';
COMMENT ON COLUMN version_moves.why IS 'Reason of the move.';
COMMENT ON COLUMN version_moves.model_digest IS 'Digest of the files of the version; null if no fit is recorded.';
COMMENT ON COLUMN version_moves.gate_id IS 'Gate decision that the move follows from; null if it follows from none.';
COMMENT ON COLUMN version_moves.promotion_id IS 'Promotion that the move belongs to; null if it belongs to none.';
COMMENT ON COLUMN version_moves.expires_at IS
    'Of a pending version: the moment up to which it can be approved or declined.';
COMMENT ON COLUMN version_moves.run_id IS 'Airflow run that wrote the row, or by-hand.';
COMMENT ON COLUMN version_moves.created_at IS 'Time at which the row was written.';
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON version_moves
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE VIEW version_history AS
SELECT v.id, v.model, v.model_version, v.from_state, v.state, v.by, v.why, v.expires_at, v.gate_id, v.run_id,
    v.created_at, v.model_digest
FROM version_moves v;
COMMENT ON VIEW version_history IS
    'The life of each version: registered, then rejected, pending or champion, and so on, with who and why.';
COMMENT ON COLUMN version_history.id IS 'Order in which the moves were written.';
COMMENT ON COLUMN version_history.model IS 'Name of the model.';
COMMENT ON COLUMN version_history.model_version IS 'Version in the registry.';
COMMENT ON COLUMN version_history.from_state IS 'State of the version before.';
COMMENT ON COLUMN version_history.state IS
    'State from then on: registered, rejected, pending, champion, declined, superseded, expired or replaced.';
COMMENT ON COLUMN version_history.by IS 'Person who decided, gate, or nightly-ml for what follows from a rule.';
COMMENT ON COLUMN version_history.why IS 'Reason of the move.';
COMMENT ON COLUMN version_history.expires_at IS
    'Of a pending version: the moment up to which it can be approved or declined.';
COMMENT ON COLUMN version_history.gate_id IS
    'Gate decision that the move follows from; null if it follows from none.';
COMMENT ON COLUMN version_history.run_id IS 'Airflow run that wrote the row, or by-hand.';
COMMENT ON COLUMN version_history.created_at IS 'Time of the move.';
COMMENT ON COLUMN version_history.model_digest IS 'Digest of the files of the version; null if no fit is recorded.';
GRANT SELECT ON version_history TO ops_reader;

CREATE OR REPLACE VIEW human_actions AS
SELECT recorded_at AS decided_at, project, NULL::text AS model,
    CASE kind WHEN 'erasure' THEN 'erase' ELSE coalesce(entry ->> 'decision', 'repair') END AS action,
    CASE kind WHEN 'erasure' THEN 'a person, entry ' || sequence ELSE subject END AS subject, by, why, run_id
FROM journal WHERE kind IN ('decision', 'erasure') OR (kind = 'prepared_day' AND by IS NOT NULL)
UNION ALL
SELECT p.created_at, m.project, p.model,
    CASE WHEN p.forced THEN 'force promotion'
        WHEN v.from_state = 'pending' THEN 'approve'
        WHEN v.from_state = 'replaced' THEN 'roll back'
        ELSE 'promote' END,
    'version ' || p.model_version || ' from ' || p.from_day, p.by, p.why, p.run_id
FROM promotions p LEFT JOIN models m ON m.model = p.model
LEFT JOIN version_moves v ON v.promotion_id = p.id AND v.state = 'champion'
WHERE p.by <> 'gate'
UNION ALL
SELECT v.created_at, m.project, v.model, 'decline', 'version ' || v.model_version, v.by, v.why, v.run_id
FROM version_moves v LEFT JOIN models m ON m.model = v.model
WHERE v.state = 'declined';
COMMENT ON VIEW human_actions IS
    'What people decided: about deliveries, prepared days, versions, champions and erased persons, with who and why.';
COMMENT ON COLUMN human_actions.action IS
    'Decision: accept or withdraw a delivery, repair a prepared day, approve or decline a pending version, promote a '
    'version, roll back to an earlier one, promote it against the gate (force promotion), adopt a model that was '
    'fitted elsewhere, erase a person, begin or finish the rotation of the hash key (rehash begun, rehash finished), '
    'or pull, on a laptop.';
COMMENT ON COLUMN human_actions.subject IS
    'The delivery, the run date and the number of its record, the version and its first day, the declined version, '
    'the model and the MLflow run of an adopted one, or the entry of the journal about an erased person.';
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

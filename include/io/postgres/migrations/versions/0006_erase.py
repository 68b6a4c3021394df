"""Erasures: the proof of each, and the one way in which predictions of a person can be removed from immutable tables.

`refuse_change` lets a transaction of the owner remove predictions, and correct the batches and gate results that they
were in, if the same transaction has recorded in `erasures` what it removes. Tasks have no right to remove anything.

Columns and comments are repeated from `include/io/postgres/schema.py`: see the first migration.
"""

from alembic import op

revision = "0006"
down_revision = "0005"

TABLE = """
CREATE TABLE erasures (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project text NOT NULL,
    sequence bigint NOT NULL,
    place text NOT NULL,
    rows bigint NOT NULL CHECK (rows >= 0),
    run_id text NOT NULL,
    transaction bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
    erased_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON erasures (project, sequence);
CREATE INDEX ON erasures (transaction);
COMMENT ON TABLE erasures IS
    'What was removed when a person was erased, by place, and that nothing of it was left. Immutable.';
COMMENT ON COLUMN erasures.id IS 'Order in which the rows were written.';
COMMENT ON COLUMN erasures.project IS 'Name of the project.';
COMMENT ON COLUMN erasures.sequence IS 'Entry of the journal that has who asked, when, why, and the hash.';
COMMENT ON COLUMN erasures.place IS 'Table or store; finished: every place was searched again after the removal.';
COMMENT ON COLUMN erasures.rows IS
    'Rows removed there, by this run; of a Delta table, those of all its files, older versions included.';
COMMENT ON COLUMN erasures.run_id IS 'Airflow run that wrote the row, or by-hand.';
COMMENT ON COLUMN erasures.transaction IS
    'Transaction that wrote the row: in it alone, the owner may remove predictions.';
COMMENT ON COLUMN erasures.erased_at IS 'Time at which the row was written.';

ALTER TABLE batches ADD COLUMN erased bigint NOT NULL DEFAULT 0 CHECK (erased >= 0);
COMMENT ON COLUMN batches.erased IS
    'Predictions removed since, because a person was erased; then the id does not follow from rows and digest.';

ALTER TABLE journal DROP CONSTRAINT journal_kind_check;
ALTER TABLE journal ADD CONSTRAINT journal_kind_check
    CHECK (kind IN ('delivery', 'verdict', 'decision', 'prepared_day', 'training', 'erasure'));
ALTER TABLE journal ADD CONSTRAINT journal_erasure_check
    CHECK (kind <> 'erasure' OR (by IS NOT NULL AND why IS NOT NULL));
COMMENT ON COLUMN journal.kind IS
    'delivery: it was landed. verdict: validation accepted or refused it. decision: of a person. prepared_day: the '
    'record of a run date. training: what the fits of a run date read. erasure: a person was erased.';
COMMENT ON COLUMN journal.subject IS
    'The delivery that the entry is about: its key and the start of its SHA-256. For a record, the run date and the '
    'number of the record, or the model, its run date and the watermark. For an erasure, the hash of the identifier.';

CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF (TG_TABLE_NAME = 'predictions' AND TG_OP = 'DELETE'
        OR TG_TABLE_NAME IN ('batches', 'gate_results') AND TG_OP = 'UPDATE')
        AND EXISTS (SELECT FROM erasures WHERE transaction = pg_current_xact_id()::text::bigint)
    THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION '% is never changed: % refused', TG_TABLE_NAME, TG_OP
        USING HINT = 'Publish another batch, or add a row that says what holds from now on.';
END $$;
COMMENT ON FUNCTION refuse_change() IS
    'Refuses every change of what was predicted, published, promoted or decided by the gate, except that of a '
    'transaction that records an erasure.';
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON erasures
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""

VIEWS = """
CREATE VIEW erasure_history AS
SELECT e.project, e.sequence, j.recorded_at AS asked_at, j.by, j.why, e.place, e.rows, e.run_id, e.erased_at
FROM erasures e JOIN journal j ON j.project = e.project AND j.sequence = e.sequence;
COMMENT ON VIEW erasure_history IS
    'Erased persons: who asked, when and why, and how many rows were removed where. No identifier, and no hash of one.';
COMMENT ON COLUMN erasure_history.project IS 'Name of the project.';
COMMENT ON COLUMN erasure_history.sequence IS 'Entry of the journal.';
COMMENT ON COLUMN erasure_history.asked_at IS 'Time from which the person is kept out.';
COMMENT ON COLUMN erasure_history.by IS 'Person who asked.';
COMMENT ON COLUMN erasure_history.why IS 'Reason, such as a ticket.';
COMMENT ON COLUMN erasure_history.place IS
    'Table or store; finished: every place was searched again after the removal.';
COMMENT ON COLUMN erasure_history.rows IS
    'Rows removed there, by this run; of a Delta table, those of all its files, older versions included.';
COMMENT ON COLUMN erasure_history.run_id IS 'Airflow run that wrote the row, or by-hand.';
COMMENT ON COLUMN erasure_history.erased_at IS 'Time at which the row was written.';
GRANT SELECT ON erasure_history TO ops_reader;

CREATE OR REPLACE VIEW human_actions AS
SELECT recorded_at AS decided_at, project, NULL::text AS model,
    CASE kind WHEN 'erasure' THEN 'erase' ELSE coalesce(entry ->> 'decision', 'repair') END AS action,
    CASE kind WHEN 'erasure' THEN 'a person, entry ' || sequence ELSE subject END AS subject, by, why, run_id
FROM journal WHERE kind IN ('decision', 'erasure') OR (kind = 'prepared_day' AND by IS NOT NULL)
UNION ALL
SELECT p.created_at, m.project, p.model, CASE WHEN p.forced THEN 'force promotion' ELSE 'promote' END,
    'version ' || p.model_version || ' from ' || p.from_day, p.by, p.why, p.run_id
FROM promotions p LEFT JOIN models m ON m.model = p.model
WHERE p.by <> 'gate';
COMMENT ON VIEW human_actions IS
    'What people decided: about deliveries, prepared days, champions and erased persons, with who and why.';
COMMENT ON COLUMN human_actions.action IS
    'Decision: accept or withdraw a delivery, repair a prepared day, promote a version, promote it against the gate, '
    'erase a person, begin or finish the rotation of the hash key (rehash begun, rehash finished), or pull, on a '
    'laptop.';
COMMENT ON COLUMN human_actions.subject IS
    'The delivery, the run date and the number of its record, the version and its first day, or the entry of the '
    'journal about an erased person.';

CREATE OR REPLACE VIEW journal_entries AS
SELECT project, sequence, kind, entry ->> 'feed' AS feed, (entry ->> 'day')::date AS day,
    CASE kind WHEN 'erasure' THEN 'a person' ELSE subject END AS subject,
    entry ->> 'verdict' AS verdict, (entry ->> 'available_from')::timestamptz AS available_from, by, why, run_id,
    recorded_at
FROM journal;
COMMENT ON COLUMN journal_entries.kind IS
    'delivery: it was landed. verdict: validation accepted or refused it. decision: of a person. prepared_day: the '
    'record of a run date. training: what the fits of a run date read. erasure: a person was erased.';

CREATE OR REPLACE VIEW data_quality AS
SELECT project, feed, day, delivery_id, expectation, column_name, severity, success, rows_evaluated,
    unexpected_rows, observed, checked_at
FROM quality_results
UNION ALL
SELECT p.project, l.key, p.day, NULL, 'feed_to_be_known', NULL, 'warning', false, NULL, NULL,
    p.day || ' ' || l.value, p.prepared_at
FROM prepared_days p, jsonb_each_text(p.lacks) l
WHERE p.data_view = 'point_in_time'
UNION ALL
SELECT project, feed, day, NULL, 'file_to_be_landed', NULL, 'warning', false, NULL, NULL, why, seen_at
FROM objects WHERE why IS NOT NULL
UNION ALL
SELECT project, entry ->> 'feed', (entry ->> 'day')::date, subject, 'no_rows_of_erased_persons', NULL, 'warning', false,
    (entry ->> 'rows')::bigint + (entry ->> 'erased')::bigint, (entry ->> 'erased')::bigint, NULL, recorded_at
FROM journal WHERE kind = 'delivery' AND entry ? 'erased';
COMMENT ON VIEW data_quality IS
    'Results of validation, one row for each expectation and delivery; what prepared days went on without, one row for '
    'each run date and feed; files that were refused when they were last read; and deliveries with rows of erased '
    'persons, which were left out.';
COMMENT ON COLUMN data_quality.expectation IS
    'Name of the expectation, as in Great Expectations; feed_to_be_known: the run date lacked files of the feed; '
    'file_to_be_landed: a file was refused; no_rows_of_erased_persons: rows of erased persons were left out.';
"""


def upgrade() -> None:
    op.execute(TABLE)
    op.execute(VIEWS)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

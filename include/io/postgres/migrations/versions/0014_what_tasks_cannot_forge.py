"""What a login of tasks cannot forge: what MLflow says of a fit, and the order of the journal.

The run date and the tags of each fit are recorded, because MLflow's own are not believed without them. An entry of the
journal has the number after the newest one: otherwise a session without the product's lock could leave a gap and fill
it later, below the watermark of past runs, or take the last number there is, after which no file could be landed.
"""

from alembic import op

revision = "0014"
down_revision = "0012"

STATEMENTS = """
ALTER TABLE fits ADD COLUMN trained_day date;
ALTER TABLE fits ADD COLUMN tags_digest text CHECK (tags_digest ~ '^[0-9a-f]{64}$');
COMMENT ON COLUMN fits.trained_day IS 'Run date of the fit; null if an older version recorded it.';
COMMENT ON COLUMN fits.tags_digest IS
    'Digest of the tags of the MLflow run that later steps read back; null if an older version recorded the fit.';

CREATE FUNCTION require_next_number() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    newest bigint := coalesce((SELECT max(sequence) FROM journal WHERE project = NEW.project), 0);
BEGIN
    IF NEW.sequence <> newest + 1 THEN
        RAISE EXCEPTION 'the journal of % ends at %, so that entry % cannot be added: numbers follow each other',
            NEW.project, newest, NEW.sequence;
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION require_next_number() IS
    'Refuses an entry of the journal out of turn: nothing appears below a watermark later.';
CREATE TRIGGER require_next_number BEFORE INSERT ON journal FOR EACH ROW EXECUTE FUNCTION require_next_number();
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

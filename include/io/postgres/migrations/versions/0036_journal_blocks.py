"""The journal in blocks, and indexes for what each step asks it: after years, a step reads as few rows as after weeks.

A block has 250 entries in one row. The database makes it when the last of them is added, in the same transaction, and
nobody else may: what tasks read of the journal cannot be forged by tasks. The entries stay where they are.

Comments are repeated from `include/io/postgres/schema.py`: see the first migration.
"""

import sqlalchemy as sa
from alembic import op

revision = "0036"
down_revision = "0035"

STATEMENTS = """
CREATE TABLE journal_blocks (
    project text NOT NULL,
    last_sequence bigint NOT NULL,
    entries text NOT NULL,
    PRIMARY KEY (project, last_sequence)
);
COMMENT ON TABLE journal_blocks IS
    'The journal again, 250 entries a row, so that a step reads few rows of it. The database makes them. Immutable.';
COMMENT ON COLUMN journal_blocks.project IS 'Name of the project.';
COMMENT ON COLUMN journal_blocks.last_sequence IS 'Number of the last entry of the block.';
COMMENT ON COLUMN journal_blocks.entries IS
    'JSON: for each entry a list of its number, kind, subject, fields as text, and reason.';
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON journal_blocks
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE FUNCTION pack_journal(of_project text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
DECLARE
    packed bigint := coalesce((SELECT max(last_sequence) FROM journal_blocks WHERE project = of_project), 0);
    newest bigint := coalesce((SELECT max(sequence) FROM journal WHERE project = of_project), 0);
BEGIN
    WHILE newest - packed >= 250 LOOP
        INSERT INTO journal_blocks (project, last_sequence, entries)
        SELECT of_project, packed + 250, json_agg(json_build_array(sequence, kind, subject, entry::text, why)
            ORDER BY sequence)::text
        FROM journal WHERE project = of_project AND sequence > packed AND sequence <= packed + 250;
        packed := packed + 250;
    END LOOP;
END $$;
COMMENT ON FUNCTION pack_journal(text) IS 'Makes the blocks of the journal of a project that are missing.';

CREATE FUNCTION pack_journals() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
BEGIN
    PERFORM pack_journal(project) FROM (SELECT DISTINCT project FROM added) a;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION pack_journals() IS 'Makes blocks of the journal when their last entry was added.';
REVOKE ALL ON FUNCTION pack_journal(text), pack_journals() FROM PUBLIC;
CREATE TRIGGER pack_journals AFTER INSERT ON journal
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION pack_journals();

SELECT pack_journal(project) FROM (SELECT DISTINCT project FROM journal) p;

CREATE INDEX journal_of_people ON journal (project, sequence) WHERE kind IN ('decision', 'erasure');
CREATE INDEX journal_of_keys ON journal (recorded_at DESC, sequence DESC) WHERE kind IN ('delivery', 'decision');
"""


def upgrade() -> None:
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    op.execute(STATEMENTS.replace("{schema}", schema))


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

"""A night replayed: a publication can be undone, also the first of a day; and the history of them is to be seen."""

from alembic import op

revision = "0003"
down_revision = "0002"

TABLES = """
ALTER TABLE publications
    ALTER COLUMN batch_id DROP NOT NULL,
    ADD CHECK (batch_id IS NOT NULL OR mode = 'undo');
COMMENT ON COLUMN publications.batch_id IS 'What is published from then on; null: the first was undone.';
COMMENT ON COLUMN publications.mode IS 'replace, missing, or undo: back to what was published before.';
CREATE INDEX ON step_runs (run_id, step);
"""

SELECT = """
SELECT p.id, p.model, p.day, b.model_version, b.rows, b.as_of, r.model_version AS replaced_version, p.mode, p.run_id,
    p.published_at, p.batch_id, p.replaced AS replaced_batch_id
FROM publications p
LEFT JOIN batches b ON b.batch_id = p.batch_id
LEFT JOIN batches r ON r.batch_id = p.replaced
"""

COLUMNS = {
    "id": "Order of the rows.",
    "model": "Name of the model.",
    "day": "Calendar day that the scores are of.",
    "model_version": "Version whose scores are published from then on; null where nothing is.",
    "rows": "Rows of its batch.",
    "as_of": "What its features knew.",
    "replaced_version": "Version whose scores were published until then; null where nothing was.",
    "mode": "replace, missing, or undo: back to what was published before.",
    "run_id": "Airflow run, or by-hand.",
    "published_at": "When.",
    "batch_id": "Batch that is published from then on.",
    "replaced_batch_id": "Batch that was published until then.",
}


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(f"CREATE VIEW publication_history AS {SELECT}")
    op.execute("COMMENT ON VIEW publication_history IS 'Each time that what readers see of a day was changed.'")
    for column, text in COLUMNS.items():
        op.execute(f"COMMENT ON COLUMN publication_history.{column} IS '{text}'")
    op.execute("GRANT SELECT ON publication_history TO ops_reader")


def downgrade() -> None:
    raise NotImplementedError("migrations go forward only; restore a backup")

"""The run date and the tags of each fit: MLflow's own are not believed without them."""

from alembic import op

revision = "0014"
down_revision = "0009"

STATEMENTS = """
ALTER TABLE fits ADD COLUMN trained_day date;
ALTER TABLE fits ADD COLUMN tags_digest text CHECK (tags_digest ~ '^[0-9a-f]{64}$');
COMMENT ON COLUMN fits.trained_day IS 'Run date of the fit; null if an older version recorded it.';
COMMENT ON COLUMN fits.tags_digest IS
    'Digest of the tags of the MLflow run that later steps read back; null if an older version recorded the fit.';
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

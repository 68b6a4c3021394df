"""What each version predicts, beside what it was trained on, so that no model is loaded to compare the dummy baseline.

It stays null for versions whose training was recorded before; these are loaded.
"""

from alembic import op

revision = "0041"
down_revision = "0040"


def upgrade() -> None:
    op.execute("ALTER TABLE training_summaries ADD COLUMN predicts jsonb")
    op.execute(
        "COMMENT ON COLUMN training_summaries.predicts IS "
        "'What its scores mean: problem type, quantiles and classes; null if it was not recorded.'"
    )


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

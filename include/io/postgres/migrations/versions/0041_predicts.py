"""What each version predicts, beside what it was trained on, so that no model is loaded to compare the dummy baseline.

It is null for versions whose training was recorded before, until one of them is loaded for that comparison.
"""

from alembic import op

revision = "0041"
down_revision = "0040"


CHANGES = """
ALTER TABLE training_summaries ADD COLUMN predicts jsonb;
COMMENT ON COLUMN training_summaries.predicts IS
    'What its scores mean: problem type, quantiles and classes; null if it was not recorded.';
COMMENT ON TABLE training_summaries IS
    'What each version was trained on, in a few numbers, for comparison with what it scores. '
    'Labels of inputs are digests.';
"""


def upgrade() -> None:
    op.execute(CHANGES)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

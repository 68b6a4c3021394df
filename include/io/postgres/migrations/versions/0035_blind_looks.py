"""A run date that looked says whose monitors failed, so that the incidents of all others can recover.

Until now a run with a failed monitor left no look at all. And `new` of drift counts new values of numbers that have few
distinct ones, too.
"""

from alembic import op

revision = "0035"
down_revision = "0034"

LOOKS = """
ALTER TABLE incident_looks ADD COLUMN blind text[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN incident_looks.blind IS
    'Models whose monitors failed in each run of the run date, and the empty text for those of the project.';
COMMENT ON TABLE incident_looks IS
    'Run dates that looked. A cause that one of them did not see is gone as of that run date, unless whoever would '
    'have seen it was blind.';
"""

NEW = """
COMMENT ON COLUMN drift_daily.new IS
    'Share of values that the training data lack, beyond that of the reference; null of a number with many values.';
COMMENT ON COLUMN drift.new IS
    'Share of values that the training data lack, beyond that of the reference; null of a number with many values.';
"""


def upgrade() -> None:
    op.execute(LOOKS)
    op.execute(NEW)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

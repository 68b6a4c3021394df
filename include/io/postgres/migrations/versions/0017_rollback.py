"""Which promotions are rollbacks.

`previous` of a second rollback must be the first one again. A promotion by hand of a version that was the champion
before is no rollback: somebody can promote a bad version twice.

Columns and comments are repeated from `include/io/postgres/schema.py`: see the first migration.
"""

from alembic import op

revision = "0017"
down_revision = "0016"

STATEMENTS = """
ALTER TABLE promotions ADD COLUMN rolled_back_from integer CHECK (rolled_back_from > 0);
COMMENT ON COLUMN promotions.rolled_back_from IS
    'Of a rollback: the champion that it replaced. Null if the row is no rollback.';
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

"""Locks of writers are rows: every login of a database may take any advisory lock, and could block publishing with it.

Columns and comments are repeated from `include/io/postgres/schema.py`: see the first migration.
"""

from alembic import op

revision = "0003"
down_revision = "0002"

TABLE = """
CREATE TABLE locks (name text PRIMARY KEY);
COMMENT ON TABLE locks IS
    'Locks of writers: a row is locked to the end of a transaction, with SELECT FOR UPDATE. Readers cannot.';
COMMENT ON COLUMN locks.name IS 'What is locked, such as publish and a model.';
"""


def upgrade() -> None:
    op.execute(TABLE)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

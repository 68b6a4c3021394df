"""An index by which `land` finds the refused objects of a project, however many objects were landed before."""

from alembic import op

revision = "0038"
down_revision = "0037"


def upgrade() -> None:
    op.execute("CREATE INDEX objects_refused ON objects (project) WHERE why IS NOT NULL")


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

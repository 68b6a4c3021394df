"""The address of the training report in `promotion_history`.

The view gets the column at its end, whatever columns it has by now: its definition is read from the catalog.
"""

from alembic import op

revision = "0027"
down_revision = "0025"

REPORT = """
DO $$
BEGIN
    EXECUTE format(
        'CREATE OR REPLACE VIEW promotion_history AS SELECT before.*, '
        '''runs:/'' || named.mlflow_run || ''/report/'' || before.gate_id || ''.html'' AS report FROM (%s) AS before '
        'LEFT JOIN versions named ON named.model = before.model AND named.model_version = before.model_version',
        rtrim(pg_get_viewdef('promotion_history'::regclass), '; ')
    );
END $$;
COMMENT ON COLUMN promotion_history.report IS
    'Training report of the version: its address among the artifacts of MLflow; null without a gate decision.';
"""


def upgrade() -> None:
    op.execute(REPORT)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

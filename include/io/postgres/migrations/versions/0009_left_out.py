"""Prepared days say how many entities `entity.where` left out."""

from alembic import op

revision = "0009"
down_revision = "0008"

STATEMENTS = """
ALTER TABLE prepared_days ADD COLUMN left_out bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN prepared_days.left_out IS 'Entities without features, because entity.where is not true for them.';

CREATE OR REPLACE VIEW prepared_day_status AS
SELECT p.project, p.day, p.data_view, p.as_of, p.watermark, cardinality(p.deliveries) AS deliveries, p.rows,
    p.number AS record, (j.entry ->> 'reconstructed')::boolean AS reconstructed, p.run_id, p.prepared_at, p.left_out
FROM prepared_days p LEFT JOIN journal j
    ON j.project = p.project AND j.kind = 'prepared_day'
    AND j.subject = to_char(p.day, 'YYYY-MM-DD') || ' record ' || p.number;

COMMENT ON COLUMN prepared_day_status.left_out IS
    'Entities without features and scores, because entity.where is not true for them.';
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

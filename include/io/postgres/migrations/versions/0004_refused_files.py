"""Files that could not be landed are in the view `data_quality`: a correction that is refused stops no run."""

from alembic import op

revision = "0004"
down_revision = "0003"

VIEW = """
CREATE OR REPLACE VIEW data_quality AS
SELECT project, feed, day, delivery_id, expectation, column_name, severity, success, rows_evaluated,
    unexpected_rows, observed, checked_at
FROM quality_results
UNION ALL
SELECT p.project, l.key, p.day, NULL, 'feed_to_be_known', NULL, 'warning', false, NULL, NULL,
    p.day || ' ' || l.value, p.prepared_at
FROM prepared_days p, jsonb_each_text(p.lacks) l
WHERE p.data_view = 'point_in_time'
UNION ALL
SELECT project, feed, day, NULL, 'file_to_be_landed', NULL, 'warning', false, NULL, NULL, why, seen_at
FROM objects WHERE why IS NOT NULL;

COMMENT ON VIEW data_quality IS
    'Results of validation, one row for each expectation and delivery; what prepared days went on without, one row for '
    'each run date and feed; and files that were refused when they were last read.';
COMMENT ON COLUMN data_quality.delivery_id IS
    'Delivery: its key and the start of its SHA-256; null for feed_to_be_known and file_to_be_landed.';
COMMENT ON COLUMN data_quality.expectation IS
    'Name of the expectation, as in Great Expectations; feed_to_be_known: the run date lacked files of the feed; '
    'file_to_be_landed: a file was refused.';
COMMENT ON COLUMN data_quality.observed IS
    'Observed value, such as a mean; what a run date went on without, and why; why a file was refused; null if rows '
    'were counted.';
"""


def upgrade() -> None:
    op.execute(VIEW)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

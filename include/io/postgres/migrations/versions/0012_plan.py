"""What `cli plan` compares with: what made the features of prepared days, and the migration of the database.

Columns and comments are repeated from `include/io/postgres/schema.py`: see the first migration.
"""

from alembic import op

revision = "0012"
down_revision = "0011"

STATEMENTS = """
ALTER TABLE prepared_days ADD COLUMN config_digest text;
COMMENT ON COLUMN prepared_days.config_digest IS
    'Digest of the declarations and the code that made the features; null if it was not recorded.';

CREATE VIEW prepared_day_digests AS
SELECT project, day, data_view, config_digest FROM prepared_days;
COMMENT ON VIEW prepared_day_digests IS
    'Which declarations and code made the features of each prepared day; cli plan compares them with a branch.';
COMMENT ON COLUMN prepared_day_digests.project IS 'Name of the project.';
COMMENT ON COLUMN prepared_day_digests.day IS 'Run date.';
COMMENT ON COLUMN prepared_day_digests.data_view IS
    'point_in_time: what the run date''s own run knew. latest: with later corrections.';
COMMENT ON COLUMN prepared_day_digests.config_digest IS
    'Digest of the declarations and the code that made the features; null if it was not recorded.';

CREATE VIEW schema_revision AS SELECT version_num AS revision FROM nightly_ml_version;
COMMENT ON VIEW schema_revision IS 'The newest migration that the shared database has.';
COMMENT ON COLUMN schema_revision.revision IS 'Number of the migration.';

GRANT SELECT ON prepared_day_digests, schema_revision TO ops_reader;
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

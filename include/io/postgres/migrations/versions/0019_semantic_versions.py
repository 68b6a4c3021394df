"""Semantic versions of models, and what each fit came from.

The views `promotion_history` and `gate_decisions` get a column at their end, whatever columns they have by now: their
definition is read from the catalog. Columns and comments of tables are repeated from `include/io/postgres/schema.py`:
see the first migration.
"""

from alembic import op

revision = "0019"
down_revision = "0018"

TABLES = """
ALTER TABLE fits ADD COLUMN origin jsonb;
COMMENT ON COLUMN fits.origin IS
    'What the fit came from: commit, declarations, days, entry of the journal and versions of the tables that it read; '
    'null if an older version recorded it.';

ALTER TABLE model_versions
    ADD COLUMN semantic_version text CHECK (semantic_version ~ '^[0-9]+\\.[0-9]+\\.[0-9]+$'),
    ADD COLUMN changed text,
    ADD UNIQUE (model, semantic_version);
COMMENT ON COLUMN model_versions.semantic_version IS
    'Semantic version, such as 1.4.2; null if an older version of the product recorded the row.';
COMMENT ON COLUMN model_versions.changed IS 'What changed against the semantic version before.';
"""

# The only place that says what is a pre-release: a version that was never champion. It is called by the state of its
# life, which `include/io/postgres/version_moves.py` reads by the same rule.
VERSIONS = """
CREATE VIEW versions AS
SELECT v.model, v.model_version,
    v.semantic_version
        || CASE WHEN EXISTS (
                SELECT FROM promotions p WHERE p.model = v.model AND p.model_version = v.model_version
            ) THEN '' ELSE '-' || coalesce((
                SELECT m.state FROM version_moves m
                WHERE m.model = v.model AND m.model_version = v.model_version ORDER BY m.id DESC LIMIT 1
            ), (
                SELECT CASE WHEN g.passed THEN 'registered' ELSE 'rejected' END FROM gates g
                WHERE g.model = v.model AND g.model_version = v.model_version ORDER BY g.decided_at DESC LIMIT 1
            ), 'registered') END
        || coalesce('+' || substring(f.origin ->> 'git_commit' FROM '^[0-9a-f]{7,12}'), '') AS semantic_version,
    v.changed, f.candidate, f.trained_day, f.origin ->> 'git_commit' AS git_commit, f.model_digest, v.mlflow_run,
    v.run_id, v.recorded_at
FROM model_versions v JOIN fits f ON f.mlflow_run = v.mlflow_run;
COMMENT ON VIEW versions IS
    'The versions of each model: semantic version, what changed, and the fit that each one is.';
COMMENT ON COLUMN versions.model IS 'Name of the model.';
COMMENT ON COLUMN versions.model_version IS 'Version in the registry.';
COMMENT ON COLUMN versions.semantic_version IS
    'Semantic version. Major: outcome, features, problem type or horizon; minor: candidate, parameters or code of the '
    'estimator; patch: trained again. -registered, -pending, -rejected, …: its state; it was never champion. After +: '
    'the commit.';
COMMENT ON COLUMN versions.changed IS 'What changed against the semantic version before.';
COMMENT ON COLUMN versions.candidate IS 'Candidate in model.yaml; adopted: it was fitted elsewhere.';
COMMENT ON COLUMN versions.trained_day IS 'Run date of the fit; null if an older version recorded it.';
COMMENT ON COLUMN versions.git_commit IS 'Commit of the code that fitted it.';
COMMENT ON COLUMN versions.model_digest IS 'Digest of the files of the version; no other files are ever loaded.';
COMMENT ON COLUMN versions.mlflow_run IS 'MLflow run whose fit the version is.';
COMMENT ON COLUMN versions.run_id IS 'Airflow run that wrote the row, or by-hand.';
COMMENT ON COLUMN versions.recorded_at IS 'Time at which the version was recorded.';
GRANT SELECT ON versions TO ops_reader;
"""

NAMED = """
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['promotion_history', 'gate_decisions'] LOOP
        EXECUTE format(
            'CREATE OR REPLACE VIEW %I AS SELECT before.*, named.semantic_version FROM (%s) AS before '
            'LEFT JOIN versions named ON named.model = before.model '
            'AND named.model_version = before.model_version',
            name, rtrim(pg_get_viewdef(name::regclass), '; ')
        );
        EXECUTE format(
            'COMMENT ON COLUMN %I.semantic_version IS %L',
            name, 'Semantic version, as in versions; null if an older version of the product recorded it.'
        );
    END LOOP;
END $$
"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(VERSIONS)
    op.execute(NAMED)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

"""The digests of the files of fits, and the fit that each version is: what MLflow says is not believed without them.

Columns and comments are repeated from `include/io/postgres/schema.py`: see the first migration.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

DIGEST = "Digest of the files of the version; no other files are ever loaded."

TABLES = """
CREATE TABLE fits (
    mlflow_run text PRIMARY KEY,
    model text NOT NULL,
    candidate text NOT NULL,
    fit_end date NOT NULL,
    fit_digest text NOT NULL,
    model_digest text NOT NULL CHECK (model_digest ~ '^[0-9a-f]{64}$'),
    run_id text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE fits IS 'The files of each fit. Immutable.';
COMMENT ON COLUMN fits.mlflow_run IS 'MLflow run that has the fit.';
COMMENT ON COLUMN fits.model IS 'Name of the model.';
COMMENT ON COLUMN fits.candidate IS 'Candidate in model.yaml.';
COMMENT ON COLUMN fits.fit_end IS 'Newest day whose outcomes the fit has seen.';
COMMENT ON COLUMN fits.fit_digest IS 'Digest of everything that decides the fit.';
COMMENT ON COLUMN fits.model_digest IS 'Digest of the files of the fitted model; no other files are ever loaded.';
COMMENT ON COLUMN fits.run_id IS 'Airflow run that wrote the row, or by-hand.';
COMMENT ON COLUMN fits.recorded_at IS 'Time at which the fit was recorded.';

CREATE TABLE model_versions (
    model text NOT NULL,
    model_version integer NOT NULL CHECK (model_version > 0),
    mlflow_run text NOT NULL REFERENCES fits,
    run_id text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (model, model_version)
);
COMMENT ON TABLE model_versions IS
    'The fit that each version of a registered model is, whatever MLflow says later. Immutable.';
COMMENT ON COLUMN model_versions.model IS 'Name of the model.';
COMMENT ON COLUMN model_versions.model_version IS 'Version in the registry.';
COMMENT ON COLUMN model_versions.mlflow_run IS 'MLflow run whose fit the version is.';
COMMENT ON COLUMN model_versions.run_id IS 'Airflow run that wrote the row, or by-hand.';
COMMENT ON COLUMN model_versions.recorded_at IS 'Time at which the version was recorded.';
"""

IMMUTABLE = ("fits", "model_versions")

VIEWS = """
CREATE OR REPLACE VIEW promotion_history AS
SELECT p.id, p.model, p.model_version, p.from_day, p.trained_day, p.by, p.why, p.forced, p.gate_id, p.run_id,
    p.created_at, f.model_digest
FROM promotions p
LEFT JOIN model_versions v ON v.model = p.model AND v.model_version = p.model_version
LEFT JOIN fits f ON f.mlflow_run = v.mlflow_run;

CREATE OR REPLACE VIEW gate_decisions AS
SELECT gate_id, model, model_version, day, candidate, champion_version, passed, checks,
    (SELECT string_agg(sentence, '; ' ORDER BY number) FROM gate_results r WHERE r.gate_id = g.gate_id AND NOT
    r.passed)
        AS why_not,
    holdout_start, holdout_end, rows, run_id, decided_at, model_digest FROM gates g;
"""


def upgrade() -> None:
    op.execute(TABLES)
    for table in IMMUTABLE:
        op.execute(
            f"CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
    op.execute(VIEWS)
    for view in ("promotion_history", "gate_decisions"):
        op.execute(f"COMMENT ON COLUMN {view}.model_digest IS '{DIGEST}'")


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

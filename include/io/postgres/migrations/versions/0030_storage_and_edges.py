"""What storage takes and costs, and edges of drift that a person has frozen again.

The view `human_actions` gets these decisions, whatever it has by now: its definition is read from the catalog.
"""

from alembic import op

revision = "0030"
down_revision = "0029"

STATEMENTS = """
CREATE TABLE storage_daily (
    project text NOT NULL,
    day date NOT NULL,
    bytes bigint NOT NULL CHECK (bytes >= 0),
    cost double precision,
    currency text,
    run_id text NOT NULL,
    measured_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (project, day),
    CHECK ((cost IS NULL) = (currency IS NULL))
);
COMMENT ON TABLE storage_daily IS
    'Bytes of the tables of each project, measured once a day by the step monitor, and what a day of them costs.';
COMMENT ON COLUMN storage_daily.project IS 'Name of the project.';
COMMENT ON COLUMN storage_daily.day IS 'Calendar day of the measurement, in the project''s timezone.';
COMMENT ON COLUMN storage_daily.bytes IS
    'Bytes of the files of its tables, those of older versions included, as far as they are still there.';
COMMENT ON COLUMN storage_daily.cost IS 'Cost of the day by the prices declared then; null without prices.';
COMMENT ON COLUMN storage_daily.currency IS 'Currency of the cost.';
COMMENT ON COLUMN storage_daily.run_id IS 'Airflow run that wrote the row, or by-hand.';
COMMENT ON COLUMN storage_daily.measured_at IS 'Time of the measurement.';

CREATE OR REPLACE VIEW pipeline_cost AS
SELECT project, coalesce(ran_on, (ended_at AT TIME ZONE 'UTC')::date) AS day, step, model, count(*) AS runs,
    count(*) FILTER (WHERE state = 'failed') AS failed_runs, sum(rows)::bigint AS rows, sum(seconds) AS seconds,
    sum(core_seconds) AS core_seconds, sum(dbus) AS dbus, max(peak_memory_mb) AS peak_memory_mb,
    sum(bytes_read)::bigint AS bytes_read, sum(bytes_written)::bigint AS bytes_written, sum(cost) AS cost, currency,
    NULL::bigint AS bytes_stored
FROM step_runs
GROUP BY project, coalesce(ran_on, (ended_at AT TIME ZONE 'UTC')::date), step, model, currency
UNION ALL
SELECT project, day, 'storage', NULL, 0, 0, NULL, 0, NULL, NULL, NULL, NULL, NULL, cost, currency, bytes
FROM storage_daily;
COMMENT ON VIEW pipeline_cost IS
    'What the runs of each step took and cost, by the day on which they ended, and what storage cost on that day.';
COMMENT ON COLUMN pipeline_cost.step IS 'Name of the step; storage: what the tables of the project take.';
COMMENT ON COLUMN pipeline_cost.bytes_stored IS 'Bytes of the tables of the project; null for steps.';

CREATE TABLE drift_freezes (
    model text NOT NULL,
    decision integer NOT NULL CHECK (decision > 0),
    by text NOT NULL,
    why text NOT NULL,
    run_id text NOT NULL,
    decided_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (model, decision)
);
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON drift_freezes
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
COMMENT ON TABLE drift_freezes IS
    'Decisions to freeze the edges of a model again, because a change of its data is accepted. Immutable.';
COMMENT ON COLUMN drift_freezes.model IS 'Name of the model.';
COMMENT ON COLUMN drift_freezes.decision IS 'Number of the decision; edges frozen because of it have it, too.';
COMMENT ON COLUMN drift_freezes.by IS 'Who decided.';
COMMENT ON COLUMN drift_freezes.why IS 'The reason.';
COMMENT ON COLUMN drift_freezes.run_id IS 'Airflow run that wrote the row, or by-hand.';
COMMENT ON COLUMN drift_freezes.decided_at IS 'Time of the decision.';

ALTER TABLE drift_edges ADD COLUMN decision integer NOT NULL DEFAULT 0;
ALTER TABLE drift_edges DROP CONSTRAINT drift_edges_pkey;
ALTER TABLE drift_edges ADD PRIMARY KEY (model, role, feature, decision);
COMMENT ON TABLE drift_edges IS
    'How values are counted, by feature, frozen from the training data of a model''s first champion, or of its newest '
    'one when a person decided so. Immutable; those with the highest number count.';
COMMENT ON COLUMN drift_edges.decision IS 'Decision in drift_freezes because of which they were frozen; 0: none.';

DO $$
BEGIN
    EXECUTE format(
        'CREATE OR REPLACE VIEW human_actions AS SELECT * FROM (%s) AS before UNION ALL '
        'SELECT f.decided_at, m.project, f.model, ''freeze drift'', ''decision '' || f.decision, f.by, f.why, f.run_id '
        'FROM drift_freezes f LEFT JOIN models m ON m.model = f.model',
        rtrim(pg_get_viewdef('human_actions'::regclass), '; ')
    );
END $$;
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

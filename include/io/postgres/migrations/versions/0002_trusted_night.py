"""A night one can trust: quarantine in the quality results, the gate's record, what a promotion rests on, performance,
freshness and alerts; role `ops_reader`.

What the gate found is never changed, as with predictions and promotions before; of an alert only `notified_at` is.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

TABLES = """
ALTER TABLE quality_results
    ADD COLUMN quarantined_rows bigint,
    ADD COLUMN examples jsonb NOT NULL DEFAULT '[]';
COMMENT ON COLUMN quality_results.quarantined_rows IS 'Rows that the expectation sent to quarantine_<feed>.';
COMMENT ON COLUMN quality_results.examples IS 'Up to three of the unexpected rows: row number, key, and public values.';

CREATE TABLE gates (
    gate_id uuid PRIMARY KEY,
    model text NOT NULL,
    model_version integer NOT NULL CHECK (model_version > 0),
    day date NOT NULL,
    candidate text NOT NULL,
    champion_version integer,
    model_digest text NOT NULL,
    rules_digest text NOT NULL,
    passed boolean NOT NULL,
    checks integer NOT NULL CHECK (checks > 0),
    holdout_start date NOT NULL,
    holdout_end date NOT NULL,
    rows bigint NOT NULL,
    run_id text NOT NULL,
    decided_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON gates (model, model_version, decided_at);
COMMENT ON TABLE gates IS
    'One decision of the gate on a version, against a champion, by rules; gate_id follows from these.';

CREATE TABLE gate_results (
    gate_id uuid NOT NULL REFERENCES gates,
    number integer NOT NULL,
    name text NOT NULL,
    subject text NOT NULL,
    measured double precision,
    threshold double precision,
    passed boolean NOT NULL,
    sentence text NOT NULL CHECK (sentence <> ''),
    PRIMARY KEY (gate_id, number),
    CHECK (measured IS NOT NULL OR NOT passed)
);
COMMENT ON TABLE gate_results IS
    'The checks of a decision; measured is null where nothing could be, which never passes.';

ALTER TABLE promotions
    ADD COLUMN trained_day date,
    ADD COLUMN gate_id uuid REFERENCES gates,
    ADD COLUMN forced boolean NOT NULL DEFAULT false;
CREATE UNIQUE INDEX ON promotions (gate_id) WHERE by = 'gate';
COMMENT ON COLUMN promotions.trained_day IS
    'Run day of the training that made the version; null in rows of before 0002.';
COMMENT ON COLUMN promotions.gate_id IS
    'What the promotion rests on; null in rows of before 0002 and where forced without.';
COMMENT ON COLUMN promotions.forced IS 'Promoted by hand against the gate or without one.';

CREATE TABLE performance_daily (
    model text NOT NULL,
    day date NOT NULL,
    model_version integer NOT NULL,
    slice text NOT NULL,
    slice_value text NOT NULL,
    metric text NOT NULL,
    value double precision CHECK (value <> 'NaN'),
    rows bigint NOT NULL CHECK (rows >= 0),
    digest text NOT NULL,
    run_id text NOT NULL,
    measured_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (model, day, model_version, slice, slice_value, metric)
);
COMMENT ON COLUMN performance_daily.digest IS
    'Of what the day was measured from: batch, outcomes, and how; when that is another, it is measured again.';
COMMENT ON TABLE performance_daily IS
    'How published scores compare with what came true; measured again when outcomes or the published batch change.';

CREATE TABLE freshness (
    project text NOT NULL,
    subject text NOT NULL,
    day date NOT NULL,
    newest_day date,
    behind_days integer,
    late boolean NOT NULL,
    sentence text NOT NULL,
    run_id text NOT NULL,
    measured_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (project, subject, day)
);
COMMENT ON TABLE freshness IS
    'On each run day: the newest day that each table, and each model''s published scores, have.';

CREATE TABLE alerts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project text NOT NULL,
    subject text NOT NULL,
    rule text NOT NULL,
    day date NOT NULL,
    sentence text NOT NULL CHECK (sentence <> ''),
    run_id text NOT NULL,
    raised_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    notified_at timestamptz,
    UNIQUE (project, subject, rule, day)
);
COMMENT ON COLUMN alerts.notified_at IS 'When the notifier had taken it; null until then, so that nobody stays untold.';
COMMENT ON TABLE alerts IS 'What people were told, once a run day and rule, also when the run is repeated.';
"""

PROMISES = """
COMMENT ON COLUMN data_quality.severity IS
    'critical: rows that break it are in quarantine, or the delivery is refused. warning: it is only told.';

CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON gates
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON gate_results
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE FUNCTION gate_is_whole() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    present bigint;
    all_passed boolean;
BEGIN
    SELECT count(*), coalesce(bool_and(passed), false) INTO present, all_passed
    FROM gate_results WHERE gate_id = NEW.gate_id;
    IF present <> NEW.checks OR NEW.passed <> all_passed THEN
        RAISE EXCEPTION 'gate % of % version % says % checks, passed %, and has % checks, passed %',
            NEW.gate_id, NEW.model, NEW.model_version, NEW.checks, NEW.passed, present, all_passed;
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION gate_is_whole() IS 'At commit, a decision has all its checks, and passes only when each passed.';
CREATE CONSTRAINT TRIGGER gate_is_whole AFTER INSERT ON gates
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION gate_is_whole();
"""

# Columns with their comments, since each column of each view has one.
VIEWS = {
    "model_performance": (
        "How published scores compare with what came true: one row a model, day, version, slice and metric.",
        "SELECT model, day, model_version, slice, slice_value, metric, value, rows, measured_at FROM performance_daily",
        {
            "model": "Name of the model.",
            "day": "Calendar day, in the project's timezone, that the scores are of.",
            "model_version": "Version of the model in the registry that made the scores.",
            "slice": "Column that rows are divided by; 'all' for all of them.",
            "slice_value": "Value of that column; 'all' for all rows.",
            "metric": "log_loss, brier, roc_auc, calibration_gap, mae, rmse, … ; see docs/concepts.md.",
            "value": "The metric; null where it is not defined, as AUC of one class.",
            "rows": "Rows with a known outcome that it was measured on.",
            "measured_at": "When it was measured last.",
        },
    ),
    "model_status": (
        "One row a model that has published: champion, newest day, whether that is late, what was alerted last.",
        """SELECT m.model, m.project, m.title, m.owner, c.model_version AS champion_version,
    c.from_day AS champion_since,
    c.why AS champion_why, p.day AS newest_published_day, p.published_at AS newest_published_at,
    f.late AS scores_late, f.sentence AS freshness, a.sentence AS newest_alert, a.raised_at AS newest_alert_at
FROM models m
LEFT JOIN LATERAL (SELECT model_version, from_day, why FROM promotions WHERE model = m.model
    ORDER BY from_day DESC, id DESC LIMIT 1) c ON true
LEFT JOIN LATERAL (SELECT day, published_at FROM published WHERE model = m.model ORDER BY day DESC LIMIT 1) p ON true
LEFT JOIN LATERAL (SELECT late, sentence FROM freshness WHERE project = m.project AND subject = m.model
    ORDER BY day DESC LIMIT 1) f ON true
LEFT JOIN LATERAL (SELECT sentence, raised_at FROM alerts WHERE project = m.project AND subject = m.model
    ORDER BY id DESC LIMIT 1) a ON true""",
        {
            "model": "Name of the model.",
            "project": "Name of the project.",
            "title": "What the model is called.",
            "owner": "Who answers for it.",
            "champion_version": "Newest champion by the ledger, also when its first day is still to come.",
            "champion_since": "First day that it scores.",
            "champion_why": "Why it was promoted.",
            "newest_published_day": "Newest day that has published scores.",
            "newest_published_at": "When that day was published last.",
            "scores_late": "Whether scores were late on the newest day that was monitored.",
            "freshness": "The same in words.",
            "newest_alert": "What was alerted last.",
            "newest_alert_at": "When.",
        },
    ),
    "promotion_history": (
        "Which version is champion from which day on, why, by whom: the truth that registry aliases mirror.",
        (
            "SELECT id, model, model_version, from_day, trained_day, by, why, forced, gate_id, run_id, created_at "
            "FROM promotions"
        ),
        {
            "id": "Order of the rows; of two with the same from_day the newer one holds.",
            "model": "Name of the model.",
            "model_version": "Version in the registry.",
            "from_day": "First day that it scores.",
            "trained_day": "Run day of the training that made it.",
            "by": "Who or what decided.",
            "why": "Why.",
            "forced": "Promoted by hand against the gate or without one.",
            "gate_id": "The decision of the gate that it rests on.",
            "run_id": "Airflow run, or by-hand.",
            "created_at": "When it was written.",
        },
    ),
    "gate_decisions": (
        "What the gate decided on each version: one row a decision.",
        """SELECT gate_id, model, model_version, day, candidate, champion_version, passed, checks,
    (SELECT string_agg(sentence, '; ' ORDER BY number) FROM gate_results r WHERE r.gate_id = g.gate_id AND NOT r.passed)
        AS why_not,
    holdout_start, holdout_end, rows, run_id, decided_at FROM gates g""",
        {
            "gate_id": "Joins gate_checks and ledger.",
            "model": "Name of the model.",
            "model_version": "Version that was judged.",
            "day": "Run day of its training.",
            "candidate": "Candidate of model.yaml.",
            "champion_version": "Champion that it was held against; null before the first.",
            "passed": "Whether all checks passed.",
            "checks": "How many checks there were.",
            "why_not": "The checks that failed, in words; null when it passed.",
            "holdout_start": "First day that it was judged on.",
            "holdout_end": "Last day that it was judged on.",
            "rows": "Rows that it was judged on.",
            "run_id": "Airflow run, or by-hand.",
            "decided_at": "When.",
        },
    ),
    "gate_checks": (
        "Each check of each decision: what was measured against which threshold.",
        (
            "SELECT gate_id, model, model_version, day, number, name, subject, measured, threshold, r.passed, sentence "
            "FROM gate_results r JOIN gates USING (gate_id)"
        ),
        {
            "gate_id": "Joins gate_decisions.",
            "model": "Name of the model.",
            "model_version": "Version that was judged.",
            "day": "Run day of its training.",
            "number": "Order of the checks.",
            "name": "Which check.",
            "subject": "What of: a metric, or a slice such as origin=EWR.",
            "measured": "What was measured; null where nothing could be, which never passes.",
            "threshold": "What model.yaml asks for.",
            "passed": "Whether it passed.",
            "sentence": "The same in words.",
        },
    ),
    "prepared_day_status": (
        "Prepared nights: what each knew and how many rows it has.",
        (
            "SELECT project, day, data_view, as_of, cardinality(deliveries) AS deliveries, rows, run_id, prepared_at "
            "FROM prepared_days"
        ),
        {
            "project": "Name of the project.",
            "day": "Run day.",
            "data_view": "night: what was known then. latest: with later corrections.",
            "as_of": "Only what was available by this moment was used.",
            "deliveries": "How many deliveries its features are from.",
            "rows": "Rows of features.",
            "run_id": "Airflow run, or by-hand.",
            "prepared_at": "When it was prepared last.",
        },
    ),
    "step_history": (
        "Each time a step ran, and how it ended.",
        (
            "SELECT id, project, model, step, interval_start, interval_end, state, rows, seconds, table_version, "
            "model_version, "
            "error_class, run_id, started_at, ended_at FROM step_runs"
        ),
        {
            "id": "Order of the rows.",
            "project": "Name of the project.",
            "model": "Name of the model; null for steps of a project.",
            "step": "Name of the step.",
            "interval_start": "First day that it handled.",
            "interval_end": "Last day that it handled.",
            "state": "success, skipped or failed.",
            "rows": "Rows that it wrote or read.",
            "seconds": "How long it took.",
            "table_version": "Version of the table that it made.",
            "model_version": "Version of the model that it made.",
            "error_class": "Class of the error that ended it; its text is in the task's log.",
            "run_id": "Airflow run, or by-hand.",
            "started_at": "When it began.",
            "ended_at": "When it ended.",
        },
    ),
    "quarantine_counts": (
        "Rows held back, by delivery and expectation, with up to three examples.",
        (
            "SELECT project, feed, day, delivery_id, expectation, column_name, quarantined_rows, rows_evaluated, "
            "examples, run_id, checked_at FROM quality_results WHERE quarantined_rows > 0"
        ),
        {
            "project": "Name of the project.",
            "feed": "Name of the feed.",
            "day": "Calendar day of the file.",
            "delivery_id": "The delivered file: its key and the head of its sha256.",
            "expectation": "What the rows broke.",
            "column_name": "Column that it is about.",
            "quarantined_rows": "Rows that broke it and are in quarantine_<feed>; a row can break several.",
            "rows_evaluated": "Rows of the delivery.",
            "examples": "Up to three of them: row number, key, and public values.",
            "run_id": "Airflow run, or by-hand.",
            "checked_at": "When.",
        },
    ),
    "freshness_status": (
        "On each run day: the newest day that each table and each model's published scores have.",
        "SELECT project, subject, day, newest_day, behind_days, late, sentence, measured_at FROM freshness",
        {
            "project": "Name of the project.",
            "subject": "Table, or model for its published scores.",
            "day": "Run day.",
            "newest_day": "Newest day that it has; null when it has none.",
            "behind_days": "How many days that is behind what the run day should have.",
            "late": "Whether that is later than allowed.",
            "sentence": "The same in words.",
            "measured_at": "When.",
        },
    ),
    "alert_history": (
        "What was alerted, and when people were told.",
        "SELECT id, project, subject, rule, day, sentence, run_id, raised_at, notified_at FROM alerts",
        {
            "id": "Order of the rows.",
            "project": "Name of the project.",
            "subject": "Model or table that it is about.",
            "rule": "Rule that was broken.",
            "day": "Run day.",
            "sentence": "What was said.",
            "run_id": "Airflow run, or by-hand.",
            "raised_at": "When.",
            "notified_at": "When people were told; null until then.",
        },
    ),
}
READER_VIEWS = ("model_performance", "model_status")
EARLIER_VIEWS = ("current_predictions", "predictions_with_outcomes", "data_quality")

OPS_READER = """
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ops_reader') THEN
        CREATE ROLE ops_reader NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;  -- roles are the server's: another database's migration made it just now
END $$;
"""


def upgrade() -> None:
    for statements in (TABLES, PROMISES, OPS_READER):
        op.execute(statements)
    for name, (about, select, columns) in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {select}")
        op.execute(f"COMMENT ON VIEW {name} IS {_literal(about)}")
        for column, text in columns.items():
            op.execute(f"COMMENT ON COLUMN {name}.{column} IS {_literal(text)}")
    op.execute(f"GRANT SELECT ON {', '.join(READER_VIEWS)} TO reader")
    op.execute(f"GRANT SELECT ON {', '.join((*EARLIER_VIEWS, *VIEWS))} TO ops_reader")


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def downgrade() -> None:
    raise NotImplementedError("migrations go forward only; restore a backup")

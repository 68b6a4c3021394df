"""The first night: models, ledger, batches with their pointer, nights, outcomes, quality, steps; role `reader`.

Three promises are kept by the database itself, whoever writes to it:
- what was predicted, published or promoted is never changed or taken away (`refuse_change`);
- a batch has all its rows when it becomes visible, and gets no more later (`batch_is_whole`, `batch_gets_no_more`);
- a pointer leads to a batch of the same model and day (foreign key).
They cost one pass over the new rows of a batch and nothing a row.

`entity_id` is sorted by bytes (COLLATE "C"), whatever the language of the database: indexes are filled faster, and in
the order in which rows come.
"""

from alembic import op

revision = "0001"
down_revision = None

TABLES = """
CREATE TABLE models (
    model text PRIMARY KEY,
    project text NOT NULL,
    outcome text NOT NULL,
    problem_type text NOT NULL CHECK (problem_type IN ('binary', 'regression')),
    title text NOT NULL,
    owner text NOT NULL
);
COMMENT ON TABLE models IS 'What each model declares, as of its newest publish; joins predictions with outcomes.';

CREATE TABLE promotions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model text NOT NULL,
    model_version integer NOT NULL CHECK (model_version > 0),
    from_day date NOT NULL,
    by text NOT NULL CHECK (by <> ''),
    why text NOT NULL CHECK (why <> ''),
    run_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON promotions (model, from_day, id);
COMMENT ON TABLE promotions IS
    'The ledger: the champion of a day is the row with the greatest from_day up to it, the newest id among equals.';

CREATE TABLE batches (
    batch_id uuid PRIMARY KEY,
    model text NOT NULL REFERENCES models,
    day date NOT NULL,
    model_version integer NOT NULL CHECK (model_version > 0),
    rows bigint NOT NULL CHECK (rows >= 0),
    digest text NOT NULL CHECK (digest ~ '^[0-9a-f]{64}$'),
    as_of timestamptz NOT NULL,
    run_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (batch_id, model, day)
);
CREATE INDEX ON batches (model, day);
COMMENT ON TABLE batches IS
    'The scores of one model version for one day; batch_id follows from the content, so equal content is one batch.';

CREATE TABLE predictions (
    batch_id uuid NOT NULL,
    model text NOT NULL,
    day date NOT NULL,
    entity_id text COLLATE "C" NOT NULL,
    score double precision NOT NULL,
    prediction double precision NOT NULL,
    PRIMARY KEY (batch_id, entity_id)
);
COMMENT ON TABLE predictions IS 'The rows of batches. A foreign key would cost a lookup a row: see batch_gets_no_more.';

CREATE TABLE published (
    model text NOT NULL,
    day date NOT NULL,
    batch_id uuid NOT NULL,
    run_id text NOT NULL,
    published_at timestamptz NOT NULL,
    PRIMARY KEY (model, day),
    FOREIGN KEY (batch_id, model, day) REFERENCES batches (batch_id, model, day)
);
COMMENT ON TABLE published IS 'The pointer that readers follow; moved in the transaction that completes the batch.';

CREATE TABLE publications (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model text NOT NULL,
    day date NOT NULL,
    batch_id uuid NOT NULL,
    replaced uuid REFERENCES batches,
    mode text NOT NULL,
    run_id text NOT NULL,
    published_at timestamptz NOT NULL,
    FOREIGN KEY (batch_id, model, day) REFERENCES batches (batch_id, model, day)
);
CREATE INDEX ON publications (model, day, id);
COMMENT ON TABLE publications IS 'Each move of a pointer: what was published when, by which run, in place of what.';

CREATE TABLE prepared_days (
    project text NOT NULL,
    day date NOT NULL,
    data_view text NOT NULL CHECK (data_view IN ('point_in_time', 'latest')),
    as_of timestamptz NOT NULL,
    deliveries text[] NOT NULL,
    table_versions jsonb NOT NULL,
    rows bigint NOT NULL CHECK (rows >= 0),
    run_id text NOT NULL,
    prepared_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (project, day, data_view)
);
COMMENT ON TABLE prepared_days IS 'Prepared days, also empty ones; written last by prepare, waited for by sensors.';

CREATE TABLE outcome_days (
    project text NOT NULL,
    outcome text NOT NULL,
    day date NOT NULL,
    delivery_id text NOT NULL,
    available_at timestamptz NOT NULL,
    rows bigint NOT NULL CHECK (rows >= 0),
    digest text NOT NULL CHECK (digest ~ '^[0-9a-f]{64}$'),
    run_id text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (project, outcome, day)
);
COMMENT ON TABLE outcome_days IS
    'Which delivery the outcomes of a day are from, also one without rows: an older one never comes back over it.';

CREATE TABLE outcomes (
    project text NOT NULL,
    outcome text NOT NULL,
    day date NOT NULL,
    entity_id text COLLATE "C" NOT NULL,
    value double precision CHECK (value <> 'NaN'),
    delivery_id text NOT NULL,
    available_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (project, outcome, day, entity_id)
);
COMMENT ON TABLE outcomes IS 'What became known. No row: not known yet. A null value: known to have none.';

CREATE TABLE quality_results (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project text NOT NULL,
    feed text NOT NULL,
    day date NOT NULL,
    delivery_id text NOT NULL,
    expectation text NOT NULL,
    column_name text,
    severity text NOT NULL CHECK (severity IN ('critical', 'warning')),
    success boolean NOT NULL,
    rows_evaluated bigint,
    unexpected_rows bigint,
    observed text,
    run_id text NOT NULL,
    checked_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON quality_results (project, delivery_id);
CREATE INDEX ON quality_results (project, feed, day);
COMMENT ON TABLE quality_results IS 'One row an expectation and delivery; checking a delivery again replaces its rows.';

CREATE TABLE step_runs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project text NOT NULL,
    model text,
    step text NOT NULL,
    interval_start date NOT NULL,
    interval_end date NOT NULL,
    state text NOT NULL CHECK (state IN ('success', 'skipped', 'failed')),
    rows bigint,
    seconds double precision NOT NULL,
    table_version bigint,
    model_version bigint,
    error_class text,
    run_id text NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    CHECK ((error_class IS NULL) = (state <> 'failed'))
);
CREATE INDEX ON step_runs (project, step, interval_end);
COMMENT ON TABLE step_runs IS 'Each time a step ran, and how it ended; only added to.';
"""

PROMISES = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is never changed: % refused', TG_TABLE_NAME, TG_OP
        USING HINT = 'Publish another batch, or add a row that says what holds from now on.';
END $$;
COMMENT ON FUNCTION refuse_change() IS 'What was predicted, published or promoted stays as it was.';

CREATE FUNCTION batch_is_whole() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    present bigint;
BEGIN
    SELECT count(*) INTO present FROM predictions WHERE batch_id = NEW.batch_id;
    IF present <> NEW.rows THEN
        RAISE EXCEPTION 'batch % of % for % says % rows and has %',
            NEW.batch_id, NEW.model, NEW.day, NEW.rows, present;
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION batch_is_whole() IS 'At commit, a new batch has as many rows as it says.';

CREATE FUNCTION batch_gets_no_more() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    wrong record;
BEGIN
    SELECT a.batch_id, a.model, a.day, b.rows INTO wrong
    FROM (SELECT DISTINCT batch_id, model, day FROM added) a
    LEFT JOIN batches b USING (batch_id, model, day)
    WHERE b.rows IS NULL OR b.rows < (SELECT count(*) FROM predictions p WHERE p.batch_id = a.batch_id)
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'batch % of % for % %', wrong.batch_id, wrong.model, wrong.day,
            CASE WHEN wrong.rows IS NULL THEN 'does not exist'
                 ELSE format('has its %s rows and gets no more', wrong.rows) END;
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION batch_gets_no_more() IS
    'Predictions belong to a batch of their model and day that still lacks rows; once a statement, not once a row.';

CREATE CONSTRAINT TRIGGER batch_is_whole AFTER INSERT ON batches
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION batch_is_whole();
CREATE TRIGGER batch_gets_no_more AFTER INSERT ON predictions
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION batch_gets_no_more();
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON batches
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON predictions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON publications
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON promotions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""

VIEWS = """
CREATE VIEW current_predictions AS
SELECT s.model, s.day, p.entity_id, p.score, p.prediction, b.model_version, b.as_of, s.published_at
FROM published s
JOIN batches b ON b.batch_id = s.batch_id
JOIN predictions p ON p.batch_id = s.batch_id;

COMMENT ON VIEW current_predictions IS
    'What is published: one row a model, day and entity. Join <project>_entities on (day, entity_id) to slice.';
COMMENT ON COLUMN current_predictions.model IS 'Name of the model.';
COMMENT ON COLUMN current_predictions.day IS 'Calendar day, in the project''s timezone, that the row is about.';
COMMENT ON COLUMN current_predictions.entity_id IS 'What the row is about, unique within the day.';
COMMENT ON COLUMN current_predictions.score IS
    'Classification: probability of 1, from 0 to 1. Regression: the predicted value, in the unit of the outcome.';
COMMENT ON COLUMN current_predictions.prediction IS
    'Classification: 1 when the score reaches the decision threshold, else 0. Regression: the score.';
COMMENT ON COLUMN current_predictions.model_version IS 'Version of the model in the registry that made the score.';
COMMENT ON COLUMN current_predictions.as_of IS 'Only what was available by this moment was used.';
COMMENT ON COLUMN current_predictions.published_at IS 'When readers saw this batch first in place of the one before.';

CREATE VIEW predictions_with_outcomes AS
SELECT s.model, s.day, p.entity_id, p.score, p.prediction, b.model_version, b.as_of, s.published_at,
    m.outcome,
    o.entity_id IS NOT NULL AS outcome_known,
    o.value AS outcome_value,
    CASE m.problem_type WHEN 'binary' THEN p.prediction = o.value END AS correct,
    CASE m.problem_type WHEN 'regression' THEN p.prediction - o.value END AS error,
    o.available_at AS outcome_available_at
FROM published s
JOIN batches b ON b.batch_id = s.batch_id
JOIN models m ON m.model = s.model
JOIN predictions p ON p.batch_id = s.batch_id
LEFT JOIN outcomes o
    ON o.project = m.project AND o.outcome = m.outcome AND o.day = s.day AND o.entity_id = p.entity_id;

COMMENT ON VIEW predictions_with_outcomes IS
    'current_predictions with the true result where it is known: one row a model, day and entity.';
COMMENT ON COLUMN predictions_with_outcomes.model IS 'Name of the model.';
COMMENT ON COLUMN predictions_with_outcomes.day IS 'Calendar day, in the project''s timezone, that the row is about.';
COMMENT ON COLUMN predictions_with_outcomes.entity_id IS 'What the row is about, unique within the day.';
COMMENT ON COLUMN predictions_with_outcomes.score IS
    'Classification: probability of 1, from 0 to 1. Regression: the predicted value, in the unit of the outcome.';
COMMENT ON COLUMN predictions_with_outcomes.prediction IS
    'Classification: 1 when the score reaches the decision threshold, else 0. Regression: the score.';
COMMENT ON COLUMN predictions_with_outcomes.model_version IS
    'Version of the model in the registry that made the score.';
COMMENT ON COLUMN predictions_with_outcomes.as_of IS 'The score used only what was available by this moment.';
COMMENT ON COLUMN predictions_with_outcomes.published_at IS
    'When readers saw this batch first in place of the one before.';
COMMENT ON COLUMN predictions_with_outcomes.outcome IS 'Name of the true result that the model predicts.';
COMMENT ON COLUMN predictions_with_outcomes.outcome_known IS
    'Whether the result is known. Known with a null value: there is none, as the delay of a cancelled flight.';
COMMENT ON COLUMN predictions_with_outcomes.outcome_value IS 'The true result, in its unit; classification: 1 or 0.';
COMMENT ON COLUMN predictions_with_outcomes.correct IS
    'Classification: whether the prediction is the outcome. Null for regression and where there is no value.';
COMMENT ON COLUMN predictions_with_outcomes.error IS
    'Regression: prediction minus outcome. Null for classification and where there is no value.';
COMMENT ON COLUMN predictions_with_outcomes.outcome_available_at IS
    'When the delivery that the outcome is from became available.';

CREATE VIEW data_quality AS
SELECT project, feed, day, delivery_id, expectation, column_name, severity, success, rows_evaluated,
    unexpected_rows, observed, checked_at
FROM quality_results;

COMMENT ON VIEW data_quality IS 'What was expected of each delivery and what was found: one row an expectation.';
COMMENT ON COLUMN data_quality.project IS 'Name of the project.';
COMMENT ON COLUMN data_quality.feed IS 'Name of the feed.';
COMMENT ON COLUMN data_quality.day IS 'Calendar day of the file, in the project''s timezone.';
COMMENT ON COLUMN data_quality.delivery_id IS 'The delivered file: its key and the head of its sha256.';
COMMENT ON COLUMN data_quality.expectation IS 'What was expected, in the words of Great Expectations.';
COMMENT ON COLUMN data_quality.column_name IS 'Column that it is about; null when about the whole file.';
COMMENT ON COLUMN data_quality.severity IS 'critical: a failure refuses the delivery. warning: it is only told.';
COMMENT ON COLUMN data_quality.success IS 'Whether the expectation was met.';
COMMENT ON COLUMN data_quality.rows_evaluated IS 'Rows that were looked at; null when it is not about rows.';
COMMENT ON COLUMN data_quality.unexpected_rows IS 'Rows that broke it; null when it is not about rows.';
COMMENT ON COLUMN data_quality.observed IS 'What was observed instead of counted, such as a mean; null otherwise.';
COMMENT ON COLUMN data_quality.checked_at IS 'When the delivery was checked.';
"""

READER = """
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'reader') THEN
        CREATE ROLE reader NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;  -- roles are the server's: another database's migration made it just now
END $$;
GRANT SELECT ON current_predictions, predictions_with_outcomes, data_quality TO reader;
"""


def upgrade() -> None:
    for statements in (TABLES, PROMISES, VIEWS, READER):
        op.execute(statements)


def downgrade() -> None:
    raise NotImplementedError("migrations go forward only; restore a backup")

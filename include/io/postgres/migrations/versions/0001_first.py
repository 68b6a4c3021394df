"""The first migration: all tables, the promises that the database keeps itself, the views and the reader roles.

The database keeps three promises, whatever writes to it:

- What was predicted, published, promoted or decided by the gate is never changed or removed (`refuse_change`).
- A batch has all its rows when it becomes visible, and gets no more later (`batch_is_whole`, `batch_gets_no_more`); a
  gate decision has all its checks (`gate_is_whole`).
- A pointer leads to a batch of the same model and day (foreign key).

The checks of a batch cost one pass over its new rows, and nothing for each single row.

`entity_id` is sorted by bytes (COLLATE "C"), whatever the locale of the database: rows arrive in this order, so the
indexes are filled faster.

Columns and comments are repeated from `include/io/postgres/schema.py`: see there.
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

CREATE TABLE promotions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model text NOT NULL,
    model_version integer NOT NULL CHECK (model_version > 0),
    from_day date NOT NULL,
    by text NOT NULL CHECK (by <> ''),
    why text NOT NULL CHECK (why <> ''),
    run_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    trained_day date,
    gate_id uuid REFERENCES gates,
    forced boolean NOT NULL DEFAULT false
);
CREATE INDEX ON promotions (model, from_day, id);
CREATE UNIQUE INDEX ON promotions (gate_id) WHERE by = 'gate';

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

CREATE TABLE predictions (
    batch_id uuid NOT NULL,
    model text NOT NULL,
    day date NOT NULL,
    entity_id text COLLATE "C" NOT NULL,
    score double precision NOT NULL,
    prediction double precision NOT NULL,
    PRIMARY KEY (batch_id, entity_id)
);

CREATE TABLE published (
    model text NOT NULL,
    day date NOT NULL,
    batch_id uuid NOT NULL,
    run_id text NOT NULL,
    published_at timestamptz NOT NULL,
    PRIMARY KEY (model, day),
    FOREIGN KEY (batch_id, model, day) REFERENCES batches (batch_id, model, day)
);

CREATE TABLE publications (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model text NOT NULL,
    day date NOT NULL,
    batch_id uuid,
    replaced uuid REFERENCES batches,
    mode text NOT NULL,
    run_id text NOT NULL,
    published_at timestamptz NOT NULL,
    FOREIGN KEY (batch_id, model, day) REFERENCES batches (batch_id, model, day),
    CHECK (batch_id IS NOT NULL OR mode = 'unpublish')
);
CREATE INDEX ON publications (model, day, id);

CREATE TABLE prepared_days (
    project text NOT NULL,
    day date NOT NULL,
    data_view text NOT NULL CHECK (data_view IN ('point_in_time', 'latest')),
    as_of timestamptz NOT NULL,
    watermark bigint NOT NULL,
    deliveries text[] NOT NULL,
    table_versions jsonb NOT NULL,
    rows bigint NOT NULL CHECK (rows >= 0),
    number integer CHECK (number > 0),
    lacks jsonb NOT NULL DEFAULT '{}',
    run_id text NOT NULL,
    prepared_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (project, day, data_view)
);

CREATE TABLE journal (
    project text NOT NULL,
    sequence bigint NOT NULL CHECK (sequence > 0),
    kind text NOT NULL CHECK (kind IN ('delivery', 'verdict', 'decision', 'prepared_day', 'training')),
    subject text NOT NULL,
    entry jsonb NOT NULL,
    by text CHECK (by <> ''),
    why text CHECK (why <> ''),
    run_id text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (project, sequence),
    CHECK (kind <> 'decision' OR (by IS NOT NULL AND why IS NOT NULL))
);
CREATE UNIQUE INDEX ON journal (project, subject) WHERE kind IN ('delivery', 'prepared_day');

CREATE TABLE objects (
    project text NOT NULL,
    key text NOT NULL,
    feed text NOT NULL,
    day date NOT NULL,
    size bigint NOT NULL,
    modified_at timestamptz NOT NULL,
    delivery_id text,
    why text,
    sidecar boolean NOT NULL DEFAULT false,
    run_id text NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (project, key),
    CHECK ((delivery_id IS NULL) <> (why IS NULL))
);

CREATE TABLE outcome_days (
    project text NOT NULL,
    outcome text NOT NULL,
    day date NOT NULL,
    delivery_id text NOT NULL,
    available_from timestamptz NOT NULL,
    sequence bigint NOT NULL,
    rows bigint NOT NULL CHECK (rows >= 0),
    digest text NOT NULL CHECK (digest ~ '^[0-9a-f]{64}$'),
    run_id text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (project, outcome, day)
);

CREATE TABLE outcomes (
    project text NOT NULL,
    outcome text NOT NULL,
    day date NOT NULL,
    entity_id text COLLATE "C" NOT NULL,
    value double precision CHECK (value <> 'NaN'),
    delivery_id text NOT NULL,
    available_from timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (project, outcome, day, entity_id)
);

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
    checked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    quarantined_rows bigint,
    examples jsonb NOT NULL DEFAULT '[]'
);
CREATE INDEX ON quality_results (project, delivery_id);
CREATE INDEX ON quality_results (project, feed, day);

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
    core_seconds double precision,
    peak_memory_mb double precision,
    table_version bigint,
    model_version bigint,
    error_class text,
    run_id text NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    CHECK ((error_class IS NULL) = (state <> 'failed'))
);
CREATE INDEX ON step_runs (project, step, interval_end);
CREATE INDEX ON step_runs (run_id, step);

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
"""

TABLE_COMMENTS = {
    "models": (
        "What each model declares, as of its newest publish. Links predictions with outcomes.",
        {
            "model": "Name of the model.",
            "project": "Name of the project.",
            "outcome": "Name of the outcome that the model predicts.",
            "problem_type": "Problem type: binary or regression.",
            "title": "Display name of the model.",
            "owner": "Person or team responsible for the model.",
        },
    ),
    "promotions": (
        (
            "The promotion history. The champion of a day is the row with the greatest from_day up to that day; among"
            " equals the newest id counts."
        ),
        {
            "id": "Order in which the rows were written.",
            "model": "Name of the model.",
            "model_version": "Version in the registry.",
            "from_day": "First day that this version scores.",
            "by": "Person who promoted the version, or gate.",
            "why": "Reason for the promotion.",
            "run_id": "Airflow run that wrote the row, or by-hand.",
            "created_at": "Time at which the row was written.",
            "trained_day": "Run date of the training that made the version.",
            "gate_id": "Gate decision that supports the promotion; null if forced without one.",
            "forced": "True if a person promoted the version against the gate or without a gate decision.",
        },
    ),
    "batches": (
        "Prediction batches: all predictions of one model version for one day. Immutable.",
        {
            "batch_id": "Identifier derived from the content: equal content is the same batch.",
            "model": "Name of the model.",
            "day": "Calendar day, in the project's timezone, that the predictions are for.",
            "model_version": "Registry version of the model that made the predictions.",
            "rows": "Number of predictions in the batch.",
            "digest": "SHA-256 of the predictions.",
            "as_of": "The features used only what was available up to this moment.",
            "run_id": "Airflow run that wrote the row, or by-hand.",
            "created_at": "Time at which the batch was stored.",
        },
    ),
    "predictions": (
        (
            "The rows of all batches. The trigger batch_gets_no_more replaces a foreign key, which would cost one "
            "lookup for each row."
        ),
        {
            "batch_id": "Batch that the prediction belongs to.",
            "model": "Name of the model.",
            "day": "Calendar day, in the project's timezone, that the predictions are for.",
            "entity_id": "Key of the entity as text; unique within the day.",
            "score": (
                "Classification: probability of 1, from 0 to 1. Regression: the predicted value, in the outcome's unit."
            ),
            "prediction": (
                "Classification: 1 if the score reaches the decision threshold, else 0. Regression: the score."
            ),
        },
    ),
    "published": (
        (
            "The pointers that readers follow: the published batch of each model and day. A pointer moves in the "
            "transaction that stores its batch."
        ),
        {
            "model": "Name of the model.",
            "day": "Calendar day, in the project's timezone, that the predictions are for.",
            "batch_id": "Batch that readers see.",
            "run_id": "Airflow run that wrote the row, or by-hand.",
            "published_at": "Time from which readers see this batch.",
        },
    ),
    "publications": (
        "Every move of a pointer: which batch replaced which, when, and by which run.",
        {
            "id": "Order in which the rows were written.",
            "model": "Name of the model.",
            "day": "Calendar day, in the project's timezone, that the predictions are for.",
            "batch_id": "Batch published from then on; null if nothing is published any more.",
            "replaced": "Batch published until then; null if there was none.",
            "mode": "replace, missing, or unpublish: readers were pointed back to the batch before.",
            "run_id": "Airflow run that wrote the row, or by-hand.",
            "published_at": "Time at which the pointer moved.",
        },
    ),
    "prepared_days": (
        ("Prepared days, including those without rows. Written last by prepare; sensors wait for it."),
        {
            "project": "Name of the project.",
            "day": "Run date.",
            "data_view": "point_in_time: what the run date's own run knew. latest: with later corrections.",
            "as_of": "The features used only what was available up to this moment.",
            "watermark": "Newest entry of the journal that the features could use.",
            "deliveries": "Deliveries that the features were built from.",
            "table_versions": "Version of each Delta table that was read or written.",
            "rows": "Rows of features.",
            "number": "Number of the record that the features were built from; null with the data view latest.",
            "lacks": (
                "What the run date went on without, by feed: days whose files it does not know, a missing or old "
                "snapshot."
            ),
            "run_id": "Airflow run that wrote the row, or by-hand.",
            "prepared_at": "Time at which the day was last prepared.",
        },
    ),
    "journal": (
        (
            "The journal: what this installation learned, in order. Entries are only added. What a run knows is a "
            "prefix of it."
        ),
        {
            "project": "Name of the project.",
            "sequence": "Number of the entry; entries are numbered in the order in which they were committed.",
            "kind": "delivery: it was landed. verdict: validation accepted or refused it. decision: of a person. "
            "prepared_day: the record of a run date. training: what the fits of a run date read.",
            "subject": "The delivery that the entry is about: its key and the start of its SHA-256. For a record, the "
            "run date and the number of the record, or the model, its run date and the watermark.",
            "entry": "The entry's own fields.",
            "by": "Person who decided; null if nobody did.",
            "why": "Reason of the decision or of the verdict; null if there is none.",
            "run_id": "Airflow run that wrote the row, or by-hand.",
            "recorded_at": "Time at which the entry was written.",
        },
    ),
    "objects": (
        (
            "The objects in the landing that were read. An object that has not changed since is not read again, "
            "unless it was refused."
        ),
        {
            "project": "Name of the project.",
            "key": "Path of the object below landing/<project>/.",
            "feed": "Name of the feed.",
            "day": "Calendar day of the object, in the project's timezone.",
            "size": "Size in bytes.",
            "modified_at": "Time of the object in the landing.",
            "delivery_id": "Delivery that the object became; null if it was refused.",
            "why": "Reason why it was refused; null if it was landed.",
            "sidecar": "Whether its sidecar was there when it was read.",
            "run_id": "Airflow run that wrote the row, or by-hand.",
            "seen_at": "Time at which the object was last read.",
        },
    ),
    "outcome_days": (
        (
            "The delivery that the outcomes of each day come from, including those without rows. An older delivery "
            "never replaces a newer one."
        ),
        {
            "project": "Name of the project.",
            "outcome": "Name of the outcome.",
            "day": "Calendar day, in the project's timezone, of the entities.",
            "delivery_id": "Delivery that the outcomes of the day come from.",
            "available_from": "Time from which that delivery counts.",
            "sequence": "Number of that delivery in the journal; 0 if it was withdrawn or refused since.",
            "rows": "Number of outcomes.",
            "digest": "SHA-256 of the outcomes.",
            "run_id": "Airflow run that wrote the row, or by-hand.",
            "recorded_at": "Time at which the day was last recorded.",
        },
    ),
    "outcomes": (
        "Known outcomes. An entity without a row has no known outcome yet.",
        {
            "project": "Name of the project.",
            "outcome": "Name of the outcome.",
            "day": "Calendar day, in the project's timezone, of the entity.",
            "entity_id": "Key of the entity as text; unique within the day.",
            "value": "The true result; null if it is known that there is none.",
            "delivery_id": "Delivery that the outcome comes from.",
            "available_from": "Time from which that delivery counts.",
            "recorded_at": "Time at which the outcome was recorded.",
        },
    ),
    "quality_results": (
        ("One row for each expectation and delivery. Validating a delivery again replaces its rows."),
        {
            "id": "Order in which the rows were written.",
            "project": "Name of the project.",
            "feed": "Name of the feed.",
            "day": "Calendar day of the delivery, in the project's timezone.",
            "delivery_id": "Delivery: its key and the start of its SHA-256.",
            "expectation": "Name of the expectation, as in Great Expectations.",
            "column_name": "Column that was checked; null if the whole delivery was.",
            "severity": "critical: invalid rows are quarantined or the delivery is refused. warning: reported.",
            "success": "True if the expectation was met.",
            "rows_evaluated": "Rows that were checked; null if the check is not about rows.",
            "unexpected_rows": "Rows that failed; null if the check is not about rows.",
            "observed": "Observed value, such as a mean; null if rows were counted.",
            "run_id": "Airflow run that wrote the row, or by-hand.",
            "checked_at": "Time at which the delivery was validated.",
            "quarantined_rows": "Rows that the expectation sent to quarantine_<project>__<feed>.",
            "examples": "Up to three of the unexpected rows: row number, key and public values.",
        },
    ),
    "step_runs": (
        "Every run of a step, how it ended and what it cost. Rows are only added.",
        {
            "id": "Order in which the rows were written.",
            "project": "Name of the project.",
            "model": "Name of the model; null for steps of a project.",
            "step": "Name of the step.",
            "interval_start": "First day that the step handled.",
            "interval_end": "Last day that the step handled.",
            "state": "success, skipped or failed.",
            "rows": "Rows that the step wrote or read.",
            "seconds": "Elapsed time in seconds.",
            "core_seconds": (
                "CPU time in seconds, user and system, of the worker process and of its child processes that have "
                "ended. Work in processes that outlive the step, such as a Spark server, is not included. Null for a "
                "step on Databricks."
            ),
            "peak_memory_mb": (
                "Highest resident memory of the worker process during the step, in MiB, without child processes. Null"
                " for a step on Databricks and where the platform cannot reset the peak."
            ),
            "table_version": "Version of the Delta table that the step made.",
            "model_version": "Version of the model that the step made.",
            "error_class": "Class of the error that ended the step; its text is in the log.",
            "run_id": "Airflow run that wrote the row, or by-hand.",
            "started_at": "Time at which the step started.",
            "ended_at": "Time at which the step ended.",
        },
    ),
    "gates": (
        ("Decisions of the gate: one version compared with one champion by one set of rules. Immutable."),
        {
            "gate_id": "Identifier derived from version, champion, rules and holdout.",
            "model": "Name of the model.",
            "model_version": "Version that was evaluated.",
            "day": "Run date of its training.",
            "candidate": "Candidate in model.yaml.",
            "champion_version": "Champion that it was compared with; null before the first.",
            "model_digest": "Digest of the files of the version.",
            "rules_digest": "Digest of the thresholds and of the code that checks them.",
            "passed": "True if all checks passed.",
            "checks": "Number of checks.",
            "holdout_start": "First holdout day.",
            "holdout_end": "Last holdout day.",
            "rows": "Rows of the holdout days.",
            "run_id": "Airflow run that wrote the row, or by-hand.",
            "decided_at": "Time of the decision.",
        },
    ),
    "gate_results": (
        "The checks of each decision of the gate. Immutable.",
        {
            "gate_id": "Decision that the check belongs to.",
            "number": "Order of the checks.",
            "name": "Name of the check.",
            "subject": "What was measured: a metric, or a slice such as origin=EWR.",
            "measured": "Measured value; null if nothing could be measured, which never passes.",
            "threshold": "Threshold in model.yaml.",
            "passed": "True if the check passed.",
            "sentence": "The result in words.",
        },
    ),
    "performance_daily": (
        (
            "How published predictions compare with outcomes. A day is measured again when its outcomes or its "
            "published batch change."
        ),
        {
            "model": "Name of the model.",
            "day": "Calendar day, in the project's timezone, that the predictions are for.",
            "model_version": "Registry version of the model that made the predictions.",
            "slice": "Column by which the rows are divided, or the word all.",
            "slice_value": "Value of that column, or the word all.",
            "metric": "Name of the metric: log_loss, brier, roc_auc, calibration_gap, mae, rmse and others.",
            "value": "Value of the metric; null if undefined, such as the AUC of one class.",
            "rows": "Rows with a known outcome that were measured.",
            "digest": "Digest of batch, outcomes and declaration; the day is measured again when it changes.",
            "run_id": "Airflow run that wrote the row, or by-hand.",
            "measured_at": "Time of the measurement.",
        },
    ),
    "freshness": (
        ("The newest day of each table and of each model's published predictions, for each run date."),
        {
            "project": "Name of the project.",
            "subject": "Name of a table, or of a model for its published predictions.",
            "day": "Run date.",
            "newest_day": "Newest day that the subject has; null if it has none.",
            "behind_days": "Days by which that day is behind the expected one.",
            "late": "True if it is further behind than allowed.",
            "sentence": "The state in words.",
            "run_id": "Airflow run that wrote the row, or by-hand.",
            "measured_at": "Time of the measurement.",
        },
    ),
    "alerts": (
        "Alerts: one for each subject, rule and run date, even if the run is repeated.",
        {
            "id": "Order in which the rows were written.",
            "project": "Name of the project.",
            "subject": "Model or table that the alert is about.",
            "rule": "Rule that was broken.",
            "day": "Run date.",
            "sentence": "The message.",
            "run_id": "Airflow run that wrote the row, or by-hand.",
            "raised_at": "Time at which the alert was raised.",
            "notified_at": "Time at which the notifier took the alert; null until then.",
        },
    ),
}
"""Table: what it holds, and the comment of each column."""

PROMISES = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is never changed: % refused', TG_TABLE_NAME, TG_OP
        USING HINT = 'Publish another batch, or add a row that says what holds from now on.';
END $$;
COMMENT ON FUNCTION refuse_change() IS
    'Refuses every change of what was predicted, published, promoted or decided by the gate.';

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
COMMENT ON FUNCTION batch_is_whole() IS
    'Checks at commit that a new batch has as many rows as it says.';

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
    'Checks once a statement that predictions belong to a batch of their model and day that still lacks rows.';

CREATE CONSTRAINT TRIGGER batch_is_whole AFTER INSERT ON batches
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION batch_is_whole();
CREATE TRIGGER batch_gets_no_more AFTER INSERT ON predictions
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION batch_gets_no_more();

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
COMMENT ON FUNCTION gate_is_whole() IS
    'Checks at commit that a gate decision has all its checks, and passed only if they all did.';
CREATE CONSTRAINT TRIGGER gate_is_whole AFTER INSERT ON gates
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION gate_is_whole();
"""

IMMUTABLE = ("journal", "batches", "predictions", "publications", "promotions", "gates", "gate_results")

VIEWS = {
    "current_predictions": (
        (
            "Published predictions: one row for each model, day and entity. Join <project>_entities on (day, "
            "entity_id) to divide them by public columns."
        ),
        """
SELECT s.model, s.day, p.entity_id, p.score, p.prediction, b.model_version, b.as_of, s.published_at
FROM published s
JOIN batches b ON b.batch_id = s.batch_id
JOIN predictions p ON p.batch_id = s.batch_id
        """,
        {
            "model": "Name of the model.",
            "day": "Calendar day, in the project's timezone, that the predictions are for.",
            "entity_id": "Key of the entity as text; unique within the day.",
            "score": (
                "Classification: probability of 1, from 0 to 1. Regression: the predicted value, in the outcome's unit."
            ),
            "prediction": (
                "Classification: 1 if the score reaches the decision threshold, else 0. Regression: the score."
            ),
            "model_version": "Registry version of the model that made the predictions.",
            "as_of": "The features used only what was available up to this moment.",
            "published_at": "Time from which readers see this batch.",
        },
    ),
    "predictions_with_outcomes": (
        ("Published predictions with the true result where it is known: one row for each model, day and entity."),
        """
SELECT s.model, s.day, p.entity_id, p.score, p.prediction, b.model_version, b.as_of, s.published_at,
    m.outcome,
    o.entity_id IS NOT NULL AS outcome_known,
    o.value AS outcome_value,
    CASE m.problem_type WHEN 'binary' THEN p.prediction = o.value END AS correct,
    CASE m.problem_type WHEN 'regression' THEN p.prediction - o.value END AS error,
    o.available_from AS outcome_available_from
FROM published s
JOIN batches b ON b.batch_id = s.batch_id
JOIN models m ON m.model = s.model
JOIN predictions p ON p.batch_id = s.batch_id
LEFT JOIN outcomes o
    ON o.project = m.project AND o.outcome = m.outcome AND o.day = s.day AND o.entity_id = p.entity_id
        """,
        {
            "model": "Name of the model.",
            "day": "Calendar day, in the project's timezone, that the predictions are for.",
            "entity_id": "Key of the entity as text; unique within the day.",
            "score": (
                "Classification: probability of 1, from 0 to 1. Regression: the predicted value, in the outcome's unit."
            ),
            "prediction": (
                "Classification: 1 if the score reaches the decision threshold, else 0. Regression: the score."
            ),
            "model_version": "Registry version of the model that made the predictions.",
            "as_of": "The features used only what was available up to this moment.",
            "published_at": "Time from which readers see this batch.",
            "outcome": "Name of the outcome that the model predicts.",
            "outcome_known": (
                "True if the outcome is known. A known outcome may have a null value: what was cancelled has no delay."
            ),
            "outcome_value": "The true result, in its unit; 1 or 0 for classification.",
            "correct": (
                "Classification: true if the prediction equals the outcome. Null for regression and without a value."
            ),
            "error": "Regression: prediction minus outcome. Null for classification and without a value.",
            "outcome_available_from": "Time at which the delivery with the outcome became available.",
        },
    ),
    "data_quality": (
        (
            "Results of validation, one row for each expectation and delivery; and what prepared days went on without, "
            "one row for each run date and feed."
        ),
        """
SELECT project, feed, day, delivery_id, expectation, column_name, severity, success, rows_evaluated,
    unexpected_rows, observed, checked_at
FROM quality_results
UNION ALL
SELECT p.project, l.key, p.day, NULL, 'feed_to_be_known', NULL, 'warning', false, NULL, NULL,
    p.day || ' ' || l.value, p.prepared_at
FROM prepared_days p, jsonb_each_text(p.lacks) l
WHERE p.data_view = 'point_in_time'
        """,
        {
            "project": "Name of the project.",
            "feed": "Name of the feed.",
            "day": "Calendar day of the delivery, in the project's timezone; the run date of feed_to_be_known.",
            "delivery_id": "Delivery: its key and the start of its SHA-256; null for feed_to_be_known.",
            "expectation": (
                "Name of the expectation, as in Great Expectations; feed_to_be_known: the run date lacked files of the "
                "feed."
            ),
            "column_name": "Column that was checked; null if the whole delivery was.",
            "severity": "critical: invalid rows are quarantined or the delivery is refused. warning: reported.",
            "success": "True if the expectation was met.",
            "rows_evaluated": "Rows that were checked; null if the check is not about rows.",
            "unexpected_rows": "Rows that failed; null if the check is not about rows.",
            "observed": (
                "Observed value, such as a mean; what a run date went on without, and why; null if rows were counted."
            ),
            "checked_at": "Time at which the delivery was validated, or the run date was prepared.",
        },
    ),
    "model_performance": (
        ("How published predictions compare with outcomes: one row for each model, day, version, slice and metric."),
        """
SELECT model, day, model_version, slice, slice_value, metric, value, rows, measured_at FROM performance_daily
        """,
        {
            "model": "Name of the model.",
            "day": "Calendar day, in the project's timezone, that the predictions are for.",
            "model_version": "Registry version of the model that made the predictions.",
            "slice": "Column by which the rows are divided, or the word all.",
            "slice_value": "Value of that column, or the word all.",
            "metric": "Name of the metric: log_loss, brier, roc_auc, calibration_gap, mae, rmse and others.",
            "value": "Value of the metric; null if undefined, such as the AUC of one class.",
            "rows": "Rows with a known outcome that were measured.",
            "measured_at": "Time of the measurement.",
        },
    ),
    "model_status": (
        (
            "The state of each model that has published: its champion, its newest day, whether that is late, and its "
            "newest alert."
        ),
        """
SELECT m.model, m.project, m.title, m.owner, c.model_version AS champion_version,
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
    ORDER BY id DESC LIMIT 1) a ON true
        """,
        {
            "model": "Name of the model.",
            "project": "Name of the project.",
            "title": "Display name of the model.",
            "owner": "Person or team responsible for the model.",
            "champion_version": "Newest champion in the promotion history, even if its first day is still to come.",
            "champion_since": "First day that the champion scores.",
            "champion_why": "Reason for its promotion.",
            "newest_published_day": "Newest day that has published predictions.",
            "newest_published_at": "Time at which that day was last published.",
            "scores_late": "True if predictions were late on the newest monitored run date.",
            "freshness": "The same in words.",
            "newest_alert": "Message of the newest alert.",
            "newest_alert_at": "Time at which it was raised.",
        },
    ),
    "promotion_history": (
        (
            "Which version is the champion from which day on, why, and who promoted it. Registry aliases mirror this "
            "history."
        ),
        """
SELECT id, model, model_version, from_day, trained_day, by, why, forced, gate_id, run_id, created_at FROM promotions
        """,
        {
            "id": "Order of the rows; among rows with the same from_day the newest counts.",
            "model": "Name of the model.",
            "model_version": "Version in the registry.",
            "from_day": "First day that this version scores.",
            "trained_day": "Run date of the training that made the version.",
            "by": "Person who promoted the version, or gate.",
            "why": "Reason for the promotion.",
            "forced": "True if a person promoted the version against the gate or without a gate decision.",
            "gate_id": "Gate decision that supports the promotion; null if forced without one.",
            "run_id": "Airflow run that wrote the row, or by-hand.",
            "created_at": "Time at which the row was written.",
        },
    ),
    "gate_decisions": (
        "Decisions of the gate: one row for each decision on a version.",
        """
SELECT gate_id, model, model_version, day, candidate, champion_version, passed, checks,
    (SELECT string_agg(sentence, '; ' ORDER BY number) FROM gate_results r WHERE r.gate_id = g.gate_id AND NOT
    r.passed)
        AS why_not,
    holdout_start, holdout_end, rows, run_id, decided_at FROM gates g
        """,
        {
            "gate_id": "Joins gate_checks and promotion_history.",
            "model": "Name of the model.",
            "model_version": "Version that was evaluated.",
            "day": "Run date of its training.",
            "candidate": "Candidate in model.yaml.",
            "champion_version": "Champion that it was compared with; null before the first.",
            "passed": "True if all checks passed.",
            "checks": "Number of checks.",
            "why_not": "The failed checks in words; null if all passed.",
            "holdout_start": "First holdout day.",
            "holdout_end": "Last holdout day.",
            "rows": "Rows of the holdout days.",
            "run_id": "Airflow run that wrote the row, or by-hand.",
            "decided_at": "Time of the decision.",
        },
    ),
    "gate_checks": (
        "Every check of every gate decision: what was measured, and the threshold.",
        """
SELECT gate_id, model, model_version, day, number, name, subject, measured, threshold, r.passed, sentence
FROM gate_results r JOIN gates USING (gate_id)
        """,
        {
            "gate_id": "Joins gate_decisions.",
            "model": "Name of the model.",
            "model_version": "Version that was evaluated.",
            "day": "Run date of its training.",
            "number": "Order of the checks.",
            "name": "Name of the check.",
            "subject": "What was measured: a metric, or a slice such as origin=EWR.",
            "measured": "Measured value; null if nothing could be measured, which never passes.",
            "threshold": "Threshold in model.yaml.",
            "passed": "True if the check passed.",
            "sentence": "The result in words.",
        },
    ),
    "prepared_day_status": (
        "Prepared days: what each one knew and how many rows it has.",
        """
SELECT p.project, p.day, p.data_view, p.as_of, p.watermark, cardinality(p.deliveries) AS deliveries, p.rows,
    p.number AS record, (j.entry ->> 'reconstructed')::boolean AS reconstructed, p.run_id, p.prepared_at
FROM prepared_days p LEFT JOIN journal j
    ON j.project = p.project AND j.kind = 'prepared_day'
    AND j.subject = to_char(p.day, 'YYYY-MM-DD') || ' record ' || p.number
        """,
        {
            "project": "Name of the project.",
            "day": "Run date.",
            "data_view": "point_in_time: what the run date's own run knew. latest: with later corrections.",
            "as_of": "The features used only what was available up to this moment.",
            "watermark": "Newest entry of the journal that the features could use.",
            "deliveries": "Number of deliveries that the features were built from.",
            "rows": "Rows of features.",
            "record": "Number of the record that the features were built from; null with the data view latest.",
            "reconstructed": "Whether the day was prepared after the cutoff of the next run date.",
            "run_id": "Airflow run that wrote the row, or by-hand.",
            "prepared_at": "Time at which the day was last prepared.",
        },
    ),
    "journal_entries": (
        "The journal: every delivery, verdict, decision of a person and record of a prepared day, in order.",
        """
SELECT project, sequence, kind, entry ->> 'feed' AS feed, (entry ->> 'day')::date AS day, subject,
    entry ->> 'verdict' AS verdict, (entry ->> 'available_from')::timestamptz AS available_from, by, why, run_id,
    recorded_at
FROM journal
        """,
        {
            "project": "Name of the project.",
            "sequence": "Number of the entry; entries are numbered in the order in which they were committed.",
            "kind": "delivery: it was landed. verdict: validation accepted or refused it. decision: of a person. "
            "prepared_day: the record of a run date. training: what the fits of a run date read.",
            "feed": "Name of the feed.",
            "day": "Calendar day of the delivery, in the project's timezone, or the run date of the record.",
            "subject": "The delivery that the entry is about: its key and the start of its SHA-256. For a record, the "
            "run date and the number of the record, or the model, its run date and the watermark.",
            "verdict": "State of the delivery from then on: landed, held, accepted, refused or withdrawn.",
            "available_from": "Time from which the delivery counts; null in entries that are not deliveries.",
            "by": "Person who decided; null if nobody did.",
            "why": "Reason of the decision or of the verdict; null if there is none.",
            "run_id": "Airflow run that wrote the row, or by-hand.",
            "recorded_at": "Time at which the entry was written.",
        },
    ),
    "human_actions": (
        "What people decided: about deliveries, prepared days and champions, with who and why.",
        """
SELECT recorded_at AS decided_at, project, NULL::text AS model, coalesce(entry ->> 'decision', 'repair') AS action,
    subject, by, why, run_id
FROM journal WHERE kind = 'decision' OR (kind = 'prepared_day' AND by IS NOT NULL)
UNION ALL
SELECT p.created_at, m.project, p.model, CASE WHEN p.forced THEN 'force promotion' ELSE 'promote' END,
    'version ' || p.model_version || ' from ' || p.from_day, p.by, p.why, p.run_id
FROM promotions p LEFT JOIN models m ON m.model = p.model
WHERE p.by <> 'gate'
        """,
        {
            "decided_at": "Time of the decision.",
            "project": "Name of the project; null for a model that has not published yet.",
            "model": "Name of the model; null if the decision is about a delivery or a day.",
            "action": "Decision: accept or withdraw a delivery, repair a prepared day, promote a version, or promote "
            "it against the gate.",
            "subject": "The delivery, the run date and the number of its record, or the version and its first day.",
            "by": "Person who decided.",
            "why": "Reason of the decision.",
            "run_id": "Airflow run that wrote the row, or by-hand.",
        },
    ),
    "step_history": (
        "Every run of a step, how it ended and what it cost.",
        """
SELECT id, project, model, step, interval_start, interval_end, state, rows, seconds, core_seconds, peak_memory_mb,
    table_version, model_version, error_class, run_id, started_at, ended_at
FROM step_runs
        """,
        {
            "id": "Order in which the rows were written.",
            "project": "Name of the project.",
            "model": "Name of the model; null for steps of a project.",
            "step": "Name of the step.",
            "interval_start": "First day that the step handled.",
            "interval_end": "Last day that the step handled.",
            "state": "success, skipped or failed.",
            "rows": "Rows that the step wrote or read.",
            "seconds": "Elapsed time in seconds.",
            "core_seconds": (
                "CPU time in seconds, user and system, of the worker process and of its child processes that have "
                "ended. Work in processes that outlive the step, such as a Spark server, is not included. Null for a "
                "step on Databricks."
            ),
            "peak_memory_mb": (
                "Highest resident memory of the worker process during the step, in MiB, without child processes. Null"
                " for a step on Databricks and where the platform cannot reset the peak."
            ),
            "table_version": "Version of the Delta table that the step made.",
            "model_version": "Version of the model that the step made.",
            "error_class": "Class of the error that ended the step; its text is in the log.",
            "run_id": "Airflow run that wrote the row, or by-hand.",
            "started_at": "Time at which the step started.",
            "ended_at": "Time at which the step ended.",
        },
    ),
    "quarantine_counts": (
        "Quarantined rows by delivery and expectation, with up to three examples.",
        """
SELECT project, feed, day, delivery_id, expectation, column_name, quarantined_rows, rows_evaluated, examples,
    run_id, checked_at
FROM quality_results WHERE quarantined_rows > 0
        """,
        {
            "project": "Name of the project.",
            "feed": "Name of the feed.",
            "day": "Calendar day of the delivery, in the project's timezone.",
            "delivery_id": "Delivery: its key and the start of its SHA-256.",
            "expectation": "Expectation that the rows failed.",
            "column_name": "Column that was checked.",
            "quarantined_rows": (
                "Rows that failed it and are in quarantine_<project>__<feed>; one row can fail several expectations."
            ),
            "rows_evaluated": "Rows that were checked.",
            "examples": "Up to three of the unexpected rows: row number, key and public values.",
            "run_id": "Airflow run that wrote the row, or by-hand.",
            "checked_at": "Time at which the delivery was validated.",
        },
    ),
    "freshness_status": (
        ("The newest day of each table and of each model's published predictions, for each run date."),
        """
SELECT project, subject, day, newest_day, behind_days, late, sentence, measured_at FROM freshness
        """,
        {
            "project": "Name of the project.",
            "subject": "Name of a table, or of a model for its published predictions.",
            "day": "Run date.",
            "newest_day": "Newest day that the subject has; null if it has none.",
            "behind_days": "Days by which that day is behind the expected one.",
            "late": "True if it is further behind than allowed.",
            "sentence": "The state in words.",
            "measured_at": "Time of the measurement.",
        },
    ),
    "alert_history": (
        "Alerts that were raised, and when people were notified.",
        """
SELECT id, project, subject, rule, day, sentence, run_id, raised_at, notified_at FROM alerts
        """,
        {
            "id": "Order in which the rows were written.",
            "project": "Name of the project.",
            "subject": "Model or table that the alert is about.",
            "rule": "Rule that was broken.",
            "day": "Run date.",
            "sentence": "The message.",
            "run_id": "Airflow run that wrote the row, or by-hand.",
            "raised_at": "Time at which the alert was raised.",
            "notified_at": "Time at which people were notified; null until then.",
        },
    ),
    "publication_history": (
        "Every change of what readers see of a day.",
        """
SELECT p.id, p.model, p.day, b.model_version, b.rows, b.as_of, r.model_version AS replaced_version, p.mode, p.run_id,
    p.published_at, p.batch_id, p.replaced AS replaced_batch_id
FROM publications p
LEFT JOIN batches b ON b.batch_id = p.batch_id
LEFT JOIN batches r ON r.batch_id = p.replaced
        """,
        {
            "id": "Order in which the rows were written.",
            "model": "Name of the model.",
            "day": "Calendar day, in the project's timezone, that the predictions are for.",
            "model_version": "Version that is published from then on; null if nothing is.",
            "rows": "Rows of its batch.",
            "as_of": "The features of the batch used only what was available up to this moment.",
            "replaced_version": "Version that was published until then; null if nothing was.",
            "mode": "replace, missing, or unpublish: readers were pointed back to the batch before.",
            "run_id": "Airflow run that wrote the row, or by-hand.",
            "published_at": "Time of the change.",
            "batch_id": "Batch published from then on; null if nothing is published any more.",
            "replaced_batch_id": "Batch that was published until then; null if there was none.",
        },
    ),
}
"""View: what it shows, its query, and the comment of each column."""

READER_VIEWS = ("current_predictions", "predictions_with_outcomes", "data_quality", "model_performance", "model_status")

ROLES = """
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'reader') THEN
        CREATE ROLE reader NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;  -- roles belong to the server: the migration of another database has just created it
END $$;
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ops_reader') THEN
        CREATE ROLE ops_reader NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;  -- as above
END $$;
"""


def upgrade() -> None:
    for statements in (TABLES, PROMISES, ROLES):
        op.execute(statements)
    for table in IMMUTABLE:
        op.execute(
            f"CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
    for name, (about, columns) in TABLE_COMMENTS.items():
        _comment("TABLE", name, about, columns)
    for name, (about, select, columns) in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {select}")
        _comment("VIEW", name, about, columns)
    op.execute(f"GRANT SELECT ON {', '.join(READER_VIEWS)} TO reader")
    op.execute(f"GRANT SELECT ON {', '.join(VIEWS)} TO ops_reader")


def _comment(kind: str, name: str, about: str, columns: dict[str, str]) -> None:
    op.execute(f"COMMENT ON {kind} {name} IS {_literal(about)}")
    for column, text in columns.items():
        op.execute(f"COMMENT ON COLUMN {name}.{column} IS {_literal(text)}")


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

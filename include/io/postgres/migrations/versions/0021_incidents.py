"""Incidents: one cause each, with what happened to it and what people decided about it.

The view `human_actions` gets these decisions, whatever columns it has by now: its definition is read from the catalog.
Columns and comments of tables are repeated from `include/io/postgres/schema.py`: see the first migration.
"""

from alembic import op

revision = "0021"
down_revision = "0020"

TABLES = """
CREATE TABLE incident_records (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project text NOT NULL,
    scope text NOT NULL,
    cause text NOT NULL,
    rule text NOT NULL,
    subject text NOT NULL,
    occurrence text NOT NULL,
    models text[] NOT NULL,
    first_day date NOT NULL,
    last_day date NOT NULL CHECK (last_day >= first_day),
    recovered_day date CHECK (recovered_day >= last_day),
    severity text NOT NULL CHECK (severity IN ('critical', 'high', 'low')),
    what text NOT NULL CHECK (what <> ''),
    effect text NOT NULL,
    command text NOT NULL,
    runbook text NOT NULL,
    owner text NOT NULL,
    more text[] NOT NULL,
    badness double precision,
    sent_severity text,
    sent_badness double precision,
    message_id bigint REFERENCES messages,
    opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    recovered_at timestamptz,
    acknowledged_by text,
    snoozed_until timestamptz,
    snoozed_severity text,
    merged_into bigint REFERENCES incident_records
);
-- the cause of an open incident has no other: the database says so, too
CREATE UNIQUE INDEX incident_records_open ON incident_records (project, scope, cause)
    WHERE recovered_day IS NULL AND merged_into IS NULL;
CREATE INDEX incident_records_cause ON incident_records (project, cause);

CREATE TABLE incident_looks (
    project text NOT NULL,
    scope text NOT NULL,
    day date NOT NULL,
    PRIMARY KEY (project, scope, day)
);

CREATE TABLE incident_days (
    project text NOT NULL,
    scope text NOT NULL,
    cause text NOT NULL,
    day date NOT NULL,
    gone boolean NOT NULL DEFAULT false,
    PRIMARY KEY (project, scope, cause, day)
);

CREATE TABLE incident_failures (
    incident_id bigint NOT NULL REFERENCES incident_records,
    dag_id text NOT NULL,
    task_id text NOT NULL,
    run_id text NOT NULL,
    map_index integer NOT NULL,
    try_number integer NOT NULL,
    is_effect boolean NOT NULL,
    project text NOT NULL,
    model text,
    day date,
    done_by text,
    failed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    succeeded_at timestamptz,
    PRIMARY KEY (incident_id, dag_id, task_id, run_id, map_index)
);
CREATE INDEX incident_failures_open ON incident_failures (dag_id, run_id) WHERE succeeded_at IS NULL;

CREATE TABLE incident_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    incident_id bigint NOT NULL REFERENCES incident_records,
    kind text NOT NULL CHECK (
        kind IN ('opened', 'updated', 'reopened', 'recovered', 'acknowledged', 'snoozed', 'closed')
    ),
    day date,
    severity text NOT NULL,
    message_id bigint REFERENCES messages,
    by text,
    why text,
    until timestamptz,
    run_id text NOT NULL,
    happened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (kind NOT IN ('acknowledged', 'snoozed', 'closed') OR (by <> '' AND why <> '')),
    CHECK ((kind = 'snoozed') = (until IS NOT NULL))
);
CREATE INDEX incident_events_incident ON incident_events (incident_id);
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON incident_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""

COMMENTS = """
COMMENT ON TABLE incident_records IS
    'Incidents: one cause each, from the first to the last run date on which it was seen.';
COMMENT ON COLUMN incident_records.id IS 'Order in which the rows were written.';
COMMENT ON COLUMN incident_records.project IS 'Name of the project; empty for the DAGs of the bundle.';
COMMENT ON COLUMN incident_records.scope IS
    'Whose looks decide whether the cause is gone, such as monitor; task: its success decides.';
COMMENT ON COLUMN incident_records.cause IS 'Digest of rule, subject and occurrence.';
COMMENT ON COLUMN incident_records.rule IS
    'Kind of cause: the rule that is broken, feed_late, not_prepared, task_failed or run_failed.';
COMMENT ON COLUMN incident_records.subject IS 'Model, feed, project, task or DAG that the incident is about.';
COMMENT ON COLUMN incident_records.occurrence IS
    'Run date of a failed task; empty for what is seen on many run dates.';
COMMENT ON COLUMN incident_records.models IS 'Models that it affects.';
COMMENT ON COLUMN incident_records.first_day IS 'First run date on which the cause was seen.';
COMMENT ON COLUMN incident_records.last_day IS 'Last run date on which the cause was seen.';
COMMENT ON COLUMN incident_records.recovered_day IS
    'First run date after that on which it is gone; null while it is open.';
COMMENT ON COLUMN incident_records.severity IS 'critical, high or low.';
COMMENT ON COLUMN incident_records.what IS 'What happened, as of the newest run date that saw it.';
COMMENT ON COLUMN incident_records.effect IS 'What readers see.';
COMMENT ON COLUMN incident_records.command IS 'What to type when the cause is fixed; empty if the runbook decides.';
COMMENT ON COLUMN incident_records.runbook IS 'Page of the runbook; empty without one.';
COMMENT ON COLUMN incident_records.owner IS 'Who owns it; empty if nobody is named.';
COMMENT ON COLUMN incident_records.more IS 'Further lines of the message, such as where the log is.';
COMMENT ON COLUMN incident_records.badness IS 'How bad it is, a number that grows; null if it is not measured.';
COMMENT ON COLUMN incident_records.sent_severity IS 'Severity in the newest message about it; null without one.';
COMMENT ON COLUMN incident_records.sent_badness IS 'How bad it was in that message.';
COMMENT ON COLUMN incident_records.message_id IS 'Newest message about it; null without one.';
COMMENT ON COLUMN incident_records.opened_at IS 'Time at which it was opened.';
COMMENT ON COLUMN incident_records.recovered_at IS 'Time at which it was found gone; null while it is open.';
COMMENT ON COLUMN incident_records.acknowledged_by IS 'Person who takes care of it, as typed.';
COMMENT ON COLUMN incident_records.snoozed_until IS
    'Time until which nothing is sent about it; null if it is not snoozed.';
COMMENT ON COLUMN incident_records.snoozed_severity IS
    'Its severity when it was snoozed; above it, it is sent again.';
COMMENT ON COLUMN incident_records.merged_into IS 'Incident that it turned out to be a part of; null otherwise.';
COMMENT ON TABLE incident_looks IS
    'Run dates that looked. A cause that one of them did not see is gone as of that run date.';
COMMENT ON COLUMN incident_looks.project IS 'Name of the project.';
COMMENT ON COLUMN incident_looks.scope IS 'Who looked, such as monitor.';
COMMENT ON COLUMN incident_looks.day IS 'Run date.';
COMMENT ON TABLE incident_days IS
    'Run dates on which each cause was seen. Incidents follow from these rows, in any order of runs.';
COMMENT ON COLUMN incident_days.project IS 'Name of the project.';
COMMENT ON COLUMN incident_days.scope IS 'Who looked, such as monitor.';
COMMENT ON COLUMN incident_days.cause IS 'Digest of rule, subject and occurrence.';
COMMENT ON COLUMN incident_days.day IS 'Run date.';
COMMENT ON COLUMN incident_days.gone IS 'True if a later look on the same run date found it gone.';
COMMENT ON TABLE incident_failures IS
    'Failed tasks and runs of incidents. An incident recovers when each of its failures was made good.';
COMMENT ON COLUMN incident_failures.incident_id IS 'Incident that the failure belongs to.';
COMMENT ON COLUMN incident_failures.dag_id IS 'DAG.';
COMMENT ON COLUMN incident_failures.task_id IS 'Task; empty for a run that failed as a whole.';
COMMENT ON COLUMN incident_failures.run_id IS 'Airflow run.';
COMMENT ON COLUMN incident_failures.map_index IS 'Which of several tasks; -1 for one that is not mapped.';
COMMENT ON COLUMN incident_failures.try_number IS 'Newest try that failed.';
COMMENT ON COLUMN incident_failures.is_effect IS 'True if it only waited for what another DAG did not make.';
COMMENT ON COLUMN incident_failures.project IS 'Name of the project; empty for the DAGs of the bundle.';
COMMENT ON COLUMN incident_failures.model IS 'Name of the model; null for a DAG of a project.';
COMMENT ON COLUMN incident_failures.day IS 'Run date; null without one, and for a range.';
COMMENT ON COLUMN incident_failures.done_by IS 'Step whose success for the run date shows that it was made good.';
COMMENT ON COLUMN incident_failures.failed_at IS 'Time at which the failure was reported.';
COMMENT ON COLUMN incident_failures.succeeded_at IS 'Time at which it was found to be made good; null until then.';
COMMENT ON TABLE incident_events IS 'What happened to incidents, and what people decided about them. Immutable.';
COMMENT ON COLUMN incident_events.id IS 'Order in which the rows were written.';
COMMENT ON COLUMN incident_events.incident_id IS 'Incident.';
COMMENT ON COLUMN incident_events.kind IS 'opened, updated, reopened, recovered, acknowledged, snoozed or closed.';
COMMENT ON COLUMN incident_events.day IS 'Run date that noticed it; null for what a person did.';
COMMENT ON COLUMN incident_events.severity IS 'Severity of the incident then.';
COMMENT ON COLUMN incident_events.message_id IS 'Message that says so; null if none was sent.';
COMMENT ON COLUMN incident_events.by IS 'Person who decided, as typed; null if nobody did.';
COMMENT ON COLUMN incident_events.why IS 'Reason, as typed; null if nobody decided.';
COMMENT ON COLUMN incident_events.until IS 'End of a snooze; otherwise null.';
COMMENT ON COLUMN incident_events.run_id IS 'Airflow run that wrote the row, or by-hand.';
COMMENT ON COLUMN incident_events.happened_at IS 'Time at which the row was written.';
"""

VIEWS = """
CREATE VIEW incidents AS
SELECT i.id AS incident,
    CASE WHEN i.recovered_day IS NOT NULL THEN 'recovered'
        WHEN i.snoozed_until > now() THEN 'snoozed'
        WHEN i.acknowledged_by IS NOT NULL THEN 'acknowledged'
        ELSE 'open' END AS state,
    i.severity, i.project, i.rule, i.subject, i.models, i.what, i.effect, i.first_day, i.last_day, i.recovered_day,
    i.opened_at, i.recovered_at, coalesce(i.recovered_at, now()) - i.opened_at AS lasted, i.owner, i.runbook, i.command,
    i.acknowledged_by,
    (
        SELECT e.why FROM incident_events e
        WHERE e.incident_id = i.id AND e.kind IN ('acknowledged', 'snoozed', 'closed') ORDER BY e.id DESC LIMIT 1
    ) AS why,
    i.snoozed_until, m.sent_at AS notified_at
FROM incident_records i LEFT JOIN messages m ON m.id = i.message_id
WHERE i.merged_into IS NULL;
COMMENT ON VIEW incidents IS
    'Incidents: one cause each, since when, how long, how severe, what readers see, and what to do.';
COMMENT ON COLUMN incidents.incident IS 'Number of the incident, as its messages and the command line name it.';
COMMENT ON COLUMN incidents.state IS
    'open, acknowledged: a person takes care of it, snoozed: nothing is sent for some time, or recovered.';
COMMENT ON COLUMN incidents.severity IS 'critical, high or low, by the tier of the models: docs/alerts.md.';
COMMENT ON COLUMN incidents.project IS 'Name of the project; empty for the DAGs of the bundle.';
COMMENT ON COLUMN incidents.rule IS
    'Kind of cause: the rule that is broken, feed_late, not_prepared, task_failed or run_failed.';
COMMENT ON COLUMN incidents.subject IS 'Model, feed, project, task or DAG that the incident is about.';
COMMENT ON COLUMN incidents.models IS 'Models that it affects.';
COMMENT ON COLUMN incidents.what IS 'What happened, as of the newest run date that saw it.';
COMMENT ON COLUMN incidents.effect IS 'What readers see.';
COMMENT ON COLUMN incidents.first_day IS 'First run date on which the cause was seen.';
COMMENT ON COLUMN incidents.last_day IS 'Last run date on which the cause was seen.';
COMMENT ON COLUMN incidents.recovered_day IS 'First run date after that on which it is gone; null while it is open.';
COMMENT ON COLUMN incidents.opened_at IS 'Time at which it was opened.';
COMMENT ON COLUMN incidents.recovered_at IS 'Time at which it was found gone; null while it is open.';
COMMENT ON COLUMN incidents.lasted IS 'Time from its opening to its recovery, or until now.';
COMMENT ON COLUMN incidents.owner IS 'Who owns it; empty if nobody is named.';
COMMENT ON COLUMN incidents.runbook IS 'Page of the runbook; empty without one.';
COMMENT ON COLUMN incidents.command IS 'What to type when the cause is fixed; empty if the runbook decides.';
COMMENT ON COLUMN incidents.acknowledged_by IS 'Person who takes care of it; null if nobody does.';
COMMENT ON COLUMN incidents.why IS 'Reason of the newest decision of a person about it; null without one.';
COMMENT ON COLUMN incidents.snoozed_until IS 'Time until which nothing is sent about it; null if it is not snoozed.';
COMMENT ON COLUMN incidents.notified_at IS
    'Time at which the newest message about it was accepted; null until then. The view outbox says why.';

CREATE VIEW incident_history AS
SELECT e.id, e.incident_id AS incident, i.project, i.rule, i.subject, e.kind, e.day, e.severity, e.by, e.why, e.until,
    e.run_id, e.happened_at, m.sent_at AS notified_at
FROM incident_events e JOIN incident_records i ON i.id = e.incident_id LEFT JOIN messages m ON m.id = e.message_id;
COMMENT ON VIEW incident_history IS 'What happened to each incident, what was sent, and what people decided about it.';
COMMENT ON COLUMN incident_history.id IS 'Order in which the rows were written.';
COMMENT ON COLUMN incident_history.incident IS 'Number of the incident.';
COMMENT ON COLUMN incident_history.project IS 'Name of the project; empty for the DAGs of the bundle.';
COMMENT ON COLUMN incident_history.rule IS
    'Kind of cause: the rule that is broken, feed_late, not_prepared, task_failed or run_failed.';
COMMENT ON COLUMN incident_history.subject IS 'Model, feed, project, task or DAG that the incident is about.';
COMMENT ON COLUMN incident_history.kind IS
    'opened, updated, reopened, recovered, acknowledged, snoozed or closed.';
COMMENT ON COLUMN incident_history.day IS 'Run date that noticed it; null for what a person did.';
COMMENT ON COLUMN incident_history.severity IS 'Severity of the incident then.';
COMMENT ON COLUMN incident_history.by IS 'Person who decided, as typed; null if nobody did.';
COMMENT ON COLUMN incident_history.why IS 'Reason, as typed; null if nobody decided.';
COMMENT ON COLUMN incident_history.until IS 'End of a snooze; otherwise null.';
COMMENT ON COLUMN incident_history.run_id IS 'Airflow run that wrote the row, or by-hand.';
COMMENT ON COLUMN incident_history.happened_at IS 'Time at which the row was written.';
COMMENT ON COLUMN incident_history.notified_at IS
    'Time at which the message about it was accepted; null without a message, and until then.';
GRANT SELECT ON incidents, incident_history TO ops_reader;
"""

DECISIONS = """
DO $$
BEGIN
    EXECUTE format(
        'CREATE OR REPLACE VIEW human_actions AS SELECT * FROM (%s) AS before UNION ALL '
        'SELECT e.happened_at, nullif(i.project, %L), NULL, %s, %L || i.id || %L || i.subject, e.by, e.why, e.run_id '
        'FROM incident_events e JOIN incident_records i ON i.id = e.incident_id WHERE e.by IS NOT NULL',
        rtrim(pg_get_viewdef('human_actions'::regclass), '; '), '',
        'CASE e.kind WHEN ''acknowledged'' THEN ''acknowledge'' WHEN ''snoozed'' THEN ''snooze'' ELSE ''close'' END',
        'incident ', ': '
    );
    EXECUTE format(
        'COMMENT ON COLUMN human_actions.action IS %L',
        regexp_replace(
            col_description('human_actions'::regclass, (
                SELECT attnum FROM pg_attribute WHERE attrelid = 'human_actions'::regclass AND attname = 'action'
            )),
            '^Decision: ', 'Decision: acknowledge, snooze or close an incident, '
        )
    );
    EXECUTE format(
        'COMMENT ON COLUMN human_actions.subject IS %L',
        regexp_replace(
            col_description('human_actions'::regclass, (
                SELECT attnum FROM pg_attribute WHERE attrelid = 'human_actions'::regclass AND attname = 'subject'
            )),
            '^The delivery, ', 'The incident, the delivery, '
        )
    );
END $$
"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(COMMENTS)
    op.execute(VIEWS)
    op.execute(DECISIONS)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

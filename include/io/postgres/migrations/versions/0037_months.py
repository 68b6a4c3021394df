"""Predictions and entities by month, so that `retention` can remove a month at once; and the audit of what it removed.

A table has one part (a PostgreSQL partition) for each month that has rows, and the database makes a part when the first
row of a month comes (`make_month`), since the login of tasks owns no table. The day becomes the last column of the key.

The rows are copied month by month, while readers go on and publishing waits; only at the end, for moments, do readers
wait, too. Views keep their columns, so views of others on top of them stay.

Months leave by `drop_month` alone. It does what the owner declared with the newest migration, and not what its caller
wants: the login of tasks cannot remove a month that `retention` keeps.

Columns and comments are repeated from `include/io/postgres/schema.py`: see the first migration.
"""

from collections.abc import Mapping

import sqlalchemy as sa
from alembic import op

revision = "0037"
down_revision = "0036"

TABLES = """
ALTER TABLE projects ADD COLUMN predictions_months integer CHECK (predictions_months > 0);
COMMENT ON COLUMN projects.predictions_months IS
    'Whole months for which predictions and entities are kept (`retention`); null: for ever.';

CREATE TABLE dropped_months (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project text NOT NULL,
    relation text NOT NULL,
    month date NOT NULL CHECK (date_trunc('month', month::timestamp) = month),
    rows bigint NOT NULL CHECK (rows >= 0),
    bytes bigint NOT NULL CHECK (bytes >= 0),
    months integer NOT NULL,
    by text NOT NULL CHECK (by <> ''),
    run_id text NOT NULL,
    transaction bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
    dropped_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON dropped_months (project, month);
CREATE INDEX ON dropped_months (transaction);
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON dropped_months
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
COMMENT ON TABLE dropped_months IS
    'Months of predictions and entities that left the database, as `retention` declares. Immutable.';
COMMENT ON COLUMN dropped_months.id IS 'Order in which the rows were written.';
COMMENT ON COLUMN dropped_months.project IS 'Name of the project.';
COMMENT ON COLUMN dropped_months.relation IS 'Table that the rows were in.';
COMMENT ON COLUMN dropped_months.month IS 'First day of the month.';
COMMENT ON COLUMN dropped_months.rows IS 'Rows that were removed.';
COMMENT ON COLUMN dropped_months.bytes IS
    'Bytes that they took, with indexes; estimated where other projects have rows of the month.';
COMMENT ON COLUMN dropped_months.months IS 'Months to keep that were declared then.';
COMMENT ON COLUMN dropped_months.by IS 'Who asked for it: a person, as typed, or maintenance.';
COMMENT ON COLUMN dropped_months.run_id IS 'Airflow run that wrote the row, or by-hand.';
COMMENT ON COLUMN dropped_months.transaction IS
    'Transaction that wrote the row: in it alone, the owner may remove predictions.';
COMMENT ON COLUMN dropped_months.dropped_at IS 'Time at which the row was written.';

CREATE FUNCTION refuse_other_project() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE') THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'model % belongs to project %, not to %', OLD.model, OLD.project, NEW.project
        USING HINT = 'Give the model another name. Only the owner of the table may move it to another project.';
END $$;
COMMENT ON FUNCTION refuse_other_project() IS
    'Refuses that a model becomes one of another project, whose retention might remove its predictions.';
CREATE TRIGGER refuse_other_project BEFORE UPDATE OF project ON models
    FOR EACH ROW WHEN (OLD.project IS DISTINCT FROM NEW.project) EXECUTE FUNCTION refuse_other_project();

ALTER TABLE publications DROP CONSTRAINT publications_check;
ALTER TABLE publications ADD CONSTRAINT publications_check
    CHECK (batch_id IS NOT NULL OR mode IN ('unpublish', 'retention'));
COMMENT ON COLUMN publications.mode IS
    'replace, missing, unpublish (readers were pointed back to the batch before) or retention (the month left the '
    'database).';

CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF (TG_TABLE_NAME = 'predictions' AND TG_OP = 'DELETE'
        OR TG_TABLE_NAME IN ('batches', 'gate_results') AND TG_OP = 'UPDATE')
        AND EXISTS (SELECT FROM erasures WHERE transaction = pg_current_xact_id()::text::bigint)
    THEN
        RETURN NULL;
    END IF;
    IF TG_TABLE_NAME = 'predictions' AND TG_OP = 'DELETE'
        AND EXISTS (SELECT FROM dropped_months WHERE transaction = pg_current_xact_id()::text::bigint)
    THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION '% is never changed: % refused', TG_TABLE_NAME, TG_OP
        USING HINT = 'Publish another batch, or add a row that says what holds from now on.';
END $$;
COMMENT ON FUNCTION refuse_change() IS
    'Refuses every change of what was predicted, published, promoted or decided by the gate, except that of a '
    'transaction that records an erasure or a dropped month.';

CREATE VIEW retention_history AS
SELECT project, relation, month, rows, bytes, months, by, run_id, dropped_at FROM dropped_months;
COMMENT ON VIEW retention_history IS
    'Months of predictions and entities that left the database. A range backfill of the month publishes them again.';
COMMENT ON COLUMN retention_history.project IS 'Name of the project.';
COMMENT ON COLUMN retention_history.relation IS 'Table that the rows were in.';
COMMENT ON COLUMN retention_history.month IS 'First day of the month.';
COMMENT ON COLUMN retention_history.rows IS 'Rows that were removed.';
COMMENT ON COLUMN retention_history.bytes IS
    'Bytes that they took, with indexes; estimated where other projects have rows of the month.';
COMMENT ON COLUMN retention_history.months IS 'Months to keep that were declared then.';
COMMENT ON COLUMN retention_history.by IS 'Who asked for it: a person, as typed, or maintenance.';
COMMENT ON COLUMN retention_history.run_id IS 'Airflow run that wrote the row, or by-hand.';
COMMENT ON COLUMN retention_history.dropped_at IS 'Time at which the month left.';
GRANT SELECT ON retention_history TO ops_reader;
COMMENT ON COLUMN publication_history.mode IS
    'replace, missing, unpublish (readers were pointed back to the batch before) or retention (the month left the '
    'database).';
"""

FUNCTIONS = """
CREATE FUNCTION month_part(of_table text, of_day date) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT of_table || '__' || lpad(extract(year FROM of_day)::text, 4, '0') || '_'
        || lpad(extract(month FROM of_day)::text, 2, '0')
$$;
COMMENT ON FUNCTION month_part(text, date) IS 'The name of the part of a table that has the month of a day.';

CREATE FUNCTION is_by_month(of_table text) RETURNS boolean LANGUAGE sql STABLE SET search_path = {schema}, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM pg_class
        WHERE relname = of_table AND relkind = 'p' AND relnamespace = '{schema}'::regnamespace
            AND (of_table = 'predictions' OR starts_with(of_table, 'entities_'))
    )
$$;
COMMENT ON FUNCTION is_by_month(text) IS 'Whether a table has its rows by month.';

CREATE FUNCTION has_month(of_table text, of_day date) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = {schema}, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
        WHERE p.relname = of_table AND p.relnamespace = '{schema}'::regnamespace
            AND c.relname = month_part(of_table, of_day) AND c.relnamespace = p.relnamespace
    )
$$;
COMMENT ON FUNCTION has_month(text, date) IS 'Whether a table has a part for the month of a day.';

-- Every name below is one of the schema: a caller could have a temporary table of the name of a missing month.
CREATE FUNCTION make_month(of_table text, of_day date) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
DECLARE
    first date := date_trunc('month', of_day::timestamp)::date;
    part text := month_part(of_table, of_day);
BEGIN
    IF NOT is_by_month(of_table) THEN
        RAISE EXCEPTION '% has no rows by month', of_table;
    END IF;
    LOOP
        IF has_month(of_table, first) THEN
            BEGIN  -- nobody drops it before the end of the caller's transaction
                EXECUTE format('LOCK TABLE {schema}.%I IN ROW EXCLUSIVE MODE', part);
                RETURN;
            EXCEPTION WHEN undefined_table THEN
                NULL;  -- it was dropped while this waited
            END;
        END IF;
        EXECUTE format('LOCK TABLE ONLY {schema}.%I IN SHARE UPDATE EXCLUSIVE MODE', of_table);  -- one at a time
        IF NOT has_month(of_table, first) THEN
            EXECUTE format('CREATE TABLE {schema}.%I (LIKE {schema}.%I INCLUDING ALL)', part, of_table);
            EXECUTE format('ALTER TABLE {schema}.%I ATTACH PARTITION {schema}.%I FOR VALUES FROM (%L) TO (%L)',
                of_table, part, first, (first + interval '1 month')::date);
            RETURN;
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION make_month(text, date) IS
    'Makes the part of a table for the month of a day, if it is missing, and keeps it to the end of the transaction. '
    'Readers and writers of other months do not wait.';

CREATE FUNCTION drop_month(of_project text, of_month date, asked_by text, of_run text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp SET lock_timeout = '500ms' AS $$
DECLARE
    first date := date_trunc('month', of_month::timestamp)::date;
    past date := (first + interval '1 month')::date;
    keep integer;
    zone text;
    of_entities text := 'entities_' || of_project;
    part text;
    own bigint := 0;  -- rows of predictions
    described bigint := 0;  -- rows of entities
    counted bigint := 0;
    size bigint;
    has_predictions boolean;
    has_entities boolean;
BEGIN
    SELECT predictions_months, timezone INTO keep, zone FROM projects WHERE project = of_project;
    IF keep IS NULL THEN
        RAISE EXCEPTION 'retention of % is not declared in the database', of_project
            USING HINT = 'Declare retention.predictions in project.yaml, then run: python -m include.cli migrate';
    END IF;
    IF past > (date_trunc('month', clock_timestamp() AT TIME ZONE zone) - keep * interval '1 month')::date THEN
        RAISE EXCEPTION '% of % is kept: retention declares % whole months', to_char(first, 'YYYY-MM'), of_project,
            keep;
    END IF;

    has_predictions := has_month('predictions', first);
    has_entities := has_month(of_entities, first);
    IF has_predictions THEN  -- whoever publishes there is waited for
        part := month_part('predictions', first);
        EXECUTE format('LOCK TABLE {schema}.%I IN SHARE ROW EXCLUSIVE MODE', part);
    END IF;
    IF has_entities THEN
        EXECUTE format('LOCK TABLE {schema}.%I IN SHARE ROW EXCLUSIVE MODE', month_part(of_entities, first));
    END IF;

    INSERT INTO publications (model, day, batch_id, replaced, mode, run_id, published_at)
    SELECT s.model, s.day, NULL, s.batch_id, 'retention', of_run, clock_timestamp()
    FROM published s JOIN models m ON m.model = s.model
    WHERE m.project = of_project AND s.day >= first AND s.day < past ORDER BY s.model, s.day;
    DELETE FROM published s USING models m
    WHERE m.model = s.model AND m.project = of_project AND s.day >= first AND s.day < past;

    IF has_predictions THEN
        EXECUTE format('SELECT count(*), count(*) FILTER (WHERE m.project = %L) FROM {schema}.%I p '
            'LEFT JOIN models m ON m.model = p.model', of_project, part) INTO counted, own;
        IF own > 0 THEN
            size := pg_total_relation_size(format('{schema}.%I', part)::regclass);
            INSERT INTO dropped_months (project, relation, month, rows, bytes, months, by, run_id)
            VALUES (of_project, 'predictions', first, own, size * own / counted, keep, asked_by, of_run);
        END IF;
    END IF;
    IF has_entities THEN
        EXECUTE format('SELECT count(*) FROM {schema}.%I', month_part(of_entities, first)) INTO described;
        IF described > 0 THEN
            size := pg_total_relation_size(format('{schema}.%I', month_part(of_entities, first))::regclass);
            INSERT INTO dropped_months (project, relation, month, rows, bytes, months, by, run_id)
            VALUES (of_project, of_entities, first, described, size, keep, asked_by, of_run);
        END IF;
    END IF;
    IF own > 0 AND counted > own THEN
        DELETE FROM predictions p USING models m
        WHERE m.model = p.model AND m.project = of_project AND p.day >= first AND p.day < past;
    END IF;
    -- last, because from here on readers wait for the end of the transaction
    IF has_predictions AND counted = own THEN
        EXECUTE format('DROP TABLE {schema}.%I', part);
    END IF;
    IF has_entities THEN
        EXECUTE format('DROP TABLE {schema}.%I', month_part(of_entities, first));
    END IF;
    RETURN own > 0 OR described > 0;
END $$;
COMMENT ON FUNCTION drop_month(text, date, text, text) IS
    'Removes a month of predictions and entities of a project that its declared retention does not keep, and points '
    'readers to none of it. It waits for no lock longer than half a second.';
REVOKE ALL ON FUNCTION make_month(text, date), drop_month(text, date, text, text) FROM PUBLIC;

CREATE OR REPLACE FUNCTION batch_is_whole() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    present bigint;
BEGIN
    SELECT count(*) INTO present FROM predictions WHERE batch_id = NEW.batch_id AND day = NEW.day;
    IF present <> NEW.rows THEN
        RAISE EXCEPTION 'batch % of % for % says % rows and has %',
            NEW.batch_id, NEW.model, NEW.day, NEW.rows, present;
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION batch_gets_no_more() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    wrong record;
BEGIN
    SELECT a.batch_id, a.model, a.day, b.rows INTO wrong
    FROM (SELECT DISTINCT batch_id, model, day FROM added) a
    LEFT JOIN batches b USING (batch_id, model, day)
    WHERE b.rows IS NULL
        OR b.rows < (SELECT count(*) FROM predictions p WHERE p.batch_id = a.batch_id AND p.day = a.day)
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'batch % of % for % %', wrong.batch_id, wrong.model, wrong.day,
            CASE WHEN wrong.rows IS NULL THEN 'does not exist'
                 ELSE format('has its %s rows and gets no more', wrong.rows) END;
    END IF;
    RETURN NULL;
END $$;
"""

COPY = """
CREATE FUNCTION copy_by_month(of_table text, key text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    by_month text := of_table || '__by_month';
    first date;
BEGIN
    EXECUTE format('LOCK TABLE %I IN SHARE MODE', of_table);
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING COMMENTS) '
        'PARTITION BY RANGE (day)', by_month, of_table);
    EXECUTE format('ALTER TABLE %I ADD CONSTRAINT %I PRIMARY KEY (%s)', by_month, of_table || '__pk', key);
    FOR first IN EXECUTE
        format('SELECT DISTINCT date_trunc(''month'', day::timestamp)::date FROM %I ORDER BY 1', of_table)
    LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)', month_part(of_table, first),
            by_month, first, (first + interval '1 month')::date);
    END LOOP;
    EXECUTE format('INSERT INTO %I SELECT * FROM %I', by_month, of_table);
    EXECUTE format('ANALYZE %I', by_month);
END $$;

DO $$
DECLARE
    of_project text;
BEGIN
    PERFORM copy_by_month('predictions', 'batch_id, horizon, entity_id, day');
    FOR of_project IN
        SELECT relname FROM pg_class
        WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace AND starts_with(relname, 'entities_')
    LOOP
        PERFORM copy_by_month(of_project, 'day, horizon, entity_id');
    END LOOP;
END $$;
DROP FUNCTION copy_by_month(text, text);
"""

SWAP = """
CREATE FUNCTION swap_by_month(of_table text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    by_month text := of_table || '__by_month';
    before text := of_table || '__before';
    views text[];
    view text;
    pkey text;
    named text;
BEGIN
    views := ARRAY(
        SELECT DISTINCT format('CREATE OR REPLACE VIEW %s %s AS %s', v.oid::regclass,
            'WITH (' || array_to_string(v.reloptions, ', ') || ')', pg_get_viewdef(v.oid))
        FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class
        WHERE d.classid = 'pg_rewrite'::regclass AND d.refobjid = to_regclass(quote_ident(of_table))
    );
    named := obj_description(to_regclass(quote_ident(of_table)));
    pkey := (
        SELECT conname FROM pg_constraint WHERE conrelid = to_regclass(quote_ident(of_table)) AND contype = 'p'
    );
    EXECUTE format('ALTER TABLE %I RENAME TO %I', of_table, before);
    EXECUTE format('ALTER TABLE %I RENAME CONSTRAINT %I TO %I', before, pkey, before || '_pkey');
    EXECUTE format('ALTER TABLE %I RENAME TO %I', by_month, of_table);
    EXECUTE format('ALTER TABLE %I RENAME CONSTRAINT %I TO %I', of_table, of_table || '__pk', pkey);
    IF named IS NOT NULL THEN
        EXECUTE format('COMMENT ON TABLE %I IS %L', of_table, named);
    END IF;
    FOREACH view IN ARRAY views LOOP
        EXECUTE view;
    END LOOP;
    EXECUTE format('DROP TABLE %I', before);
END $$;

DO $$
DECLARE
    of_project text;
BEGIN
    PERFORM swap_by_month('predictions');
    FOR of_project IN
        SELECT relname FROM pg_class
        WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace
            AND to_regclass(quote_ident(relname || '__by_month')) IS NOT NULL AND relname <> 'predictions'
    LOOP
        PERFORM swap_by_month(of_project);
    END LOOP;
END $$;

CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON predictions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER batch_gets_no_more AFTER INSERT ON predictions
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION batch_gets_no_more();
DROP FUNCTION swap_by_month(text);
"""

OF_BATCH = {
    "current_predictions": ("p.batch_id = s.batch_id", "p.batch_id = s.batch_id AND p.day = s.day"),
    "predictions_with_outcomes": ("p.batch_id = s.batch_id", "p.batch_id = s.batch_id AND p.day = s.day"),
    "newest_predictions": ("p.batch_id = n.batch_id", "p.batch_id = n.batch_id AND p.day = n.day"),
    "prediction_reasons": ("p.batch_id = s.batch_id", "p.batch_id = s.batch_id AND p.day = s.day"),
    "replaced_predictions": (
        "predictions.batch_id = m.replaced|predictions.batch_id = m.batch_id",
        (
            "predictions.batch_id = m.replaced AND predictions.day = m.day|"
            "predictions.batch_id = m.batch_id AND predictions.day = m.day"
        ),
    ),
}
"""View: the conditions that name a batch, and the same with its day, by which the database finds the month."""


def upgrade() -> None:
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    op.execute(FUNCTIONS.replace("{schema}", schema))
    op.execute(COPY)
    op.execute(TABLES)
    op.execute(SWAP)
    for view, (before, after) in OF_BATCH.items():
        _narrow(view, dict(zip(before.split("|"), after.split("|"), strict=True)))


def _narrow(view: str, conditions: Mapping[str, str]) -> None:
    """Let a view name the day of each batch, too. Its columns stay."""
    statement = _definition(view)
    for before, after in conditions.items():
        if statement.count(before) != 1:
            raise RuntimeError(f"view {view} is not as a migration left it: {statement}")
        statement = statement.replace(before, after)
    op.execute(f"CREATE OR REPLACE VIEW {view} WITH (security_barrier) AS {statement}")


def _definition(view: str) -> str:
    return str(op.get_bind().scalar(sa.text("SELECT pg_get_viewdef(CAST(:view AS regclass))"), {"view": view}))


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

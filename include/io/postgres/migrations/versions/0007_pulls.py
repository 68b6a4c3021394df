"""Data that was pulled to laptops: who, when, what and why, written by a function before any row can be read.

Columns and comments are repeated from `include/io/postgres/schema.py`: see the first migration.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

TABLES = """
CREATE TABLE pulls (
    pull_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    project text NOT NULL CHECK (project <> ''),
    first_day date NOT NULL,
    last_day date NOT NULL,
    entity_fraction double precision NOT NULL CHECK (entity_fraction > 0 AND entity_fraction < 1),
    by text NOT NULL CHECK (by <> ''),
    why text NOT NULL CHECK (why <> ''),
    login text NOT NULL DEFAULT session_user,
    hash_key text NOT NULL,
    begun_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (first_day <= last_day)
);
COMMENT ON TABLE pulls IS
    'Pulls of prepared data to laptops, each entered before its first row was read. Immutable.';
COMMENT ON COLUMN pulls.pull_id IS 'Identifier of the pull.';
COMMENT ON COLUMN pulls.project IS 'Name of the project.';
COMMENT ON COLUMN pulls.first_day IS 'First run date that was asked for.';
COMMENT ON COLUMN pulls.last_day IS 'Last run date that was asked for.';
COMMENT ON COLUMN pulls.entity_fraction IS 'Share of the entities that was asked for.';
COMMENT ON COLUMN pulls.by IS 'Person who pulled, as typed.';
COMMENT ON COLUMN pulls.why IS 'Reason, as typed.';
COMMENT ON COLUMN pulls.login IS 'Database login of that person.';
COMMENT ON COLUMN pulls.hash_key IS 'Fingerprint of the keys that the rows were hashed with here.';
COMMENT ON COLUMN pulls.begun_at IS 'Time at which the pull was entered.';

CREATE TABLE pulled (
    pull_id uuid PRIMARY KEY REFERENCES pulls,
    rows bigint NOT NULL CHECK (rows >= 0),
    ended_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE pulled IS 'What each pull that ended took. Immutable.';
COMMENT ON COLUMN pulled.pull_id IS 'Identifier of the pull.';
COMMENT ON COLUMN pulled.rows IS 'Rows that it took.';
COMMENT ON COLUMN pulled.ended_at IS 'Time at which its rows were complete.';
"""

VIEW = """
CREATE VIEW data_pulls AS
SELECT p.pull_id, p.project, p.first_day, p.last_day, p.entity_fraction, p.by, p.why, p.login, d.rows, p.begun_at,
    d.ended_at
FROM pulls p LEFT JOIN pulled d ON d.pull_id = p.pull_id;

COMMENT ON VIEW data_pulls IS
    'Pulls of prepared data to laptops: who took which days and share of the entities, and why.';
COMMENT ON COLUMN data_pulls.pull_id IS 'Identifier of the pull.';
COMMENT ON COLUMN data_pulls.project IS 'Name of the project.';
COMMENT ON COLUMN data_pulls.first_day IS 'First run date that was asked for.';
COMMENT ON COLUMN data_pulls.last_day IS 'Last run date that was asked for.';
COMMENT ON COLUMN data_pulls.entity_fraction IS 'Share of the entities that was asked for.';
COMMENT ON COLUMN data_pulls.by IS 'Person who pulled, as typed.';
COMMENT ON COLUMN data_pulls.why IS 'Reason, as typed.';
COMMENT ON COLUMN data_pulls.login IS 'Database login of that person.';
COMMENT ON COLUMN data_pulls.rows IS
    'Rows that were taken; null if the pull did not end: some of them may have been read.';
COMMENT ON COLUMN data_pulls.begun_at IS 'Time at which the pull was entered.';
COMMENT ON COLUMN data_pulls.ended_at IS 'Time at which its rows were complete; null if it did not end.';
GRANT SELECT ON data_pulls TO ops_reader;
"""

FUNCTIONS = """
CREATE FUNCTION key_in_use(of_project text) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = {schema}, pg_temp AS $$
DECLARE
    newest record;
BEGIN
    SELECT entry ->> 'state' AS state, entry ->> 'hash_key' AS hash_key INTO newest FROM journal
    WHERE project = of_project AND entry ? 'hash_key' AND kind IN ('delivery', 'decision')
    ORDER BY sequence DESC LIMIT 1;
    IF newest.state = 'begun' THEN
        RAISE EXCEPTION 'the hash key of % is being rotated; wait until that has finished', of_project;
    ELSIF newest.hash_key IS NULL THEN
        RAISE EXCEPTION 'nothing of the project % was landed here', of_project;
    ELSIF EXISTS (
        SELECT FROM journal j WHERE j.project = of_project AND j.kind = 'erasure' AND NOT EXISTS (
            SELECT FROM erasures e WHERE e.project = j.project AND e.sequence = j.sequence AND e.place = 'finished'))
    THEN
        RAISE EXCEPTION 'the erasure of a person from % is not finished; wait until it is', of_project;
    END IF;
    RETURN newest.hash_key;
END $$;
COMMENT ON FUNCTION key_in_use(text) IS
    'Returns the fingerprint of the keys that rows of a project are hashed with, if they all are, and no erasure is '
    'unfinished.';

CREATE FUNCTION begin_pull(of_project text, of_first date, of_last date, of_fraction double precision, person text,
    reason text, OUT pull uuid, OUT fingerprint text)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
BEGIN
    fingerprint := key_in_use(of_project);
    INSERT INTO pulls (project, first_day, last_day, entity_fraction, by, why, hash_key)
    VALUES (of_project, of_first, of_last, of_fraction, person, reason, fingerprint)
    RETURNING pull_id INTO pull;
END $$;
COMMENT ON FUNCTION begin_pull(text, date, date, double precision, text, text) IS
    'Enters a pull of prepared data, before it reads.';

CREATE FUNCTION end_pull(of_pull uuid, of_rows bigint) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
DECLARE
    begun pulls;
BEGIN
    SELECT * INTO STRICT begun FROM pulls WHERE pull_id = of_pull AND login = session_user;
    IF EXISTS (SELECT FROM journal j
        WHERE j.project = begun.project AND j.kind = 'erasure' AND j.recorded_at >= begun.begun_at)
    THEN
        RAISE EXCEPTION 'a person was erased from % while rows were read', begun.project;
    END IF;
    INSERT INTO pulled (pull_id, rows) VALUES (of_pull, of_rows);
    RETURN key_in_use(begun.project);
END $$;
COMMENT ON FUNCTION end_pull(uuid, bigint) IS
    'Enters that a pull of the same login has all its rows; returns the fingerprint of the keys by now.';

REVOKE ALL ON FUNCTION key_in_use(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION begin_pull(text, date, date, double precision, text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION end_pull(uuid, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION begin_pull(text, date, date, double precision, text, text) TO ops_reader;
GRANT EXECUTE ON FUNCTION end_pull(uuid, bigint) TO ops_reader;
"""

IMMUTABLE = ("pulls", "pulled")


def upgrade() -> None:
    op.execute(TABLES)
    for table in IMMUTABLE:
        op.execute(
            f"CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
    op.execute(VIEW)
    # temporary tables come last, so that nobody who calls a function as its owner gives it a table of another kind
    op.execute(FUNCTIONS.replace("{schema}", op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))))


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")

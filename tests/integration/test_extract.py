"""extract: rows of real databases become deliveries, with what counts from when, and what is wrong said."""

import re
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
import sqlalchemy as sa

from include.core.errors import DataError, DeliveryError, UnreachableError
from include.core.intake import NotYetError
from include.core.interval import Interval
from include.core.project import Project
from include.core.records import PreparedDay
from include.core.settings import Settings
from include.io import postgres
from include.io.journal import read_journal
from include.io.sources import postgresql
from include.io.sources.queries import run_query
from include.operations.decide import withdraw
from include.operations.preflight import preflight
from include.runner.ranges import run_range
from include.runner.run import run
from include.steps import extract as extract_module
from include.steps.arrivals import missing_files
from include.steps.build_features import build_features, record_prepared_days
from include.steps.extract import extract, missing_rows
from include.steps.land import land
from include.steps.validate import validate
from tests.integration.drugstore import put_plan
from tests.integration.processes import processes, run_and_kill
from tests.integration.shop import AS_OF, FIRST, PASSWORD, PLAIN, PostgreSQL, Sqlite, cut, prices, settings_of
from tests.landing import deliveries_of, rows_of

Load = Callable[..., Project]
DAY = FIRST + timedelta(days=4)
RUN = Interval.of(DAY)


@pytest.fixture
def shop(settings: Settings) -> PostgreSQL:
    return PostgreSQL(settings)


@pytest.fixture
def declare_prices(load_changed: Load) -> Load:
    """Return a function that declares the feed `prices` in a copy of `drugstore`; see `shop.prices`."""
    return lambda query=PLAIN, **keys: load_changed("drugstore", prices(query, **keys))


@pytest.fixture
def project(declare_prices: Load) -> Project:
    return declare_prices(AS_OF, live_from=None)


def asked(monkeypatch: pytest.MonkeyPatch) -> list[date]:
    """Return a list that gets the day of each query that is run."""
    days: list[date] = []

    def counted(feed: Any, values: Any, *more: Any) -> pl.DataFrame:
        days.append(values["day"])
        return run_query(feed, values, *more)

    monkeypatch.setattr(extract_module, "run_query", counted)
    return days


class TestPastDays:
    def test_a_run_date_extracts_what_it_reads(self, project: Project, shop: PostgreSQL) -> None:
        shop.put_days(Interval(start=FIRST, end=DAY).days)
        extracted = extract(project, RUN, shop.settings)
        assert (extracted.new, extracted.rows, extracted.known, extracted.left) == (3, 6, 0, ())
        listed = deliveries_of(shop.settings, project.name)
        assert listed["day"].to_list() == [DAY - timedelta(days=n) for n in (2, 1, 0)]
        assert listed["key"][-1] == f"sql/prices/{DAY}"
        assert listed["delivery_id"][-1] == f"sql/prices/{DAY}@{listed['sha256'][-1][:16]}"
        raw = rows_of(shop.settings, "raw_drugstore__prices")
        assert raw.filter(pl.col("day") == DAY).select("_row", "item_id", "price", "valid_on", "changed").rows() == [
            (1, "i1", "1.500", str(DAY), f"{DAY - timedelta(days=1)}T18:00:00Z"),
            (2, "i2", "2.250", str(DAY), f"{DAY - timedelta(days=1)}T18:00:00Z"),
        ]
        again = extract(project, RUN, shop.settings)
        assert (again.new, again.known) == (0, 0)

    def test_rows_of_past_days_count_from_their_cutoff_however_late_they_are_extracted(
        self, project: Project, shop: PostgreSQL
    ) -> None:
        """The query binds `:as_of`: what was changed after the cutoff is not in the delivery of that day."""
        shop.put_days([DAY])
        shop.put(("i3", "9", DAY, f"{DAY} 05:00+01"))  # after the cutoff, 03:00 in Berlin
        extract(project, RUN, shop.settings)
        listed = deliveries_of(shop.settings, project.name)
        assert listed.select("day", "rows", "available_from").rows() == [(DAY, 2, project.cutoff_at(DAY))]

    def test_an_immutable_query_is_asked_once(
        self, declare_prices: Load, shop: PostgreSQL, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        project = declare_prices(live_from=None, source={"immutable": True})
        shop.put_days(Interval(start=FIRST, end=DAY).days)
        days = asked(monkeypatch)
        extract(project, RUN, shop.settings)
        shop.put(("i9", "1", DAY, f"{DAY} 00:00+00"))
        extract(project, RUN, shop.settings)
        assert days == [DAY - timedelta(days=n) for n in range(3)]
        moments = deliveries_of(shop.settings, project.name)["available_from"].to_list()
        assert moments == [project.cutoff_at(DAY - timedelta(days=n)) for n in (2, 1, 0)]

    def test_a_day_that_several_run_dates_need_is_asked_once(
        self, load_changed: Load, shop: PostgreSQL, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its delivery has its rows once, although each run date of a range needs the days ahead."""
        ahead = {"live_from": None, "source": {"immutable": True}, "ahead_days": 2, "lookback_days": 0}
        project = load_changed("drugstore", prices(PLAIN, **ahead))
        run_dates = Interval(start=DAY, end=DAY + timedelta(days=2))
        shop.put_days(Interval(start=DAY, end=DAY + timedelta(days=4)).days)
        days = asked(monkeypatch)
        extract(project, run_dates, shop.settings)
        assert sorted(days) == [DAY + timedelta(days=n) for n in range(5)]
        raw = rows_of(shop.settings, "raw_drugstore__prices")
        assert raw.height == deliveries_of(shop.settings, project.name)["rows"].sum() == 10

    def test_before_live_from_any_query_counts_from_the_cutoff(self, declare_prices: Load, shop: PostgreSQL) -> None:
        project = declare_prices(live_from=DAY)
        shop.put_days(Interval(start=FIRST, end=DAY).days)
        before = postgres.journal.read_clock(shop.settings)
        extract(project, RUN, shop.settings)
        moments = deliveries_of(shop.settings, project.name)["available_from"].to_list()
        assert moments[:2] == [project.cutoff_at(DAY - timedelta(days=n)) for n in (2, 1)]
        assert before <= moments[2] <= postgres.journal.read_clock(shop.settings)

    def test_a_query_that_binds_as_of_is_not_asked_before_its_cutoff(
        self, project: Project, shop: PostgreSQL, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tomorrow = project.day_of(datetime.now(UTC)) + timedelta(days=1)
        shop.put_days([tomorrow])
        days = asked(monkeypatch)
        with pytest.raises(NotYetError, match=f"sql/prices/{tomorrow} .*it is extracted after its cutoff"):
            extract(project, Interval.of(tomorrow), shop.settings)
        assert days == []

    @pytest.mark.spark
    @pytest.mark.timeout(600)
    def test_the_whole_pipeline_uses_them(self, project: Project, shop: PostgreSQL) -> None:
        """Point in time of a prepared day is what was extracted for it, whatever the database says later."""
        put_plan(shop.settings, DAY)
        shop.put_days([DAY])
        for step in (extract, land, validate):
            step(project, RUN, shop.settings)
        record_prepared_days(build_features(project, RUN, shop.settings), shop.settings)
        record = read_journal(shop.settings, project).records[DAY]
        named = [each for each in record.deliveries if each.startswith("sql/prices/")]
        assert (len(named), record.as_of) == (1, project.cutoff_at(DAY))
        clean = rows_of(shop.settings, "clean_drugstore__prices")
        assert clean.select("item_id", "price", "changed").rows() == [
            (item, price, datetime(2024, 11, 7, 18, tzinfo=UTC)) for item, price in (("i1", 1.5), ("i2", 2.25))
        ]
        shop.remove(DAY)
        shop.put(("i1", "7", DAY, f"{FIRST} 00:00+00"))
        for step in (extract, land, validate):
            step(project, RUN, shop.settings)
        again = build_features(project, RUN, shop.settings)
        assert [each.deliveries for each in again.prepared_days] == [record.deliveries]


class TestChanges:
    """Days that may still change are asked again; these run today, by the clock of the database."""

    @pytest.fixture
    def today(self, settings: Settings) -> date:
        return postgres.journal.read_clock(settings).astimezone(ZoneInfo("Europe/Berlin")).date()

    @pytest.fixture
    def project(self, declare_prices: Load) -> Project:
        return declare_prices(corrections_days=3, lookback_days=0)

    def test_equal_rows_in_another_order_are_no_new_delivery(
        self, project: Project, shop: PostgreSQL, today: date
    ) -> None:
        shop.put_days([today])
        extract(project, Interval.of(today), shop.settings)
        shop.remove(today)
        before = f"{today - timedelta(days=1)} 18:00+00"
        shop.put(("i2", "2.25", today, before), ("i1", "1.5", today, before))
        again = extract(project, Interval.of(today), shop.settings)
        assert (again.new, again.known) == (0, 1)
        assert deliveries_of(shop.settings, project.name).height == 1

    def test_other_rows_are_a_correction_and_the_first_rows_again_another_one(
        self, project: Project, shop: PostgreSQL, today: date
    ) -> None:
        shop.put_days([today])
        extract(project, Interval.of(today), shop.settings)
        shop.run("UPDATE shop.prices SET price = 3 WHERE item_id = 'i1'")
        extract(project, Interval.of(today), shop.settings)
        shop.run("UPDATE shop.prices SET price = 1.5 WHERE item_id = 'i1'")
        extract(project, Interval.of(today), shop.settings)
        listed = deliveries_of(shop.settings, project.name).sort("sequence")
        assert listed["verdict"].to_list() == ["landed"] * 3
        assert listed["sha256"][0] == listed["sha256"][2] != listed["sha256"][1]
        assert listed["delivery_id"][2] == f"{listed['delivery_id'][0]}.2"
        assert listed["available_from"].is_sorted()
        raw = rows_of(shop.settings, "raw_drugstore__prices").filter(pl.col("item_id") == "i1").sort("price")
        assert raw["price"].to_list() == ["1.500", "1.500", "3.000"]

    def test_days_are_asked_again_for_corrections_days(
        self, project: Project, shop: PostgreSQL, today: date, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        recent = Interval(start=today - timedelta(days=5), end=today)
        shop.put_days(recent.days)
        extract(project, recent, shop.settings)
        days = asked(monkeypatch)
        extract(project, Interval.of(today), shop.settings)
        assert days == [today - timedelta(days=n) for n in range(4)]

    def test_a_run_date_knows_the_correction_that_its_own_run_found(
        self, project: Project, shop: PostgreSQL, today: date, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`as_of` is the moment of the newest required rows, so these are read after all others."""
        yesterday = today - timedelta(days=1)
        shop.put_days([yesterday, today])
        extract(project, Interval.of(yesterday), shop.settings)
        shop.run(f"UPDATE shop.prices SET price = 3 WHERE valid_on = '{yesterday}'")
        days = asked(monkeypatch)
        assert extract(project, Interval.of(today), shop.settings).new == 2
        assert days == [today, yesterday, today]
        listed = deliveries_of(shop.settings, project.name).sort("sequence")
        assert listed["day"].to_list() == [yesterday, yesterday, today]
        assert listed["available_from"].is_sorted()

    def test_rows_of_history_that_change_after_a_live_run_date_was_prepared_count_from_now(
        self, declare_prices: Load, shop: PostgreSQL, today: date
    ) -> None:
        """A repair of the live run date must not know them."""
        yesterday = today - timedelta(days=1)
        project = declare_prices(live_from=today, corrections_days=3, lookback_days=1)
        shop.put_days([yesterday, today])
        extract(project, Interval.of(today), shop.settings)
        shop.run("UPDATE shop.prices SET price = 3 WHERE item_id = 'i1'")
        extract(project, Interval.of(today), shop.settings)  # nobody has gone live: history is history
        prepared = PreparedDay(
            project=project.name, day=today, data_view="point_in_time", as_of=project.cutoff_at(today), watermark=0,
            deliveries=(), table_versions={}, rows=1,
        )  # fmt: skip
        postgres.days.record_prepared_days(shop.settings, project.name, [prepared])
        before = postgres.journal.read_clock(shop.settings)
        shop.run("UPDATE shop.prices SET price = 4 WHERE item_id = 'i1'")
        extract(project, Interval.of(today), shop.settings)
        listed = deliveries_of(shop.settings, project.name).filter(day=yesterday).sort("sequence")
        cutoff = project.cutoff_at(yesterday)
        assert listed["available_from"].to_list()[:2] == [cutoff, cutoff]
        assert listed["available_from"][2] >= before
        assert listed["verdict"].to_list() == ["landed"] * 3

    def test_a_result_without_rows_corrects_nothing(
        self, project: Project, shop: PostgreSQL, today: date, caplog: pytest.LogCaptureFixture
    ) -> None:
        yesterday = today - timedelta(days=1)
        shop.put_days([yesterday, today])
        extract(project, Interval(start=yesterday, end=today), shop.settings)
        shop.remove(yesterday)
        again = extract(project, Interval.of(today), shop.settings)
        assert (again.new, again.known) == (0, 1)
        assert again.left == (f"sql/prices/{yesterday} (connection shop_db): the query gave no row for {yesterday}",)
        assert f"not extracted: {again.left[0]}" in caplog.text

    def test_a_withdrawn_day_is_extracted_again(self, declare_prices: Load, shop: PostgreSQL) -> None:
        project = declare_prices(AS_OF, live_from=None, lookback_days=0)
        shop.put_days([DAY])
        extract(project, RUN, shop.settings)
        withdraw(project, deliveries_of(shop.settings, project.name)["delivery_id"][0], shop.settings, by="a", why="b")
        assert extract(project, RUN, shop.settings).known == 1  # the same rows stay withdrawn
        shop.run("UPDATE shop.prices SET price = 3 WHERE item_id = 'i1'")
        assert extract(project, RUN, shop.settings).new == 1
        listed = deliveries_of(shop.settings, project.name).sort("sequence")
        assert listed["verdict"].to_list() == ["withdrawn", "landed"]

    def test_a_snapshot_without_parameters_is_the_state_of_now(
        self, declare_prices: Load, shop: PostgreSQL, today: date
    ) -> None:
        keys: dict[str, Any] = {"kind": "snapshot", "live_from": None, "day_column": None, "lookback_days": None}
        project = declare_prices("SELECT item_id, price, valid_on, changed FROM prices", **keys)
        shop.put_days([FIRST])
        for _ in range(2):
            extract(project, Interval.of(today), shop.settings)
        shop.put(("i3", "1", FIRST, f"{FIRST} 00:00+00"))
        extract(project, Interval.of(today), shop.settings)
        listed = deliveries_of(shop.settings, project.name).sort("sequence")
        assert listed.select("key", "day", "rows", "verdict").rows() == [
            ("sql/prices", today, 2, "landed"),
            ("sql/prices", today, 3, "landed"),
        ]

    def test_a_snapshot_of_each_cutoff_replaces_the_one_before(self, declare_prices: Load, shop: PostgreSQL) -> None:
        keys: dict[str, Any] = {"kind": "snapshot", "live_from": None, "day_column": None, "lookback_days": None}
        query = "SELECT item_id, price, valid_on, changed FROM prices WHERE changed <= :as_of"
        project = declare_prices(query, **keys)
        days = [DAY - timedelta(days=1), DAY]
        shop.put_days(days)
        for day in reversed(days):
            extract(project, Interval.of(day), shop.settings)
        listed = deliveries_of(shop.settings, project.name).sort("day")
        assert listed.select("day", "rows", "verdict").rows() == [(days[0], 2, "landed"), (days[1], 4, "landed")]
        assert listed["available_from"].to_list() == [project.cutoff_at(day) for day in days]


class TestWaiting:
    def test_without_rows_a_required_day_waits_and_nothing_else_is_asked(
        self, project: Project, shop: PostgreSQL, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shop.put_days([DAY - timedelta(days=1)])
        days = asked(monkeypatch)
        with pytest.raises(NotYetError, match=f"the query gave no row for {DAY}") as caught:
            extract(project, RUN, shop.settings)
        assert caught.value.by_day.keys() == {DAY}
        assert days == [DAY]
        assert deliveries_of(shop.settings, project.name).is_empty()
        assert missing_rows(project, DAY, shop.settings) == {
            "prices": f"the query of feed prices gave no row for {DAY}"
        }
        shop.put_days([DAY])
        extract(project, RUN, shop.settings)
        assert missing_rows(project, DAY, shop.settings) == {}

    def test_a_try_that_waits_is_recorded_only_if_nobody_asks_again(self, project: Project, shop: PostgreSQL) -> None:
        with pytest.raises(NotYetError):
            run("extract", project, RUN, shop.settings, record_waiting=False)
        assert states(shop.settings) == []
        with pytest.raises(NotYetError):
            run("extract", project, RUN, shop.settings)
        assert states(shop.settings) == ["failed"]

    def test_an_optional_feed_does_not_wait(self, declare_prices: Load, shop: PostgreSQL) -> None:
        project = declare_prices(AS_OF, live_from=None, required=False)
        assert len(extract(project, RUN, shop.settings).left) == 3


class TestRange:
    def test_a_day_that_fails_does_not_keep_others_from_being_extracted(
        self, project: Project, shop: PostgreSQL
    ) -> None:
        interval = Interval(start=FIRST, end=DAY)
        wrong, empty = FIRST + timedelta(days=1), FIRST + timedelta(days=3)
        shop.put_days([day for day in interval.days if day != empty])
        shop.run(f"UPDATE shop.prices SET price = 'NaN', item_id = repeat('x', 200000) WHERE valid_on = '{wrong}'")
        done = run_range("extract", project, interval, interval.days, shop.settings)
        assert {each.day: each.why for each in done.failed}.keys() == {wrong, empty}
        assert "more than 100,000 characters" in done.failed[0].why
        assert f"the query gave no row for {empty}" in done.failed[1].why
        taken = deliveries_of(shop.settings, project.name)["day"].to_list()
        assert taken == [day for day in interval.days if day not in (wrong, empty)]

    def test_any_error_about_a_result_is_one_of_its_day(
        self, project: Project, shop: PostgreSQL, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        interval = Interval(start=FIRST, end=DAY)
        shop.put_days(interval.days)

        def broken(feed: Any, values: Any, *more: Any) -> pl.DataFrame:
            if values["day"] == FIRST:
                raise ValueError("year 0 of Erika Mustermann")
            return run_query(feed, values, *more)

        monkeypatch.setattr(extract_module, "run_query", broken)
        with pytest.raises(
            DeliveryError, match=rf"sql/prices/{FIRST} .*: the result cannot be read \(ValueError\); cast"
        ):
            extract(project, interval, shop.settings)
        assert deliveries_of(shop.settings, project.name)["day"].to_list() == interval.days[1:]

    def test_landing_of_files_does_not_need_them(self, project: Project, shop: PostgreSQL) -> None:
        put_plan(shop.settings, DAY)
        assert land(project, RUN, shop.settings).new == 1
        assert missing_files(project, DAY, shop.settings) == {}


class TestWrong:
    @pytest.mark.parametrize(
        ("query", "why"),
        [
            ("SELECT item_id, price, valid_on FROM prices WHERE valid_on = :day",
             "the result has no column changed"),
            ("SELECT p.*, 1 AS size FROM prices p WHERE valid_on = :day",
             "the result has a column size that is not declared; declare columns.size, or extra_columns: ignore"),
            ("SELECT p.*, 1 AS price FROM prices p WHERE valid_on = :day",
             "the result has 2 columns price; give each a name of its own"),
            ("SELECT item_id, ARRAY[price] AS price, valid_on, changed FROM prices WHERE valid_on = :day",
             r"price is nested: list<.*>; select text, .* such as CAST\(price AS text\)"),
            ("SELECT item_id, price, valid_on, changed::timestamp AS changed FROM prices WHERE valid_on = :day",
             "changed has timestamps without a zone; .* source.timezone: UTC"),
            ("SELECT item_id, price::money AS price, valid_on, changed FROM prices WHERE valid_on = :day",
             r"price is of type money; select CAST\(price AS numeric\) AS price"),
            ("SELECT item_id, '10.0.0.1'::inet AS price, valid_on, changed FROM prices WHERE valid_on = :day",
             r"price is of type inet; select text, .* such as CAST\(price AS text\)"),
            ("SELECT ROW(1, 2) AS price, item_id, valid_on, changed FROM prices WHERE valid_on = :day",
             r"the result has a column of a type that cannot be read \(ArrowInvalid\); select text, .* with CAST"),
            ("WITH a AS (DELETE FROM prices RETURNING *) SELECT * FROM a WHERE valid_on = :day",
             "SQLSTATE 0A000: DECLARE CURSOR must not contain data-modifying statements in WITH"),
            ("SELECT nextval('numbers')::text AS item_id, price, valid_on, changed FROM prices WHERE valid_on = :day",
             r"SQLSTATE 25006: cannot execute nextval\(\) in a read-only transaction"),
            ("SELECT item_id, price, valid_on + 1 AS valid_on, changed FROM prices WHERE valid_on = :day",
             f"2 of 2 rows have a valid_on that is not on {DAY} in Europe/Berlin"),
            ("SELECT nothing FROM prices WHERE valid_on = :day",
             r'the query failed \(ProgrammingError, SQLSTATE 42703: column "nothing" does not exist\)'),
            ("SELECT item_id, item_id::int AS price, valid_on, changed FROM prices WHERE valid_on = :day",
             r"the query failed \(DataError, SQLSTATE 22P02\); correct"),
        ],
    )  # fmt: skip
    def test_a_wrong_query_or_result_is_refused_with_what_to_write(
        self, declare_prices: Load, shop: PostgreSQL, query: str, why: str
    ) -> None:
        project = declare_prices(query, live_from=DAY)
        shop.put_days([DAY])
        shop.run("CREATE SEQUENCE shop.numbers")
        with pytest.raises(DeliveryError, match=why) as caught:
            extract(project, RUN, shop.settings)
        assert caught.value.by_day.keys() == {DAY}
        assert "i1" not in str(caught.value)
        assert deliveries_of(shop.settings, project.name).is_empty()

    def test_a_value_of_another_type_is_found_by_validate(self, declare_prices: Load, shop: PostgreSQL) -> None:
        query = "SELECT item_id, 'n/a'::text AS price, valid_on, changed FROM prices WHERE valid_on = :day"
        project = declare_prices(query, live_from=DAY, lookback_days=0)
        shop.put_days([DAY])
        put_plan(shop.settings, DAY)
        extract(project, RUN, shop.settings)
        land(project, RUN, shop.settings)
        with pytest.raises(DataError, match="malformed values in 2 of 2 rows: price: declared is a number"):
            validate(project, RUN, shop.settings)

    def test_moments_and_dates_without_an_end_are_malformed(self, declare_prices: Load, shop: PostgreSQL) -> None:
        """Other rows of the same result are used."""
        query = (
            "SELECT item_id, 1 AS price, valid_on, CASE item_id WHEN 'i1' THEN 'infinity' WHEN 'i2' THEN '-infinity' "
            "ELSE changed END AS changed FROM prices WHERE valid_on = :day"
        )
        project = declare_prices(query, live_from=DAY, lookback_days=0)
        shop.put_days([DAY])
        shop.put(*((f"j{n}", "1", DAY, f"{DAY} 00:00+00") for n in range(50)))
        put_plan(shop.settings, DAY)
        for step in (extract, land, validate):
            step(project, RUN, shop.settings)
        assert rows_of(shop.settings, "clean_drugstore__prices").height == 50
        quarantined = rows_of(shop.settings, "quarantine_drugstore__prices")
        assert quarantined["changed"].str.starts_with("sealed:").to_list() == [True] * 2

    def test_the_spaces_of_a_char_do_not_count(self, declare_prices: Load, shop: PostgreSQL) -> None:
        query = "SELECT item_id::char(9) AS item_id, price, valid_on, changed FROM prices WHERE valid_on = :day"
        project = declare_prices(query, live_from=DAY, lookback_days=0)
        shop.put_days([DAY])
        extract(project, RUN, shop.settings)
        assert rows_of(shop.settings, "raw_drugstore__prices")["item_id"].to_list() == ["i1", "i2"]

    @pytest.mark.parametrize(
        ("zone", "query", "third"),
        [
            # a date is its midnight in Berlin, where the project is
            (None, "changed >= :day AND changed < :day + 1", "23:30+00"),
            # times without a zone are in that of the source, also where they are compared with the cutoff, 02:00 UTC
            ("Europe/London", "changed AT TIME ZONE 'Europe/London' <= :as_of AND valid_on = :day", "02:30+00"),
        ],
    )
    def test_the_zone_of_the_server_does_not_decide_which_rows_are_of_a_day(
        self, declare_prices: Load, shop: PostgreSQL, zone: str | None, query: str, third: str
    ) -> None:
        select = f"SELECT item_id, price, date '{DAY}' AS valid_on, changed FROM prices WHERE {query}"
        keys: dict[str, Any] = {"live_from": None, "source": {"timezone": zone}} if zone else {}
        project = declare_prices(select, lookback_days=0, **keys)
        shop.put(("i1", "1", DAY, f"{DAY - timedelta(days=1)} 23:30+00"), ("i2", "1", DAY, f"{DAY} 01:30+00"))
        shop.put(("i3", "1", DAY, f"{DAY} {third}"))
        shop.run("ALTER ROLE CURRENT_USER SET timezone = 'America/New_York'")
        try:
            extract(project, RUN, shop.settings)
        finally:
            shop.run("ALTER ROLE CURRENT_USER RESET timezone")
        assert rows_of(shop.settings, "raw_drugstore__prices")["item_id"].to_list() == ["i1", "i2"]

    def test_long_rows_come_in_small_blocks(
        self, declare_prices: Load, shop: PostgreSQL, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        project = declare_prices(live_from=DAY, lookback_days=0)
        shop.run(
            f"INSERT INTO shop.prices SELECT repeat('x', 9990) || n, n, '{DAY}', '{FIRST} 00:00+00' "
            "FROM generate_series(1, 1000) n"
        )
        monkeypatch.setattr(postgresql, "BLOCK_BYTES", 1_000_000)
        url = sa.make_url(shop.settings.sources["shop_db"].get_secret_value())
        source = project.feeds["prices"].source
        assert source is not None
        blocks = postgresql.read_blocks(url, source, {"day": DAY}, "UTC")
        heights = [block.height for block in blocks]
        assert sum(heights) == 1000
        assert max(heights) == 100

    def test_a_result_larger_than_the_limit_is_refused(self, declare_prices: Load, shop: PostgreSQL) -> None:
        project = declare_prices(live_from=DAY, lookback_days=0, limits={"unpacked_mb": 1})
        shop.run(
            "INSERT INTO shop.prices SELECT repeat('x', 100) || n, 1, "
            f"'{DAY}', '{FIRST} 00:00+00' FROM generate_series(1, 25000) n"
        )
        with pytest.raises(DeliveryError, match=r"more than 1 MB, the limit; .* \{unpacked_mb: 2\}"):
            extract(project, RUN, shop.settings)

    def test_many_rows_come_in_blocks(self, declare_prices: Load, shop: PostgreSQL) -> None:
        project = declare_prices(live_from=DAY, lookback_days=0)
        shop.run(f"INSERT INTO shop.prices SELECT n, n, '{DAY}', '{FIRST} 00:00+00' FROM generate_series(1, 25000) n")
        assert extract(project, RUN, shop.settings).rows == 25000
        assert rows_of(shop.settings, "raw_drugstore__prices")["item_id"].n_unique() == 25000


class TestCut:
    """A connection that is lost while rows are read is another try for the DAG, and never a part of the rows."""

    @pytest.mark.parametrize("how", ["terminate", "cancel"])
    def test_the_server_ends_the_query(self, declare_prices: Load, shop: PostgreSQL, how: str) -> None:
        query = "SELECT item_id, price, valid_on, changed FROM prices, pg_sleep(60) WHERE valid_on = :day"
        project = declare_prices(query, live_from=DAY, lookback_days=0)
        shop.put_days([DAY])
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(extract, project, RUN, shop.settings)
            ended = (
                f"SELECT count(pg_{how}_backend(pid)) FROM pg_stat_activity "
                "WHERE wait_event = 'PgSleep' AND datname = current_database()"
            )
            while not running.done() and not shop.value(ended):
                time.sleep(0.1)
            with pytest.raises(UnreachableError, match=rf"{how[:-2]}\w*ing "):
                running.result()
        assert deliveries_of(shop.settings, project.name).is_empty()

    def test_a_query_that_does_not_end_is_ended(
        self, declare_prices: Load, shop: PostgreSQL, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A task cannot end it: while the driver waits, no signal is handled."""
        query = "SELECT item_id, price, valid_on, changed FROM prices, pg_sleep(60) WHERE valid_on = :day"
        project = declare_prices(query, live_from=DAY, lookback_days=0, source={"timeout_minutes": 3})
        shop.put_days([DAY])
        monkeypatch.setattr(postgresql, "MINUTE", 200)
        with pytest.raises(DeliveryError, match=r"took more than 3 minutes, the limit; .* source\.timeout_minutes: 6"):
            extract(project, RUN, shop.settings)
        shop.run("ALTER ROLE CURRENT_USER SET statement_timeout = '100ms'")
        try:
            with pytest.raises(UnreachableError, match="canceling statement due to statement timeout"):
                extract(project, RUN, shop.settings)
        finally:
            shop.run("ALTER ROLE CURRENT_USER RESET statement_timeout")

    @pytest.mark.parametrize("after_bytes", [100, 400_000])
    def test_the_connection_is_cut(self, declare_prices: Load, shop: PostgreSQL, after_bytes: int) -> None:
        project = declare_prices(live_from=DAY, lookback_days=0)
        shop.run(f"INSERT INTO shop.prices SELECT n, n, '{DAY}', '{FIRST} 00:00+00' FROM generate_series(1, 25000) n")
        with cut(shop, after_bytes) as settings, pytest.raises(UnreachableError):
            extract(project, RUN, settings)
        assert deliveries_of(shop.settings, project.name).is_empty()


class TestSecrets:
    """The password is in no message, log, traceback or table."""

    def shown(self, error: BaseException, caplog: pytest.LogCaptureFixture) -> str:
        chain: list[str] = []
        found: BaseException | None = error
        while found is not None:
            chain += [repr(found), str(found)]
            found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)
        return "".join([*chain, *traceback.format_exception(error), caplog.text])

    @pytest.mark.parametrize(
        "url",
        [
            f"postgresql://reader:{PASSWORD}@127.0.0.1:1/shop",
            f"postgresql://reader:{PASSWORD}@127.0.0.1:1/shop?nonsense=1",
            f"sqlite:////nowhere/{PASSWORD}/shop.sqlite",
            f"oracle://reader:{PASSWORD}@127.0.0.1:1/shop",
            f"postgresql://reader:an@{PASSWORD}@127.0.0.1:1/shop",  # its @ is not written as %40
        ],
    )
    def test_a_database_that_does_not_answer_is_named_by_its_connection(
        self, project: Project, settings: Settings, caplog: pytest.LogCaptureFixture, url: str
    ) -> None:
        with pytest.raises(UnreachableError, match=rf"sql/prices/{DAY} \(connection shop_db\): the database") as caught:
            run("extract", project, RUN, settings_of(settings, url))
        assert PASSWORD not in self.shown(caught.value, caplog)
        assert states(settings) == ["failed"]
        assert PASSWORD not in str(step_runs(settings))

    def test_no_url_and_no_connection(
        self, project: Project, settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        with pytest.raises(DeliveryError, match="connection shop_db is not a URL; write it as postgresql://") as caught:
            extract(project, RUN, settings_of(settings, f"no url {PASSWORD}"))
        assert PASSWORD not in self.shown(caught.value, caplog)
        with pytest.raises(DeliveryError, match="there is no connection shop_db; make an Airflow connection"):
            extract(project, RUN, settings)

    def test_a_database_that_is_down_is_tried_once_for_all_days(
        self, project: Project, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        days = asked(monkeypatch)
        down = settings_of(settings, f"postgresql://reader:{PASSWORD}@127.0.0.1:1/shop")
        with pytest.raises(UnreachableError) as caught:
            extract(project, Interval(start=FIRST, end=DAY), down)
        assert len(days) == 1
        assert len(caught.value.by_day) == 5

    def test_identifiers_are_hashed_and_sensitive_columns_dropped(self, declare_prices: Load, shop: PostgreSQL) -> None:
        columns = {
            "item_id": {"type": "string", "class": "public"},
            "price": {"type": "double", "class": "public"},
            "valid_on": {"type": "date", "class": "public"},
            "buyer": {"type": "string", "class": "identifier", "format": "planted-[a-z]+"},
            "email": {"type": "string", "class": "sensitive"},
        }
        query = (
            "SELECT item_id, price, valid_on, 'planted-buyer' AS buyer, 'planted@example.org' AS email FROM prices "
            "WHERE valid_on = :day"
        )
        project = declare_prices(query, live_from=DAY, columns=columns)
        shop.put_days([DAY])
        extract(project, RUN, shop.settings)
        raw = rows_of(shop.settings, "raw_drugstore__prices")
        assert "email" not in raw.columns
        assert raw["buyer"].str.len_chars().to_list() == [32, 32]
        written = b"".join(path.read_bytes() for path in Path(shop.settings.tables).rglob("*") if path.is_file())
        assert b"planted" not in written


class TestPreflight:
    """Before a backfill starts, the databases are reached and the queries are planned; no row is read."""

    def waits(self, project: Project, settings: Settings, first: date = DAY) -> dict[date, list[str]]:
        for day in Interval(start=FIRST, end=DAY).days:
            put_plan(settings, day)
        return preflight(f"{project.name}_prepare", Interval(start=first, end=DAY), settings).waits

    def test_a_query_that_can_be_run_is_no_reason_to_wait(self, declare_prices: Load, shop: PostgreSQL) -> None:
        """It would sleep for a minute on the first row, and there are no rows of the day."""
        project = declare_prices("SELECT p.* FROM prices p, pg_sleep(60) WHERE valid_on = :day")
        shop.put_days([FIRST])
        started = time.monotonic()
        assert self.waits(project, shop.settings) == {}
        assert time.monotonic() - started < 30

    @pytest.mark.parametrize(
        ("query", "why"),
        [
            ("SELECT * FROM absent WHERE valid_on = :day", 'the query failed .* relation "absent" does not exist'),
            ("SELECT item_id, price, valid_on FROM prices WHERE valid_on = :day", "the result has no column changed"),
            ("SELECT p.*, 1 AS size FROM prices p WHERE valid_on = :day", "a column size that is not declared"),
            (
                "SELECT item_id, price::money AS price, valid_on, changed FROM prices WHERE valid_on = :day",
                "type money",
            ),
        ],
    )
    def test_a_wrong_query_is_named_for_each_day_that_needs_it(
        self, declare_prices: Load, shop: PostgreSQL, query: str, why: str
    ) -> None:
        project = declare_prices(query, lookback_days=0)
        found = self.waits(project, shop.settings, DAY - timedelta(days=1))
        assert found.keys() == {DAY - timedelta(days=1), DAY}
        for sentences in found.values():
            [sentence] = sentences
            assert re.fullmatch(rf"feed prices cannot be extracted \(connection shop_db\): .*{why}.*", sentence)

    def test_a_day_that_is_extracted_needs_no_database(self, project: Project, shop: PostgreSQL) -> None:
        shop.put_days([DAY])
        extract(project, RUN, shop.settings)
        down = settings_of(shop.settings, f"postgresql://reader:{PASSWORD}@127.0.0.1:1/shop")
        assert self.waits(project, down) == {}
        found = self.waits(project, down, DAY - timedelta(days=1))
        assert found.keys() == {DAY - timedelta(days=1)}
        assert "Connection refused" in str(found)
        assert PASSWORD not in str(found)

    def test_a_connection_that_is_not_there_is_named(self, project: Project, settings: Settings) -> None:
        assert "there is no connection shop_db; make an Airflow connection" in str(self.waits(project, settings))

    def test_an_optional_feed_is_no_reason_to_wait(self, declare_prices: Load, settings: Settings) -> None:
        assert self.waits(declare_prices(required=False), settings) == {}

    @pytest.mark.parametrize(("table", "why"), [("prices", None), ("absent", "no such table: absent")])
    def test_another_database_is_asked_too(
        self, declare_prices: Load, settings: Settings, tmp_path: Path, table: str, why: str | None
    ) -> None:
        project = declare_prices(f"SELECT * FROM {table} WHERE valid_on = :day")
        found = self.waits(project, Sqlite(settings, tmp_path).settings)
        assert (why is None) == (found == {})
        assert why is None or why in str(found)


class TestKilled:
    @pytest.mark.parametrize(
        ("at", "when"),
        [
            ("include.steps.extract:enter", "before"),  # raw has the rows
            ("include.steps.extract:enter", "after"),
        ],
    )
    def test_killed_around_the_entry_the_next_run_ends_the_same(
        self, project: Project, shop: PostgreSQL, at: str, when: str
    ) -> None:
        shop.put_days(Interval(start=FIRST, end=DAY).days)
        run_and_kill(shop.settings, "extract", RUN, at, 2, when, project.name)  # the newest day; the older are entered
        assert deliveries_of(shop.settings, project.name).height == (2 if when == "before" else 3)
        assert rows_of(shop.settings, "raw_drugstore__prices").height == 6
        assert extract(project, RUN, shop.settings).new == (1 if when == "before" else 0)
        assert deliveries_of(shop.settings, project.name).height == 3
        assert rows_of(shop.settings, "raw_drugstore__prices").height == 6

    def test_two_extractions_at_once_make_one_delivery(self, project: Project, shop: PostgreSQL) -> None:
        shop.put_days([DAY])
        command = {"do": "step", "step": "extract", "start": str(DAY), "end": str(DAY), "project": project.name}
        with processes(shop.settings, 2) as started:
            answers = started.all([command] * 2)
        assert [answer.get("error") for answer in answers] == [None] * 2
        assert sum(answer["new"] for answer in answers) == 1
        assert deliveries_of(shop.settings, project.name).height == 1
        assert rows_of(shop.settings, "raw_drugstore__prices").height == 2

    @pytest.mark.parametrize(
        ("query", "keys", "why"),
        [
            (AS_OF, {"live_from": None}, "another run extracted other rows, sql/prices/.* both count from the cutoff"),
            (PLAIN, {"live_from": DAY}, "it says that it became available at .*, before sql/prices/"),
        ],
    )
    def test_of_two_runs_at_once_the_rows_that_were_read_first_do_not_win(
        self,
        declare_prices: Load,
        shop: PostgreSQL,
        monkeypatch: pytest.MonkeyPatch,
        query: str,
        keys: dict[str, Any],
        why: str,
    ) -> None:
        project = declare_prices(query, lookback_days=0, corrections_days=9999, **keys)
        shop.put_days([DAY])

        def overtaken(*given: Any) -> pl.DataFrame:
            rows = run_query(*given)
            monkeypatch.setattr(extract_module, "run_query", run_query)
            shop.run("UPDATE shop.prices SET price = 3 WHERE item_id = 'i1'")
            extract(project, RUN, shop.settings)
            return rows

        monkeypatch.setattr(extract_module, "run_query", overtaken)
        [held] = extract(project, RUN, shop.settings).held
        assert re.search(why, held)
        listed = deliveries_of(shop.settings, project.name).sort("sequence")
        assert listed["verdict"].to_list() == ["landed", "held"]


class TestSqlite:
    QUERY = (
        "SELECT item_id, price, valid_on, changed, changed <> ':day' AS given FROM prices "
        "WHERE valid_on = :day AND changed <= strftime('%Y-%m-%dT%H:%M:%SZ', :as_of) -- of :day\n"
    )

    def test_rows_of_another_database_come_by_sqlalchemy(
        self, declare_prices: Load, settings: Settings, tmp_path: Path
    ) -> None:
        shop = Sqlite(settings, tmp_path)
        given = {
            "columns": {
                name: {"type": kind, "class": "public"}
                for name, kind in [
                    ("item_id", "string"),
                    ("price", "double"),
                    ("valid_on", "date"),
                    ("changed", "timestamp"),
                    ("given", "integer"),
                ]
            }
        }
        project = declare_prices(self.QUERY, live_from=None, lookback_days=0, **given)
        shop.put(("i2", "0.1", DAY, f"{FIRST}T01:00:00Z"), ("i1", "1e16", DAY, f"{FIRST}T00:00:00Z"))
        shop.put(("i3", "1", DAY, f"{DAY}T12:00:00Z"))  # after the cutoff
        assert extract(project, RUN, shop.settings).new == 1
        raw = rows_of(shop.settings, "raw_drugstore__prices")
        assert raw.select("item_id", "price", "valid_on", "changed", "given").rows() == [
            ("i1", "1.0000000000000000e+16", str(DAY), f"{FIRST}T00:00:00Z", "1"),
            ("i2", "0.1", str(DAY), f"{FIRST}T01:00:00Z", "1"),
        ]
        assert extract(project, RUN, shop.settings).new == 0

    def test_a_file_that_is_not_there_is_not_made(self, project: Project, settings: Settings, tmp_path: Path) -> None:
        path = tmp_path / "absent.sqlite"
        with pytest.raises(UnreachableError, match="unable to open database file"):
            extract(project, RUN, settings_of(settings, f"sqlite:///{path}"))
        assert not path.exists()


def step_runs(settings: Settings) -> list[dict[str, Any]]:
    with postgres.connection.engine(settings).connect() as connection:
        return [dict(row) for row in connection.execute(sa.text("SELECT * FROM step_runs")).mappings()]


def states(settings: Settings) -> list[str]:
    return [row["state"] for row in step_runs(settings)]

"""validate: verdicts, refused deliveries, and the meaning of expectations.yaml.

The whole step with PostgreSQL is in tests/integration/test_prepare.py; here results are kept in a list.
"""

import logging
import re
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from include.config.loading import load_project
from include.core import schemas
from include.core.erasure import Erasures
from include.core.errors import ConfigError, DataError
from include.core.interval import Interval
from include.core.journal import Entry
from include.core.point_in_time import as_of
from include.core.project import Project
from include.core.records import DayRecord, Validated
from include.core.settings import Settings
from include.io.journal import read_journal
from include.io.tables import Scope, Tables
from include.operations.decide import accept, withdraw
from include.operations.simulate import make_frame
from include.quality.expectations import declared_expectations
from include.quality.suites import Suites
from include.steps import delivered
from include.steps.land import land
from include.steps.validate import validate
from include.steps.verdicts import give_verdicts
from tests.deliveries import enter
from tests.landing import (
    DAY,
    days,
    deliver_day,
    deliver_one,
    deliveries_of,
    local,
    logbook,
    rows_of,
    sailings,
    spoil,
    text_of,
    versions,
    winds,
)

RUN_DATE = Interval.of(DAY)
BEFORE = DAY - timedelta(days=1)
KEY = "company, ferry, origin, departs_at"
NOT_NULL = "column_values_to_not_be_null of"
UNIQUE = "column_values_to_be_unique of"
ALL = "share_of_quarantined_rows_to_be_at_most failed (observed 1.0000: 3 of 3 rows, at most 0.05)"
MALFORMED = "malformed values in 3 of 3 rows: "
NULL_LINE = 'format: {kind: csv, null_values: ["NaN"]}'
BOOLEAN_LINE = 'format: {kind: csv, true_values: ["yes"], false_values: ["no"]}'
WORDS = "declared is true or false"
FRACTION = "found numbers with decimals, declared is an integer of 64 bits"
NUMBER = "declared is a number with the decimal separator '.'"

SHARE = "share_of_quarantined_rows_to_be_at_most"
NEAR = {
    "expect": "row_count_to_be_near_history",
    "days": 14,
    "min_ratio": 0.5,
    "max_ratio": 2.0,
    "severity": "critical",
}

EXPECTATIONS = {
    "sailings": [
        {"expect": "table_row_count_to_be_between", "min_value": 1, "max_value": 5, "severity": "critical"},
        {"expect": "column_values_to_be_in_set", "column": "dest", "value_set": ["HOB"], "severity": "critical"},
        {
            "expect": "column_values_to_be_between",
            "column": "distance_miles",
            "max_value": 3000,
            "mostly": 0.6,
            "severity": "warning",
        },
    ],
    "winds": [{"expect": "table_row_count_to_be_between", "min_value": 30, "severity": "warning"}],
}


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return the rows that the step writes to `quality_results`."""
    results: list[dict[str, Any]] = []
    monkeypatch.setattr("include.io.postgres.audit.record_quality", lambda _, found: results.extend(found))
    return results


@pytest.fixture
def project(declare: Callable[[object], Project]) -> Project:
    return declare(EXPECTATIONS)


def verdicts(settings: Settings) -> dict[str, str]:
    """Name of the file, without its folder -> verdict."""
    listed = deliveries_of(settings)
    names = listed["key"].str.split("/").list.last().str.strip_suffix(".csv.gz")
    return dict(zip(names, listed["verdict"], strict=True))


def share(quarantined: int, rows: int) -> str:
    """Return the message about a delivery that would have too many rows in quarantine."""
    observed = f"{quarantined / rows:.4f}: {quarantined} of {rows} rows, at most 0.05"
    return f"share_of_quarantined_rows_to_be_at_most failed (observed {observed})"


def land_and_validate(project: Project, interval: Interval, settings: Settings) -> Validated:
    land(project, interval, settings)
    return validate(project, interval, settings)


class TestVerdicts:
    def test_valid_deliveries_of_a_run_date_are_accepted(
        self, project: Project, settings: Settings, recorded: list[dict[str, Any]]
    ) -> None:
        deliver_day(project, settings, DAY)
        validated = land_and_validate(project, RUN_DATE, settings)
        assert (validated.accepted, validated.refused, validated.rows) == (3, (), 3 + 3 + 18)
        assert set(verdicts(settings).values()) == {"accepted"}
        clean = rows_of(settings, "clean_ferries__sailings")
        assert clean.columns[:4] == ["day", "delivery_id", "_row", "entity_id"]
        assert clean["entity_id"].to_list()[0] == "UA-0-BAT-20130304T1300Z"
        assert clean["departs_at"].to_list()[0] == local(DAY, 8)
        assert clean.drop("day", "delivery_id", "_row", "entity_id").equals(
            sailings(DAY).drop("contact_email").select(clean.columns[4:])
        )
        # a warning is recorded and does not refuse the delivery
        assert validated.warnings == 1
        failed = [result for result in recorded if not result["success"]]
        assert [(r["feed"], r["expectation"], r["severity"]) for r in failed] == [
            ("winds", "table_row_count_to_be_between", "warning")
        ]
        assert (failed[0]["observed"], failed[0]["rows"], failed[0]["unexpected_rows"]) == ("18", None, None)

    def test_a_warning_records_the_number_of_rows(
        self, project: Project, settings: Settings, recorded: list[dict[str, Any]]
    ) -> None:
        deliver_day(project, settings, DAY)
        far = sailings(DAY).with_columns(distance_miles=pl.Series([9000.0, 9000.0, 1.0]))
        deliver_one(project, settings, "sailings", DAY, far, name="far")
        assert land_and_validate(project, RUN_DATE, settings).warnings == 2
        [result] = [r for r in recorded if r["column"] == "distance_miles" and not r["success"]]
        assert (result["rows"], result["unexpected_rows"], result["observed"]) == (3, 2, None)

    def test_a_critical_expectation_refuses_only_the_delivery_that_fails(
        self, project: Project, settings: Settings, recorded: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
    ) -> None:
        deliver_day(project, settings, DAY)
        wrong = sailings(DAY).with_columns(dest=pl.Series(["HOB", "Nowhere", "HOB"]))
        path = deliver_one(project, settings, "sailings", DAY, wrong, at=local(DAY, 1), name="wrong")
        validated = land_and_validate(project, RUN_DATE, settings)
        assert verdicts(settings) == {
            "logbook": "accepted",
            "sailings": "accepted",
            "winds": "accepted",
            "wrong": "refused",
        }
        [refusal] = validated.refused
        assert (refusal.feed, refusal.day, refusal.uri) == ("sailings", DAY, f"file://{path}")
        why = f"column_values_to_be_in_set of dest failed, 1 of 3 rows; {share(1, 3)}"
        assert refusal.why == f"file://{path}: {why}"
        assert f"refused: {refusal.why}" in caplog.text
        listed = deliveries_of(settings).filter(pl.col("verdict") == "refused")
        assert listed["why"].to_list() == [why]
        clean = rows_of(settings, "clean_ferries__sailings")
        assert clean["delivery_id"].unique().str.contains("wrong").to_list() == [False]

    def test_an_expectation_about_the_whole_delivery_is_evaluated_per_delivery(
        self, project: Project, settings: Settings, recorded: list[dict[str, Any]]
    ) -> None:
        """Two deliveries with three rows each are valid; one with six rows is not."""
        deliver_day(project, settings, DAY)
        deliver_one(project, settings, "sailings", DAY, name="again")
        deliver_one(project, settings, "sailings", DAY, sailings(DAY, 6), name="many")
        land_and_validate(project, RUN_DATE, settings)
        assert {name for name, verdict in verdicts(settings).items() if verdict == "refused"} == {"many"}

    def test_mostly_is_evaluated_per_delivery(
        self, project: Project, settings: Settings, recorded: list[dict[str, Any]]
    ) -> None:
        """Two of three rows are too many for one delivery, but few among the rows of all deliveries."""
        deliver_day(project, settings, *days(DAY, 4).days)
        far = sailings(DAY).with_columns(distance_miles=pl.Series([9000.0, 9000.0, 1.0]))
        deliver_one(project, settings, "sailings", DAY, far, name="far")
        land_and_validate(project, days(DAY, 4), settings)
        of_distance = [r for r in recorded if r["column"] == "distance_miles"]
        assert [r["success"] for r in of_distance] == ["far" not in r["delivery_id"] for r in of_distance]
        assert [r["unexpected_rows"] for r in of_distance] == [2 * ("far" in r["delivery_id"]) for r in of_distance]

    def test_an_expectation_that_compares_rows_is_evaluated_per_delivery(
        self, declare: Callable[[object], Project], settings: Settings, recorded: list[dict[str, Any]]
    ) -> None:
        """An outlier of one delivery is not an outlier among rows that vary more."""
        outlier = {
            "expect": "column_value_z_scores_to_be_less_than",
            "column": "distance_miles",
            "severity": "critical",
        }
        project = declare({"sailings": [{**outlier, "threshold": 3, "double_sided": True}]})
        narrow = sailings(DAY, 12).with_columns(distance_miles=pl.Series([10.0] * 11 + [20.0]))
        wide = sailings(DAY, 12).with_columns(distance_miles=pl.Series([0.0, 3000.0] * 6))
        deliver_day(project, settings, DAY)
        deliver_one(project, settings, "sailings", DAY, narrow, name="narrow")
        deliver_one(project, settings, "sailings", DAY, wide, name="wide")
        land_and_validate(project, RUN_DATE, settings)
        assert {name for name, verdict in verdicts(settings).items() if verdict == "refused"} == {"narrow"}

    @pytest.mark.parametrize("feed", ["sailings", "winds", "logbook"])
    def test_a_day_without_an_accepted_delivery_is_not_prepared(
        self, declare: Callable[[object], Project], settings: Settings, recorded: list[dict[str, Any]], feed: str
    ) -> None:
        impossible = {"expect": "table_row_count_to_equal", "value": 77, "severity": "critical"}
        project = declare({feed: [impossible]})
        deliver_day(project, settings, DAY)
        day = project.required(DAY)[feed]
        land(project, RUN_DATE, settings)
        with pytest.raises(DataError) as caught:
            validate(project, RUN_DATE, settings)
        said = str(caught.value).splitlines()
        assert said[0].startswith(f"ferries: {DAY} has no accepted delivery of {feed} of {day}; run land")
        observed = 18 if feed == "winds" else 3
        assert said[1].endswith(f"{feed}.csv.gz: table_row_count_to_equal failed (observed {observed})")
        assert verdicts(settings)[feed] == "refused"
        assert rows_of(settings, f"clean_ferries__{feed}").is_empty()

    def test_after_a_second_delivery_the_day_is_valid_and_as_of_is_its_time(
        self, project: Project, settings: Settings, recorded: list[dict[str, Any]]
    ) -> None:
        deliver_day(project, settings, DAY)
        path = Path(settings.landing) / f"ferries/sailings/{DAY}/sailings.csv.gz"
        spoil(path, text_of(path).replace("HOB", "XXX"))
        with pytest.raises(DataError):
            land_and_validate(project, RUN_DATE, settings)
        second = local(DAY, 9)
        deliver_one(project, settings, "sailings", DAY, at=second, name="second")
        assert land_and_validate(project, RUN_DATE, settings).accepted == 1
        assert as_of(project, read_journal(settings, project), DAY) == second

    def test_rows_that_are_missing_in_raw_tables_are_not_taken_for_an_empty_file(
        self, project: Project, settings: Settings
    ) -> None:
        """As after a restore of raw tables that are older than the journal."""
        deliver_day(project, settings, DAY)
        land(project, RUN_DATE, settings)
        tables = Tables(settings)
        whole = tables.scan("raw_ferries__winds").collect()
        scope = Scope(Interval(start=DAY, end=DAY))
        tables.replace("raw_ferries__winds", whole.clear(), scope, sort_by=["_row"])
        with pytest.raises(DataError, match=r"raw_ferries__winds lacks rows of 1 deliveries .* winds/2013-03-04"):
            validate(project, RUN_DATE, settings)
        assert deliveries_of(settings).filter(pl.col("feed") == "winds")["verdict"].to_list() == ["landed"]

    def test_after_a_rule_is_fixed_the_day_is_valid_and_as_of_moves_back(
        self, declare: Callable[[object], Project], settings: Settings, recorded: list[dict[str, Any]]
    ) -> None:
        strict = [{"expect": "table_row_count_to_equal", "value": 77, "severity": "critical"}]
        project = declare({"winds": strict})
        deliver_day(project, settings, DAY)
        with pytest.raises(DataError):
            land_and_validate(project, RUN_DATE, settings)
        deliver_one(project, settings, "winds", DAY, winds(DAY).head(7), at=local(DAY, 9), name="second")
        strict[0]["value"] = 7
        validated = land_and_validate(declare({"winds": strict}), RUN_DATE, settings)
        assert (validated.accepted, len(validated.refused)) == (1, 1)
        assert as_of(project, read_journal(settings, project), DAY) == local(DAY, 9)
        validated = land_and_validate(declare({}), RUN_DATE, settings)
        assert (validated.accepted, validated.refused) == (1, ())
        assert as_of(project, read_journal(settings, project), DAY) == project.cutoff_at(DAY)

    def test_refused_deliveries_are_validated_again_only_if_the_run_date_reads_them(
        self, project: Project, settings: Settings, recorded: list[dict[str, Any]]
    ) -> None:
        """Otherwise each nightly run would report every delivery that was ever refused."""
        deliver_day(project, settings, *days(DAY, 30).days)
        wrong = sailings(DAY).with_columns(dest=pl.lit("XXX"))
        deliver_one(project, settings, "sailings", DAY, wrong, name="wrong")
        unlike = logbook(BEFORE).with_columns(ferry=pl.lit(1))
        deliver_one(project, settings, "logbook", BEFORE, unlike, name="unlike")
        assert len(land_and_validate(project, days(DAY, 30), settings).refused) == 1
        assert len(validate(project, RUN_DATE, settings).refused) == 1
        assert validate(project, Interval.of(DAY + timedelta(days=1)), settings).refused == ()

    def test_a_second_run_changes_nothing(
        self, project: Project, settings: Settings, recorded: list[dict[str, Any]]
    ) -> None:
        deliver_day(project, settings, DAY)
        wrong = sailings(DAY).with_columns(dest=pl.lit("XXX"))
        deliver_one(project, settings, "sailings", DAY, wrong, name="wrong")
        first = land_and_validate(project, RUN_DATE, settings)
        before = versions(settings)
        again = land_and_validate(project, RUN_DATE, settings)
        assert (again.accepted, again.refused, again.rows) == (0, first.refused, 0)
        assert versions(settings) == before

    def test_clean_rows_of_a_delivery_that_a_stricter_rule_refuses_are_removed(
        self, declare: Callable[[object], Project], settings: Settings, recorded: list[dict[str, Any]]
    ) -> None:
        """This is the state after a kill between clean tables and verdicts; then the rule became stricter."""
        project = declare({})
        deliver_day(project, settings, DAY)
        deliver_one(project, settings, "sailings", DAY, sailings(DAY, 2), name="two")
        land_and_validate(project, RUN_DATE, settings)
        for delivery_id in deliveries_of(settings)["delivery_id"]:
            withdraw(project, delivery_id, settings, by="Ada", why="a mistake")
            accept(project, delivery_id, settings, by="Ada", why="not a mistake")
        three = {"expect": "table_row_count_to_equal", "value": 3, "severity": "critical"}
        validate(declare({"sailings": [three]}), RUN_DATE, settings)
        assert rows_of(settings, "clean_ferries__sailings").height == 3

    def test_the_first_day_has_clean_tables_for_all_feeds(
        self, project: Project, settings: Settings, recorded: list[dict[str, Any]]
    ) -> None:
        """The logbook is not required yet, but later steps need its clean table."""
        first = project.first_day
        deliver_day(project, settings, first)
        land_and_validate(project, Interval.of(first), settings)
        assert rows_of(settings, "clean_ferries__logbook").is_empty()

    def test_deliveries_of_a_feed_that_is_no_longer_declared_are_ignored(
        self, declare: Callable[[object], Project], settings: Settings, recorded: list[dict[str, Any]]
    ) -> None:
        project = declare({})
        deliver_day(project, settings, DAY)
        land(project, RUN_DATE, settings)
        without = {name: feed for name, feed in project.feeds.items() if name != "winds"}
        assert validate(project.model_copy(update={"feeds": without}), RUN_DATE, settings).accepted == 2


class TestMissingRows:
    """Accepted deliveries lack rows after a restore of the journal, or after a kill in the middle of writing them."""

    @pytest.fixture
    def accepted(
        self, declare: Callable[[object], Project], settings: Settings, recorded: list[dict[str, Any]]
    ) -> Project:
        """Deliver the sailings of DAY twice: the first has a row in quarantine."""
        in_set = {"expect": "column_values_to_be_in_set", "column": "dest", "value_set": ["HOB"]}
        project = declare({"sailings": [{**in_set, "severity": "critical"}]})
        frame = sailings(DAY, 40)
        wrong = frame.with_columns(dest=pl.when(pl.col("ferry") == 0).then(pl.lit("XXX")).otherwise("dest"))
        deliver_one(project, settings, "sailings", DAY, wrong, name="wrong")
        deliver_day(project, settings, DAY)
        land_and_validate(project, RUN_DATE, settings)
        assert rows_of(settings, "quarantine_ferries__sailings").height == 1
        return project

    def ids(self, settings: Settings) -> dict[str, str]:
        of_sailings = deliveries_of(settings).filter(pl.col("feed") == "sailings")["delivery_id"]
        return {"wrong" if "wrong" in each else "right": each for each in of_sailings}

    def lose(self, settings: Settings, table: str, delivery_id: str) -> pl.DataFrame:
        """Remove the rows of a delivery of DAY from a table; return the whole table before."""
        before = rows_of(settings, table)
        scope = Scope.of_deliveries([DAY], [delivery_id])
        Tables(settings).replace(table, before.clear(), scope, sort_by=["_row"])
        return before

    @pytest.mark.parametrize(
        ("table", "which"),
        [
            ("clean_ferries__sailings", "wrong"),
            ("clean_ferries__sailings", "right"),
            ("quarantine_ferries__sailings", "wrong"),
        ],
    )
    def test_a_delivery_is_made_whole_again_beside_another_of_its_day(
        self, accepted: Project, settings: Settings, table: str, which: str
    ) -> None:
        before = self.lose(settings, table, self.ids(settings)[which])
        assert validate(accepted, RUN_DATE, settings).accepted == 1
        assert rows_of(settings, table).equals(before)
        assert validate(accepted, RUN_DATE, settings).accepted == 0

    def test_a_withdrawn_delivery_that_a_record_names_has_its_rows_again(
        self, accepted: Project, settings: Settings
    ) -> None:
        wrong, right = self.ids(settings)["wrong"], self.ids(settings)["right"]
        record = DayRecord(
            day=DAY, number=1, as_of=local(DAY, 3), watermark=6, deliveries=(wrong,), reconstructed=False
        )
        enter(settings, accepted, [Entry.prepared_day(record)])
        for delivery_id in (wrong, right):
            withdraw(accepted, delivery_id, settings, by="Ada", why="a wrong file")
            self.lose(settings, "clean_ferries__sailings", delivery_id)
        validated = validate(accepted, RUN_DATE, settings)
        assert (validated.accepted, validated.rows) == (0, 39)
        assert rows_of(settings, "clean_ferries__sailings").height == 39
        assert set(deliveries_of(settings).filter(pl.col("feed") == "sailings")["verdict"]) == {"withdrawn"}
        assert validate(accepted, RUN_DATE, settings).rows == 0

    def test_rows_of_days_that_the_run_date_does_not_read_are_not_counted(
        self, accepted: Project, settings: Settings
    ) -> None:
        """Reading the tables of all days each night would cost too much; a run of the day itself finds them."""
        self.lose(settings, "clean_ferries__sailings", self.ids(settings)["right"])
        later = DAY + timedelta(days=60)
        deliver_day(accepted, settings, later)
        land(accepted, Interval.of(later), settings)
        assert validate(accepted, Interval.of(later), settings).accepted == 3
        assert validate(accepted, RUN_DATE, settings).accepted == 1


class TestAlways:
    """Rules for clean tables that hold whatever expectations.yaml contains."""

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (pl.lit("abc").alias("distance_miles"), f"{MALFORMED}distance_miles: {NUMBER}; {ALL}"),
            (
                pl.lit("NaN").alias("distance_miles"),
                f"{MALFORMED}distance_miles: found NaN, {NUMBER}; if that means no value, declare {NULL_LINE}; {ALL}",
            ),
            (
                pl.lit("1.5").alias("ferry"),
                f"{MALFORMED}ferry: {FRACTION}; {NOT_NULL} ferry failed, 3 of 3 rows; {ALL}",
            ),
            (
                pl.lit("yes").alias("is_holiday"),
                f"{MALFORMED}is_holiday: found yes and no, {WORDS}; if that is right, declare {BOOLEAN_LINE}; {ALL}",
            ),
            (pl.lit(None, pl.String).alias("company"), f"{NOT_NULL} company failed, 3 of 3 rows; {ALL}"),
            (
                (pl.col("ferry") // 2, pl.lit("BAT").alias("origin"), pl.col("departs_at").first()),
                f"compound_columns_to_be_unique of {KEY} failed, 2 of 3 rows; {UNIQUE} entity_id failed, 2 of 3 rows",
            ),
        ],
        ids=["text", "NaN", "fraction", "word", "no key", "key twice"],
    )
    def test_unreadable_values_and_missing_or_repeated_keys_are_refused(
        self,
        declare: Callable[[object], Project],
        settings: Settings,
        recorded: list[dict[str, Any]],
        change: Any,
        said: str,
    ) -> None:
        project = declare({})
        deliver_day(project, settings, DAY)
        deliver_one(project, settings, "sailings", DAY, sailings(DAY).with_columns(change), name="wrong")
        validated = land_and_validate(project, RUN_DATE, settings)
        assert [refusal.why.split(": ", 1)[1] for refusal in validated.refused] == [said]

    def test_two_departures_within_a_minute_are_two_entities(
        self, declare: Callable[[object], Project], settings: Settings, recorded: list[dict[str, Any]]
    ) -> None:
        project = declare({})
        seconds = pl.col("departs_at").first() + pl.duration(seconds=pl.int_range(pl.len()))
        close = sailings(DAY).with_columns(seconds, ferry=pl.lit(1), origin=pl.lit("BAT"))
        for feed, day in project.required(DAY).items():
            deliver_one(project, settings, feed, day, close if feed == "sailings" else None)
        assert land_and_validate(project, RUN_DATE, settings).refused == ()
        assert rows_of(settings, "clean_ferries__sailings")["entity_id"].to_list() == [
            "UA-1-BAT-20130304T1300Z",
            "UA-1-BAT-20130304T130001Z",
            "UA-1-BAT-20130304T130002Z",
        ]

    @pytest.mark.parametrize(
        ("column", "text", "why", "said"),
        [
            ("departs_at", "24-03-04T20:00:00Z", "departs_at: found ", "departs_at (found 24-03-04T20:00:00Z)"),
            ("departs_at", "2013-03-04 13:00:00", "departs_at: found 2013-03-04 13:00:00, declared is a", ""),
            (
                "departs_at",
                "9999-12-31T23:59:59-05:00",
                "departs_at: found a year outside of 1000 to 9999",
                "departs_at (found 9999-12-31T23:59:59-05:00)",
            ),
            (
                "departs_at",
                "someone@example.org",
                "departs_at: declared is a",
                "departs_at (found aaaaaaa@aaaaaaa.aaa)",
            ),
            ("dest", "HO\x00B", "dest: found text with a NUL character", "dest (found text with a NUL character)"),
            ("company", "U" * 1500, "entity_id: longer than 1,024 bytes", "entity_id (found 1,521 bytes)"),
        ],
    )
    def test_what_cannot_be_stored_is_named_with_its_line(
        self,
        declare: Callable[[object], Project],
        settings: Settings,
        recorded: list[dict[str, Any]],
        caplog: pytest.LogCaptureFixture,
        column: str,
        text: str,
        why: str,
        said: str,
    ) -> None:
        """Later, the publish of the whole day fails, or a client cannot read the view."""
        project = declare({"sailings": [{"expect": SHARE, "max_value": 0.5, "severity": "critical"}]})
        deliver_day(project, settings, DAY)
        frame = sailings(DAY).with_columns(pl.col("departs_at").dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
        wrong = pl.when(pl.int_range(pl.len()) == 1).then(pl.lit(text)).otherwise(pl.col(column)).alias(column)
        path = deliver_one(project, settings, "sailings", DAY, frame.with_columns(wrong), at=local(DAY, 4), name="odd")
        validated = land_and_validate(project, RUN_DATE, settings)
        assert (validated.refused, validated.quarantined) == ((), 1)
        assert rows_of(settings, "quarantine_ferries__sailings")["_row"].to_list() == [3]
        assert f"sailings {DAY}, file://{path}: malformed values in 1 of 3 rows: {why}" in caplog.text
        assert re.search(rf"; line 3 \(.*\): malformed: {re.escape(said)}", caplog.text)

    def test_an_identifier_in_a_wrong_format_is_refused(
        self, declare: Callable[[object], Project], settings: Settings, recorded: list[dict[str, Any]]
    ) -> None:
        project = declare({})
        deliver_day(project, settings, DAY)
        wrong = logbook(BEFORE).with_columns(vessel=pl.Series(["N1AB", "someone@example.org", None]))
        deliver_one(project, settings, "logbook", BEFORE, wrong, name="wrong")
        [refusal] = land_and_validate(project, RUN_DATE, settings).refused
        malformed = "malformed values in 1 of 3 rows: vessel: a value does not match its format"
        assert refusal.why.endswith(f"wrong.csv.gz: {malformed}; {share(1, 3)}")

    def test_malformed_columns_are_named(self, declare: Callable[[object], Project]) -> None:
        project = declare({})
        raw = pl.DataFrame({
            "day": [DAY],
            "delivery_id": ["x"],
            "_row": [2],
            "_malformed": ["vessel"],
            **{name: ["?"] for name in project.feeds["logbook"].columns},
        })
        assert schemas.typed_rows(project, project.feeds["logbook"], raw)["_malformed"].to_list() == [
            "vessel,company,ferry,origin,dest,departs_at,wait_minutes,delay_minutes,crossing_minutes"
        ]


class TestExpectationsFile:
    @pytest.mark.parametrize(
        ("declared", "said"),
        [
            ({"sailingss": []}, "no feed 'sailingss'; did you mean 'sailings'?"),
            (
                {"winds": [{"expect": "column_value_to_be_between", "severity": "critical"}]},
                "winds, entry 1: no expectation 'column_value_to_be_between'; did you mean 'column_values_to_be_betw",
            ),
            (
                {"winds": [{"expect": "table_row_count_to_equal", "value": 1}]},
                "winds, entry 1: table_row_count_to_equal: severity must be critical or warning",
            ),
            (
                {"winds": [{"expect": "table_row_count_to_equal", "value": 1, "severity": "info"}]},
                "severity must be critical or warning",
            ),
            (
                {"winds": [{"expect": "table_row_count_to_equal", "valu": 1, "severity": "warning"}]},
                "winds, entry 1: table_row_count_to_equal:",
            ),
            (
                {"winds": [{"expect": "table_row_count_to_equal", "valu": 1, "severity": "warning"}]},
                "no argument 'valu'; did you mean 'value'?",
            ),
            (
                {"winds": [{"expect": "share_of_quarantined_row_to_be_at_most", "severity": "critical"}]},
                "did you mean 'share_of_quarantined_rows_to_be_at_most'?",
            ),
            (
                {"winds": [{"expect": SHARE, "max_valu": 0.1, "severity": "critical"}]},
                f"winds, entry 1: {SHARE}: no argument 'max_valu'; did you mean 'max_value'?",
            ),
            ({"winds": [{"expect": SHARE, "severity": "critical"}]}, "max_value field required"),
            ({"winds": [{"expect": SHARE, "max_value": 5, "severity": "critical"}]}, "less than or equal to 1"),
            ({"winds": [{"expect": SHARE, "max_value": 0.1}]}, "severity must be critical or warning"),
            ({"winds": [{**NEAR, "day": 7}]}, f"{NEAR['expect']}: no argument 'day'; did you mean 'days'?"),
            ({"winds": [{**NEAR, "days": 6}]}, "days ensure this value is greater than or equal to 7"),
            ({"winds": [{**NEAR, "max_ratio": 0.5}]}, "max_ratio ensure this value is greater than or equal to 1"),
            (
                {"winds": [{"expect": "column_values_to_not_be_null", "column": "orign", "severity": "warning"}]},
                "winds, entry 1: column_values_to_not_be_null: clean has no column 'orign'; did you mean 'origin'?",
            ),
            (
                {
                    "sailings": [
                        {"expect": "compound_columns_to_be_unique", "column_list": ["dest", "x"], "severity": "warning"}
                    ]
                },
                "clean has no column 'x'",
            ),
            (
                {
                    "sailings": [
                        {"expect": "column_values_to_not_be_null", "column": "contact_email", "severity": "warning"}
                    ]
                },
                "clean has no column 'contact_email'",
            ),
            ({"winds": ["table_row_count_to_equal"]}, "winds, entry 1: must be a mapping with expect, severity"),
            (
                "winds:\n- {expect: x, severity: warning}\n",
                "expectations.yaml, line 2: winds, entry 1: no expectation",
            ),
            ("winds: [", "not YAML"),
            ("- winds", "must be a mapping of keys"),
        ],
    )
    def test_an_error_names_its_place_in_the_file(
        self, declare: Callable[[object], Project], declared: object, said: str
    ) -> None:
        project = declare(declared)
        with pytest.raises(ConfigError) as caught:
            declared_expectations(project)
        assert str(caught.value).startswith(str(project.folder / "expectations.yaml"))
        assert said in str(caught.value)

    def test_an_expectation_that_cannot_be_evaluated_is_an_error(
        self, declare: Callable[[object], Project], settings: Settings, recorded: list[dict[str, Any]]
    ) -> None:
        """Great Expectations catches the error and reports a failure, so that a warning would let the delivery pass."""
        wrong = {"expect": "column_values_to_be_between", "column": "dest", "min_value": 1, "severity": "warning"}
        project = declare({"sailings": [wrong]})
        deliver_day(project, settings, DAY)
        land(project, RUN_DATE, settings)
        with pytest.raises(
            ConfigError, match=r"line 2: sailings, entry 1: column_values_to_be_between of dest \(string\) cannot be "
        ):
            validate(project, RUN_DATE, settings)
        assert set(verdicts(settings).values()) == {"landed"}

    def test_every_expectation_has_a_result(
        self, declare: Callable[[object], Project], settings: Settings, recorded: list[dict[str, Any]]
    ) -> None:
        """One result per delivery and expectation, in order, even if two expectations are equal."""
        twice = {"expect": "table_row_count_to_be_between", "min_value": 1, "severity": "warning"}
        project = declare({"sailings": [twice, {**twice, "severity": "critical"}, twice]})
        deliver_day(project, settings, *days(DAY, 2).days)
        land_and_validate(project, days(DAY, 2), settings)
        of_sailings = [(r["expectation"], r["column"], r["severity"]) for r in recorded if r["feed"] == "sailings"]
        once = [
            ("column_values_to_be_null", "_malformed", "critical"),
            *[("column_values_to_not_be_null", name, "critical") for name in project.feeds["sailings"].key],
            ("compound_columns_to_be_unique", ", ".join(project.feeds["sailings"].key), "critical"),
            ("column_values_to_be_unique", "entity_id", "critical"),
            ("table_row_count_to_be_between", "", "warning"),
            ("table_row_count_to_be_between", "", "critical"),
            ("table_row_count_to_be_between", "", "warning"),
            ("share_of_quarantined_rows_to_be_at_most", "", "critical"),
        ]
        assert of_sailings == once * 2


@pytest.fixture(scope="module")
def typed() -> dict[str, list[pl.DataFrame]]:
    """Map each feed to typed rows of three days and the first day."""
    project = load_project("ferries")
    frames = {}
    for name, feed in project.feeds.items():
        some = [make_frame(project, name, day) for day in (*days(DAY, 3).days, project.first_day)]
        frames[name] = [
            frame.select([*feed.kept]).with_columns(
                schemas.entity_id(project) if schemas.has_entity(project, feed) else [],
                _malformed=pl.lit(None, pl.String),
            )
            for frame in some
        ]
    return frames


class TestProject:
    """The expectations of the project, on its simulated days."""

    def test_deliveries_evaluated_together_and_alone_have_the_same_results(
        self, typed: dict[str, list[pl.DataFrame]]
    ) -> None:
        """The deliveries have every kind of fault."""
        suites = Suites(load_project("ferries"))
        faulty = {
            "sailings": [
                pl.lit(1.0).alias("distance_miles"),
                pl.lit("bat").alias("origin"),
                pl.when(pl.col("ferry") > 150).then(pl.lit("2599")).alias("arrives_local"),
            ],
            "winds": [pl.lit(None, pl.Float64).alias("pressure_millibars"), pl.col("wind_speed_mph") + 145],
            "logbook": [pl.lit(None, pl.Float64).alias("delay_minutes"), pl.col("ferry").first()],
        }
        failed = 0
        for feed, frames in typed.items():
            spoiled = [frame.with_columns(fault) for frame, fault in zip(frames, faulty[feed], strict=False)]
            every = [*frames, *spoiled, frames[0].head(3), pl.concat([frames[0], frames[0]])]
            together = suites.findings(feed, every)
            assert together == [suites.findings(feed, [frame])[0] for frame in every]
            failed += sum(not finding.success for findings in together for finding in findings)
            assert all(finding.success for finding in suites.findings(feed, frames[:1])[0])
        assert failed > 10

    def test_great_expectations_prints_and_logs_nothing(
        self, typed: dict[str, list[pl.DataFrame]], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """No log lines, progress bars or warnings (a regular expression with groups would warn for each delivery)."""
        caplog.set_level(logging.INFO)
        suites = Suites(load_project("ferries"))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for feed, frames in typed.items():
                suites.findings(feed, frames[:2])
        assert [record.getMessage() for record in caplog.records] == []
        assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("values", "deliveries", "sizes"),
    [(20_000_000, 300, [5]), (20_000_000, 2, [2, 2, 1]), (200, 300, [1, 1, 3]), (1, 300, [1] * 5)],
)
def test_large_deliveries_are_not_in_memory_together(
    project: Project, monkeypatch: pytest.MonkeyPatch, values: int, deliveries: int, sizes: list[int]
) -> None:
    width = len(project.feeds["sailings"].kept)
    rows = pl.DataFrame({"feed": ["sailings"] * 5, "rows": [190 // width, 1000, 0, 1, 100 // width], "size": [1] * 5})
    monkeypatch.setattr(delivered, "BLOCK_VALUES", values)
    monkeypatch.setattr(delivered, "BLOCK_DELIVERIES", deliveries)
    chunks = [*delivered.chunks(project, rows)]
    assert [chunk.height for chunk in chunks] == sizes
    assert pl.concat(chunks).equals(rows)


SPLIT = {
    "sailings": [
        {"expect": SHARE, "max_value": 0.9, "severity": "critical"},
        {"expect": "column_values_to_be_in_set", "column": "dest", "value_set": ["HOB"], "severity": "critical"},
        {
            "expect": "column_values_to_be_between",
            "column": "distance_miles",
            "max_value": 3000,
            "severity": "critical",
        },
        {"expect": "column_mean_to_be_between", "column": "distance_miles", "max_value": 9, "severity": "warning"},
    ],
    "logbook": [{"expect": SHARE, "max_value": 0.9, "severity": "critical"}],
}


def deliver_faulty(project: Project, settings: Settings) -> None:
    """Deliver sailings of which some are malformed, or break one rule or two, and a logbook with a key twice."""
    text = text_of(path := deliver_one(project, settings, "sailings", DAY, sailings(DAY, 40)))
    lines = text.splitlines(keepends=True)
    for at, (old, new) in {
        3: ("2454.0", "far"),
        8: ("HOB", "XYZ"),
        21: ("2454.0", "9000.0"),
        39: ("HOB", "XYZ"),
    }.items():
        lines[at] = lines[at].replace(old, new)
    lines[39] = lines[39].replace("2454.0", "9000.0")
    spoil(path, "".join(lines))
    twice = logbook(BEFORE, [5.0] * 9)
    deliver_one(project, settings, "logbook", BEFORE, pl.concat([twice, twice.tail(1)]))
    deliver_one(project, settings, "winds", DAY)


@pytest.mark.parametrize("values", [60, 200])
def test_results_do_not_depend_on_how_rows_are_cut(
    declare: Callable[[object], Project],
    settings: Settings,
    recorded: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    values: int,
) -> None:
    """One verdict, the same rows and results; what is there already is not written again."""
    project = declare(SPLIT)
    deliver_faulty(project, settings)
    land(project, RUN_DATE, settings)
    with pytest.raises(DataError):  # the logbook is refused
        validate(project, RUN_DATE, settings)
    layers = ["clean_ferries__sailings", "quarantine_ferries__sailings", "clean_ferries__logbook"]
    whole = [rows_of(settings, table) for table in layers]
    assert [frame.height for frame in whole] == [36, 4, 0]
    listed, results, written = deliveries_of(settings), [*recorded], versions(settings)
    assert [r["quarantined_rows"] for r in results if r["feed"] == "sailings" and r["quarantined_rows"]] == [1, 2, 2]

    monkeypatch.setattr(delivered, "BLOCK_VALUES", values)

    def again() -> None:
        recorded.clear()
        given = give_verdicts(project, listed, settings, listed=listed, erased=Erasures())
        assert (given.accepted, given.rows, given.quarantined, len(given.refused)) == (2, 36 + 18, 4, 1)
        assert [repr(result) for result in recorded] == [repr(result) for result in results]
        assert deliveries_of(settings).equals(listed)
        assert all(rows_of(settings, table).equals(frame) for table, frame in zip(layers, whole, strict=True))

    again()
    assert versions(settings) == written
    scope = Scope.of_deliveries(listed["day"].to_list(), listed["delivery_id"].to_list())
    for table, frame in zip(layers, whole, strict=True):
        Tables(settings).replace(table, frame.clear(), scope, sort_by=["_row"])
    again()

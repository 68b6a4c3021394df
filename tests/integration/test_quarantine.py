"""Quarantine, refusals and revalidate, with Delta and PostgreSQL.

These tests check which rows are held back, which messages are written, and that these contain no personal data.
"""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from include import cli
from include.config.loading import load_project
from include.core.errors import ConfigError, DataError
from include.core.feeds import QuarantineLateRows
from include.core.interval import Interval
from include.core.point_in_time import current_as_of, known_deliveries
from include.core.project import Project
from include.core.records import PreparedDay, Revalidated, Validated
from include.core.settings import Settings
from include.io import postgres
from include.io.journal import read_journal
from include.io.tables import Tables
from include.operations.revalidate import revalidate
from include.operations.simulate import simulate
from include.runner.run import run
from include.steps import delivered
from include.steps import verdicts as verdicts_module
from include.steps.land import land
from include.steps.validate import validate
from tests.conftest import Install
from tests.integration.processes import processes, run_and_kill
from tests.integration.small import select
from tests.landing import (
    DAY,
    EMAIL,
    VESSEL,
    days,
    deliver_day,
    deliver_one,
    deliveries_of,
    local,
    logbook,
    rows_of,
    sailings,
    versions,
)

pytestmark = pytest.mark.timeout(300)

RUN_DATE = Interval.of(DAY)
BEFORE = DAY - timedelta(days=1)
KEY = {"company": "UA", "ferry": "3", "origin": "BAT", "departs_at": "2013-03-04T14:03:00Z"}

Declare = Callable[[object], Project]

IN_SET = {"expect": "column_values_to_be_in_set", "column": "dest", "value_set": ["HOB"], "severity": "critical"}
NEAR = {
    "expect": "row_count_to_be_near_history",
    "days": 28,
    "min_ratio": 0.5,
    "max_ratio": 2.0,
    "severity": "critical",
}


@pytest.fixture
def project() -> Project:
    return load_project("ferries")


def spoiled(count: int = 40, **wrong: dict[int, Any]) -> pl.DataFrame:
    """Return `sailings` with other text in some rows (counted from 0) of some columns."""
    frame = sailings(DAY, count)
    for column, values in wrong.items():
        text = frame[column].dt.strftime("%Y-%m-%dT%H:%M:%SZ") if column == "departs_at" else frame[column]
        text = text.cast(pl.String)
        frame = frame.with_columns(pl.Series(column, [values.get(n, value) for n, value in enumerate(text)]))
    return frame


def many_logbook(day: date, count: int = 40, **wrong: str) -> pl.DataFrame:
    """Return a logbook with valid identifiers; the first row has other text in some columns."""
    first = [
        pl.Series(column, [text, *["N1AB" if column == "vessel" else "HOB"] * (count - 1)])
        for column, text in wrong.items()
    ]
    return logbook(day, [1.0] * count).with_columns(pl.lit("N1AB").alias("vessel")).with_columns(first)


def deliver_spoiled(project: Project, settings: Settings, frame: pl.DataFrame) -> None:
    """Deliver what DAY requires, with this frame as `sailings`."""
    for feed in ("winds", "logbook"):
        deliver_one(project, settings, feed, project.required(DAY)[feed])
    deliver_one(project, settings, "sailings", DAY, frame)


def land_and_validate(project: Project, settings: Settings, interval: Interval = RUN_DATE) -> Validated:
    land(project, interval, settings)
    return validate(project, interval, settings)


def failed(settings: Settings, feed: str = "sailings", day: date = DAY) -> dict[str, dict[str, Any]]:
    """Map each failed expectation and column to its only row in quality_results."""
    rows = select(settings, "SELECT * FROM quality_results WHERE NOT success ORDER BY id")
    rows = [row for row in rows if (row["feed"], row["day"]) == (feed, day)]
    found = {f"{row['expectation']} {row['column_name'] or ''}".strip(): row for row in rows}
    assert len(found) == len(rows)
    return found


def verdicts(settings: Settings) -> dict[tuple[str, str], str]:
    """Feed and day -> verdict."""
    listed = deliveries_of(settings).select("feed", pl.col("day").cast(pl.String), "verdict")
    return {(feed, day): verdict for feed, day, verdict in listed.rows()}


def contents(settings: Settings) -> dict[str, pl.DataFrame]:
    found = {}
    for table in versions(settings):
        rows = rows_of(settings, table)
        found[table] = rows.sort(rows.columns)
    found["deliveries"] = deliveries_of(settings).drop("uri", "sequence")
    return found


def assert_same(left: dict[str, pl.DataFrame], right: dict[str, pl.DataFrame]) -> None:
    assert left.keys() == right.keys()
    for table, rows in left.items():
        assert rows.equals(right[table]), table


class TestRows:
    def test_rows_of_another_date_are_quarantined(self, project: Project, settings: Settings) -> None:
        """They stay there when `late_rows` is no longer declared: in clean they would be rows of the wrong day."""
        feed = project.feeds["sailings"].model_copy(
            update={"late_rows": QuarantineLateRows(kind="quarantine", at_most=0.05)}
        )
        lenient = project.model_copy(update={"feeds": {**project.feeds, "sailings": feed}})
        deliver_spoiled(project, settings, spoiled(departs_at={3: "2013-03-03T15:07:00Z", 5: "2013-03-05T04:59:00Z"}))
        validated = land_and_validate(lenient, settings)
        assert (validated.accepted, validated.quarantined) == (3, 1)  # 04:59 UTC is still DAY in New York
        kept = rows_of(settings, "quarantine_ferries__sailings")
        assert kept.select("ferry", "_malformed", "rule").rows() == [("3", "departs_at", "malformed values")]
        said = "departs_at: a row is of another date than the file (2013-03-04)"
        assert failed(settings)["column_values_to_be_null _malformed"]["observed"] == said
        before = contents(settings)
        revalidate(project, RUN_DATE, settings)
        assert_same(contents(settings), before)

    def test_rows_that_break_a_critical_rule_are_quarantined_and_others_pass(
        self, project: Project, settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        wrong = spoiled(dest={3: "Nowhere", 7: "nowhere"}, origin={3: "XXX"}, distance_miles={7: "far"})
        deliver_spoiled(project, settings, wrong)
        caplog.set_level("INFO")
        validated = land_and_validate(project, settings)
        assert (validated.accepted, validated.refused, validated.quarantined) == (3, (), 2)
        assert validated.rows == 38 + 18 + 3
        assert verdicts(settings)["sailings", str(DAY)] == "accepted"

        kept = rows_of(settings, "quarantine_ferries__sailings")
        delivery_id = rows_of(settings, "clean_ferries__sailings")["delivery_id"][0]
        assert kept.columns == [
            *("day", "delivery_id", "_row", "_malformed", "company", "ferry", "origin", "dest"),
            *("departs_at", "arrives_local", "distance_miles", "is_holiday", "rule", "run_id"),
        ]
        assert kept.select("day", "delivery_id", "_row", "_malformed").rows() == [
            (DAY, delivery_id, 5, None),
            (DAY, delivery_id, 9, "distance_miles"),
        ]
        assert kept["rule"].to_list() == [
            "column_values_to_be_in_set of origin; column_values_to_match_regex of dest",
            "malformed values; column_values_to_match_regex of dest",
        ]
        assert kept.select("ferry", "dest", "is_holiday", "run_id").rows() == [
            ("3", "Nowhere", "false", "test"),
            ("7", "nowhere", "false", "test"),
        ]
        distance, far = kept["distance_miles"]
        assert (distance, far[:7]) == ("2454.0", "sealed:")  # "far" is no number
        clean = rows_of(settings, "clean_ferries__sailings")
        assert sorted(clean["ferry"]) == [n for n in range(40) if n not in (3, 7)]

        results = failed(settings)
        regex = results["column_values_to_match_regex dest"]
        assert (regex["quarantined_rows"], regex["unexpected_rows"], regex["rows_evaluated"]) == (2, 2, 40)
        assert regex["examples"] == [
            {"row": 5, "key": {**KEY, "origin": "XXX"}, "value": "Nowhere"},
            {
                "row": 9,
                "key": {**KEY, "ferry": "7", "origin": "PAU", "departs_at": "2013-03-04T15:07:00Z"},
                "value": "nowhere",
            },
        ]
        malformed = results["column_values_to_be_null _malformed"]
        assert malformed["examples"][0]["value"].startswith("malformed: distance_miles (found ")
        counted = select(settings, "SELECT column_name, quarantined_rows FROM quarantine_counts ORDER BY 1")
        assert [tuple(row.values()) for row in counted] == [("_malformed", 1), ("dest", 2), ("origin", 1)]
        warned = results["table_row_count_to_be_between"]
        assert (warned["severity"], warned["quarantined_rows"], warned["examples"]) == ("warning", 0, [])

        [line] = [record for record in caplog.records if "_to_match_regex of dest" in record.getMessage()]
        assert line.levelname == "WARNING"
        said = line.getMessage()
        assert said.startswith(f"sailings {DAY}, file://")
        assert "sailings.csv.gz: column_values_to_match_regex of dest failed, 2 of 40 rows; line 5 (company UA" in said
        assert said.endswith(": nowhere → quarantined")
        [line] = [record for record in caplog.records if "failed (observed 38) → recorded only" in record.getMessage()]
        assert line.levelname == "INFO"

    def test_a_second_run_changes_nothing(self, declare: Declare, settings: Settings) -> None:
        project = declare({"sailings": [IN_SET]})
        deliver_spoiled(project, settings, spoiled(dest={3: "SFO"}))
        land_and_validate(project, settings)
        before = versions(settings)
        again = validate(project, RUN_DATE, settings)
        assert (again.accepted, again.quarantined, again.table_version) == (0, 0, None)
        assert versions(settings) == before
        assert rows_of(settings, "quarantine_ferries__winds").is_empty()

    def test_mostly_lets_few_rows_pass_and_quarantines_many(self, declare: Declare, settings: Settings) -> None:
        project = declare({"sailings": [{**IN_SET, "mostly": 0.97}]})
        deliver_spoiled(project, settings, spoiled(dest={3: "SFO"}))
        deliver_one(project, settings, "sailings", DAY, spoiled(dest={3: "SFO", 4: "SFO"}), name="two")
        assert land_and_validate(project, settings).quarantined == 2
        assert rows_of(settings, "quarantine_ferries__sailings")["delivery_id"].str.contains("two").to_list() == [
            True,
            True,
        ]
        assert rows_of(settings, "clean_ferries__sailings").height == 40 + 38

    def test_a_delivery_with_too_large_a_share_of_invalid_rows_is_refused(
        self, declare: Declare, settings: Settings
    ) -> None:
        project = declare({"sailings": [IN_SET]})
        deliver_spoiled(project, settings, spoiled(dest={3: "SFO", 4: "SFO"}))
        three = spoiled(dest={3: "SFO", 4: "SFO", 5: "SFO"})
        deliver_one(project, settings, "sailings", DAY, three, name="three")
        validated = land_and_validate(project, settings)
        assert validated.quarantined == 2
        [refusal] = validated.refused
        assert refusal.why.endswith(
            "three.csv.gz: column_values_to_be_in_set of dest failed, 3 of 40 rows; "
            "share_of_quarantined_rows_to_be_at_most failed (observed 0.0750: 3 of 40 rows, at most 0.05)"
        )
        in_set = select(
            settings, "SELECT quarantined_rows, examples FROM quality_results WHERE column_name = 'dest' ORDER BY 1"
        )
        assert [(row["quarantined_rows"], len(row["examples"])) for row in in_set] == [(0, 3), (2, 2)]

    def test_a_declared_share_replaces_the_default(self, declare: Declare, settings: Settings) -> None:
        share = {"expect": "share_of_quarantined_rows_to_be_at_most", "max_value": 0.5, "severity": "critical"}
        project = declare({"sailings": [IN_SET, share]})
        deliver_spoiled(project, settings, spoiled(dest=dict.fromkeys(range(20), "SFO")))
        assert land_and_validate(project, settings).quarantined == 20


class TestPersonalData:
    def test_personal_data_is_in_no_place_that_people_read(
        self, project: Project, settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is delivered in its own column, in another column, and as an identifier in a wrong format."""
        address = f"{EMAIL}.au"
        frame = spoiled(dest={3: address, 4: f"{VESSEL}1"}, arrives_local={5: address})
        deliver_spoiled(project, settings, frame)
        unlike = logbook(BEFORE, [5.0] * 40).with_columns(vessel=pl.Series([f"{VESSEL} {EMAIL}", *[f"{VESSEL}2"] * 39]))
        deliver_one(project, settings, "logbook", BEFORE, unlike, at=local(DAY, 1), name="unlike")
        caplog.set_level("DEBUG")
        assert land_and_validate(project, settings).quarantined == 3
        pages = [path.read_text(encoding="utf-8") for path in Path(settings.artifacts).rglob("*") if path.is_file()]
        assert len(pages) == 2
        kept = rows_of(settings, "quarantine_ferries__logbook")
        assert kept["_malformed"].to_list() == ["vessel"]
        assert len(kept["vessel"][0]) == 32
        results = select(settings, "SELECT * FROM quality_results")
        assert "dest (found aaaaaaa.aaaaaa@aaaaaaa.aaa.aa)" in str(results)
        for found in (caplog.text, str(results), *pages, kept.write_csv()):
            for planted in (EMAIL.split("@")[0], "@example.org", VESSEL):
                assert planted not in found
        assert "@example.org" not in str(rows_of(settings, "quarantine_ferries__sailings").drop("arrives_local").rows())


class TestPage:
    def test_a_page_is_written_only_for_a_failure(
        self, project: Project, settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        deliver_day(project, settings, DAY)
        land_and_validate(project, settings)
        assert not Path(settings.artifacts).exists()  # although there were warnings
        deliver_one(project, settings, "sailings", DAY, spoiled(dest={3: "Nowhere"}), name="second")
        land_and_validate(project, settings)
        [page] = (Path(settings.artifacts) / "quality" / "ferries" / str(DAY)).iterdir()
        assert page.name.startswith("sailings-")
        assert f"the validation page of {settings.landing}" in caplog.text.replace("file://", "")
        assert f": file://{page}" in caplog.text
        text = page.read_text(encoding="utf-8")
        for said in ("1 of 40 rows", "column values to match regex", "row count to be near history", "no history yet"):
            assert said in text.lower().replace("_", " "), said

    def test_a_page_that_cannot_be_written_does_not_fail_the_step(
        self,
        project: Project,
        settings: Settings,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr("include.quality.page.render", lambda *_: 1 / 0)
        deliver_spoiled(project, settings, spoiled(dest={3: "Nowhere"}))
        assert land_and_validate(project, settings).quarantined == 1
        assert "could not be written" in caplog.text


class TestRefused:
    """A failure of the delivery as a whole fails the step, and earlier rows stay."""

    @pytest.mark.parametrize(
        ("entry", "frame", "said"),
        [
            (
                {"expect": "table_row_count_to_be_between", "min_value": 41, "severity": "critical"},
                spoiled(),
                "table_row_count_to_be_between failed (observed 40)",
            ),
            (
                IN_SET,
                spoiled(dest={1: "SFO"}, ferry={9: "8"}, origin={9: "STG"}, departs_at={9: "2013-03-04T15:08:00Z"}),
                (
                    "compound_columns_to_be_unique of company, ferry, origin, departs_at failed, "
                    "2 of 39 rows; column_values_to_be_unique of entity_id failed, 2 of 39 rows; "
                    "column_values_to_be_in_set of dest failed, 1 of 40 rows"
                ),
            ),
            (
                NEAR,
                spoiled(19),
                "row_count_to_be_near_history failed (observed 19 rows, the median of 8 days before is 40)",
            ),
            (IN_SET, spoiled(dest=dict.fromkeys(range(9), "SFO")), "observed 0.2250: 9 of 40 rows, at most 0.05)"),
        ],
        ids=["count", "keys", "volume", "share"],
    )
    def test_a_refused_delivery_leaves_earlier_days_readable(
        self, declare: Declare, settings: Settings, entry: dict[str, Any], frame: pl.DataFrame, said: str
    ) -> None:
        earlier = Interval(start=DAY - timedelta(days=8), end=BEFORE)
        project = declare({})
        for day in earlier.days:
            for feed, needed in project.required(day).items():
                deliver_one(project, settings, feed, needed, sailings(day, 40) if feed == "sailings" else None)
        land_and_validate(project, settings, earlier)
        before = rows_of(settings, "clean_ferries__sailings")
        project = declare({"sailings": [entry]})
        deliver_spoiled(project, settings, frame)
        land(project, RUN_DATE, settings)
        with pytest.raises(DataError) as caught:
            validate(project, RUN_DATE, settings)
        assert str(caught.value).endswith(said)
        assert "no accepted delivery of sailings" in str(caught.value)
        assert rows_of(settings, "clean_ferries__sailings").equals(before)
        assert rows_of(settings, "quarantine_ferries__sailings").is_empty()
        known = current_as_of(deliveries_of(settings), "sailings", Interval(start=BEFORE, end=DAY), local(DAY, 9))
        assert list(known) == [BEFORE]

    def test_a_key_that_repeats_one_in_quarantine_is_accepted(self, declare: Declare, settings: Settings) -> None:
        """Each key is unique among the remaining rows."""
        twice = {9: "2013-03-04T15:08:00Z"}
        frame = spoiled(dest={9: "SFO"}, ferry={9: "8"}, origin={9: "STG"}, departs_at=twice)
        project = declare({"sailings": [IN_SET]})
        deliver_spoiled(project, settings, frame)
        assert land_and_validate(project, settings).quarantined == 1

    def test_a_failed_expectation_that_names_no_rows_refuses_the_delivery(
        self, declare: Declare, settings: Settings
    ) -> None:
        """Great Expectations checks the type of the column: there is no row to quarantine, and nothing may pass."""
        kind = {
            "expect": "column_values_to_be_of_type",
            "column": "distance_miles",
            "type_": "int",
            "severity": "critical",
        }
        project = declare({"sailings": [kind]})
        deliver_spoiled(project, settings, spoiled())
        with pytest.raises(DataError, match="column_values_to_be_of_type of distance_miles failed"):
            land_and_validate(project, settings)


class TestVolume:
    @pytest.mark.drill
    def test_the_order_of_validation_does_not_matter(
        self, declare: Declare, settings: Settings, install: Install, tmp_path: Path
    ) -> None:
        """All days at once, day by day, and backwards. Short deliveries are refused and count as history."""
        project = declare({"logbook": [{**NEAR, "days": 7}]})
        counts = [9, 9, 10, 8, 9, 9, 9, 4, 20, 18, 9, 3, 3, 3, 3, 3, 3]
        every = days(DAY, len(counts))
        for day, count in zip(every.days, counts, strict=True):
            deliver_one(project, settings, "sailings", day)
            deliver_one(project, settings, "winds", day)
            deliver_one(
                project, settings, "logbook", day - timedelta(days=1), many_logbook(day - timedelta(days=1), count)
            )
        found = []
        prepared_days = [Interval.of(day) for day in every.days]
        for order in ([every], prepared_days, prepared_days[::-1]):
            with install(tmp_path / f"order-{len(found)}") as other:
                own = other.model_copy(update={"landing": settings.landing})
                for interval in order:
                    if interval is not every and order[0] == prepared_days[-1]:
                        land(project, every, own)  # everything is landed, and the newest days are validated first
                    else:
                        land(project, interval, own)
                    try:
                        validate(project, interval, own)
                    except DataError as error:
                        assert "row_count_to_be_near_history failed" in str(error)  # noqa: PT017
                found.append([verdict for (feed, _), verdict in sorted(verdicts(own).items()) if feed == "logbook"])
        refused = [n for n, verdict in enumerate(found[0]) if verdict == "refused"]
        assert refused == [7, 8, 11, 12, 13]
        assert found[0] == found[1] == found[2]

    @pytest.mark.parametrize(("start", "count"), [(DAY, 10)])
    def test_simulated_days_of_the_project_are_accepted(
        self, project: Project, settings: Settings, start: Any, count: int
    ) -> None:
        simulate(project, days(start, count), settings)
        validated = land_and_validate(project, settings, days(start, count))
        assert (validated.refused, validated.quarantined) == ((), 0)
        observed = select(
            settings, "SELECT observed FROM quality_results WHERE expectation = 'row_count_to_be_near_history'"
        )
        assert sum(row["observed"] == "no history yet" for row in observed) == 3 * 7
        assert len(observed) == 3 * 10


class TestRevalidate:
    @pytest.fixture
    def strict(self, declare: Declare, settings: Settings) -> Project:
        """Three days; one row of the first `sailings` and one of the second `logbook` are in quarantine."""
        project = declare({"sailings": [IN_SET], "logbook": [IN_SET]})
        deliver_spoiled(project, settings, spoiled(dest={3: "SFO"}))
        late = many_logbook(DAY, dest="SFO")
        for feed, day in project.required(DAY + timedelta(days=1)).items():
            deliver_one(project, settings, feed, day, late if feed == "logbook" else None)
        deliver_day(project, settings, DAY + timedelta(days=2))
        land_and_validate(project, settings, days(DAY, 3))
        return project

    def test_rows_come_back_after_a_rule_is_relaxed_and_a_second_run_changes_nothing(
        self, strict: Project, declare: Declare, settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        prepared_days = [
            PreparedDay(
                project="ferries",
                day=day,
                data_view="point_in_time",
                as_of=local(day, 3),
                watermark=0,
                deliveries=(),
                table_versions={},
                rows=3,
            )
            for day in days(DAY, 3).days
        ]
        postgres.days.record_prepared_days(settings, "ferries", prepared_days)
        untouched = versions(settings)
        another = settings.model_copy(update={"run_id": "another"})
        same = revalidate(strict, days(DAY, 3), another)  # no rule was changed
        assert (same.rows, same.stay, same.revalidated, same.out_of_date) == (0, 2, 2, ())
        assert versions(settings) == untouched

        project = declare({})
        caplog.set_level("INFO")
        of_feed = run("revalidate", project, days(DAY, 3), settings, feed="sailings")
        assert isinstance(of_feed, Revalidated)
        assert (of_feed.rows, of_feed.stay, of_feed.revalidated) == (1, 0, 1)
        assert of_feed.out_of_date == (RUN_DATE,)
        assert f"of run dates {DAY} are out of date" in caplog.text
        assert "run: airflow dags trigger ferries_backfill_range" in caplog.text
        assert rows_of(settings, "quarantine_ferries__sailings").is_empty()
        assert rows_of(settings, "quarantine_ferries__logbook").height == 1
        back = rows_of(settings, "clean_ferries__sailings").filter(pl.col("day") == DAY)
        assert back.height == 40
        assert back.filter(pl.col("ferry") == 3)["dest"].to_list() == ["SFO"]
        assert "column_values_to_be_in_set dest" in failed(settings, "logbook")

        rest = revalidate(project, days(DAY, 3), settings)
        # logbook of a day are read by the features of the next 28 run dates, of which two are prepared
        assert (rest.rows, rest.stay, rest.out_of_date) == (1, 0, (days(DAY + timedelta(days=1), 2),))
        assert failed(settings, "logbook") == failed(settings) == {}
        before = versions(settings)
        again = run("revalidate", project, days(DAY, 3), settings)
        assert (again.rows, again.table_version) == (0, None)
        assert again.skipped == f"nothing of {days(DAY, 3)} is in quarantine or refused"
        assert versions(settings) == before
        states = [row["state"] for row in select(settings, "SELECT state FROM step_runs ORDER BY started_at")]
        assert states == ["success", "skipped"]

    def test_refused_deliveries_can_be_accepted_and_accepted_ones_refused(
        self, declare: Declare, settings: Settings
    ) -> None:
        none = {"expect": "table_row_count_to_equal", "value": 77, "severity": "critical"}
        project = declare({"sailings": [none], "logbook": [IN_SET]})
        deliver_spoiled(project, settings, spoiled())
        deliver_one(project, settings, "logbook", BEFORE, many_logbook(BEFORE, dest="SFO"), name="second")
        with pytest.raises(DataError):
            land_and_validate(project, settings)
        project = declare({"logbook": [none]})
        record = revalidate(project, days(BEFORE, 2), settings)
        assert (record.rows, record.revalidated, len(record.refused)) == (40, 2, 1)
        assert rows_of(settings, "clean_ferries__sailings").height == 40
        kept = rows_of(settings, "clean_ferries__logbook")
        assert kept.height == 3  # of the first delivery, which was not validated again
        assert rows_of(settings, "quarantine_ferries__logbook").is_empty()

    def test_a_repair_comes_before_the_rebuild_of_days_that_would_use_another_delivery(
        self, declare: Declare, settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        project = declare({"sailings": [{"expect": "table_row_count_to_equal", "value": 3, "severity": "critical"}]})
        deliver_day(project, settings, DAY)
        deliver_one(project, settings, "sailings", DAY, sailings(DAY, 4), name="again")
        land_and_validate(project, settings)
        journal = read_journal(settings, project)
        used = known_deliveries(project, journal, RUN_DATE)["delivery_id"].sort()
        prepared_day = PreparedDay(
            project="ferries",
            day=DAY,
            data_view="point_in_time",
            as_of=local(DAY, 3),
            watermark=journal.watermark,
            deliveries=tuple(used),
            table_versions={"clean_ferries__sailings": Tables(settings).version("clean_ferries__sailings")},
            rows=3,
        )
        postgres.days.record_prepared_days(settings, "ferries", [prepared_day])
        assert revalidate(declare({}), RUN_DATE, settings).out_of_date == (RUN_DATE,)
        commands = [line.split("run: ")[1] for line in caplog.messages if line.startswith("run: ")]
        assert [command.split(" --by")[0].split(" --conf")[0] for command in commands] == [
            f"python -m include.cli repair --project ferries --start {DAY} --end {DAY}",
            "airflow dags trigger ferries_backfill_range",
        ]

    def test_an_unknown_feed_is_refused(self, project: Project, settings: Settings) -> None:
        with pytest.raises(ConfigError, match="ferries has no feed 'sailing'; did you mean 'sailings'"):
            revalidate(project, RUN_DATE, settings, feed="sailing")

    @pytest.mark.parametrize("rule", ["laxer", "refusing"])
    @pytest.mark.parametrize(
        "at", ["clean", "record_quality", "quarantine", "_enter_verdicts", "clean by blocks", "quarantine by blocks"]
    )
    def test_killed_anywhere_and_run_again(
        self,
        strict: Project,
        declare: Declare,
        settings: Settings,
        monkeypatch: pytest.MonkeyPatch,
        at: str,
        rule: str,
    ) -> None:
        """At every point, an accepted delivery has all its rows, in the clean table or in quarantine."""
        none = {"expect": "table_row_count_to_equal", "value": 77, "severity": "critical"}
        project = declare({} if rule == "laxer" else {"sailings": [none]})

        class Killed(BaseException):
            pass

        def killing(*_: Any, **__: Any) -> Any:
            raise Killed

        def replacing(self: Tables, table: str, *given: Any, **named: Any) -> Any:
            if table == f"{layer}_ferries__sailings":
                raise Killed
            return original(self, table, *given, **named)

        layer, _, by_blocks = at.partition(" ")
        method = "replace_blocks" if by_blocks else "replace"
        original = getattr(Tables, method)
        if by_blocks:
            monkeypatch.setattr(delivered, "BLOCK_VALUES", 100)
        with monkeypatch.context() as patch:
            if at == "record_quality":
                patch.setattr(postgres.audit, at, killing)
            elif at == "_enter_verdicts":
                patch.setattr(verdicts_module, at, killing)
            else:
                patch.setattr(Tables, method, replacing)
            with pytest.raises(Killed):
                revalidate(project, RUN_DATE, settings, feed="sailings")
        accepted = verdicts(settings)["sailings", str(DAY)] == "accepted"
        held = sum(
            rows_of(settings, f"{layer}_ferries__sailings").filter(pl.col("day") == DAY).height
            for layer in ("clean", "quarantine")
        )
        assert held >= 40 or not accepted
        record = revalidate(project, RUN_DATE, settings, feed="sailings")
        if rule == "laxer":
            assert verdicts(settings)["sailings", str(DAY)] == "accepted"
            assert rows_of(settings, "clean_ferries__sailings").filter(pl.col("day") == DAY).height == 40
            assert record.rows == (0 if at == "_enter_verdicts" else 1)
        else:
            assert verdicts(settings)["sailings", str(DAY)] == "refused"
            assert rows_of(settings, "clean_ferries__sailings").filter(pl.col("day") == DAY).is_empty()
        assert rows_of(settings, "quarantine_ferries__sailings").is_empty()

    def test_the_command_revalidates_one_feed(
        self, strict: Project, declare: Declare, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        declare({})
        monkeypatch.setattr(cli, "_settings", lambda: settings)
        load_project.cache_clear()
        given = ["revalidate", "--project", "ferries", "--start", str(DAY), "--feed", "sailings"]
        result = CliRunner().invoke(cli.app, given)
        load_project.cache_clear()
        assert result.exit_code == 0, result.output
        assert '"rows": 1' in result.output


def deliver_two_days(project: Project, settings: Settings) -> None:
    deliver_spoiled(project, settings, spoiled(dest={3: "Nowhere"}, distance_miles={5: "far"}))
    for feed, day in project.required(DAY + timedelta(days=1)).items():
        deliver_one(project, settings, feed, day, many_logbook(day, vessel="x") if feed == "logbook" else None)


class TestKilled:
    @pytest.mark.drill
    def test_validate_killed_and_run_concurrently_gives_the_same_rows(
        self, project: Project, settings: Settings, install: Install, tmp_path: Path
    ) -> None:
        """Killed between two quarantine tables, and before the verdicts; then three runs at once end."""
        with install(tmp_path / "undisturbed") as undisturbed:
            for places in (settings, undisturbed):
                deliver_two_days(project, places)
                land(project, days(DAY, 2), places)
            assert validate(project, days(DAY, 2), undisturbed).quarantined == 3
            expected = contents(undisturbed)
        for at, call, when in (
            # The logbook is in the clean table, but its quarantine is not written.
            ("include.io.tables:write_deltalake", 2, "before"),
            ("include.io.tables:write_deltalake", 2, "after"),
            ("include.steps.verdicts:_enter_verdicts", 1, "before"),
        ):
            run_and_kill(settings, "validate", days(DAY, 2), at, call, when)
            assert set(verdicts(settings).values()) == {"landed"}
        assert rows_of(settings, "quarantine_ferries__sailings").height == 2
        command = {"do": "step", "step": "validate", "start": str(DAY), "end": str(DAY + timedelta(days=1))}
        with processes(settings, 3) as started:
            answers = started.all([command] * 3)
        assert [answer.get("error") for answer in answers] == [None] * 3
        assert_same(contents(settings), expected)
        doubled = select(
            settings,
            "SELECT delivery_id FROM quality_results WHERE feed <> 'x' "
            "GROUP BY delivery_id, expectation, column_name, severity HAVING count(*) > 1",
        )
        assert doubled == []

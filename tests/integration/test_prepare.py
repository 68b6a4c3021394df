"""land, validate and build_features as real processes with PostgreSQL: concurrent, and killed in the middle."""

import shutil
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa

from include.config.loading import load_project
from include.core.interval import Interval
from include.core.project import Project
from include.core.settings import Settings
from include.io import postgres
from include.io.tables import Tables
from include.steps.build_features import build_features
from include.steps.land import land
from include.steps.validate import validate
from tests.conftest import Install
from tests.integration.processes import processes, run_and_kill
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
    made_beside_landing,
    sailings,
    versions,
)

pytestmark = pytest.mark.timeout(300)

RUN_DATE = Interval.of(DAY)
BEFORE = DAY - timedelta(days=1)


@pytest.fixture
def project() -> Project:
    return load_project("ferries")


def content(settings: Settings) -> dict[str, pl.DataFrame]:
    """Map each table to its sorted rows, without columns that differ between two places."""
    found = {}
    for table in versions(settings):
        rows = Tables(settings).scan(table).collect()
        found[table] = rows.sort(rows.columns)
    found["deliveries"] = deliveries_of(settings).drop("uri", "why", "sequence")
    return found


def assert_same_content(left: Settings, right: Settings) -> None:
    ours, theirs = content(left), content(right)
    assert ours.keys() == theirs.keys()
    for table, rows in ours.items():
        assert rows.equals(theirs[table]), table


def quality_results(settings: Settings) -> list[dict[str, Any]]:
    with postgres.connection.engine(settings).connect() as connection:
        rows = connection.execute(sa.text("SELECT * FROM quality_results ORDER BY id")).mappings()
        return [dict(row) for row in rows]


class TestResults:
    def test_each_delivery_has_its_results_once(self, project: Project, settings: Settings) -> None:
        deliver_day(project, settings, DAY)
        wrong = sailings(DAY).with_columns(dest=pl.Series(["HOB", "Nowhere", "HOB"]))
        deliver_one(project, settings, "sailings", DAY, wrong, name="wrong")
        land(project, RUN_DATE, settings)
        validated = validate(project, RUN_DATE, settings)
        first = quality_results(settings)
        again = validate(project, RUN_DATE, settings)  # the refused delivery is validated again
        assert (validated.accepted, len(validated.refused), len(again.refused)) == (3, 1, 1)
        second = quality_results(settings)
        kept = ("delivery_id", "expectation", "column_name", "severity", "success", "rows_evaluated", "unexpected_rows")
        assert sorted(map(str, ({name: row[name] for name in kept} for row in first))) == sorted(
            map(str, ({name: row[name] for name in kept} for row in second))
        )
        failed = [row for row in second if not row["success"] and row["severity"] == "critical"]
        assert [(row["expectation"], row["column_name"], row["unexpected_rows"]) for row in failed] == [
            ("share_of_quarantined_rows_to_be_at_most", None, None),
            ("column_values_to_match_regex", "dest", 1),
        ]
        assert {row["quarantined_rows"] for row in failed} == {0}
        assert {row["delivery_id"] for row in second} == set(deliveries_of(settings)["delivery_id"])
        counts = [row for row in second if row["expectation"] == "table_row_count_to_be_between"]
        assert {(row["rows_evaluated"], row["unexpected_rows"]) for row in counts} == {(None, None)}
        # 2 rows of the refused delivery are valid.
        assert {row["observed"] for row in counts} == {"3", "18", "2"}

    def test_personal_data_is_in_no_table_database_or_log(
        self, project: Project, settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The search includes the logs of tables, and refused deliveries."""
        deliver_day(project, settings, DAY)
        unlike = logbook(BEFORE).with_columns(vessel=pl.lit(f"{VESSEL} {EMAIL}"))
        deliver_one(project, settings, "logbook", BEFORE, unlike, name="unlike")
        caplog.set_level("DEBUG")
        land(project, RUN_DATE, settings)
        assert len(validate(project, RUN_DATE, settings).refused) == 1
        found = caplog.text + str(quality_results(settings))
        for path in made_beside_landing(settings):
            found += path.read_bytes().decode("latin-1")
            if path.suffix == ".parquet":
                found += pl.read_parquet(path, hive_partitioning=False).write_csv()
        for planted in (EMAIL.split("@")[0], "@example.org", VESSEL):
            assert planted not in found


class TestConcurrent:
    def test_two_concurrent_runs_of_land_write_rows_once(
        self, project: Project, settings: Settings, install: Install, tmp_path: Path
    ) -> None:
        deliver_day(project, settings, *days(DAY, 4).days)
        with install(tmp_path / "once") as other, processes(settings, 3) as started:
            once = other.model_copy(update={"landing": settings.landing})
            for run_dates in (RUN_DATE, days(DAY, 4)):
                command = {"do": "step", "step": "land", "start": str(run_dates.start), "end": str(run_dates.end)}
                answers = started.all([command] * 3)
                assert [answer.get("error") for answer in answers] == [None] * 3
                land(project, run_dates, once)
                assert_same_content(settings, once)

    def test_verdicts_are_not_lost_when_land_and_validate_run_concurrently(
        self, project: Project, settings: Settings
    ) -> None:
        deliver_day(project, settings, *days(DAY, 9).days)
        land(project, RUN_DATE, settings)
        with processes(settings, 3) as started:
            for n in range(4):
                upto = {"start": str(DAY), "end": str(DAY + timedelta(days=2 * n + 2))}
                validated_days = {"start": str(DAY), "end": str(DAY + timedelta(days=2 * n))}
                started.all([
                    {"do": "step", "step": "validate", **validated_days},
                    {"do": "step", "step": "land", **upto},
                    {"do": "step", "step": "land", **upto},
                ])
                listed = deliveries_of(settings)
                validated = listed.filter(
                    pl.col("feed") != "logbook", pl.col("day") <= date.fromisoformat(validated_days["end"])
                )
                assert validated["verdict"].unique().to_list() == ["accepted"]
        assert listed.height == 27
        assert not listed["delivery_id"].is_duplicated().any()


@pytest.fixture(scope="module")
def undisturbed(install: Install, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Four nights with a correction and a file that is refused, prepared without a disturbance."""
    project = load_project("ferries")
    with install(tmp_path_factory.mktemp("undisturbed")) as settings:
        deliver_four_days(project, settings)
        land(project, FOUR, settings)
        validate(project, FOUR, settings)
        yield settings


FOUR = days(DAY, 4)


def deliver_four_days(project: Project, settings: Settings) -> None:
    deliver_day(project, settings, *FOUR.days)
    deliver_one(project, settings, "logbook", BEFORE, logbook(BEFORE, [9.0]), at=local(DAY, 12), name="correction")
    wrong = sailings(DAY).with_columns(dest=pl.lit("Nowhere"))
    deliver_one(project, settings, "sailings", DAY, wrong, at=local(DAY, 1), name="wrong")


class TestKilled:
    """A step is killed at each of these points, then run to the end. Its rows are those of an uninterrupted run."""

    def test_land_killed_and_run_again_gives_the_same_rows(
        self, project: Project, settings: Settings, undisturbed: Settings
    ) -> None:
        deliver_four_days(project, settings)
        for at, call, when in (
            ("include.io.tables:write_deltalake", 1, "before"),  # the table made, and nothing in it
            ("include.io.tables:write_deltalake", 2, "after"),  # rows of two feeds of three
            ("include.io.postgres.journal:JournalWriter.add", 1, "after"),  # all rows, and no entry committed
        ):
            run_and_kill(settings, "land", FOUR, at, call, when)
            assert deliveries_of(settings).is_empty()
        landed = land(project, FOUR, settings)
        assert landed.new == 14
        validate(project, FOUR, settings)
        assert_same_content(settings, undisturbed)

    @pytest.mark.drill
    def test_validate_killed_and_run_again_gives_the_same_rows(
        self, project: Project, settings: Settings, undisturbed: Settings
    ) -> None:
        deliver_four_days(project, settings)
        land(project, FOUR, settings)
        for at, call, when in (
            # One feed is in clean tables, and its results are not recorded.
            ("include.io.tables:write_deltalake", 1, "after"),
            ("include.io.postgres.audit:record_quality", 2, "after"),
            ("include.steps.verdicts:_enter_verdicts", 1, "before"),  # all clean, and no verdict
        ):
            run_and_kill(settings, "validate", FOUR, at, call, when)
            assert deliveries_of(settings)["verdict"].unique().to_list() == ["landed"]
        assert validate(project, FOUR, settings).accepted == 13
        assert_same_content(settings, undisturbed)
        results = [(row["delivery_id"], row["expectation"], row["column_name"]) for row in quality_results(settings)]
        assert len({delivery for delivery, _, _ in results}) == 14
        per_delivery = {delivery: len([r for r in results if r[0] == delivery]) for delivery, _, _ in results}
        once = {
            feed: {n for delivery, n in per_delivery.items() if delivery.startswith(feed)} for feed in project.feeds
        }
        assert all(len(counts) == 1 for counts in once.values()), once  # no result is recorded twice

    @pytest.mark.drill
    @pytest.mark.spark
    def test_build_features_killed_and_run_again_gives_the_same_rows(
        self, project: Project, undisturbed: Settings, install: Install, tmp_path: Path
    ) -> None:
        """Killed after the executors wrote all files and before the commit; and after the commit."""
        with install(tmp_path, like=undisturbed) as settings:
            for place in ("landing", "tables"):
                shutil.copytree(Path(undisturbed.landing).parent / place, tmp_path / place)
            first = Interval(start=DAY, end=DAY + timedelta(days=1))
            build_features(project, first, settings)
            before = content(settings)["features_ferries"]
            run_and_kill(settings, "build_features", FOUR, "include.io.tables:Tables.replace_files", 1, "before")
            assert content(settings)["features_ferries"].equals(before)
            run_and_kill(settings, "build_features", FOUR, "include.io.tables:Tables.replace_files", 1, "after")
            build_features(project, FOUR, settings)
            after = content(settings)["features_ferries"]
            assert after.height == 4 * 3
            assert after.filter(pl.col("day").is_in(first.days)).sort(after.columns).equals(before)

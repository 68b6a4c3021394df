"""build_features on days of a project: what a night could not know changes no bit, a range is its days.

The installation is made once: 89 nights landed and validated, of which 60 have features. Tests that change something
work on a copy.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from include.projects.ferries import features as ferries_features
from polars.testing import assert_frame_equal
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from include.config.loading import load_project
from include.core.errors import DataError
from include.core.interval import Interval
from include.core.project import Project
from include.core.records import Featured
from include.core.settings import Settings
from include.io import spark
from include.io.tables import Scope, Tables
from include.operations.decide import withdraw
from include.operations.simulate import deliver, make_frame, simulate
from include.steps.build_features import build_features
from include.steps.land import land
from include.steps.validate import validate
from tests.landing import days, deliveries_of, versions

pytestmark = [pytest.mark.spark, pytest.mark.timeout(600)]

RUN_DATES = Interval(start=date(2013, 1, 1), end=date(2013, 3, 30))
RANGE = Interval(start=date(2013, 1, 29), end=date(2013, 3, 29))
"""60 days: two ends of months, and 10 March, which has 23 hours."""

DAY = date(2013, 3, 10)
KEY = ["day", "entity_id"]


@pytest.fixture(scope="module")
def project() -> Project:
    return load_project("ferries")


Install = Callable[..., AbstractContextManager[Settings]]


@pytest.fixture(scope="module")
def prepared(project: Project, install: Install, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Landed, validated, and features of RANGE built in one run. Not to be changed."""
    with install(tmp_path_factory.mktemp("features")) as settings:
        simulate(project, RUN_DATES, settings)
        land(project, RUN_DATES, settings)
        validate(project, RUN_DATES, settings)
        build_features(project, RANGE, settings)
        yield settings


@pytest.fixture(scope="module")
def whole(prepared: Settings) -> pl.DataFrame:
    """The features of RANGE."""
    return features_of(prepared, RANGE)


@pytest.fixture
def copy(prepared: Settings, install: Install, tmp_path: Path) -> Iterator[Settings]:
    """The installation, to change."""
    with install(tmp_path, like=prepared) as settings:
        for there, here in ((prepared.landing, settings.landing), (prepared.tables, settings.tables)):
            shutil.copytree(there, here)
        yield settings


def features_of(settings: Settings, interval: Interval) -> pl.DataFrame:
    within = pl.col("day").is_between(interval.start, interval.end)
    return Tables(settings).scan("features_ferries").filter(within).collect().sort(KEY)


def of_day(rows: pl.DataFrame, day: date) -> pl.DataFrame:
    return rows.filter(pl.col("day") == day)


def assert_same_bits(left: pl.DataFrame, right: pl.DataFrame) -> None:
    """Exactly: no tolerance, and a null is not a NaN."""
    assert left.height > 0
    assert_frame_equal(left, right, check_exact=True)
    assert left.hash_rows().equals(right.hash_rows())


def shifted(rows: pl.DataFrame) -> pl.DataFrame:
    """Logbooks with each outcome turned round."""
    on_time = pl.col("delay_minutes").is_null() | (pl.col("delay_minutes") > 15)
    return rows.with_columns(delay_minutes=pl.when(on_time).then(0.0).otherwise(99.0))


class TestKnowledge:
    def test_outcomes_of_the_day_and_later_change_nothing(
        self, project: Project, copy: Settings, whole: pl.DataFrame
    ) -> None:
        """Built in a range, so that the later outcomes are read, for the later days."""
        scope = Scope(Interval(start=DAY, end=RUN_DATES.end))
        Tables(copy).replace("clean_logbook", shifted, scope, sort_by=["day", "delivery_id", "_row"])
        build_features(project, days(DAY, 3), copy)
        changed = features_of(copy, days(DAY, 3))
        assert_same_bits(of_day(changed, DAY), of_day(whole, DAY))
        for later in days(DAY, 3).days[1:]:
            assert not of_day(changed, later).equals(of_day(whole, later))

    def test_a_delivery_changes_the_nights_that_could_know_it_and_no_other(
        self, project: Project, copy: Settings, whole: pl.DataFrame
    ) -> None:
        """A correction of an older day, a microsecond after the night of DAY ends: too late for DAY, not for the next;
        and one a microsecond before the end of the night before: that night knew."""
        step = timedelta(microseconds=1)
        old = DAY - timedelta(days=5)
        correct(project, copy, old, project.cutoff_at(DAY) + step, "late")
        correct(project, copy, old - timedelta(days=1), project.cutoff_at(DAY - timedelta(days=1)) - step, "early")
        interval = Interval(start=DAY - timedelta(days=2), end=DAY + timedelta(days=1))
        land(project, interval, copy)
        validate(project, interval, copy)
        before = features_of(copy, interval)
        featured = build_features(project, interval, copy)
        after = features_of(copy, interval)
        changed = {day for day in interval.days if not of_day(after, day).equals(of_day(before, day))}
        assert changed == {DAY - timedelta(days=1), DAY, DAY + timedelta(days=1)}
        assert_same_bits(of_day(after, interval.start), of_day(whole, interval.start))

        # DAY as it was with the early one alone, which is what it may know
        [found] = deliveries_of(copy).filter(pl.col("key").str.contains("late"))["delivery_id"]
        withdraw(project, found, copy, by="Ada", why="to compare")
        build_features(project, interval, copy)
        alone = features_of(copy, interval)
        assert_same_bits(of_day(alone, DAY), of_day(after, DAY))
        assert not of_day(alone, interval.end).equals(of_day(after, interval.end))
        used = {prepared_day.day: set(prepared_day.deliveries) for prepared_day in featured.prepared_days}
        assert [any("late" in name for name in used[day]) for day in interval.days] == [False, False, False, True]
        assert [any("early" in name for name in used[day]) for day in interval.days] == [False, True, True, True]

    def test_a_late_night_knows_what_came_by_its_end(
        self, project: Project, copy: Settings, whole: pl.DataFrame
    ) -> None:
        """Of older days; of its own and later days it knows no outcome, though they are there."""
        late = project.cutoff_at(DAY) + timedelta(days=3)
        of_winds = deliveries_of(copy).filter(pl.col("feed") == "winds", pl.col("day") == DAY)
        withdraw(project, of_winds["delivery_id"].item(), copy, by="Ada", why="it came late")
        deliver(project, "winds", DAY, make_frame(project, "winds", DAY), available_at=late, settings=copy, name="late")
        land(project, Interval.of(DAY), copy)
        validate(project, Interval.of(DAY), copy)
        [prepared_day] = build_features(project, Interval.of(DAY), copy).prepared_days
        assert prepared_day.as_of == late
        known = of_day(features_of(copy, Interval.of(DAY)), DAY)
        assert_same_bits(known.drop("as_of"), of_day(whole, DAY).drop("as_of"))
        assert known["as_of"].unique().to_list() == [late]

    def test_each_row_says_as_of_when(self, project: Project, whole: pl.DataFrame) -> None:
        said = dict(whole.select("day", "as_of").unique().iter_rows())
        assert said == {day: project.cutoff_at(day) for day in RANGE.days}
        assert said[DAY].hour == 7  # summer time begins in that night
        assert whole["data_view"].unique().to_list() == ["point_in_time"]


def correct(project: Project, settings: Settings, day: date, at: datetime, name: str) -> None:
    rows = shifted(make_frame(project, "logbook", day))
    deliver(project, "logbook", day, rows, available_at=at, settings=settings, name=name)


class TestLatest:
    def test_stands_beside_the_nights_own(self, project: Project, copy: Settings, whole: pl.DataFrame) -> None:
        """With a correction that came weeks later, of which only the days that read it know."""
        corrected, at = DAY - timedelta(days=3), project.cutoff_at(DAY) + timedelta(days=30)
        correct(project, copy, corrected, at, "weeks-later")
        land(project, Interval.of(DAY), copy)
        validate(project, Interval.of(DAY), copy)
        of_night = build_features(project, Interval.of(DAY), copy)
        latest = build_features(project, Interval.of(DAY), copy, data_view="latest")
        [prepared_day], [corrected_day] = of_night.prepared_days, latest.prepared_days
        assert (prepared_day.data_view, corrected_day.data_view) == ("point_in_time", "latest")
        assert (prepared_day.as_of, corrected_day.as_of) == (project.cutoff_at(DAY), at)
        assert len(set(corrected_day.deliveries) - set(prepared_day.deliveries)) == 1
        made = Tables(copy).scan("features_ferries").filter(pl.col("day") == DAY).sort(KEY).collect()
        own, other = (made.filter(pl.col("data_view") == data_view) for data_view in ("point_in_time", "latest"))
        assert_same_bits(own, of_day(whole, DAY))
        assert own.height == other.height
        assert not own.drop("as_of", "data_view").equals(other.drop("as_of", "data_view"))


class TestRange:
    @pytest.mark.timeout(1800)
    def test_is_its_days(self, project: Project, copy: Settings, whole: pl.DataFrame) -> None:
        """60 days in one run, and every sixth of them and the last by itself, in one Spark session."""
        for day in reversed([*RANGE.days[::6], RANGE.end]):  # each replaces the range's day, in another order
            build_features(project, Interval.of(day), copy)
        assert_same_bits(features_of(copy, RANGE), whole)

    def test_again_is_the_same(self, project: Project, copy: Settings, whole: pl.DataFrame) -> None:
        again = build_features(project, days(DAY, 2), copy)
        assert_same_bits(features_of(copy, RANGE), whole)
        assert again.rows == whole.filter(pl.col("day").is_in(days(DAY, 2).days)).height


class TestSample:
    def test_is_rows_of_the_whole_in_a_table_of_its_own(
        self, project: Project, copy: Settings, whole: pl.DataFrame
    ) -> None:
        """Also the columns that count other ferries. Who is in is in each time, and in a greater sample too."""
        before, interval = versions(copy), days(DAY, 3)
        made = []
        for share in (0.25, 0.5):
            sampled = project.model_copy(update={"entity_fraction": share})
            featured = build_features(sampled, interval, copy)
            table = f"features_ferries_fraction_{share}".replace(".", "_")
            rows = Tables(copy).scan(table).collect().sort(KEY)
            assert_same_bits(rows, whole.join(rows.select(KEY), on=KEY, how="semi"))
            assert rows["day"].unique().sort().to_list() == interval.days
            assert featured.rows == rows.height
            of_all = whole.filter(pl.col("day").is_between(interval.start, interval.end)).height
            assert 0.7 < rows.height / (share * of_all) < 1.3
            assert featured.prepared_days == ()
            assert (featured.skipped or "").startswith(f"no day is prepared: {table} has {rows.height} rows")
            made.append(rows)
        build_features(project.model_copy(update={"entity_fraction": 0.25}), Interval.of(DAY), copy)
        again = Tables(copy).scan("features_ferries_fraction_0_25").collect().sort(KEY)
        assert_same_bits(again, made[0])
        assert made[0].join(made[1], on=KEY, how="anti").is_empty()
        after = versions(copy)
        assert after.keys() - before.keys() == {"features_ferries_fraction_0_25", "features_ferries_fraction_0_5"}
        assert before.items() <= after.items()


class TestRows:
    def test_are_those_of_the_schedule(self, project: Project, whole: pl.DataFrame) -> None:
        for day in (RANGE.start, DAY, RANGE.end):
            assert of_day(whole, day).height == make_frame(project, "sailings", day).height
        assert not whole.select(KEY).is_duplicated().any()

    def test_the_result_says_what_was_made(self, project: Project, copy: Settings) -> None:
        featured = build_features(project, days(DAY, 2), copy)
        stored = features_of(copy, days(DAY, 2))
        at_version = Tables(copy).scan("features_ferries", featured.table_version).collect()
        assert at_version.filter(pl.col("day").is_in(days(DAY, 2).days)).sort(KEY).equals(stored)
        assert featured.table.version == featured.table_version == Tables(copy).version("features_ferries")
        assert featured.rows == featured.table.rows == stored.height
        assert [prepared_day.rows for prepared_day in featured.prepared_days] == [
            of_day(stored, day).height for day in days(DAY, 2).days
        ]
        for prepared_day in featured.prepared_days:
            assert prepared_day.as_of == project.cutoff_at(prepared_day.day)
            assert len(prepared_day.deliveries) == 1 + 1 + 28
            now = versions(copy)
            assert prepared_day.table_versions == {name: now[name] for name in prepared_day.table_versions}
            assert set(prepared_day.table_versions) == {
                "clean_sailings",
                "clean_winds",
                "clean_logbook",
                "features_ferries",
            }

    @pytest.mark.parametrize(
        "wrong",
        [
            lambda built: built.where(F.col("entity_id") != built.agg(F.min("entity_id")).first()[0]),
            lambda built: built.unionAll(built.limit(1)),
            lambda built: built.withColumn("day", F.lit(None).cast("date")),
            lambda built: built.withColumn("day", F.date_add("day", 1)),
            lambda built: built.drop("month"),
            lambda built: built.withColumn("month", F.col("month").cast("string")),
        ],
        ids=["one lost", "one doubled", "no day", "another day", "a column lost", "another type"],
    )
    def test_that_do_not_fit_are_not_committed(
        self,
        project: Project,
        prepared: Settings,
        monkeypatch: pytest.MonkeyPatch,
        wrong: Callable[[DataFrame], DataFrame],
    ) -> None:
        build = ferries_features.build
        monkeypatch.setattr(ferries_features, "build", lambda *given: wrong(build(*given)))
        folder = Path(prepared.tables) / "features_ferries"
        before = sorted(folder.rglob("*"))
        with pytest.raises(DataError, match=r"features\.py: .*; return one row for each entity, and keep all columns"):
            build_features(project, Interval.of(DAY), prepared)
        assert sorted(folder.rglob("*")) == before

    def test_a_spark_job_that_fails_leaves_nothing(
        self, project: Project, prepared: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        build = ferries_features.build

        def failing(*given: object) -> DataFrame:
            return build(*given).withColumn("month", F.raise_error(F.lit("broken")).cast("double"))  # type: ignore[arg-type]

        monkeypatch.setattr(ferries_features, "build", failing)
        folder = Path(prepared.tables) / "features_ferries"
        before = sorted(folder.rglob("*"))
        with pytest.raises(Exception, match="broken"):
            build_features(project, Interval.of(DAY), prepared)
        assert sorted(folder.rglob("*")) == before

    def test_of_the_first_day_and_before(self, project: Project, tmp_path: Path, prepared: Settings) -> None:
        """Nothing is known of the past, and of a day without ferries there is a night without rows."""
        settings = places(tmp_path)
        first = Interval.of(project.first_day)
        simulate(project, first, settings)
        land(project, first, settings)
        validate(project, first, settings)
        featured: Featured = build_features(project, Interval(start=date(2012, 12, 31), end=first.end), settings)
        rows = features_of(settings, first)
        assert rows.height == make_frame(project, "sailings", project.first_day).height
        assert rows.select(pl.col("^late_rate_.*$").is_null().all()).row(0) == (True,) * 9
        assert [prepared_day.rows for prepared_day in featured.prepared_days] == [0, rows.height]
        empty = build_features(project, Interval.of(date(2012, 12, 31)), settings)
        assert (empty.rows, features_of(settings, first).height) == (0, rows.height)


class TestOutcomes:
    @pytest.mark.parametrize("outcome", ["late_ferry", "ferry_delay"])
    def test_are_the_same_in_spark_and_polars(self, project: Project, prepared: Settings, outcome: str) -> None:
        sql = project.outcomes[outcome].sql
        table = f"clean_{project.outcomes[outcome].feed}"
        in_polars = (
            Tables(prepared).scan(table).select("day", "entity_id", pl.sql_expr(sql).cast(pl.Float64).alias("value"))
        )
        with spark.job() as (session, staged):
            rows, _ = spark.read(session, Tables(prepared), table, RUN_DATES, staged)
            values = rows.select("day", "entity_id", F.expr(sql).cast("double").alias("value")).toArrow()
        in_spark = pl.DataFrame(values)
        left, right = in_polars.collect().sort(KEY), in_spark.sort(KEY)
        assert left.height > 4_000
        assert_frame_equal(left, right, check_exact=True)
        assert left["value"].is_null().any() == (outcome == "ferry_delay")

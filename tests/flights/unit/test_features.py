"""Features of a flight, on a handful of rows. `tests/flights/e2e` has real days."""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from functools import reduce
from typing import Any

import polars as pl
import pytest
from pyspark.sql import DataFrame, SparkSession

from include.config.loading import load_project
from include.core import schemas
from include.features import Feeds
from include.features.returned import typed
from include.io.spark import session
from include.projects.flights import features
from tests.flights.landing import DAY, actuals, local, schedule, weather

pytestmark = pytest.mark.spark

BEFORE = DAY - timedelta(days=1)
ZONE = "America/New_York"


@pytest.fixture(scope="module")
def spark() -> SparkSession:
    return session()


def of_delivery(spark: SparkSession, rows: pl.DataFrame, day: date, name: str = "a") -> DataFrame:
    """Return rows as clean tables have them."""
    placed = rows.with_columns(day=pl.lit(day), delivery_id=pl.lit(name), _row=pl.int_range(pl.len(), dtype=pl.Int64))
    if "flight" in rows.columns:
        placed = placed.with_columns(schemas.entity_id(load_project("flights")))
    return spark.createDataFrame(placed.to_arrow())


def knows(*known: tuple[date, str, date, str]) -> pl.DataFrame:
    columns = {"run_date": pl.Date, "feed": pl.String, "day": pl.Date, "delivery_id": pl.String}
    return pl.DataFrame([*known], schema=columns, orient="row").with_columns(rows=pl.lit(3))


def flights(*rows: Mapping[str, Any], day: date = DAY) -> pl.DataFrame:
    """Return the schedule of a day, with the given values in place of the usual ones."""
    usual = schedule(day, len(rows)).drop("contact_email")
    changed = [{**there, **row} for there, row in zip(usual.iter_rows(named=True), rows, strict=True)]
    return pl.DataFrame(changed, schema=usual.schema)


def collected(frame: DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    return sorted(tuple(row) for row in frame.select(*columns).collect())


def test_each_flight_of_a_run_date_has_one_row(spark: SparkSession) -> None:
    """Types are right, deliveries that the run date does not know are absent, and unknown values are null."""
    later = DAY + timedelta(days=1)
    feeds = {
        "schedule": of_delivery(spark, schedule(DAY).drop("contact_email"), DAY)
        .unionByName(of_delivery(spark, schedule(DAY, 9).drop("contact_email"), DAY, "unknown"))
        .unionByName(of_delivery(spark, schedule(later, 2).drop("contact_email"), later)),
        "weather": of_delivery(spark, weather(DAY), DAY),
        "actuals": of_delivery(spark, with_outcome(actuals(BEFORE)), BEFORE),
    }
    known = knows(
        (DAY, "schedule", DAY, "a"),
        (DAY, "weather", DAY, "a"),
        (DAY, "actuals", BEFORE, "a"),
        (later, "schedule", later, "a"),
    )
    built = typed(features.build(Feeds(load_project("flights"), feeds, known)))
    assert collected(built.groupBy("day").count(), "day", "count") == [(DAY, 3), (later, 2)]
    kinds = dict(built.dtypes)
    labels = {"entity_id", "carrier", "origin", "dest"}
    assert {kinds.pop(name) for name in labels} == {"string"}
    assert kinds.pop("day") == "date"
    assert set(kinds.values()) == {"double"}
    assert len(built.columns) == len(set(built.columns))
    wanted = ("day", "entity_id", "late_rate_carrier_1d", "weather_missing", "temperature_f")
    two_thirds = 2 / 3  # one of three was on time, one late, one cancelled
    assert collected(built, *wanted)[0] == (DAY, "UA-0-EWR-20130304T1300Z", two_thirds, 0.0, 40.0)
    assert collected(built, *wanted)[-1] == (later, "UA-1-JFK-20130305T1301Z", None, 1.0, None)


def with_outcome(rows: pl.DataFrame) -> pl.DataFrame:
    sql = load_project("flights").outcomes["late_arrival"].sql
    return rows.with_columns(pl.sql_expr(sql).alias("late_arrival"))


class TestCalendar:
    @pytest.mark.parametrize(
        ("departs", "arrives", "hours"),
        [
            (local(DAY, 8, 30), "1145", (8.5, 11.75)),
            (local(DAY, 23, 59), "0006", (23 + 59 / 60, 0.1)),
            (local(DAY, 8), "2400", (8.0, 24.0)),
            (local(DAY, 8), None, (8.0, None)),
            (local(DAY, 8), "12:30", (8.0, None)),
            (local(DAY, 8), "815", (8.0, None)),
            (local(DAY, 8), "", (8.0, None)),
            (local(date(2013, 3, 10), 8), "0900", (8.0, 9.0)),  # on the day of the clock change
            (local(date(2013, 7, 1), 8), "0900", (8.0, 9.0)),  # in summer time
        ],
    )
    def test_hours_are_in_local_time(
        self, spark: SparkSession, departs: datetime, arrives: str | None, hours: tuple[float, float | None]
    ) -> None:
        rows = flights({"scheduled_departure": departs, "scheduled_arrival_local": arrives})
        frame = spark.createDataFrame(rows.with_columns(day=pl.lit(DAY)).to_arrow())
        assert collected(features.calendar(frame, ZONE), "departure_hour", "arrival_hour") == [hours]

    @pytest.mark.parametrize(
        ("day", "kind"),
        [
            (date(2013, 3, 4), (0, 3, False)),
            (date(2013, 3, 8), (4, 3, False)),
            (date(2013, 3, 9), (5, 3, True)),
            (date(2013, 12, 29), (6, 12, True)),
        ],
    )
    def test_weekdays_months_and_holidays_are_features(
        self, spark: SparkSession, day: date, kind: tuple[int, int, bool]
    ) -> None:
        frame = spark.createDataFrame(flights({}, day=day).with_columns(day=pl.lit(day)).to_arrow())
        assert collected(features.calendar(frame, ZONE), "day_of_week", "month", "is_weekend") == [kind]


def test_traffic_counts_flights_of_the_same_hour_and_route(spark: SparkSession) -> None:
    """A flight without a destination has one row too."""
    at = local(DAY, 8)
    rows = flights(
        {"origin": "EWR", "dest": "LAX", "scheduled_departure": at},
        {"origin": "EWR", "dest": "SFO", "scheduled_departure": at + timedelta(minutes=59)},
        {"origin": "EWR", "dest": "LAX", "scheduled_departure": at + timedelta(minutes=60)},
        {"origin": "JFK", "dest": "LAX", "scheduled_departure": at},
        {"origin": "JFK", "dest": None, "scheduled_departure": at},
    )
    two_days = pl.concat([rows.with_columns(day=pl.lit(day)) for day in (DAY, DAY + timedelta(days=1))])
    built = features.traffic(spark.createDataFrame(two_days.to_arrow()))
    wanted = ("day", "flight", "departures_same_hour", "departures_same_route")
    of_a_day = [(0, 2, 2), (1, 2, 1), (2, 1, 2), (3, 2, 1), (4, 2, None)]
    assert collected(built, *wanted) == [(day, *row) for day in (DAY, DAY + timedelta(days=1)) for row in of_a_day]


def test_weather_matches_hour_and_airport(spark: SparkSession) -> None:
    hours = [
        ("EWR", local(DAY, 8), 1.0),
        ("EWR", local(DAY, 9), 2.0),
        ("JFK", local(DAY, 8), None),  # observed, but without a temperature
    ]
    observed = pl.DataFrame(hours, schema=["origin", "observed_at", "temperature_f"], orient="row")
    observed = observed.with_columns(pl.col("observed_at").cast(pl.Datetime("us", "UTC")), day=pl.lit(DAY))
    rows = flights(
        {"origin": "EWR", "scheduled_departure": local(DAY, 8, 59)},
        {"origin": "EWR", "scheduled_departure": local(DAY, 9)},
        {"origin": "EWR", "scheduled_departure": local(DAY, 10)},
        {"origin": "JFK", "scheduled_departure": local(DAY, 8)},
        {"origin": "LGA", "scheduled_departure": local(DAY, 8)},
    ).with_columns(day=pl.lit(DAY), hour=pl.col("scheduled_departure").dt.truncate("1h"))
    joined = features.weather(spark.createDataFrame(rows.to_arrow()), spark.createDataFrame(observed.to_arrow()))
    assert collected(joined, "flight", "temperature_f", "weather_missing") == [
        (0, 1.0, 0.0),
        (1, 2.0, 0.0),
        (2, None, 1.0),
        (3, None, 0.0),
        (4, None, 1.0),
    ]


def test_late_rates_are_over_1_7_and_28_days(spark: SparkSession) -> None:
    """A flight that nothing is known of is not counted; the day itself and the 29th day before are too far."""
    late = {0: [1.0] * 9, 1: [1.0, 0.0, None], 2: [0.0], 7: [0.0], 8: [1.0, 1.0], 28: [1.0]}
    history = [
        of_delivery(
            spark,
            actuals(DAY - timedelta(days=n), [0.0] * len(outcomes)).with_columns(
                late_arrival=pl.Series(outcomes, dtype=pl.Float64), origin=pl.lit("EWR")
            ),
            DAY - timedelta(days=n),
        )
        for n, outcomes in late.items()
    ]
    feeds = {
        "schedule": of_delivery(spark, flights({"carrier": "UA"}, {"carrier": "ZZ", "origin": "EWR"}), DAY),
        "weather": of_delivery(spark, weather(DAY), DAY),
        "actuals": reduce(DataFrame.unionByName, history),
    }
    known = knows((DAY, "schedule", DAY, "a"), *((DAY, "actuals", DAY - timedelta(days=n), "a") for n in late if n > 0))
    built = features.build(Feeds(load_project("flights"), feeds, known))
    names = [f"late_rate_{by}_{n}d" for by in ("carrier", "origin") for n in (1, 7, 28)]
    rates = (1 / 2, 1 / 4, 4 / 7)
    assert collected(built, "carrier", *names) == [("UA", *rates, *rates), ("ZZ", None, None, None, *rates)]

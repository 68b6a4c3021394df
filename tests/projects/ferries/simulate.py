"""Simulate the deliveries of the test project `ferries`: about sixty ferries per day, computed from the day alone.

Equal days give equal rows. Ferries of one company, and those that leave late in the day, are late more often, so that
there is something to learn.
"""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

READY_AT = {"sailings": (-1, time(18)), "winds": (0, time(2)), "logbook": (1, time(2, 30))}
PIERS = ("BAT", "PAU", "STG")
COMPANIES = ("B6", "EV", "UA")
TIMESTAMP = pl.Datetime("us", "UTC")


def sailings(timezone: str, day: date) -> pl.DataFrame:
    """Return the ferries of a day; on Sundays there are fewer."""
    random = _random("sailings", day)
    count = 45 if day.weekday() == 6 else 60
    # No wall time between 05:00 and 23:00 is skipped or comes twice.
    minutes = np.sort(random.choice(np.arange(5 * 60, 23 * 60), count, replace=False))
    return pl.DataFrame({
        "company": random.choice(COMPANIES, count),
        "ferry": np.arange(100, 100 + count),
        "origin": random.choice(PIERS, count),
        "dest": random.choice(("HOB", "RED", "WIL"), count),
        "departs_at": pl.Series([_at(timezone, day, int(minute)) for minute in minutes], dtype=TIMESTAMP),
        "arrives_local": [f"{minute // 60 + 1:02}{minute % 60:02}" for minute in minutes],
        "distance_miles": random.integers(10, 40, count).astype(float),
        "is_holiday": [day.month == day.day] * count,
        "contact_email": [f"captain.{n}@example.org" for n in range(count)],
    })


def winds(timezone: str, day: date) -> pl.DataFrame:
    """Return the weather at each pier and hour of a day that the clock has."""
    start, end = (_at(timezone, day + timedelta(days=days), 0) for days in (0, 1))
    hours = [start + timedelta(hours=n) for n in range(int((end - start).total_seconds() // 3600))]
    random, count = _random("winds", day), len(hours) * len(PIERS)
    wind = random.gamma(4, 3, count)
    return pl.DataFrame({
        "origin": list(PIERS) * len(hours),
        "observed_at": pl.Series([hour for hour in hours for _ in PIERS], dtype=TIMESTAMP),
        "temperature_f": random.normal(50, 10, count),
        "dew_point_f": random.normal(35, 10, count),
        "humidity_percent": random.uniform(30, 100, count),
        "wind_direction_degrees": random.integers(0, 36, count) * 10.0,
        "wind_speed_mph": wind,
        "wind_gust_mph": pl.Series(np.where(wind > 12, wind * 1.4, np.nan)).fill_nan(None),
        "precipitation_inches": random.choice((0.0, 0.1), count, p=(0.9, 0.1)),
        "pressure_millibars": random.normal(1015, 8, count),
        "visibility_miles": random.uniform(2, 10, count),
    })


def logbook(timezone: str, day: date) -> pl.DataFrame:
    """Return the logbook of a day; a few ferries were cancelled."""
    random, rows = _random("logbook", day), sailings(timezone, day)
    count = rows.height
    hour = rows["departs_at"].dt.convert_time_zone(timezone).dt.hour().to_numpy()
    delay = 2.0 * (hour - 14) + 15 * (rows["company"] == "EV").to_numpy() + random.normal(0, 12, count)
    cancelled = random.random(count) < 0.03
    minutes = {"wait_minutes": delay / 2, "delay_minutes": delay, "crossing_minutes": random.normal(25, 3, count)}
    return rows.select("company", "ferry", "origin", "dest", "departs_at").with_columns(
        pl.Series("vessel", [None if gone else f"N{n}ZX" for n, gone in enumerate(cancelled)], dtype=pl.String),
        *(
            pl.Series(name, np.where(cancelled, np.nan, np.round(value))).fill_nan(None)
            for name, value in minutes.items()
        ),
    )


FEEDS = {"sailings": sailings, "winds": winds, "logbook": logbook}


def _random(feed: str, day: date) -> np.random.Generator:
    return np.random.default_rng([day.toordinal(), len(feed)])


def _at(timezone: str, day: date, minute: int) -> datetime:
    return datetime.combine(day, time(minute // 60, minute % 60), ZoneInfo(timezone)).astimezone(UTC)

"""Deliveries for tests: a few ferries per day, valid or invalid, with planted personal data.

`include/operations/simulate.py` writes the valid files; this module can spoil them. No PostgreSQL is needed.
"""

import gzip
import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from include.config.loading import load_project
from include.core.interval import Interval
from include.core.project import Project
from include.core.settings import Settings
from include.io.journal import read_journal
from include.io.landing import Landing
from include.io.tables import Tables
from include.operations.simulate import deliver, usual_available_at

DAY = date(2013, 3, 4)
"""An ordinary Monday, in winter time: 03:00 is 08:00 UTC."""

EMAIL = "planted.person@example.org"
VESSEL = "N7ZQX"
"""Begin what the tests look for where no personal data may be; each row has a number behind it."""


def places(folder: Path) -> Settings:
    """Return settings with places below a folder, and no database."""
    return Settings.model_validate({
        "landing": str(folder / "landing"),
        "tables": str(folder / "tables"),
        "artifacts": str(folder / "artifacts"),
        "journal": str(folder / "journal"),
        "database_url": "unused",
        "mlflow_tracking_uri": "unused",
        "hash_key": "the hash key of the tests, which is long",
    })


def local(day: date, hour: int, minute: int = 0) -> datetime:
    """Return a local time of New York in UTC."""
    return datetime.combine(day, time(hour, minute), ZoneInfo("America/New_York")).astimezone(UTC)


def sailings(day: date, count: int = 3) -> pl.DataFrame:
    """Ferries from each pier in turn, one an hour from 08:00."""
    return _ferries(day, count).with_columns(
        arrives_local=pl.lit("1530"),
        distance_miles=pl.lit(2454.0),
        is_holiday=pl.lit(False),
        contact_email=pl.format(EMAIL.replace("@", "{}@"), "ferry"),
    )


def logbook(day: date, delays: Sequence[float | None] = (5.0, 40.0, None)) -> pl.DataFrame:
    """Return the logbook of as many ferries as there are delays."""
    return _ferries(day, len(delays)).select(
        "company",
        "ferry",
        "origin",
        "dest",
        "departs_at",
        vessel=pl.format(f"{VESSEL}{{}}", "ferry"),
        wait_minutes=pl.lit(0.0),
        delay_minutes=pl.Series(delays, dtype=pl.Float64),
        crossing_minutes=pl.lit(300.0),
    )


def winds(day: date, temperature_f: float = 40.0) -> pl.DataFrame:
    """Return the winds at the hours of the ferries."""
    hours = [(origin, local(day, hour)) for hour in range(8, 14) for origin in ("BAT", "PAU", "STG")]
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


def usual(feed: str, day: date) -> pl.DataFrame:
    if feed == "sailings":
        return sailings(day)
    return logbook(day) if feed == "logbook" else winds(day)


def deliver_day(project: Project, settings: Settings, *run_dates: date) -> None:
    """Deliver the files that each run date requires, on time."""
    for run_date in run_dates:
        for feed, day in project.required(run_date).items():
            deliver_one(project, settings, feed, day)


def deliver_one(
    project: Project,
    settings: Settings,
    feed: str,
    day: date,
    frame: pl.DataFrame | None = None,
    *,
    at: datetime | None = None,
    name: str | None = None,
) -> Path:
    """Deliver a file with its sidecar, on time unless `at` is given; return its path.

    Each further file of a day comes a minute after the one before.
    """
    rows = usual(feed, day) if frame is None else frame
    earlier = len(Landing(project, settings).find(feed, day)) if at is None else 0
    available_at = at or usual_available_at(project, feed, day) + timedelta(minutes=earlier)
    found = deliver(project, feed, day, rows, available_at=available_at, settings=settings, name=name)
    return Path(found.uri.removeprefix("file://"))


def text_of(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode()


def spoil(path: Path, content: str | bytes, **sidecar: Any) -> None:
    """Replace the content of a file that is not landed yet; its sidecar agrees, except for the values in `sidecar`."""
    data = gzip.compress(content.encode(), mtime=0) if isinstance(content, str) else content
    path.write_bytes(data)
    beside = path.with_name(f"{path.name}.json")
    claims = json.loads(beside.read_text(encoding="utf-8"))
    claims |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), **sidecar}
    if isinstance(content, str):
        claims |= {"rows": content.count("\n") - 1, **sidecar}
    beside.write_text(json.dumps(claims), encoding="utf-8")


def rows_of(settings: Settings, table: str, *sort_by: str) -> pl.DataFrame:
    rows = Tables(settings).scan(table).collect()
    return rows.sort(*(sort_by or [c for c in ("day", "feed", "delivery_id", "_row") if c in rows.columns]))


def deliveries_of(settings: Settings, project: str = "ferries") -> pl.DataFrame:
    """Return the deliveries of the journal, by day, feed and id."""
    return read_journal(settings, load_project(project)).deliveries.sort("day", "feed", "delivery_id")


def versions(settings: Settings) -> dict[str, int]:
    """Map each existing table to its Delta version."""
    return {path.name: Tables(settings).version(path.name) for path in sorted(Path(settings.tables).glob("*"))}


def made_beside_landing(settings: Settings) -> list[Path]:
    """All files that are not a supplier's."""
    below = [Path(settings.tables), Path(settings.journal)]
    return sorted(path for folder in below for path in folder.rglob("*") if path.is_file())


def days(start: date, count: int) -> Interval:
    return Interval(start=start, end=start + timedelta(days=count - 1))


_TIMESTAMP = pl.Datetime("us", "UTC")


def _ferries(day: date, count: int) -> pl.DataFrame:
    rows = [("UA", n, ("BAT", "PAU", "STG")[n % 3], "HOB", local(day, 8 + n // 3, n % 60)) for n in range(count)]
    types = {"company": pl.String, "ferry": pl.Int64, "origin": pl.String, "dest": pl.String}
    return pl.DataFrame(rows, schema={**types, "departs_at": _TIMESTAMP}, orient="row")

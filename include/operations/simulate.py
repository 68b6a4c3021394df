"""Make the deliveries of an example project, and write them to landing as its suppliers would.

A project whose folder has a `simulate.py` is an example project. That file makes rows and knows no place:

- `FEEDS`: for each feed the function that returns its rows, from the project's timezone and the feed's day;
- `READY_AT`: for each feed how many days after that day, and at which local time, its supplier has the file ready;
- `CYCLE_DAYS`, where the same rows come again after that many days;
- `spoil`, where `make run` shows a quarantine: a function from the rows of the entity's feed to invalid ones.

Files are written in the feed's format. Where the path has `{hour}`, the rows of each local hour of `day_column` are a
file. A snapshot is delivered once, as it is on the project's first day. The rows of a feed with a `source` go into the
table of the feed's name in that database.

Everything that writes is here. Reading deliveries belongs to `io/landing.py`; a real supplier needs nothing of this.
"""

import gzip
import hashlib
import importlib
import io
import logging
import re
import zlib
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import sqlalchemy as sa
from pydantic import ValidationError

from include.config.loading import is_simulated
from include.core.base import Record
from include.core.errors import ActionRequiredError, DeliveryError, nearest
from include.core.formats import AnyFormat
from include.core.formats.csv import Csv
from include.core.interval import Interval
from include.core.local_time import hours_of
from include.core.paths import pattern
from include.core.project import Project
from include.core.records import StepResult
from include.core.settings import Settings
from include.io.landing import Landing, Sidecar, read, write_whole

log = logging.getLogger(__name__)


class Delivered(Record):
    """One file in landing, with what its sidecar says; `new` is False when the same one was there already."""

    uri: str
    sidecar: Sidecar
    new: bool


class Simulated(StepResult):
    """Rows in the files of the interval; how many files were `landed` now, and how many were there `unchanged`."""

    landed: int
    unchanged: int

    @property
    def skipped(self) -> str | None:
        """Return why nothing was delivered, None if something was."""
        return None if self.landed + self.unchanged else f"the project needs no file yet on {self.interval}"


def simulate(project: Project, interval: Interval, settings: Settings) -> Simulated:
    """Land the files that each run date of the interval needs.

    Nothing is landed for days before the project's `first_day`. The same day gives the same bytes, and an existing file
    stays untouched, so the operation may be repeated, and intervals may overlap.

    Raises:
        ActionRequiredError: the project is not an example project, declares a feed or column that its `simulate.py`
            does not make, or the interval is longer than the days after which its rows repeat.
        DeliveryError: a different file has one of the names already. Files landed before it stay; each is whole.
    """
    if not is_simulated(project):
        raise ActionRequiredError(
            f"{project.name} is not an example project: {project.folder} has no simulate.py that makes its files"
        )
    cycle = getattr(maker(project), "CYCLE_DAYS", None)
    if cycle and len(interval.days) > cycle:
        raise ActionRequiredError(
            f"{interval} is {len(interval.days)} days, but the example data repeat after {cycle}: the same rows would "
            f"come twice. Simulate at most {cycle} days at a time"
        )
    needed = [(feed, day) for run_date in interval.days for feed, day in project.delivered_days(run_date)]
    if interval.end >= project.first_day:
        needed += [(feed, project.first_day) for feed in project.snapshots]
    delivered = [file for feed, day in dict.fromkeys(needed) for file in _deliver_usual(project, feed, day, settings)]
    landed = sum(new for _, new in delivered)
    rows = sum(count for count, _ in delivered)
    log.info("%s of %s: %d files landed of %d, %d rows", interval, project.name, landed, len(delivered), rows)
    return Simulated(interval=interval, rows=rows, landed=landed, unchanged=len(delivered) - landed)


def _deliver_usual(project: Project, feed: str, day: date, settings: Settings) -> Iterator[tuple[int, bool]]:
    """Deliver what the supplier of a feed sends for a day; yield the rows of each file and whether it is new."""
    frame, declared = make_frame(project, feed, day), project.feeds[feed]
    if declared.source is not None:
        yield frame.height, insert(project, feed, day, frame, settings)
        return
    at = usual_available_at(project, feed, day)
    parts = {None: frame} if declared.parts is None else _by_hour(project, feed, day, frame)
    for part, rows in parts.items():
        file = deliver(project, feed, day, rows, available_at=at, settings=settings, part=part)
        yield file.sidecar.rows, file.new


def _by_hour(project: Project, feed: str, day: date, frame: pl.DataFrame) -> dict[str | None, pl.DataFrame]:
    """Return the rows of each local hour that the day has; an hour may have none."""
    declared = project.feeds[feed]
    if "{hour}" not in declared.path or "{part}" in declared.path:
        raise ActionRequiredError(f"feeds.{feed}.path: example data can be delivered in parts by {{hour}} only")
    local = pl.col(str(declared.day_column)).dt.convert_time_zone(project.timezone)
    hour = local.dt.strftime("%H")
    return {name: frame.filter(hour == name) for name in hours_of(day, project.zone)}


def deliver(
    project: Project,
    feed: str,
    day: date,
    frame: pl.DataFrame,
    *,
    available_at: datetime,
    settings: Settings,
    name: str | None = None,
    part: str | None = None,
) -> Delivered:
    """Land one file of a feed and day with its sidecar; corrections in tests and drills are landed by it too.

    `name` stands for the `*` of the feed's path and is the feed's name by default; a correction is another object, so
    it needs a name and an `available_at` (aware) of its own. `part` stands for `{hour}`. The frame is written as it is,
    right or wrong, so that drills can land broken files. Timestamps are aware; they are written in the timezone of the
    feed's format, or in UTC.

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
    if project.feeds[feed].source is not None:
        raise ActionRequiredError(f"feeds.{feed} is extracted from a database; write its rows there")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name or feed):
        raise ActionRequiredError(
            f"{name!r} cannot stand for the * of {project.feeds[feed].path}: use letters, digits, _ and -"
        )
    declared = project.feeds[feed]
    if (part is None) != (declared.parts is None):
        raise ActionRequiredError(f"feeds.{feed}: its files {'have no' if part else 'need the name of their'} part")
    place = pattern(declared.path.replace("{hour}", part or ""), declared.day_in_path(day)).replace("*", name or feed)
    landing = Landing(project, settings)
    filesystem, path = landing.fs, f"{landing.root}/{place}"
    uri = str(filesystem.unstrip_protocol(path))

    content = _render(frame, declared.format)
    found = read(filesystem, path)
    data = found if found is not None else gzip.compress(content, mtime=0) if path.endswith(".gz") else content
    sidecar = Sidecar(
        feed=feed,
        day=day,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        rows=frame.height,
        available_at=available_at.astimezone(UTC),
    )
    if found is not None:
        _refuse_change(uri, found, content, read(filesystem, f"{path}.json"), sidecar)
        return Delivered(uri=uri, sidecar=sidecar, new=False)
    write_whole(filesystem, f"{path}.json", sidecar.model_dump_json().encode())
    write_whole(filesystem, path, data)
    return Delivered(uri=uri, sidecar=sidecar, new=True)


def make_frame(project: Project, feed: str, day: date) -> pl.DataFrame:
    """Return what the supplier of a feed sends for a day: the columns of project.yaml in their order.

    Types: string String, integer Int64, double Float64, boolean Boolean, timestamp Datetime in UTC.

    Raises:
        ActionRequiredError: the project or its `simulate.py` has no such feed or column, or its data are not installed.
    """
    feeds = maker(project).FEEDS
    if feed not in feeds or feed not in project.feeds:
        raise ActionRequiredError(f"the example data have no feed {feed!r} of {project.name}{nearest(feed, feeds)}")
    try:
        frame: pl.DataFrame = feeds[feed](project.timezone, day)
    except ModuleNotFoundError as error:
        raise ActionRequiredError(str(error)) from error
    for column in project.feeds[feed].columns:
        if column not in frame.columns:
            raise ActionRequiredError(
                f"the example data have no column {column!r} of {feed}{nearest(column, frame.columns)}"
            )
    return frame.select(list(project.feeds[feed].columns))


def usual_available_at(project: Project, feed: str, day: date) -> datetime:
    """Return when the supplier of a feed has the file of a day ready, UTC (`READY_AT` of the project).

    A local time that the clock skips counts an hour early (`fold=1`): on the day of the change to summer time, 02:30
    would otherwise be 03:30, after a cutoff at 03:00, and each spring one run would be late.
    """
    days_later, local = maker(project).READY_AT[feed]
    wall = datetime.combine(day + timedelta(days=days_later), local, project.zone)
    return wall.replace(fold=1).astimezone(UTC)


def maker(project: Project) -> Any:
    """Return the module `simulate` of an example project."""
    return importlib.import_module(f"include.projects.{project.name}.simulate")


def insert(project: Project, feed: str, day: date, frame: pl.DataFrame, settings: Settings) -> bool:
    """Put the rows of a day into the database that a feed is extracted from; return False if they are there already.

    The table has the name of the feed; it is made if it is missing. Nothing else in the product writes to a source.

    Raises:
        ActionRequiredError: nothing says where the database is, or its type of days is not supported here.
        DeliveryError: the table has other rows for the day.
    """
    declared = project.feeds[feed]
    assert declared.source is not None
    connection = declared.source.connection
    if connection not in settings.sources:
        raise ActionRequiredError(
            f"feeds.{feed}: the example data go into the database of connection {connection}, which is not declared; "
            "the local stack has one (make start), elsewhere see docs/configuration.md"
        )
    if declared.day_column is None or declared.columns[declared.day_column].type != "date":
        raise ActionRequiredError(f"feeds.{feed}.day_column: example data in a database need a date")
    table = sa.Table(feed, sa.MetaData(), *(sa.Column(name, _SQL[c.type]) for name, c in declared.columns.items()))
    url = sa.make_url(settings.sources[connection].get_secret_value())
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as opened:
        table.create(opened, checkfirst=True)
        there = opened.execute(sa.select(table).where(table.c[declared.day_column] == day)).all()
        if not there:
            opened.execute(sa.insert(table), frame.to_dicts())
            return True
    if sorted(map(repr, map(tuple, there))) != sorted(map(repr, frame.iter_rows())):
        raise DeliveryError(f"connection {connection}: table {feed} has other rows for {day} already; remove them")
    return False


_SQL: dict[str, sa.types.TypeEngine[Any]] = {
    "string": sa.Text(),
    "integer": sa.BigInteger(),
    "double": sa.Float(),
    "boolean": sa.Boolean(),
    "timestamp": sa.DateTime(timezone=True),
    "date": sa.Date(),
}


def _render(frame: pl.DataFrame, written: AnyFormat) -> bytes:
    """Return the frame as a file of a format. In CSV, a missing value is empty, and an empty string is `""`."""
    for column, dtype in frame.schema.items():
        if isinstance(dtype, pl.Datetime) and dtype.time_zone is None:
            raise ValueError(f"column {column!r}: timestamps without a timezone")
    if written.kind == "parquet":
        file = io.BytesIO()
        frame.write_parquet(file)
        return file.getvalue()
    zone = (written.timestamps and written.timezone) or "UTC"
    times = pl.selectors.datetime(time_zone="*").dt.convert_time_zone(zone)
    worded = frame.with_columns(
        times.dt.strftime(written.timestamps[0] if written.timestamps else "%Y-%m-%dT%H:%M:%SZ"),
        pl.selectors.date().dt.strftime(written.dates[0] if written.dates else "%Y-%m-%d"),
    )
    if not isinstance(written, Csv):
        return worded.write_ndjson().encode()
    return worded.write_csv(
        separator=written.delimiter,
        quote_char=written.quote or '"',
        quote_style="necessary" if written.quote else "never",
        decimal_comma=written.decimal == ",",
    ).encode(written.encoding)


def _refuse_change(uri: str, found: bytes, content: bytes, found_sidecar: bytes | None, sidecar: Sidecar) -> None:
    """Refuse a file with other content than the one that is there, or with another sidecar.

    What is compared is unpacked, because compressed bytes differ between versions of zlib.

    Raises:
        DeliveryError: they differ.
    """
    instead = "deliveries are immutable: land a correction under another name"
    try:
        same = (gzip.decompress(found) if uri.endswith(".gz") else found) == content
    except (OSError, EOFError, zlib.error):
        same = False
    if not same:
        raise DeliveryError(f"{uri} is there already, with other content; {instead}")
    if found_sidecar is None:
        raise DeliveryError(f"{uri} is there already, without its sidecar {uri}.json; {instead}")
    try:
        before = Sidecar.model_validate_json(found_sidecar)
    except ValidationError as error:
        raise DeliveryError(
            f"{uri}.json is there already, but is no sidecar ({error.error_count()} errors); {instead}"
        ) from error
    old, new = before.model_dump(), sidecar.model_dump()
    if changed := [f"{key} {old[key]}, not {new[key]}" for key in new if old[key] != new[key]]:
        raise DeliveryError(f"{uri}.json is there already and says {'; '.join(changed)}; {instead}")

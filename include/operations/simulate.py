"""Make the deliveries of an example project, and write them to landing as its suppliers would.

A project whose folder has a `simulate.py` is an example project. That file makes rows and knows no place:

- `FEEDS`: for each feed the function that returns its rows, from the project's timezone and the feed's day;
- `READY_AT`: for each feed how many days after that day, and at which local time, its supplier has the file ready;
- `CYCLE_DAYS`, where the same rows come again after that many days;
- `spoil`, where `make run` shows a quarantine: a function from the rows of the entity's feed to invalid ones.

Everything that writes is here. Reading deliveries belongs to `io/landing.py`; a real supplier needs nothing of this.
"""

import gzip
import hashlib
import importlib
import logging
import re
import zlib
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
from pydantic import ValidationError

from include.config.loading import is_simulated
from include.core.base import Record
from include.core.errors import ActionRequiredError, DeliveryError, nearest
from include.core.interval import Interval
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
    delivered = [
        deliver(
            project,
            feed,
            day,
            make_frame(project, feed, day),
            available_at=usual_available_at(project, feed, day),
            settings=settings,
        )
        for feed, day in dict.fromkeys(one for run_date in interval.days for one in project.delivered_days(run_date))
        if feed in project.file_feeds
    ]
    landed = sum(file.new for file in delivered)
    rows = sum(file.sidecar.rows for file in delivered)
    log.info("%s of %s: %d files landed of %d, %d rows", interval, project.name, landed, len(delivered), rows)
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
    """Land one file of a feed and day with its sidecar; corrections in tests and drills are landed by it too.

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
    if project.feeds[feed].source is not None:
        raise ActionRequiredError(f"feeds.{feed} is extracted from a database; write its rows there")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name or feed):
        raise ActionRequiredError(
            f"{name!r} cannot stand for the * of {project.feeds[feed].path}: use letters, digits, _ and -"
        )
    place = pattern(project.feeds[feed].path, day).replace("*", name or feed)
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


def _render(frame: pl.DataFrame) -> bytes:
    """Return the frame as CSV; a missing value is empty, and an empty string is `""`."""
    for column, dtype in frame.schema.items():
        if isinstance(dtype, pl.Datetime) and dtype.time_zone is None:
            raise ValueError(f"column {column!r}: timestamps without a timezone")
    times = pl.selectors.datetime(time_zone="*")
    in_utc = frame.with_columns(times.dt.convert_time_zone("UTC").dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    return in_utc.write_csv().encode()


def _refuse_change(uri: str, found: bytes, text: bytes, found_sidecar: bytes | None, sidecar: Sidecar) -> None:
    """Refuse a file with other text than the one that is there, or with another sidecar.

    The text is compared, not the compressed bytes: those differ between versions of zlib.

    Raises:
        DeliveryError: they differ.
    """
    instead = "deliveries are immutable: land a correction under another name"
    try:
        same = gzip.decompress(found) == text
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

"""The storage where suppliers put files: find objects, and read them and their sidecars.

Files are never moved or changed. The step `land` parses them, and the journal keeps what became of them.
"""

import hashlib
import logging
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

from fsspec.implementations.local import LocalFileSystem
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from include.core.errors import DeliveryError
from include.core.interval import Interval
from include.core.paths import DayOfKey, begin, pattern, says_day
from include.core.printable import is_printable, printable
from include.core.project import Project
from include.core.settings import Settings
from include.io import storage

log = logging.getLogger(__name__)


MAX_COUNT = 10**18
"""No file has so many rows or bytes: a number of thousands of digits would fill messages."""


class Sidecar(BaseModel):
    """The supplier's claims about a file, in `<file>.json` beside it. `size` is in bytes; `rows` is without the header.

    The sidecar of a file whose path says the day must say it too. A time without an offset is refused, because it would
    mean another moment on another machine.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    feed: str = Field(max_length=100)
    day: date | None = None
    size: int = Field(ge=0, lt=MAX_COUNT)
    sha256: str = Field(pattern="^[0-9a-fA-F]{64}$")
    rows: int = Field(ge=0, lt=MAX_COUNT)
    available_at: AwareDatetime


UNFINISHED = (".part", ".partial", ".filepart", ".tmp", ".temp", ".crdownload", ".download", "._COPYING_", ".swp", "~")
"""How the names of files end that a program is still writing; it renames them when they are whole."""
MAX_SIDECAR_BYTES = 1_000_000
"""The largest sidecar that is read."""
MAX_LISTINGS = 400
"""The most days of a feed that are listed one by one: a year and its corrections. For more, one listing is cheaper."""
MAX_KEY_BYTES = 1024
"""The longest key that is read, as in S3; PostgreSQL could not index one of a few kilobytes."""


@dataclass(frozen=True)
class Found:
    """An object in landing that matches a feed's path; its content has not been read."""

    feed: str
    day: date
    key: str
    uri: str
    size: int
    modified_at: datetime
    part: str | None = None
    """The name of the part, if the feed has several files a day."""
    sidecar: bool = False
    """Whether it has a sidecar."""


@dataclass(frozen=True)
class Unusable:
    """Something in landing that matches a feed's path and cannot be a delivery, and why; `uri` is safe to print."""

    feed: str
    day: date
    uri: str
    why: str


@dataclass(frozen=True)
class Listing:
    """The objects of some feeds, and what else matches the feeds' paths but cannot be a delivery.

    `markers` has the file that says that the parts of a feed and day are complete.
    """

    found: list[Found]
    unusable: list[Unusable]
    markers: dict[tuple[str, date], Found] = field(default_factory=dict)


class Landing:
    """The landing folder of one project. Each sidecar is read at most once."""

    def __init__(self, project: Project, settings: Settings) -> None:
        self.project = project
        self.fs, root = storage.filesystem(settings, settings.landing)
        self.root = f"{root.rstrip('/')}/{project.name}"
        self._sidecars: dict[str, Sidecar | None] = {}
        self._sizes: dict[str, int] = {}

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder, in which files can be seen while they are written, and not an object store."""
        return isinstance(self.fs, LocalFileSystem)

    def pattern(self, feed: str, day: date) -> str:
        """Return the pattern of a feed's files of a day, as a URI."""
        return self._uri(f"{self.root}/{self._files(feed, self.project.feeds[feed].path, day)}")

    def _files(self, feed: str, path: str, day: date | None) -> str:
        """Return the glob pattern of a feed's path, or of a folder of it, on the day of its rows or on all days."""
        return pattern(path, None if day is None else self.project.feeds[feed].day_in_path(day))

    def _days(self, feed: str, path: str) -> DayOfKey:
        """Return what finds the day of the rows in keys of a feed's path, or of a folder of it."""
        return DayOfKey(path, self.project.feeds[feed].path_day)

    def find(self, feed: str, day: date | None = None) -> list[Found]:
        """Return the objects of a feed, of one day or all days, by day and key, without sidecars and hidden files."""
        return self.look({feed: day}).found

    def look(self, feeds: Mapping[str, Interval | date | None]) -> Listing:
        """List some feeds, each for some days, one day, or all days (None)."""
        self.fs.invalidate_cache()
        listings = [self._look(feed, day) for feed, days in feeds.items() for day in self._listed(feed, days)]
        listings = [_only(each, feeds) for each in listings]
        return Listing(
            [f for each in listings for f in each.found],
            [u for each in listings for u in each.unusable],
            {slot: marker for each in listings for slot, marker in each.markers.items()},
        )

    def _listed(self, feed: str, days: Interval | date | None) -> Sequence[date | None]:
        """Return for which days a feed is listed, one listing for each; None is one listing of all days.

        Days are listed one by one if the beginning of the path says the day, so that years of history cost nothing.
        Otherwise each such listing would read all of them.
        """
        if not isinstance(days, Interval):
            return [days]
        path = self.project.feeds[feed].path
        first = begin(path)
        if self.is_folder and first != path:  # a folder is listed whole
            first = first.rpartition("/")[0]
        return days.days if (days.end - days.start).days < MAX_LISTINGS and says_day(first) else [None]

    def _look(self, feed: str, day: date | None) -> Listing:
        path, dated = self.project.feeds[feed].path, self.project.feeds[feed].dated
        days, below = self._days(feed, path), len(self.root) + 1
        place = f"{self.root}/{self._files(feed, path, day)}"
        listing = {key[below:]: info for key, info in self._list(place).items()}
        self._sizes |= {key: info["size"] for key, info in listing.items() if key.endswith(".json")}
        markers = self._markers(feed, day, listing)
        marking = {marker.key for marker in markers.values()}
        matches = {key: match for key in listing if key not in marking and (match := days.matches(key))}
        found, unusable = [], []
        for key, match in matches.items():
            if _is_hidden(key, path) or (key.endswith(".json") and key.removesuffix(".json") in matches):
                continue
            uri = printable(self._uri(f"{self.root}/{key}"))
            why, modified_at = _why_unusable(key, path, listing[key]), _moment(listing[key])
            of_day = days.day(match) if dated else self.project.day_of(modified_at or datetime.now(UTC))
            if of_day is None:
                log.warning("%s: its day is not a date; the file is ignored", uri)
                continue
            if day not in (None, of_day):
                continue
            if why is None and modified_at is not None:
                size, sidecar = listing[key]["size"], self._has_sidecar(key)
                found.append(Found(feed, of_day, key, uri, size, modified_at, days.part(match), sidecar))
            else:
                unusable.append(Unusable(feed, of_day, uri, f"{uri}: {why or 'its time of change is out of range'}"))
        unusable += self._linked_folders(feed, day)
        found.sort(key=lambda f: (f.day, f.key))
        return Listing(found, sorted(unusable, key=lambda u: (u.day, u.uri)), markers)

    def _markers(self, feed: str, day: date | None, listing: dict[str, Any]) -> dict[tuple[str, date], Found]:
        """Return the markers of a feed that are files."""
        path, below = self.project.feeds[feed].marker_path, len(self.root) + 1
        if path is None:
            return {}
        if self.is_folder:  # an object store has listed it with the parts
            place = f"{self.root}/{self._files(feed, path, day)}"
            listing = {key[below:]: info for key, info in self._list(place).items()}
        days, found = self._days(feed, path), {}
        for key, info in listing.items():
            match, modified_at = days.matches(key), _moment(info)
            of_day = days.day(match) if match and info["type"] == "file" and not info.get("islink") else None
            if of_day and modified_at and day in (None, of_day):
                uri = printable(self._uri(f"{self.root}/{key}"))
                found[feed, of_day] = Found(feed, of_day, key, uri, info["size"], modified_at)
        return found

    def _list(self, pattern: str) -> dict[str, Any]:
        """Map each path that matches the pattern, and maybe more paths, to its file information."""
        if self.is_folder:
            return dict(self.fs.glob(pattern, detail=True))
        # an object store lists a thousand keys at once and has no folders, each of which glob would list
        folder, _, name = pattern.split("*", 1)[0].rpartition("/")
        named = {"prefix": name} if name and "s3" in self.fs.protocol else {}
        return dict(self.fs.find(folder, detail=True, **named))

    def _linked_folders(self, feed: str, day: date | None) -> list[Unusable]:
        """Return the folders of days that are symbolic links: nothing below them is listed."""
        if not self.is_folder:
            return []
        linked, folder = [], self.project.feeds[feed].path
        while says_day(folder := folder.rpartition("/")[0]):
            days = self._days(feed, folder)
            for path, info in self.fs.glob(f"{self.root}/{self._files(feed, folder, day)}", detail=True).items():
                match = days.matches(path.removeprefix(f"{self.root}/")) if info["islink"] else None
                if match and (of_day := days.day(match)) and day in (None, of_day):
                    uri = printable(self._uri(path))
                    linked.append(Unusable(feed, of_day, uri, f"{uri}: {_LINK}"))
        return linked

    def _uri(self, path: str) -> str:
        return str(self.fs.unstrip_protocol(path))

    def read(self, found: Found) -> bytes:
        """Return the content of an object; of one that has grown since it was listed, one byte more than it had."""
        return self._read(found.key, found.size)

    def _read(self, key: str, size: int) -> bytes:
        """Return the first bytes of an object, at most one more than `size`, so that the caller sees that it is larger.

        Between the listing and now, a supplier can put anything in its place. So in a folder it must be a file: a link
        could lead to a file or device of the server, and reading a pipe would never end.

        Raises:
            NotAFileError: it is a link, a folder, a pipe or a device.
        """
        path = f"{self.root}/{key}"
        if self.is_folder:
            return _read_file(path, size + 1)
        return bytes(self.fs.cat_file(path, start=0, end=size + 1) if size else self.fs.cat_file(path))

    def sidecar(self, found: Found) -> Sidecar | None:
        """Return the supplier's claims about a file, None without a sidecar.

        Raises:
            DeliveryError: the sidecar cannot be read.
        """
        if found.key not in self._sidecars:
            self._sidecars[found.key] = self._read_sidecar(found)
        return self._sidecars[found.key]

    def _read_sidecar(self, found: Found) -> Sidecar | None:
        key = f"{found.key}.json"
        try:
            content = self._read(key, MAX_SIDECAR_BYTES if self.is_folder or self._sizes.get(key, 1) else 0)
        except FileNotFoundError:
            return None
        except NotAFileError as error:
            raise DeliveryError(f"{found.uri}.json: {error}; put the sidecar itself here, or remove it") from error
        if len(content) > MAX_SIDECAR_BYTES:
            raise DeliveryError(
                f"{found.uri}.json: not a sidecar (it has more than {MAX_SIDECAR_BYTES:,} bytes); correct or remove it"
            )
        try:
            return Sidecar.model_validate_json(content)
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
            raise DeliveryError(f"{found.uri}.json: not a sidecar ({wrong}); correct or remove it") from error

    def _has_sidecar(self, key: str) -> bool:
        if self.is_folder:
            return bool(self.fs.lexists(f"{self.root}/{key}.json"))
        return f"{key}.json" in self._sizes


class NotAFileError(OSError):
    """What was to be read is no file. The message says what it is."""


def _read_file(path: str, most: int) -> bytes:
    """Return the first bytes of a file in a folder. It does not follow a link, and waits for nobody."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if Path(path).is_symlink():
            raise NotAFileError("it is a symbolic link, and links are not followed") from error
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotAFileError("it is not a file")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(most)
    finally:
        os.close(descriptor)


def read(filesystem: Any, path: str) -> bytes | None:
    """Return a file's content, None if there is no such file. This reads the file itself, since listings are cached."""
    try:
        content: bytes = filesystem.cat_file(path)
    except FileNotFoundError:
        return None
    return content


def write_whole(
    filesystem: Any, path: str, data: bytes, *, once: bool = False, headers: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Write a file so that readers see all of it or nothing.

    An object store shows an object when its PUT is complete; in a folder, the file is renamed into place. fsspec's own
    transaction is not used: it goes through the machine's temporary folder, and copies if that is another disk.

    Args:
        filesystem: of fsspec.
        path: in it.
        data: the content.
        once: refuse to replace a file.
        headers: what an object store says of the object, as boto3 names it; a folder has no such thing.

    Raises:
        FileExistsError: with `once`, there is such a file. An object store notices it even if it was written just now.
    """
    if not isinstance(filesystem, LocalFileSystem):
        filesystem.pipe_file(path, data, mode="create" if once else "overwrite", **headers)
        return
    if once and Path(path).exists():
        raise FileExistsError(path)
    with moved_into_place(Path(path)) as part:
        part.write_bytes(data)


@contextmanager
def moved_into_place(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` to write to; the file gets its name when it is complete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{uuid4().hex}.part")  # hidden: no feed's pattern finds it
    try:
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def sha256(content: bytes) -> str:
    """Return the SHA-256 of a content as hex digits."""
    return hashlib.sha256(content).hexdigest()


def _only(listing: Listing, feeds: Mapping[str, Interval | date | None]) -> Listing:
    """Return what a listing has of the days that were asked for: one listing of all days has others too."""

    def asked(feed: str, day: date) -> bool:
        days = feeds[feed]
        return days.start <= day <= days.end if isinstance(days, Interval) else days in (None, day)

    return Listing(
        [each for each in listing.found if asked(each.feed, each.day)],
        [each for each in listing.unusable if asked(each.feed, each.day)],
        {slot: marker for slot, marker in listing.markers.items() if asked(*slot)},
    )


_LINK = "it is a symbolic link, and links are not followed; put the file itself here"


def _is_hidden(key: str, path: str) -> bool:
    """Return whether a part of a key is hidden, as in `_temporary/` or `.a.csv.gz`, where the path declares none.

    A part is empty where a tool put an empty object for a folder.
    """
    parts = zip(key.split("/"), path.split("/"), strict=True)
    return any(part[:1] in ("", ".", "_") and part[:1] != declared[0] for part, declared in parts)


def _why_unusable(key: str, path: str, info: dict[str, Any]) -> str | None:
    """Return why something that was listed cannot be a delivery, None if it can."""
    if info.get("islink"):
        return _LINK
    if info["type"] == "directory":
        return f"it is a folder, and the path of the feed, {path}, is one of files"
    if info["type"] != "file":
        return "it is not a file"
    if not is_printable(key):
        return "its name has characters that are not printable, or are not UTF-8; deliver it under another name"
    if len(key.encode()) > MAX_KEY_BYTES:
        return f"its name has more than {MAX_KEY_BYTES:,} bytes; deliver it under a shorter one"
    if ending := next((each for each in UNFINISHED if key.endswith(each) and not path.endswith(each)), None):
        return f"its name ends with {ending}, so its upload is not finished; it is read once it is renamed"
    return None


def _moment(info: dict[str, Any]) -> datetime | None:
    """Return the time of change of a listed object in UTC, None if it is out of range."""
    value = info.get("LastModified") or info.get("mtime")
    try:
        return value.astimezone(UTC) if isinstance(value, datetime) else datetime.fromtimestamp(value or 0, UTC)
    except (OverflowError, ValueError, OSError):
        return None

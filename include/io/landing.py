"""The storage where suppliers put files: find objects, and read them and their sidecars.

Files are never moved or changed. The step `land` parses them, and the journal keeps what became of them.
"""

import hashlib
import logging
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from fsspec.implementations.local import LocalFileSystem
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from include.core.errors import DeliveryError
from include.core.project import Project
from include.core.settings import Settings
from include.io import storage

log = logging.getLogger(__name__)


class Sidecar(BaseModel):
    """The supplier's claims about a file, in `<file>.json` beside it. `size` is in bytes; `rows` is without the header.

    A time without an offset is refused, because it would mean another moment on another machine.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    feed: str
    day: date
    size: int
    sha256: str
    rows: int
    available_at: AwareDatetime


@dataclass(frozen=True)
class Found:
    """An object in landing that matches a feed's pattern; its content has not been read."""

    feed: str
    day: date
    key: str
    uri: str
    size: int
    modified_at: datetime


class Landing:
    """The landing folder of one project. Each sidecar is read at most once."""

    def __init__(self, project: Project, settings: Settings) -> None:
        self.project = project
        self.fs, root = storage.filesystem(settings, settings.landing)
        self.root = f"{root.rstrip('/')}/{project.name}"
        self._sidecars: dict[str, Sidecar | None] = {}

    def pattern(self, feed: str, day: date | str) -> str:
        """Return the pattern of a feed's files of a day, for messages."""
        return str(self.fs.unstrip_protocol(f"{self.root}/{self.project.feeds[feed].path.format(day=day)}"))

    def find(self, feed: str, day: date | None = None) -> list[Found]:
        """Return the objects of a feed, of one day or all days, by day and key, without sidecars and hidden files."""
        declared = self.project.feeds[feed].path
        self.fs.invalidate_cache()
        listing = self._list(f"{self.root}/{declared.format(day=day or '*')}")
        named = re.compile(_as_regex(declared))
        matches = {path: named.fullmatch(path.removeprefix(f"{self.root}/")) for path in listing}
        found = []
        for path, info in listing.items():
            key, match = path.removeprefix(f"{self.root}/"), matches[path]
            if match is None or info["type"] != "file" or key.rsplit("/", 1)[-1].startswith((".", "_")):
                continue
            if path.endswith(".json") and matches.get(path.removesuffix(".json")):
                continue
            try:
                of_day = date.fromisoformat(match["day"])
            except ValueError:
                log.warning("%s: %s is not a date; the file is ignored", path, match["day"])
                continue
            if day not in (None, of_day):
                continue
            found.append(
                Found(
                    feed=feed,
                    day=of_day,
                    key=key,
                    uri=str(self.fs.unstrip_protocol(path)),
                    size=info["size"],
                    modified_at=_moment(info.get("LastModified") or info["mtime"]),
                )
            )
        return sorted(found, key=lambda f: (f.day, f.key))

    def _list(self, pattern: str) -> dict[str, Any]:
        """Map each path that matches the pattern, and maybe more paths, to its file information."""
        if isinstance(self.fs, LocalFileSystem):
            return dict(self.fs.glob(pattern, detail=True))
        # an object store lists a thousand keys at once and has no folders, each of which glob would list
        return dict(self.fs.find(pattern.split("*", 1)[0].rsplit("/", 1)[0], detail=True))

    def read(self, found: Found) -> bytes:
        """Return the content of an object."""
        return bytes(self.fs.cat_file(f"{self.root}/{found.key}"))

    def sidecar(self, found: Found) -> Sidecar | None:
        """Return the supplier's claims about a file, None without a sidecar.

        Raises:
            DeliveryError: the sidecar cannot be read.
        """
        if found.key not in self._sidecars:
            self._sidecars[found.key] = self._read_sidecar(found)
        return self._sidecars[found.key]

    def _read_sidecar(self, found: Found) -> Sidecar | None:
        content = read(self.fs, f"{self.root}/{found.key}.json")
        try:
            return None if content is None else Sidecar.model_validate_json(content)
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
            raise DeliveryError(f"{found.uri}.json: not a sidecar ({wrong}); correct or remove it") from error


def read(filesystem: Any, path: str) -> bytes | None:
    """Return a file's content, None if there is no such file. This reads the file itself, since listings are cached."""
    try:
        content: bytes = filesystem.cat_file(path)
    except FileNotFoundError:
        return None
    return content


def write_whole(filesystem: Any, path: str, data: bytes, *, once: bool = False) -> None:
    """Write a file so that readers see all of it or nothing.

    An object store shows an object when its PUT is complete; in a folder, the file is renamed into place. fsspec's own
    transaction is not used: it goes through the machine's temporary folder, and copies if that is another disk.

    Raises:
        FileExistsError: with `once`, there is such a file. An object store notices it even if it was written just now.
    """
    if not isinstance(filesystem, LocalFileSystem):
        filesystem.pipe_file(path, data, mode="create" if once else "overwrite")
        return
    target = Path(path)
    if once and target.exists():
        raise FileExistsError(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{uuid4().hex}.part")  # hidden: no feed's pattern finds it
    try:
        part.write_bytes(data)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def sha256(content: bytes) -> str:
    """Return the SHA-256 of a content as hex digits."""
    return hashlib.sha256(content).hexdigest()


def _moment(value: float | datetime) -> datetime:
    """Convert the file system's time of change, seconds or a datetime, to UTC."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    return datetime.fromtimestamp(value, UTC)


def _as_regex(declared: str) -> str:
    """Return a feed's path as a regular expression with the group `day`; a second {day} must be the same day."""
    first, *others = (re.escape(part).replace(r"\*", "[^/]*") for part in declared.split("{day}"))
    return first + r"(?P<day>\d{4}-\d{2}-\d{2})" + "(?P=day)".join(others)

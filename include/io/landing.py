"""Object storage where suppliers put files: find deliveries, say since when each was available, read one.

Files are never moved or changed. Beside them, in `_manifest/`, stands for each delivery that was taken what it
contained and when it became available, written once: a replay from landing alone finds the same. Parsing is `land`'s.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import fsspec
from pydantic import BaseModel, ConfigDict, ValidationError

from include.config import Project
from include.errors import BadDelivery
from include.settings import Settings


class Sidecar(BaseModel):
    """`<file>.json` beside a file, by the supplier. Sizes in bytes; `rows` without the header."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    feed: str
    day: date
    size: int
    sha256: str
    rows: int
    available_at: datetime


@dataclass(frozen=True)
class Found:
    """An object in landing that a feed's pattern matches; its content was not read."""

    feed: str
    day: date
    key: str
    uri: str
    size: int
    modified_at: datetime


class Landing:
    """The landing folder of one project."""

    def __init__(self, project: Project, settings: Settings) -> None:
        self.project = project
        self.fs, root = fsspec.url_to_fs(settings.landing)
        self.root = f"{root.rstrip('/')}/{project.name}"

    def pattern(self, feed: str, day: date | str) -> str:
        """Where a feed's files of a day are looked for, as a person would write it."""
        return str(self.fs.unstrip_protocol(f"{self.root}/{self.project.feeds[feed].path.format(day=day)}"))

    def find(self, feed: str, day: date | None = None) -> list[Found]:
        """The objects of a feed, of one day or of all, by day and key."""
        declared = self.project.feeds[feed].path
        self.fs.invalidate_cache()
        listing: dict[str, Any] = self.fs.glob(f"{self.root}/{declared.format(day=day or '*')}", detail=True)
        day_in_path = re.compile(
            ".*".join(re.escape(part).replace(r"\*", "[^/]*") for part in declared.split("{day}")).replace(
                ".*", r"(\d{4}-\d{2}-\d{2})", 1
            )
        )
        found = []
        for path, info in listing.items():
            key = path.removeprefix(f"{self.root}/")
            match = day_in_path.fullmatch(key)
            if match is None or info["type"] != "file":
                continue
            found.append(
                Found(
                    feed=feed,
                    day=date.fromisoformat(match.group(1)),
                    key=key,
                    uri=str(self.fs.unstrip_protocol(path)),
                    size=info["size"],
                    modified_at=_moment(info.get("LastModified") or info["mtime"]),
                )
            )
        return sorted(found, key=lambda f: (f.day, f.key))

    def read(self, found: Found) -> bytes:
        return bytes(self.fs.cat_file(f"{self.root}/{found.key}"))

    def sidecar(self, found: Found) -> Sidecar | None:
        """What the supplier says of the file, if anything. Raises `BadDelivery` when it cannot be read."""
        path = f"{self.root}/{found.key}.json"
        if not self.fs.exists(path):
            return None
        try:
            return Sidecar.model_validate_json(self.fs.cat_file(path))
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
            raise BadDelivery(f"{found.uri}.json: not a sidecar ({wrong}); mend it or take it away") from error

    def available_at(self, found: Found) -> datetime:
        """Since when it was available, UTC: as first taken (manifest), else by its sidecar, else the object's time."""
        manifest = self._manifest(found)
        if manifest:
            return datetime.fromisoformat(manifest["available_at"])
        sidecar = self.sidecar(found)
        return sidecar.available_at.astimezone(UTC) if sidecar else found.modified_at

    def taken(self, found: Found) -> str | None:
        """The sha256 that this object had when it was first taken; None when it never was."""
        manifest = self._manifest(found)
        return str(manifest["sha256"]) if manifest else None

    def take(self, found: Found, sha256: str, available_at: datetime) -> None:
        """Write the manifest entry, once: a later call changes nothing."""
        if self._manifest(found) is None:
            entry = {"key": found.key, "sha256": sha256, "available_at": available_at.isoformat()}
            path = self._manifest_path(found)
            self.fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            with self.fs.transaction, self.fs.open(path, "wb") as file:  # appears whole or not at all
                file.write(json.dumps(entry).encode())

    def _manifest_path(self, found: Found) -> str:
        return f"{self.root}/_manifest/{found.key}.json"

    def _manifest(self, found: Found) -> dict[str, str] | None:
        path = self._manifest_path(found)
        return json.loads(self.fs.cat_file(path)) if self.fs.exists(path) else None


def sha256(content: bytes) -> str:
    """Hex digest."""
    return hashlib.sha256(content).hexdigest()


def _moment(value: float | datetime) -> datetime:
    """What the file system gives as a time of change: seconds, or a datetime; in whole microseconds, UTC."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    return datetime.fromtimestamp(value, UTC)

"""The page for everybody as a file, with the files beside it: one folder for each project.

A file with rows is named by its content, and the page is written after the files that it names. So whoever reads a
page finds its own files, whole, and never those of another page.
"""

import csv
import hashlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from include.core.errors import PageGoneError, UnreachableError
from include.core.settings import Settings
from include.io import storage
from include.io.landing import moved_into_place, write_whole
from include.io.postgres.public_pages import BLOCK_ROWS

PAGE = "index.html"
TYPES = {".csv": "text/csv; charset=utf-8", ".parquet": "application/vnd.apache.parquet"}
"""What S3 tells a browser about the files beside the page, by the end of their names."""
FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""How a text begins that a spreadsheet would run."""


class PublicFolder:
    """The folder with the page of a project, below a place that all projects share."""

    def __init__(self, settings: Settings, project: str, place: str) -> None:
        self._fs, root = storage.filesystem(settings, place)
        self.place = str(self._fs.unstrip_protocol(root.rstrip("/")))
        """The URI of the place, in one spelling."""
        self._above = root.rstrip("/")
        self._root = f"{self._above}/{project}"

    @property
    def page(self) -> str:
        """The URI of the page."""
        return str(self._fs.unstrip_protocol(f"{self._root}/{PAGE}"))

    def require_there(self) -> None:
        """Refuse a folder that is empty or cannot be listed from here, such as one of another machine.

        Raises:
            UnreachableError: it cannot be listed; says why.
            PageGoneError: nothing is in it.
        """
        try:
            is_empty = not self._fs.ls(self._root, detail=False)
        except FileNotFoundError as error:
            if isinstance(self._fs, LocalFileSystem) and not self._fs.exists(self._above):
                raise UnreachableError(f"{self._root} cannot be listed: there is no folder {self._above}") from error
            is_empty = True
        except Exception as error:  # each file system has its own
            raise UnreachableError(f"{self._root} cannot be listed: {type(error).__name__}: {error}") from error
        if is_empty:
            raise PageGoneError(f"nothing is in {self._root}")

    def put_file(self, local: Path, name: str) -> None:
        """Add a file, whole or not at all. One of this name has the same content."""
        target = f"{self._root}/{name}"
        with suppress(FileNotFoundError):
            if self._fs.info(target)["size"] == local.stat().st_size:
                return
        if isinstance(self._fs, LocalFileSystem):
            with moved_into_place(Path(target)) as part:
                shutil.copyfile(local, part)
        else:
            self._fs.put_file(str(local), target, **self._headers(TYPES[Path(name).suffix]))

    def read_page(self) -> str:
        """Return the page that is there; an empty text without one."""
        try:
            return bytes(self._fs.cat_file(f"{self._root}/{PAGE}")).decode()
        except FileNotFoundError:
            return ""

    def put_page(self, content: bytes) -> bool:
        """Replace the page in one move; return whether it is another one."""
        target = f"{self._root}/{PAGE}"
        with suppress(FileNotFoundError):
            if self._fs.cat_file(target) == content:
                return False
        write_whole(self._fs, target, content, headers=self._headers("text/html; charset=utf-8"))
        return True

    def remove_others(self, kept: Iterable[str]) -> None:
        """Remove the files that the page does not name."""
        wanted = {*kept}
        with suppress(FileNotFoundError):
            for path in self._fs.ls(self._root, detail=False):
                name = path.rstrip("/").rpartition("/")[2]
                if name.endswith(tuple(TYPES)) and name not in wanted:
                    self._fs.rm_file(path)

    def _headers(self, kind: str) -> dict[str, str]:
        """Return what S3 tells a browser: a type, and to ask for the page again each time."""
        return {"ContentType": kind, "CacheControl": "no-cache"} if "s3" in self._fs.protocol else {}


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]], zone: ZoneInfo) -> int:
    """Write rows for a spreadsheet; return their number.

    It begins with a byte order mark, by which Excel knows UTF-8. A text that a spreadsheet would run as a formula
    begins with an apostrophe. Times are ISO 8601 with the offset of the zone.
    """
    count = 0
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, lineterminator="\r\n")  # else a lone "\r" in a text is not quoted
        writer.writerow(columns)
        for row in rows:
            writer.writerow([_text(value, zone) for value in row])
            count += 1
    return count


def write_parquet(path: Path, schema: pa.Schema, rows: Iterator[Sequence[Any]]) -> None:
    """Write rows for programs, a block in memory at a time: the same bytes for the same rows."""
    with pq.ParquetWriter(path, schema, compression="snappy") as writer:  # every reader knows it
        while block := [*islice(rows, BLOCK_ROWS)]:
            of_block = zip(zip(*block, strict=True), schema.types, strict=True)
            columns = [_array(values, kind) for values, kind in of_block]
            writer.write_batch(pa.record_batch(columns, schema=schema))


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Return a column; what Arrow has no type for, such as an id, is its text, as in an export."""
    if pa.types.is_string(kind):
        values = [None if value is None else str(value) for value in values]
    return pa.array(values, kind)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as written:
        return hashlib.file_digest(written, "sha256").hexdigest()


def _text(value: Any, zone: ZoneInfo) -> Any:
    if isinstance(value, str):
        return f"'{value}" if value.startswith(FORMULAS) else value
    if isinstance(value, datetime):
        return value.astimezone(zone).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bool):
        return "true" if value else "false"
    return value

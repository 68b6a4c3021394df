"""Remove rows from every file of a Delta table, those of older versions included, without changing any version.

Removing a row by a commit leaves it in older versions, which records name and which must stay readable. So each file
that has one of the rows is written again **in place**: without the rows, under the same name and, by padding, with the
same size, because the log names both. Each version then has the same files as before, and no trace of the rows. The
statistics of these files in the log and its checkpoints are reduced to the number of rows.

The log is corrected before a file is. So after a kill, the next run still finds the rows in the file and does both
again. No step may write to the table meanwhile (`io/postgres/erasures.py`).
"""

import io
import json
import logging
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any
from urllib.parse import unquote

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from include.core.erasure import Person
from include.core.errors import DataError
from include.core.settings import Settings
from include.io import storage
from include.io.artifacts import texts_of
from include.io.landing import write_whole

log = logging.getLogger(__name__)

COMPACT: tuple[dict[str, Any], ...] = (
    {"compression": "snappy"},
    {"compression": "zstd", "compression_level": 9},
    {"compression": "zstd", "compression_level": 15, "write_statistics": False},
    {"compression": "brotli", "compression_level": 11, "write_statistics": False, "use_dictionary": False},
)
"""Ways to write a file, the usual one first; a later one is used if the file would become larger than it was."""


class TableFiles:
    """All files of the Delta tables below `settings.tables`."""

    def __init__(self, settings: Settings) -> None:
        self.fs, root = storage.filesystem(settings, settings.tables)
        self.root = root.rstrip("/")

    def names(self) -> list[str]:
        """Return the names of all tables."""
        self.fs.invalidate_cache()
        try:
            found = [str(path).rstrip("/").rsplit("/", 1)[-1] for path in self.fs.ls(self.root, detail=False)]
        except FileNotFoundError:
            return []
        return sorted(name for name in found if self.fs.isdir(f"{self.root}/{name}/_delta_log"))

    def rows(self, table: str, person: Person) -> Iterator[tuple[str, pl.DataFrame]]:
        """Yield each file that has rows of the person, by its path, and these rows."""
        for path in self._data(table):
            found = [rows for rows in self._read(path) for rows in [_theirs(rows, person, _day(path))] if rows.height]
            if found:
                yield path, pl.concat(found)

    def erase(self, table: str, person: Person) -> int:
        """Remove the person's rows from all files; return how many these were, in all files together."""
        counts = {path: rows.height for path, rows in self.rows(table, person)}
        kept = {path: self._rows_of(path) - count for path, count in counts.items()}
        self._correct_log(table, {self._below(table, path): rows for path, rows in kept.items()})
        for path in counts:
            self._shrink(path, lambda rows, path=path: ~person.rows_of(rows, _day(path)))  # type: ignore[misc]
        if counts:
            log.info("%s: %d rows removed from %d files", table, sum(counts.values()), len(counts))
        return sum(counts.values())

    def traces(self, table: str, person: Person) -> list[str]:
        """Return the files of a table, log and checkpoints included, that have a trace of the person."""
        needles, log_folder = [each.encode() for each in person.hashes], f"{self.root}/{table}/_delta_log/"
        found = {path for path, _ in self.rows(table, person)}
        for path in self.fs.find(f"{self.root}/{table}"):
            content = self.fs.cat_file(path)
            texts = texts_of(content) if path.startswith(log_folder) else [content]
            if any(needle in text for text in texts for needle in needles):
                found.add(path)
        return sorted(f"{table}/{self._below(table, path)}" for path in found)

    def _data(self, table: str) -> list[str]:
        log_folder = f"{self.root}/{table}/_delta_log/"
        found = self.fs.find(f"{self.root}/{table}")
        return [path for path in found if path.endswith(".parquet") and not path.startswith(log_folder)]

    def _below(self, table: str, path: str) -> str:
        return str(path).removeprefix(f"{self.root}/{table}/")

    def _rows_of(self, path: str) -> int:
        with self.fs.open(path, "rb") as file:
            return int(pq.ParquetFile(file).metadata.num_rows)

    def _read(self, path: str) -> Iterator[pl.DataFrame]:
        """Yield the columns of text of a file, some rows at a time."""
        with self.fs.open(path, "rb") as opened:
            file = pq.ParquetFile(opened)
            texts = [field.name for field in file.schema_arrow if _is_text(field.type)]
            for batch in file.iter_batches(columns=texts) if texts else ():
                yield pl.DataFrame(pl.from_arrow(batch))

    def _shrink(self, path: str, keep: Callable[[pl.DataFrame], pl.Series]) -> None:
        """Write a file again in place, with fewer rows and the same size."""
        content = self.fs.cat_file(path)
        table = pq.read_table(io.BytesIO(content), partitioning=None)
        texts = [field.name for field in table.schema if _is_text(field.type)]
        kept = table.filter(keep(pl.DataFrame(pl.from_arrow(table.select(texts)))).to_arrow())
        write_whole(self.fs, path, _of_size(path, kept, len(content)))

    def _correct_log(self, table: str, rows: dict[str, int]) -> None:
        """Reduce the statistics of files in the log to their number of rows.

        Those of files that are vacuumed are reduced too, because nobody can tell any more what was in them.

        Args:
            table: the name of the table.
            rows: how many rows a file will have, by its path below the table.
        """
        there = {self._below(table, path) for path in self._data(table)}

        def corrected(path: str | None, stats: str | None) -> str | None:
            name = unquote(path or "")
            if not stats or (name in there and name not in rows):
                return stats
            count = rows.get(name, json.loads(stats).get("numRecords"))
            return json.dumps({} if count is None else {"numRecords": count}, separators=(",", ":"))

        folder = f"{self.root}/{table}/_delta_log"
        for path in self.fs.find(folder):
            before = self.fs.cat_file(path)
            if path.endswith(".json"):
                after = _correct_lines(before, corrected)
            elif path.endswith(".parquet"):
                after = _correct_checkpoint(before, corrected)
            elif path.endswith(".crc"):  # Spark's checksum of a version, which may list files with their statistics
                self.fs.rm_file(path)
                continue
            else:
                continue
            if after != before:
                write_whole(self.fs, path, after)


Corrected = Callable[[str | None, str | None], str | None]
"""From path and statistics of a file to its new statistics."""


def _correct_lines(content: bytes, corrected: Corrected) -> bytes:
    lines, changed = [], False
    for line in content.splitlines():
        action = json.loads(line)
        for kind in ("add", "remove"):
            about = action.get(kind) if isinstance(action, dict) else None
            if isinstance(about, dict) and about.get("stats"):
                stats = corrected(about.get("path"), about["stats"])
                changed |= stats != about["stats"]
                about["stats"] = stats
        lines.append(json.dumps(action, separators=(",", ":")))
    return ("\n".join(lines) + "\n").encode() if changed else content


def _correct_checkpoint(content: bytes, corrected: Corrected) -> bytes:
    """Correct the column `add.stats` of a checkpoint; `add.stats_parsed`, which Spark can write, becomes null."""
    table = pq.read_table(io.BytesIO(content), partitioning=None)
    if "add" not in table.column_names:
        return content
    add = table["add"].combine_chunks()
    names = [add.type.field(n).name for n in range(add.type.num_fields)]
    if "path" not in names or "stats" not in names:
        return content
    children = {
        name: add.field(n) for n, name in enumerate(names)
    }  # a child of null stays as it is: it may not be null
    before = children["stats"].to_pylist()
    after = [corrected(*each) for each in zip(children["path"].to_pylist(), before, strict=True)]
    if before == after:
        return content
    children["stats"] = pa.array(after, add.type.field("stats").type)
    if "stats_parsed" in children:
        children["stats_parsed"] = pa.nulls(len(add), children["stats_parsed"].type)
    fields = [add.type.field(name) for name in names]
    made = pa.StructArray.from_arrays([children[name] for name in names], fields=fields, mask=add.is_null())
    table = table.set_column(table.column_names.index("add"), table.schema.field("add"), made)
    written = io.BytesIO()
    pq.write_table(table, written, compression="snappy", write_statistics=False)
    return written.getvalue()


def _of_size(path: str, table: pa.Table, size: int) -> bytes:
    """Return a Parquet file of exactly this size: what is missing is padded before its footer, where nobody reads."""
    for options in COMPACT:
        written = io.BytesIO()
        pq.write_table(table, written, store_schema=False, **options)
        content = written.getvalue()
        if len(content) <= size:
            footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
            return content[:footer] + bytes(size - len(content)) + content[footer:]
    raise DataError(
        f"{path} cannot be written with fewer rows and the same size ({size:,} bytes), so the person is still in it"
    )


def _theirs(rows: pl.DataFrame, person: Person, day: date | None) -> pl.DataFrame:
    return rows.filter(person.rows_of(rows, day))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _day(path: str) -> date | None:
    """Return the day of a file, which its folder says."""
    days = [part.removeprefix("day=") for part in path.split("/") if part.startswith("day=")]
    return date.fromisoformat(days[-1]) if days else None

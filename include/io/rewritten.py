"""Tables of which every row is changed once, and what a table was before is removed.

A commit that changes rows carries a mark, so that a process that was killed in between never changes them twice. Delta
keeps what was replaced: in older files, and in the statistics of older log entries. `forget` removes both.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from include.core.interval import Interval
from include.core.settings import Settings
from include.io import storage
from include.io.tables import Tables

_LOG_FILE = re.compile(r"(\d{20})\..*")
"""A log entry or a checkpoint."""


def rewrite(tables: Tables, table: str, change: Callable[[pl.DataFrame], pl.DataFrame], mark: str) -> bool:
    """Change all rows of a table in one commit, a day at a time, unless a commit with this mark did so before.

    Args:
        tables: where the table is.
        table: its name.
        change: makes the new rows of a day; columns and types stay.
        mark: names the change, for ever.

    Returns:
        Whether rows were changed now.
    """
    changed = False

    def write(current: DeltaTable | None, count: int) -> tuple[int, int]:
        nonlocal changed
        assert current is not None
        changed = current.transaction_version(mark) is None
        if not changed:
            return current.version(), 0
        scanned = pl.scan_delta(current)
        schema = _arrow(pl.DataFrame(schema=scanned.collect_schema())).schema
        properties = CommitProperties(
            custom_metadata=tables.about({"rewritten": mark}),
            app_transactions=[Transaction(table, count), Transaction(mark, 1)],
        )
        with TemporaryDirectory() as staged:  # delta-rs cannot read a table while it streams rows into one
            files = _stage(Path(staged), current, scanned, change)
            batches = pa.RecordBatchReader.from_batches(schema, _batches(files, schema))
            write_deltalake(current, batches, mode="overwrite", commit_properties=properties)
        return current.version(), 0

    if not (days := tables.days(table)):
        days = [date.min]  # an empty table may have been another before
    tables.commit(table, Interval(start=days[0], end=days[-1]), write)
    return changed


def has_mark(tables: Tables, table: str, mark: str) -> bool:
    """Return whether all rows of a table were changed by a commit with this mark."""
    return tables.open(table).transaction_version(mark) is not None


def forget(settings: Settings, tables: Tables, table: str) -> None:
    """Remove all versions of a table but the newest, with their files and log entries. Nobody else may write it now."""
    tables.open(table).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False, full=True)
    newest = tables.open(table)
    newest.create_checkpoint()
    filesystem, path = storage.filesystem(settings, f"{tables.uri(table)}/_delta_log")
    filesystem.invalidate_cache()
    names = [name.rstrip("/").rsplit("/", 1)[-1] for name in filesystem.ls(path, detail=False)]
    for name in sorted(names):  # the oldest first: what is left is a table at any time
        found = _LOG_FILE.fullmatch(name)
        if found and int(found[1]) < newest.version():
            filesystem.rm_file(f"{path}/{name}")


def remove(settings: Settings, tables: Tables, table: str) -> bool:
    """Remove a table that can be made again; return whether it was there."""
    filesystem, path = storage.filesystem(settings, tables.uri(table))
    filesystem.invalidate_cache()
    if not filesystem.exists(path):
        return False
    filesystem.rm(path, recursive=True)
    return True


def names_of(settings: Settings, tables: Tables) -> list[str]:
    """Return the names of all tables."""
    filesystem, path = storage.filesystem(settings, tables.root)
    filesystem.invalidate_cache()
    try:  # `exists` would ask for an object named like the folder: rights to what is in the folder do not cover it
        names = filesystem.ls(path, detail=False)
    except FileNotFoundError:
        return []
    return sorted(name.rstrip("/").rsplit("/", 1)[-1] for name in names)


def _stage(
    folder: Path, current: DeltaTable, scanned: pl.LazyFrame, change: Callable[[pl.DataFrame], pl.DataFrame]
) -> list[Path]:
    """Write the changed rows of each day into a file of their own."""
    files = []
    for day in sorted(part["day"] for part in current.partitions()):
        rows = scanned.filter(pl.col("day") == date.fromisoformat(day)).sort("delivery_id", "_row").collect()
        files.append(folder / f"{day}.parquet")
        pq.write_table(_arrow(change(rows)), files[-1])
    return files


def _batches(files: Sequence[Path], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for file in files:
        for batch in pq.ParquetFile(file).iter_batches():
            yield batch.cast(schema)


def _arrow(rows: pl.DataFrame) -> pa.Table:
    return rows.to_arrow(compat_level=pl.CompatLevel.oldest())

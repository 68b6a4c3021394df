"""Maintenance of a Delta table: its properties, small files of old days, and files that no version needs any more.

Each of these is safe beside a step that writes the same table. A commit counts the table's transaction, as all commits
do (`io/tables.py`), so of two writers one repeats its work. No version changes: a compaction adds a version with the
same rows, and only files that no kept version has are removed.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Self

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from include.core.errors import DataError
from include.core.interval import Interval
from include.core.kept_versions import Commit
from include.core.settings import Settings
from include.io import storage
from include.io.tables import CONFIGURATION, Tables

log = logging.getLogger(__name__)

MIN_FILES = 4
"""Fewer files of one day are left alone: the old files stay as long as an older version is named, so each compaction
stores rows twice."""

MAX_BYTES = 64 * 2**20
"""Days with more are left alone, and no commit has more than two times as many: their rows are held in memory."""

REMOVED = ("num_removed_files", "numRemovedFiles")
"""The metric of a commit that counts the files it removed, as delta-rs and as Spark call it."""


@dataclass(frozen=True)
class SmallFiles:
    """The files of days that have several: how many days, files and bytes."""

    days: tuple[date, ...] = ()
    files: int = 0
    size: int = 0

    @classmethod
    def of(cls, small: pl.DataFrame) -> Self:
        """Return the files of days (day, files and size)."""
        return cls(tuple(small["day"]), int(small["files"].sum()), int(small["size"].sum()))


def missing_properties(tables: Tables, table: str) -> dict[str, str]:
    """Return the properties that every new table gets, and this one lacks."""
    has = tables.open(table).metadata().configuration
    return {name: value for name, value in CONFIGURATION.items() if has.get(name) != value}


def set_properties(tables: Tables, table: str) -> int | None:
    """Give a table the properties that every new table gets; return the version that has them, None if it had them."""
    made: int | None = None

    def write(current: DeltaTable | None, count: int) -> tuple[int, int]:
        nonlocal made
        assert current is not None
        if missing := missing_properties(tables, table):
            current.alter.set_table_properties(
                missing, raise_if_not_exists=False, commit_properties=_properties(tables, table, count, "properties")
            )
            made = current.version()
        return current.version(), 0

    tables.commit(table, Interval.of(date.min), write)
    return made


def small_files(tables: Tables, table: str, before: date) -> SmallFiles:
    """Return what `compact` would write again: the files of days before `before` that have at least MIN_FILES."""
    return SmallFiles.of(_small(tables.open(table), before))


def compact(tables: Tables, table: str, before: date) -> SmallFiles:
    """Write the small files of each old day into one, with the same rows; return which files these were.

    Days are replaced as any writer replaces them, some in one commit. So if another writer commits first, they are read
    again. `optimize.compact` of deltalake 1.6.6 would stream them, but two at once both commit, and all rows are there
    twice then.
    """
    small = _small(tables.open(table), before)
    for part in small.with_columns(commit=pl.col("size").cum_sum() // MAX_BYTES).partition_by("commit"):
        days = part["day"].to_list()
        tables.commit(table, Interval(start=days[0], end=days[-1]), _rewrite(tables, table, days))
    return SmallFiles.of(small)


def _rewrite(tables: Tables, table: str, days: Sequence[date]) -> Callable[[DeltaTable | None, int], tuple[int, int]]:
    """Return a function that replaces days by their own rows, in one commit."""
    predicate = f"day IN ({', '.join(repr(str(day)) for day in days)})"

    def write(current: DeltaTable | None, count: int) -> tuple[int, int]:
        assert current is not None
        rows = pl.scan_delta(current).filter(pl.col("day").is_in(list(days))).collect()
        expected = _files(current).filter(pl.col("day").is_in(list(days)))["rows"].sum()
        if rows.height != expected:
            raise DataError(f"table {table}: {rows.height} rows were read of {len(days)} days that have {expected}")
        write_deltalake(
            current,
            rows.to_arrow(),
            mode="overwrite",
            predicate=predicate,
            commit_properties=_properties(tables, table, count, "compact"),
        )
        return current.version(), rows.height

    return write


def commits(tables: Tables, table: str) -> list[Commit]:
    """Return the versions of a table, in order. This reads the whole log."""
    found = []
    for each in tables.open(table).history():
        metrics: Mapping[str, Any] = each.get("operationMetrics") or {}
        removed = [metrics[name] for name in REMOVED if name in metrics]
        creates = each.get("operation") in ("CREATE TABLE", "SET TBLPROPERTIES", "VACUUM START", "VACUUM END")
        removes = not creates and (not removed or any(int(count) > 0 for count in removed))
        found.append(Commit(each["version"], datetime.fromtimestamp(each["timestamp"] / 1000, UTC), removes))
    return sorted(found, key=lambda each: each.version)


def unneeded_files(tables: Tables, table: str, keep: Sequence[int], grace: timedelta) -> list[str]:
    """Return the files that none of these versions has, nor the newest, and that were written before the grace began.

    That includes files of writers that were killed before their commit. Files of a writer that still runs are younger.
    """
    return _vacuum(tables, table, keep, grace, dry_run=True)


def vacuum(tables: Tables, table: str, keep: Sequence[int], grace: timedelta) -> None:
    """Remove the files that `unneeded_files` names.

    A run that was killed in between has removed some of them; the next one removes the others.
    """
    _vacuum(tables, table, keep, grace, dry_run=False)


def sizes(settings: Settings, tables: Tables, table: str) -> dict[str, int]:
    """Map each file below a table to its bytes, by the path that `unneeded_files` has."""
    filesystem, path = storage.filesystem(settings, tables.uri(table))
    found = filesystem.find(path, detail=True)
    return {str(name).removeprefix(f"{path.rstrip('/')}/"): int(each["size"]) for name, each in found.items()}


def _vacuum(tables: Tables, table: str, keep: Sequence[int], grace: timedelta, *, dry_run: bool) -> list[str]:
    """Vacuum in full: checkpoints forget which files were removed, so these are files that the log does not know.

    The age of those is the time since they were written. Versions that are younger are kept by their number.
    """
    return tables.open(table).vacuum(
        retention_hours=int(grace.total_seconds() // 3600),
        enforce_retention_duration=False,
        dry_run=dry_run,
        full=True,
        keep_versions=list(keep),
        commit_properties=CommitProperties(custom_metadata=tables.about({"maintain": "vacuum"})),
    )


def _files(current: DeltaTable) -> pl.DataFrame:
    """Return a row for each file of a table: parts (its values of the partition columns), day, size and rows."""
    added = pl.DataFrame(current.get_add_actions(flatten=True))
    parts = [name for name in added.columns if name.startswith("partition.")]
    return added.select(
        pl.struct(parts).alias("parts"),
        pl.col("partition.day").cast(pl.String).str.to_date().alias("day"),
        pl.col("size_bytes").alias("size"),
        pl.col("num_records").alias("rows"),
    )


def _small(current: DeltaTable, before: date) -> pl.DataFrame:
    """Return the days before `before` that are worth it, in order: day, files and size."""
    of_days = _files(current).filter(pl.col("day") < before).group_by("day")
    counted = of_days.agg(pl.len().alias("files"), pl.sum("size"), pl.n_unique("parts"))
    worth_it = (pl.col("files") - pl.col("parts") + 1 >= MIN_FILES) & (pl.col("size") <= MAX_BYTES)
    return counted.filter(worth_it).select("day", "files", "size").sort("day")


def _properties(tables: Tables, table: str, count: int, what: str) -> CommitProperties:
    return CommitProperties(
        custom_metadata=tables.about({"maintain": what}), app_transactions=[Transaction(table, count)]
    )

"""Delta tables with delta-rs: read a table at a version, and replace a part of it in one commit.

This module depends on no project and no step. Writes by Spark on Databricks (`io/native.py`) follow the same rules.
Nothing is ever appended. Each commit carries an application transaction of the table. It makes the second of two
concurrent writers fail, even if both replace an empty part (without it, deltalake 1.6.6 accepts both). The loser reads
the table again and repeats its work.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Schema, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, TableNotFoundError
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from include.core.errors import ConfigError, DataError
from include.core.interval import Interval
from include.core.records import TableRef
from include.core.settings import Settings
from include.io import storage

log = logging.getLogger(__name__)

COMMIT_TRIES = 40
KEPT_OPEN = 4
"""How many tables at a version are kept open for reading: to open one costs more with each file that it has."""

NOT_IN_PATHS = ' "#%<>?`{}'  # delta-rs returns file names percent-encoded, but polars and Spark do not decode them
CONFIGURATION = {
    "delta.enableDeletionVectors": "false",  # both delta-rs and Spark must be able to read the tables
    "delta.enableExpiredLogCleanup": "false",  # a recorded version can be read for ever
    "delta.checkpointInterval": "10",  # else, opening a table on S3 reads up to a hundred commits one by one
}


@dataclass(frozen=True)
class Scope:
    """The part of a table that a commit replaces: whole days, and rows whose columns have one of some values."""

    interval: Interval
    values: Mapping[str, Sequence[str | int]] = field(default_factory=dict)

    def sql(self) -> str:
        """Return the predicate for delta-rs."""
        parts = [f"day >= '{self.interval.start}'", f"day <= '{self.interval.end}'"]
        for column, values in self.values.items():
            literals = (str(v) if isinstance(v, int) else "'" + v.replace("'", "''") + "'" for v in values)
            parts.append(f"{column} IN ({', '.join(literals)})")
        return " AND ".join(parts)

    def expr(self) -> pl.Expr:
        """Return the same predicate for polars."""
        inside = pl.col("day").is_between(self.interval.start, self.interval.end)
        for column, values in self.values.items():
            inside &= pl.col(column).is_in(list(values))
        return inside

    @classmethod
    def of_deliveries(cls, days: Sequence[date], delivery_ids: Sequence[str]) -> "Scope":
        """Return the scope of these deliveries, which are of these days."""
        return cls(Interval(start=min(days), end=max(days)), {"delivery_id": sorted(set(delivery_ids))})


class Tables:
    """The tables below `settings.tables`, each in a folder of its own, partitioned by `day` (first)."""

    def __init__(self, settings: Settings) -> None:
        self.root = settings.tables.rstrip("/")
        if wrong := sorted({c for c in self.root if c in NOT_IN_PATHS or not c.isascii()}):
            raise ConfigError(
                f"the path of tables, {self.root!r}, has {wrong}, which polars cannot read; move the tables"
            )
        self.options = storage.delta_options(settings, self.root)
        self.catalog = settings.catalog
        self._scan_at = lru_cache(KEPT_OPEN)(lambda table, version: pl.scan_delta(self.open(table, version)))
        self.commit_metadata = {"run_id": settings.run_id, "git_commit": settings.git_commit}

    def uri(self, table: str) -> str:
        """Return the URI of a table."""
        return f"{self.root}/{table}"

    def open(self, table: str, version: int | None = None) -> DeltaTable:
        """Open a table, at its newest version by default.

        Raises:
            DataError: the table does not exist, or that version of it was removed.
        """
        try:
            return DeltaTable(self.uri(table), version=version, storage_options=self.options)
        except TableNotFoundError as error:
            if version is not None and self.exists(table):
                raise DataError(
                    f"version {version} of table {self.uri(table)} is gone: older versions were removed, as by a "
                    "rotation of the hash key (python -m include.cli rehash); the view human_actions says when"
                ) from error
            raise DataError(f"table {self.uri(table)} does not exist yet; first run the step that makes it") from error

    def exists(self, table: str) -> bool:
        """Return whether a table exists."""
        return DeltaTable.is_deltatable(self.uri(table), storage_options=self.options)

    def version(self, table: str) -> int:
        """Return the newest version of a table."""
        return self.open(table).version()

    def versions(self, table: str) -> dict[int, datetime]:
        """Map each version that the log of a table has to the time of its commit (UTC), the oldest first.

        The time is what the writer wrote into the log, so it stays when files are copied or restored.
        """
        commits = self.open(table).history()
        found = {each["version"]: datetime.fromtimestamp(each["timestamp"] / 1000, UTC) for each in commits}
        return dict(sorted(found.items()))

    def id(self, table: str) -> str:
        """Return the id that a table got when it was created."""
        return str(self.open(table).metadata().id)

    def days(self, table: str) -> list[date]:
        """Return the days that have rows, sorted; none if the table does not exist. Reads the log, not the files."""
        if not self.exists(table):
            return []
        return sorted(date.fromisoformat(part["day"]) for part in self.open(table).partitions())

    def scan(self, table: str, version: int | None = None) -> pl.LazyFrame:
        """Return the rows at a version, by default the newest. Those at a version are kept open.

        Collect them with polars, because `to_pyarrow_table()` aborts some processes at exit.
        """
        return pl.scan_delta(self.open(table)) if version is None else self._scan_at(table, version)

    def count(self, names: Iterable[str], scope: Scope, by: str) -> Counter[str]:
        """Return how many rows of the scope these tables have together for each value of a column.

        A table that does not exist has none.
        """
        counted: Counter[str] = Counter()
        for name in names:
            if self.exists(name):
                counted.update(dict(self.scan(name).filter(scope.expr()).group_by(by).len().collect().iter_rows()))
        return counted

    def differ(self, table: str, scope: Scope, one: int, other: int, *, sort_by: Sequence[str]) -> bool:
        """Return whether two versions of a table have other rows in a scope, by its files first and then by content.

        Rows are compared in the order of those columns of `sort_by` that the table has.
        """

        def files(version: int) -> set[str]:
            return {*self.open(table, version).file_uris(file_pruning_predicate=scope.sql())}

        if one == other or files(one) == files(other):
            return False
        before, after = (self.scan(table, at).filter(scope.expr()).collect() for at in (one, other))
        return not _in_order(before, sort_by).equals(_in_order(after, sort_by))

    def replace(
        self,
        table: str,
        rows: pl.DataFrame | Callable[[pl.DataFrame], pl.DataFrame],
        scope: Scope,
        *,
        sort_by: Sequence[str],
        metadata: Mapping[str, Any] | None = None,
        may_grow: bool = False,
    ) -> TableRef:
        """Replace the rows in `scope`, in one commit; create the table if there is none.

        Rows are sorted, so that equal content gives equal bytes. An empty frame empties the scope.

        Args:
            table: the name of the table.
            rows: the new rows, or a function that makes them from the current rows of the scope. The function is called
                again if another writer committed first; nothing is committed if it changes nothing.
            scope: the part to replace.
            sort_by: the order of the rows.
            metadata: the metadata of the commit.
            may_grow: whether a new column is allowed; it is null in rows written before.

        Raises:
            DataError: columns or types differ from the table's, or rows are outside of the scope.
        """

        def write(current: DeltaTable | None, count: int) -> tuple[int, int]:
            if callable(rows):
                if current is None:
                    raise DataError(f"table {self.uri(table)} does not exist yet, so its rows cannot be changed")
                before = pl.scan_delta(current).filter(scope.expr()).collect()
                wanted = rows(before)
                if _same(wanted.sort(sort_by), before.sort(sort_by)):
                    return current.version(), wanted.height
            else:
                wanted = rows
            schema = Schema.from_arrow(wanted.clear().to_arrow().schema)
            self._require_inside(table, wanted, scope)
            current = current or self.open_or_create(table, schema, ["day"])
            grows = _refuse_drift(self.uri(table), current.schema(), schema, may_grow=may_grow)
            write_deltalake(
                current,
                wanted.sort(sort_by).to_arrow(),
                mode="overwrite",
                predicate=scope.sql(),
                schema_mode="merge" if grows else None,
                commit_properties=self._properties(table, count, metadata),
            )
            # the handle has the version that this commit made, even if another commit has followed
            return current.version(), wanted.height

        return self.commit(table, scope.interval, write)

    def write_blocks(
        self,
        table: str,
        blocks: Callable[[], Iterator[pl.DataFrame]],
        columns: Mapping[str, pl.DataType],
        scope: Scope,
        *,
        metadata: Mapping[str, Any] | None = None,
        may_grow: bool = False,
    ) -> TableRef:
        """Replace the rows in `scope`, in one commit, by those of blocks, of which few are in memory at a time.

        If there is no table, one is created. Blocks may be written in another order, as delta-rs has several threads.

        Args:
            table: the name of the table.
            blocks: makes the blocks, again if another writer committed first.
            columns: of each block, and of the table.
            scope: the part to replace.
            metadata: the metadata of the commit.
            may_grow: whether a new column is allowed; it is null in rows written before.

        Raises:
            DataError: columns or types differ from the table's, or rows are outside of the scope.
        """
        schema = pl.DataFrame(schema=columns).to_arrow().schema

        def write(current: DeltaTable | None, count: int) -> tuple[int, int]:
            current = current or self.open_or_create(table, Schema.from_arrow(schema), ["day"])
            return self._stream(table, current, count, blocks(), schema, scope, metadata, may_grow=may_grow)

        return self.commit(table, scope.interval, write)

    def replace_blocks(
        self,
        table: str,
        blocks: Callable[[pl.LazyFrame], Iterator[tuple[pl.DataFrame, pl.DataFrame]]],
        rows: int,
        scope: Scope,
        *,
        schema: Mapping[str, pl.DataType],
    ) -> TableRef:
        """Replace the rows in `scope` by blocks of rows, as `write_blocks` does; commit nothing if it changes nothing.

        The table exists.

        Args:
            table: the name of the table.
            blocks: makes, from the rows of the scope as they are now, the blocks of the new rows, each with those rows
                of now that it replaces, in the same order. It is called several times.
            rows: the number of the new rows.
            scope: the part to replace.
            schema: the columns of the table.

        Raises:
            DataError: as `write_blocks` does.
        """
        arrow = pl.DataFrame(schema=schema).to_arrow().schema

        def write(current: DeltaTable | None, count: int) -> tuple[int, int]:
            assert current is not None
            there = pl.scan_delta(current).filter(scope.expr())
            before = there.select(pl.len()).collect().item()
            there = there if before else there.clear()  # an empty frame is not read from the table again
            if before == rows and (not rows or all(_same(new, old) for new, old in blocks(there))):
                return current.version(), rows
            return self._stream(table, current, count, (new for new, _ in blocks(there)), arrow, scope)

        return self.commit(table, scope.interval, write)

    def _stream(
        self,
        table: str,
        current: DeltaTable,
        count: int,
        blocks: Iterator[pl.DataFrame],
        schema: pa.Schema,
        scope: Scope,
        metadata: Mapping[str, Any] | None = None,
        *,
        may_grow: bool = False,
    ) -> tuple[int, int]:
        """Write blocks in one commit, in place of the rows in `scope`; return version and number of rows."""
        grows = _refuse_drift(self.uri(table), current.schema(), Schema.from_arrow(schema), may_grow=may_grow)
        rows = 0
        wrong: BaseException | None = None

        def batches() -> Iterator[pa.RecordBatch]:
            nonlocal rows, wrong
            try:
                for block in _by_another_thread(blocks):
                    rows += block.height
                    self._require_inside(table, block, scope)
                    yield from block.select(schema.names).to_arrow().cast(schema).to_batches()
            except BaseException as error:
                wrong = error
                raise

        try:
            write_deltalake(
                current,
                pa.RecordBatchReader.from_batches(schema, batches()),
                mode="overwrite",
                predicate=scope.sql(),
                schema_mode="merge" if grows else None,
                commit_properties=self._properties(table, count, metadata),
            )
        except Exception:
            if wrong is not None:  # delta-rs would make text of it, which may have a value of a row
                raise wrong from None
            raise
        return current.version(), rows

    def replace_files(
        self,
        table: str,
        files: Sequence[Path],
        scope: Scope,
        *,
        partition_by: Sequence[str],
        metadata: Mapping[str, Any] | None = None,
    ) -> TableRef:
        """Replace the rows in `scope` by those of local Parquet files (at least one), in one commit.

        Rows are streamed, and batches of them may be written in another order. If there is no table, one is created,
        partitioned by `partition_by`. A new column is allowed; it is null in rows written before.

        Raises:
            DataError: a column is lost or has another type.
        """
        # whether Spark marks a column as never null depends on its plan and differs from run to run
        schema = pa.schema([field.with_nullable(True) for field in pq.read_schema(files[0]).remove_metadata()])

        def batches() -> Iterator[pa.RecordBatch]:
            for file in files:
                for batch in pq.ParquetFile(file).iter_batches():
                    yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)

        def write(current: DeltaTable | None, count: int) -> tuple[int, int]:
            wanted = Schema.from_arrow(schema)
            current = current or self.open_or_create(table, wanted, partition_by)
            grows = _refuse_drift(self.uri(table), current.schema(), wanted, may_grow=True)
            write_deltalake(
                current,
                pa.RecordBatchReader.from_batches(schema, batches()),
                mode="overwrite",
                predicate=scope.sql(),
                schema_mode="merge" if grows else None,
                commit_properties=self._properties(table, count, metadata),
            )
            return current.version(), sum(pq.read_metadata(file).num_rows for file in files)

        return self.commit(table, scope.interval, write)

    def _require_inside(self, table: str, rows: pl.DataFrame, scope: Scope) -> None:
        if outside := rows.filter(~scope.expr().fill_null(False)).height:
            raise DataError(f"table {self.uri(table)}: {outside} rows are outside of what they replace, {scope.sql()}")

    def refuse_drift(self, table: str, schema: Schema) -> bool:
        """Raise the error that `replace_files` would raise for files of this schema, before they are written.

        Returns:
            Whether there are new columns.
        """
        if not self.exists(table):
            return False
        return _refuse_drift(self.uri(table), self.open(table).schema(), schema, may_grow=True)

    def create(self, table: str, columns: Mapping[str, pl.DataType]) -> None:
        """Create an empty table with these columns, unless it exists."""
        if self.exists(table):  # asks for less than opening it
            return
        self.open_or_create(table, Schema.from_arrow(pl.DataFrame(schema=columns).to_arrow().schema), ["day"])

    def open_or_create(self, table: str, schema: Schema, partition_by: Sequence[str]) -> DeltaTable:
        """Open a table, or create an empty one, without features of Delta that one of its readers lacks."""
        try:
            return DeltaTable.create(
                self.uri(table),
                schema=schema,
                mode="ignore",
                partition_by=list(partition_by),
                configuration=CONFIGURATION,
                storage_options=self.options,
            )
        except CommitFailedError:  # "ignore" checks first and commits later; another writer made the table in between
            if not self.exists(table):
                raise
            return self.open(table)

    def commit(
        self,
        table: str,
        interval: Interval,
        write: Callable[[DeltaTable | None, int], tuple[int, int]],
    ) -> TableRef:
        """Call `write` until its commit succeeds.

        Args:
            table: the name of the table.
            interval: the days that the commit replaces.
            write: commits to the current table with an application transaction of the given number, and returns version
                and number of rows. It is called again if it raises `CommitFailedError`.
        """

        def attempt() -> TableRef:
            current = self.open(table) if self.exists(table) else None
            count = (current.transaction_version(table) or 0) + 1 if current else 1
            version, rows = write(current, count)
            return TableRef(table=table, version=version, interval=interval, rows=rows)

        def log_retry(state: RetryCallState) -> None:
            why = str(state.outcome and state.outcome.exception()).splitlines()[0]
            log.info("%s: another writer committed first (%s); retry", table, why)

        return Retrying(
            retry=retry_if_exception_type(CommitFailedError),
            stop=stop_after_attempt(COMMIT_TRIES),
            wait=wait_random_exponential(multiplier=0.1, max=2),  # seconds
            before_sleep=log_retry,
            reraise=True,
        )(attempt)

    def about(self, metadata: Mapping[str, Any] | None) -> dict[str, str]:
        """Return the metadata of a commit."""
        return {**self.commit_metadata, **{k: str(v) for k, v in (metadata or {}).items()}}

    def _properties(self, table: str, count: int, metadata: Mapping[str, Any] | None) -> CommitProperties:
        return CommitProperties(custom_metadata=self.about(metadata), app_transactions=[Transaction(table, count)])


def _by_another_thread(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Yield frames that another thread makes: what is written by delta-rs cannot be read by it in the same thread."""
    with ThreadPoolExecutor(1) as executor:
        while (frame := executor.submit(next, frames, None).result()) is not None:
            yield frame


def _same(one: pl.DataFrame, other: pl.DataFrame) -> bool:
    """Return whether two frames have equal rows, whatever the order of columns: an old table keeps its own."""
    return {*one.columns} == {*other.columns} and one.equals(other.select(one.columns))


def _in_order(rows: pl.DataFrame, sort_by: Sequence[str]) -> pl.DataFrame:
    return rows.sort([name for name in sort_by if name in rows.columns])


def _refuse_drift(uri: str, before: Schema, after: Schema, *, may_grow: bool) -> bool:
    """Return whether there are new columns; raise if one is lost or has another type.

    delta-rs would cast silently, so that 1.5 becomes 1.
    """
    types = {field.name: field.type for field in after.fields}
    lost = [field.name for field in before.fields if types.get(field.name) != field.type]
    if lost:
        raise DataError(
            f"table {uri}: lost or of another type: {', '.join(lost)}; keep the column, because other days have it"
        )
    new = sorted(types.keys() - {field.name for field in before.fields})
    if new:
        if not may_grow:
            raise DataError(f"table {uri} has no column {', '.join(new)}; to rebuild the table, move its folder away")
        log.warning("table %s: new columns %s; they are null for earlier days until these are run again", uri, new)
    return bool(new)

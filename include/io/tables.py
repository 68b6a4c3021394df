"""Delta tables by delta-rs: read at a version, replace a part in one commit. Knows no project and no step.

What Spark itself writes on Databricks (`io/native.py`) keeps to the same rules.

Nothing is ever appended. Each commit carries an application transaction of the table, which makes the second of two
concurrent writers fail even where both replace an empty part (deltalake 1.6.6 lets both through without it); the
loser reads the table anew and does its work again.
"""

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Schema, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, TableNotFoundError

from include.core.errors import ConfigError, DataError
from include.core.interval import Interval
from include.core.records import TableRef
from include.core.settings import Settings
from include.io import storage

log = logging.getLogger(__name__)

COMMIT_TRIES = 40
NOT_IN_PATHS = ' "#%<>?`{}'  # delta-rs gives file names percent-encoded, and polars and Spark take them as they are
CONFIGURATION = {"delta.enableDeletionVectors": "false"}  # both delta-rs and Spark read these tables


@dataclass(frozen=True)
class Scope:
    """The part of a table that a commit replaces: whole days, and rows whose columns have one of some values."""

    interval: Interval
    values: Mapping[str, Sequence[str | int]] = field(default_factory=dict)

    def sql(self) -> str:
        """The predicate as delta-rs reads it."""
        parts = [f"day >= '{self.interval.start}'", f"day <= '{self.interval.end}'"]
        for column, values in self.values.items():
            literals = (str(v) if isinstance(v, int) else "'" + v.replace("'", "''") + "'" for v in values)
            parts.append(f"{column} IN ({', '.join(literals)})")
        return " AND ".join(parts)

    def expr(self) -> pl.Expr:
        """The same predicate for polars."""
        inside = pl.col("day").is_between(self.interval.start, self.interval.end)
        for column, values in self.values.items():
            inside &= pl.col(column).is_in(list(values))
        return inside

    @classmethod
    def of_deliveries(cls, days: Sequence[date], delivery_ids: Sequence[str]) -> "Scope":
        return cls(Interval(start=min(days), end=max(days)), {"delivery_id": sorted(set(delivery_ids))})


class Tables:
    """The tables below `settings.tables`, each in a folder of its own, partitioned by `day` (first)."""

    def __init__(self, settings: Settings) -> None:
        self.root = settings.tables.rstrip("/")
        if wrong := sorted({c for c in self.root if c in NOT_IN_PATHS or not c.isascii()}):
            raise ConfigError(f"tables are in {self.root!r}, which has {wrong}: polars finds no files there; move them")
        self.options = storage.delta_options(settings, self.root)
        self.catalog = settings.catalog
        self.commit_metadata = {"run_id": settings.run_id, "git_commit": settings.git_commit}

    def uri(self, table: str) -> str:
        return f"{self.root}/{table}"

    def open(self, table: str, version: int | None = None) -> DeltaTable:
        """Raises `DataError` naming the table when it does not exist."""
        try:
            return DeltaTable(self.uri(table), version=version, storage_options=self.options)
        except TableNotFoundError as error:
            raise DataError(f"table {self.uri(table)} does not exist yet; run the step that makes it first") from error

    def exists(self, table: str) -> bool:
        return DeltaTable.is_deltatable(self.uri(table), storage_options=self.options)

    def version(self, table: str) -> int:
        return self.open(table).version()

    def days(self, table: str) -> list[date]:
        """The days that have rows, sorted; none of a table that does not exist. Reads the log, not the files."""
        if not self.exists(table):
            return []
        return sorted(date.fromisoformat(part["day"]) for part in self.open(table).partitions())

    def scan(self, table: str, version: int | None = None) -> pl.LazyFrame:
        """Rows at a version (default: now). Collect with polars: `to_pyarrow_table()` aborts some processes at exit."""
        return pl.scan_delta(self.open(table, version))

    def replace(
        self,
        table: str,
        rows: pl.DataFrame | Callable[[pl.DataFrame], pl.DataFrame],
        scope: Scope,
        *,
        sort_by: Sequence[str],
        metadata: Mapping[str, Any] | None = None,
    ) -> TableRef:
        """Make `rows` all there is in `scope`, in one commit; makes the table when there is none.

        `rows` may be a function from what is in the scope now to what shall be: it is called again when another
        writer came first, and nothing is committed when it changes nothing. An empty frame empties the scope. Rows are
        sorted, so that equal content is equal bytes.
        Raises `DataError` when columns or types are not the table's, or rows are outside of the scope.
        """

        def write(current: DeltaTable | None, count: int) -> tuple[int, int]:
            if callable(rows):
                if current is None:
                    raise DataError(f"table {self.uri(table)} does not exist yet, so that its rows cannot be changed")
                before = pl.scan_delta(current).filter(scope.expr()).collect()
                wanted = rows(before)
                if wanted.sort(sort_by).equals(before.sort(sort_by)):
                    return current.version(), wanted.height
            else:
                wanted = rows
            schema = Schema.from_arrow(wanted.clear().to_arrow().schema)
            if outside := wanted.filter(~scope.expr().fill_null(False)).height:
                raise DataError(
                    f"table {self.uri(table)}: {outside} rows are outside of what they replace, {scope.sql()}"
                )
            current = current or self.open_or_create(table, schema, ["day"])
            _refuse_drift(self.uri(table), current.schema(), schema, may_grow=False)
            write_deltalake(
                current,
                wanted.sort(sort_by).to_arrow(),
                mode="overwrite",
                predicate=scope.sql(),
                commit_properties=self._properties(table, count, metadata),
            )
            # the handle stands at the version it made, also when another commit has followed
            return current.version(), wanted.height

        return self.commit(table, scope.interval, write)

    def replace_files(
        self,
        table: str,
        files: Sequence[Path],
        scope: Scope,
        *,
        partition_by: Sequence[str],
        metadata: Mapping[str, Any] | None = None,
    ) -> TableRef:
        """Make the rows of local Parquet files (at least one) all there is in `scope`, in one commit and in the order
        they have; they are streamed. Makes the table, partitioned by `partition_by`, when there is none.

        A new column may come, and is null in rows written before; raises `DataError` when one is lost or gets another
        type.
        """
        # whether Spark takes a column for never null depends on its plan, from run to run
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

    def refuse_drift(self, table: str, schema: Schema) -> bool:
        """What `replace_files` would raise for files of this schema: to be asked before they are made. Whether there
        are new columns.
        """
        if not self.exists(table):
            return False
        return _refuse_drift(self.uri(table), self.open(table).schema(), schema, may_grow=True)

    def create(self, table: str, columns: Mapping[str, pl.DataType]) -> None:
        """An empty table with these columns, unless it is there already."""
        self.open_or_create(table, Schema.from_arrow(pl.DataFrame(schema=columns).to_arrow().schema), ["day"])

    def open_or_create(self, table: str, schema: Schema, partition_by: Sequence[str]) -> DeltaTable:
        """The table, made empty when there is none; without features of Delta that one of its readers lacks."""
        try:
            return DeltaTable.create(
                self.uri(table),
                schema=schema,
                mode="ignore",
                partition_by=list(partition_by),
                configuration=CONFIGURATION,
                storage_options=self.options,
            )
        except CommitFailedError:  # "ignore" looks first and commits later; another writer's table came in between
            if not self.exists(table):
                raise
            return self.open(table)

    def commit(
        self,
        table: str,
        interval: Interval,
        write: Callable[[DeltaTable | None, int], tuple[int, int]],
    ) -> TableRef:
        """`write`, given the table as it is now, commits with its application transaction of this number, and returns
        version and rows; again when it raises `CommitFailedError`.
        """
        for tries in range(1, COMMIT_TRIES + 1):
            current = self.open(table) if self.exists(table) else None
            count = (current.transaction_version(table) or 0) + 1 if current else 1
            try:
                version, rows = write(current, count)
            except CommitFailedError as error:
                if tries == COMMIT_TRIES:
                    raise
                log.info("%s: another writer came first (%s); again", table, str(error).splitlines()[0])
                time.sleep(random.uniform(0, min(2.0, 0.05 * 2**tries)))
                continue
            return TableRef(table=table, version=version, interval=interval, rows=rows)
        raise AssertionError("unreachable")

    def about(self, metadata: Mapping[str, Any] | None) -> dict[str, str]:
        """What a commit says of itself."""
        return {**self.commit_metadata, **{k: str(v) for k, v in (metadata or {}).items()}}

    def _properties(self, table: str, count: int, metadata: Mapping[str, Any] | None) -> CommitProperties:
        return CommitProperties(custom_metadata=self.about(metadata), app_transactions=[Transaction(table, count)])


def _refuse_drift(uri: str, before: Schema, after: Schema, *, may_grow: bool) -> bool:
    """Whether there are new columns. delta-rs casts, so that 1.5 becomes 1 without a word."""
    types = {field.name: field.type for field in after.fields}
    lost = [field.name for field in before.fields if types.get(field.name) != field.type]
    if lost:
        raise DataError(
            f"table {uri}: lost or of another type: {', '.join(lost)}; other days have it, so keep the column"
        )
    new = sorted(types.keys() - {field.name for field in before.fields})
    if new:
        if not may_grow:
            raise DataError(
                f"table {uri} has no column {', '.join(new)}; it is made anew when its folder is moved away"
            )
        log.warning("table %s: new columns %s; days written before have none until they are run again", uri, new)
    return bool(new)

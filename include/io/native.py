"""Delta tables read and written by Spark itself, as on Databricks: no rows go through this process.

Its commits use the same application transaction as those of `io/tables.py`. So of two writers that started from the
same version one loses, whichever of the two modules they use (tested with pyspark 4.2 and Delta 4.4).
"""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable, Schema
from deltalake.exceptions import CommitFailedError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, StructField, StructType

from include.core.errors import DataError
from include.core.interval import Interval
from include.core.outcomes import AddColumn
from include.core.records import TableRef
from include.io.tables import Scope, Tables

CAME_FIRST = ("DELTA_CONCURRENT_", "DELTA_METADATA_CHANGED", "DELTA_PROTOCOL_CHANGED")
OUTSIDE = "DELTA_REPLACE_WHERE_MISMATCH"


def read(
    spark: SparkSession, tables: Tables, table: str, interval: Interval, version: int | None = None
) -> tuple[DataFrame, int]:
    """Return the rows of the interval's days at a version of the table, by default the newest, and that version.

    Raises:
        DataError: the table does not exist.
    """
    version = tables.version(table) if version is None else version
    reader = spark.read.format("delta").option("versionAsOf", version)
    name = _name(spark, tables, table)
    rows = reader.table(name) if name else reader.load(tables.uri(table))
    return rows.where(F.col("day").between(F.lit(interval.start), F.lit(interval.end))), version


def with_columns(rows: DataFrame, add: Mapping[str, AddColumn]) -> DataFrame:
    """Add columns of doubles that polars computes, batch by batch on the executors.

    The function that goes there is nested and names no module of the product, so it travels whole: the executors need
    polars and pyarrow only.
    """
    if not add:
        return rows
    functions = dict(add)

    def added(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            frame = pl.DataFrame(batch).lazy()
            for add_column in functions.values():
                frame = add_column(frame)
            try:
                values = [column.to_arrow() for column in frame.select(*functions).collect().get_columns()]
            except pl.exceptions.InvalidOperationError:  # its text has values of rows
                raise ValueError(
                    "the SQL of an outcome, or entity.where, cannot be evaluated on the rows of its feed"
                ) from None
            yield pa.RecordBatch.from_arrays([*batch.columns, *values], names=[*batch.schema.names, *functions])

    schema = StructType([*rows.schema, *(StructField(name, DoubleType()) for name in functions)])
    return rows.mapInArrow(added, schema)


def schema_of(frame: DataFrame) -> Schema:
    """Return a frame's schema for Delta with all columns nullable: what Spark marks so depends on its plan."""
    columns = StructType([StructField(field.name, field.dataType) for field in frame.schema])
    return Schema.from_json(columns.json())


def replace(
    frame: DataFrame,
    tables: Tables,
    table: str,
    scope: Scope,
    *,
    partition_by: Sequence[str],
    metadata: Mapping[str, Any] | None = None,
) -> TableRef:
    """Replace the rows in `scope` by the frame, in one commit, as `Tables.replace_files` does.

    The frame is computed again if another writer committed first.

    Raises:
        DataError: a column is lost or has another type, or rows are outside of the scope.
    """
    wanted = schema_of(frame)

    def write(current: DeltaTable | None, count: int) -> tuple[int, int]:
        grows = tables.refuse_drift(table, wanted)
        # delta-rs creates the table, because it adds no feature of Delta that only Databricks reads
        current = current or tables.open_or_create(table, wanted, partition_by)
        mark = str(uuid.uuid4())
        writer = (
            frame.write
            .format("delta")
            .mode("overwrite")
            .option("replaceWhere", scope.sql())
            .option("mergeSchema", str(grows).lower())
            .option("txnAppId", table)
            .option("txnVersion", count)
            .option("userMetadata", json.dumps({**tables.about(metadata), "mark": mark}))
        )
        try:
            if name := _name(frame.sparkSession, tables, table):
                writer.saveAsTable(name)
            else:
                writer.save(tables.uri(table))
        except Exception as error:  # a `PySparkException`, or py4j's error for an exception that Spark has no class for
            if any(text in str(error) for text in CAME_FIRST):
                raise CommitFailedError(str(error).splitlines()[0]) from error
            if isinstance(error, PySparkException) and error.getCondition() == OUTSIDE:
                raise DataError(
                    f"table {tables.uri(table)}: rows are outside of what they replace, {scope.sql()}"
                ) from error
            raise
        version = _committed(tables.open(table), current.version(), mark)
        return version, tables.scan(table, version).filter(scope.expr()).select(pl.len()).collect().item()

    return tables.commit(table, scope.interval, write)


def _committed(now: DeltaTable, before: int, mark: str) -> int:
    """Return the version that our commit made.

    If the transaction had been used already, Spark silently wrote nothing; `CommitFailedError` is raised then.
    """
    for commit in now.history(now.version() - before):
        if mark in commit.get("userMetadata", ""):
            return int(commit["version"])
    raise CommitFailedError("Spark skipped the commit: its transaction was used already")


def _name(spark: SparkSession, tables: Tables, table: str) -> str | None:
    """Return the table's name in Unity Catalog, after registering it if needed; None without a catalog."""
    if tables.catalog is None:
        return None
    name, uri = f"{tables.catalog}.{table}", tables.uri(table).replace("'", "\\'")
    spark.sql(f"CREATE TABLE IF NOT EXISTS {name} USING DELTA LOCATION '{uri}'")
    return name

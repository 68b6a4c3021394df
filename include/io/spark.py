"""Spark: a session, Delta tables read into DataFrames, and DataFrames written back.

On Databricks Spark has Delta itself (`io/native.py`). Between delta-rs and a local Spark go Parquet files in a folder
of this machine, wherever the tables are: a file a table in, one a core out, and delta-rs commits them in one step. No
Delta jar is needed (docs/decisions/0009).
"""

import json
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import polars as pl
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from include.core.errors import DataError
from include.core.interval import Interval
from include.core.records import TableRef
from include.io import native
from include.io.tables import Scope, Tables

CONNECT_PORT = 15002  # where no other is named
OF_A_CLUSTER = "x-databricks-"  # the header of a Spark Connect address
STAGED = "nightly-spark-"
KEPT_SECONDS = 2 * 24 * 3600
ROW_GROUP = 100_000  # rows: what one task reads at least


def session() -> SparkSession:
    """The session there is (Databricks, a test); else one of the Spark Connect server that `SPARK_REMOTE` names; else
    a local one, tuned by `spark_conf/`. Raises `ConnectionError` when that server is not there.
    """
    if not on_databricks():
        os.environ.setdefault("SPARK_CONF_DIR", str(Path(__file__).parent / "spark_conf"))
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # its workers would run `python3`, of any version
    if remote := _server():
        _reach(remote)
    spark = SparkSession.builder.appName("nightly-ml").config("spark.sql.session.timeZone", "UTC").getOrCreate()
    if remote:
        from pyspark.sql.connect.client.retries import DefaultPolicy

        spark.client.set_retry_policies([DefaultPolicy(max_retries=4)])  # seconds, not ten minutes: Airflow tries again
    elif not on_databricks():
        spark.sparkContext.setLogLevel("ERROR")
    return spark


def on_databricks() -> bool:
    """Whether Spark is that of Databricks, where the session is given, and it has Delta: this process runs there, or
    `SPARK_REMOTE` names a cluster there.
    """
    return "DATABRICKS_RUNTIME_VERSION" in os.environ or OF_A_CLUSTER in os.environ.get("SPARK_REMOTE", "")


@contextmanager
def job() -> Iterator[tuple[SparkSession, Path]]:
    """A session, and a folder through which it and this process give each other files: below the machine's temporary
    folder (`TMPDIR`), which a server must see too. Also after a failure the folder is removed, and the session of a
    server given back; a Spark of one's own goes on.
    """
    _sweep()
    spark = session()
    try:
        with tempfile.TemporaryDirectory(prefix=STAGED) as folder:
            yield spark, Path(folder)
    finally:
        if _server():
            spark.stop()


def _sweep() -> None:
    """Remove what killed steps left, long after any step would have ended."""
    for left in Path(tempfile.gettempdir()).glob(f"{STAGED}*"):
        with suppress(OSError):  # another sweeps too
            if left.stat().st_mtime < time.time() - KEPT_SECONDS:
                shutil.rmtree(left)


def _server() -> str | None:
    """The Spark Connect server to use; on Databricks that is not ours to say."""
    return None if on_databricks() else os.environ.get("SPARK_REMOTE")


def _reach(remote: str) -> None:
    """Without a server Spark's client tries for ten minutes, and says little then."""
    address = urlsplit(remote)
    try:
        socket.create_connection((address.hostname or "", address.port or CONNECT_PORT), timeout=30).close()
    except OSError as error:
        raise ConnectionError(
            f"the Spark server {remote} does not answer ({error}); start it again (`make start`), or unset "
            "SPARK_REMOTE for a Spark of this process's own"
        ) from error


def read(spark: SparkSession, tables: Tables, table: str, interval: Interval, staged: Path) -> tuple[DataFrame, int]:
    """The rows of the interval's days as they are now, and the table's version.

    Of a local Spark they are put into one Parquet file first: it takes longer to open a file a day than to read all
    rows.
    """
    if on_databricks():
        return native.read(spark, tables, table, interval)
    opened = tables.open(table)
    schema = StructType.fromJson(json.loads(opened.schema().to_json()))
    file = staged / f"{table}.parquet"
    days = pl.col("day").is_between(interval.start, interval.end)
    tables.scan(table, opened.version()).filter(days).sink_parquet(file, row_group_size=ROW_GROUP)
    return spark.read.schema(schema).parquet(str(file)), opened.version()


def write(
    frame: DataFrame,
    tables: Tables,
    table: str,
    scope: Scope,
    staged: Path,
    *,
    sort_by: Sequence[str],
    partition_by: Sequence[str],
    expected: Mapping[date, int],
    metadata: Mapping[str, Any] | None = None,
) -> TableRef:
    """Make the frame all there is in the scope.

    `expected` is the number of rows each day must have: with another, `DataError` names the first day, and nothing is
    committed. The executors of a local Spark write a few files, which delta-rs puts into the table's partitions: for a
    file a day Spark takes longer, and the JVM starts a process for each.
    """
    tables.refuse_drift(table, native.schema_of(frame))
    ordered = frame.repartition("day").sortWithinPartitions("day", *sort_by)
    if on_databricks():
        _require_rows(table, dict(frame.groupBy("day").count().collect()), expected)
        return native.replace(ordered, tables, table, scope, partition_by=partition_by, metadata=metadata)
    made = staged / f"made-{table}"
    ordered.write.parquet(str(made))
    files = sorted(made.glob("*.parquet"))
    _require_rows(table, dict(pl.scan_parquet(files).group_by("day").len().collect().iter_rows()), expected)
    return tables.replace_files(table, files, scope, partition_by=partition_by, metadata=metadata)


def _require_rows(table: str, counted: dict[date | None, int], expected: Mapping[date, int]) -> None:
    if lost := counted.pop(None, 0):
        raise DataError(f"{table}: {lost} rows were made without a day")
    found = cast(dict[date, int], counted)
    wrong = {day for day in expected.keys() | found.keys() if expected.get(day, 0) != found.get(day, 0)}
    if wrong:
        day = min(wrong)
        raise DataError(f"{table}, {day}: {found.get(day, 0)} rows were made of {expected.get(day, 0)} entities")

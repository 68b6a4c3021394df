"""Spark: a session, Delta tables read into DataFrames, and DataFrames written back by the executors.

The files to read come from delta-rs; the executors write Parquet below the table's folder, and delta-rs commits it
in one step. No Delta jar is needed, and no rows come to the driver. Spark itself reads and writes the machine's own
disk only: files of tables in an object store are copied from there and to there.
"""

import json
import os
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec
import pyarrow.parquet as pq
from deltalake import Schema
from deltalake.transaction import AddAction
from fsspec.implementations.local import LocalFileSystem
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructField, StructType

from include.contracts import Interval, TableRef
from include.errors import BadData
from include.io.tables import Tables

CONNECT_PORT = 15002  # where no other is named


def session() -> SparkSession:
    """The session there is (Databricks, a test); else one of the Spark Connect server that `SPARK_REMOTE` names; else
    a local one, tuned by `spark_conf/`. Raises `ConnectionError` when that server is not there."""
    if "DATABRICKS_RUNTIME_VERSION" not in os.environ:
        os.environ.setdefault("SPARK_CONF_DIR", str(Path(__file__).parent / "spark_conf"))
    if remote := _server():
        _reach(remote)
    spark = SparkSession.builder.appName("nightly-ml").config("spark.sql.session.timeZone", "UTC").getOrCreate()
    if remote:
        from pyspark.sql.connect.client.retries import DefaultPolicy

        spark.client.set_retry_policies([DefaultPolicy(max_retries=4)])  # seconds, not ten minutes: Airflow tries again
    elif "DATABRICKS_RUNTIME_VERSION" not in os.environ:
        spark.sparkContext.setLogLevel("ERROR")
    return spark


def release(spark: SparkSession) -> None:
    """Give a session of a server back; a Spark of one's own goes on."""
    if _server():
        spark.stop()


def _server() -> str | None:
    """The Spark Connect server to use; on Databricks that is not ours to say."""
    return os.environ.get("SPARK_REMOTE") if "DATABRICKS_RUNTIME_VERSION" not in os.environ else None


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


@contextmanager
def staging() -> Iterator[Path]:
    """A folder for what Spark reads of tables in an object store, gone at the end: a DataFrame is read when it is
    written. A Spark server must be on this machine and run as this user."""
    with tempfile.TemporaryDirectory(prefix="nightly-spark-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def read(spark: SparkSession, tables: Tables, table: str, interval: Interval, staging: Path) -> tuple[DataFrame, int]:
    """The rows of the interval's days as they are now, and the table's version."""
    opened = tables.open(table)
    schema = StructType.fromJson(json.loads(opened.schema().to_json()))
    files = opened.file_uris(
        file_pruning_predicate=[("day", ">=", str(interval.start)), ("day", "<=", str(interval.end))]
    )
    if not files:
        return spark.createDataFrame([], schema), opened.version()
    base = tables.uri(table)
    if not _is_local(tables):
        base, there = str(staging / table), [file.removeprefix(f"{base}/") for file in files]
        files = [f"{base}/{file}" for file in there]
        tables.fs.get([f"{tables.path(table)}/{file}" for file in there], files)
    return spark.read.schema(schema).option("basePath", base).parquet(*files), opened.version()


def write(
    frame: DataFrame,
    tables: Tables,
    table: str,
    interval: Interval,
    *,
    sort_by: Sequence[str],
    equals: Mapping[str, str],
    expected: Mapping[date, int],
    metadata: Mapping[str, Any] | None = None,
) -> TableRef:
    """Make the frame all there is in the interval's days where the columns of `equals` have those values.

    The table is partitioned by `day` and the columns of `equals`. `expected` is the number of rows each day must
    have: with another, `BadData` names the first day, and nothing is committed. Files that were written but not
    committed (after a kill) belong to no version; `maintenance` removes them.
    """
    partition_by = ["day", *equals]
    schema = _schema(frame)
    tables.refuse_drift(table, schema)
    folder = f"spark-{uuid.uuid4().hex}"  # not hidden, so that vacuum sees it
    try:
        with staging() as staged:
            root = tables.uri(table) if _is_local(tables) else str(staged)
            partitioned = frame.repartition("day").sortWithinPartitions("day", *sort_by)
            partitioned.write.partitionBy(*partition_by).parquet(f"{root}/{folder}")
            actions, counted = _added(root, folder)
            wrong = {day for day in expected.keys() | counted.keys() if expected.get(day, 0) != counted.get(day, 0)}
            if wrong:
                day = min(wrong)
                made, of = counted.get(day, 0), expected.get(day, 0)
                raise BadData(f"{table}, {day}: {made} rows were made of {of} entities")
            if not _is_local(tables):
                files = [action.path for action in actions]
                tables.fs.put([f"{root}/{file}" for file in files], [f"{tables.path(table)}/{file}" for file in files])
    except BaseException:
        path = f"{tables.path(table)}/{folder}"
        if tables.fs.exists(path):
            tables.fs.rm(path, recursive=True)
        raise
    # from here on the files stay, whatever is raised: it may be raised after the commit
    return tables.commit_files(
        table,
        actions,
        schema,
        interval,
        partition_by=partition_by,
        equals=equals,
        rows=sum(counted.values()),
        metadata=metadata,
    )


def _is_local(tables: Tables) -> bool:
    return isinstance(tables.fs, LocalFileSystem)


def _schema(frame: DataFrame) -> Schema:
    """Every column may be null: whether Spark takes one for never null depends on its plan, from run to run."""
    return Schema.from_json(StructType([StructField(f.name, f.dataType) for f in frame.schema]).json())


def _added(root: str, folder: str) -> tuple[list[AddAction], dict[date, int]]:
    """The Parquet files below the folder as Delta actions, and their rows by day (from the files' footers)."""
    fs, path = fsspec.url_to_fs(root)
    actions: list[AddAction] = []
    counted: dict[date, int] = {}
    for found, info in fs.find(f"{path}/{folder}", detail=True).items():
        if not found.endswith(".parquet"):
            continue
        relative = found.removeprefix(path).lstrip("/")
        values = dict(part.split("=", 1) for part in relative.split("/")[1:-1])
        with fs.open(found, "rb") as file:
            rows = pq.read_metadata(file).num_rows
        try:
            day = date.fromisoformat(values["day"])
        except ValueError as error:  # Spark's name for null
            raise BadData(f"{rows} rows were made without a day") from error
        counted[day] = counted.get(day, 0) + rows
        stats = json.dumps({"numRecords": rows})
        actions.append(AddAction(relative, info["size"], values, int(time.time() * 1000), True, stats))
    return actions, counted

"""Spark: open a session, read Delta tables into DataFrames, and write DataFrames back.

On Databricks, Spark has Delta itself (`io/native.py`). A local Spark and delta-rs exchange Parquet files in a folder of
this machine, wherever the tables are: one file for each table in, one for each core out. delta-rs commits the result in
one step. No Delta jar is needed (docs/decisions/0009).
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
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import polars as pl
from pyspark.errors import PySparkRuntimeError
from pyspark.sql import DataFrame, DataFrameReader, SparkSession
from pyspark.sql.types import DoubleType, StructType

from include.core.errors import AccessError, ConfigError, DataError
from include.core.interval import Interval
from include.core.outcomes import AddColumn, without_values
from include.core.records import TableRef
from include.io import native
from include.io.executors import RUN_ON_DATABRICKS, STAGED, struct_type
from include.io.ports import find_owners
from include.io.tables import Scope, Tables

CONNECT_PORT = 15002  # the default port of Spark Connect
TOKEN_FILE = "NIGHTLY_SPARK_TOKEN_FILE"
"""The variable that names the file with the token of the server in SPARK_REMOTE."""
OF_A_CLUSTER = "x-databricks-"  # a header in the Spark Connect address of a Databricks cluster
OF_SESSIONS: dict[str, bool | float | int | str | None] = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",  # polars reads the default, INT96, as nanoseconds
    # as Spark itself has them: an earlier job of the same session may have been small (`suit_to_size`)
    "spark.sql.codegen.wholeStage": True,
    "spark.sql.codegen.factoryMode": "FALLBACK",
}
COMPILED_FROM_BYTES = 2_000_000
"""A job whose staged files are smaller is interpreted: to compile code for it would take longer than to run it."""
KEPT_SECONDS = 2 * 24 * 3600
ROW_GROUP = 100_000  # the least number of rows for one task
STAGED_COMPRESSION: Literal["snappy"] = "snappy"  # polars' own choice takes longer, to write and to read


def session() -> SparkSession:
    """Return a Spark session.

    It is the existing one (Databricks, a test), else one of the Spark Connect server that `SPARK_REMOTE` names, else a
    local one with the settings of `spark_conf/`.

    Raises:
        ConnectionError: the server of `SPARK_REMOTE` does not answer.
        AccessError: it asks for another token than this process has.
        ConfigError: there is no server, and Spark does not start here.
    """
    if not on_databricks():
        os.environ.setdefault("SPARK_CONF_DIR", str(Path(__file__).parent / "spark_conf"))
        os.environ.setdefault(
            "PYSPARK_PYTHON", sys.executable
        )  # otherwise its workers would run `python3`, whatever version that is
    if remote := _server():
        return _session_of(remote)
    builder = SparkSession.builder.appName("nightly-ml").config("spark.sql.session.timeZone", "UTC")
    if on_databricks():
        return builder.getOrCreate()
    builder = builder.config(map=OF_SESSIONS)
    before = os.umask(0o077)  # what the JVM writes has data in it, some of it directly in /tmp
    try:
        spark = builder.getOrCreate()
    except PySparkRuntimeError as error:
        if error.getCondition() != "JAVA_GATEWAY_EXITED":
            raise
        raise ConfigError(
            "no Spark starts on this machine, and SPARK_REMOTE names no server. Install Java 17 or later (JAVA_HOME "
            "says where it is), or set SPARK_REMOTE=sc://host:15002. validate, score and outcomes also run without "
            "Spark: run_on: worker. Spark's own words are above"
        ) from error
    finally:
        os.umask(before)
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def on_databricks() -> bool:
    """Return whether Spark is that of Databricks, which provides the session and has Delta.

    That is the case if this process runs on Databricks, or `SPARK_REMOTE` names a cluster there.
    """
    return RUN_ON_DATABRICKS in os.environ or OF_A_CLUSTER in os.environ.get("SPARK_REMOTE", "")


@contextmanager
def job() -> Iterator[tuple[SparkSession, Path]]:
    """Open a session, and a folder through which Spark and this process exchange files. Both end, also by a failure."""
    sweep()
    with opened() as spark, folder() as exchange:
        yield spark, exchange


@contextmanager
def opened() -> Iterator[SparkSession]:
    """Open a session. That of a server is closed in the end; a local Spark keeps running.

    A server closes a session to which nothing was sent for ten minutes, so this one is for requests, not for a step.
    """
    spark = session()
    try:
        yield spark
    finally:
        if _server():
            spark.stop()


@contextmanager
def folder() -> Iterator[Path]:
    """Make a folder for files, which only this user can read, and remove it in the end.

    It is below the machine's temporary folder (`TMPDIR`), which a Spark server must see too.
    """
    # After a failed job, Spark may write while files are removed. The job's error matters; `sweep` removes the rest.
    with tempfile.TemporaryDirectory(prefix=STAGED, ignore_cleanup_errors=True) as made:
        yield Path(made)


def sweep() -> None:
    """Remove folders of killed steps, long after any step would have ended."""
    for left in Path(tempfile.gettempdir()).glob(f"{STAGED}*"):
        with suppress(OSError):  # another process removes them too
            if left.stat().st_mtime < time.time() - KEPT_SECONDS:
                shutil.rmtree(left)


def require_server() -> None:
    """Fail at once if the server of `SPARK_REMOTE` does not answer, before a step prepares files for it."""
    if remote := _server():
        _reach(remote)


def _server() -> str | None:
    """Return the Spark Connect server to use, None for a local Spark or on Databricks."""
    return None if on_databricks() else os.environ.get("SPARK_REMOTE")


def _session_of(remote: str) -> SparkSession:
    """Return a session of a Spark Connect server. Each request carries the token of `NIGHTLY_SPARK_TOKEN_FILE`."""
    from pyspark.errors.exceptions.connect import SparkConnectGrpcException
    from pyspark.sql.connect.client.core import DefaultChannelBuilder
    from pyspark.sql.connect.client.retries import DefaultPolicy
    from pyspark.sql.connect.session import SparkSession as ConnectSession

    _reach(remote)
    channel = DefaultChannelBuilder(remote)
    token = None if channel.token else _read_token()
    if token:
        # Spark's own parameter `token` demands TLS of every server that is not called "localhost".
        channel.set("authorization", f"Bearer {token}")
    # The usual builder sets this, by which functions of pyspark know their session, but it takes no channel.
    os.environ["SPARK_CONNECT_MODE_ENABLED"] = "1"
    builder = ConnectSession.builder.channelBuilder(channel).appName("nightly-ml")
    try:
        spark = builder.config(map=OF_SESSIONS).getOrCreate()
    except SparkConnectGrpcException as error:
        if error.getGrpcStatusCode().name != "UNAUTHENTICATED":
            raise
        found = f"another token than that in {os.environ[TOKEN_FILE]}" if token else "a token"
        raise AccessError(
            f"the Spark server {_without_parameters(remote)} asks for {found}: set {TOKEN_FILE} to the file with its "
            "token (on the local stack: `make start`, then `. .local/env`), or unset SPARK_REMOTE to use a local Spark"
        ) from None
    # seconds instead of ten minutes, because Airflow retries
    spark.client.set_retry_policies([DefaultPolicy(max_retries=4)])
    return cast(SparkSession, spark)


def _without_parameters(remote: str) -> str:
    """Return the address without what may be a secret, such as `;token=…`."""
    return remote.partition("/;")[0]


def _read_token() -> str | None:
    """Return the token in the file that `NIGHTLY_SPARK_TOKEN_FILE` names; None without that variable."""
    if not (file := os.environ.get(TOKEN_FILE)):
        return None
    try:
        token = Path(file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise AccessError(f"{TOKEN_FILE}: {file} cannot be read ({error.strerror}); only its owner may") from error
    if not token:
        raise AccessError(f"{TOKEN_FILE}: {file} is empty; write the token of the Spark server into it")
    return token


def _reach(remote: str) -> None:
    """Fail at once if the server does not answer: Spark's client would try for ten minutes."""
    address = urlsplit(remote)
    host, port = address.hostname or "", address.port or CONNECT_PORT
    try:
        socket.create_connection((host, port), timeout=30).close()
    except OSError as error:
        raise ConnectionError(
            f"the Spark server {_without_parameters(remote)} does not answer ({error}); start it again (`make start`), "
            "or unset SPARK_REMOTE to use a local Spark"
        ) from error
    owners = find_owners(port) if host in ("127.0.0.1", "localhost") else set()
    if owners and not owners & {0, os.geteuid()}:
        raise AccessError(
            f"another user of this machine listens at {_without_parameters(remote)}, so the token is not sent there; "
            "`make start` starts the Spark server at another port"
        )


def read(
    spark: SparkSession,
    tables: Tables,
    table: str,
    interval: Interval,
    staged: Path,
    add: Mapping[str, AddColumn] | None = None,
    instead: pl.LazyFrame | None = None,
) -> tuple[DataFrame, int]:
    """Return the current rows of the interval's days, and the table's version.

    `add` has functions that add a column of doubles, by its name; polars computes these wherever Spark runs. For a
    local Spark, the rows are written to one Parquet file first: opening one file for each day takes longer than reading
    all rows. `instead` has rows to use instead of those of the table; a Spark of Databricks does not read them.
    """
    added = add or {}
    if on_databricks():
        rows, version = native.read(spark, tables, table, interval)
        return native.with_columns(rows, added), version
    opened = tables.open(table)
    schema = StructType.fromJson(json.loads(opened.schema().to_json()))
    file = staged / f"{table}.parquet"
    source = tables.scan(table, opened.version()) if instead is None else instead
    stored = source.filter(pl.col("day").is_between(interval.start, interval.end))
    for name, add_column in added.items():
        stored, schema = add_column(stored), schema.add(name, DoubleType())
    with without_values():
        stored.sink_parquet(file, row_group_size=ROW_GROUP, compression=STAGED_COMPRESSION)
    return _reader(spark, schema).parquet(str(file)), opened.version()


def staged(spark: SparkSession, rows: pl.LazyFrame, file: Path) -> DataFrame:
    """Return rows that polars streams into a Parquet file for a Spark without Delta, unless they are there already."""
    if not file.exists():
        with without_values():
            rows.sink_parquet(file, row_group_size=ROW_GROUP, compression=STAGED_COMPRESSION)
    return of_files(spark, rows.collect_schema(), file)


def suit_to_size(spark: SparkSession, staged: Path) -> None:
    """Let a Spark without Delta interpret the rest of a job if the staged files are small, instead of compiling it."""
    if on_databricks():
        return
    if sum(each.stat().st_size for each in staged.glob("*.parquet")) < COMPILED_FROM_BYTES:
        spark.conf.set("spark.sql.codegen.wholeStage", False)
        spark.conf.set("spark.sql.codegen.factoryMode", "NO_CODEGEN")


def of_files(spark: SparkSession, columns: Mapping[str, pl.DataType], path: Path) -> DataFrame:
    """Return the rows of a Parquet file, or of those of a folder."""
    return _reader(spark, struct_type(columns)).parquet(str(path))


def _reader(spark: SparkSession, schema: StructType) -> DataFrameReader:
    """Return a reader for which a file that is gone or damaged is an error: a server may be set up to ignore those."""
    reader = spark.read.schema(schema).option("ignoreMissingFiles", value=False)
    return reader.option("ignoreCorruptFiles", value=False)


def write(
    frame: DataFrame,
    tables: Tables,
    table: str,
    scope: Scope,
    staged: Path,
    *,
    sort_by: Sequence[str],
    partition_by: Sequence[str],
    expected: Mapping[date, int] | None,
    metadata: Mapping[str, Any] | None = None,
) -> TableRef:
    """Replace the rows in the scope by the frame.

    The executors of a local Spark write a few files, which delta-rs divides into the table's partitions. To write one
    file for each day takes Spark longer, and the JVM starts a process for each file.

    Args:
        frame: the rows.
        tables: where the table is.
        table: its name.
        scope: the part to replace.
        staged: a folder for files, from `job`.
        sort_by: the order of the rows within a day.
        partition_by: the columns by which a new table is partitioned.
        expected: the number of rows that each day must have; None if the caller knows that each has it, because to
            count them on Databricks is to compute the frame twice.
        metadata: the metadata of the commit.

    Raises:
        DataError: a day has another number of rows. It names the first such day, and nothing is committed.
    """
    tables.refuse_drift(table, native.schema_of(frame))
    ordered = frame.repartition("day").sortWithinPartitions("day", *sort_by)
    if on_databricks():
        if expected is not None:
            _require_rows(table, dict(frame.groupBy("day").count().collect()), expected)
        return native.replace(ordered, tables, table, scope, partition_by=partition_by, metadata=metadata)
    made = staged / f"made-{table}"
    # delta-rs encodes the rows again, so a dictionary is not worth its time.
    ordered.write.option("parquet.enable.dictionary", "false").parquet(str(made))
    files = sorted(made.glob("*.parquet"))
    if expected is not None:
        _require_rows(table, dict(pl.scan_parquet(files).group_by("day").len().collect().iter_rows()), expected)
    return tables.replace_files(table, files, scope, partition_by=partition_by, metadata=metadata)


def _require_rows(table: str, counted: dict[date | None, int], expected: Mapping[date, int]) -> None:
    if lost := counted.pop(None, 0):
        raise DataError(f"{table}: {lost} rows have no day")
    found = cast(dict[date, int], counted)
    wrong = {day for day in expected.keys() | found.keys() if expected.get(day, 0) != found.get(day, 0)}
    if wrong:
        day = min(wrong)
        raise DataError(f"{table}, {day}: {found.get(day, 0)} rows were made of {expected.get(day, 0)} entities")

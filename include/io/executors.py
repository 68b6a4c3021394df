"""Apply a kernel of the product to the rows of a Spark DataFrame, block by block, on the executors.

The code of this process goes there with it, so that an executor runs no other version of the product. The executors'
Python needs the packages of `requirements.txt`. What a step computes with a kernel belongs in `include/steps`.
"""

import hashlib
import io
import json
import os
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePosixPath

import cloudpickle
import polars as pl
import pyarrow as pa
from deltalake import Schema
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

import include
from include import projects
from include.core import errors
from include.core.errors import ActionRequiredError

Kernel = Callable[[pl.DataFrame], pl.DataFrame]
"""Makes rows of a block of rows. It is pickled, and what it makes of a row does not depend on the other rows."""

RUN_ON_DATABRICKS = "DATABRICKS_RUNTIME_VERSION"
"""The variable by which a process knows that it runs on Databricks, where the wheel is installed on all machines."""
STAGED = "nightly-spark-"
"""How names of temporary folders begin that `io/spark.py` removes after a kill."""
_ERROR = re.compile(rf"^{re.escape(errors.__name__)}\.(\w+): (.+)$", re.MULTILINE)


def map_blocks(frame: DataFrame, kernel: Kernel, columns: Mapping[str, pl.DataType]) -> DataFrame:
    """Return what a kernel makes of the rows, a block of them at a time.

    Args:
        frame: the rows.
        kernel: what to apply; blocks without rows are left out.
        columns: those that it makes.
    """
    session = frame.sparkSession
    read_kernel, find_code = _sent(session, cloudpickle.dumps(kernel)), _code(session)
    schema = arrow_schema(columns)

    # It is nested, so it travels whole, and names no module of the product before it has found the product's code.
    def applied(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import sys

        import cloudpickle

        code = find_code()
        if code is not None and code not in sys.path:
            sys.path.insert(0, code)
        loaded = cloudpickle.loads(read_kernel())
        for batch in batches:
            if batch.num_rows:
                made = loaded(pl.DataFrame(batch)).select(schema.names).to_arrow().cast(schema)
                yield from made.to_batches()

    return frame.mapInArrow(applied, struct_type(columns))


def arrow_schema(columns: Mapping[str, pl.DataType]) -> pa.Schema:
    """Return columns as Spark takes them from Arrow."""
    large = {pa.large_string(): pa.string(), pa.string_view(): pa.string()}
    schema = pl.DataFrame(schema=columns).to_arrow().schema
    return pa.schema([pa.field(field.name, large.get(field.type, field.type)) for field in schema])


def struct_type(columns: Mapping[str, pl.DataType]) -> StructType:
    """Return columns as Spark's type of a row."""
    return StructType.fromJson(json.loads(Schema.from_arrow(arrow_schema(columns)).to_json()))


@contextmanager
def errors_of_kernels() -> Iterator[None]:
    """Raise an error of the product that a kernel raised on an executor as this error, without Spark's traces."""
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        for name, text in _ERROR.findall(str(error)):
            kind = getattr(errors, name, None)
            if isinstance(kind, type) and issubclass(kind, ActionRequiredError):
                raise kind(text) from None
        raise


def _sent(session: SparkSession, content: bytes) -> Callable[[], bytes]:
    """Send bytes to the executors; return the function that reads them there."""
    if not is_connect(session):
        sent = session.sparkContext.broadcast(content)
        return lambda: sent.value
    find = _sent_file(session, content)

    def read() -> bytes:
        from pathlib import Path

        return Path(find()).read_bytes()

    return read


def _sent_file(session: SparkSession, content: bytes) -> Callable[[], str]:
    """Send a file with these bytes to the executors of a server; return the function that finds it there."""
    name = f"nightly-{hashlib.sha256(content).hexdigest()}"
    with tempfile.TemporaryDirectory(prefix=STAGED) as folder:
        file = Path(folder) / name
        file.write_bytes(content)
        session.addArtifacts(str(file), file=True)

    def find() -> str:
        from pyspark import SparkFiles

        return SparkFiles.get(name)

    return find


def _code(session: SparkSession) -> Callable[[], str | None]:
    """Return the function that finds the product's code on an executor; None where it is installed."""
    if RUN_ON_DATABRICKS in os.environ:
        return lambda: None
    if is_connect(session):
        return _sent_file(session, packed_code())
    folder = str(Path(include.__file__).parents[1])  # a local Spark is on this machine
    return lambda: folder


def is_connect(session: SparkSession) -> bool:
    """Return whether a session is a client of Spark Connect."""
    return type(session).__module__.startswith("pyspark.sql.connect")


@cache
def packed_code() -> bytes:
    """Return a zip of the Python modules of the product and of all projects, equal for equal modules."""
    roots = [("include", Path(include.__file__).parent), *(("include/projects", Path(p)) for p in projects.__path__)]
    found = {f"{name}/{file.relative_to(root)}": file for name, root in roots for file in root.rglob("*.py")}
    folders = {f"{folder}/" for name in found for folder in PurePosixPath(name).parents[:-1]}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for folder in sorted(folders):  # by these entries, zipimport finds packages without an __init__.py
            archive.writestr(zipfile.ZipInfo(folder), b"")
        for name, file in sorted(found.items()):
            archive.writestr(zipfile.ZipInfo(name), file.read_bytes(), zipfile.ZIP_DEFLATED)
    return packed.getvalue()

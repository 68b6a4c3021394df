"""The libraries that `processes.py` imports once, for all processes that it forks afterwards: that takes seconds.

Nothing of the product is here: a process imports it with the environment of its test.
"""

import importlib
from pathlib import Path

for name in (
    "deltalake",
    "mlflow.sklearn",
    "pandas",
    "psycopg2",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "pydantic_settings",
    "pyspark.sql",
    "ruamel.yaml",
    "s3fs",
    "skops.io",
    "sqlalchemy.dialects.postgresql",
    "tenacity",
):
    importlib.import_module(name)

# A fork has no thread of the process that it was forked from, so polars would wait for its own for ever.
_threads = [path.read_text(encoding="utf-8").strip() for path in Path("/proc/self/task").glob("*/comm")]
assert not [name for name in _threads if name.startswith(("tokio", "polars-0", "async-ex"))], _threads

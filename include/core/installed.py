"""The installed versions of the libraries that results and run times depend on."""

import hashlib
import json
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType

LIBRARIES = (
    *("apache-airflow", "deltalake", "great-expectations", "lightgbm", "mlflow", "mlflow-skinny", "numpy", "pandas"),
    *("polars", "pyarrow", "pyspark", "scikit-learn", "scipy", "sqlalchemy", "xgboost", "xgboost-cpu"),
)
"""The libraries that are compared. All of the lock would take half a second to read, at each step."""


@cache
def installed_versions() -> Mapping[str, str]:
    """Return the version of Python and of each library that is installed."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return MappingProxyType(found)


def libraries_digest(versions: Mapping[str, str]) -> str:
    """Return the digest of versions."""
    return hashlib.sha256(json.dumps(dict(versions), sort_keys=True).encode()).hexdigest()

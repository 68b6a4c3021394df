"""Import what every task needs once, in the process from which tasks are forked. This saves each task four seconds.

Airflow forks a process for each DAG file too, each time that it parses it.

When Airflow starts, it imports a module of this name from the `config` folder of its home. The stack and the image put
it there. Nothing imported here may start a thread that it needs later, because threads do not survive a fork. (polars
starts its pool, gRPC its threads and delta-rs its runtime at first use, which is in the task.)

The product's own modules are imported here too, if its folder is the only bundle. A process whose parent imported
another state of them than the folder has now imports them again, as it would without this module.
"""
# ruff: noqa: F401

import importlib
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

log = logging.getLogger(__name__)

PARSED = ("include.config.loading", "include.operations.affected")
"""What every DAG file imports."""


def only_bundle() -> Path | None:
    """Return the folder of the bundle; None if it is no folder, or not the only one: others may have an `include`."""
    bundles = json.loads(os.environ.get("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", "[]"))
    if [each["classpath"] for each in bundles] != ["airflow.dag_processing.bundles.local.LocalDagBundle"]:
        return None
    return Path(bundles[0]["kwargs"]["path"])


def needed(bundle: Path, service: str) -> list[str]:
    """Return the product's modules that children of a service import: those of steps only where tasks run."""
    steps = sorted(f"include.steps.{path.stem}" for path in (bundle / "include" / "steps").glob("[a-z]*.py"))
    return [*PARSED] if service == "dag-processor" else [*PARSED, "include.runner.run", *steps]


def preload(bundle: Path, names: Sequence[str]) -> None:
    """Import modules of a bundle, unless a child shows that this fails or starts a thread: then tasks import them."""
    state = state_of(bundle)
    sys.path.append(str(bundle))  # as Airflow does before it parses a file
    if not can_import(names):
        log.warning("the modules of %s are not imported before tasks need them: see the lines above", bundle)
        return
    for name in names:
        importlib.import_module(name)
    os.register_at_fork(after_in_child=lambda: forget_if_changed(bundle, state))


def can_import(names: Sequence[str]) -> bool:
    """Return whether a child can import modules without a new thread, those of libraries in C or Rust included."""
    if pid := os.fork():
        return os.waitpid(pid, 0)[1] == 0
    started = ["an import that failed"]
    try:
        before = threads()
        for name in names:
            importlib.import_module(name)
        started = sorted(threads() - before)
        log.log(logging.WARNING if started else logging.DEBUG, "threads that imports started: %s", started)
    except Exception:
        log.exception("a module cannot be imported")
    finally:
        os._exit(len(started))


def threads() -> set[str]:
    """Return number and name of each thread of this process."""
    tasks = Path("/proc/self/task").iterdir()
    return {f"{each.name} {(each / 'comm').read_text().strip()}" for each in tasks}


def forget_if_changed(bundle: Path, state: object) -> None:
    """Let a new process import the product again if its files are not those that were imported.

    A process that runs a task keeps what it has, and so do its children.
    """
    if "dags" not in sys.modules and state_of(bundle) != state:
        forget()


def forget() -> None:
    """Remove the product's modules."""
    for name in [each for each in sys.modules if each.split(".")[0] == "include"]:
        del sys.modules[name]


def state_of(bundle: Path) -> dict[str, tuple[int, int]]:
    """Return time and size of each file that the product's modules are or read; projects are not imported here."""
    found = {}
    for folder, inside, files in os.walk(bundle / "include"):
        inside[:] = [each for each in inside if each not in ("__pycache__", "projects")]
        for path in [Path(folder, name) for name in files]:
            status = path.stat()
            found[str(path)] = (status.st_mtime_ns, status.st_size)
    return found


if {"scheduler", "celery", "dag-processor"} & set(sys.argv):
    import airflow.providers.amazon.aws.hooks.base_aws
    import airflow.providers.standard.decorators.python
    import numpy
    import pydantic_settings
    import ruamel.yaml

if {"scheduler", "celery"} & set(sys.argv):
    logging.getLogger("great_expectations").setLevel(logging.WARNING)  # its import logs a hundred lines
    import adbc_driver_postgresql.dbapi
    import alembic.command
    import deltalake
    import great_expectations.expectations
    import jinja2
    import mlflow.sklearn
    import mlflow.store.model_registry.sqlalchemy_store
    import mlflow.store.tracking.sqlalchemy_store
    import pandas
    import polars
    import psycopg
    import sklearn.ensemble
    import sklearn.linear_model
    import skops.io
    import sqlalchemy.orm

    if "SPARK_REMOTE" in os.environ:
        import pyspark.sql.connect.session
    # containers read connections from a file
    if {"AIRFLOW_CONN_NIGHTLY_STORAGE", "AIRFLOW__SECRETS__BACKEND"} & set(os.environ):
        import airflow.providers.amazon.aws.hooks.s3
        import s3fs

if (services := {"scheduler", "celery", "dag-processor"} & set(sys.argv)) and (folder := only_bundle()):
    preload(folder, needed(folder, *services))

if {"scheduler", "triggerer"} & set(sys.argv) and "AIRFLOW__NIGHTLY__LOG_SERVER_HOST" in os.environ:
    import uvicorn
    from airflow.utils.serve_logs import core

    # Airflow's log servers listen at every address of the machine, and no setting changes that.
    # (tests/integration/test_doors.py looks at all listening ports.)
    loopback = {"host": os.environ["AIRFLOW__NIGHTLY__LOG_SERVER_HOST"]}
    vars(core)["uvicorn"] = SimpleNamespace(run=lambda app, **options: uvicorn.run(app, **options | loopback))

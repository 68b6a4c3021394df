"""Import what every task needs once, in the process from which tasks are forked. This saves each task four seconds.

Airflow forks a process for each DAG file too, each time that it parses it.

When Airflow starts, it imports a module of this name from the `config` folder of its home. The stack and the image put
it there. Nothing imported here may start a thread that it needs later, because threads do not survive a fork. (polars
starts its pool, gRPC its threads and delta-rs its runtime at first use, which is in the task.)

The product's own modules are imported here too, if its folder is the only bundle. If its files are others by the time
that a process is forked, that process imports them again (docs/decisions/0072-imports-before-the-fork.md).
"""
# ruff: noqa: F401

import importlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

log = logging.getLogger(__name__)

SERVICES = ("scheduler", "celery", "dag-processor")
"""The services that fork: tasks, or processes that read a DAG file."""
FOLDERS = ("nightly_bundle.FolderBundle", "airflow.dag_processing.bundles.local.LocalDagBundle")
"""The kinds of bundles that are a folder."""
PARSED = ("include.config.loading", "include.operations.affected")
"""What every DAG file imports."""
READ_AHEAD = {"include.config.loading": "read_ahead", "include.core.installed": "installed_versions"}
"""Functions of modules that are called once they are imported, and keep what every child would read."""
PACKAGES = {"include": "include", "nightly_pages": "plugins/nightly_pages"}
"""The product's packages that these modules belong to, and their folders."""
TRIAL_SECONDS = 120


def preload(service: str) -> None:
    """Import and read what children of a service need, if the product's folder is the only bundle.

    A child tries first: if that fails there or starts a thread, or if anything else is unusual, tasks do it themselves.
    """
    try:
        bundle = only_bundle()
        if bundle is None:
            return
        state = state_of(bundle)
        sys.path.append(str(bundle))  # as Airflow does before it parses a file
        names = needed(bundle, service)
        if not can_prepare(names):
            log.warning("the modules of %s are not imported before tasks need them: see the lines above", bundle)
            return
        prepare(names)
        os.register_at_fork(after_in_child=lambda: forget_if_changed(bundle, state))
    except Exception:  # Airflow starts without this
        log.exception("the product's modules are not imported before tasks need them")
        forget()


def only_bundle() -> Path | None:
    """Return the folder of the bundle; None if it is no folder, or not the only one: others may have an `include`."""
    bundles = json.loads(os.environ.get("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST") or "[]")
    if len(bundles) != 1 or bundles[0]["classpath"] not in FOLDERS:
        return None
    path = bundles[0].get("kwargs", {}).get("path")
    return Path(path) if path else None


def needed(bundle: Path, service: str) -> list[str]:
    """Return the product's modules that children of a service import: those of steps only where tasks run."""
    steps = sorted(f"include.steps.{path.stem}" for path in (bundle / "include" / "steps").glob("[a-z]*.py"))
    return [*PARSED] if service == "dag-processor" else [*PARSED, "include.runner.run", *steps]


def prepare(names: Sequence[str]) -> None:
    """Import modules, and call what reads ahead."""
    for name in names:
        importlib.import_module(name)
    for module, function in READ_AHEAD.items():
        if module in sys.modules:
            getattr(sys.modules[module], function)()


def can_prepare(names: Sequence[str]) -> bool:
    """Return whether a child can prepare without a new thread, those of libraries in C or Rust included."""
    if pid := os.fork():
        until = time.monotonic() + TRIAL_SECONDS
        while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
            if time.monotonic() > until:
                log.warning("the imports take longer than %d s", TRIAL_SECONDS)
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        return ended[1] == 0
    is_sound = False
    try:
        before = threads()
        prepare(names)
        started = sorted(threads() - before)
        is_sound = not started
        log.log(logging.DEBUG if is_sound else logging.WARNING, "threads that imports started: %s", started)
    except Exception:
        log.exception("a module cannot be imported")
    finally:
        os._exit(not is_sound)


def threads() -> set[str]:
    """Return number and name of each thread of this process."""
    tasks = Path("/proc/self/task").iterdir()
    return {f"{each.name} {(each / 'comm').read_text().strip()}" for each in tasks}


def forget_if_changed(bundle: Path, state: object) -> None:
    """Let a new process import the product again if its files are not those that were imported.

    A process that runs a task keeps what it has, and so do its children.
    """
    if "dags" in sys.modules:
        return
    try:
        is_same = state_of(bundle) == state
    except Exception:  # Python would ignore it, and go on with what was imported
        log.exception("the product is imported again")
        is_same = False
    if not is_same:
        forget()


def forget() -> None:
    """Remove the product's modules."""
    for name in [each for each in sys.modules if each.split(".")[0] in PACKAGES]:
        del sys.modules[name]


def state_of(bundle: Path) -> dict[str, tuple[int, int, int]]:
    """Return times and size of each file that the product's modules are or read, and of the folders of libraries.

    Projects are not imported here. Whatever installs a library makes a folder with its version beside it.
    """
    paths = [Path(folder).resolve() for folder in sys.path if folder.endswith("-packages")]
    for package in PACKAGES.values():
        for folder, inside, files in os.walk(bundle / package):
            inside[:] = [each for each in inside if each not in ("__pycache__", "projects")]
            paths += [Path(folder, name) for name in files]
    found = {}
    for path in paths:
        status = path.lstat()  # a copy can keep the time of a change, but not that of the file's own record
        found[str(path)] = (status.st_mtime_ns, status.st_ctime_ns, status.st_size)
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
    import mlflow.store.model_registry.sqlalchemy_workspace_store
    import mlflow.store.tracking.sqlalchemy_workspace_store
    import mlflow.tracing.export.utils
    import mlflow.tracing.processor.base_mlflow
    import narwhals._pandas_like.dataframe
    import narwhals._pandas_like.namespace
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

for service in [each for each in SERVICES if each in sys.argv][:1]:
    try:
        # after MLflow, whose import fails beside some of Airflow's tables
        from airflow.sdk import Asset, Param, TaskGroup, dag, task

        Asset(name="first", uri="nightly-ml://first")  # Airflow imports all providers' kinds of assets for the first
    except Exception:  # Airflow starts without this
        log.exception("tasks import all kinds of assets themselves")
    preload(service)

if {"scheduler", "triggerer"} & set(sys.argv) and "AIRFLOW__NIGHTLY__LOG_SERVER_HOST" in os.environ:
    import uvicorn
    from airflow.utils.serve_logs import core

    # Airflow's log servers listen at every address of the machine, and no setting changes that.
    # (tests/integration/test_doors.py looks at all listening ports.)
    loopback = {"host": os.environ["AIRFLOW__NIGHTLY__LOG_SERVER_HOST"]}
    vars(core)["uvicorn"] = SimpleNamespace(run=lambda app, **options: uvicorn.run(app, **options | loopback))

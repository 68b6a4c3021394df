"""Put the tasks of backfills into a pool of their own, so that they leave slots to the nightly runs.

Airflow 3 cannot assign a pool to a backfill. To use one, create it and set `[nightly] backfill_pool` in Airflow's
configuration (`AIRFLOW__NIGHTLY__BACKFILL_POOL`), for the scheduler and wherever backfills are started. There is no
default, because tasks in a pool that does not exist would never start.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from airflow import settings
from airflow.configuration import conf
from airflow.policies import hookimpl

POOL = conf.get("nightly", "backfill_pool", fallback=None)
_resetting = ContextVar("resetting", default=False)

if POOL:
    with suppress(AttributeError):
        # Airflow 3.3 notices a hook only if airflow_local_settings.py defines it. Without this line, it would not call
        # the hook of an entry point for new tasks.
        settings.task_instance_mutation_hook.is_noop = False  # type: ignore[attr-defined]


@contextmanager
def resetting() -> Iterator[None]:
    """Treat tasks that are cleared inside as tasks of a backfill: Airflow 3.3 clears a run before it records that."""
    token = _resetting.set(True)
    try:
        yield
    finally:
        _resetting.reset(token)


@hookimpl
def task_instance_mutation_hook(task_instance: Any, dag_run: Any) -> None:
    """Put the task of a backfill into the pool of backfills, unless its DAG names a pool."""
    if not POOL or dag_run is None or task_instance.pool != "default_pool":
        return
    if dag_run.run_type == "backfill" or _resetting.get():
        task_instance.pool = POOL

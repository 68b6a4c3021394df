"""Notice that failed tasks were made good, so that the recovery of their incident is sent.

A callback of each successful task would cost every task. The DAG `outbox` asks Airflow instead, every five minutes, for
the failed tasks and runs of open incidents only.
"""

import logging

from airflow.sdk import get_current_context

from dags.connections import find_database

log = logging.getLogger(__name__)


def try_to_note_recovered() -> None:
    """Do the same as `note_recovered`; if that fails, what waits in the outbox is sent all the same."""
    try:
        note_recovered()
    except Exception:
        log.exception("it is not known whether failed tasks have succeeded since; the next run asks again")


def note_recovered() -> list[int]:
    """Close the incidents of tasks and runs that have succeeded since they failed; return their numbers."""
    from include.io.postgres.connection import impatient_engine
    from include.io.postgres.incident_failures import TaskKey, read_open_failures, recover_failures

    engine, context = impatient_engine(find_database().get_secret_value()), get_current_context()
    with engine.begin() as connection:
        failed = read_open_failures(connection)
    if not failed:
        return []
    ti = context["ti"]
    states: dict[tuple[str, str], dict[str, str]] = {}
    for dag_id, run_id in {(dag_id, run_id) for dag_id, _, run_id, _ in failed}:
        found = ti.get_task_states(dag_id=dag_id, run_ids=[run_id])
        states[dag_id, run_id] = found.get(run_id, {})

    def succeeded(key: TaskKey) -> bool:
        dag_id, task_id, run_id, map_index = key
        of_run = states[dag_id, run_id]
        if not task_id:  # the run as a whole
            return bool(of_run) and all(state in ("success", "skipped") for state in of_run.values())
        name = task_id if map_index < 0 else f"{task_id}_{map_index}"
        return of_run.get(name) in ("success", "skipped")

    with engine.begin() as connection:
        return recover_failures(connection, [key for key in failed if succeeded(key)], context["run_id"])

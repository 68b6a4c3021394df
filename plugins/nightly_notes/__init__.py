"""Write into the note of a run what came of it, in one line, and what its run dates went on without.

No task can write a note, because the API of tasks has no call for it. Airflow calls these functions in the process
that ends the run, which has Airflow's database. What they say is in the records that the run's tasks returned.
"""

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

from airflow.listeners import hookimpl
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import select
from sqlalchemy.orm import object_session

from nightly_backfill.printable import markdown
from nightly_notes.sentences import lacks_of, outcome_of

DONE, FAILED, NOTHING = "✓ ", "✗ ", "– "
LACKS = "Goes on without something (view data_quality). "
OWN = (DONE, FAILED, NOTHING, LACKS)
"""Notes of this plugin begin with one of these. A person's note is never replaced."""
MOST = 1000
"""The longest note that Airflow stores, in characters."""
MAX_LINE = 400
"""The most characters of what came of a run, so that what its run dates lack has room."""


@hookimpl
def on_dag_run_success(dag_run: DagRun, msg: str) -> None:
    """Write the note of a run that succeeded."""
    _write(dag_run, ())


@hookimpl
def on_dag_run_failed(dag_run: DagRun, msg: str) -> None:
    """Write the note of a run that failed: it may have prepared days before."""
    _write(dag_run, failed_of(dag_run))


def note_of(records: Mapping[str, list[Any]], skipped: Iterable[str] = (), failed: Iterable[str] = ()) -> str | None:
    """Return the note about a run: what came of it, or why nothing did; and what its run dates lack.

    Airflow renders notes as Markdown, and the sentences name objects of suppliers.

    Args:
        records: what each task returned.
        skipped: why tasks were skipped.
        failed: the tasks that failed.
    """
    came, failed = outcome_of(records), sorted(failed)
    why = "; ".join(dict.fromkeys(skipped))
    mark = FAILED if failed else DONE if came else NOTHING
    parts = [f"{', '.join(failed)} failed; the log says why" if failed else "", came or ("" if failed else why)]
    line = "; ".join(part for part in parts if part)
    lacks = lacks_of(chain.from_iterable(records.values()))
    if not line and not lacks:
        return None
    text = mark + markdown(line if len(line) <= MAX_LINE else f"{line[: MAX_LINE - 1]}…") if line else ""
    if lacks:
        text = f"{text}\n\n" if text else ""
        text += LACKS + "; ".join(map(markdown, lacks))
    return text if len(text) <= MOST else f"{text[: MOST - 1]}…"


def records_of(dag_run: DagRun) -> tuple[dict[str, list[Any]], list[str]]:
    """Return what the tasks of a run returned, by task, and why tasks were skipped."""
    statement = select(XComModel.task_id, XComModel.key, XComModel.value).where(
        XComModel.dag_id == dag_run.dag_id,
        XComModel.run_id == dag_run.run_id,
        XComModel.key.in_(("return_value", "skipped")),
    )
    session = object_session(dag_run)  # a session of its own would be the scheduler's, and end its transaction
    records: dict[str, list[Any]] = {}
    skipped = []
    for row in () if session is None else session.execute(statement.order_by(XComModel.task_id, XComModel.map_index)):
        value = XComModel.deserialize_value(row)
        if row.key == "skipped":
            skipped.append(str(value))
        else:
            records.setdefault(row.task_id, []).append(value)
    return records, skipped


def failed_of(dag_run: DagRun) -> list[str]:
    """Return the tasks of a run that failed."""
    session = object_session(dag_run)
    of_run = (TaskInstance.dag_id == dag_run.dag_id) & (TaskInstance.run_id == dag_run.run_id)
    statement = select(TaskInstance.task_id).distinct().where(of_run, TaskInstance.state == "failed")
    return [] if session is None else sorted(session.scalars(statement))


def _write(dag_run: DagRun, failed: Iterable[str]) -> None:
    there = dag_run.note or None
    if there and not there.startswith(OWN):
        return
    records, skipped = records_of(dag_run)
    if (text := note_of(records, skipped, failed)) != there:
        dag_run.note = text

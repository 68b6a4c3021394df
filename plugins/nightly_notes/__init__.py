"""Write into the note of a run what its run dates went on without: people see it on the page of the run.

No task can write a note, because the API of tasks has no call for it. Airflow calls these functions in the process
that ends the run, which has Airflow's database. The sentences are in the records of the run's tasks
(`PreparedDay.lacks` in `include/core/records.py`).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from airflow.listeners import hookimpl
from airflow.models.dagrun import DagRun
from airflow.models.xcom import XComModel
from sqlalchemy import select
from sqlalchemy.orm import object_session

from nightly_backfill.printable import markdown

BEGIN = "Goes on without something (view data_quality). "
"""Notes of this plugin begin with it. A person's note is never replaced."""
MOST = 1000
"""The longest note that Airflow stores, in characters."""


@hookimpl
def on_dag_run_success(dag_run: DagRun, msg: str) -> None:
    """Write the note of a run that succeeded."""
    _write(dag_run)


@hookimpl
def on_dag_run_failed(dag_run: DagRun, msg: str) -> None:
    """Write the note of a run that failed: it may have prepared days before."""
    _write(dag_run)


def note_of(records: Iterable[Any]) -> str | None:
    """Return the note about the records of a run's tasks, the newest run date first; None if no day lacks anything.

    Airflow renders notes as Markdown, and the sentences name objects of suppliers.
    """
    days = [day for each in records if isinstance(each, Mapping) for day in each.get("prepared_days", ())]
    sentences = [
        markdown(f"{feed}: {day['day']} {sentence}")
        for day in sorted(days, key=lambda day: day["day"], reverse=True)
        for feed, sentence in sorted(day.get("lacks", {}).items())
    ]
    if not sentences:
        return None
    text = BEGIN + "; ".join(sentences)
    return text if len(text) <= MOST else f"{text[: MOST - 1]}…"


def records_of(dag_run: DagRun) -> list[Any]:
    """Return what the tasks of a run returned."""
    statement = select(XComModel.value).where(
        XComModel.dag_id == dag_run.dag_id, XComModel.run_id == dag_run.run_id, XComModel.key == "return_value"
    )
    session = object_session(dag_run)  # a session of its own would be the scheduler's, and end its transaction
    return [] if session is None else [XComModel.deserialize_value(row) for row in session.execute(statement)]


def _write(dag_run: DagRun) -> None:
    there = dag_run.note or None
    if there and not there.startswith(BEGIN):
        return
    if (text := note_of(records_of(dag_run))) != there:
        dag_run.note = text

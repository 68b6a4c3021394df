"""Read and change the backfills and runs in Airflow's metadata database. Nothing here prints."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow._shared.timezones import timezone
from airflow.jobs.job import most_recent_job
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.models.backfill import Backfill, BackfillDagRun
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState
from sqlalchemy import select, update
from sqlalchemy.orm import Session

UNFINISHED = (DagRunState.QUEUED.value, DagRunState.RUNNING.value)


@dataclass(frozen=True)
class Run:
    """The current state of a run."""

    run_id: str
    logical_date: datetime
    state: str


@dataclass(frozen=True)
class FailedTask:
    """A task instance that failed by itself."""

    task_id: str
    map_index: int


def dag_model(dag_id: str) -> DagModel | None:
    """Return Airflow's record of a DAG, None if there is none."""
    with _reading() as session:
        return session.get(DagModel, dag_id)


def dag_ids() -> list[str]:
    """Return the ids of all DAGs that a bundle has now."""
    with _reading() as session:
        return list(session.scalars(select(DagModel.dag_id).where(~DagModel.is_stale)))


def serialized(dag_id: str) -> Any:
    """Return the newest version of a DAG, None if there is none."""
    with _reading() as session:
        return SerializedDagModel.get_dag(dag_id, session=session)


def unpause(dag_id: str) -> None:
    """Unpause a DAG, so that its runs and its schedule continue."""
    with create_session() as session:
        session.execute(update(DagModel).where(DagModel.dag_id == dag_id).values(is_paused=False))


def is_paused(dag_id: str) -> bool:
    """Return whether the DAG is paused now."""
    with _reading() as session:
        return bool(session.scalar(select(DagModel.is_paused).where(DagModel.dag_id == dag_id)))


def backfill_is_paused(backfill_id: int) -> bool:
    """Return whether the backfill is paused now."""
    with _reading() as session:
        return bool(session.scalar(select(Backfill.is_paused).where(Backfill.id == backfill_id)))


def scheduler_is_alive() -> bool:
    """Return whether a scheduler had a recent heartbeat."""
    with _reading() as session:
        job = most_recent_job(SchedulerJobRunner.job_type, session=session)
        return job is not None and job.is_alive()


def at(dag_id: str, moments: Collection[datetime]) -> dict[datetime, Run]:
    """Map each logical date to its run; dates without one are absent."""
    with _reading() as session:
        found = session.execute(
            select(DagRun.run_id, DagRun.logical_date, DagRun.state).where(
                DagRun.dag_id == dag_id, DagRun.logical_date.in_(moments)
            )
        )
        return {moment: Run(run_id, moment, str(state)) for run_id, moment, state in found}


def failed_tasks(dag_id: str, run_id: str) -> list[FailedTask]:
    """Return the tasks that failed by themselves, in the order of their failure."""
    with _reading() as session:
        found = session.execute(
            select(TaskInstance.task_id, TaskInstance.map_index)
            .where(
                TaskInstance.dag_id == dag_id,
                TaskInstance.run_id == run_id,
                TaskInstance.state == TaskInstanceState.FAILED,
            )
            .order_by(TaskInstance.end_date, TaskInstance.map_index)
        )
        return [FailedTask(task_id, map_index) for task_id, map_index in found]


def skipped_because(dag_id: str, run_ids: Collection[str]) -> dict[str, str]:
    """Map each of these runs that did nothing to the reason.

    A step that has nothing to do leaves the reason as XCom `skipped`. A step that did something returns a record, which
    names its `interval`: a run with such a record did something, even if a later step had nothing to do.
    """
    statement = select(XComModel.run_id, XComModel.key, XComModel.value).where(
        XComModel.dag_id == dag_id, XComModel.run_id.in_(run_ids), XComModel.key.in_(["skipped", "return_value"])
    )
    with _reading() as session:
        found = [(row.run_id, row.key, XComModel.deserialize_value(row)) for row in session.execute(statement)]
    busy = {run_id for run_id, _, value in found if isinstance(value, Mapping) and "interval" in value}
    return {run_id: str(value) for run_id, key, value in found if key == "skipped" and run_id not in busy}


def active(dag_id: str) -> int | None:
    """Return the DAG's backfill that has unfinished runs, None if there is none.

    Backfills without unfinished runs are closed, as the scheduler will do later: Airflow makes no other backfill while
    one is open.
    """
    with create_session() as session:
        opened = session.scalars(
            select(Backfill).where(Backfill.dag_id == dag_id, Backfill.completed_at.is_(None)).order_by(Backfill.id)
        ).all()
        for backfill in opened:
            unfinished = session.scalar(
                select(DagRun.id).where(DagRun.backfill_id == backfill.id, DagRun.state.in_(UNFINISHED)).limit(1)
            )
            made = session.scalar(select(BackfillDagRun.id).where(BackfillDagRun.backfill_id == backfill.id).limit(1))
            if unfinished is not None or made is None:
                return backfill.id
            backfill.completed_at = timezone.utcnow()
    return None


def newest(dag_id: str) -> int | None:
    """Return the newest backfill of the DAG, None if there is none."""
    with _reading() as session:
        return session.scalars(
            select(Backfill.id).where(Backfill.dag_id == dag_id).order_by(Backfill.id.desc()).limit(1)
        ).one_or_none()


def conf_of(backfill_id: int) -> dict[str, Any]:
    """Return the conf of a backfill's runs."""
    with _reading() as session:
        return session.scalars(select(Backfill.dag_run_conf).where(Backfill.id == backfill_id)).one() or {}


def moments(backfill_id: int) -> list[datetime]:
    """Return the logical dates of a backfill, in the order of its runs."""
    with _reading() as session:
        found = select(BackfillDagRun.logical_date).where(BackfillDagRun.backfill_id == backfill_id)
        return list(session.scalars(found.order_by(BackfillDagRun.sort_ordinal)))


def cancel(backfill_id: int) -> None:
    """Cancel a backfill as Airflow's pages do: queued runs fail, running ones continue to their end."""
    pause(backfill_id)
    with create_session() as session:
        session.execute(
            update(DagRun)
            .where(DagRun.backfill_id == backfill_id, DagRun.state == DagRunState.QUEUED)
            .values(state=DagRunState.FAILED)
        )
    with create_session() as session:
        session.execute(update(Backfill).where(Backfill.id == backfill_id).values(completed_at=timezone.utcnow()))


def pause(backfill_id: int, paused: bool = True) -> None:
    """Pause or unpause a backfill. While it is paused no run starts; running ones continue."""
    with create_session() as session:
        other = Backfill.is_paused.is_distinct_from(paused)  # do not touch a row needlessly: schedulers lock it
        session.execute(update(Backfill).where(Backfill.id == backfill_id, other).values(is_paused=paused))


@contextmanager
def _reading() -> Iterator[Session]:
    with create_session() as session:
        session.expire_on_commit = False
        yield session

"""Failed tasks and runs, in the shared database: which incident each belongs to, and when that is over."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import sqlalchemy as sa
from pydantic import SecretStr

from include.core.incidents import (
    FEED_LATE,
    NOT_PREPARED,
    RUN_FAILED,
    Details,
    Episode,
    Failure,
    Incident,
    late_words,
)
from include.core.records import Alert
from include.core.routes import SEVERITIES
from include.io.postgres.connection import impatient_engine
from include.io.postgres.incidents import RECORD, Cause, add_event, as_incident, lock_incidents, read_now, report, store
from include.io.postgres.messages import NOW
from include.io.postgres.schema import incident_days, incident_failures, incident_records, step_runs

OF_TASKS = "task"
"""The scope of failed tasks and runs: their success decides whether they are over."""

OF_NOW = ("public_page",)
"""Steps that make what is true now: any later success makes a failure good, whatever its run dates."""

FAILED = incident_failures.c

TaskKey = tuple[str, str, str, int]
"""DAG, task, run and map index."""


def report_failure(database_url: SecretStr, failure: Failure) -> int | None:
    """Do the same as `put_failure` in a transaction of its own, which waits only for seconds."""
    with impatient_engine(database_url.get_secret_value()).begin() as connection:
        return put_failure(connection, failure)


def put_failure(connection: sa.Connection, failure: Failure) -> int | None:
    """Record a failed task or run in its incident; return the message that is to be sent now, None if people know.

    A run that failed because of a task belongs to the incident of that task. What only waited for a day that is not
    prepared belongs to the incident of that day, whoever comes first.
    """
    lock_incidents(connection, failure.project)
    if failure.follows_task and _has_reported_task(connection, failure):
        return None
    details, day = failure.details, _as_day(failure.day)
    if failure.late_feed and day:
        return _put_late(connection, failure, details, day)
    row = _open_incident(connection, failure, details)
    if row is None:
        return _open(connection, failure, details)
    before = as_incident(row)
    reason = _add_failure(connection, before, failure)
    if reason is None or failure.is_effect:
        return None
    if row.rule in (RUN_FAILED, FEED_LATE):  # the task was reported after its run; or its day waits for a feed
        details = replace(details, rule=row.rule, subject=row.subject)
    details = replace(
        details,
        occurrence=row.occurrence,
        severity=min(details.severity, before.details.severity, key=SEVERITIES.index),
        models=tuple(dict.fromkeys([*before.details.models, *details.models])),
    )
    episode = Episode(before.first_day, before.last_day)
    after = store(connection, Cause(failure.project, OF_TASKS, row.cause), details, episode, before)
    is_sent = not after.is_snoozed(read_now(connection))
    return add_event(connection, after, "updated", failure.run_id, day=day, is_sent=is_sent, why=reason)


def _open(connection: sa.Connection, failure: Failure, details: Details) -> int | None:
    """Open the incident of a failure, or open it again; return its message."""
    waits = _as_day(failure.day) if details.rule == NOT_PREPARED else None
    if waits and (late := _late_alert(connection, failure.project, waits)):
        return _continue_late(connection, late, failure, details)
    cause = Cause(failure.project, OF_TASKS, details.cause)
    newest = sa.select(incident_records).where(cause.condition).order_by(RECORD.id.desc()).limit(1)
    row = connection.execute(newest).one_or_none()
    before = as_incident(row) if row is not None else None
    day = _as_day(failure.day) or connection.scalars(sa.select(sa.func.current_date())).one()
    episode = Episode(before.first_day, before.last_day) if before else Episode(day, day)
    after = store(connection, cause, details, episode, before)
    _add_failure(connection, after, failure)
    return report(connection, before, after, failure.run_id, _as_day(failure.day))


def as_told(connection: sa.Connection, project: str, alert: Alert) -> Alert:
    """Return late scores with the feeds that people were told of for their day, so that it stays one incident.

    More may be known of the cause by now: at the deadline, any of the feeds without a delivery could be the late one.
    """
    if not alert.late_feed or alert.scored_day is None:
        return alert
    told = _late_alert(connection, project, alert.scored_day)
    return alert if told is None else alert.model_copy(update={"late_feed": told.subject})


def _late_alert(connection: sa.Connection, project: str, day: date) -> sa.Row[Any] | None:
    """Return the open incident of the alert that scores of a run date are late because of a feed."""
    noticed = day + timedelta(days=1)  # late scores of a day are an alert of the next run date
    statement = sa.select(incident_records).where(
        RECORD.project == project,
        RECORD.scope != OF_TASKS,
        RECORD.rule == FEED_LATE,
        RECORD.recovered_day.is_(None),
        RECORD.merged_into.is_(None),
        RECORD.last_day == noticed,
    )
    return connection.execute(statement.order_by(RECORD.id).limit(1)).one_or_none()


def _continue_late(connection: sa.Connection, row: sa.Row[Any], failure: Failure, details: Details) -> int | None:
    """Make the incident of a late feed that of the day which is not prepared because of it; return its message.

    It keeps its number and what people decided about it. From now on the success of the failed tasks decides whether it
    is over, and late scores of the day follow from a failure that people know.
    """
    late = as_incident(row)
    day = _as_day(failure.day) or late.first_day
    details = replace(
        details,
        what=f"{late.details.what}; then {details.what}",
        severity=min(details.severity, late.details.severity, key=SEVERITIES.index),
        models=tuple(dict.fromkeys([*late.details.models, *details.models])),
    )
    cause = Cause(failure.project, OF_TASKS, details.cause)
    _take_over(connection, row, cause)
    after = store(connection, cause, details, Episode(min(late.first_day, day), max(late.last_day, day)), late)
    _add_failure(connection, after, failure)
    is_sent = not failure.is_effect and not after.is_snoozed(read_now(connection))
    why = "the day is not prepared"
    return add_event(connection, after, "updated", failure.run_id, day=day, is_sent=is_sent, why=why)


def _take_over(connection: sa.Connection, row: sa.Row[Any], cause: Cause) -> None:
    """Give an incident another cause, that of failed tasks. The looks that saw it count for no incident any more."""
    if row.scope != OF_TASKS:
        there = incident_days.c
        of_cause = (there.project == row.project) & (there.scope == row.scope) & (there.cause == row.cause)
        connection.execute(sa.delete(incident_days).where(of_cause, there.day.between(row.first_day, row.last_day)))
    moved = sa.update(incident_records).where(RECORD.id == row.id)
    connection.execute(moved.values(scope=cause.scope, cause=cause.cause))


# A feed that is late, for one day or for several


def _put_late(connection: sa.Connection, failure: Failure, details: Details, day: date) -> int | None:
    """Record that a run date waits in vain for a feed; return the message that is to be sent now.

    All run dates that wait for the feed are one incident. It takes over what is known of this one: the alert about late
    scores, and the incident of those that wait for the day. It is over when each of its days is made good.
    """
    late = _open_late(connection, failure.project, failure.late_feed)
    alert = _late_alert(connection, failure.project, day)
    waits = failure.model_copy(update={"late_feed": ""})
    waiting = _open_incident(connection, waits, waits.details)
    if waiting is not None and waiting.rule == FEED_LATE:  # of this feed, or of another one, which is another cause
        waiting = None
    found = [row for row in (late, alert, waiting) if row is not None]
    if not found:
        what = f"{late_words(failure.late_feed, [day])}. {details.what}"
        return _open(connection, failure, replace(details, what=what))
    row, *others = found
    before, known = as_incident(row), day in _missing_days(connection, row.id)
    for each in others:
        connection.execute(sa.update(incident_failures).where(FAILED.incident_id == each.id).values(incident_id=row.id))
        _take_over(connection, each, Cause(failure.project, OF_TASKS, each.cause))
        connection.execute(sa.update(incident_records).where(RECORD.id == each.id).values(merged_into=row.id))
    if row is late:
        details = replace(details, occurrence=row.occurrence)
        cause = Cause(failure.project, OF_TASKS, row.cause)
    else:
        cause = Cause(failure.project, OF_TASKS, details.cause)
        _take_over(connection, row, cause)
    is_again, reason = _is_reported(connection, before, failure), _add_failure(connection, before, failure)
    if row is not late:
        reason = "the cause is known" if row is waiting else "the day is not prepared"
    elif not is_again:
        reason = None if known else "another day is missing"
    episode = Episode(min(before.first_day, day), max(before.last_day, day))
    after = store(connection, cause, _of_missing_days(connection, before, details, failure), episode, before)
    if reason is None:
        return None
    is_sent = not after.is_snoozed(read_now(connection)) and not (after.acknowledged_by and not is_again)
    return add_event(connection, after, "updated", failure.run_id, day=day, is_sent=is_sent, why=reason)


def add_missing_day(connection: sa.Connection, alert: Alert, project: str, run_id: str) -> bool:
    """Add the day of late scores to the open incident of a feed that it waits for; return whether there is one."""
    feeds = [feed for feed in alert.missing_feeds if _open_late(connection, project, feed) is not None]
    if not feeds or alert.scored_day is None:
        return False
    day = alert.scored_day
    failure = Failure(
        project=project, dag_id=f"{project}_prepare", run_id=f"late {day}", day=str(day), what=alert.because,
        effect=alert.effect, tier=alert.tier, models=alert.models, runbook="docs/runbooks/wait_for_files.md",
        done_by="build_features", late_feed=feeds[0],
    )  # fmt: skip
    _put_late(connection, failure, failure.details, day)
    return True


def _open_late(connection: sa.Connection, project: str, feed: str) -> sa.Row[Any] | None:
    """Return the open incident of run dates that wait for a feed."""
    of_feed = _is_open(project) & (RECORD.rule == FEED_LATE) & (RECORD.subject == feed)
    return connection.execute(sa.select(incident_records).where(of_feed).order_by(RECORD.id).limit(1)).one_or_none()


def _of_missing_days(connection: sa.Connection, before: Incident, details: Details, failure: Failure) -> Details:
    """Return what the incident of a late feed says, with the run dates that wait for it."""
    days = _missing_days(connection, before.id)
    command = details.command
    if len(days) > 1:
        command = f"airflow dags backfill {failure.dag_id} -s {days[0]} -e {days[-1]} --rerun-failed-tasks -y"
    return replace(
        details,
        what=f"{late_words(failure.late_feed, days)}. {details.what}",
        command=command,
        severity=min(details.severity, before.details.severity, key=SEVERITIES.index),
        models=tuple(dict.fromkeys([*before.details.models, *details.models])),
    )


def _missing_days(connection: sa.Connection, incident_id: int | None) -> list[date]:
    """Return the run dates of an incident that are not made good."""
    left = (FAILED.incident_id == incident_id) & FAILED.succeeded_at.is_(None) & ~FAILED.is_effect
    days = sa.select(FAILED.day).distinct().where(left, FAILED.day.is_not(None))
    return [*connection.scalars(days.order_by(FAILED.day))]


def _has_reported_task(connection: sa.Connection, failure: Failure) -> bool:
    """Return whether a failed task of this run was reported since the run started, and was not made good."""
    of_run = sa.select(FAILED.task_id).where(
        FAILED.project == failure.project,
        FAILED.dag_id == failure.dag_id,
        FAILED.run_id == failure.run_id,
        FAILED.task_id != "",
        FAILED.succeeded_at.is_(None),
        *([FAILED.failed_at >= failure.started_at] if failure.started_at else []),
    )
    return connection.scalar(of_run.limit(1)) is not None


def _open_incident(connection: sa.Connection, failure: Failure, details: Details) -> sa.Row[Any] | None:
    """Return the open incident of a failure's cause, or that of the failure of its run, which was reported first."""
    of_run = sa.exists().where(
        FAILED.incident_id == RECORD.id, FAILED.dag_id == failure.dag_id, FAILED.run_id == failure.run_id
    )
    belongs = RECORD.cause == details.cause
    if failure.task_id:
        belongs |= (RECORD.rule == RUN_FAILED) & of_run
    if details.rule == NOT_PREPARED:
        of_incident = FAILED.incident_id == RECORD.id
        waits = sa.exists().where(of_incident, FAILED.day == _as_day(failure.day), FAILED.succeeded_at.is_(None))
        belongs |= (RECORD.rule == FEED_LATE) & waits
    statement = sa.select(incident_records).where(_is_open(failure.project), belongs)
    return connection.execute(statement.order_by(RECORD.cause != details.cause, RECORD.id).limit(1)).one_or_none()


def _is_open(project: str) -> sa.ColumnElement[bool]:
    of_tasks = (RECORD.project == project) & (RECORD.scope == OF_TASKS)
    return of_tasks & RECORD.recovered_day.is_(None) & RECORD.merged_into.is_(None)


def _is_reported(connection: sa.Connection, incident: Incident, failure: Failure) -> bool:
    """Return whether an earlier try of a failed task belongs to an incident."""
    names = ("dag_id", "task_id", "run_id", "map_index")
    same = [FAILED[name] == getattr(failure, name) for name in names]
    return connection.scalar(sa.select(sa.literal(1)).where(FAILED.incident_id == incident.id, *same)) is not None


def _add_failure(connection: sa.Connection, incident: Incident, failure: Failure) -> str | None:
    """Write a failure; return why people should know of it, None if they do."""
    where = {"incident_id": incident.id, "dag_id": failure.dag_id, "task_id": failure.task_id}
    key = {**where, "run_id": failure.run_id, "map_index": failure.map_index}
    same = [FAILED[name] == value for name, value in key.items()]
    known = connection.execute(sa.select(FAILED.try_number, FAILED.failed_at).where(*same)).one_or_none()
    if known is not None:
        has_run_again = failure.started_at is not None and failure.started_at > known.failed_at
        if failure.try_number <= known.try_number and not has_run_again:
            return None
        again = {"try_number": failure.try_number, "failed_at": NOW, "succeeded_at": None}
        connection.execute(sa.update(incident_failures).where(*same).values(**again))
        others = [FAILED[name] == value for name, value in key.items() if name != "map_index"]
        highest = sa.select(sa.func.max(FAILED.try_number)).where(*others, FAILED.map_index != failure.map_index)
        return "failed again" if failure.try_number > (connection.scalar(highest) or -1) else None
    of_incident = (FAILED.incident_id == incident.id) & ~FAILED.is_effect
    found = connection.execute(sa.select(FAILED.run_id, FAILED.dag_id, FAILED.task_id).where(of_incident)).all()
    values = {
        "try_number": failure.try_number,
        "is_effect": failure.is_effect,
        "project": failure.project,
        "model": failure.model,
        "day": _as_day(failure.day),
        "done_by": failure.done_by,
    }
    connection.execute(sa.insert(incident_failures).values(**key, **values))
    if not found:
        return "the cause is known"
    of_task = [row.run_id for row in found if (row.dag_id, row.task_id) == (failure.dag_id, failure.task_id)]
    if not of_task:
        return "another task failed"
    return None if failure.run_id in of_task else "failed again"


def _name_missing_days(connection: sa.Connection, project: str) -> None:
    """Write into the incidents of late feeds which days are left; nobody is sent that."""
    for row in connection.execute(sa.select(incident_records).where(_is_open(project), RECORD.rule == FEED_LATE)).all():
        days = _missing_days(connection, row.id)
        if not days:
            continue
        words = late_words(row.subject, days)
        if row.what != words and not row.what.startswith(f"{words}. "):  # fewer days may be the beginning of more
            connection.execute(sa.update(incident_records).where(RECORD.id == row.id).values(what=words))


def read_open_failures(connection: sa.Connection) -> list[TaskKey]:
    """Return the failed tasks and runs that are not known to be made good, for who can ask Airflow."""
    columns = (FAILED.dag_id, FAILED.task_id, FAILED.run_id, FAILED.map_index)
    is_open = (FAILED.incident_id == RECORD.id) & FAILED.succeeded_at.is_(None) & RECORD.recovered_day.is_(None)
    statement = sa.select(*columns).distinct().where(is_open)
    return [(row[0], row[1], row[2], row[3]) for row in connection.execute(statement.order_by(*columns))]


def recover_failures(connection: sa.Connection, succeeded: Iterable[TaskKey], run_id: str) -> list[int]:
    """Close the incidents whose failures were all made good; return their numbers.

    A failure was made good if its task succeeded since, or if a step that follows from it succeeded for its run date
    in another run or by hand (`step_runs`).

    Args:
        connection: the caller's transaction.
        succeeded: tasks and runs that are known to have succeeded.
        run_id: the Airflow run.
    """
    is_open = sa.exists().where(RECORD.id == FAILED.incident_id, RECORD.recovered_day.is_(None))
    projects = sorted({*connection.scalars(sa.select(FAILED.project).where(FAILED.succeeded_at.is_(None), is_open))})
    for project in projects:
        lock_incidents(connection, project)
    done = sa.exists().where(
        FAILED.map_index < 0,  # another of several may have succeeded
        step_runs.c.project == FAILED.project,
        step_runs.c.model.is_not_distinct_from(FAILED.model),
        step_runs.c.step == FAILED.done_by,
        sa.between(FAILED.day, step_runs.c.interval_start, step_runs.c.interval_end) | FAILED.done_by.in_(OF_NOW),
        step_runs.c.state.in_(["success", "skipped"]),
        step_runs.c.started_at >= FAILED.failed_at,
    )
    open_ones = FAILED.succeeded_at.is_(None)
    connection.execute(sa.update(incident_failures).where(open_ones, is_open, done).values(succeeded_at=NOW))
    key = sa.tuple_(FAILED.dag_id, FAILED.task_id, FAILED.run_id, FAILED.map_index)
    if known := [*succeeded]:
        connection.execute(
            sa.update(incident_failures).where(open_ones, is_open, key.in_(known)).values(succeeded_at=NOW)
        )
    for project in projects:
        _name_missing_days(connection, project)
    left = sa.exists().where(FAILED.incident_id == RECORD.id, FAILED.succeeded_at.is_(None))
    over = sa.select(incident_records).where(
        RECORD.scope == OF_TASKS, RECORD.recovered_day.is_(None), RECORD.merged_into.is_(None), ~left
    )
    found = []
    for row in connection.execute(over.order_by(RECORD.id)).all():
        before = as_incident(row)
        episode = Episode(before.first_day, before.last_day, before.last_day)
        after = store(connection, Cause(before.project, OF_TASKS, row.cause), before.details, episode, before)
        report(connection, before, after, run_id, None)
        found.append(row.id)
    woken = (RECORD.scope == OF_TASKS) & RECORD.recovered_day.is_(None) & (RECORD.snoozed_until <= NOW)
    for row in connection.execute(sa.select(incident_records).where(woken, RECORD.project.in_(projects))).all():
        report(connection, as_incident(row), as_incident(row), run_id, None)
    return found


def _as_day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:  # a range of days, or none
        return None

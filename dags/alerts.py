"""Notify people of failures of tasks and runs, and send what waits in the outbox.

The sentences about performance and late scores come from `include`. This module writes the message that on-call gets
when a task or a run fails. Its incident is stored in the shared database, and a message about it is sent at once,
unless people know of the incident already (docs/alerts.md). What the receiver does not take now is sent by the next
caller or by the DAG `outbox`. A failure is often that of the shared database: then the message is sent directly, and if
that fails too, it is in the log only.

Messages go to the connections that the routes of the project name (`notify` in project.yaml), and to `nightly_alerts`
without a route. Without its connection a message waits in the outbox. The http provider's notifier is not used for two
reasons: it renders the message as a template, so the text of an exception could be executed, and its errors contain the
URL, which is a secret.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.sdk import BaseNotifier
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout, AirflowSkipException

from dags.connections import find_address, find_database
from include.core.errors import ActionRequiredError
from include.core.incidents import Failure, Incident, message_of
from include.core.outbox import ALERTS, Message
from include.operations.affected import DONE_BY, Affected, find_affected

log = logging.getLogger(__name__)

CALLBACK_SECONDS = 15
"""How long a callback goes on with other messages. Airflow ends the callback of a run after 50 seconds."""
MAX_ERROR_TEXT = 2000  # characters of an exception's text that are sent
KILLED = "its process ended without reporting an error (killed, or out of memory)"
NO_DAY = "no day"
RUNBOOKS = Path(__file__).parents[1] / "docs" / "runbooks"


class LateFeedsError(AirflowSensorTimeout, ActionRequiredError):
    """Files, or rows of queries, of feeds did not arrive within the time that a run date waits for them.

    Attributes:
        feeds: those feeds.
    """

    def __init__(self, missing: Mapping[str, str]) -> None:
        super().__init__("; ".join(missing.values()))
        self.feeds = tuple(missing)


class NotSentError(Exception):
    """The message is neither sent nor stored. The text gives the reason without the address, which is a secret."""


class Report(BaseNotifier):
    """Send what `say` makes from the context of a task or a run: a message, or a failure, which has an incident."""

    def __init__(self, say: Callable[[Mapping[str, Any]], Message | Failure], level: int = logging.ERROR) -> None:
        super().__init__()
        self.say, self.level = say, level

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """Render nothing: there are no templates here, and the context of a timed-out run may have no renderer."""

    def notify(self, context: Any) -> None:
        """Log the message, store it and send it. A failure that belongs to a known incident is stored only.

        Raises:
            NotSentError: it can be neither stored nor sent.
        """
        said = self.say(context)
        failure = said if isinstance(said, Failure) else None
        message = _unstored(said) if isinstance(said, Failure) else said
        log.log(self.level, "%s", message.payload["text"])
        if failure is not None and _is_stored(message, failure):
            return
        addressed = _addressed(message, context, failure)
        failed = _send_directly([each for each in addressed if failure is not None or not _is_stored(each)])
        if failed:
            raise NotSentError("; ".join(failed))


def send_waiting(seconds: float) -> int:
    """Send the messages that wait in the outbox; return how many were sent.

    Raises:
        AirflowSkipException: there was nothing to send, or nothing that can be sent now.
        AirflowFailException: messages were given up, which a person has to see.
    """
    from include.io.outbox import send_due
    from include.io.postgres.messages import Outbox

    found = send_due(Outbox(find_database()), find_address, seconds=seconds)
    for sentence in found.waiting:
        log.warning("to be sent later: %s", sentence)
    if found.given_up:
        raise AirflowFailException(
            "these messages were given up: " + "; ".join(found.given_up) + ". The view `outbox` has them. When the "
            "receiver takes messages again, send them with: python -m include.cli outbox send --given-up"
        )
    if not found.sent:
        raise AirflowSkipException("; ".join(found.waiting) or "no message is due")
    return len(found.sent)


def report_dead_watcher() -> None:
    """Store a message if the watcher no longer looks, once for each time that it stopped."""
    from include.io.postgres.messages import Outbox
    from include.operations.watch import dead_watcher, everybody

    database = find_database()
    if sentence := dead_watcher(database, datetime.now(UTC)):
        for destination in everybody(find_address) or [ALERTS]:
            to = [] if destination == ALERTS else [destination]
            about = {"kind": "watch", "subject": "the watcher", "run_id": "outbox"}
            message = Message.of_text(sentence, "stopped", sentence, *to, **about)
            Outbox(database).put(message.model_copy(update={"destination": destination}))


def _addressed(message: Message, context: Mapping[str, Any], failure: Failure | None) -> list[Message]:
    """Return the message once for each of its destinations, by the routes of the project that the DAG is of.

    That of a failure goes where the message of its incident would go.
    """
    dag = _affected(str(getattr(context.get("dag") or context.get("ti"), "dag_id", "")))
    try:
        from include.config.loading import load_routing

        if not dag.project:
            return [message]
        routing = load_routing(dag.project)
        if failure is None:
            return routing.messages(message, dag.models)
        return routing.messages(message, failure.models, failure.details.severity, failure.owner)
    except Exception as error:  # noqa: BLE001 whatever is broken, the message must still reach people
        log.warning("the routes of %s cannot be read (%s)", dag.project, type(error).__name__)
        return [message]


def _is_stored(message: Message, failure: Failure | None = None) -> bool:
    """Store the message and send it, with what else waits; return False if the outbox cannot be used.

    What is sent about a failure is the message of its incident, if that has one.
    """
    try:
        from include.io.outbox import send_due
        from include.io.postgres.incident_failures import report_failure
        from include.io.postgres.messages import Outbox

        outbox = Outbox(find_database())
        first = outbox.put(message) if failure is None else report_failure(find_database(), failure)
        found = send_due(outbox, find_address, seconds=CALLBACK_SECONDS, first=first)
    except Exception as error:  # noqa: BLE001 whatever is broken, the message must still reach people
        log.warning("the outbox cannot be used (%s): the message is not stored", type(error).__name__)
        return False
    for sentence in found.waiting:
        log.warning("to be sent later: %s", sentence)
    for sentence in found.given_up:
        log.error("given up: %s", sentence)
    return True


def _send_directly(messages: Sequence[Message]) -> list[str]:
    """Send messages to their destinations at once; return why those that failed did."""
    from include.io.outbox import all_at_once

    found = [(each, find_address(each.destination)) for each in messages]  # here, since Airflow may have one channel
    return [reason for reason in all_at_once(_try_directly, found) if reason]


def _try_directly(addressed: tuple[Message, str | None]) -> str:
    """Send a message; return why it failed, or nothing."""
    from include.io.outbox import send_directly

    message, address = addressed
    if address is None:
        log.warning("there is no connection %s: the message is in this log only", message.destination)
        return ""
    try:
        attempt = send_directly(address, message)
    except ActionRequiredError as error:
        return str(error)
    sent = attempt.outcome == "sent"
    return "" if sent else f"the receiver of connection {message.destination}: {attempt.reason}"


def failed_task(context: Mapping[str, Any]) -> Failure:
    """Return what the incident of a failed task says: what broke, who notices it, and what to type.

    It has only text that cannot contain data or secrets: the class of the exception, and the text of our own errors.
    """
    task = context["ti"]
    where = f"{task.dag_id}.{task.task_id}"
    exception = context.get("exception")
    name = task.task_id.rsplit(".", 1)[-1]
    dag, late = _affected(task.dag_id), str(exception) if isinstance(exception, LateFeedsError) else ""
    return Failure(
        **_about(dag, context, done_by=dag.done_by(name), task_id=name),
        dag_id=task.dag_id,
        run_id=task.run_id,
        task_id=task.task_id,
        map_index=task.map_index,
        try_number=task.try_number,
        what=late or f"{where} failed for {_day(context)} (run {task.run_id}): {_what(exception)}",
        command=_clearing(task.dag_id, task.task_id, context),
        runbook=_runbook(name if isinstance(exception, BaseException) else "killed"),
        more=(
            f"Log: {task.log_url}",
            f"Other tasks of the run: airflow tasks states-for-dag-run {task.dag_id} '{task.run_id}'",
        ),
        is_effect=name == "wait_for_features",
        late_feed=exception.feeds[0] if isinstance(exception, LateFeedsError) else "",
    )


def failed_run(context: Mapping[str, Any]) -> Failure:
    """Return what the incident of a run says that failed as a whole, by its time limit or because of a task.

    A failed task sends its own message. A killed task never reaches its own callback, and Airflow 3.3 calls no other
    one, so the callback of the run reports it, unless the task was reported.
    """
    dag_id, run_id = context["dag"].dag_id, context["run_id"]
    reason, page = context.get("reason") or "the reason is not known", "docs/runbooks/run-timed-out.md"
    follows_task = reason == "task_failure"
    if follows_task:
        reason, page = f"a task failed; as no other message reports the task, {KILLED}", "docs/runbooks/killed.md"
    run, dag = context.get("dag_run"), _affected(dag_id)
    # clearing a run counts up; without that number, as in a run that timed out, each failure is another message
    cleared = getattr(run, "clear_number", None)
    return Failure(
        **_about(dag, context, done_by=DONE_BY.get(dag.kind)),
        dag_id=dag_id,
        run_id=run_id,
        try_number=int(datetime.now(UTC).timestamp()) if cleared is None else cleared,
        what=f"{dag_id} failed for {_day(context)} (run {run_id}): {reason}",
        runbook=page,
        more=(f"Find the task, and clear it: airflow tasks states-for-dag-run {dag_id} '{run_id}'",),
        follows_task=follows_task,
        started_at=getattr(run, "start_date", None),
    )


def _affected(dag_id: str) -> Affected:
    """Return what a DAG is for. Whatever is wrong with the configs, the failure must still reach people."""
    try:
        return find_affected(dag_id)
    except Exception:
        log.exception("it is not known what %s is for", dag_id)
        return Affected()


def _about(dag: Affected, context: Mapping[str, Any], *, done_by: str | None, task_id: str = "") -> dict[str, Any]:
    day = _day(context)
    known = "" if day == NO_DAY else day
    return {
        "project": dag.project,
        "model": dag.model_of(task_id),
        "day": known,
        "effect": dag.effect(known, task_id),
        "tier": dag.tier,
        "models": dag.models,
        "owner": dag.owner,
        "done_by": done_by,
    }


def _unstored(failure: Failure) -> Message:
    """Return the message about a failure that is sent if its incident cannot be stored."""
    today = datetime.now(UTC).date()
    incident = Incident(None, failure.project, failure.details, today, today)
    number = (failure.dag_id, failure.run_id, failure.task_id, failure.map_index, failure.try_number)
    return message_of(incident, "opened", run_id=failure.run_id, number=number)


def ask_people(question: Any, address: str | None, context: Mapping[str, Any]) -> None:
    """Notify people that a version waits for their decision, once for each version and its files.

    Args:
        question: a `Question` of `include/operations/question.py`.
        address: the page on which it is answered; None if Airflow has no address.
        context: of the task that asks.
    """
    task, until = context["ti"], question.expires_at
    where = f"{task.dag_id}.{task.task_id}"
    parts = [
        question.subject,
        "It passed the gate and waits for a decision"
        + ("" if until is None else f" until {until:%Y-%m-%d %H:%M} UTC; after that it expires")
        + ". The champion stays until then, and scoring goes on.",
        f"Decide: {address or 'on the page Required Actions of Airflow'}",
        (
            f"Or type: python -m include.cli approve --model {question.model} --version {question.model_version} "
            "--by … --why … (or decline)"
        ),
        "How it works: docs/approve-a-model.md",
    ]
    about = {"kind": "question", "subject": question.model, "run_id": task.run_id, "task": where}
    Report(
        lambda _: Message.of_text("\n".join(parts), question.model, question.model_version, question.shown, **about),
        level=logging.INFO,
    ).notify(context)


TASK_FAILED = Report(failed_task)
RUN_FAILED = Report(failed_run)


def _what(exception: BaseException | str | None) -> str:
    if isinstance(exception, BaseException):
        for found in (exception, exception.__cause__):  # run_step raises Airflow's exception from ours
            if isinstance(found, ActionRequiredError):
                text = str(found)
                return f"{type(found).__name__}: {text[:MAX_ERROR_TEXT]}{' …' if len(text) > MAX_ERROR_TEXT else ''}"
        return f"{type(exception).__name__}; its text is in the log"
    return f"{KILLED}; see the scheduler's log"


def _runbook(page: str) -> str:
    """Return the runbook, if there is one: tasks in the DAGs of another team may have none."""
    return f"docs/runbooks/{page}.md" if (RUNBOOKS / f"{page}.md").is_file() else ""


def _day(context: Mapping[str, Any]) -> str:
    """Return the run date as `params.run_date` finds it, or the range of a range backfill."""
    params, logical_date = context.get("params") or {}, _logical_date(context)
    if params.get("day"):
        return str(params["day"])
    if params.get("start") and params.get("end"):
        return f"{params['start']} to {params['end']}"
    if logical_date is not None:
        return str(logical_date.astimezone(context["dag"].timezone).date())
    return NO_DAY


def _clearing(dag_id: str, task_id: str, context: Mapping[str, Any]) -> str:
    moment = _logical_date(context)
    if moment is None:  # `airflow tasks clear` finds tasks by the logical date of their run only
        return f"airflow dags clear {dag_id} --run-id '{context['ti'].run_id}' -y"
    # Airflow 3.3 calls -t a regex but compares it literally with the ids: '^land$' would clear nothing, silently
    return f"airflow tasks clear {dag_id} -t {task_id} -d -s {moment.isoformat()} -e {moment.isoformat()} -y"


def _logical_date(context: Mapping[str, Any]) -> datetime | None:
    moment: datetime | None = getattr(context.get("dag_run"), "logical_date", None)
    return moment

"""Notify people: send the alerts of `monitor` and the failures of tasks and runs to one webhook.

The sentences about performance and late scores come from `include`. This module sends them, and it writes the message
that on-call gets when a task or a run fails.

Messages go to the webhook URL stored as the password of the Airflow connection `nightly_alerts`; the webhook must be
Slack-compatible. Without that connection, messages are written to the log only. The http provider's notifier is
not used for two reasons: it renders the message as a template, so the text of an exception could be executed, and its
errors contain the URL, which is a secret.
"""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from airflow.sdk import BaseNotifier, Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret

from include.core.errors import ActionRequiredError
from include.core.printable import slack

log = logging.getLogger(__name__)

CONNECTION = "nightly_alerts"
TIMEOUT_SECONDS = 10
MAX_ERROR_TEXT = 2000  # characters of an exception's text that are sent
KILLED = "its process ended without reporting an error (killed, or out of memory)"
RUNBOOKS = Path(__file__).parents[1] / "docs" / "runbooks"


class NotSentError(Exception):
    """The webhook did not accept the message. The text gives the reason without the address, which is a secret."""


class Webhook(BaseNotifier):
    """Send the text that `say` makes from the context of a task or a run; send nothing when it returns None."""

    def __init__(self, say: Callable[[Mapping[str, Any]], str | None]) -> None:
        super().__init__()
        self.say = say

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """Render nothing: there are no templates here, and the context of a timed-out run may have no renderer."""

    def notify(self, context: Any) -> None:
        """Log the message and post it.

        Raises:
            NotSentError: the webhook refused the message or could not be reached.
        """
        text = self.say(context)
        if text is None:
            return
        log.error("%s", text)
        if url := _url():
            _post(url, text)


def notify(text: str) -> Webhook:
    """Return a notifier that sends this text."""
    return Webhook(lambda _: text)


def task_failed(context: Mapping[str, Any]) -> str:
    """Write the message for a failed task: what broke, whether it is safe to run again, and what to type.

    Only text that cannot contain data or secrets is sent: the class of the exception, and the text of our own errors.
    """
    task = context["ti"]
    where = f"{task.dag_id}.{task.task_id}"
    exception = context.get("exception")
    page = task.task_id.rsplit(".", 1)[-1] if isinstance(exception, BaseException) else "killed"
    parts = [
        f"{where} failed for {_day(context)} (run {task.run_id}): {_what(exception)}",
        *_runbook(page),
        "Safe to run again: yes. When the cause is fixed, type:",
        _clearing(task.dag_id, task.task_id, context),
        f"Log: {task.log_url}",
        f"Other tasks of the run: airflow tasks states-for-dag-run {task.dag_id} '{task.run_id}'",
    ]
    return "\n".join(parts)


def run_failed(context: Mapping[str, Any]) -> str:
    """Write the message for a run that failed as a whole, by its time limit or because of a task.

    A failed task sends its own message. A killed task never reaches its own callback, and Airflow 3.3 calls no other
    one, so the callback of the run reports it too, in brief.
    """
    dag_id, run_id = context["dag"].dag_id, context["run_id"]
    reason, page = context.get("reason") or "the reason is not known", "docs/runbooks/run-timed-out.md"
    if reason == "task_failure":
        reason = f"a task failed; if no other message reports the task, {KILLED}"
        page = "docs/runbooks/killed.md"
    return "\n".join([
        f"{dag_id} failed for {_day(context)} (run {run_id}): {reason}",
        "Safe to run again: yes. Find the task, and clear it:",
        f"airflow tasks states-for-dag-run {dag_id} '{run_id}'",
        f"Runbook: {page}",
    ])


TASK_FAILED = Webhook(task_failed)
RUN_FAILED = Webhook(run_failed)


def _what(exception: BaseException | str | None) -> str:
    if isinstance(exception, BaseException):
        for found in (exception, exception.__cause__):  # run_step raises Airflow's exception from ours
            if isinstance(found, ActionRequiredError):
                text = str(found)
                return f"{type(found).__name__}: {text[:MAX_ERROR_TEXT]}{' …' if len(text) > MAX_ERROR_TEXT else ''}"
        return f"{type(exception).__name__}; its text is in the log"
    return f"{KILLED}; see the scheduler's log"


def _runbook(page: str) -> list[str]:
    """Return the line that names the runbook, if there is one: tasks in the DAGs of another team may have none."""
    return [f"Runbook: docs/runbooks/{page}.md"] if (RUNBOOKS / f"{page}.md").is_file() else []


def _day(context: Mapping[str, Any]) -> str:
    """Return the run date as `params.run_date` finds it, or the range of a range backfill."""
    params, logical_date = context.get("params") or {}, _logical_date(context)
    if params.get("day"):
        return str(params["day"])
    if params.get("start") and params.get("end"):
        return f"{params['start']} to {params['end']}"
    if logical_date is not None:
        return str(logical_date.astimezone(context["dag"].timezone).date())
    return "no day"


def _clearing(dag_id: str, task_id: str, context: Mapping[str, Any]) -> str:
    moment = _logical_date(context)
    if moment is None:  # `airflow tasks clear` finds tasks by the logical date of their run only
        return f"airflow dags clear {dag_id} --run-id '{context['ti'].run_id}' -y"
    # Airflow 3.3 calls -t a regex but compares it literally with the ids: '^land$' would clear nothing, silently
    return f"airflow tasks clear {dag_id} -t {task_id} -d -s {moment.isoformat()} -e {moment.isoformat()} -y"


def _logical_date(context: Mapping[str, Any]) -> datetime | None:
    moment: datetime | None = getattr(context.get("dag_run"), "logical_date", None)
    return moment


def _url() -> str | None:
    """Return the webhook's URL, None without the connection. The URL must not be logged."""
    try:
        url = Connection.get(CONNECTION).password
    except AirflowNotFoundException:
        return None
    if not url or urlsplit(url).scheme not in ("http", "https"):
        raise NotSentError(f"connection {CONNECTION}: its password must be the URL of the webhook, https://…")
    for secret in (url, urlsplit(url).path):
        if len(secret) > 8:  # a mask of "/" would black out every log
            mask_secret(secret)
    return str(url)


def _post(url: str, text: str) -> None:
    import httpx

    failed = None
    try:
        # Slack, and services compatible with it, read angle brackets and ampersands as markup
        answer = httpx.post(url, json={"text": slack(text)}, timeout=TIMEOUT_SECONDS)
        if not answer.is_success:
            failed = f"answered {answer.status_code}"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        failed = type(error).__name__
    if failed:  # raised outside the except block, because the text of httpx's error contains the URL
        raise NotSentError(f"the webhook of connection {CONNECTION}: {failed}")

"""Telling people: one webhook for what `monitor` found and for runs that failed. What is said about performance and
late scores comes from `include`; here it is sent, and here is said what on-call needs when a task fails.

Where to is the Airflow connection `nightly_alerts`, whose password is the URL of a Slack-compatible webhook. Without
it what would be sent is in the log, and that is all. The http provider's own notifier is not used: it renders what it
sends as a template, so that text of an exception could run as one, and its errors carry the URL, which is the secret.
"""

import html
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

log = logging.getLogger(__name__)

CONNECTION = "nightly_alerts"
TIMEOUT_SECONDS = 10
MAX_ERROR_TEXT = 2000  # characters of an exception's text that are sent
KILLED = "its process ended without a word (killed, or out of memory)"
RUNBOOKS = Path(__file__).parents[1] / "docs" / "runbooks"


class NotSentError(Exception):
    """The webhook did not take it; says why without its address."""


class Webhook(BaseNotifier):
    """Sends what `say` makes of the context of a task or a run, which may be nothing (None)."""

    def __init__(self, say: Callable[[Mapping[str, Any]], str | None]) -> None:
        super().__init__()
        self.say = say

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """Nothing is a template here, and the context of a run that timed out may have no renderer."""

    def notify(self, context: Any) -> None:
        """Log it, and post it. Raises `NotSentError`."""
        text = self.say(context)
        if text is None:
            return
        log.error("%s", text)
        if url := _url():
            _post(url, text)


def notify(text: str) -> Webhook:
    """The notifier that says just this."""
    return Webhook(lambda _: text)


def task_failed(context: Mapping[str, Any]) -> str:
    """What broke, whether it is safe to run again, what to type. Of an exception only what is certain to hold neither
    data nor secrets: its class, and the text of our own errors."""
    task = context["ti"]
    where = f"{task.dag_id}.{task.task_id}"
    exception = context.get("exception")
    page = task.task_id.rsplit(".", 1)[-1] if isinstance(exception, BaseException) else "killed"
    parts = [
        f"{where} failed for {_day(context)} (run {task.run_id}): {_what(exception)}",
        *_runbook(page),
        "Safe to run again: yes. When it is mended, type:",
        _clearing(task.dag_id, task.task_id, context),
        f"Its log: {task.log_url}",
        f"The other tasks of the run: airflow tasks states-for-dag-run {task.dag_id} '{task.run_id}'",
    ]
    return "\n".join(parts)


def run_failed(context: Mapping[str, Any]) -> str:
    """Of a run that failed as a whole, by its time limit or by a task. A task tells of itself, but one that was killed
    cannot, and Airflow 3.3 calls nobody then: one by a task is told here too, in brief."""
    dag_id, run_id = context["dag"].dag_id, context["run_id"]
    reason, page = context.get("reason") or "no reason is known", "docs/runbooks/run-timed-out.md"
    if reason == "task_failure":
        reason = f"a task failed; where no other message tells of it, {KILLED}"
        page = "docs/runbooks/killed.md"
    return "\n".join([
        f"{dag_id} failed for {_day(context)} (run {run_id}): {reason}",
        "Safe to run again: yes. See which task it is, and clear it:",
        f"airflow tasks states-for-dag-run {dag_id} '{run_id}'",
        f"Runbook: {page}",
    ])


TASK_FAILED = Webhook(task_failed)
RUN_FAILED = Webhook(run_failed)


def _what(exception: BaseException | str | None) -> str:
    if isinstance(exception, BaseException):
        for found in (exception, exception.__cause__):  # run_step raises Airflow's from ours
            if isinstance(found, ActionRequiredError):
                text = str(found)
                return f"{type(found).__name__}: {text[:MAX_ERROR_TEXT]}{' …' if len(text) > MAX_ERROR_TEXT else ''}"
        return f"{type(exception).__name__}; its text is in the log"
    return f"{KILLED}; see the scheduler's log"


def _runbook(page: str) -> list[str]:
    """The line that names a page, where there is one: a DAG of another team's may have tasks without."""
    return [f"Runbook: docs/runbooks/{page}.md"] if (RUNBOOKS / f"{page}.md").is_file() else []


def _day(context: Mapping[str, Any]) -> str:
    """The run day as `common.run_date` finds it, or the range of a run by hand."""
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
    if moment is None:  # the command line finds tasks by the logical date of their run only
        return f"airflow dags clear {dag_id} --run-id '{context['ti'].run_id}' -y"
    # Airflow 3.3 calls it a regex and looks for it as it stands in the ids: '^land$' would clear nothing, silently
    return f"airflow tasks clear {dag_id} -t {task_id} -d -s {moment.isoformat()} -e {moment.isoformat()} -y"


def _logical_date(context: Mapping[str, Any]) -> datetime | None:
    moment: datetime | None = getattr(context.get("dag_run"), "logical_date", None)
    return moment


def _url() -> str | None:
    """None without the connection; its address must not be logged."""
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
        # angle brackets and ampersands are markup to Slack, and so to what is compatible with it
        answer = httpx.post(url, json={"text": html.escape(text, quote=False)}, timeout=TIMEOUT_SECONDS)
        if not answer.is_success:
            failed = f"answered {answer.status_code}"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        failed = type(error).__name__
    if failed:  # raised here, since what httpx says has the address in it
        raise NotSentError(f"the webhook of connection {CONNECTION}: {failed}")

"""The tasks that ask people about a pending version on Airflow's page Required Actions.

`ask` in `<model>_train` starts the run of `<model>_approve` for the version; `ask` there waits for the answer. Nothing
that waits keeps a run of `<model>_train` open.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskAwaitingInput

from dags import params
from dags.alerts import ask_people
from dags.common import log, settings, skipped
from dags.connections import mlflow_pages
from include.config.model import Model

APPROVE, DECLINE = "Approve", "Decline"
REPORT = re.compile(r"[0-9]+/runs/[0-9a-f]+/artifacts/[\w/.-]+")
NO_REASON = "no reason given on the page Required Actions"
CHECK_EVERY = timedelta(minutes=10)
"""How often an open question looks whether the version still waits: it may be decided by command, or superseded."""


class StartQuestion(TriggerDagRunOperator):
    """Start the run of `<model>_approve` for the version that a run of `<model>_train` made pending, once.

    Where a shadow is declared, too, `<model>_decide` starts it when the days of the shadow are over. `after` is the
    task whose record names the version.
    """

    template_fields = ()

    def __init__(self, *, model: Model, after: str = "gate", **options: Any) -> None:
        super().__init__(
            trigger_dag_id=f"{model.name}_approve",
            logical_date=None,
            skip_when_already_exists=True,
            wait_for_completion=False,
            **options,
        )
        self.model, self.after = model, after

    def execute(self, context: Any) -> None:
        """Start it, unless no version waits or the run belongs to a backfill, which asks nobody.

        Raises:
            AirflowSkipException: there is nothing to ask.
        """
        from include.operations.pending import is_on_trial, read_pending, why_closed

        decided = context["ti"].xcom_pull(task_ids=self.after)
        version = None if decided is None else decided["model_version"]
        if version is None:
            raise skipped(f"{self.after} decided on no version", context)
        if read_pending(self.model, settings(), version) is None:
            raise skipped(why_closed(self.model, version, settings()), context)
        if is_on_trial(self.model, version, settings()):
            raise skipped(f"version {version} is still on trial as a shadow; people are asked after it", context)
        if params.is_backfill():
            raise skipped(
                f"a backfill asks nobody. To decide: python -m include.cli approve --model {self.model.name} "
                f"--version {version} --by … --why …, or decline",
                context,
            )
        self.trigger_run_id, self.conf = f"v{version}", {"version": version, **_report(context["ti"])}
        super().execute(context)


class AskPeople(HITLOperator):
    """Ask whether a pending version shall become the champion, and wait for the answer without a worker slot.

    The question ends without an answer when the version does not wait any more: it was decided by command, a newer
    version superseded it, or nobody decided in time.
    """

    template_fields = ()  # the text has words of configs and of the gate, which are no templates

    def __init__(self, *, model: Model, **options: Any) -> None:
        allowed = model.approved_by.allowed if model.approved_by else ()
        super().__init__(
            subject=f"{model.title}: a version waits",
            options=[APPROVE, DECLINE],
            assigned_users=[{"id": name, "name": name} for name in allowed] or None,
            response_timeout=CHECK_EVERY,
            **options,
        )
        self.model = model

    def execute(self, context: Any) -> None:
        """Write the question and notify people.

        Raises:
            AirflowSkipException: no version waits, or this is `airflow dags test`, which asks nobody.
            TaskAwaitingInput: always otherwise.
        """
        from include.operations.pending import why_closed
        from include.operations.question import ask

        version = context["params"].get("version")
        question = ask(self.model, version, settings(), _links(self.model, version, context["dag_run"].conf))
        if question is None:
            raise skipped(why_closed(self.model, version, settings()), context)
        self.subject, self.body = question.subject, question.body
        if context["dag_run"].triggering_user_name == "dag_test":
            log.info("%s\n%s", question.subject, question.body)
            raise AirflowSkipException("airflow dags test asks nobody; the log has the question")
        try:
            super().execute(context)
        except TaskAwaitingInput:
            ask_people(question, self._address(context), context)
            raise self._wait(question.model_version, question.shown, question.expires_at) from None

    def execute_complete(
        self, context: Any, event: dict[str, Any], version: int = 0, shown: str = ""
    ) -> dict[str, Any]:
        """Return the answer: the decision, who decided and why; or look again if there is none yet.

        Raises:
            AirflowSkipException: the version does not wait any more.
            TaskAwaitingInput: nobody has answered yet.
        """
        from include.operations.pending import read_pending, why_closed

        if event.get("error_type") == "timeout":
            pending = read_pending(self.model, settings(), version)
            if pending is None or pending.move.model_digest != shown:
                raise skipped(why_closed(self.model, version, settings()), context)
            raise self._wait(version, shown, pending.move.expires_at)
        super().execute_complete(context, event)
        user: Mapping[str, str] = event["responded_by_user"] or {}
        return {
            "decision": "approve" if event["chosen_options"] == [APPROVE] else "decline",
            "version": version,
            "shown": shown,
            "by": _decided_by(self.model, user),
            "why": str((event["params_input"] or {}).get("why") or "").strip() or NO_REASON,
        }

    def _wait(self, version: int, shown: str, expires_at: datetime | None) -> TaskAwaitingInput:
        left = CHECK_EVERY if expires_at is None else expires_at - datetime.now(UTC)
        wait = max(timedelta(seconds=1), min(CHECK_EVERY, left))
        return TaskAwaitingInput(
            method_name="execute_complete", kwargs={"version": version, "shown": shown}, timeout=wait
        )

    def _address(self, context: Any) -> str | None:
        try:
            return self.generate_link_to_ui_from_context(context=context)
        except ValueError:  # Airflow has no [api] base_url
            return None


def form() -> dict[str, Param]:
    """Return the field of the answer. It may be empty, because Airflow checks it before anybody has answered."""
    why = Param("", type="string", title="Why", description="Your reason, for the record. Others will read it.")
    return {"why": why}


def record_answer(model: Model, answer: Mapping[str, Any]) -> Any:
    """Record what a person answered, and promote the version if it is approved.

    Raises:
        AirflowFailException: the answer cannot be applied; the message says why.
    """
    from include.core.errors import ActionRequiredError, LockTimeoutError
    from include.operations import approve

    decide = approve.approve if answer["decision"] == "approve" else approve.decline
    about = {"by": answer["by"], "why": answer["why"], "shown": answer["shown"]}
    try:
        return decide(model, int(answer["version"]), settings(), **about).model_dump(mode="json")
    except LockTimeoutError:
        raise
    except ActionRequiredError as error:
        raise AirflowFailException(f"the answer of {answer['by']} is not applied: {error}") from error


def _decided_by(model: Model, user: Mapping[str, str]) -> str:
    """Return the name of who answered: the one that `approval.allowed` has, if the id and the name differ."""
    names = [user.get("name") or "", user.get("id") or ""]
    allowed = model.approved_by.allowed if model.approved_by else ()
    return next((name for name in names if name in allowed), names[0] or names[1])


def _report(ti: Any) -> dict[str, str]:
    """Return where the training report is, below MLflow's experiments; nothing if this run wrote none."""
    made = ti.xcom_pull(task_ids="report_version") or {}
    if not made.get("report"):
        return {}
    return {"report": f"{made['experiment_id']}/runs/{made['run_id']}/artifacts/{made['report']}"}


def _links(model: Model, version: int | None, conf: Mapping[str, Any] | None) -> dict[str, str]:
    """Return addresses of pages about a version, by what they show; none if Airflow knows no address of MLflow."""
    pages = mlflow_pages()
    if pages is None or version is None:
        return {}
    links = {}
    if REPORT.fullmatch(place := str((conf or {}).get("report"))):  # whoever starts a run by hand can write anything
        links["Training report"] = f"{pages}/#/experiments/{place}"
    place = f"{quote(model.name, safe='')}/versions/{version}"
    return {**links, f"Version {version} in MLflow": f"{pages}/#/models/{place}?workflowType=machine_learning"}

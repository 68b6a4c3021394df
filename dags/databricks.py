"""A step on Databricks: one run there for a task that succeeds, none left alive by one that fails.

Airflow's own submits again after a kill between submit and deferral, after an answer that was lost, and when its
trigger gives up (tried). What is added: the token of a run is in the task's state store before it is submitted, its
number after it, and whoever tries next looks there first. Who cleared the task wants another run: Airflow gives it more
tries then, by which it is known.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from typing import Any, Literal, cast
from uuid import uuid4

from airflow.providers.databricks.exceptions import DatabricksApiError
from airflow.providers.databricks.hooks.databricks import RunState
from airflow.providers.databricks.operators.databricks import (
    XCOM_RUN_ID_KEY,
    XCOM_RUN_PAGE_URL_KEY,
    DatabricksSubmitRunOperator,
)
from airflow.providers.databricks.triggers.databricks import DatabricksExecutionTrigger
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException, TaskDeferralError
from pydantic import JsonValue
from requests import RequestException

from dags.common import Json, settings
from include.config.loading import load_project
from include.config.model import Model
from include.core.errors import ActionRequiredError, NotReadyError
from include.core.interval import Interval
from include.core.names import wheel
from include.core.project import Project
from include.core.settings import Settings, utc_now
from include.runner.remote import Call, answer

Cause = Literal["cluster", "quota", "code", "timeout", "cancelled"]

STORED = "databricks_run"
# eight minutes of tries: storms of 429 and 503
WAITS = {"databricks_retry_limit": 9, "databricks_retry_delay": 2}
REFUSED = {400, 401, 403}  # the same again is refused again
OF_QUOTA = ("quota", "limit exceeded", "limit_exceeded", "insufficient", "stockout", "out of capacity")
OF_CLUSTER = ("cluster", "driver", "spot", "instance", "vm ")
HELPED_BY_RETRY: frozenset[Cause] = frozenset({"cluster", "quota"})
TRACE = 4000  # characters of it that the log shows: its end


class SubmitOnceOperator(DatabricksSubmitRunOperator):
    """`DatabricksSubmitRunOperator` that takes up the run of a try before it, where that is active or succeeded; of a
    task that was cleared since, it cancels it.

    Deferrable unless told otherwise. A run that failed fails the task with cause, error and the end of its trace, for
    good where another run would not help. When the last try cannot follow its run any more, it cancels it.
    """

    def __init__(self, *, deferrable: bool = True, **kwargs: Any) -> None:
        self.asked: dict[str, Any] = {}
        super().__init__(deferrable=deferrable, **WAITS | kwargs)

    def execute(self, context: Context) -> Any:
        with self._none_left_alive(context):
            self.run_id = self._taken_up(context) or self._submitted(context, str(uuid4()))
            return self._follow(context)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Also called where the trigger gave up, as it does when the output of a run that ended cannot be read."""
        with self._none_left_alive(context):
            try:
                return super().resume_execution(next_method, next_kwargs, context)
            except TaskDeferralError:
                self.run_id = run_id = int(_stored(context)["run_id"])
                if (state := self._state(run_id)) is None or not state.is_terminal:
                    raise
                return self._ended(context, state)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:  # type: ignore[override]
        """After the trigger saw the run end."""
        self.run_id = event["run_id"]
        return self._ended(context, RunState.from_json(event["run_state"]))

    def on_kill(self) -> None:
        """Cancel the run, also one whose answer has not come yet: under its token it is found, or made."""
        if self.run_id is None and self.asked:
            self.run_id = int(self._hook.submit_run(self.asked))
        super().on_kill()

    def result(self, context: Context) -> Any:
        """What the task returns once its run succeeded."""
        return None

    def advice(self, told: str) -> str:
        """What more to say of a failure."""
        return ""

    # --- one run ------------------------------------------------------------------------------------------------------

    def _taken_up(self, context: Context) -> int | None:
        """The run of a try before this one, if it is of use."""
        stored = _stored(context)
        if not stored:
            return None
        run_id = self._number(context, stored)
        while (state := self._state(run_id)) and state.life_cycle_state == "TERMINATING":  # it may be cancelled
            time.sleep(self.polling_period_seconds)
        if state is None or (state.is_terminal and not state.is_successful):
            self.log.info("Databricks run %s of an earlier try ended as %s: a new one", run_id, state or "not known")
            return None
        if stored.get("max_tries") != context["ti"].max_tries:
            self.log.info("the task was cleared: not Databricks run %s (%s), a new one", run_id, state)
            if not state.is_terminal:
                self._hook.cancel_run(run_id)
            return None
        self.log.info("Databricks run %s of an earlier try is taken up: %s", run_id, state.life_cycle_state)
        return run_id

    def _number(self, context: Context, stored: Mapping[str, Any]) -> int:
        """Of a run whose answer never came: under its token the run that may be there is found, or made."""
        return int(stored.get("run_id") or self._submitted(context, stored["token"]))

    def _submitted(self, context: Context, token: str) -> int:
        self.idempotency_token = token
        self.asked, store = self._prepare_submit_json(context), context["task_state_store"]
        stored: dict[str, JsonValue] = {"token": token, "max_tries": context["ti"].max_tries}
        store.set(STORED, stored)
        try:
            run_id = int(self._hook.submit_run(self.asked))
        except DatabricksApiError as error:
            if error.http_status_code in REFUSED:
                raise AirflowFailException(f"Databricks refuses the run of {self.task_id}: {error}") from error
            raise
        store.set(STORED, stored | {"run_id": run_id})
        return run_id

    def _follow(self, context: Context) -> Any:
        assert self.run_id is not None
        page = self._hook.get_run_page_url(self.run_id)
        self.log.info("Databricks run %s: %s", self.run_id, page)
        context["ti"].xcom_push(key=XCOM_RUN_ID_KEY, value=self.run_id)
        context["ti"].xcom_push(key=XCOM_RUN_PAGE_URL_KEY, value=page)
        while not (state := self._hook.get_run_state(self.run_id)).is_terminal:
            if self.deferrable:
                trigger = DatabricksExecutionTrigger(
                    run_id=self.run_id,
                    databricks_conn_id=self.databricks_conn_id,
                    polling_period_seconds=self.polling_period_seconds,
                    retry_limit=self.databricks_retry_limit,
                    retry_delay=self.databricks_retry_delay,
                    retry_args=self.databricks_retry_args,
                    run_page_url=page,
                )
                self.defer(trigger=trigger, method_name="execute_complete")
            time.sleep(self.polling_period_seconds)
        return self._ended(context, state)

    # --- how it ended -------------------------------------------------------------------------------------------------

    def _ended(self, context: Context, state: RunState) -> Any:
        if state.is_successful:
            self.log.info("Databricks run %s succeeded", self.run_id)
            return self.result(context)
        cause = cause_of(state)
        error, trace = self._error()
        if trace:
            self.log.error("the end of its trace:\n%s", trace[-TRACE:])
        told = f"Databricks run {self.run_id} of {self.task_id} failed ({cause}): {error or state.state_message}"
        told += self.advice(told)
        if cause in HELPED_BY_RETRY:
            raise AirflowException(f"{told}\nAnother try may do better.")
        raise AirflowFailException(told)

    def _error(self) -> tuple[str, str]:
        """Error and trace of the first task that failed; that they cannot be had does not hide that it failed."""
        try:
            tasks = self._hook.get_run(self.run_id).get("tasks", [])
            for task in tasks:
                if task["state"].get("result_state") not in (None, "SUCCESS"):
                    output = self._hook.get_run_output(task["run_id"])
                    return str(output.get("error") or ""), str(output.get("error_trace") or "")
        except (AirflowException, RequestException) as error:
            self.log.warning("what the run put out could not be read: %s", error)
        return "", ""

    def _state(self, run_id: int) -> RunState | None:
        """None for a run that is not known any more."""
        try:
            return cast(RunState, self._hook.get_run_state(run_id))
        except DatabricksApiError as error:
            if error.http_status_code == 404:
                return None
            raise

    @contextmanager
    def _none_left_alive(self, context: Context) -> Iterator[None]:
        """After the last try nobody would look after the run; before it, the next one takes it up. A run that fails
        the task for good, or skips it, has ended, or was never made."""
        try:
            yield
        except (AirflowFailException, AirflowSkipException):
            raise
        except Exception:
            if context["ti"].try_number > context["ti"].max_tries:
                self._cancel(context)
            raise

    def _cancel(self, context: Context) -> None:
        if not (stored := _stored(context)):
            return
        try:
            run_id = self.run_id or self._number(context, stored)
            self._hook.cancel_run(run_id)
            self.log.error("this was the last try: Databricks run %s was cancelled", run_id)
        except Exception:
            name = stored.get("run_id") or f"of token {stored.get('token')}"
            self.log.exception("Databricks run %s may be alive: cancel it by hand", name)


def _stored(context: Context) -> dict[str, Any]:
    return cast(dict[str, Any], context["task_state_store"].get(STORED) or {})


def cause_of(state: RunState) -> Cause:
    """Why a run ended that did not succeed, as far as its state tells."""
    message = state.state_message.lower()
    if state.result_state == "TIMEDOUT":
        return "timeout"
    if state.result_state == "CANCELED":
        return "cancelled"
    if any(word in message for word in OF_QUOTA):
        return "quota"
    if state.life_cycle_state == "INTERNAL_ERROR" or any(word in message for word in OF_CLUSTER):
        return "cluster"
    return "code"


class StepOperator(SubmitOnceOperator):
    """A step of `include` by the wheel of the commit that this task runs; returns its record as `run_step` does.
    `given`: options of one of several that are mapped."""

    def __init__(
        self,
        *,
        step: str,
        config: Project | Model,
        interval: Callable[[], Interval],
        options: Callable[[], Mapping[str, Any]],
        given: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        project = config if isinstance(config, Project) else load_project(config.project)
        assert project.databricks is not None  # include/config
        self.step, self.config, self.project, self.place = step, config, project, project.databricks
        self.interval, self.options, self.given = interval, options, given or {}
        super().__init__(
            databricks_conn_id=self.place.connection, timeout_seconds=60 * self.place.timeout_minutes, **kwargs
        )

    def _prepare_submit_json(self, context: Context) -> dict[str, Any]:
        """Of this try: the call has the token of the run in the name of its record."""
        commit, call = self._here.git_commit, self._call(str(self.idempotency_token))
        whl = f"{self.place.wheels.rstrip('/')}/{wheel(commit)}"
        parameters = {"call": call.model_dump_json()}
        task: dict[str, Any] = {
            "task_key": self.step,
            "python_wheel_task": {
                "package_name": "nightly_ml",
                "entry_point": "nightly-ml",
                "named_parameters": parameters,
            },
        }
        if self.place.new_cluster is None:
            spec = {"client": self.place.environment, "dependencies": [whl]}
            self.environments = [{"environment_key": "wheel", "spec": spec}]
            task |= {"environment_key": "wheel"}
        else:
            tags = {"project": self.project.name, "commit": commit, **self.place.new_cluster.get("custom_tags", {})}
            task |= {"new_cluster": {**self.place.new_cluster, "custom_tags": tags}, "libraries": [{"whl": whl}]}
        self.tasks = [task]
        self.run_name = f"{self.step} of {self.config.name}, {call.interval}"
        return super()._prepare_submit_json(context)

    @cached_property
    def _here(self) -> Settings:
        """Once a task: connections are looked up for them, and a role's keys asked for."""
        return settings()

    def advice(self, told: str) -> str:
        """A wheel that was not uploaded is known by its name in the message."""
        if wheel(self._here.git_commit) not in told:
            return ""
        return f"\nIf the wheel of this commit is not there: make deploy TARGET={self.place.wheels}"

    def _record(self, token: str) -> str:
        return f"{self._here.tables.rstrip('/')}/_records/{token}.json"

    def _call(self, token: str) -> Call:
        here = self._here
        places = {"tables": here.tables, "artifacts": here.artifacts, "run_id": here.run_id}
        return Call(
            step=self.step,
            config=self.config.name,
            interval=self.interval(),
            options={**self.options(), **self.given},
            settings={
                **places,
                "git_commit": here.git_commit,
                "mlflow_tracking_uri": "databricks",
                "mlflow_registry_uri": "databricks-uc",
                **({"catalog": here.catalog} if here.catalog else {}),
                **self.place.settings,
            },
            secrets=self.place.secrets,
            record=self._record(token),
        )

    def result(self, context: Context) -> Json:
        """The step's record; what PostgreSQL has to know of it is written."""
        from include.runner.run import record

        try:
            found = answer(self.step, self._record(_stored(context)["token"]), self._here)
            why = found.skipped
        except NotReadyError as error:
            found, why = None, str(error)
        except ActionRequiredError as error:
            raise AirflowFailException(f"{self.step} of {self.config.name}: {error}") from error
        seconds = self._hook.get_run(self.run_id).get("execution_duration", 0) / 1000
        started_at = utc_now() - timedelta(seconds=seconds)
        record(self.step, self.config, self.interval(), found, self._here, started_at)
        if found is None or why:
            raise AirflowSkipException(why)
        return found.model_dump(mode="json")

"""Run a step on Databricks: exactly one Databricks run per successful task, and none left alive by a failed one.

Airflow's own operator submits a second run in three cases (tested): after a kill between submit and deferral, after a
lost answer, and when its trigger gives up. Therefore this operator writes the idempotency token to the task's state
store before it submits a run, and the run's number after that; the next try looks there first. Clearing a task raises
`max_tries`; that is how we detect it and start a new run.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from typing import Any, cast
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
from airflow.sdk.definitions.param import ParamsDict
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException, TaskDeferralError
from pydantic import JsonValue
from requests import RequestException

from dags.common import Json, announce, settings, skipped
from dags.lineage import remember
from include.config.loading import load_project
from include.config.model import Model
from include.core.errors import ActionRequiredError, ChangedMeanwhileError, NotReadyError, UnfinishedError
from include.core.interval import Interval
from include.core.names import wheel, wheel_requirements
from include.core.project import Project
from include.core.settings import Settings, utc_now
from include.core.terminations import HELPED_BY_RETRY, explain_end
from include.runner.remote import Call, answer
from include.steps.declared import STEPS

STORED = "databricks_run"
# retry for eight minutes: 429 and 503 come in storms
WAITS = {"databricks_retry_limit": 9, "databricks_retry_delay": 2}
REFUSED = {400, 401, 403}  # with these, the same request would be refused again
TRACE = 4000  # the log shows this many characters from the end of a trace


class SubmitOnceOperator(DatabricksSubmitRunOperator):
    """`DatabricksSubmitRunOperator` that continues the run of an earlier try if that run is active or succeeded.

    If the task was cleared since, the earlier run is cancelled and a new one is started. Deferrable by default. A
    failed run fails the task with its cause, its error and the end of its trace, and without retries if another run
    would not help. If the last try can no longer follow its run, it cancels the run.
    """

    def __init__(self, *, deferrable: bool = True, **kwargs: Any) -> None:
        self.submission: dict[str, Any] = {}
        super().__init__(deferrable=deferrable, **WAITS | kwargs)

    def execute(self, context: Context) -> Any:
        """Continue the run of an earlier try or submit a new one, and follow it."""
        with self._none_left_alive(context):
            self.run_id = self._continued(context) or self._submitted(context, str(uuid4()))
            return self._follow(context)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Continue after a deferral, also when the trigger gave up because it could not read the output of a run."""
        with self._none_left_alive(context):
            try:
                return super().resume_execution(next_method, next_kwargs, context)
            except TaskDeferralError:
                self.run_id = run_id = int(_stored(context)["run_id"])
                if (state := self._state(run_id)) is None or not state.is_terminal:
                    raise
                return self._ended(context, state)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:  # type: ignore[override]
        """Finish the task after the trigger saw the run end."""
        self.run_id = event["run_id"]
        return self._ended(context, RunState.from_json(event["run_state"]))

    def on_kill(self) -> None:
        """Cancel the run. If its number is not known yet, submit its token again, which returns that run."""
        if self.run_id is None and self.submission:
            self.run_id = int(self._hook.submit_run(self.submission))
        super().on_kill()

    def result(self, context: Context) -> Any:
        """Return the task's result after its run succeeded."""
        return None

    def advice(self, message: str) -> str:
        """Return a hint to append to the message of a failure."""
        return ""

    # --- one run ------------------------------------------------------------------------------------------------------

    def _continued(self, context: Context) -> int | None:
        """Return the run of an earlier try if this try can use it."""
        stored = _stored(context)
        if not stored:
            return None
        run_id = self._number(context, stored)
        while (state := self._state(run_id)) and state.life_cycle_state == "TERMINATING":  # it may end as cancelled
            time.sleep(self.polling_period_seconds)
        if state is None or (state.is_terminal and not state.is_successful):
            self.log.info(
                "Databricks run %s of an earlier try ended as %s; submit a new run", run_id, state or "unknown"
            )
            return None
        if stored.get("max_tries") != context["ti"].max_tries:
            self.log.info("the task was cleared: replace Databricks run %s (%s) with a new run", run_id, state)
            if not state.is_terminal:
                self._hook.cancel_run(run_id)
            return None
        self.log.info("continue Databricks run %s of an earlier try: %s", run_id, state.life_cycle_state)
        return run_id

    def _number(self, context: Context, stored: Mapping[str, Any]) -> int:
        """Return the number of a stored run; if its answer was lost, submit its token again, which returns that run."""
        return int(stored.get("run_id") or self._submitted(context, stored["token"]))

    def _submitted(self, context: Context, token: str) -> int:
        self.idempotency_token = token
        self.submission, store = self._prepare_submit_json(context), context["task_state_store"]
        stored: dict[str, JsonValue] = {"token": token, "max_tries": context["ti"].max_tries}
        store.set(STORED, stored)
        try:
            run_id = int(self._hook.submit_run(self.submission))
        except DatabricksApiError as error:
            if error.http_status_code in REFUSED:
                raise AirflowFailException(f"Databricks refused the run of {self.task_id}: {error}") from error
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
        run = self._answer(state)
        end = explain_end(run)
        error, trace = self._error(run)
        if trace:
            self.log.error("the end of its trace:\n%s", trace[-TRACE:])
        message = f"Databricks run {self.run_id} of {self.task_id} failed ({end.cause}): {error or state.state_message}"
        message += self.advice(message)
        message += f"\nDatabricks says {end.said}. {end.advice}" if end.said else f"\n{end.advice}"
        if end.cause in HELPED_BY_RETRY:
            raise AirflowException(f"{message}\nA retry may succeed.")
        raise AirflowFailException(message)

    def _answer(self, state: RunState) -> Mapping[str, Any]:
        """Return the answer about a run that ended; if it cannot be read, the state that is known already."""
        try:
            return cast(Mapping[str, Any], self._hook.get_run(self.run_id))
        except (AirflowException, RequestException) as error:
            self.log.warning("could not read why the run ended: %s", error)
            return {"state": vars(state)}

    def _error(self, run: Mapping[str, Any]) -> tuple[str, str]:
        """Return error and trace of the first failed task. If they cannot be read, the failure is still reported."""
        try:
            for task in run.get("tasks", []):
                if task["state"].get("result_state") not in (None, "SUCCESS"):
                    output = self._hook.get_run_output(task["run_id"])
                    return str(output.get("error") or ""), str(output.get("error_trace") or "")
        except (AirflowException, RequestException) as error:
            self.log.warning("could not read the output of the run: %s", error)
        return "", ""

    def _state(self, run_id: int) -> RunState | None:
        """Return the state of a run, None if Databricks no longer knows it."""
        try:
            return cast(RunState, self._hook.get_run_state(run_id))
        except DatabricksApiError as error:
            if error.http_status_code == 404:
                return None
            raise

    @contextmanager
    def _none_left_alive(self, context: Context) -> Iterator[None]:
        """Cancel the run if the last try fails, because nobody would follow it.

        Before the last try, the next try continues the run. If the task fails without retries or is skipped, its run
        has ended or was never submitted.
        """
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
            name = stored.get("run_id") or f"with token {stored.get('token')}"
            self.log.exception("Databricks run %s may still be running: cancel it by hand", name)


def _stored(context: Context) -> dict[str, Any]:
    return cast(dict[str, Any], context["task_state_store"].get(STORED) or {})


class StepOperator(SubmitOnceOperator):
    """Run a step of `include` from the wheel of this task's commit, and return its record as `run_step` does.

    Args:
        step: the name of the step.
        config: the project or model to run it for.
        interval: the days, computed when the task runs.
        options: the options of the step, computed when the task runs.
        given: the options of one mapped task.
        kwargs: arguments of the operator.
    """

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
        """Build the submission of this try: the name of the call's record contains the token of the run."""
        commit, call = self._here.git_commit, self._call(str(self.idempotency_token))
        folder = self.place.wheels.rstrip("/")
        # Databricks reads lists of requirements, which have hashes, from these places only
        hashed = folder.startswith(("/Volumes/", "/Workspace/"))
        file = f"{folder}/{wheel_requirements(commit) if hashed else wheel(commit)}"
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
            spec = {"client": self.place.environment, "dependencies": [f"-r {file}" if hashed else file]}
            self.environments = [{"environment_key": "wheel", "spec": spec}]
            task |= {"environment_key": "wheel"}
        else:
            tags = {"project": self.project.name, "commit": commit, **self.place.new_cluster.get("custom_tags", {})}
            task |= {"new_cluster": {**self.place.new_cluster, "custom_tags": tags}}
            task |= {"libraries": [{"requirements" if hashed else "whl": file}]}
        self.tasks = [task]
        self.run_name = f"{self.step} of {self.config.name}, {call.interval}"
        # Airflow's operator resolves each field of the form to forward it, and fails for one without a default.
        self.params = ParamsDict()
        return super()._prepare_submit_json(context)

    @cached_property
    def _here(self) -> Settings:
        """Resolve the settings once per task, because this looks up connections and requests the keys of a role."""
        return settings()

    def advice(self, message: str) -> str:
        """Return what to do about a wheel that was not uploaded, which a message names."""
        commit = self._here.git_commit
        if not any(name in message for name in (wheel(commit), wheel_requirements(commit))):
            return ""
        return f"\nIf the wheel of this commit is missing, run: make deploy TARGET={self.place.wheels}"

    def _record(self, token: str) -> str:
        return f"{self._here.tables.rstrip('/')}/_records/{token}.json"

    def _call(self, token: str) -> Call:
        from include.io.journal import begin_remote

        here, reads_journal = self._here, STEPS[self.step].reads_journal
        watermark = begin_remote(here, self.project, copy=reads_journal)
        known = {"watermark": watermark} if reads_journal else {}
        places = {"tables": here.tables, "artifacts": here.artifacts, "run_id": here.run_id}
        return Call(
            step=self.step,
            config=self.config.name,
            interval=self.interval(),
            options={**self.options(), **self.given, **known},
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
            watermark=watermark,
        )

    def result(self, context: Context) -> Json:
        """Return the step's record, after writing the rows for which other steps wait to PostgreSQL."""
        from include.runner.run import record

        try:
            found, watermark = answer(self.step, self._record(_stored(context)["token"]), self._here)
            why = found.skipped
        except NotReadyError as error:
            found, watermark, why = None, 0, str(error)
        except ActionRequiredError as error:
            raise AirflowFailException(f"{self.step} of {self.config.name}: {error}") from error
        started_at = utc_now() - timedelta(seconds=_seconds_of(self._hook.get_run(self.run_id)))
        part = self.given.get("candidate")
        try:
            record(self.step, self.config, self.interval(), found, self._here, started_at, watermark, part)
        except (ChangedMeanwhileError, UnfinishedError) as error:
            raise AirflowFailException(f"{self.step} of {self.config.name}: {error}") from error
        if found is None or why:
            raise skipped(str(why), context)
        remember(self, self.step, self.config, found)
        announce(context, self.interval(), found)
        return found.model_dump(mode="json")


def _seconds_of(run: Mapping[str, Any]) -> float:
    """Return how long a run took, its cluster's start included. A run with a list of tasks has one total only."""
    parts = ("setup_duration", "execution_duration", "cleanup_duration")
    took: int = run.get("run_duration") or sum(run.get(part) or 0 for part in parts)
    return took / 1000

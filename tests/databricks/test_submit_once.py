"""Test the real operator with the workspace over HTTP, in both modes, with all failures between them.

A try here does what Airflow does: execute; if the operator defers, run the trigger; then resume with its event.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import tenacity
from airflow.providers.databricks.hooks import databricks_base
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from dags.databricks import SubmitOnceOperator
from tests.databricks.conftest import Databricks

pytestmark = pytest.mark.timeout(120)

TASK = {
    "task_key": "step",
    "environment_key": "serverless",
    "python_wheel_task": {"package_name": "nothing", "entry_point": "nothing", "named_parameters": {"step": "none"}},
}
SPEC: dict[str, Any] = {
    "tasks": [TASK],
    "environments": [{"environment_key": "serverless", "spec": {"client": "3", "dependencies": []}}],
}
SUBMIT, GET, OUTPUT = "runs/submit", "runs/get", "runs/get-output"


class Store(dict[str, Any]):
    """The state store of a task, which outlives a try."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value


@dataclass
class Instance:
    """The part of a task instance that the operator uses."""

    try_number: int = 0
    max_tries: int = 3
    pushed: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


class Task:
    """A task with its tries."""

    def __init__(self, deferrable: bool) -> None:
        self.deferrable, self.store, self.instance = deferrable, Store(), Instance()

    @property
    def context(self) -> Any:
        return {"ti": self.instance, "task_state_store": self.store, "params": {}}

    def operator(self) -> SubmitOnceOperator:
        waits = {"databricks_retry_limit": 3, "databricks_retry_delay": 0.1, "polling_period_seconds": 0.2}
        return SubmitOnceOperator(task_id="step", deferrable=self.deferrable, **SPEC, **waits)

    def attempt(self) -> Any:
        """Run a try to its end."""
        self.instance.try_number += 1
        try:
            return self.operator().execute(self.context)
        except TaskDeferred as deferred:
            resumed = self.operator()  # by another process
            try:
                event = asyncio.run(_first_event(deferred.trigger))
            except AirflowException as error:
                failed = {"error": "Trigger failure", "traceback": [str(error)]}
                return resumed.resume_execution("__fail__", failed, self.context)
            return resumed.resume_execution(deferred.method_name, {"event": event}, self.context)


def await_results(databricks: Databricks, *results: str) -> None:
    deadline = time.monotonic() + 10
    while databricks.results != [*results]:
        assert time.monotonic() < deadline, databricks.results
        time.sleep(0.05)


async def _first_event(trigger: Any) -> Any:
    async for event in trigger.run():
        return event.payload
    raise AssertionError("the trigger ended without an event")


@pytest.fixture(params=[True, False], ids=["deferrable", "sync"])
def task(request: pytest.FixtureRequest, databricks: Databricks, monkeypatch: pytest.MonkeyPatch) -> Task:
    # The hook waits for one second, then two, even where its delay is less. Its trigger accepts no other wait.
    monkeypatch.setattr(databricks_base, "wait_exponential", lambda **waits: tenacity.wait_fixed(waits["min"]))
    return Task(request.param)


def ends(result: str, **more: Any) -> dict[str, Any]:
    return {"result": result, "pending_seconds": 0.3, **more}


def fails(endpoint: str, status: int | str, times: int, **more: Any) -> dict[str, Any]:
    return {"endpoint": endpoint, "status": status, "times": times, **more}


def test_a_run_succeeds(task: Task, databricks: Databricks) -> None:
    databricks.plan("outcomes", [ends("SUCCESS")])
    task.attempt()
    [run] = databricks.runs
    assert run["spec"]["tasks"][0]["python_wheel_task"]["named_parameters"] == {"step": "none"}
    assert task.instance.pushed["run_page_url"].endswith(f"/run/{run['run_id']}")


@pytest.mark.parametrize(
    "fault",
    [
        fails(SUBMIT, 429, 2),
        fails(SUBMIT, 503, 2),
        fails(SUBMIT, 503, 1, after=True),
        fails(SUBMIT, "drop", 1, after=True),
        fails(SUBMIT, "drop", 1),
        fails(GET, 503, 2),
        fails(GET, 429, 2),
        fails(GET, "drop", 1),
    ],
    ids=lambda fault: f"{fault['endpoint']} {fault['status']} {'after' if fault.get('after') else ''}",
)
def test_answers_that_fail_for_a_while_change_nothing(
    task: Task, databricks: Databricks, fault: dict[str, Any]
) -> None:
    databricks.plan("outcomes", [ends("SUCCESS")])
    databricks.plan("faults", [fault])
    task.attempt()
    assert databricks.results == ["SUCCESS"]


def test_a_longer_storm_costs_a_try_but_no_second_run(task: Task, databricks: Databricks) -> None:
    databricks.plan("outcomes", [ends("SUCCESS", pending_seconds=3)])
    databricks.plan("faults", [fails(GET, 503, 3)])
    with pytest.raises(AirflowException):
        task.attempt()
    task.attempt()
    assert databricks.results == ["SUCCESS"]


def test_a_run_whose_answer_was_lost_is_found_again(task: Task, databricks: Databricks) -> None:
    databricks.plan("outcomes", [ends("SUCCESS")])
    databricks.plan("faults", [fails(SUBMIT, 503, 3, after=True)])
    with pytest.raises(AirflowException):
        task.attempt()
    task.attempt()
    assert databricks.results == ["SUCCESS"]


class Killed(BaseException):
    """The process was killed: no further code of it runs."""


@pytest.mark.parametrize("when", ["before the submit", "before its number is stored", "before it is followed"])
def test_a_task_killed_around_its_submit(
    task: Task, databricks: Databricks, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    databricks.plan("outcomes", [ends("SUCCESS")])

    def die(*_: Any, **__: Any) -> Any:
        raise Killed

    def die_at_number(store: Store, key: str, value: Any) -> None:
        if "run_id" in value:
            raise Killed
        store[key] = value

    with monkeypatch.context() as patch:
        places: dict[str, tuple[Any, str, Callable[..., Any]]] = {
            "before the submit": (SubmitOnceOperator, "_prepare_submit_json", die),
            "before its number is stored": (Store, "set", die_at_number),
            "before it is followed": (SubmitOnceOperator, "_follow", die),
        }
        patch.setattr(*places[when])
        with pytest.raises(Killed):
            task.attempt()
    task.attempt()
    assert databricks.results == ["SUCCESS"]


def test_a_run_that_ended_unobserved_is_used(task: Task, databricks: Databricks) -> None:
    databricks.plan("outcomes", [ends("SUCCESS", pending_seconds=0)])
    submitted(task)
    task.attempt()
    assert databricks.results == ["SUCCESS"]


def test_after_a_real_failure_there_is_a_new_run(task: Task, databricks: Databricks) -> None:
    message = "Cluster 'c-1' was terminated. Reason: SPOT_INSTANCE_TERMINATION (CLOUD_FAILURE)"
    databricks.plan("outcomes", [ends("INTERNAL_ERROR", message=message), ends("SUCCESS")])
    with pytest.raises(
        AirflowException, match=r"\(cluster\): Cluster 'c-1' was terminated.*\n.*CLUSTER_ERROR.*SPOT_INSTANCE"
    ) as raised:
        task.attempt()
    assert not isinstance(raised.value, AirflowFailException)
    task.attempt()
    assert databricks.results == ["FAILED", "SUCCESS"]


def test_a_run_that_databricks_no_longer_knows_is_replaced(task: Task, databricks: Databricks) -> None:
    databricks.plan("outcomes", [ends("SUCCESS", expired=True), ends("SUCCESS")])
    submitted(task)
    task.attempt()
    assert len(databricks.runs) == 2


def submitted(task: Task) -> int:
    """Submit a run by a try that is killed afterwards."""
    task.instance.try_number += 1
    return task.operator()._submitted(task.context, "of the first try")


@pytest.mark.parametrize("ended", [False, True], ids=["that is active", "that succeeded"])
def test_clearing_a_task_replaces_its_run(task: Task, databricks: Databricks, ended: bool) -> None:
    databricks.plan("outcomes", [ends("SUCCESS", pending_seconds=0 if ended else 60), ends("SUCCESS")])
    submitted(task)
    if ended:
        await_results(databricks, "SUCCESS")
    task.instance.max_tries += task.instance.try_number  # as Airflow does when a task is cleared
    task.attempt()
    await_results(databricks, "SUCCESS" if ended else "CANCELED", "SUCCESS")


def test_a_run_that_is_being_cancelled_is_not_continued(task: Task, databricks: Databricks) -> None:
    """This happens to a task that was cleared while it ran: it has no more tries, and its end cancels the run."""
    databricks.plan("outcomes", [ends("SUCCESS", pending_seconds=60, ending_seconds=2), ends("SUCCESS")])
    task.operator()._hook.cancel_run(submitted(task))
    assert databricks.results == ["TERMINATING"]
    task.attempt()
    assert databricks.results == ["CANCELED", "SUCCESS"]


def test_the_last_try_finds_the_run_whose_answer_never_came(task: Task, databricks: Databricks) -> None:
    databricks.plan("outcomes", [ends("SUCCESS", pending_seconds=60)])
    databricks.plan("faults", [fails(SUBMIT, 503, 3, after=True)])
    task.instance.max_tries = 0
    with pytest.raises(AirflowException):
        task.attempt()
    await_results(databricks, "CANCELED")


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (ends("FAILED", error="ValueError: no column", trace="Traceback …"), r"\(code\): ValueError: no column"),
        (ends("FAILED", error="TypeError: isinstance() arg 2 must be a type"), r"\(code\): TypeError: isinstance"),
        (ends("FAILED", message="recursion limit exceeded on the driver"), r"\(code\): recursion limit exceeded"),
        (ends("FAILED", message="isinstance()", details=False), r"\(code\): isinstance"),
        (
            ends("FAILED", code="UNAUTHORIZED_ERROR", message="no right"),
            r"\(configuration\): no right\n.*Give the run's",
        ),
        (ends("FAILED", code="FLOODED"), r"\(configuration\)(.|\n)*FLOODED \(CLIENT_ERROR\).*does not know that code"),
        (ends("CANCELED", message="Cancelled by a person"), r"\(cancelled\): Cancelled by a person"),
        (ends("TIMEDOUT", message="Timed out"), r"\(timeout\): Timed out"),
        (ends("SUCCESS_WITH_FAILURES", message="Some tasks failed"), r"\(code\): Some tasks failed"),
        (ends("UPSTREAM_FAILED", message="Upstream failed"), r"\(configuration\): Upstream failed"),
    ],
    ids=lambda each: each["result"] if isinstance(each, dict) else "",
)
def test_a_failure_that_another_run_would_not_fix_is_not_retried(
    task: Task,
    databricks: Databricks,
    outcome: dict[str, Any],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    databricks.plan("outcomes", [outcome])
    with pytest.raises(AirflowFailException, match=said):
        task.attempt()
    assert outcome.get("trace", "") in capsys.readouterr().out


QUOTA = "Cluster 'c-1' was terminated. Reason: AZURE_QUOTA_EXCEEDED_EXCEPTION (CLIENT_ERROR)"


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (ends("INTERNAL_ERROR", message=QUOTA), r"\(quota\): Cluster .*\n.*AZURE_QUOTA_EXCEEDED_EXCEPTION"),
        (ends("INTERNAL_ERROR", message=QUOTA, details=False), r"\(quota\): Cluster"),
        (ends("FAILED", code="WORKSPACE_RUN_LIMIT_EXCEEDED"), r"\(quota\): .*\n.*WORKSPACE_RUN_LIMIT_EXCEEDED"),
        (ends("FAILED", code="DRIVER_ERROR", type="INTERNAL_ERROR"), r"\(cluster\): .*\n.*DRIVER_ERROR"),
        (ends("INTERNAL_ERROR", code="INTERNAL_ERROR", type="INTERNAL_ERROR"), r"\(platform\)"),
        (ends("INTERNAL_ERROR", message="gone", details=False), r"\(platform\): gone"),
        (ends("FAILED", code="FLOODED", type="CLOUD_FAILURE"), r"\(platform\)"),
    ],
    ids=lambda each: f"{each.get('code', each['result'])}" if isinstance(each, dict) else "",
)
def test_a_failure_that_another_run_may_fix_is_retried(
    task: Task, databricks: Databricks, outcome: dict[str, Any], said: str
) -> None:
    databricks.plan("outcomes", [outcome])
    with pytest.raises(AirflowException, match=said) as raised:
        task.attempt()
    assert not isinstance(raised.value, AirflowFailException)


def test_a_failure_is_reported_even_if_its_output_cannot_be_read(task: Task, databricks: Databricks) -> None:
    databricks.plan("outcomes", [ends("FAILED", message="Task step failed")])
    databricks.plan("faults", [fails(OUTPUT, 500, -1)])
    with pytest.raises(AirflowException, match="Task step failed"):
        task.attempt()


@pytest.mark.parametrize("status", [400, 403])
def test_a_refused_submit_is_not_retried(task: Task, databricks: Databricks, status: int) -> None:
    databricks.plan("faults", [fails(SUBMIT, status, -1, message="no permission to use the policy")])
    with pytest.raises(AirflowFailException, match=r"refused the run of step.*no permission to use the policy"):
        task.attempt()
    assert not databricks.runs


@pytest.mark.parametrize("shown_as", ["", "HIBERNATING"], ids=["storm", "unknown state"])
def test_the_last_try_leaves_no_run_alive(task: Task, databricks: Databricks, shown_as: str) -> None:
    databricks.plan("outcomes", [ends("SUCCESS", pending_seconds=20, shown_as=shown_as)])
    task.instance.max_tries = 1
    for _ in range(2):
        if not shown_as:
            databricks.plan("faults", [fails(GET, 503, 3)])
        with pytest.raises(AirflowException):
            task.attempt()
    await_results(databricks, "CANCELED")


def test_a_failure_whose_answer_cannot_be_read_is_reported_by_its_state(
    task: Task, databricks: Databricks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unread(*_: Any) -> Any:
        raise AirflowException("no answer")

    databricks.plan("outcomes", [ends("INTERNAL_ERROR", message="gone")])
    monkeypatch.setattr("airflow.providers.databricks.hooks.databricks.DatabricksHook.get_run", unread)
    with pytest.raises(AirflowException, match=r"\(platform\): gone") as raised:
        task.attempt()
    assert not isinstance(raised.value, AirflowFailException)

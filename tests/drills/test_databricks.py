"""Kill processes and let answers fail while a live Airflow builds features on Databricks.

A task that succeeds has exactly one run on Databricks. A task that fails or is cancelled leaves no run alive, and its
message says why. Each test clears the task of a prepared day, so that each of them can run by itself.
"""

import time
from collections.abc import Iterator
from datetime import date

import pytest

from include.core.interval import Interval
from tests.databricks.live import PREPARE, TASK, Live, await_that, living

pytestmark = [pytest.mark.stack, pytest.mark.spark, pytest.mark.timeout(600)]

RUN = "nightly"
DAY = date(2013, 1, 1)
HOOK = "airflow.providers.databricks.hooks.databricks:DatabricksHook"
OPERATOR = "dags.databricks:SubmitOnceOperator"
POINTS = {
    # Databricks has the run, but its number is not stored yet
    "submitted": {"at": f"{HOOK}.submit_run", "when": "after"},
    # its number is stored, but nobody follows the run yet
    "stored": {"at": f"{OPERATOR}._follow", "when": "before"},
    # the trigger is not in the database yet
    "deferring": {"at": f"{HOOK}.get_run_state", "when": "after"},
    # the run has ended, but the task has not read its result yet
    "resumed": {"at": f"{OPERATOR}.execute_complete", "when": "before"},
    # the prepared day is recorded, but the task has not succeeded yet
    "recorded": {"at": "include.runner.run:record", "when": "after"},
}
STORM = {"endpoint": "runs/get", "status": 503, "times": -1}
LONG = {"pending_seconds": 600}


@pytest.fixture(scope="module")
def stack() -> Iterator[Live]:
    points = {name: {"task": TASK, "call": 1, **point} for name, point in POINTS.items()}
    with living(Interval.of(DAY), points) as found:
        found.run_date(RUN, DAY)
        assert found.ends(RUN) == "success"
        yield found


class Again:
    """A clearing of the task, and its effects."""

    def __init__(self, live: Live) -> None:
        self.live = live

    def begin(self, *outcomes: dict, faults: tuple[dict, ...] = ()) -> None:
        self.live.databricks.plan("outcomes", list(outcomes))
        self.live.databricks.plan("faults", list(faults))
        self.before, self.tries = len(self.live.databricks.runs), self.live.task(RUN)["try_number"]
        self.live.again(RUN)

    def deferred(self, *outcomes: dict) -> None:
        """Clear the task, and wait until the triggerer follows its run."""
        self.begin(*outcomes)
        self.live.becomes(RUN, {"deferred"})
        await_that(lambda: "in run state" in self.logged, "the trigger to look at the run", 60)

    def ends(self) -> str:
        return self.live.ends(RUN)

    @property
    def results(self) -> list[str]:
        return self.live.databricks.results[self.before :]

    def become(self, *results: str) -> None:
        """Wait until the runs have these results: runs that are cancelled end soon."""
        await_that(lambda: self.results == [*results], f"runs to be {results}, not {self.results}", 60)

    @property
    def logged(self) -> str:
        """The log of the tries since the clearing."""
        return self.live.log(RUN, after=self.tries)


@pytest.fixture
def again(stack: Live) -> Iterator[Again]:
    found = Again(stack)
    yield found
    stack.databricks.plan("faults", [])
    stack.databricks.plan("outcomes", [])


@pytest.mark.parametrize("point", POINTS)
def test_the_task_is_killed(again: Again, point: str) -> None:
    again.live.arm(point)
    again.begin()
    assert again.ends() == "success"
    assert again.live.struck(point)
    assert again.results == ["SUCCESS"]


@pytest.mark.parametrize("service", ["scheduler", "triggerer"])
def test_a_service_is_killed_while_the_task_is_deferred(again: Again, service: str) -> None:
    again.deferred({"pending_seconds": 5})
    again.live.kill(service)
    assert again.ends() == "success"
    assert again.results == ["SUCCESS"]


def test_the_trigger_gives_up_in_a_storm_that_passes(again: Again) -> None:
    again.deferred({"pending_seconds": 15})
    number = again.live.task(RUN)["try_number"]
    again.live.databricks.plan("faults", [STORM])
    await_that(lambda: again.live.task(RUN)["try_number"] > number, "another try")
    again.live.databricks.plan("faults", [])
    assert again.ends() == "success"
    assert again.results == ["SUCCESS"]


def test_a_storm_that_does_not_pass_leaves_no_run_alive(again: Again) -> None:
    again.deferred(LONG)
    again.live.databricks.plan("faults", [STORM])
    assert again.ends() == "failed"
    again.become("CANCELED")
    assert "this was the last try: Databricks run" in again.logged


def test_the_answer_to_the_submit_is_lost(again: Again) -> None:
    """Databricks creates the run but answers 503, until the try gives up."""
    again.begin(faults=({"endpoint": "runs/submit", "status": 503, "times": 5, "after": True},))
    assert again.ends() == "success"
    assert again.results == ["SUCCESS"]


def test_after_a_lost_cluster_there_is_a_new_run(again: Again) -> None:
    message = "Cluster c-1 was terminated: spot instances were lost"
    again.begin({"result": "INTERNAL_ERROR", "message": message})
    assert again.ends() == "success"
    assert again.results == ["FAILED", "SUCCESS"]
    assert f"failed (cluster): {message}" in again.logged


def test_an_error_of_the_code_is_reported_and_not_retried(again: Again) -> None:
    again.begin({"result": "FAILED", "error": "ValueError: no column", "trace": "in line 7 of features.py"})
    assert again.ends() == "failed"
    assert again.results == ["FAILED"]
    assert "failed (code): ValueError: no column" in again.logged
    assert "in line 7 of features.py" in again.logged


# --- people -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["failed", "success"])
def test_a_person_ends_the_task_while_it_is_deferred(again: Again, state: str) -> None:
    again.deferred(LONG)
    again.live.mark(RUN, state)
    again.become("CANCELED")
    assert again.ends() == state


def test_a_person_ends_the_run_of_the_dag(again: Again) -> None:
    again.deferred(LONG)
    path = f"/api/v2/dags/{PREPARE}/dagRuns/{RUN}"
    again.live.airflow.client.patch(path, json={"state": "failed"}).raise_for_status()
    again.become("CANCELED")


@pytest.mark.parametrize("knows", [True, False], ids=["knows its run", "waits for the answer to its submit"])
def test_a_person_ends_the_task_before_it_is_deferred(again: Again, knows: bool) -> None:
    again.begin(LONG, faults=({"endpoint": "runs/submit", "times": 1, "after": True, "seconds": 5 if knows else 60},))
    await_that(lambda: again.results, "a run")
    again.live.databricks.plan("faults", [{"endpoint": "runs/get", "times": -1, "seconds": 60}] if knows else [])
    if knows:
        time.sleep(8)
    again.live.mark(RUN, "failed")
    again.become("CANCELED")


def test_a_person_clears_the_task_while_it_is_deferred(again: Again) -> None:
    again.deferred(LONG)
    again.live.databricks.plan("outcomes", [])
    again.live.again(RUN)
    assert again.ends() == "success"
    again.become("CANCELED", "SUCCESS")

"""Features on Databricks by a live Airflow, deployed by a push to a git repository.

The tests of this file tell one story and run in its order. What takes longer is in `tests/drills/test_databricks.py`.
"""

from collections.abc import Iterator
from datetime import date

import pytest

from include.contracts import Interval
from include.naming import wheel
from tests.databricks.live import PREPARE, TASK, WHEELS, Live, await_that, living

pytestmark = [pytest.mark.stack, pytest.mark.spark, pytest.mark.timeout(600)]

FIRST, SECOND = date(2013, 1, 1), date(2013, 1, 2)


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with living(Interval.of(SECOND)) as found:
        yield found


def test_a_push_between_two_tasks_does_not_change_the_run_under_way(live: Live) -> None:
    """What is pushed would fail, in a task of the DAG as in the wheel, and its wheel is nowhere."""
    run_id = live.night("under way", FIRST)  # its files are not there
    live.becomes(run_id, {"up_for_reschedule"}, "wait_for_files")
    live.repository.write("dags/prepare.py", lambda text: text.replace('return run_step("validate"', "return broken("))
    live.repository.write(f"include/steps/{TASK}.py", lambda _: 'raise RuntimeError("broken")\n')
    pushed = live.repository.push("It does not work")
    await_that(lambda: live.get(f"dags/{PREPARE}")["bundle_version"] == pushed, "Airflow to have what was pushed")

    live.land(Interval.of(FIRST))
    assert live.ends(run_id) == "success"
    assert live.prepared(FIRST)
    assert live.get(f"dags/{PREPARE}/dagRuns/{run_id}")["bundle_version"] == live.commit
    [run] = live.databricks.runs
    assert live.databricks.results == ["SUCCESS"]
    assert run["spec"]["tasks"][0]["libraries"] == [{"whl": f"{WHEELS}/{wheel(live.commit)}"}]


def test_a_wheel_that_was_not_uploaded_is_asked_for(live: Live) -> None:
    live.repository.git("revert", "--no-edit", "HEAD")
    live.repository.git("push", "--quiet", "origin", "main")
    pushed = live.repository.git("rev-parse", "HEAD")
    await_that(lambda: live.get(f"dags/{PREPARE}")["bundle_version"] == pushed, "Airflow to have what was pushed")
    run_id = live.night("next", SECOND)
    assert live.ends(run_id) == "failed"
    assert f"{wheel(pushed)}: no such file" in live.log(run_id)
    assert f"make deploy TARGET={WHEELS}" in live.log(run_id)

    assert f"{wheel(pushed)} is what Databricks runs" in live.deploy()
    live.again(run_id)
    assert live.ends(run_id) == "success"
    assert live.prepared(SECOND)
    assert live.databricks.results == ["SUCCESS", "FAILED", "SUCCESS"]


def test_clearing_a_task_that_succeeded_is_one_more_run_also_when_the_triggerer_is_killed(live: Live) -> None:
    live.databricks.tell("outcomes", [{"pending_seconds": 5}])
    live.again("next")
    live.becomes("next", {"deferred"})
    live.kill("triggerer")
    assert live.ends("next") == "success"
    assert live.databricks.results == ["SUCCESS", "FAILED", "SUCCESS", "SUCCESS"]

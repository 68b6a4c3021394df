"""Build features on Databricks from a live Airflow that is deployed by a push to a git repository.

The tests of this file build on each other and run in order. Longer ones are in `tests/drills/test_databricks.py`.
"""

from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest

from include.core.interval import Interval
from include.core.names import wheel_requirements
from tests.databricks.conftest import PRINCIPAL
from tests.databricks.live import DEPLOY, PREPARE, TASK, WHEELS, Live, living

pytestmark = [pytest.mark.stack, pytest.mark.spark, pytest.mark.timeout(600)]

FIRST, SECOND = date(2013, 1, 1), date(2013, 1, 2)


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with living(Interval.of(SECOND)) as found:
        yield found


def wheel_of(run: dict[str, Any]) -> str:
    [library] = run["spec"]["tasks"][0]["libraries"]
    return str(library["requirements"])


def test_a_push_between_two_tasks_does_not_change_the_run_under_way(live: Live) -> None:
    """Push a commit that would fail, in the DAG as in the wheel, and do not upload its wheel."""
    deployed = live.repository.head
    run_id = live.run_date("under_way", FIRST)  # its files are not there
    live.becomes(run_id, {"up_for_reschedule"}, "wait_for_files")
    live.repository.write(
        "dags/prepare.py", lambda text: text.replace('return run_step("validate"', 'return broken("validate"')
    )
    live.repository.write(f"include/steps/{TASK}.py", lambda _: 'raise RuntimeError("broken")\n')
    broken = live.repository.commit("It does not work")
    live.repository.git("push", "origin", "HEAD:refs/heads/deployed")  # without CI
    live.airflow_has(broken)
    [looked] = DEPLOY.commands("What runs")
    assert broken in live.type(looked, live.stack.cli_environment())

    live.land(Interval.of(FIRST))
    assert live.ends(run_id) == "success"
    assert live.prepared(FIRST)
    assert live.get(f"dags/{PREPARE}/dagRuns/{run_id}")["bundle_version"] == deployed
    assert [wheel_of(run) for run in live.databricks.runs] == [f"{WHEELS}/{wheel_requirements(deployed)}"]
    assert live.databricks.results == ["SUCCESS"]
    assert PRINCIPAL.split(":")[1] not in live.log(run_id)


def test_a_missing_wheel_is_reported_with_the_command_to_type(live: Live) -> None:
    [taken_back] = DEPLOY.commands("Undo a deployment")
    live.type(taken_back, live.stack.cli_environment())
    live.repository.git("push", "origin", "HEAD:refs/heads/deployed")  # without CI
    fixed = live.repository.head
    live.airflow_has(fixed)
    run_id = live.run_date("next", SECOND)
    assert live.ends(run_id) == "failed"
    assert f"{wheel_requirements(fixed)}: no such file" in live.log(run_id)
    assert f"make deploy TARGET={WHEELS}" in live.log(run_id)

    live.deploy()
    live.again(run_id)
    assert live.ends(run_id) == "success"
    assert live.prepared(SECOND)
    assert [wheel_of(run) for run in live.databricks.runs][1:] == [f"{WHEELS}/{wheel_requirements(fixed)}"] * 2
    assert live.databricks.results == ["SUCCESS", "FAILED", "SUCCESS"]


@pytest.mark.drill
def test_clearing_a_successful_task_starts_one_run_even_if_the_triggerer_is_killed(live: Live) -> None:
    """The new run uses the commit of its DAG run, although Airflow has a newer one."""
    live.databricks.plan("outcomes", [{"pending_seconds": 5}])
    live.again("under_way")
    live.becomes("under_way", {"deferred"})
    live.kill("triggerer")
    assert live.ends("under_way") == "success"
    assert live.databricks.results == ["SUCCESS", "FAILED", "SUCCESS", "SUCCESS"]
    first, *_, last = map(wheel_of, live.databricks.runs)
    assert last == first

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
    with living(Interval.of(FIRST)) as found:
        yield found


def libraries(run: dict) -> list[dict[str, str]]:
    [task] = run["spec"]["tasks"]
    return task["libraries"]


def test_a_push_between_two_tasks_does_not_change_the_run_under_way(live: Live) -> None:
    """The pushed commit would fail, in a task of the DAG as in the wheel, and its wheel is nowhere."""
    run_id = live.night("first", SECOND)  # its files are not there
    live.becomes(run_id, {"up_for_reschedule"}, "wait_for_files")
    live.repository.change("dags/prepare.py", 'return run_step("validate"', 'raise ValueError("pushed")\n            return run_step("validate"')
    name = "include/steps/build_features.py"
    (live.repository.clone / name).write_text('raise ValueError("pushed")\n', encoding="utf-8")
    pushed = live.repository.push("It does not work")
    await_that(lambda: live.get(f"dags/{PREPARE}")["bundle_version"] == pushed, "Airflow has what was pushed")

    live.land(Interval.of(SECOND))
    assert live.ends(run_id) == "success"
    assert live.prepared(SECOND)
    assert live.get(f"dags/{PREPARE}/dagRuns/{run_id}")["bundle_version"] == live.commit
    [run] = live.databricks.runs
    assert live.databricks.results == ["SUCCESS"]
    assert libraries(run) == [{"whl": f"{WHEELS}/{wheel(live.commit)}"}]

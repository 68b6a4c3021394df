"""The task `report_period`: only projects that declare reports have it, and only after a period it does something."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from dags import monitor as module
from dags import params
from include.config.loading import load_project
from include.core.periods import Reports

REPORTED = load_project("ferries").model_copy(update={"reports": Reports(periods=("week",))})


def test_only_a_project_with_reports_has_the_task_and_nothing_waits_for_it() -> None:
    assert "report_period" not in module.monitor(load_project("ferries")).task_ids
    task = module.monitor(REPORTED).get_task("report_period")
    assert task.upstream_task_ids == {"monitor", "skew_ended"}
    assert task.downstream_task_ids == set()


def test_a_report_is_made_although_skew_failed_and_the_run_fails_with_skew() -> None:
    dag = module.monitor(REPORTED)
    ended = dag.get_task("skew_ended")
    assert (ended.trigger_rule, ended.upstream_task_ids) == ("all_done_setup_success", {"skew"})
    assert not [task for task in dag.tasks if task.is_setup], "without a setup, that is: whatever has failed"
    assert ended.is_teardown and not ended.on_failure_fail_dagrun, "so skew is a leaf, which decides about the run"
    assert dag.get_task("skew").downstream_task_ids == {"skew_ended"}
    callbacks = (ended.on_execute_callback, ended.on_success_callback, ended.outlets, ended.inlets)
    assert not any(callbacks), "the scheduler runs it without a process"
    assert dag.get_task("report_period").trigger_rule == "all_success", "what monitor did not measure is not reported"


@pytest.mark.parametrize(
    ("day", "run_type", "asked"),
    [(11, "scheduled", [{"send": None}]), (11, "backfill", [{"send": False}]), (12, "scheduled", [])],
    ids=["Monday", "a backfill", "Tuesday"],
)
def test_a_report_is_made_on_the_run_date_after_a_week(
    monkeypatch: pytest.MonkeyPatch, day: int, run_type: str, asked: list[dict[str, Any]]
) -> None:
    run = SimpleNamespace(logical_date=datetime(2013, 3, day, 7, tzinfo=UTC), run_type=run_type, conf={})
    monkeypatch.setattr(params, "get_current_context", lambda: {"dag_run": run, "params": {}})
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(module, "run_step", lambda *_, **options: given.append(options))
    task: Any = module.monitor(REPORTED).get_task("report_period")
    call = task.python_callable
    if asked:
        call()
    else:
        with pytest.raises(AirflowSkipException):
            call()
    assert given == asked

"""`<model>.retrain` in `<project>_monitor` starts one training of the run date, with the reason."""

from datetime import date
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException, DagRunTriggerException

from dags import monitor, params, retrain
from include.config.loading import load_model, load_project

MONTHLY = load_model("late_ferry").model_copy(update={"train_schedule": "0 4 1 * *", "retrain": "on_degradation"})
DAY = date(2013, 3, 2)


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> retrain.RequestTraining:
    monkeypatch.setattr(params, "run_date", lambda _: DAY)
    monkeypatch.setattr(params, "is_backfill", lambda: False)
    monkeypatch.setattr(retrain, "run_step", lambda *_: {"why": "degradation: age: too old"})
    return retrain.RequestTraining(task_id="retrain", model=MONTHLY)


CONTEXT: dict[str, Any] = {
    "ti": SimpleNamespace(xcom_push=lambda **_: None),
    "task": None,
    "dag_run": None,
    "params": {},
}


def test_the_run_has_the_day_in_its_id_and_the_reason_in_its_conf(task: retrain.RequestTraining) -> None:
    with pytest.raises(DagRunTriggerException) as started:
        task.execute(dict(CONTEXT))
    assert (started.value.trigger_dag_id, started.value.dag_run_id) == ("late_ferry_train", "retrain__2013-03-02")
    assert started.value.conf == {"day": "2013-03-02", "why": "degradation: age: too old"}
    assert started.value.skip_when_already_exists and not started.value.wait_for_completion


def test_a_backfill_asks_for_nothing(task: retrain.RequestTraining, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(params, "is_backfill", lambda: True)
    monkeypatch.setattr(retrain, "skipped", lambda why, _: AirflowSkipException(why))
    with pytest.raises(AirflowSkipException, match="a backfill asks for no training"):
        task.execute(dict(CONTEXT))


def test_only_models_that_declare_it_have_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "model_names", lambda _: ["late_ferry", "ferry_delay"])
    monkeypatch.setattr(monitor, "load_model", lambda name: MONTHLY if name == "late_ferry" else load_model(name))
    dag = monitor.monitor(load_project("ferries"))
    assert {task for task in dag.task_ids if "retrain" in task} == {"late_ferry.retrain"}
    assert dag.get_task("late_ferry.retrain").upstream_task_ids == {"monitor"}
